//! Connection: one slot of a shard, from the first thought of it to its last completion.
//!
//! Above: `shard` reads bytes into it and settles what it needs next. Below: plain data. Absent:
//! system calls; what the bytes mean. Bound: an idle connection is this slot and its protocol.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::core::Id;
use super::outgoing::Outgoing;
use super::protocol::{Packing, Protocol, Service};
use super::remotes::Remotes;
use super::revival::Revival;
use crate::address::{Route, SocketAddress};
use crate::association::Key;
use crate::engine::operation::DATAGRAM_BYTES_MAX;
use crate::error::CloseReason;
use crate::framer::Output;

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    /// Nobody uses the slot.
    #[default]
    Free,
    /// A listening socket.
    Listening,
    /// Initiated, nothing opened yet (draft §3.2).
    Inactive,
    /// Names are being resolved.
    Resolving,
    /// A connect is under way.
    Connecting,
    /// Bytes can flow.
    Open,
    /// The connection was lost; it is made again when there is something to do.
    Dormant,
    /// The driver is closing the socket.
    Closing,
    /// The socket is gone; the application still holds the Carrier.
    Closed,
}

/// One slot. What every message touches lies in front and together: with a thousand connections
/// each cache line is one more to fetch.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct Connection {
    pub(crate) generation: u32,
    pub(crate) phase: Phase,
    /// Whether the driver owns a socket for it.
    pub(crate) attached: bool,
    pub(crate) flags: Flags,
    pub(crate) protocol: Option<Box<dyn Protocol>>,
    pub(crate) outbox: Option<Box<Output>>,
    /// The exact buffer of a large message, or what is known of it while the driver has it.
    pub(crate) gather: Option<Box<Gather>>,
    /// Messages that ask for an order or for word of them go this way.
    pub(crate) outgoing: Option<Box<Outgoing>>,
    pub(crate) clocks: Clocks,
    /// Bytes that are no whole message yet, or that nobody wants yet.
    pub(crate) pending: Vec<u8>,
    /// Bytes of the output under way that have not left.
    pub(crate) unsent: usize,
    /// Bytes handed to the driver in all: positions in the stream count from here.
    pub(crate) handed: u64,
    /// Why it ends, once that is decided.
    pub(crate) reason: Option<CloseReason>,
    pub(crate) peer: Peer,
    /// Length of the last large message; 0 after small ones.
    pub(crate) large: u32,
    /// Bytes thrown away since the end was decided.
    pub(crate) discarded: u32,
    pub(crate) rare: Option<Box<Rare>>,
}

/// What only listeners, initiated and marked connections have.
#[derive(Default)]
pub(crate) struct Rare {
    pub(crate) service: Option<Rc<dyn Service>>,
    /// The service's number, the same on every core.
    pub(crate) service_number: usize,
    /// One core accepts for all: connections are dealt out to the least loaded core.
    pub(crate) deals_out: bool,
    /// Addresses still to try, best first.
    pub(crate) candidates: Vec<SocketAddress>,
    /// What the resolver said, if it found no address.
    pub(crate) unresolved: Option<String>,
    /// The identity under which another thread initiated it.
    pub(crate) ticket: u32,
    /// It may be made again when it is lost.
    pub(crate) revival: Option<Box<Revival>>,
    /// The Association it belongs to; that of an accepted one is found out when somebody asks.
    pub(crate) association: Option<Arc<Key>>,
    /// The longest datagram that its path carries, as far as that is known.
    pub(crate) datagram_bytes_max: Option<u32>,
    /// Where anybody sends datagrams to. At any address of this host, answers go from the one that
    /// they came to.
    pub(crate) own: Option<SocketAddr>,
    /// Datagrams that the kernel has dropped on it.
    pub(crate) dropped: u32,
    /// The Carriers of those who send to this socket, if each has one.
    pub(crate) remotes: Option<Remotes>,
    /// The socket by which this Carrier sends and is sent to, if it is another's.
    pub(crate) hub: Option<Id>,
    /// Where its datagrams go, if its socket is not connected.
    pub(crate) to: Option<Route>,
    /// Nobody will receive by it.
    pub(crate) only_sends: bool,
    /// The most urgent class that its packets were marked for, where packets are marked.
    pub(crate) marked_niceness: Option<u32>,
}

/// A large message under way.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    pub(crate) buffer: Vec<u8>,
    /// Bytes of the message in all; 0 if it is only expected to be large.
    pub(crate) needs: usize,
}

impl Gather {
    /// Its buffer begins with at most this many bytes and doubles as they come.
    pub(super) const STEP_BYTES: usize = 1 << 20;

    /// How large the buffer of a message of `needs` bytes is to be when `len` bytes of it have
    /// come: a peer that only claims a length costs no memory.
    pub(super) fn capacity(len: usize, needs: usize) -> usize {
        needs.min(Self::STEP_BYTES.max(len.saturating_mul(2)))
    }
}

/// Times in milliseconds since the core began; 0 is "not".
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clocks {
    pub(crate) opened: u32,
    pub(crate) last_activity: u32,
    pub(crate) message_begun: u32,
    pub(crate) send_begun: u32,
    pub(crate) ended: u32,
    /// When the wheel looks at it next.
    pub(crate) check: u32,
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Peer {
    /// Not known (yet).
    #[default]
    Unknown,
    /// A unix socket.
    Unix,
    /// An IP peer.
    Ip(SocketAddr),
    /// Whoever sends a datagram to this socket.
    Anybody,
}

/// The yes-or-no state of a slot. Separate booleans of one byte: their names are the documentation.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flags {
    /// A pool receive is with the driver.
    pub(crate) receiving: bool,
    /// An exact receive is with the driver.
    pub(crate) gathering: bool,
    /// Its end was asked for.
    pub(crate) stopping: bool,
    /// An accept is with the driver.
    pub(crate) accepting: bool,
    /// A send is with the driver.
    pub(crate) sending: bool,
    /// The peer has ended its direction.
    pub(crate) input_ended: bool,
    /// The protocol was told so.
    pub(crate) input_end_told: bool,
    /// This side is to end after the outbox.
    pub(crate) end_wanted: bool,
    /// This side has ended its direction.
    pub(crate) output_ended: bool,
    /// No receive before the outbox falls or somebody wants a message.
    pub(crate) paused: bool,
    /// Received bytes are thrown away: the end was decided.
    pub(crate) discarding: bool,
    /// It stands in the list of slots to settle.
    pub(crate) attended: bool,
    /// A `Carrier` owns it.
    pub(crate) owned: bool,
    /// A Sink holds it: it goes on receiving after this side has ended.
    pub(crate) sink: bool,
    /// A first message has come.
    pub(crate) greeted: bool,
    /// The protocol was told that it is over.
    pub(crate) close_told: bool,
    /// Counted in the table of peer prefixes.
    pub(crate) counted: bool,
    /// The peer shall see a reset.
    pub(crate) reset: bool,
    /// It was accepted, not initiated.
    pub(crate) accepted: bool,
    /// Senders wait for room in the outbox.
    pub(crate) wants_room: bool,
    /// A failed accept waits for the clock.
    pub(crate) backing_off: bool,
    /// What it carries are datagrams, each a Message.
    pub(crate) datagrams: bool,
}

impl Connection {
    /// Bytes that are to be sent next.
    #[inline]
    pub(crate) fn queued(&self) -> usize {
        self.outbox.as_ref().map_or(0, |output| output.len())
    }

    /// True if something is to be sent next, be it a datagram without a byte.
    #[inline]
    pub(crate) fn has_queued(&self) -> bool {
        self.outbox.as_ref().is_some_and(|output| !output.is_empty())
    }

    /// How Messages that are sent now become packets.
    #[inline]
    pub(crate) fn packing(&self) -> Packing {
        if !self.flags.datagrams {
            return Packing::Stream;
        }
        let rare = self.rare.as_ref();
        match (self.peer, rare.and_then(|rare| rare.to)) {
            (Peer::Anybody, _) => Packing::Nowhere,
            (_, Some(route)) => Packing::To(route),
            _ => {
                let known = rare.and_then(|rare| rare.datagram_bytes_max);
                Packing::Connected { bytes_max: known.unwrap_or(DATAGRAM_BYTES_MAX) }
            }
        }
    }

    /// True if all it waits for is the kernel: bytes can come, nothing is to be sent, nothing has
    /// ended. Then there is nothing to settle, which is what it mostly is.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        let flags = &self.flags;
        let ends = flags.input_ended | flags.end_wanted | flags.output_ended | flags.reset;
        let pauses = flags.paused | flags.discarding;
        self.phase == Phase::Open
            && flags.receiving
            && !(ends | pauses)
            && self.gather.is_none()
            && self.outgoing.is_none()
            && !self.has_queued()
    }

    /// Bytes that wait in all, those that wait for their turn included.
    pub(crate) fn waiting(&self) -> usize {
        self.queued() + self.outgoing.as_ref().map_or(0, |outgoing| outgoing.queued_bytes())
    }

    /// What waits takes up so much: it is this that has a limit.
    pub(crate) fn backlog(&self) -> usize {
        let queued = self.outbox.as_ref().map_or(0, |output| output.held_bytes());
        queued + self.outgoing.as_ref().map_or(0, |outgoing| outgoing.queued_bytes())
    }

    /// True if it serves anybody and its answers do not leave as fast as they are asked for: then
    /// what comes finds no place, for nobody could be told to wait.
    pub(crate) fn is_overrun(&self, limit: usize) -> bool {
        self.peer == Peer::Anybody && self.flags.sending && self.backlog() >= limit
    }

    /// If what is handed to the kernel is kept short: how many bytes at a time.
    pub(crate) fn paced_quantum(&self) -> Option<u32> {
        self.outgoing.as_ref().and_then(|outgoing| outgoing.paced_quantum())
    }

    /// True if Messages wait for their turn.
    pub(crate) fn has_scheduled(&self) -> bool {
        self.outgoing.as_ref().is_some_and(|outgoing| outgoing.has_queued())
    }

    /// Bytes that have left in all.
    pub(crate) const fn left(&self) -> u64 {
        self.handed - self.unsent as u64
    }

    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Its Association, if that is known.
    pub(crate) fn association(&self) -> Option<&Arc<Key>> {
        self.rare.as_ref()?.association.as_ref()
    }

    /// The socket by which it sends, if that is not its own.
    pub(crate) fn hub(&self) -> Option<Id> {
        self.rare.as_ref()?.hub
    }

    /// True if Carriers go on by its socket.
    pub(crate) fn has_remotes(&self) -> bool {
        let remotes = self.rare.as_ref().and_then(|rare| rare.remotes.as_ref());
        remotes.is_some_and(|remotes| !remotes.is_empty())
    }

    /// True if those who send to its socket have Carriers: then it has no protocol of its own.
    #[inline]
    pub(crate) fn serves_apart(&self) -> bool {
        self.peer == Peer::Anybody && self.protocol.is_none()
    }

    /// The Carriers that go on by its socket.
    pub(crate) fn remotes(&mut self) -> Option<&mut Remotes> {
        self.rare.as_mut()?.remotes.as_mut()
    }

    /// What was under way may have left or not.
    pub(crate) fn may_have_left(&mut self) {
        self.unsent = 0;
        let handed = self.left();
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.may_have_left(handed);
        }
    }

    /// Its service, if it listens.
    pub(crate) fn service(&self) -> Option<Rc<dyn Service>> {
        self.rare.as_ref()?.service.clone()
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_do_not_leave_are_bounded() {
        let mut connection = Connection { peer: Peer::Anybody, ..Connection::default() };
        let answer = |connection: &mut Connection, len| {
            let output = connection.outbox.get_or_insert_default();
            output.put(&vec![0; len]);
            output.end_datagram(None, None);
        };
        answer(&mut connection, 10_000);
        assert!(!connection.is_overrun(10_000), "the next send takes all that waits");
        connection.flags.sending = true;
        assert!(connection.is_overrun(10_000));
        connection.outbox = None;
        (0..1000).for_each(|_| answer(&mut connection, 0));
        assert!(connection.is_overrun(10_000), "what has no bytes counts, too");
        connection.peer = Peer::Unix;
        assert!(!connection.is_overrun(10_000), "it is made to wait by other means");
    }

    #[test]
    fn what_every_message_touches_lies_together() {
        assert_eq!(size_of::<Connection>(), 192);
        assert!(std::mem::offset_of!(Connection, pending) < 128);
    }

    #[test]
    fn a_claimed_length_costs_no_memory_before_its_bytes_come() {
        const STEP: usize = Gather::STEP_BYTES;
        assert_eq!(Gather::capacity(8, 65_540), 65_540);
        assert_eq!(Gather::capacity(8, usize::MAX), STEP);
        assert_eq!(Gather::capacity(STEP, usize::MAX), 2 * STEP);
        assert_eq!(Gather::capacity(STEP, STEP + 1), STEP + 1);
    }
}
