//! Timeouts: what a connection may not take longer for.
//!
//! Above: the wheel's due keys. Below: ends of connections. A slot is looked at lazily: the wheel
//! knows a time no later than its first deadline, and the deadlines are computed when it is due.
//! Absent: a timer per message.

use std::time::Duration;

use super::Shard;
use super::connection::{Connection, Peer, Phase};
use super::core::{Core, Id};
use crate::engine::errno::Errno;
use crate::engine::operation::Operation;
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

/// A buffer waits for a large message that nobody has begun: it is looked at soon.
pub(super) fn expect(core: &Core, id: Id) {
    check_after(core, id, Duration::from_millis(u64::from(EXPECTATION_MS)));
}

/// `timeout` after `from`, or `None` for never: 24 days and more, of which 32 bits that begin
/// again could not say whether they are over.
pub(super) fn after(from: u32, timeout: Duration) -> Option<u32> {
    let timeout = i32::try_from(timeout.as_millis()).ok()?.cast_unsigned();
    // Never 0, which is "not".
    Some(from.wrapping_add(timeout).wrapping_add(1).max(1))
}

/// Milliseconds from `now` to `at`; 0 if it has come.
#[inline]
pub(super) fn left_ms(at: u32, now: u32) -> u32 {
    u32::try_from(at.wrapping_sub(now).cast_signed()).unwrap_or(0)
}

/// True if `at` is now or lies before it, on a clock that begins again.
#[inline]
pub(super) fn has_come(at: u32, now: u32) -> bool {
    left_ms(at, now) == 0
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
    let linger = flags.output_ended && !flags.sink;
    // Of a socket that serves anybody, no one peer can be said to be slow.
    let is_shared = connection.peer == Peer::Anybody;
    let sending = flags.sending && !is_shared;
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
            connection.phase == Phase::Open && !is_shared,
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
    Revive,
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
            if connection.clocks.check == 0 || !has_come(connection.clocks.check, now) {
                return;
            }
            connection.clocks.check = 0;
            let flags = &connection.flags;
            let expecting = flags.gathering && !flags.stopping && !flags.discarding;
            let only = connection.gather.as_ref().is_some_and(|gather| gather.needs == 0);
            let still = connection.clocks.last_activity.wrapping_add(EXPECTATION_MS);
            let gives_up = expecting && only && has_come(still, now);
            let mut visit = self.visit(connection, now);
            if expecting && only && !gives_up {
                visit = match visit {
                    Visit::Again(at) if has_come(at, still) => Visit::Again(at),
                    Visit::Again(_) => Visit::Again(still),
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
            Visit::Revive => self.connect_again(id),
            Visit::Accept => {
                let accept = self.core.change(id, |c| c.flags.backing_off = false);
                debug_assert!(accept.is_ok(), "a listener that is in use");
            }
        }
        if self.core.look(id, |connection| connection.outgoing.is_some()) == Ok(true) {
            self.check_messages(id);
        }
    }

    fn visit(&self, connection: &Connection, now: u32) -> Visit {
        match connection.phase {
            Phase::Listening | Phase::Open if connection.flags.backing_off => return Visit::Accept,
            Phase::Free | Phase::Closing | Phase::Closed | Phase::Listening => {
                return Visit::Nothing;
            }
            Phase::Dormant => {
                return match connection.revival_due() {
                    Some(at) if has_come(at, now) => Visit::Revive,
                    Some(at) => Visit::Again(at),
                    None => Visit::Nothing,
                };
            }
            _ => {}
        }
        let deadlines = deadlines(connection, &self.core.timeouts);
        match deadlines.min_by_key(|(at, _)| left_ms(*at, now)) {
            None => Visit::Nothing,
            Some((at, reason)) if has_come(at, now) => Visit::Expired(reason),
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
        if self.core.may_log() {
            tracing::debug!(slot = id.slot, %reason, "a connection ran out of time");
        }
        self.core.fail(id, reason);
        if reason == CloseReason::SendTimeout {
            // The peer does not read: only a reset gets rid of what is queued for it.
            let _ = self.core.change(id, |connection| connection.flags.reset = true);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::engine::mailbox::{Bell, Mailbox};
    use crate::limits::Limits;
    use crate::shard::mail::CoreHandle;

    struct Silent;
    impl Bell for Silent {
        fn ring(&self) {}
    }

    pub(in crate::shard) fn core() -> std::rc::Rc<Core> {
        let mailbox = Mailbox::new(16, std::sync::Arc::new(Silent));
        let handle = CoreHandle::new(
            mailbox.postbox(),
            std::sync::Arc::new(Silent),
            std::sync::Arc::default(),
        );
        Core::new(handle, Limits::default(), Timeouts::default(), std::sync::Arc::default())
    }

    /// 49 days after its start the clock of a slot begins again.
    #[test]
    fn a_timeout_lasts_as_long_when_the_clock_begins_again() {
        for began in [1_u32, 1 << 31, u32::MAX - 30_000, u32::MAX - 1, u32::MAX] {
            let connection = Connection {
                phase: Phase::Open,
                clocks: crate::shard::connection::Clocks {
                    opened: began,
                    last_activity: began,
                    message_begun: began,
                    ..Default::default()
                },
                ..Connection::default()
            };
            let timeouts = Timeouts::default();
            let first = deadlines(&connection, &timeouts)
                .map(|(at, reason)| (left_ms(at, began), reason))
                .min_by_key(|(left, _)| *left);
            let (left, reason) = first.unwrap();
            assert!((30_000..30_003).contains(&left), "{left} ms from {began}");
            assert_eq!(reason, CloseReason::MessageTimeout);
        }
    }

    #[test]
    fn the_wheel_goes_on_when_the_clock_of_the_slots_begins_again() {
        let core = core();
        let id = core.allocate(Phase::Open);
        for tick in [1, u64::from(u32::MAX) - 500, (1 << 32) + 10_000, 1 << 40] {
            core.set_tick(tick);
            let mut due = Vec::new();
            core.state.borrow_mut().wheel.advance(tick, &mut due);
            core.change(id, |connection| connection.clocks.check = 0).unwrap();
            check_after(&core, id, Duration::from_secs(1));
            check_after(&core, id, Duration::from_secs(2));
            let next = core.state.borrow().wheel.next_tick().unwrap();
            assert!((1001..1003).contains(&(next - tick)), "{next} from {tick}");
        }
    }

    #[test]
    fn a_socket_that_serves_anybody_does_not_run_out_of_time() {
        let mut connection =
            Connection { phase: Phase::Open, peer: Peer::Anybody, ..Connection::default() };
        (connection.flags.sending, connection.clocks.send_begun) = (true, 1);
        connection.clocks.last_activity = 1;
        assert_eq!(deadlines(&connection, &Timeouts::default()).count(), 0);
        connection.peer = Peer::Unknown;
        assert_eq!(deadlines(&connection, &Timeouts::default()).count(), 2);
    }

    #[test]
    fn a_timeout_of_many_days_is_never() {
        assert_eq!(after(1, Duration::MAX), None);
        assert_eq!(after(1, Duration::from_secs(30 * 86_400)), None);
        assert!(after(1, Duration::from_secs(20 * 86_400)).is_some());
    }
}
