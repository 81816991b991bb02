//! The flags of the scenario `homa`.
//!
//! Above: `scenario::homa`. Below: `ScenarioArguments`, `workload`. Absent: what slowdown is.

use clap::Args;

use super::{ScenarioArguments, sizes};
use crate::workload::Sizes;

/// Flags of `loadgen homa`.
#[derive(Debug, Args)]
pub(crate) struct HomaArguments {
    /// What all scenarios have.
    #[command(flatten)]
    pub(crate) scenario: ScenarioArguments,

    /// Distributions of message sizes, e.g. homa-w1,homa-w5 or cdf:FILE; W4 and W5 are of long
    /// messages: give them a --link of 1G and a -d of minutes
    #[arg(long, default_value = "homa-w2,homa-w3", value_name = "LIST",
          value_parser = Mixes::parse)]
    pub(crate) sizes: Mixes,
}

/// A list of distributions, as one value of a flag.
#[derive(Debug, Clone)]
pub(crate) struct Mixes(pub(crate) Vec<Sizes>);

impl Mixes {
    fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(sizes).collect::<Result<_, _>>().map(Self)
    }
}
