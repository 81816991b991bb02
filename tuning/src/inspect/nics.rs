//! Network interfaces: device, state, queues, interrupts, NAPI instances and receive settings.
//!
//! Above: `inspect`. Below: `tree` (which also holds netlink's answers) and `irqs`.
//! Absent: no addresses, no traffic counters.
//! Netlink's records are joined by interface index, and only if netlink knows the interface
//! under the same name: /sys may show another network namespace than the one netlink answers for.

use serde::Serialize;

use super::irqs::{self, Irqs};
use crate::cpus::CpuSet;
use crate::fact::Fact;
use crate::netlink::{Answers, Channels, Direction, Features, Link, Napi, Queue};
use crate::tree::Tree;
use crate::words::{excerpt, join};

const PLACE: &str = "/sys/class/net";

/// Steps up the device tree to the one that knows its NUMA node.
const DEVICE_LEVELS_MAX: usize = 6;

/// One interface.
#[derive(Debug, Serialize)]
pub(crate) struct Nic {
    pub(crate) name: String,
    pub(crate) ifindex: Fact<u32>,
    /// Kind of a virtual interface, such as `veth`; `None` for hardware.
    pub(crate) kind: Fact<Option<String>>,
    /// Where its device is in /sys.
    pub(crate) device: Fact<String>,
    pub(crate) driver: Fact<String>,
    /// `up`, `down`, `lowerlayerdown`, `dormant` and so on, as in RFC 2863.
    pub(crate) state: Fact<String>,
    pub(crate) speed_mbit_s: Fact<u32>,
    pub(crate) mtu_bytes: Fact<u32>,
    pub(crate) numa_node: Fact<u32>,
    pub(crate) rx_queues: Fact<usize>,
    pub(crate) tx_queues: Fact<usize>,
    /// A kind of channels that the driver does not have is `null`.
    pub(crate) channels: Fact<Channels>,
    pub(crate) qdisc: Fact<String>,
    pub(crate) napi_defer_hard_irqs: Fact<u32>,
    pub(crate) gro_flush_timeout_ns: Fact<u64>,
    /// 0 for softirq, 1 for a kernel thread per NAPI, 2 for one that busy polls.
    pub(crate) threaded: Fact<u32>,
    /// Offloads that are on, by the kernel's names.
    pub(crate) offloads: Fact<Vec<String>>,
    pub(crate) queues: Fact<Vec<NicQueue>>,
    pub(crate) irqs: Fact<Irqs>,
    pub(crate) napis: Fact<Vec<NicNapi>>,
}

/// One NAPI instance of an interface.
#[derive(Debug, Serialize)]
pub(crate) struct NicNapi {
    /// Unique on the machine, over all interfaces.
    pub(crate) id: u32,
    pub(crate) irq: Fact<u32>,
    /// Process id of the kernel thread; `None` where NAPI runs in softirq.
    pub(crate) thread_pid: Fact<Option<u32>>,
    pub(crate) defer_hard_irqs: Fact<u32>,
    pub(crate) gro_flush_timeout_ns: Fact<u64>,
    pub(crate) irq_suspend_timeout_ns: Fact<u64>,
    /// 0 for softirq, 1 for a kernel thread, 2 for one that busy polls.
    pub(crate) threaded: Fact<u32>,
}

/// One queue of an interface.
#[derive(Debug, Serialize)]
pub(crate) struct NicQueue {
    pub(crate) direction: Direction,
    pub(crate) index: u32,
    /// Receive queues: CPUs that packets are steered to in software.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rps_cpus: Option<Fact<CpuSet>>,
    /// Receive queues: flows remembered for steering to the reading CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rps_flow_count: Option<Fact<u32>>,
    /// Send queues: CPUs that send by this queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) xps_cpus: Option<Fact<CpuSet>>,
    pub(crate) napi_id: Fact<u32>,
}

/// Reads every interface.
pub(super) fn read(tree: &Tree) -> Fact<Vec<Nic>> {
    tree.names(PLACE, false, |_| true)
        .map(|names| names.into_iter().map(|name| read_one(tree, name)).collect())
}

fn read_one(tree: &Tree, name: String) -> Nic {
    let place = format!("{PLACE}/{name}");
    let at = |file: &str| format!("{place}/{file}");
    let ifindex = tree.number::<u32>(&at("ifindex"));
    let told = Told::new(tree.netlink(), &name, &ifindex);
    let device = tree.place(&at("device"));
    let queues = queues(tree, &place, &told);
    let count = |direction| {
        let queues = queues.as_ref();
        queues.map(|list| list.iter().filter(|queue| queue.direction == direction).count())
    };
    Nic {
        driver: tree.link_name(&at("device/driver")),
        state: tree.parsed(&at("operstate"), state),
        speed_mbit_s: tree.parsed(&at("speed"), speed),
        mtu_bytes: tree.number(&at("mtu")),
        numa_node: device.as_ref().and_then(|device| numa_node(tree, device)),
        rx_queues: count(Direction::Rx),
        tx_queues: count(Direction::Tx),
        channels: told.one(
            |told| &told.channels,
            |channels| channels.ifindex,
            "ethtool channels-get",
        ),
        qdisc: told.link().and_then(|link| {
            Fact::from_option(link.qdisc.clone(), || "netlink: the link has no qdisc".into())
        }),
        napi_defer_hard_irqs: tree.number(&at("napi_defer_hard_irqs")),
        gro_flush_timeout_ns: tree.number(&at("gro_flush_timeout")),
        threaded: tree.number(&at("threaded")),
        offloads: told
            .one(
                |told| &told.features,
                |features: &Features| features.ifindex,
                "ethtool features-get",
            )
            .map(|features| features.active),
        irqs: irqs::read(tree, &name, &device),
        napis: told
            .all(|told| &told.napis, |napi| napi.ifindex)
            .map(|napis| napis.iter().map(nic_napi).collect()),
        kind: told.link().map(|link| link.kind.clone()),
        queues,
        device,
        ifindex,
        name,
    }
}

/// The loopback and other simple drivers never set a state, which the kernel calls unknown.
fn state(text: &str) -> Result<String, String> {
    match text {
        "unknown" => Err("the driver reports no state".into()),
        state => Ok(state.to_owned()),
    }
}

/// Drivers say -1 (also as an unsigned number) when they do not know.
fn speed(text: &str) -> Result<u32, String> {
    match text.trim() {
        "-1" | "4294967295" => Err("the driver reports -1, which means unknown".into()),
        text => text.parse().map_err(|_| format!("{} is no speed", excerpt(text))),
    }
}

/// The node of the device or of the nearest one above it that has a node.
fn numa_node(tree: &Tree, device: &str) -> Fact<u32> {
    let mut place = device;
    let mut nearest = None;
    for _ in 0..DEVICE_LEVELS_MAX {
        match tree.number::<i64>(&join(place, "numa_node")) {
            Fact::Known(-1) => {
                return Fact::unknown(format!("{place}/numa_node: -1, the firmware names no node"));
            }
            Fact::Known(node) => {
                return Fact::from_option(u32::try_from(node).ok(), || {
                    format!("{place}/numa_node: {node} is no node")
                });
            }
            Fact::Unknown { unknown } => nearest.get_or_insert(unknown),
        };
        match place.rsplit_once('/') {
            Some((above, _)) if above.starts_with("/sys/devices/") => place = above,
            _ => break,
        }
    }
    Fact::unknown(nearest.unwrap_or_else(|| format!("{device}: no numa_node here or above")))
}

fn queues(tree: &Tree, place: &str, told: &Told<'_>) -> Fact<Vec<NicQueue>> {
    let place = join(place, "queues");
    tree.names(&place, false, |name| queue_number(name).is_some()).map(|names| {
        let numbers = names.iter().filter_map(|name| queue_number(name));
        numbers.map(|(direction, index)| queue(tree, &place, direction, index, told)).collect()
    })
}

fn queue_number(name: &str) -> Option<(Direction, u32)> {
    let (direction, index) = name.split_once('-')?;
    let index = index.parse().ok()?;
    match direction {
        "rx" => Some((Direction::Rx, index)),
        "tx" => Some((Direction::Tx, index)),
        _ => None,
    }
}

fn queue(tree: &Tree, place: &str, direction: Direction, index: u32, told: &Told<'_>) -> NicQueue {
    let receives = direction == Direction::Rx;
    let place = join(place, format!("{}-{index}", if receives { "rx" } else { "tx" }));
    let napi_id = told.all(|told| &told.queues, |queue| queue.ifindex).and_then(|queues| {
        let same = |queue: &&Queue| queue.direction == direction && queue.index == index;
        match queues.iter().find(same) {
            None => Fact::unknown("netlink netdev queue-get: it lists no such queue"),
            Some(queue) => Fact::from_option(queue.napi_id, || {
                "netlink netdev queue-get: the driver names no NAPI instance for the queue".into()
            }),
        }
    });
    NicQueue {
        direction,
        index,
        rps_cpus: receives.then(|| tree.cpu_mask(&join(&place, "rps_cpus"))),
        rps_flow_count: receives.then(|| tree.number(&join(&place, "rps_flow_cnt"))),
        xps_cpus: (!receives).then(|| tree.cpu_mask(&join(&place, "xps_cpus"))),
        napi_id,
    }
}

fn nic_napi(napi: &Napi) -> NicNapi {
    fn told<T>(value: Option<T>, name: &str) -> Fact<T> {
        Fact::from_option(value, || {
            format!("netlink netdev napi-get: the kernel or the driver tells no {name}")
        })
    }
    NicNapi {
        id: napi.id,
        irq: told(napi.irq, "irq"),
        thread_pid: match (napi.pid, napi.threaded) {
            (None, Some(0)) => Fact::Known(None),
            (pid, _) => told(pid, "pid").map(Some),
        },
        defer_hard_irqs: told(napi.defer_hard_irqs, "defer-hard-irqs"),
        gro_flush_timeout_ns: told(napi.gro_flush_timeout_ns, "gro-flush-timeout"),
        irq_suspend_timeout_ns: told(napi.irq_suspend_timeout_ns, "irq-suspend-timeout"),
        threaded: told(napi.threaded, "threaded"),
    }
}

/// What netlink told about one interface.
struct Told<'a> {
    answers: Fact<&'a Answers>,
    link: Fact<&'a Link>,
    ifindex: u32,
}

impl<'a> Told<'a> {
    /// All answers are unknown unless netlink knows `name` under the same index.
    fn new(answers: &'a Fact<Answers>, name: &str, ifindex: &Fact<u32>) -> Self {
        let answers = ifindex.as_ref().and_then(|_| answers.as_ref());
        let index = ifindex.known().copied().unwrap_or(0);
        let link = answers.as_ref().and_then(|answers| answers.links.as_ref()).and_then(|links| {
            let same = |link: &&Link| link.ifindex == index && link.name == name;
            Fact::from_option(links.iter().find(same), || {
                format!(
                    "netlink: it knows no interface {name} with index {index}, so /sys shows \
                     another network namespace"
                )
            })
        });
        let answers = link.as_ref().and_then(|_| answers);
        Self { answers, link, ifindex: index }
    }

    fn link(&self) -> Fact<&'a Link> {
        self.link.as_ref().map(|link| *link)
    }

    /// The records of this interface.
    fn all<T: Clone + 'a>(
        &self,
        records: impl FnOnce(&'a Answers) -> &'a Fact<Vec<T>>,
        ifindex: impl Fn(&T) -> u32,
    ) -> Fact<Vec<T>> {
        let list = self.answers.as_ref().and_then(|answers| records(answers).as_ref());
        list.map(|list| {
            list.iter().filter(|record| ifindex(record) == self.ifindex).cloned().collect()
        })
    }

    /// The only record of this interface.
    fn one<T: Clone + 'a>(
        &self,
        records: impl FnOnce(&'a Answers) -> &'a Fact<Vec<T>>,
        ifindex: impl Fn(&T) -> u32,
        question: &str,
    ) -> Fact<T> {
        self.all(records, ifindex).and_then(|records| {
            Fact::from_option(records.into_iter().next(), || {
                format!("netlink {question}: it has no record of this interface")
            })
        })
    }
}
