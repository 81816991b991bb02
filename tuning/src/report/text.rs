//! An inspection as tables for people, 100 characters wide.
//!
//! Above: `report`. Below: `table`; the facts of `inspect`.
//! Absent: no opinions: nothing is marked good or bad. Not every fact of the JSON is here:
//! of the offloads only those in `OFFLOADS_SHOWN`.

use super::table::{Reasons, Table, indented};
use crate::cpus::CpuSet;
use crate::fact::Fact;
use crate::inspect::{
    Ceiling, Cores, Inspection, Irqs, Limits, Nic, NicNapi, NicQueue, Node, Quota, SoftHard,
};
use crate::netlink::{Channels, Direction};

/// Offloads that change when and in what sizes packets reach a socket.
const OFFLOADS_SHOWN: [&str; 11] = [
    "rx-gro",
    "rx-gro-hw",
    "rx-gro-list",
    "rx-udp-gro-forwarding",
    "rx-lro",
    "rx-hashing",
    "rx-ntuple-filter",
    "tx-generic-segmentation",
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-udp-segmentation",
];

/// The whole report; `live` says whether it is about this machine.
pub(super) fn render(inspection: &Inspection, live: bool) -> String {
    let mut page = Page::default();
    page.host(inspection, live);
    page.limits(&inspection.limits);
    page.cores(&inspection.cores);
    page.nodes(&inspection.numa_nodes);
    page.nics(&inspection.nics);
    page.finish()
}

/// The text so far and the reasons to be printed at its end.
#[derive(Debug, Default)]
struct Page {
    text: String,
    reasons: Reasons,
}

impl Page {
    fn host(&mut self, inspection: &Inspection, live: bool) {
        let whose = if live { "this machine" } else { "a recorded tree" };
        self.text += &format!("{}: {whose}\n", inspection.tool);
        self.heading("HOST");
        self.fact("kernel", &inspection.kernel);
        self.fact("clock source", &inspection.clock.source);
        self.fact("  available", &inspection.clock.available.as_ref().map(|list| list.join(" ")));

        let uring = &inspection.io_uring;
        self.heading("IO_URING");
        self.text += &indented("  ", &uring.sentence);
        self.fact("kernel.io_uring_disabled", &uring.disabled);
        self.fact("kernel.io_uring_group", &uring.group);
        self.fact("seccomp mode of this process", &uring.seccomp);
    }

    fn limits(&mut self, limits: &Limits) {
        self.heading("LIMITS");
        self.fact("open files (RLIMIT_NOFILE)", &limits.open_files.as_ref().map(soft_hard));
        let memory = limits.locked_memory_bytes.as_ref().map(soft_hard);
        self.fact("locked memory (RLIMIT_MEMLOCK), bytes", &memory);
        self.fact("cgroup CPU quota", &limits.cgroup_cpu_quota.as_ref().map(quota));
        self.fact("net.core.somaxconn", &limits.somaxconn);
        self.fact("net.ipv4.tcp_max_syn_backlog", &limits.tcp_max_syn_backlog);
        self.fact("net.core.netdev_max_backlog", &limits.netdev_max_backlog);
        self.fact("net.core.netdev_budget", &limits.netdev_budget);
        self.fact("net.core.busy_poll, us", &limits.busy_poll_us);
        self.fact("net.core.busy_read, us", &limits.busy_read_us);
        self.fact("net.core.rps_sock_flow_entries", &limits.rps_sock_flow_entries);
        self.fact("net.core.default_qdisc", &limits.default_qdisc);
        self.fact("congestion control", &limits.congestion_control);
        let available = &limits.congestion_controls_available;
        self.fact("  available", &available.as_ref().map(|list| list.join(" ")));
    }

    fn cores(&mut self, cores: &Cores) {
        self.heading("CORES");
        self.fact("present", &cores.present);
        self.fact("online", &cores.online);
        self.fact("allowed to this process", &cores.allowed);
        self.fact("isolated", &cores.isolated);
        self.fact("nohz_full", &cores.nohz_full);
        self.fact("SMT", &cores.smt);
        let Some(list) = self.list(&cores.list) else { return };
        let mut table = Table::new(&[
            "cpu", "online", "allowed", "node", "package", "core", "siblings", "governor",
        ]);
        for core in list {
            let reasons = &mut self.reasons;
            table.row([
                core.cpu.to_string(),
                reasons.cell(&core.online.as_ref().map(|yes| yes_no(*yes))),
                reasons.cell(&core.allowed.as_ref().map(|yes| yes_no(*yes))),
                reasons.cell(&core.numa_node),
                reasons.cell(&core.package),
                reasons.cell(&core.core),
                reasons.cell(&core.smt_siblings),
                reasons.cell(&core.governor),
            ]);
        }
        self.text += &table.render();
    }

    fn nodes(&mut self, nodes: &Fact<Vec<Node>>) {
        self.heading("NUMA NODES");
        let Some(nodes) = self.list(nodes) else { return };
        let mut table = Table::new(&["node", "cpus", "memory MiB", "distances"]);
        for node in nodes {
            table.row([
                node.node.to_string(),
                self.reasons.cell(&node.cpus),
                self.reasons.cell(&node.memory_bytes.as_ref().map(|bytes| bytes >> 20)),
                self.reasons.cell(&node.distances.as_ref().map(|list| joined(list))),
            ]);
        }
        self.text += &table.render();
    }

    fn nics(&mut self, nics: &Fact<Vec<Nic>>) {
        self.heading("NICS");
        let Some(nics) = self.list(nics) else { return };
        let mut table =
            Table::new(&["name", "state", "Mbit/s", "MTU", "rx/tx queues", "driver", "node"]);
        for nic in nics {
            let reasons = &mut self.reasons;
            let driver = match nic.kind.known() {
                Some(Some(kind)) => format!("virtual: {kind}"),
                _ => reasons.cell(&nic.driver),
            };
            let queues = nic.rx_queues.as_ref().and_then(|rx| {
                let tx = nic.tx_queues.as_ref();
                tx.map(|tx| format!("{rx}/{tx}"))
            });
            table.row([
                nic.name.clone(),
                reasons.cell(&nic.state),
                reasons.cell(&nic.speed_mbit_s),
                reasons.cell(&nic.mtu_bytes),
                reasons.cell(&queues),
                driver,
                reasons.cell(&nic.numa_node),
            ]);
        }
        self.text += &table.render();
        for nic in nics {
            self.nic(nic);
        }
    }

    fn nic(&mut self, nic: &Nic) {
        self.heading(&format!("NIC {}", nic.name));
        self.fact("index", &nic.ifindex);
        self.fact("device", &nic.device);
        self.fact("driver", &nic.driver);
        self.fact("channels, now of at most", &nic.channels.as_ref().map(channels));
        self.fact("qdisc", &nic.qdisc);
        self.fact("napi_defer_hard_irqs", &nic.napi_defer_hard_irqs);
        self.fact("gro_flush_timeout, ns", &nic.gro_flush_timeout_ns);
        self.fact("threaded", &nic.threaded);
        self.fact("offloads on", &nic.offloads.as_ref().map(|on| offloads(on)));
        self.queues(&nic.queues);
        self.irqs(&nic.irqs);
        self.napis(&nic.napis);
    }

    fn queues(&mut self, queues: &Fact<Vec<NicQueue>>) {
        let Fact::Known(queues) = queues else {
            return self.fact("queues", &queues.as_ref().map(|_| ""));
        };
        let mut table = Table::new(&["queue", "rps_cpus", "rps_flow_cnt", "xps_cpus", "NAPI"]);
        for queue in queues {
            let reasons = &mut self.reasons;
            table.row([
                match queue.direction {
                    Direction::Rx => format!("rx-{}", queue.index),
                    Direction::Tx => format!("tx-{}", queue.index),
                },
                queue.rps_cpus.as_ref().map_or_else(String::new, |cpus| reasons.cell(cpus)),
                queue.rps_flow_count.as_ref().map_or_else(String::new, |flows| reasons.cell(flows)),
                queue.xps_cpus.as_ref().map_or_else(String::new, |cpus| reasons.cell(cpus)),
                reasons.cell(&queue.napi_id),
            ]);
        }
        self.text += &table.render();
    }

    fn irqs(&mut self, irqs: &Fact<Irqs>) {
        let Fact::Known(irqs) = irqs else {
            return self.fact("IRQs", &irqs.as_ref().map(|_| ""));
        };
        let mut table = Table::new(&["irq", "handlers", "affinity", "effective"]);
        for irq in &irqs.list {
            table.row([
                irq.irq.to_string(),
                self.reasons.cell(&irq.actions),
                self.reasons.cell::<CpuSet>(&irq.affinity),
                self.reasons.cell(&irq.effective_affinity),
            ]);
        }
        self.text += &indented("  IRQs by ", &irqs.source);
        self.text += &table.render();
    }

    fn napis(&mut self, napis: &Fact<Vec<NicNapi>>) {
        let Fact::Known(napis) = napis else {
            return self.fact("NAPI", &napis.as_ref().map(|_| ""));
        };
        if napis.is_empty() {
            return self.fact("NAPI", &Fact::Known("netlink lists no instance"));
        }
        let mut table = Table::new(&[
            "NAPI",
            "irq",
            "thread",
            "defer_hard_irqs",
            "gro_flush ns",
            "irq_suspend ns",
        ]);
        for napi in napis {
            let reasons = &mut self.reasons;
            let thread = napi.thread_pid.as_ref().map(|pid| match pid {
                Some(pid) => format!("pid {pid}"),
                None => "none".into(),
            });
            table.row([
                napi.id.to_string(),
                reasons.cell(&napi.irq),
                reasons.cell(&thread),
                reasons.cell(&napi.defer_hard_irqs),
                reasons.cell(&napi.gro_flush_timeout_ns),
                reasons.cell(&napi.irq_suspend_timeout_ns),
            ]);
        }
        self.text += &table.render();
    }

    fn heading(&mut self, heading: &str) {
        self.text.push('\n');
        self.text += &indented("", heading);
    }

    /// One line: a name and a fact.
    fn fact<T: std::fmt::Display>(&mut self, name: &str, fact: &Fact<T>) {
        let cell = self.reasons.cell(fact);
        self.text += &indented(&format!("  {name:38}  "), &cell);
    }

    /// The list, or a line that says why there is none.
    fn list<'a, T>(&mut self, list: &'a Fact<Vec<T>>) -> Option<&'a [T]> {
        match list {
            Fact::Known(list) if list.is_empty() => self.text += "  none\n",
            Fact::Known(list) => return Some(list),
            Fact::Unknown { .. } => {
                let cell = self.reasons.cell(&list.as_ref().map(|_| ""));
                self.text += &indented("  ", &cell);
            }
        }
        None
    }

    fn finish(mut self) -> String {
        let reasons = self.reasons.render();
        if !reasons.is_empty() {
            self.heading("UNKNOWN, AND WHY");
            self.text += &reasons;
        }
        self.text
    }
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn joined(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

fn soft_hard(limit: &SoftHard) -> String {
    let words = |ceiling| match ceiling {
        Ceiling::At(value) => value.to_string(),
        Ceiling::Unlimited => "unlimited".into(),
    };
    format!("{} (hard limit {})", words(limit.soft), words(limit.hard))
}

fn quota(quota: &Quota) -> String {
    let version = quota.cgroup_version;
    match quota.cpus {
        Some(cpus) => format!("{cpus:.2} CPUs by {} (cgroup v{version})", quota.group),
        None => format!("none for {} (cgroup v{version})", quota.group),
    }
}

fn channels(channels: &Channels) -> String {
    let kinds = [
        ("rx", channels.rx, channels.rx_max),
        ("tx", channels.tx, channels.tx_max),
        ("combined", channels.combined, channels.combined_max),
    ];
    let told = kinds.iter().filter_map(|(kind, now, most)| {
        Some(format!("{kind} {}/{}", (*now)?, most.map_or("?".into(), |most| most.to_string())))
    });
    told.collect::<Vec<_>>().join(", ")
}

fn offloads(on: &[String]) -> String {
    let shown = OFFLOADS_SHOWN.into_iter().filter(|name| on.iter().any(|other| other == name));
    let shown: Vec<&str> = shown.collect();
    if shown.is_empty() { "none of those shown here".into() } else { shown.join(" ") }
}
