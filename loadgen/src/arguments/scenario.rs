//! The flags of the scenarios.
//!
//! Above: `scenario`. Below: `quantity`. Absent: what the scenarios are.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{CommandLine, CpuList, Driver, Traffic};
use crate::quantity;

/// Flags of the scenarios.
#[derive(Debug, Args)]
pub(crate) struct ScenarioArguments {
    /// Parts of the link's capacity, e.g. 50%,120% [default: 50%,80%,95%,120%; homa: 50%,80%;
    /// blocks: 80%,120%; rrul: 80%,120%; theory: 80%; deadline with --fan-in: 50%]
    #[arg(long, value_name = "LIST", value_parser = Loads::parse)]
    pub(crate) loads: Option<Loads>,

    /// What the link carries, in payload bits per second (of datagrams with all headers), e.g. 50M,
    /// 1G
    #[arg(long, value_name = "BITS", default_value = "100M", value_parser = quantity::link)]
    pub(crate) link: f64,

    /// Where the link is, e.g. loopback
    #[arg(long, default_value = "auto")]
    pub(crate) on: Ground,

    /// What carries the messages, e.g. udp; front-page, bulk-vs-class0, deadline and rrul
    #[arg(long, value_name = "STACK", default_value = "tcp")]
    pub(crate) over: Stack,

    /// Congestion control of the lab's connections, e.g. cubic [default: the system's]
    #[arg(long, value_name = "NAME", value_parser = quantity::congestion)]
    pub(crate) congestion: Option<String>,

    /// How long to measure each load and variant, e.g. 10s
    #[arg(short, long, default_value = "5s", value_parser = quantity::span)]
    pub(crate) duration: Duration,

    /// Start of the random numbers, e.g. 7: the same for all runs
    #[arg(long, default_value = "1")]
    pub(crate) seed: u64,

    /// CPUs of the generator, e.g. 1; link and server take the others [default: half of them, the
    /// upper ones]
    #[arg(long, value_name = "LIST", value_parser = CpuList::parse)]
    pub(crate) cores: Option<CpuList>,

    /// Write all results as JSON, e.g. front-page.json, or - for standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write the report as one HTML page, e.g. /tmp/report.html
    #[arg(long, value_name = "FILE", default_value = "loadgen-report.html")]
    pub(crate) html: PathBuf,

    /// Write no HTML report, e.g. in scripts
    #[arg(long, conflicts_with = "html")]
    pub(crate) no_html: bool,

    /// Print nothing but errors, e.g. with --json -
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// How the kernel is asked for I/O, e.g. epoll
    #[arg(long, default_value = "auto")]
    pub(crate) driver: Driver,
}

impl ScenarioArguments {
    /// The loads asked for, or those of the scenario.
    pub(crate) fn loads(&self, of_scenario: &[f64]) -> Vec<f64> {
        self.loads.as_ref().map_or_else(|| of_scenario.to_vec(), |loads| loads.0.clone())
    }

    /// For scenarios of which some messages are longer than a datagram.
    ///
    /// # Errors
    /// If datagrams are asked for.
    pub(crate) fn over_streams(&self) -> anyhow::Result<()> {
        if self.over == Stack::Udp {
            anyhow::bail!("--over udp: this scenario has messages that no datagram carries");
        }
        Ok(())
    }

    /// What one of its runs would be with flags; classes, rate and address come from the scenario.
    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            connections: 1,
            duration: self.duration,
            seed: self.seed,
            cores: self.cores.clone(),
            driver: self.driver,
            ..CommandLine::run_by_default().traffic
        }
    }
}

/// What carries the messages of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stack {
    /// A byte stream
    Tcp,
    /// Each message a datagram; needs a lab
    Udp,
}

/// Where the narrow link of a scenario is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ground {
    /// A lab if this user may make one, else loopback
    Auto,
    /// Two network namespaces joined by a shaped veth pair; needs root
    Lab,
    /// A relay in user space
    Loopback,
}

/// A list of loads, as one value of a flag.
#[derive(Debug, Clone)]
pub(crate) struct Loads(pub(crate) Vec<f64>);

impl Loads {
    fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(|load| quantity::load(load.trim())).collect::<Result<_, _>>().map(Self)
    }
}
