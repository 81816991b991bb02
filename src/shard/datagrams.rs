//! Datagrams: sockets on which every packet is a Message, one for whoever sends, or one to a peer.
//!
//! Above: the turn. Below: trains that a driver received, handed over datagram by datagram from
//! where they lie; what is answered leaves in trains of its own. Absent: how trains are cut
//! (`framer::Train`), what travels beside them (`kernel`).
//! A Responder's socket keeps nothing of those who send: where an answer goes stands in the call.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use super::call::Taken;
use super::connection::{Connection, Peer, Phase};
use super::core::{Core, Id};
use super::lifecycle::Listening;
use super::protocol::Packing;
use super::remotes::Remotes;
use super::{Shard, timeouts};
use crate::address::{Group, Route};
use crate::engine::errno::Errno;
use crate::engine::operation::{Arrival, Data, Operation, PeerError, Token};
use crate::engine::socket::Socket;
use crate::engine::socket_option::SocketOption;
use crate::lending;
use crate::message::Marking;

impl Core {
    /// True if it is the socket of a Responder of datagrams, which no one peer's verbs may end.
    pub(crate) fn serves_anybody(&self, id: Id) -> bool {
        self.look(id, |connection| connection.peer == Peer::Anybody) == Ok(true)
    }

    /// The longest datagram that may be sent to `remote`, for one of `len` bytes.
    pub(crate) fn datagram_bytes_max(&self, remote: SocketAddr, len: usize) -> u32 {
        self.path_limits.borrow_mut().bytes_max(remote, len, self.now_tick())
    }

    /// The longest datagram of a connected Carrier, which was `known` bytes: its path may have
    /// become wider since.
    #[cold]
    pub(crate) fn bytes_max_again(&self, id: Id, known: u32) -> u32 {
        let Ok(Peer::Ip(remote)) = self.look(id, |connection| connection.peer) else {
            return known;
        };
        let bytes_max = self.path_limits.borrow_mut().again(remote, known, self.now_tick());
        // In use, as just seen.
        let _ =
            self.change(id, |connection| connection.rare().datagram_bytes_max = Some(bytes_max));
        bytes_max
    }
}

/// True if a datagram claims to come from the very socket that received it, which would answer
/// itself for ever.
fn is_from_itself(from: Route, own: SocketAddr) -> bool {
    let local = || if own.ip().is_unspecified() { from.local } else { Some(own.ip()) };
    from.remote.port() == own.port()
        && local().is_some_and(|local| local.to_canonical() == from.remote.ip().to_canonical())
}

impl Shard {
    /// Begins to serve a socket that anybody may send to.
    pub(super) fn serve_datagrams(&mut self, listening: Listening) {
        let core = self.core();
        let service = core.state.borrow().services.get(listening.service).cloned();
        let Some(service) = service else { return };
        // A listener by its count, though it is open for bytes.
        let id = core.allocate(Phase::Listening);
        let token = self.token(id);
        let apart = service.serves_remotes_apart();
        // Just allocated.
        let _ = core.change(id, |connection| {
            connection.phase = Phase::Open;
            connection.attached = true;
            connection.peer = Peer::Anybody;
            let rare = connection.rare();
            rare.service = Some(Rc::clone(&service));
            rare.remotes = apart.then(Remotes::default);
            let flags = &mut connection.flags;
            (flags.accepted, flags.greeted, flags.datagrams) = (true, true, true);
        });
        self.driver.submit(Operation::Attach { token, socket: listening.socket });
        if let Some(own) = self.driver.local_address(token) {
            // Just allocated.
            let _ = core.change(id, |connection| connection.rare().own = Some(own));
        }
        self.have_all_said(token);
        if apart {
            return;
        }
        match core.open(&*service, id) {
            Ok(mut protocol) => {
                protocol.takes_datagrams();
                let _ = core.change(id, |connection| connection.protocol = Some(protocol));
            }
            Err(reason) => core.fail(id, reason),
        }
    }

    /// A connect has come about: where datagrams go, it can be known now how long they may be.
    pub(super) fn begin_datagrams(&mut self, id: Id) {
        if self.core.look(id, |connection| connection.flags.datagrams) == Ok(true) {
            let token = self.token(id);
            self.have_all_said(token);
            self.measure_datagrams(id);
        }
    }

    /// Has the kernel say of a socket's datagrams whatever is wanted beside them.
    fn have_all_said(&mut self, token: Token) {
        let times = self.core.arrival_times.get().then_some(SocketOption::ArrivalTimes);
        for option in times.into_iter().chain([SocketOption::PeerErrors]) {
            self.driver.submit(Operation::Tune { token, option });
        }
    }

    /// True if nothing will be received by it.
    pub(super) fn only_sends(&self, id: Id) -> bool {
        let only_sends = |connection: &Connection| {
            let rare = connection.rare.as_ref();
            rare.is_some_and(|rare| rare.only_sends) && !connection.flags.sink
        };
        self.core.look(id, only_sends) == Ok(true)
    }

    /// Receives what is sent to a group, whoever sends it, and sends to all of it.
    pub(super) fn join(&mut self, id: Id, group: &Group) -> std::io::Result<()> {
        let socket = Socket::joining(group)?;
        let token = self.token(id);
        // The caller has just looked at it.
        let _ = self.core.change(id, |connection| {
            connection.phase = Phase::Connecting;
            connection.attached = true;
        });
        self.driver.submit(Operation::Attach { token, socket });
        self.connected(token, Ok(()));
        Ok(())
    }

    fn measure_datagrams(&mut self, id: Id) {
        let bytes_max = self.driver.datagram_bytes_max(self.token(id));
        // In use: the driver has just reported on it.
        let before = self.core.change(id, |connection| {
            connection.flags.greeted = true;
            let before = std::mem::replace(&mut connection.rare().datagram_bytes_max, bytes_max);
            (before, connection.peer)
        });
        if let (Ok((Some(before), Peer::Ip(remote))), Some(now)) = (before, bytes_max)
            && now < before
        {
            self.core.path_limits.borrow_mut().learn(remote.ip(), now, self.core.now_tick());
        }
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
        let segment = arrival.segment.map_or(data.len, usize::from).max(1);
        let count = data.len.div_ceil(segment).max(1);
        let Some((id, taken)) = self.taker(id, &arrival) else {
            metrics.dropped_datagrams.add(count as u64);
            return self.driver.release(data);
        };
        let bytes = self.driver.bytes(&data);
        lending::lend_buffer(self.driver.whole(&data), data.leasable.then_some(data.buffer));
        let marking = Marking::from_octet(arrival.traffic_class).at(arrival.arrived_ns);
        let begun = Cell::new(0);
        let handed = core.call_taken(
            id,
            taken,
            |protocol, call| {
                for at in 0..count {
                    begun.set(at + 1);
                    let (from, until) = (at * segment, (at + 1) * segment);
                    protocol.datagram(call, &bytes[from..until.min(bytes.len())], marking);
                }
            },
            |_, ()| {},
        );
        // Those behind one on which the handler panicked.
        metrics.dropped_datagrams.add((count - begun.get()) as u64);
        lending::take_back();
        if handed.is_ok() {
            self.after_datagrams(id);
        }
        self.driver.release(data);
        self.watch(id);
    }

    /// Whose a train is, out of its slot for the call; `None` if nobody's.
    fn taker(&mut self, socket: Id, arrival: &Arrival) -> Option<(Id, Taken)> {
        let core = self.core();
        let (is_hub, own) = core
            .look(socket, |connection| {
                let rare = connection.rare.as_ref();
                let own = rare.and_then(|rare| rare.own);
                (rare.is_some_and(|rare| rare.remotes.is_some()), own)
            })
            .ok()?;
        if arrival.from.zip(own).is_some_and(|(from, own)| is_from_itself(from, own)) {
            if core.may_log() {
                tracing::debug!(?own, "dropped a datagram that claims to come from its receiver");
            }
            return None;
        }
        let at_any = own.is_some_and(|own| own.ip().is_unspecified());
        let from = arrival.from.map(|from| Route { local: from.local.filter(|_| at_any), ..from });
        let id = if is_hub { self.carrier_of(socket, from?)? } else { socket };
        let mut state = core.state.borrow_mut();
        let connection = &mut state.slots[id.slot as usize];
        connection.clocks.last_activity = core.now_ms();
        if connection.flags.discarding || connection.is_overrun(core.limits.send_queue_bytes) {
            return None;
        }
        let anybody = connection.peer == Peer::Anybody;
        let mut taken = state.take(id.slot).ok()?;
        if let Some(from) = from.filter(|_| anybody) {
            taken.packing = Packing::To(from);
        }
        Some((id, taken))
    }

    /// A peer, its path or this host has said that a datagram did not arrive. Where nobody takes
    /// any, that ends the Carrier to it, and no other one of the socket; what a path says may be
    /// over soon.
    pub(super) fn peer_failed(&mut self, token: Token, error: PeerError) {
        let PeerError { remote, errno, bytes_max } = error;
        let core = self.core();
        if core.may_log() {
            let error = errno.to_io();
            tracing::debug!(%remote, %error, bytes_max, "a datagram did not arrive");
        }
        if let Some(bytes_max) = bytes_max {
            core.path_limits.borrow_mut().learn(remote.ip(), bytes_max, core.now_tick());
        }
        let id = self.id(token);
        let find = |connection: &Connection| match connection.peer {
            Peer::Anybody => connection.rare.as_ref()?.remotes.as_ref()?.find(remote),
            _ => Some(id),
        };
        let Some(known) = core.look(id, find).ok().flatten() else { return };
        if errno == Errno::CONNECTION_REFUSED {
            core.fail(known, super::input::reason_of(errno));
        } else if bytes_max.is_some() && known == id {
            self.measure_datagrams(id);
        }
    }

    /// The receive of a socket has failed. False if that ends nothing: what is said of one datagram
    /// that was sent, and what a socket met with that serves many.
    pub(super) fn ends_receiving(&mut self, id: Id, errno: Errno) -> bool {
        let kind = |connection: &Connection| (connection.flags.datagrams, connection.peer);
        match self.core.look(id, kind) {
            // Which one said so is lost where the socket's queue had no room for it.
            Ok((true, Peer::Anybody)) if errno.is_of_one_peer() => false,
            Ok((true, Peer::Anybody)) => {
                if self.core.may_log() {
                    let error = errno.to_io();
                    tracing::warn!(%error, "receiving datagrams failed; trying again shortly");
                }
                // In use, as just seen.
                let _ = self.core.change(id, |connection| connection.flags.backing_off = true);
                timeouts::check_after(&self.core, id, timeouts::ACCEPT_AGAIN);
                false
            }
            // What a path says may be over soon.
            Ok((true, _))
                if errno.is_of_one_datagram()
                    || (errno.is_of_one_peer() && errno != Errno::CONNECTION_REFUSED) =>
            {
                self.measure_datagrams(id);
                false
            }
            _ => true,
        }
    }

    /// What nobody takes any more stays with the kernel.
    fn after_datagrams(&mut self, id: Id) {
        let stops = self.core.look(id, |connection| {
            let protocol = connection.protocol.as_ref();
            let wanted = protocol.is_some_and(|protocol| protocol.wants_input(&self.core));
            let flags = &connection.flags;
            connection.attached && flags.receiving && !flags.stopping && !wanted
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
            connection.may_have_left();
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
