//! The command line as typed.
//!
//! Above: `main` parses and runs it. Below: clap. Absent: no file is looked at here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Shows what matters for network latency on a Linux host.
///
/// The tool only reads. What cannot be read is shown as unknown, with the reason.
#[derive(Debug, Parser)]
#[command(name = "tuning", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show NICs, IRQs, NAPI ids, NUMA nodes, cores, io_uring state and limits
    ///
    /// Facts, no opinions, as /sys, /proc and netlink tell them. One io_uring is created and
    /// closed to learn whether that is allowed. Limits, allowed cores and the cgroup's CPU quota
    /// are those of this process, interfaces those of its network namespace.
    Inspect(Inspect),
}

/// How to inspect.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES, after_long_help = EXAMPLES)]
pub(crate) struct Inspect {
    /// Print JSON instead of tables: stable names, with a version in "schema"
    ///
    /// A fact that is not known is {"unknown": "the reason"} in the place of its value.
    #[arg(long, conflicts_with = "capture")]
    pub(crate) json: bool,

    /// Read the recorded tree in DIR instead of this machine
    ///
    /// DIR holds sys/ and proc/, and recorded.json with netlink's answers; without that file
    /// they are unknown. Links that lead out of DIR are not followed.
    #[arg(long, value_name = "DIR", conflicts_with = "capture")]
    pub(crate) root: Option<PathBuf>,

    /// Record this machine as a tree in DIR, which must be new or empty
    ///
    /// Exactly the files that `inspect` reads are copied, with netlink's answers beside them.
    /// No MAC or IP address is among them; the name of this process's cgroup is.
    #[arg(long, value_name = "DIR")]
    pub(crate) capture: Option<PathBuf>,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 error, 2 wrong usage. Unknown facts are no error.";

const EXAMPLES: &str = "\
Examples:
  tuning inspect                               this machine, as tables
  tuning inspect --json | jq '.nics[].irqs'    the same facts for programs
  tuning inspect --capture /tmp/host-a         record this machine
  tuning inspect --root /tmp/host-a            look at the record, anywhere
  ip netns exec blue tuning inspect            the interfaces of another network namespace

Exit codes: 0 done, 1 error, 2 wrong usage. Unknown facts are no error.";
