//! The flags of agents and of who coordinates them.
//!
//! Above: `agents`. Below: `RunArguments`, which a coordinator has too. Absent: decisions.

use clap::Args;

use super::{CpuList, RunArguments};

/// Flags of `loadgen coordinate`.
#[derive(Debug, Args)]
pub(crate) struct CoordinateArguments {
    /// An agent, one flag for each, e.g. tcp://10.0.0.8:7100; start it there as `loadgen agent`
    #[arg(long = "agent", value_name = "ADDRESS", required = true)]
    pub(crate) agents: Vec<String>,

    /// What they measure together; the server's address is that from where they are.
    #[command(flatten)]
    pub(crate) run: RunArguments,
}

/// Flags of `loadgen agent`.
#[derive(Debug, Args)]
pub(crate) struct AgentArguments {
    /// Where to wait for a coordinator, e.g. tcp://10.0.0.8:7100; whoever reaches it can have
    /// load sent to any address, so by default nobody outside this host does
    #[arg(default_value = "tcp://127.0.0.1:7100")]
    pub(crate) address: String,

    /// CPUs of the generator, e.g. 1 or 2-5 [default: half of them, the upper ones]
    #[arg(long, value_name = "LIST", value_parser = CpuList::parse)]
    pub(crate) cores: Option<CpuList>,
}
