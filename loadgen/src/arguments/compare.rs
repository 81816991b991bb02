//! The flags of a comparison.
//!
//! Above: `compare`. Below: `Traffic`, which both sides share. Absent: statistics.

use std::path::PathBuf;

use clap::Args;

use super::{Tell, Traffic};

/// Flags of `loadgen compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArguments {
    /// What is sent to A; the same messages go to B.
    #[command(flatten)]
    pub(crate) traffic: Traffic,

    /// B, e.g. tcp://10.0.0.8:7000; without it B is A again
    pub(crate) other: Option<String>,

    /// What the library is told of the classes on B, e.g. nothing [default: as --tell]
    #[arg(long, value_name = "TELL")]
    pub(crate) tell_b: Option<Tell>,

    /// How many times each is measured, e.g. 10, in the order A B B A A B
    #[arg(long, default_value = "6", value_parser = clap::value_parser!(u32).range(3..=100))]
    pub(crate) pairs: u32,

    /// Write the comparison as JSON, e.g. comparison.json, or - for standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write the report as one HTML page, e.g. comparison.html
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}
