//! What only netlink tells about network interfaces, as plain records.
//!
//! Above: `tree` asks once for the live machine, `recorded` keeps the records in JSON,
//! `inspect::nics` joins them to the interfaces of /sys. Below: netlink-bindings and
//! netlink-socket2, named in `ask` below and nowhere else.
//! Absent: no request that changes anything, no ioctl.
//! Bound: `RECORDS_MAX` records per question; the whole exchange is given `PATIENCE`.

use serde::{Deserialize, Serialize};

use crate::fact::Fact;

/// The answers to all questions. A question that failed has its own reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answers {
    /// Interfaces, by rtnetlink.
    pub(crate) links: Fact<Vec<Link>>,
    /// NAPI instances, by generic netlink `netdev`.
    pub(crate) napis: Fact<Vec<Napi>>,
    /// Queues and the NAPI instance that serves each, by generic netlink `netdev`.
    pub(crate) queues: Fact<Vec<Queue>>,
    /// Numbers of channels, by generic netlink `ethtool`.
    pub(crate) channels: Fact<Vec<Channels>>,
    /// Offloads that are on, by generic netlink `ethtool`.
    pub(crate) features: Fact<Vec<Features>>,
}

/// One interface as rtnetlink sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) ifindex: u32,
    pub(crate) name: String,
    /// Queueing discipline at the root.
    pub(crate) qdisc: Option<String>,
    /// Kind of a virtual interface, such as `veth`; hardware has none.
    pub(crate) kind: Option<String>,
}

/// One NAPI instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Napi {
    pub(crate) ifindex: u32,
    pub(crate) id: u32,
    pub(crate) irq: Option<u32>,
    /// Process id of the kernel thread, when NAPI is threaded.
    pub(crate) pid: Option<u32>,
    pub(crate) defer_hard_irqs: Option<u32>,
    pub(crate) gro_flush_timeout_ns: Option<u64>,
    pub(crate) irq_suspend_timeout_ns: Option<u64>,
    /// 0 not threaded, 1 threaded, 2 threaded and busy polling.
    pub(crate) threaded: Option<u32>,
}

/// Which way a queue's packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Direction {
    Rx,
    Tx,
}

/// One queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Queue {
    pub(crate) ifindex: u32,
    pub(crate) direction: Direction,
    pub(crate) index: u32,
    pub(crate) napi_id: Option<u32>,
}

/// How many channels an interface uses and could use; what a driver lacks is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Channels {
    pub(crate) ifindex: u32,
    pub(crate) rx: Option<u32>,
    pub(crate) rx_max: Option<u32>,
    pub(crate) tx: Option<u32>,
    pub(crate) tx_max: Option<u32>,
    pub(crate) combined: Option<u32>,
    pub(crate) combined_max: Option<u32>,
}

/// The offloads that are on, by the kernel's names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Features {
    pub(crate) ifindex: u32,
    pub(crate) active: Vec<String>,
}

/// Asks netlink of the live machine.
#[cfg(target_os = "linux")]
pub(crate) fn ask() -> Fact<Answers> {
    questions::ask_with_patience()
}

/// There is no netlink off Linux.
#[cfg(not(target_os = "linux"))]
pub(crate) fn ask() -> Fact<Answers> {
    Fact::unknown("netlink: this is not Linux")
}

#[cfg(target_os = "linux")]
mod questions {
    use std::ffi::CStr;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use netlink_bindings::traits::NetlinkRequest;
    use netlink_bindings::{ethtool, netdev, rt_link};
    use netlink_socket2::NetlinkSocket;

    use super::{Answers, Channels, Direction, Fact, Features, Link, Napi, Queue};

    /// The kernel answers at once; a filter that swallows answers must not hang the tool.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// ETHTOOL_MSG_FEATURES_GET of the kernel's ethtool_netlink.h. netlink-bindings 0.3.5 counts
    /// notifications among the requests and so has wrong numbers for this family.
    const FEATURES_GET: u8 = 11;

    /// ETHTOOL_MSG_CHANNELS_GET, likewise.
    const CHANNELS_GET: u8 = 17;

    /// Records accepted in one answer; a host with more gets an unknown fact instead.
    const RECORDS_MAX: usize = 65_536;

    /// Asks on a thread of its own, so that a hanging or panicking answer costs only facts.
    pub(super) fn ask_with_patience() -> Fact<Answers> {
        let (sender, receiver) = mpsc::channel();
        let asking = thread::Builder::new().name("netlink".into()).spawn(move || {
            // The receiver may have lost patience: then nobody wants the answers.
            let _ = sender.send(ask_all());
        });
        if let Err(error) = asking {
            return Fact::unknown(format!("netlink: no thread to ask on: {error}"));
        }
        match receiver.recv_timeout(PATIENCE) {
            Ok(answers) => Fact::Known(answers),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Fact::unknown(format!("netlink: no answer within {} s", PATIENCE.as_secs()))
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                Fact::unknown("netlink: an answer could not be read")
            }
        }
    }

    fn ask_all() -> Answers {
        let mut socket = NetlinkSocket::new();
        Answers {
            links: links(&mut socket),
            napis: napis(&mut socket),
            queues: queues(&mut socket),
            channels: channels(&mut socket),
            features: features(&mut socket),
        }
    }

    /// Sends one dump request and reads every reply; `read` skips a reply by `None`.
    fn dump<Request: NetlinkRequest, T>(
        socket: &mut NetlinkSocket,
        question: &str,
        request: &Request,
        read: impl Fn(Request::ReplyType<'_>) -> Option<T>,
    ) -> Fact<Vec<T>> {
        let failed = |error: &std::io::Error| {
            let words = crate::words::error_words(error);
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound => " (this kernel lacks the netlink family)",
                _ => "",
            };
            Fact::unknown(format!("netlink {question}: {words}{hint}"))
        };
        let mut replies = match socket.request(request) {
            Ok(replies) => replies,
            Err(error) => return failed(&error),
        };
        let mut records = Vec::new();
        while let Some(reply) = replies.recv() {
            match reply {
                Ok(reply) => records.extend(read(reply)),
                Err(error) => return failed(error.as_io_error()),
            }
            if records.len() > RECORDS_MAX {
                return Fact::unknown(format!("netlink {question}: over {RECORDS_MAX} records"));
            }
        }
        Fact::Known(records)
    }

    fn links(socket: &mut NetlinkSocket) -> Fact<Vec<Link>> {
        let request = rt_link::Request::new().op_getlink_dump(&rt_link::Ifinfomsg::new());
        dump(socket, "rt-link getlink", &request, |(header, link)| {
            Some(Link {
                ifindex: u32::try_from(header.ifi_index).ok()?,
                name: words(link.get_ifname().ok()?),
                qdisc: link.get_qdisc().ok().map(words),
                kind: link.get_linkinfo().ok().and_then(|info| info.get_kind().ok()).map(words),
            })
        })
    }

    fn napis(socket: &mut NetlinkSocket) -> Fact<Vec<Napi>> {
        let request = netdev::Request::new().op_napi_get_dump();
        dump(socket, "netdev napi-get", &request, |napi| {
            Some(Napi {
                ifindex: napi.get_ifindex().ok()?,
                id: napi.get_id().ok()?,
                irq: napi.get_irq().ok(),
                pid: napi.get_pid().ok(),
                defer_hard_irqs: napi.get_defer_hard_irqs().ok(),
                gro_flush_timeout_ns: napi.get_gro_flush_timeout().ok().map(u64::from),
                irq_suspend_timeout_ns: napi.get_irq_suspend_timeout().ok().map(u64::from),
                threaded: napi.get_threaded().ok(),
            })
        })
    }

    fn queues(socket: &mut NetlinkSocket) -> Fact<Vec<Queue>> {
        let request = netdev::Request::new().op_queue_get_dump();
        dump(socket, "netdev queue-get", &request, |queue| {
            let direction = match netdev::QueueType::from_value(queue.get_type().ok()?.into())? {
                netdev::QueueType::Rx => Direction::Rx,
                netdev::QueueType::Tx => Direction::Tx,
            };
            Some(Queue {
                ifindex: queue.get_ifindex().ok()?,
                direction,
                index: queue.get_id().ok()?,
                napi_id: queue.get_napi_id().ok(),
            })
        })
    }

    fn channels(socket: &mut NetlinkSocket) -> Fact<Vec<Channels>> {
        let mut request = ethtool::Request::new().op_channels_get_dump();
        request.header_mut().cmd = CHANNELS_GET;
        dump(socket, "ethtool channels-get", &request, |channels| {
            Some(Channels {
                ifindex: channels.get_header().ok()?.get_dev_index().ok()?,
                rx: channels.get_rx_count().ok(),
                rx_max: channels.get_rx_max().ok(),
                tx: channels.get_tx_count().ok(),
                tx_max: channels.get_tx_max().ok(),
                combined: channels.get_combined_count().ok(),
                combined_max: channels.get_combined_max().ok(),
            })
        })
    }

    fn features(socket: &mut NetlinkSocket) -> Fact<Vec<Features>> {
        let mut request = ethtool::Request::new().op_features_get_dump();
        request.header_mut().cmd = FEATURES_GET;
        dump(socket, "ethtool features-get", &request, |features| {
            let active = features.get_active().ok()?.get_bits().ok()?;
            let mut active: Vec<String> =
                active.get_bit().filter_map(|bit| bit.get_name().ok().map(words)).collect();
            active.sort();
            Some(Features { ifindex: features.get_header().ok()?.get_dev_index().ok()?, active })
        })
    }

    fn words(text: &CStr) -> String {
        text.to_string_lossy().into_owned()
    }
}
