//! Datagrams: sockets on which every packet is a Message, one for whoever sends, or one to a peer.
//!
//! Above: the turn. Below: trains that a driver received, handed over datagram by datagram from
//! where they lie; what is answered leaves in trains of its own. Absent: how trains are cut
//! (`framer::Train`), what travels beside them (`kernel`).
//! A Responder's socket keeps nothing of those who send: where an answer goes stands in the call.

use std::net::SocketAddr;
use std::rc::Rc;

use super::call::Taken;
use super::connection::{Connection, Peer, Phase};
use super::core::{Core, Id};
use super::lifecycle::Listening;
use super::protocol::Packing;
use super::remotes::Remotes;
use super::{Shard, timeouts};
use crate::address::{Group, Route, SocketAddress};
use crate::engine::operation::{Arrival, Data, Errno, Operation, PeerError, SocketOption, Token};
use crate::engine::socket::Socket;
use crate::error::CloseReason;
use crate::framer::Output;
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
            rare.at_any_address = at_any_address;
            rare.remotes = apart.then(Remotes::default);
            let flags = &mut connection.flags;
            (flags.accepted, flags.greeted, flags.datagrams) = (true, true, true);
        });
        self.driver.submit(Operation::Attach { token, socket: listening.socket });
        self.driver.submit(Operation::Tune { token, option: SocketOption::PeerErrors });
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
            self.driver.submit(Operation::Tune { token, option: SocketOption::PeerErrors });
            self.measure_datagrams(id);
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
        let Some((id, taken)) = self.taker(id, &arrival) else {
            let datagrams = data.len.div_ceil(segment).max(1);
            metrics.dropped_datagrams.add(datagrams as u64);
            return self.driver.release(data);
        };
        let bytes = self.driver.bytes(&data);
        lending::lend_buffer(self.driver.whole(&data), data.leasable.then_some(data.buffer));
        let marking = Marking::from_octet(arrival.traffic_class);
        let handed = core.call_taken(
            id,
            taken,
            |protocol, call| match bytes.is_empty() {
                true => protocol.datagram(call, bytes, marking),
                false => {
                    bytes.chunks(segment).for_each(|one| protocol.datagram(call, one, marking));
                }
            },
            |_, ()| {},
        );
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
        let (is_hub, at_any) = core
            .look(socket, |connection| {
                let rare = connection.rare.as_ref();
                let at_any = rare.is_some_and(|rare| rare.at_any_address);
                (rare.is_some_and(|rare| rare.remotes.is_some()), at_any)
            })
            .ok()?;
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

    /// The Carrier of whoever sent from `from`, a new one if it has none.
    fn carrier_of(&mut self, hub: Id, from: Route) -> Option<Id> {
        let core = self.core();
        let find =
            |connection: &Connection| connection.rare.as_ref()?.remotes.as_ref()?.find(from.remote);
        if let Some(known) = core.look(hub, find).ok()? {
            let wants = core.look(known, |connection| {
                connection.protocol.as_ref().is_some_and(|protocol| protocol.wants_input(&core))
            });
            return Some(known).filter(|_| wants == Ok(true));
        }
        let ending = core.look(hub, |connection| connection.flags.end_wanted) == Ok(true);
        if ending || !self.has_room_for_remote(hub, from.remote) {
            return None;
        }
        self.add_remote(hub, from)
    }

    /// True if one more Carrier may be; the idlest of the socket may have to go for it.
    fn has_room_for_remote(&mut self, hub: Id, remote: SocketAddr) -> bool {
        let core = self.core();
        if core.state.borrow().connections >= core.limits.connections && !self.make_way(hub) {
            core.metrics.refused_limit.add(1);
            return false;
        }
        let fits = self.count_prefix(Peer::Ip(remote));
        if !fits {
            core.metrics.refused_prefix.add(1);
        }
        fits
    }

    /// Ends the idlest Carrier of the socket; false if that made no room. An application that goes
    /// on holding the last one that was ended loses no other.
    fn make_way(&mut self, hub: Id) -> bool {
        let core = self.core();
        let taken = core.change(hub, |connection| connection.rare().remotes.take());
        let mut remotes = taken.ok().flatten().unwrap_or_default();
        let held = remotes.evicted.is_some_and(|id| core.look(id, |_| ()).is_ok());
        let heard = |id| core.look(id, |connection| connection.clocks.last_activity).ok();
        let idlest = if held { None } else { remotes.idlest(heard) };
        // In use: it has just received.
        let _ = core.change(hub, |connection| connection.rare().remotes = Some(remotes));
        let Some(idlest) = idlest else { return false };
        core.metrics.evicted_remotes.add(1);
        core.fail(idlest, CloseReason::Limit);
        self.settle(idlest.slot);
        core.run_deferred();
        core.state.borrow().connections < core.limits.connections
    }

    fn add_remote(&mut self, hub: Id, from: Route) -> Option<Id> {
        let core = self.core();
        let service = core.look(hub, Connection::service).ok()??;
        let peer = Peer::Ip(from.remote);
        let id = core.allocate(Phase::Open);
        let opened = core.open(&*service, id);
        // Just allocated. What it receives, its socket receives for it.
        let _ = core.change(id, |connection| {
            connection.peer = peer;
            let rare = connection.rare();
            (rare.hub, rare.to) = (Some(hub), Some(from));
            let flags = &mut connection.flags;
            (flags.accepted, flags.counted, flags.greeted) = (true, true, true);
            (flags.datagrams, flags.receiving) = (true, true);
        });
        match opened {
            Ok(mut protocol) => {
                protocol.takes_datagrams();
                let _ = core.change(id, |connection| connection.protocol = Some(protocol));
            }
            Err(_) => {
                // Nobody to tell: no Carrier was made.
                self.uncount_prefix(peer);
                core.free_guarded(id);
                return None;
            }
        }
        core.metrics.accepted.add(1);
        let now_ms = core.now_ms();
        let _ = core.change(hub, |connection| {
            let remotes = connection.rare().remotes.get_or_insert_default();
            remotes.add(from.remote, id, now_ms);
        });
        timeouts::check_after(&core, id, core.timeouts.idle);
        service.accepted(&core, id);
        core.run_deferred();
        Some(id)
    }

    /// A Carrier without a socket of its own sends by that of its Listener; `remotes_sent` says
    /// when that has sent.
    pub(super) fn send_by(&mut self, hub: Id, id: Id, output: Box<Output>) {
        let len = output.len();
        let limit = self.core.limits.send_queue_bytes;
        let mut output = Some(output);
        let taken = self.core.change(hub, |connection| {
            if connection.backlog() >= limit {
                connection.rare().remotes.get_or_insert_default().wait(id);
                connection.flags.wants_room = true;
                return false;
            }
            match (&mut connection.outbox, output.take()) {
                (Some(outbox), Some(more)) => outbox.append(*more),
                (outbox, more) => *outbox = more,
            }
            connection.rare().remotes.get_or_insert_default().board(id);
            true
        });
        match (taken, output) {
            (Ok(true), _) => {}
            (Ok(false), Some(output)) => {
                // In use: it is being settled. It goes again when its socket has room.
                let _ = self.core.change(id, |connection| {
                    connection.handed -= len as u64;
                    connection.unsent = 0;
                    connection.outbox = Some(output);
                });
            }
            (_, output) => {
                if let Some(output) = output {
                    self.core.recycle(output);
                }
                self.core.fail(id, CloseReason::Shutdown);
            }
        }
    }

    /// What lay in the socket's queue has left; `failed` if some of it could not, whosever it was.
    pub(super) fn remotes_sent(&mut self, hub: Id, failed: bool) {
        let leaving = self.core.change(hub, |hub| hub.remotes().map(Remotes::take_leaving));
        let Ok(Some(leaving)) = leaving else { return };
        for &id in &leaving {
            let counted = self.core.change(id, |connection| {
                if failed {
                    connection.may_have_left();
                }
                // The socket counts the bytes.
                connection.unsent = 0;
                connection.phase == Phase::Open
            });
            // Gone meanwhile: then nobody waits for it.
            if counted == Ok(true) {
                self.sent(self.token(id), self.core.spare_output(), Ok(0));
            }
        }
        // In use: its driver has just reported on it.
        let _ = self.core.change(hub, |hub| hub.remotes().map(|remotes| remotes.reuse(leaving)));
    }

    /// The socket has room again.
    pub(super) fn let_remotes_send(&mut self, hub: Id) {
        let waiting = self.core.change(hub, |hub| hub.remotes().map(Remotes::take_waiting));
        for id in waiting.ok().flatten().unwrap_or_default() {
            // Gone meanwhile: then it has nothing to send.
            let _ = self.core.change(id, |connection| connection.flags.sending = false);
        }
    }

    /// A Carrier without a socket of its own is over.
    pub(super) fn leave_hub(&mut self, id: Id, peer: Peer) {
        let (Ok(Some(hub)), Peer::Ip(remote)) = (self.core.look(id, Connection::hub), peer) else {
            return;
        };
        // Gone before its Carriers only when all ends at once.
        let _ = self.core.change(hub, |connection| {
            if let Some(remotes) = &mut connection.rare().remotes {
                remotes.remove(remote, id);
            }
        });
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
            Ok((true, _)) if errno.is_of_one_datagram() => {
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
