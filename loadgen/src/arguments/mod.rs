//! The command line, as typed.
//!
//! Above: `main`. Below: a file for the flags of each further command; `quantity` parses single
//! values; `plan` turns the whole into what is meant. Absent: decisions. A mistyped flag or value
//! ends here, with exit code 2.

mod agents;
mod compare;
mod deadline;
mod homa;
mod report;
mod scenario;
mod search;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

pub(crate) use self::agents::{AgentArguments, CoordinateArguments};
pub(crate) use self::compare::CompareArguments;
pub(crate) use self::deadline::DeadlineArguments;
pub(crate) use self::homa::HomaArguments;
pub(crate) use self::report::ReportArguments;
pub(crate) use self::scenario::{Ground, ScenarioArguments, Stack};
pub(crate) use self::search::{KneeArguments, SweepArguments};
use crate::quantity;
use crate::workload::{self, Arrival, Sizes, Variant, Workload};

/// The command line of the process; leaves with code 2 and a hint if it cannot be understood.
pub(crate) fn parse() -> Command {
    let line = CommandLine::parse();
    line.command.unwrap_or_else(|| Command::Run(Box::new(CommandLine::run_by_default())))
}

const ABOUT: &str = "\
Measures the message latency of a server, open loop and honestly timed, and says whether the \
measurement can be believed.

Without a command: `loadgen run` with its defaults, against a server of its own.";

const EXAMPLES: &str = "\
Examples:
  loadgen                                          measure the built-in echo server
  loadgen run tcp://10.0.0.7:7000 -r 50k -c 200    measure a server that echoes its frames
  loadgen run --arrival closed --depth 16          how much goes through, closed loop
  loadgen run tcp://10.0.0.7:7000 --load 80% --class name=control,share=5%,lifetime=5ms \
      --class name=bulk,size=16KiB,niceness=2      classes on each connection, by urgency
  loadgen run --json - --no-html --quiet           for scripts: JSON on standard output
  loadgen front-page                               what niceness and lifetimes do, as a table
  loadgen front-page --over udp                    the same with each message a datagram
  loadgen deadline --loads 100%,140% --link 50M    deadlines on an overloaded link
  loadgen deadline --fan-in 1,4,16                 more and more senders due at once
  loadgen homa --sizes homa-w3 --link 1G -d 30s    slowdown of each size of message
  loadgen blocks --loads 120%                      audio, video and files: what is in time
  loadgen rrul                                     a ping beside bulk in both directions
  loadgen theory --loads 80%,95%                   waits against queueing theory: a self-test
  loadgen compare tcp://10.0.0.7:7000 tcp://10.0.0.8:7000 --pairs 10
  loadgen sweep tcp://10.0.0.7:7000 --rates 10k,20k,40k -d 5s
  loadgen knee tcp://10.0.0.7:7000 --until 1ms -d 5s
  loadgen report before.json after.json            saved results side by side, as text and HTML
  loadgen serve tcp://[::]:7000 --cores 0-3        just the echo server
  loadgen agent tcp://10.0.0.8:7100                on each host that is to generate load, then:
  loadgen coordinate tcp://10.0.0.7:7000 -r 1M -c 400 --agent tcp://10.0.0.8:7100 \
      --agent tcp://10.0.0.9:7100                  what several agents measure together

Exit codes:
  0  the run is VALID or SUSPECT (the reasons are printed)
  1  error: unreachable server, file not writable, no such CPU
  2  usage: unknown flag, value out of range
  3  the run is INVALID: its figures must not be quoted; also if the server went away";

#[derive(Debug, Parser)]
#[command(name = "loadgen", version, about = ABOUT, after_help = EXAMPLES)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
}

impl CommandLine {
    fn run_by_default() -> RunArguments {
        match Self::parse_from(["loadgen", "run"]).command {
            Some(Command::Run(arguments)) => *arguments,
            _ => unreachable!("`loadgen run` parses as the command run"),
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure a server: its own one, or the one at ADDRESS
    Run(Box<RunArguments>),
    /// Classes at several loads of one narrow link: what niceness and lifetimes do
    FrontPage(ScenarioArguments),
    /// An urgent class beside bulk on one connection of a narrow link
    #[command(name = "bulk-vs-class0")]
    BulkVsClass0(ScenarioArguments),
    /// Messages with deadlines on a narrow link: in time, discarded, late
    Deadline(DeadlineArguments),
    /// Slowdown against message size, first come first served or the shorter the more urgent
    Homa(HomaArguments),
    /// Audio, video and file blocks with deadlines and priorities on a narrow link
    Blocks(ScenarioArguments),
    /// A small urgent message beside bulk in both directions of a narrow link
    Rrul(ScenarioArguments),
    /// Mean waits of datagrams on a narrow link against queueing theory: a self-test; needs root
    #[command(mut_arg("link", |link| link.default_value("10M")))]
    #[command(mut_arg("over", |over| over.default_value("udp")))]
    Theory(ScenarioArguments),
    /// Measure A and B in turn, several times: what differs by more than chance
    Compare(Box<CompareArguments>),
    /// Measure at several rates, one after the other
    Sweep(Box<SweepArguments>),
    /// Search the highest rate that a server bears
    Knee(Box<KneeArguments>),
    /// Show results that were written as JSON again, several side by side
    Report(ReportArguments),
    /// Have several agents measure together, as one: the same schedule, one result
    Coordinate(Box<CoordinateArguments>),
    /// Generate load for a coordinator, until SIGINT or SIGTERM; whoever reaches it may use it
    Agent(AgentArguments),
    /// Start the echo server alone, until SIGINT or SIGTERM
    Serve(ServeArguments),
}

/// Flags of `loadgen run`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArguments {
    /// What is sent to whom.
    #[command(flatten)]
    pub(crate) traffic: Traffic,
    /// What is written.
    #[command(flatten)]
    pub(crate) reports: Reports,
}

/// What is written about a run.
#[derive(Debug, Args)]
pub(crate) struct Reports {
    /// Write the whole result as JSON, e.g. result.json, or - for standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write every figure of every class as a line of CSV, e.g. result.csv
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,

    /// Write the histograms of every class as an HdrHistogram log, e.g. result.hlog
    #[arg(long, value_name = "FILE")]
    pub(crate) hlog: Option<PathBuf>,

    /// Write the report as one HTML page, e.g. /tmp/report.html
    #[arg(long, value_name = "FILE", default_value = "loadgen-report.html")]
    pub(crate) html: PathBuf,

    /// Write no HTML report, e.g. in scripts
    #[arg(long, conflicts_with = "html")]
    pub(crate) no_html: bool,
}

/// What is sent to whom, and how.
#[derive(Debug, Clone, Args)]
pub(crate) struct Traffic {
    /// Server that echoes length-prefixed frames (u32, big-endian), e.g. tcp://10.0.0.7:7000, or
    /// one in each datagram, e.g. udp://10.0.0.7:7000: unanswered for a second, it is lost;
    /// without it an echo server is started on CPUs of its own
    pub(crate) address: Option<String>,

    /// Messages per second over all connections, e.g. 800, 50k, 1.5M [default: 20k]
    #[arg(short, long, value_parser = quantity::rate)]
    pub(crate) rate: Option<f64>,

    /// The rate as a part of what the server can bear, e.g. 80%, 120%; this is measured first,
    /// in a closed loop of two seconds
    #[arg(long, value_name = "SHARE", conflicts_with = "rate", value_parser = quantity::load)]
    pub(crate) load: Option<f64>,

    /// Connections, e.g. 200
    #[arg(short, long, default_value = "50", value_parser = quantity::connections)]
    pub(crate) connections: u32,

    /// Carriers of each connection, e.g. 4: each has a queue of its own. Over TCP a fork of a
    /// Carrier is a further socket
    #[arg(long, default_value = "1", value_parser = quantity::carriers)]
    pub(crate) carriers: u32,

    /// Connections that are closed in order and made anew per second, over all of them, e.g. 50;
    /// each is made before the old one is closed, and the connect time measured. A host has some
    /// 28 000 ports and gives each back after a minute: no more than 400 or so for long
    #[arg(long, value_name = "RATE", conflicts_with = "carriers", value_parser = quantity::rate)]
    pub(crate) churn: Option<f64>,

    /// As many senders, each with a connection of its own, whose messages become due at the same
    /// instant, at --rate over all of them, e.g. 16
    #[arg(long, value_name = "N", conflicts_with_all = ["connections", "arrival", "carriers"],
          value_parser = quantity::connections)]
    pub(crate) fan_in: Option<u32>,

    /// Bytes of a message's payload, e.g. 64, 4KiB, uniform:64:1KiB, exponential:1KiB,
    /// pareto:64:1.5, bimodal:64:1KiB:10%, lognormal:1KiB:1.2, cdf:FILE, homa-w3; from 16 bytes
    /// up each message carries its number and its time [default: 64]
    #[arg(long, value_parser = sizes)]
    pub(crate) size: Option<Sizes>,

    /// A kind of messages, one flag for each, e.g. name=control,share=5%,size=64,lifetime=2ms;
    /// keys: name, share, size, niceness, lifetime (the library is told and may discard what
    /// would be late) or deadline (it is not told), immediate, idempotent, chain=8 (each message
    /// follows the one before it on its connection, in chains of 8 over all classes with this key:
    /// it arrives after it whatever their niceness, and expires with it). Messages of such classes
    /// have at least 24 bytes
    #[arg(long, value_name = "KEY=VALUE,…", conflicts_with = "size", value_parser = class)]
    pub(crate) class: Vec<String>,

    /// A TOML file with rate, arrival and [[class]] tables of the same keys, e.g. mix.toml;
    /// flags go before it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["class", "size"])]
    pub(crate) workload: Option<String>,

    /// How long to measure, e.g. 30s, 500ms
    #[arg(short, long, default_value = "10s", value_parser = quantity::span)]
    pub(crate) duration: Duration,

    /// How long to send before measuring, e.g. 2s
    #[arg(long, default_value = "1s", value_parser = quantity::duration)]
    pub(crate) warmup: Duration,

    /// Messages that may be unanswered per connection, e.g. 64; open loop: one more is skipped
    /// and the run INVALID; closed loop: so many are kept in flight [default: 1024 or what
    /// memory allows; closed loop: 1]
    #[arg(long, value_parser = quantity::depth)]
    pub(crate) depth: Option<u32>,

    /// What of the classes the library is told, e.g. nothing; the ledger judges by all of it
    #[arg(long, default_value = "everything")]
    pub(crate) tell: Tell,

    /// When messages are sent, e.g. poisson, constant, burst:64 (so many at once), burst:64@1ms,
    /// ramp:10k-50k (rising rate), trace:FILE (lines: seconds,size and, if wanted, class,lifetime);
    /// `closed` sends on each reply and ignores --rate [default: poisson]
    #[arg(long, value_parser = Arrival::parse)]
    pub(crate) arrival: Option<Arrival>,

    /// Bytes that may wait in a connection's send queue for each class, e.g. 4MiB; what comes
    /// when it is full is refused [default: 256KiB, or eight of the longest messages]
    #[arg(long, value_name = "BYTES", value_parser = quantity::size)]
    pub(crate) queue: Option<usize>,

    /// Start of the random numbers, e.g. 7: the same seed gives the same schedule
    #[arg(long, default_value = "1")]
    pub(crate) seed: u64,

    /// CPUs of the generator, e.g. 1 or 2-5; the embedded server takes the others
    /// [default: half of them, the upper ones]
    #[arg(long, value_name = "LIST", value_parser = CpuList::parse)]
    pub(crate) cores: Option<CpuList>,

    /// Print nothing but the verdict's reasons on failure, e.g. with --json -
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// How the kernel is asked for I/O, e.g. epoll
    #[arg(long, default_value = "auto")]
    pub(crate) driver: Driver,
}

/// Flags of `loadgen serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// Where to listen, e.g. tcp://127.0.0.1:7000 or unix:///run/echo.sock
    pub(crate) address: String,

    /// CPUs of the server, e.g. 0 or 0-3 [default: all]
    #[arg(long, value_name = "LIST", value_parser = CpuList::parse)]
    pub(crate) cores: Option<CpuList>,

    /// How the kernel is asked for I/O, e.g. epoll
    #[arg(long, default_value = "auto")]
    pub(crate) driver: Driver,
}

/// A list of CPUs, as one value of a flag.
#[derive(Debug, Clone)]
pub(crate) struct CpuList(pub(crate) Vec<usize>);

impl CpuList {
    fn parse(text: &str) -> Result<Self, String> {
        quantity::cores(text).map(Self)
    }
}

fn sizes(text: &str) -> Result<Sizes, String> {
    Sizes::parse(text, &workload::read)
}

/// A class is understood together with the others; here only its own faults are found.
fn class(text: &str) -> Result<String, String> {
    Workload::check_flag(text, &workload::read).map(|()| text.to_owned())
}

/// What of the classes the library is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tell {
    /// Niceness and lifetimes; deadlines are never told
    Everything,
    /// Niceness alone
    Niceness,
    /// Lifetimes alone
    Lifetime,
    /// Neither: first come, first served
    Nothing,
}

impl Tell {
    /// As the workload takes it.
    pub(crate) const fn variant(self) -> Variant {
        Variant {
            niceness: matches!(self, Self::Everything | Self::Niceness),
            lifetime: matches!(self, Self::Everything | Self::Lifetime),
        }
    }
}

/// Which driver the engine uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Driver {
    /// io_uring if the kernel allows it, else epoll
    Auto,
    /// io_uring or nothing
    Uring,
    /// epoll
    Epoll,
}

impl Driver {
    /// The name as typed.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_table_of_flags_is_consistent_and_the_defaults_parse() {
        CommandLine::command().debug_assert();
        let run = CommandLine::run_by_default();
        let (run, reports) = (run.traffic, run.reports);
        assert_eq!((run.rate, run.connections, run.size), (None, 50, None));
        assert_eq!(run.duration + run.warmup, Duration::from_secs(11));
        assert!(run.address.is_none() && !run.quiet && !reports.no_html);
    }

    #[test]
    fn every_flag_is_explained_with_an_example() {
        let command = CommandLine::command();
        for sub in command.get_subcommands() {
            for argument in sub.get_arguments().filter(|a| a.get_id() != "help") {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("e.g."), "{} {}", sub.get_name(), argument.get_id());
            }
        }
    }

    #[test]
    fn mistyped_lines_are_refused() {
        for line in ["--rat 5k", "--rate fast", "--size -1", "-c 0", "--arrival burst"] {
            let words = ["loadgen", "run"].into_iter().chain(line.split(' '));
            assert!(CommandLine::try_parse_from(words).is_err(), "{line}");
        }
    }
}
