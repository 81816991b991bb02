//! The flags of the scenario `deadline`.
//!
//! Above: `scenario`. Below: `ScenarioArguments`, `quantity`. Absent: what fan-in does.

use clap::Args;

use super::ScenarioArguments;
use crate::quantity;

/// Most senders: each has a connection.
const FAN_IN_MAX: u32 = 1_024;

/// Flags of `loadgen deadline`.
#[derive(Debug, Args)]
pub(crate) struct DeadlineArguments {
    /// What all scenarios have.
    #[command(flatten)]
    pub(crate) scenario: ScenarioArguments,

    /// Instead of one connection, as many senders whose messages are due at the same instant: the
    /// missed share against each number of this list, e.g. 1,4,16
    #[arg(long, value_name = "LIST", value_parser = FanIns::parse)]
    pub(crate) fan_in: Option<FanIns>,
}

/// A list of numbers of senders, as one value of a flag.
#[derive(Debug, Clone)]
pub(crate) struct FanIns(pub(crate) Vec<u32>);

impl FanIns {
    fn parse(text: &str) -> Result<Self, String> {
        let one = |word: &str| {
            let count = quantity::connections(word.trim())?;
            let few = count <= FAN_IN_MAX;
            few.then_some(count)
                .ok_or_else(|| format!("at most {FAN_IN_MAX} senders, as in 1,4,16"))
        };
        text.split(',').map(one).collect::<Result<_, _>>().map(Self)
    }
}
