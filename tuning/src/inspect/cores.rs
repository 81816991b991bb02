//! Logical CPUs: which exist, which are online, which this process may use, how they are built.
//!
//! Above: `inspect`. Below: `tree`, and `numa` for a core's node.
//! Absent: no interrupts (`irqs`), no load.

use serde::Serialize;

use super::{Node, field};
use crate::cpus::{CPU_COUNT_MAX, CpuSet};
use crate::fact::Fact;
use crate::tree::Tree;

const PLACE: &str = "/sys/devices/system/cpu";

/// The sets of CPUs and each CPU by itself.
#[derive(Debug, Serialize)]
pub(crate) struct Cores {
    pub(crate) present: Fact<CpuSet>,
    pub(crate) online: Fact<CpuSet>,
    /// What this process may run on: its cpuset and its affinity.
    pub(crate) allowed: Fact<CpuSet>,
    /// Taken out of the scheduler's hands by `isolcpus` or a cpuset partition.
    pub(crate) isolated: Fact<CpuSet>,
    /// Without a periodic tick when one task runs.
    pub(crate) nohz_full: Fact<CpuSet>,
    /// `on`, `off`, `forceoff`, `notsupported` or `notimplemented`.
    pub(crate) smt: Fact<String>,
    pub(crate) list: Fact<Vec<Core>>,
}

/// One logical CPU.
#[derive(Debug, Serialize)]
pub(crate) struct Core {
    pub(crate) cpu: u32,
    pub(crate) online: Fact<bool>,
    pub(crate) allowed: Fact<bool>,
    pub(crate) numa_node: Fact<u32>,
    pub(crate) package: Fact<i32>,
    /// Unique within its package only.
    pub(crate) core: Fact<i32>,
    /// Logical CPUs on the same physical core, this one included.
    pub(crate) smt_siblings: Fact<CpuSet>,
    /// Policy of frequency scaling.
    pub(crate) governor: Fact<String>,
}

/// Reads all CPUs; `nodes` says which NUMA node each belongs to.
pub(super) fn read(tree: &Tree, nodes: &Fact<Vec<Node>>) -> Cores {
    let online = tree.cpu_list(&format!("{PLACE}/online"));
    let allowed = tree.parsed("/proc/self/status", |status| {
        let list = field(status, "Cpus_allowed_list").ok_or("no line Cpus_allowed_list")?;
        CpuSet::from_list(list)
    });
    let list = tree.names(PLACE, false, |name| number(name).is_some()).map(|names| {
        let numbers = names.iter().filter_map(|name| number(name));
        numbers.map(|cpu| read_one(tree, cpu, &online, &allowed, nodes)).collect()
    });
    Cores {
        present: tree.cpu_list(&format!("{PLACE}/present")),
        isolated: tree.cpu_list(&format!("{PLACE}/isolated")),
        nohz_full: tree.parsed(&format!("{PLACE}/nohz_full"), |text| match text.trim() {
            "(null)" => Ok(CpuSet::default()),
            list => CpuSet::from_list(list),
        }),
        smt: tree.text(&format!("{PLACE}/smt/control")),
        online,
        allowed,
        list,
    }
}

fn number(name: &str) -> Option<u32> {
    name.strip_prefix("cpu")?.parse().ok().filter(|cpu| *cpu < CPU_COUNT_MAX)
}

fn read_one(
    tree: &Tree,
    cpu: u32,
    online: &Fact<CpuSet>,
    allowed: &Fact<CpuSet>,
    nodes: &Fact<Vec<Node>>,
) -> Core {
    let place = format!("{PLACE}/cpu{cpu}");
    Core {
        cpu,
        online: online.as_ref().map(|online| online.contains(cpu)),
        allowed: allowed.as_ref().map(|allowed| allowed.contains(cpu)),
        numa_node: nodes.as_ref().and_then(|nodes| node_of(nodes, cpu)),
        package: tree.number(&format!("{place}/topology/physical_package_id")),
        core: tree.number(&format!("{place}/topology/core_id")),
        smt_siblings: tree.cpu_list(&format!("{place}/topology/thread_siblings_list")),
        governor: tree.text(&format!("{place}/cpufreq/scaling_governor")),
    }
}

fn node_of(nodes: &[Node], cpu: u32) -> Fact<u32> {
    let mut holders = nodes.iter().filter(|node| {
        let cpus = node.cpus.known();
        cpus.is_some_and(|cpus| cpus.contains(cpu))
    });
    Fact::from_option(holders.next().map(|node| node.node), || {
        "/sys/devices/system/node: no node's cpulist names this CPU".into()
    })
}
