//! Hub: a socket of datagrams that has a Carrier for each who sends, and sends for all of them.
//!
//! Above: `datagrams` asks whose a train is; `settle` sends by it and hears what has left. Below:
//! `remotes` knows who belongs to whom. Absent: sockets that serve all by one protocol, or have one
//! peer.
//! Bounds: as many Carriers as the core may have connections; `Limits::send_queue_bytes` in line.

use std::net::SocketAddr;

use super::connection::{Connection, Peer, Phase};
use super::core::Id;
use super::remotes::Remotes;
use super::{Shard, timeouts};
use crate::address::Route;
use crate::error::CloseReason;
use crate::framer::Output;

/// One in so many Carriers may have made way and still be held by the application, which takes the
/// place of a living one.
const HELD_SHARE: usize = 4;

impl Shard {
    /// The Carrier of whoever sent from `from`, a new one if it has none.
    pub(super) fn carrier_of(&mut self, hub: Id, from: Route) -> Option<Id> {
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
        let service = core.look(hub, Connection::service).ok().flatten();
        if !service.is_some_and(|service| service.takes_more()) {
            core.metrics.refused_limit.add(1);
            return false;
        }
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
    /// on holding those that were ended loses others only slowly, and a part of them.
    fn make_way(&mut self, hub: Id) -> bool {
        let core = self.core();
        let taken = core.change(hub, |connection| connection.rare().remotes.take());
        let mut remotes = taken.ok().flatten().unwrap_or_default();
        let now_ms = core.now_ms();
        let held_max = (core.limits.connections / HELD_SHARE).max(2);
        let in_use = |id| core.look(id, |_| ()).is_ok();
        let heard = |id| core.look(id, |connection| connection.clocks.last_activity).ok();
        let idlest = match remotes.may_evict(now_ms, held_max, in_use) {
            true => remotes.idlest(now_ms, heard),
            false => None,
        };
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
            match (&mut connection.outbox, &mut output) {
                (Some(outbox), Some(more)) => outbox.append(more),
                (outbox, more) => *outbox = more.take(),
            }
            connection.rare().remotes.get_or_insert_default().board(id);
            true
        });
        match (taken, output) {
            (Ok(true), emptied) => emptied.into_iter().for_each(|output| self.core.recycle(output)),
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
}
