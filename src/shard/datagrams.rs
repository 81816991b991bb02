//! Datagrams: sockets on which every packet is a Message, one for whoever sends, or one to a peer.
//!
//! Above: the turn. Below: trains that a driver received, handed over datagram by datagram from
//! where they lie; what is answered leaves in trains of its own. Absent: how trains are cut
//! (`framer::Train`), what travels beside them (`kernel`).
//! A Responder's socket keeps nothing of those who send: where an answer goes stands in the call.

use super::Shard;
use super::connection::{Peer, Phase};
use super::core::Id;
use super::lifecycle::Listening;
use super::protocol::Packing;
use crate::address::{Route, SocketAddress};
use crate::engine::operation::{Arrival, Data, Errno, Operation, Token};
use crate::lending;

impl Shard {
    /// Begins to serve a socket that anybody may send to.
    pub(super) fn serve_datagrams(&mut self, listening: Listening) {
        let core = self.core();
        let service = core.state.borrow().services.get(listening.service).cloned();
        let Some(service) = service else { return };
        let local = listening.socket.local_address();
        let at_any = |local: SocketAddress| match local {
            SocketAddress::Udp(local) => local.ip().is_unspecified(),
            _ => false,
        };
        let at_any_address = local.is_ok_and(at_any);
        let id = core.allocate(Phase::Open);
        let token = self.token(id);
        let opened = core.open(&*service, id);
        // Just allocated.
        let _ = core.change(id, |connection| {
            connection.attached = true;
            connection.peer = Peer::Anybody;
            connection.rare().at_any_address = at_any_address;
            let flags = &mut connection.flags;
            (flags.accepted, flags.greeted, flags.datagrams) = (true, true, true);
        });
        self.driver.submit(Operation::Attach { token, socket: listening.socket });
        match opened {
            Ok(mut protocol) => {
                protocol.takes_datagrams();
                let _ = core.change(id, |connection| connection.protocol = Some(protocol));
            }
            Err(reason) => {
                let _ = core.change(id, |connection| {
                    connection.reason = Some(reason);
                    connection.phase = Phase::Closing;
                });
                self.driver.submit(Operation::Close { token, reset: false });
            }
        }
    }

    /// A connect has come about: if it is to a socket of datagrams, Messages become such.
    pub(super) fn begin_datagrams(&mut self, id: Id) {
        if self.core.look(id, |connection| connection.flags.datagrams) != Ok(true) {
            return;
        }
        self.measure_datagrams(id);
        let _ = self.core.call(id, |protocol, _| protocol.takes_datagrams());
    }

    fn measure_datagrams(&mut self, id: Id) {
        let bytes_max = self.driver.datagram_bytes_max(self.token(id));
        // In use: the driver has just reported on it.
        let _ = self.core.change(id, |connection| {
            connection.rare().datagram_bytes_max = bytes_max;
            connection.flags.greeted = true;
        });
    }

    pub(super) fn ask_for_datagrams(&mut self, id: Id) {
        // The caller has just looked at it.
        let _ = self.core.change(id, |connection| connection.flags.receiving = true);
        self.driver.submit(Operation::ReceiveDatagrams { token: self.token(id) });
    }

    /// Hands the datagrams of one train over.
    pub(super) fn datagrams(&mut self, token: Token, data: Data, arrival: Arrival) {
        let id = self.id(token);
        let core = self.core();
        let metrics = &core.metrics;
        metrics.received_bytes.add(data.len as u64);
        if arrival.dropped > 0 {
            self.count_drops(id, arrival.dropped);
        }
        if arrival.truncated {
            metrics.truncated_datagrams.add(1);
            return self.driver.release(data);
        }
        let taken = {
            let mut state = core.state.borrow_mut();
            let connection = &mut state.slots[token.slot as usize];
            connection.clocks.last_activity = core.now_ms();
            let answers = match (connection.peer, arrival.from) {
                (Peer::Anybody, Some(from)) => {
                    let rare = connection.rare.as_ref();
                    let at_any = rare.is_some_and(|rare| rare.at_any_address);
                    let local = from.local.filter(|_| at_any);
                    Some(Packing::To(Route { local, ..from }))
                }
                _ => None,
            };
            let unwanted = connection.flags.discarding || connection.generation != token.generation;
            let taken = if unwanted { None } else { state.take(token.slot).ok() };
            taken.map(|mut taken| {
                taken.packing = answers.unwrap_or(taken.packing);
                taken
            })
        };
        if let Some(taken) = taken {
            let bytes = self.driver.bytes(&data);
            lending::lend_buffer(self.driver.whole(&data), data.leasable.then_some(data.buffer));
            let segment = arrival.segment.map_or(bytes.len(), usize::from).max(1);
            let handed = core.call_taken(
                id,
                taken,
                |protocol, call| match bytes.is_empty() {
                    true => protocol.datagram(call, bytes),
                    false => bytes.chunks(segment).for_each(|one| protocol.datagram(call, one)),
                },
                |_, ()| {},
            );
            lending::take_back();
            if handed.is_ok() {
                self.after_datagrams(id);
            }
        }
        self.driver.release(data);
        self.watch(id);
    }

    /// What nobody takes any more stays with the kernel.
    fn after_datagrams(&mut self, id: Id) {
        let stops = self.core.look(id, |connection| {
            let wants =
                |protocol: &Box<dyn super::protocol::Protocol>| protocol.wants_input(&self.core);
            let flags = &connection.flags;
            flags.receiving && !flags.stopping && !connection.protocol.as_ref().is_some_and(wants)
        });
        if stops == Ok(true) {
            // In use, as just seen.
            let _ = self.core.change(id, |connection| connection.flags.stopping = true);
            self.driver.submit(Operation::StopReceive { token: self.token(id) });
        }
    }

    /// The kernel counts the drops of a socket from its beginning.
    fn count_drops(&self, id: Id, dropped: u32) {
        let before = self
            .core
            .change(id, |connection| std::mem::replace(&mut connection.rare().dropped, dropped));
        let new = before.map_or(0, |before| dropped.wrapping_sub(before));
        self.core.metrics.kernel_drops.add(u64::from(new));
    }

    /// Some datagrams of an output could not leave. True if that ends the connection.
    pub(super) fn could_not_leave(&mut self, id: Id, errno: Errno) -> bool {
        let peer = self.core.change(id, |connection| {
            connection.unsent = 0;
            let handed = connection.left();
            if let Some(outgoing) = &mut connection.outgoing {
                outgoing.may_have_left(handed);
            }
            connection.peer
        });
        if self.core.may_log() {
            let error = errno.to_io();
            tracing::debug!(slot = id.slot, %error, "datagrams could not leave");
        }
        if matches!(peer, Ok(Peer::Anybody)) {
            // One of many peers.
            return false;
        }
        if errno.is_of_one_datagram() {
            // Perhaps the path carries less than it did.
            self.measure_datagrams(id);
            return false;
        }
        self.core.fail(id, super::input::reason_of(errno));
        true
    }
}
