//! NUMA nodes: their CPUs, memory and distances.
//!
//! Above: `inspect`; `cores` looks up a core's node. Below: `tree`.
//! Absent: no devices (`nics` knows its node).

use serde::Serialize;

use crate::cpus::CpuSet;
use crate::fact::Fact;
use crate::tree::Tree;
use crate::words::excerpt;

const PLACE: &str = "/sys/devices/system/node";

/// One NUMA node.
#[derive(Debug, Serialize)]
pub(crate) struct Node {
    pub(crate) node: u32,
    pub(crate) cpus: Fact<CpuSet>,
    pub(crate) memory_bytes: Fact<u64>,
    /// Relative cost to reach each node, in the order of the nodes; 10 is local.
    pub(crate) distances: Fact<Vec<u32>>,
}

/// Reads every node.
pub(super) fn read(tree: &Tree) -> Fact<Vec<Node>> {
    tree.names(PLACE, false, |name| number(name).is_some())
        .map(|names| names.iter().filter_map(|name| Some(read_one(tree, number(name)?))).collect())
}

fn number(name: &str) -> Option<u32> {
    name.strip_prefix("node")?.parse().ok()
}

fn read_one(tree: &Tree, node: u32) -> Node {
    let place = format!("{PLACE}/node{node}");
    Node {
        node,
        cpus: tree.cpu_list(&format!("{place}/cpulist")),
        memory_bytes: tree.parsed(&format!("{place}/meminfo"), memory_bytes),
        distances: tree.parsed(&format!("{place}/distance"), |text| {
            text.split_whitespace()
                .map(|word| {
                    word.parse().map_err(|_| format!("{} is not a distance", excerpt(word)))
                })
                .collect()
        }),
    }
}

/// From the line `Node 0 MemTotal:  16000000 kB`.
fn memory_bytes(text: &str) -> Result<u64, String> {
    let line = text
        .lines()
        .find_map(|line| line.split_once("MemTotal:"))
        .ok_or("it has no line MemTotal")?
        .1;
    line.trim()
        .strip_suffix("kB")
        .and_then(|kilobytes| kilobytes.trim().parse::<u64>().ok()?.checked_mul(1024))
        .ok_or_else(|| format!("{} is not a number of kB", excerpt(line.trim())))
}
