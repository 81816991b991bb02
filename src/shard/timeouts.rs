//! Timeouts: what a connection may not take longer for.
//!
//! Above: the wheel's due keys. Below: ends of connections. A slot is looked at lazily: the wheel
//! knows a time no later than its first deadline, and the deadlines are computed when it is due.
//! Absent: a timer per message.

use std::time::Duration;

use super::Shard;
use super::connection::{Connection, Phase};
use super::core::{Core, Id};
use crate::engine::operation::{Errno, Operation};
use crate::error::CloseReason;
use crate::limits::Timeouts;

/// A connection that only expects a large message gives its buffer back after this long.
const EXPECTATION_MS: u32 = 1000;
/// A failed accept is tried again after this long.
pub(super) const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Has the wheel look at the slot after `timeout` at the latest; `Duration::MAX` is never.
pub(super) fn check_after(core: &Core, id: Id, timeout: Duration) {
    if let Some(at) = after(core.now_ms(), timeout) {
        core.check_by(id.slot, at);
    }
}

/// `timeout` after `from`, or `None` for never.
fn after(from: u32, timeout: Duration) -> Option<u32> {
    let timeout = u32::try_from(timeout.as_millis()).ok()?;
    Some(from.saturating_add(timeout).saturating_add(1))
}

/// The deadlines of an open connection, each with what passing it means.
fn deadlines(
    connection: &Connection,
    timeouts: &Timeouts,
) -> impl Iterator<Item = (u32, CloseReason)> {
    let clocks = connection.clocks;
    let flags = connection.flags;
    let set = |from: u32, timeout: Duration, reason: CloseReason, applies: bool| {
        (applies && from != 0).then(|| after(from, timeout)).flatten().map(|at| (at, reason))
    };
    let handshake = flags.accepted && !flags.greeted;
    let linger = flags.output_ended;
    let sending = flags.sending;
    let opening = matches!(connection.phase, Phase::Connecting | Phase::Resolving);
    [
        set(clocks.ended, timeouts.linger, CloseReason::Finished, linger),
        set(clocks.opened, timeouts.connect, CloseReason::NotConnected(TIMED_OUT), opening),
        set(clocks.opened, timeouts.handshake, CloseReason::HandshakeTimeout, handshake),
        set(clocks.message_begun, timeouts.message, CloseReason::MessageTimeout, !flags.paused),
        set(clocks.send_begun, timeouts.unread_send, CloseReason::SendTimeout, sending),
        set(
            clocks.last_activity,
            timeouts.idle,
            CloseReason::IdleTimeout,
            connection.phase == Phase::Open,
        ),
    ]
    .into_iter()
    .flatten()
}

const TIMED_OUT: i32 = Errno::TIMED_OUT.0;

/// What the wheel's visit leads to.
enum Visit {
    Nothing,
    Again(u32),
    Expired(CloseReason),
    Accept,
}

impl Shard {
    /// The wheel is due for a slot.
    pub(super) fn check_timeouts(&mut self, slot: u32) {
        let now = self.core.now_ms();
        let (id, visit, gives_up) = {
            let mut state = self.core.state.borrow_mut();
            let Some(connection) = state.slots.get_mut(slot as usize) else { return };
            let id = self.core.id(slot, connection.generation);
            // An earlier visit has taken this one over.
            if connection.clocks.check == 0 || connection.clocks.check > now {
                return;
            }
            connection.clocks.check = 0;
            let flags = &connection.flags;
            let expecting = flags.gathering && !flags.stopping && !flags.discarding;
            let only = connection.gather.as_ref().is_some_and(|gather| gather.needs == 0);
            let still = connection.clocks.last_activity.saturating_add(EXPECTATION_MS);
            let gives_up = expecting && only && still <= now;
            let mut visit = self.visit(connection, now);
            if expecting && only && !gives_up {
                visit = match visit {
                    Visit::Again(at) => Visit::Again(at.min(still)),
                    Visit::Nothing => Visit::Again(still),
                    other => other,
                };
            }
            if gives_up {
                connection.large = 0;
                connection.flags.stopping = true;
            }
            (id, visit, gives_up)
        };
        if gives_up {
            let token = self.token(id);
            self.driver.submit(Operation::StopReceive { token });
        }
        match visit {
            Visit::Nothing => {}
            Visit::Again(at) => self.core.check_by(slot, at),
            Visit::Expired(reason) => self.expired(id, reason),
            Visit::Accept => {
                let accept = self.core.change(id, |c| c.flags.backing_off = false);
                debug_assert!(accept.is_ok(), "a listener that is in use");
            }
        }
    }

    fn visit(&self, connection: &Connection, now: u32) -> Visit {
        match connection.phase {
            Phase::Listening if connection.flags.backing_off => return Visit::Accept,
            Phase::Free | Phase::Closing | Phase::Closed | Phase::Listening => {
                return Visit::Nothing;
            }
            _ => {}
        }
        let deadlines = deadlines(connection, &self.core.timeouts);
        match deadlines.min_by_key(|(at, _)| *at) {
            None => Visit::Nothing,
            Some((at, reason)) if at <= now => Visit::Expired(reason),
            Some((at, _)) => Visit::Again(at),
        }
    }

    fn expired(&mut self, id: Id, reason: CloseReason) {
        let metrics = &self.core.metrics;
        match reason {
            CloseReason::IdleTimeout => metrics.idle_timeouts.add(1),
            CloseReason::HandshakeTimeout => metrics.handshake_timeouts.add(1),
            CloseReason::MessageTimeout => metrics.message_timeouts.add(1),
            CloseReason::SendTimeout => metrics.send_timeouts.add(1),
            _ => {}
        }
        if self.throttle.allows(self.core.now_ms()) {
            tracing::debug!(slot = id.slot, %reason, "a connection ran out of time");
        }
        self.core.fail(id, reason);
        if reason == CloseReason::SendTimeout {
            // The peer does not read: only a reset gets rid of what is queued for it.
            let _ = self.core.change(id, |connection| connection.flags.reset = true);
        }
    }
}
