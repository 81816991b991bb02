//! Lifecycle: how connections come about and how they go.
//!
//! Above: services (listening) and verbs (initiating). Below: the driver's accepts, connects and
//! closes. Absent: what flows in between.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::connection::{Peer, Phase};
use super::core::Id;
use super::mail::{Mail, Sibling};
use super::protocol::Service;
use super::timeouts::ACCEPT_AGAIN;
use super::{Shard, timeouts};
use crate::address::SocketAddress;
use crate::engine::errno::Errno;
use crate::engine::operation::{Operation, Token};
use crate::engine::socket::Socket;
use crate::error::CloseReason;

/// One listening socket of a core.
pub(crate) struct Listening {
    pub(crate) socket: Socket,
    /// The service's number, the same on every core.
    pub(crate) service: usize,
    /// Whether other cores accept on sockets of their own; else connections are dealt out in turn.
    pub(crate) shared_out: bool,
}

impl Shard {
    /// Makes a service known under the next number.
    pub(crate) fn add_service(&mut self, service: Rc<dyn Service>) {
        self.core.state.borrow_mut().services.push(service);
    }

    /// Begins to listen.
    pub(crate) fn listen(&mut self, listening: Listening) {
        if listening.socket.is_datagram() {
            return self.serve_datagrams(listening);
        }
        let id = self.core.allocate(Phase::Listening);
        let service = self.core.state.borrow().services.get(listening.service).cloned();
        let changed = self.core.change(id, |connection| {
            connection.attached = true;
            let rare = connection.rare();
            rare.service = service;
            rare.service_number = listening.service;
            rare.deals_out = !listening.shared_out;
        });
        debug_assert!(changed.is_ok(), "a slot just allocated");
        let token = self.token(id);
        self.driver.submit(Operation::Attach { token, socket: listening.socket });
    }

    pub(super) fn accepted(&mut self, token: Token, socket: Socket) {
        self.core.metrics.accepted.add(1);
        let listener = self.id(token);
        let found = self.core.look(listener, |connection| {
            let rare = connection.rare.as_ref()?;
            Some((rare.service_number, rare.deals_out))
        });
        let Ok(Some((service, deals_out))) = found else { return };
        match self.better_core(deals_out) {
            Some(sibling) => {
                self.core.metrics.handed_over.add(1);
                // Counted before it arrives, or a whole burst would go to the same core.
                self.siblings[sibling].handle.load.fetch_add(1, Ordering::Relaxed);
                let posted = self.post_to_sibling(sibling, Mail::Adopt { socket, service });
                // Full or ended: it stays here.
                if let Err(Mail::Adopt { socket, service }) = posted {
                    self.adopt(socket, service);
                }
            }
            None => self.adopt(socket, service),
        }
    }

    /// The core that should have the next connection, if it is not this one: in turn where one
    /// core accepts for all, else the least loaded one when this one is well above the mean.
    fn better_core(&self, deals_out: bool) -> Option<usize> {
        let cores = self.siblings.len();
        if cores < 2 || self.core.draining.get() {
            return None;
        }
        let load = |sibling: &Sibling| sibling.handle.load.load(Ordering::Relaxed);
        let mine = self.core.handle.load.load(Ordering::Relaxed);
        let running = self.siblings.iter().enumerate();
        let running = running.filter(|(_, sibling)| !sibling.handle.has_ended());
        let (at, least) = running.min_by_key(|(_, sibling)| load(sibling))?;
        let above = if deals_out {
            load(least) < mine
        } else {
            let mean = self.siblings.iter().map(load).sum::<u32>() / cores as u32;
            mine > mean + mean / 8 + 16
        };
        (above && least.lane.is_some()).then_some(at)
    }

    /// Posts to a sibling by the lane between the two; a sleeping one is woken by its ring.
    fn post_to_sibling(&mut self, at: usize, mail: Mail) -> Result<(), Mail> {
        let sibling = &self.siblings[at];
        let Some(lane) = &sibling.lane else { return Err(mail) };
        let must_ring = lane.post(mail)?;
        if must_ring && !self.driver.ring_sibling(at) {
            sibling.handle.bell.ring();
        }
        Ok(())
    }

    /// Takes a fresh connection in, unless a limit forbids it.
    pub(super) fn adopt(&mut self, socket: Socket, service: usize) {
        let core = self.core();
        let peer = match socket.peer_address() {
            Ok(SocketAddress::Tcp(address) | SocketAddress::Udp(address)) => Peer::Ip(address),
            Ok(SocketAddress::Unix(_)) => Peer::Unix,
            // Gone again before it was accepted, or in a simulated world.
            Ok(SocketAddress::Memory(_) | SocketAddress::Group(_)) | Err(_) => Peer::Unknown,
        };
        if core.draining.get() && core.timeouts.drain.is_zero() {
            return self.driver.discard(socket);
        }
        if core.state.borrow().connections >= core.limits.connections {
            core.metrics.refused_limit.add(1);
            core.publish_load();
            return self.refuse(socket, "connections");
        }
        if !self.count_prefix(peer) {
            core.metrics.refused_prefix.add(1);
            core.publish_load();
            return self.refuse(socket, "connections_per_prefix");
        }
        let Some(service) = core.state.borrow().services.get(service).cloned() else { return };
        let id = core.allocate(Phase::Open);
        let opened = core.open(&*service, id);
        let token = self.token(id);
        let accepted = core.change(id, |connection| {
            connection.flags.counted = true;
            connection.flags.accepted = true;
            connection.peer = peer;
            connection.attached = true;
        });
        debug_assert!(accepted.is_ok(), "a slot just allocated");
        self.driver.submit(Operation::Attach { token, socket });
        match opened {
            Ok(protocol) => {
                // Just allocated, so in use.
                let _ = core.change(id, |connection| connection.protocol = Some(protocol));
                timeouts::check_after(&core, id, core.timeouts.handshake.min(core.timeouts.idle));
                service.accepted(&core, id);
            }
            Err(reason) => {
                // No protocol: nothing to flush, nobody to tell.
                let _ = core.change(id, |connection| {
                    connection.reason = Some(reason);
                    connection.phase = Phase::Closing;
                    // No Carrier was made.
                    connection.flags.owned = false;
                });
                self.driver.submit(Operation::Close { token, reset: false });
            }
        }
    }

    fn refuse(&mut self, socket: Socket, limit: &str) {
        self.driver.discard(socket);
        if self.core.may_log() {
            tracing::warn!(limit, "a connection was refused: the limit is reached");
        }
    }

    pub(super) fn accept_ended(&mut self, token: Token, error: Option<Errno>) {
        let id = self.id(token);
        // A listener's slot is in use until its Closed.
        let _ = self.core.change(id, |connection| {
            connection.flags.accepting = false;
            connection.flags.backing_off = error.is_some();
        });
        let Some(errno) = error else { return };
        self.core.metrics.accept_errors.add(1);
        if self.core.may_log() {
            let error = errno.to_io();
            let hint = crate::engine::socket::listen_hint(&error);
            tracing::warn!(%error, hint, "accepting failed; trying again shortly");
        }
        timeouts::check_after(&self.core, id, ACCEPT_AGAIN);
    }

    pub(super) fn connected(&mut self, token: Token, result: Result<(), Errno>) {
        let id = self.id(token);
        let opening = self.core.look(id, |connection| connection.phase == Phase::Connecting);
        if opening != Ok(true) {
            return;
        }
        match result {
            Ok(()) => {
                self.core.metrics.connected.add(1);
                let now = self.core.now_ms();
                // In use and connecting, as just seen.
                let _ = self.core.change(id, |connection| {
                    connection.phase = Phase::Open;
                    connection.clocks.opened = now;
                    connection.clocks.last_activity = now;
                });
                timeouts::check_after(&self.core, id, self.core.timeouts.idle);
                self.begin_datagrams(id);
                self.revived(id);
                let _ = self.core.call(id, |protocol, call| protocol.opened(call));
            }
            Err(errno) => {
                let _ = self.core.change(id, |connection| {
                    connection.reason = Some(CloseReason::NotConnected(errno.0));
                    connection.phase = Phase::Closing;
                });
                // The next candidate is tried when the failed socket is closed.
                self.driver.submit(Operation::Close { token, reset: false });
            }
        }
    }

    pub(super) fn resolved(&mut self, id: Id, result: Result<Vec<SocketAddress>, io::Error>) {
        let resolving = self.core.look(id, |connection| connection.phase == Phase::Resolving);
        if resolving != Ok(true) {
            return;
        }
        match result {
            Ok(mut candidates) => {
                candidates.reverse();
                let _ =
                    self.core.change(id, |connection| connection.rare().candidates = candidates);
                self.connect_next(id, HOST_UNREACHABLE);
            }
            Err(error) => self.unresolved(id, &error),
        }
    }

    /// The resolver has words of its own where the system has a number.
    fn unresolved(&self, id: Id, error: &io::Error) {
        if let Some(errno) = error.raw_os_error() {
            return self.core.fail(id, CloseReason::NotConnected(errno));
        }
        if self.core.may_log() {
            tracing::warn!(slot = id.slot, %error, "a host's name could not be resolved");
        }
        let words = error.to_string();
        // Resolving, as just seen.
        let _ = self.core.change(id, |connection| connection.rare().unresolved = Some(words));
        self.core.fail(id, CloseReason::NotResolved);
    }

    /// Tries the next candidate address; `last_error` is what remains if there is none.
    pub(super) fn connect_next(&mut self, id: Id, last_error: i32) {
        let mut last_error = last_error;
        loop {
            let next = self.core.change(id, |connection| connection.rare().candidates.pop());
            let Ok(Some(address)) = next else {
                return self.core.fail(id, CloseReason::NotConnected(last_error));
            };
            if let SocketAddress::Group(group) = &address
                && !self.only_sends(id)
            {
                match self.join(id, group) {
                    Ok(()) => return,
                    Err(error) => {
                        last_error = error.raw_os_error().unwrap_or(HOST_UNREACHABLE);
                        continue;
                    }
                }
            }
            match self.driver.connecting(&address) {
                Ok(socket) => return self.connect_to(id, socket, address),
                Err(error) => last_error = error.raw_os_error().unwrap_or(HOST_UNREACHABLE),
            }
        }
    }

    fn connect_to(&mut self, id: Id, socket: Socket, address: SocketAddress) {
        let token = self.token(id);
        let peer = match &address {
            SocketAddress::Tcp(address) | SocketAddress::Udp(address) => Peer::Ip(*address),
            SocketAddress::Unix(_) => Peer::Unix,
            SocketAddress::Memory(_) => Peer::Unknown,
            SocketAddress::Group(group) => Peer::Ip(group.address),
        };
        // The caller has just looked at it.
        let _ = self.core.change(id, |connection| {
            connection.phase = Phase::Connecting;
            connection.attached = true;
            connection.peer = peer;
        });
        self.driver.submit(Operation::Attach { token, socket });
        self.driver.submit(Operation::Connect { token, address });
        timeouts::check_after(&self.core, id, self.core.timeouts.connect);
    }

    /// The driver's last word about a socket.
    pub(super) fn closed(&mut self, token: Token) {
        let id = self.id(token);
        let next = self.core.change(id, |connection| {
            connection.attached = false;
            let failed = matches!(connection.reason, Some(CloseReason::NotConnected(_)));
            let more = connection.rare.as_ref().is_some_and(|rare| !rare.candidates.is_empty());
            // An orderly close waits for a connection to flush what was queued; an abort does not.
            let retry = failed && more && !connection.flags.output_ended;
            if !retry {
                return None;
            }
            connection.phase = Phase::Resolving;
            connection.reason.take()
        });
        if let Ok(Some(CloseReason::NotConnected(errno))) = next {
            return self.connect_next(id, errno);
        }
        self.finish_slot(id);
    }

    /// The connection is over: the application is told, the slot is free unless a Carrier owns it.
    pub(super) fn finish_slot(&mut self, id: Id) {
        if self.becomes_dormant(id) {
            return;
        }
        let core = self.core();
        let found = core.look(id, |connection| {
            let reason = connection.reason.unwrap_or(CloseReason::Finished);
            let flags = &connection.flags;
            let lost = connection.waiting() + connection.unsent;
            (reason, connection.peer, flags.counted, connection.service().is_some(), lost)
        });
        let Ok((reason, peer, counted, listened, lost)) = found else { return };
        if lost > 0 {
            core.metrics.lost_bytes.add(lost as u64);
            self.tell_lost(id, reason, lost);
        }
        if counted {
            self.uncount_prefix(peer);
            // Uncounted once.
            let _ = core.change(id, |connection| connection.flags.counted = false);
        }
        if !listened {
            core.metrics.closed.add(1);
        }
        self.leave_hub(id, peer);
        self.tell_closed(id, reason);
        // Asked only now: its owner may have left it to the engine when it was told.
        if core.look(id, |connection| connection.flags.owned) == Ok(true) {
            let left = core.change(id, |connection| {
                connection.phase = Phase::Closed;
                connection.reason = Some(reason);
                let received = (std::mem::take(&mut connection.pending), connection.gather.take());
                (connection.outbox.take(), received)
            });
            // Its owner may keep it for long; nobody sends or takes what is left of it.
            core.guard(|| drop(left));
        } else {
            core.free_guarded(id);
        }
    }

    /// The application hears from its Carrier why Messages did not leave. Without a Carrier, only
    /// the log is left to say so.
    fn tell_lost(&self, id: Id, reason: CloseReason, bytes: usize) {
        let unheard = self.core.look(id, |connection| {
            !connection.flags.owned && !connection.flags.accepted && reason != CloseReason::Aborted
        });
        if unheard == Ok(true) && self.core.may_log() {
            tracing::warn!(%reason, bytes, "messages of a Carrier that was dropped never left");
        }
    }

    /// Tells the typed half, once.
    pub(super) fn tell_closed(&mut self, id: Id, reason: CloseReason) {
        let first = self.core.change(id, |connection| {
            connection.reason = Some(reason);
            !std::mem::replace(&mut connection.flags.close_told, true)
        });
        if first == Ok(true) {
            // Just told, so in use.
            let _ = self.core.change(id, |connection| {
                let handed = connection.handed;
                if let Some(outgoing) = &mut connection.outgoing {
                    outgoing.end(reason, handed);
                }
            });
            self.core.report(id);
            // Word of its Messages comes before word of its end.
            self.core.run_deferred();
            // A panic in here has nothing left to end.
            let _ = self.core.call(id, |protocol, call| {
                protocol.closed(call.core, call.id, reason);
            });
            // Messages that waited for room were refused just now.
            self.core.run_deferred();
            self.core.end_events(id, reason);
        }
    }

    /// Listens no more, and ends when the last connection and the last task have ended.
    pub(super) fn retire(&mut self) {
        self.retiring = true;
        for id in self.slots_in_use() {
            // In use a moment ago.
            let _ = self.core.change(id, |connection| {
                connection.flags.end_wanted |= connection.service().is_some();
            });
        }
    }

    /// True if it was retired and nothing is left.
    pub(super) fn is_deserted(&self) -> bool {
        let state = self.core.state.borrow();
        self.retiring
            && state.connections == 0
            && state.listeners == 0
            && self.core.executor.running() == 0
    }

    /// What a connection does when the engine drains: finish what was received, flush, end.
    pub(super) fn drain_connection(&mut self, id: Id) {
        match self.core.look(id, |connection| connection.phase) {
            Ok(Phase::Open) => self.core.end_output(id, CloseReason::Shutdown),
            Ok(Phase::Inactive | Phase::Resolving | Phase::Connecting | Phase::Dormant) => {
                self.core.fail(id, CloseReason::Shutdown);
            }
            _ => {}
        }
    }
}

pub(super) const HOST_UNREACHABLE: i32 = Errno::HOST_UNREACHABLE.0;

/// Initiated connections begin here, from the verbs.
impl super::core::Core {
    /// True if connecting this one would be one connection too many. An inactive or dormant Carrier
    /// has a slot but is no connection.
    fn is_over_limit(&self, id: Id) -> bool {
        let unconnected = |phase| matches!(phase, Phase::Inactive | Phase::Dormant);
        if self.look(id, |connection| unconnected(connection.phase)) != Ok(true) {
            return false;
        }
        let state = self.state.borrow();
        if state.connections <= self.limits.connections {
            return false;
        }
        let inactive = state.slots.iter().filter(|slot| unconnected(slot.phase)).count();
        state.connections - inactive >= self.limits.connections
    }

    /// Begins to connect; names are resolved off the core.
    pub(crate) fn begin_connect(self: &Rc<Self>, id: Id, address: &crate::address::Address) {
        let id = self.resolve(id);
        let now = self.now_ms();
        if self.is_over_limit(id) {
            self.metrics.refused_limit.add(1);
            return self.fail(id, CloseReason::Limit);
        }
        let begun = self.change(id, |connection| {
            let first = matches!(connection.phase, Phase::Inactive | Phase::Dormant);
            if first {
                connection.phase = Phase::Resolving;
                connection.clocks.opened = now;
            }
            first
        });
        if begun != Ok(true) {
            return;
        }
        timeouts::check_after(self, id, self.timeouts.connect);
        let handle = Arc::clone(&self.handle);
        let letter =
            move |result| Mail::Resolved { slot: id.slot, generation: id.generation, result };
        if let Some(literal) = address.literal() {
            // To ourselves: the loop owns the driver, verbs do not.
            if handle.post(letter(Ok(vec![literal]))).is_err() {
                // Enough of them wait there already; a lost Carrier tries again later.
                let lost = self.look(id, |connection| connection.is_lost()) == Ok(true);
                let reason = CloseReason::NotConnected(Errno::TIMED_OUT.0);
                self.fail(id, if lost { reason } else { CloseReason::Limit });
            }
            return;
        }
        let address = address.clone();
        let work = move || {
            let resolved = address.resolve_blocking();
            let mut mail = letter(resolved);
            // The mailbox is bounded; a resolver thread may wait for room.
            while let Err(back) = handle.post(mail) {
                if handle.has_ended() {
                    return;
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
                mail = back;
            }
        };
        // A pool that is full drops the work; then the connect timeout has the last word.
        drop(crate::engine::offload::offload(work));
    }
}
