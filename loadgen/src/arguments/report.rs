//! The flags of a report on saved results.
//!
//! Above: `report`. Below: nothing. Absent: decisions.

use std::path::PathBuf;

use clap::Args;

/// Flags of `loadgen report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// What `--json` wrote of runs, scenarios, sweeps or searches, e.g. before.json after.json
    #[arg(required = true, value_name = "RESULT")]
    pub(crate) results: Vec<String>,

    /// Write the report as one HTML page too, e.g. /tmp/report.html
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}
