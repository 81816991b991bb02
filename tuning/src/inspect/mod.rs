//! All facts about one machine, gathered from a tree.
//!
//! Above: `report` prints an `Inspection`, `capture` wants the reads it causes.
//! Below: `tree`; one file here for each kind of fact.
//! Absent: no opinions and no order of importance.
//! The fields are the names in JSON; a changed or removed one needs a new `SCHEMA`.

mod clock;
mod cores;
mod irqs;
mod limits;
mod nics;
mod numa;
mod uring;

use serde::Serialize;

use crate::fact::Fact;
use crate::tree::Tree;

pub(crate) use clock::Clock;
pub(crate) use cores::Cores;
pub(crate) use irqs::Irqs;
pub(crate) use limits::{Ceiling, Limits, Quota, SoftHard};
pub(crate) use nics::{Nic, NicNapi, NicQueue};
pub(crate) use numa::Node;
pub(crate) use uring::Uring;

/// The version of the JSON form.
pub(crate) const SCHEMA: u32 = 1;

/// Everything `tuning inspect` knows.
#[derive(Debug, Serialize)]
pub(crate) struct Inspection {
    /// Always `SCHEMA`.
    pub(crate) schema: u32,
    /// Name and version of this tool.
    pub(crate) tool: &'static str,
    /// Release of the kernel.
    pub(crate) kernel: Fact<String>,
    pub(crate) clock: Clock,
    pub(crate) io_uring: Uring,
    pub(crate) limits: Limits,
    pub(crate) cores: Cores,
    pub(crate) numa_nodes: Fact<Vec<Node>>,
    pub(crate) nics: Fact<Vec<Nic>>,
}

/// Reads everything once.
pub(crate) fn inspect(tree: &Tree) -> Inspection {
    let kernel = tree.text("/proc/sys/kernel/osrelease");
    let numa_nodes = numa::read(tree);
    Inspection {
        schema: SCHEMA,
        tool: concat!("tuning ", env!("CARGO_PKG_VERSION")),
        clock: clock::read(tree),
        io_uring: uring::read(tree, &kernel),
        limits: limits::read(tree),
        cores: cores::read(tree, &numa_nodes),
        nics: nics::read(tree),
        kernel,
        numa_nodes,
    }
}

/// The part of a `Name:  value` line after the name, for files such as /proc/self/status.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
