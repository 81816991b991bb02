//! Supports: what the stack under a Carrier can do, so that nothing it cannot do is silent (draft
//! §2.1, §2.2: "not all stacks will support all of these events").
//!
//! Above: applications ask before they rely on it. Below: the kind of socket, the framer and the
//! configuration decide. Absent: how any of it is done.

use std::rc::Rc;

use super::here::endpoint_of;
use super::promise::Promise;
use super::{Asked, CarrierRef};
use crate::address::Address;
use crate::framer::Framer;
use crate::shard::connection::Peer;
use crate::shard::core::{CallError, Core, Id};

/// Who says that an event has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reporter {
    /// The receiving Carrier: the Message is with the remote application or in its queue.
    Receiver,
    /// The transport: this host's for what leaves, the peer's kernel for what is acknowledged.
    Transport,
    /// Nobody: the event never comes.
    None,
}

/// What the stack under a Carrier can do: [`CarrierRef::supports`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Supports {
    /// Who says that a Message was sent. TCP and unix sockets: the kernel has taken its last byte.
    /// UDP: the kernel has taken the datagram, which says nothing of its arrival.
    pub sent: Reporter,
    /// Who says that the peer has it. TCP: the peer's kernel, not its application. Unix sockets and
    /// UDP: nobody.
    pub acked: Reporter,
    /// Who says that it expired. This side's queue; what has left cannot expire on a byte stream.
    pub expired: Reporter,
    /// Niceness changes the order of sending. Not on a byte stream where the framer's Messages do
    /// not stand alone ([`Framer::STANDS_ALONE`]); datagrams always do.
    pub niceness: bool,
    /// A lifetime orders sending and discards what waits too long; as `niceness`.
    pub lifetime: bool,
    /// A Message that has expired can be dropped after its first byte has left. A byte stream
    /// delivers it all the same.
    pub lifetime_under_way: bool,
    /// Antecedents are waited for.
    pub antecedents: bool,
    /// A large Message makes way for an urgent one after it was begun.
    pub interleaving: bool,
    /// Unordered Messages overtake lost ones.
    pub unordered: bool,
    /// Unreliable Messages are not sent again when they are lost.
    pub unreliable: bool,
    /// Idempotent Messages leave before the handshake is over (0-RTT).
    pub early_data: bool,
    /// A lost connection is made again ([`CarrierState::Dormant`](crate::CarrierState)). Not on an
    /// accepted Carrier, nor where the framer cannot begin anew ([`Framer::RESTARTABLE`]), nor of
    /// datagrams, which have none.
    pub revival: bool,
    /// [`CarrierRef::fork`] makes another Carrier to the same remote.
    pub fork: bool,
    /// Forks share one connection, and the peer's Carrier hears of each as a fork request that it
    /// accepts or refuses ([`Acceptor`](crate::Acceptor)). Elsewhere a fork reaches the peer's
    /// Listener as any other connection does.
    pub fork_requests: bool,
    /// Packets carry a DSCP code point of the most urgent class in use, those of datagrams of their
    /// own class ([`EngineBuilder::traffic_classes`](crate::EngineBuilder::traffic_classes)).
    pub traffic_class: bool,
    /// Lifetimes are signalled to path elements (draft §2.2).
    pub path_signalling: bool,
    /// A part of the path's rate can be reserved (draft §2.8).
    pub reserved_rate: bool,
}

impl<F: Framer> CarrierRef<F> {
    /// What the Carrier's stack can do. Known before a connection was made: the address says it.
    /// An error only where the Carrier or its engine is gone.
    pub fn supports(&self) -> Asked<Supports> {
        self.ask(supports_here::<F>)
    }
}

fn supports_here<F: Framer>(core: &Rc<Core>, id: Id, promise: Promise<Supports>) {
    let about = core.call(id, |protocol, _| {
        let endpoint = endpoint_of::<F>(protocol)?;
        let address = endpoint.address().and_then(|address| address.as_ref().ok());
        let goes_to_unix = address.is_some_and(Address::is_unix);
        let is_datagram = address.is_some_and(Address::is_datagram);
        Ok((goes_to_unix, is_datagram, endpoint.is_revivable()))
    });
    let stack = core.look(id, |connection| {
        let flags = &connection.flags;
        (connection.peer, flags.accepted, flags.datagrams)
    });
    match (about, stack) {
        (Ok(Ok((goes_to_unix, goes_to_udp, revivable))), Ok((peer, accepted, datagrams_come))) => {
            let is_unix = goes_to_unix || peer == Peer::Unix;
            let streams = stream::<F>(core, is_unix, accepted, revivable);
            let is_datagram = goes_to_udp || datagrams_come;
            promise.answer(Ok(if is_datagram { datagrams(streams) } else { streams }));
        }
        (Ok(Err(error)), _) => promise.answer(Err(error)),
        (Err(CallError::InCall), _) | (_, Err(CallError::InCall)) => {
            core.defer(move |core| supports_here::<F>(core, id, promise));
        }
        (Err(CallError::Gone(reason)), _) | (_, Err(CallError::Gone(reason))) => {
            promise.answer(Err(reason.into()));
        }
    }
}

/// What datagrams can do where a byte stream of the kernel could do `streams`.
fn datagrams(streams: Supports) -> Supports {
    Supports {
        acked: Reporter::None,
        niceness: true,
        lifetime: true,
        unordered: true,
        unreliable: true,
        early_data: true,
        ..streams
    }
}

/// What a byte stream of the kernel can do.
fn stream<F: Framer>(core: &Core, is_unix: bool, accepted: bool, revivable: bool) -> Supports {
    Supports {
        sent: Reporter::Transport,
        acked: if is_unix { Reporter::None } else { Reporter::Transport },
        expired: Reporter::Transport,
        niceness: F::STANDS_ALONE,
        lifetime: F::STANDS_ALONE,
        lifetime_under_way: false,
        antecedents: true,
        interleaving: false,
        unordered: false,
        unreliable: false,
        early_data: false,
        revival: revivable,
        fork: !accepted,
        fork_requests: false,
        traffic_class: !is_unix && core.traffic_classes.get().is_some(),
        path_signalling: false,
        reserved_rate: false,
    }
}
