//! The flags of the searches over rates.
//!
//! Above: `search`. Below: `Traffic`, `quantity`. Absent: the search.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Traffic;
use crate::quantity;

/// Flags of `loadgen sweep`.
#[derive(Debug, Args)]
pub(crate) struct SweepArguments {
    /// What is sent to whom; its rate is not used.
    #[command(flatten)]
    pub(crate) traffic: Traffic,

    /// The rates, e.g. 10k,20k,40k
    #[arg(long, value_name = "LIST", value_parser = Rates::parse, required = true)]
    pub(crate) rates: Rates,

    /// Write all results as JSON, e.g. sweep.json, or - for standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write the report as one HTML page, e.g. sweep.html
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// Flags of `loadgen knee`.
#[derive(Debug, Args)]
pub(crate) struct KneeArguments {
    /// What is sent to whom; its rate is where the search begins.
    #[command(flatten)]
    pub(crate) traffic: Traffic,

    /// Response time p99 that the server must keep to, e.g. 1ms
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = quantity::span)]
    pub(crate) until: Duration,

    /// Share of the messages that may be missed: late, discarded, refused or never answered, e.g.
    /// 0.1%
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = quantity::share)]
    pub(crate) miss: f64,

    /// How closely the knee is found, as a share of it, e.g. 2%
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = within)]
    pub(crate) within: f64,

    /// Write all results as JSON, e.g. knee.json, or - for standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write the report as one HTML page, e.g. knee.html
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

fn within(text: &str) -> Result<f64, String> {
    let share = quantity::share(text)?;
    let fits = (0.005..=0.5).contains(&share);
    if fits { Ok(share) } else { Err("write 0.5% to 50%, for example 5%".to_owned()) }
}

/// A list of rates, as one value of a flag.
#[derive(Debug, Clone)]
pub(crate) struct Rates(pub(crate) Vec<f64>);

impl Rates {
    fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(|rate| quantity::rate(rate.trim())).collect::<Result<_, _>>().map(Self)
    }
}
