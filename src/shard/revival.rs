//! Revival: what an initiated connection keeps when it is lost, and the way to the next one
//! (draft §2.1: dormant Carriers).
//!
//! Above: `lifecycle` comes here before it ends a connection, `settle` and the wheel when it is
//! time to try again. Below: it connects as the first time. Only Carriers that were initiated and
//! whose framer can be restarted have a `Revival`. Absent: what the bytes mean.
//! Bounds: `Timeouts::dormant` from the first try to the last, `PAUSE_MAX_MS` between two of them;
//! what is kept is what was queued, and `Limits::resend_bytes`.

use super::Shard;
use super::connection::{Connection, Flags, Phase};
use super::core::{Core, Id};
use super::protocol::Lost;
use super::timeouts::{after, has_come};
use crate::error::CloseReason;
use crate::framer::Output;

/// The pause before the second try; it doubles from try to try.
const PAUSE_MIN_MS: u32 = 50;
const PAUSE_MAX_MS: u32 = 5000;
/// A connection that lasted this long was a good one: the next try comes at once.
const GOOD_MS: u32 = 1000;

/// What a connection that may be made again knows of that.
#[derive(Default)]
pub(crate) struct Revival {
    /// Why the connection was lost, until there is a new one.
    lost: Option<CloseReason>,
    /// What was queued has been put in order for the next connection.
    in_order: bool,
    /// This side had closed it before: only what is queued shall still leave.
    closing: bool,
    /// The peer had ended its direction in order before.
    finished: bool,
    /// What the driver gave back unsent.
    rescued: Option<Box<Output>>,
    /// Where in the stream the present connection began.
    base: u64,
    /// What ends here or before was handed to an earlier connection.
    floor: u64,
    /// When trying began; 0: not since the last good connection.
    since: u32,
    /// When the next try is due; 0: as soon as there is something to do.
    next: u32,
    tries: u32,
}

/// True for an end that says nothing but that the connection is no more. A peer that does not
/// read is there all the same: it would not read from the next connection either.
const fn is_loss(reason: CloseReason) -> bool {
    matches!(reason, CloseReason::Reset | CloseReason::Lost(_) | CloseReason::IdleTimeout)
}

impl Connection {
    fn revival(&self) -> Option<&Revival> {
        self.rare.as_ref()?.revival.as_deref()
    }

    fn revival_mut(&mut self) -> Option<&mut Revival> {
        self.rare.as_mut()?.revival.as_deref_mut()
    }

    /// True if it is connected again when it is lost.
    pub(crate) fn is_revivable(&self) -> bool {
        self.revival().is_some()
    }

    /// True from the loss of a connection that may be made again until it was.
    pub(crate) fn is_lost(&self) -> bool {
        self.revival().is_some_and(|revival| revival.lost.is_some())
    }

    /// True if this side had closed the Carrier when its connection was lost, or has since then.
    pub(crate) fn is_closing_lost(&self) -> bool {
        self.revival().is_some_and(|revival| revival.lost.is_some() && revival.closing)
    }

    /// This side closes a Carrier without a connection.
    pub(crate) fn close_lost(&mut self) {
        if let Some(revival) = self.revival_mut()
            && revival.lost.is_some()
        {
            revival.closing = true;
        }
    }

    /// What ends at this position or before was handed to an earlier connection.
    pub(crate) fn floor(&self) -> u64 {
        self.revival().map_or(0, |revival| revival.floor)
    }

    /// It is to end for `reason`: is that a loss after which it may be made again? What is not
    /// needed any more is to be dropped outside every borrow.
    pub(super) fn note_failure(&mut self, reason: CloseReason) -> Option<Box<Revival>> {
        let (open, flags) = (self.phase == Phase::Open, self.flags);
        let revival = self.revival_mut()?;
        let lost = revival.lost.is_some();
        if is_loss(reason) && open && !lost {
            revival.lost = Some(reason);
            revival.in_order = false;
            revival.closing = flags.end_wanted;
            revival.finished = flags.input_end_told;
        } else if !lost || !(is_loss(reason) || reason.is_unconnected()) {
            // Not word of a loss: it ends for good.
            if lost {
                self.reason = None;
            }
            return self.rare.as_mut()?.revival.take();
        }
        None
    }

    /// Keeps what a lost connection has not sent; gives it back where nobody needs it.
    pub(super) fn rescue(&mut self, output: Box<Output>) -> Option<Box<Output>> {
        match self.revival_mut() {
            Some(revival) if revival.lost.is_some() => revival.rescued.replace(output),
            _ => Some(output),
        }
    }

    /// True if something is there to send, or somebody waits for what only a connection can bring.
    fn has_work(&self) -> bool {
        let unsent = self.outgoing.as_ref().is_some_and(|outgoing| outgoing.has_unsent());
        let closing = self.revival().is_some_and(|revival| revival.closing);
        let awaits = || self.protocol.as_ref().is_some_and(|protocol| protocol.awaits_connection());
        self.queued() > 0 || unsent || (!closing && awaits())
    }

    /// Without a connection: is it time to try for one?
    pub(super) fn wants_revival(&self) -> bool {
        self.revival().is_some_and(|revival| revival.next == 0) && self.has_work()
    }

    /// Without a connection and nothing left to do for it.
    pub(super) fn is_done_dormant(&self) -> bool {
        self.is_closing_lost() && !self.has_work()
    }

    /// When the wheel has to look at it, if it has no connection.
    pub(super) fn revival_due(&self) -> Option<u32> {
        self.revival().map(|revival| revival.next).filter(|next| *next != 0)
    }

    /// Back to the state of a slot without a connection.
    fn lie_dormant(&mut self) {
        let closing = self.is_closing_lost();
        self.phase = Phase::Dormant;
        self.flags = Flags {
            owned: self.flags.owned,
            attended: self.flags.attended,
            wants_room: self.flags.wants_room,
            end_wanted: closing,
            ..Flags::default()
        };
        self.reason = closing.then_some(CloseReason::Local);
        self.gather = None;
        (self.large, self.discarded) = (0, 0);
        if let Some(rare) = &mut self.rare {
            rare.marked_niceness = None;
        }
        let check = self.clocks.check;
        self.clocks = super::connection::Clocks { check, ..Default::default() };
    }

    /// Puts what has not left in order for the next connection: whole Messages only, from the
    /// first that did not wholly leave. What is to be dropped is returned.
    fn put_in_order(&mut self, lost: &Lost, now: u32) -> (Vec<u8>, [Option<Box<Output>>; 2]) {
        let (left, handed, opened) = (self.left(), self.handed, self.clocks.opened);
        // Positions up to the floor may have been given away a second time.
        let floor = self.floor();
        let mut ends = lost.ends.clone();
        ends.retain(|end| *end > floor);
        if let Some(outgoing) = &self.outgoing {
            ends.extend(outgoing.ends());
        }
        ends.sort_unstable();
        let outbox = self.outbox.take();
        let Some(revival) = self.revival_mut() else { return (Vec::new(), [outbox, None]) };
        let rescued = revival.rescued.take();
        let began = handed - rescued.as_ref().map_or(0, |output| output.len() as u64);
        let kept = kept(&ends, revival.base, left, began);
        let skip = |at: u64| usize::try_from(at - began).unwrap_or(usize::MAX);
        let mut unsent = Output::default();
        if let Some(rescued) = &rescued {
            rescued.copy_into(skip(kept.start)..skip(kept.end), &mut unsent);
        }
        if let Some(outbox) = &outbox {
            let skip = |at: u64| usize::try_from(at.saturating_sub(handed)).unwrap_or(usize::MAX);
            outbox.copy_into(skip(kept.start)..skip(kept.end), &mut unsent);
        }
        let lasted = now.wrapping_sub(opened);
        if lost.heard || lasted >= GOOD_MS {
            (revival.since, revival.tries) = (0, 0);
        }
        if lasted < GOOD_MS {
            revival.tries = revival.tries.max(1);
        }
        revival.in_order = true;
        revival.next = 0;
        (revival.base, revival.floor) = (kept.start, kept.start);
        (self.handed, self.unsent) = (kept.start, 0);
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.lost(kept.start);
        }
        self.outbox = (!unsent.is_empty()).then(|| Box::new(unsent));
        (std::mem::take(&mut self.pending), [outbox, rescued])
    }
}

/// The bytes of the stream that go onto the next connection: `ends` says where Messages end, in
/// ascending order; everything before `left` has left, what lies before `began` is not here any
/// more. Begins and ends with a Message.
fn kept(ends: &[u64], base: u64, left: u64, began: u64) -> std::ops::Range<u64> {
    let before = ends.iter().rev().find(|end| **end <= left).copied().unwrap_or(0).max(base);
    let start = if before >= began {
        before
    } else {
        // A Message longer than one send, whose beginning has left: its rest is of no use.
        ends.iter().find(|end| **end >= began).copied().unwrap_or(began)
    };
    let end = ends.last().copied().unwrap_or(start).max(start);
    start..end
}

/// How long to wait before the try after `tries` of them.
fn pause_ms(tries: u32) -> u32 {
    match tries {
        0 => 0,
        _ => PAUSE_MIN_MS.saturating_mul(1 << (tries - 1).min(16)).min(PAUSE_MAX_MS),
    }
}

impl Core {
    /// From now on the connection is made again when it is lost, unless that is switched off.
    pub(crate) fn may_revive(&self, id: Id) {
        if self.timeouts.dormant.is_zero() {
            return;
        }
        // Just allocated.
        let _ = self.change(id, |connection| {
            connection.rare().revival = Some(Box::default());
        });
    }

    /// True if the time for tries is over.
    fn is_out_of_time(&self, revival: &Revival) -> bool {
        let limit = self.timeouts.dormant;
        revival.since != 0
            && after(revival.since, limit).is_some_and(|at| has_come(at, self.now_ms()))
    }
}

impl Shard {
    /// Nothing of the connection is left with the driver: true if its Carrier lives on without.
    pub(super) fn becomes_dormant(&mut self, id: Id) -> bool {
        let core = self.core();
        let lost = core.look(id, |connection| {
            let revival = connection.revival()?;
            revival.lost.map(|reason| (reason, revival.in_order))
        });
        let Ok(Some((reason, in_order))) = lost else { return false };
        if core.draining.get() {
            return false;
        }
        if !in_order {
            let Ok(lost) = core.call(id, |protocol, call| protocol.lost(call.core)) else {
                return false;
            };
            let now = core.now_ms();
            let dropped = core.change(id, |connection| connection.put_in_order(&lost, now));
            // Payloads are user memory: dropped outside the borrow.
            core.guard(|| drop(dropped));
            // A Message in parts that was broken off has held up others.
            let _ = core.call(id, |protocol, call| protocol.writable(call));
        }
        let lives = core.change(id, |connection| {
            let work = connection.has_work();
            let flags = connection.flags;
            let revival = connection.revival_mut()?;
            let idle = reason == CloseReason::IdleTimeout && revival.finished;
            let lives = work || (flags.owned && !revival.closing && !idle);
            if !lives || core.is_out_of_time(revival) {
                connection.reason = (work || !revival.closing).then_some(reason);
                connection.reason.get_or_insert(CloseReason::Local);
                connection.rare().revival = None;
                return None;
            }
            if !work {
                (revival.since, revival.tries) = (0, 0);
            }
            connection.lie_dormant();
            Some(())
        });
        let lives = lives == Ok(Some(()));
        if lives && !in_order {
            core.metrics.closed.add(1);
            core.metrics.dormant.add(1);
            if core.may_log() {
                tracing::debug!(slot = id.slot, %reason, "a connection was lost");
            }
        }
        lives
    }

    /// There is something to do for a dormant Carrier: connects, now or after a pause.
    pub(super) fn revive(&mut self, id: Id) {
        let core = self.core();
        let now = core.now_ms();
        let pause = core.change(id, |connection| {
            let revival = connection.revival_mut()?;
            if revival.since == 0 {
                revival.since = now;
            }
            let pause = pause_ms(revival.tries);
            revival.next = now.wrapping_add(pause).max(1);
            Some(pause)
        });
        match pause {
            Ok(Some(0)) => self.connect_again(id),
            Ok(Some(pause)) => core.check_by(id.slot, now.wrapping_add(pause).max(1)),
            _ => {}
        }
    }

    /// The pause is over.
    pub(super) fn connect_again(&mut self, id: Id) {
        let core = self.core();
        let tries = core.change(id, |connection| {
            let work = connection.has_work();
            let revival = connection.revival_mut()?;
            revival.next = 0;
            if core.is_out_of_time(revival) {
                return None;
            }
            if !work {
                (revival.since, revival.tries) = (0, 0);
            }
            revival.tries += u32::from(work);
            Some(work)
        });
        match tries {
            Ok(Some(true)) => {}
            // What was to be done has expired: it goes on lying there.
            Ok(Some(false)) => return,
            _ => return self.finish_slot(id),
        }
        let remote = core.call(id, |protocol, _| protocol.remote());
        match remote {
            Ok(Some(address)) => core.begin_connect(id, &address),
            _ => core.fail(id, CloseReason::NotConnected(super::lifecycle::HOST_UNREACHABLE)),
        }
    }

    /// A dormant Carrier has a connection again.
    pub(super) fn revived(&mut self, id: Id) {
        let now_us = self.core.now_us();
        let revived = self.core.change(id, |connection| {
            let handed = connection.handed;
            let revival = connection.revival_mut()?;
            revival.lost.take()?;
            let resent = connection.outgoing.as_mut().and_then(|way| way.resend(now_us, handed));
            let Some(mut resent) = resent else { return Some(()) };
            connection.handed -= resent.len() as u64;
            let base = connection.handed;
            if let Some(revival) = connection.revival_mut() {
                revival.base = base;
            }
            if let Some(mut unsent) = connection.outbox.take() {
                resent.append(&mut unsent);
            }
            connection.outbox = Some(Box::new(resent));
            Some(())
        });
        if revived == Ok(Some(())) {
            self.core.metrics.revived.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_wholly_leave_goes_again_from_its_beginning() {
        // Messages of 10, 20 and 30 bytes in one send.
        let ends = [10, 30, 60];
        assert_eq!(kept(&ends, 0, 0, 0), 0..60);
        assert_eq!(kept(&ends, 0, 9, 0), 0..60);
        assert_eq!(kept(&ends, 0, 10, 0), 10..60);
        assert_eq!(kept(&ends, 0, 59, 0), 30..60);
        assert_eq!(kept(&ends, 0, 60, 60), 60..60);
        assert_eq!(kept(&[], 0, 0, 0), 0..0);
    }

    #[test]
    fn a_message_whose_beginning_or_end_is_missing_is_left_out() {
        // The first 100 bytes are a Message's beginning that was sent by itself.
        assert_eq!(kept(&[10, 150, 200], 0, 100, 100), 150..200);
        assert_eq!(kept(&[10, 150, 200], 0, 120, 100), 150..200);
        // What comes behind the last end is a Message in parts that is not complete.
        assert_eq!(kept(&[10], 0, 10, 10), 10..10);
        assert_eq!(kept(&[10], 0, 100, 100), 100..100);
    }

    #[test]
    fn ends_of_an_earlier_connection_do_not_count() {
        // Sent again: 40 bytes from 60 on, so the stream stands at 60 where it had been at 100.
        assert_eq!(kept(&[100, 130], 60, 80, 60), 60..130);
        assert_eq!(kept(&[50, 100, 130], 60, 80, 60), 60..130);
    }

    /// Parts of 10 and Messages of 40, 60 and 40 bytes took turns; the Messages were sent again, so
    /// that one of them now lies where the first part had ended.
    #[test]
    fn an_end_of_an_earlier_connection_cuts_no_message_in_two() {
        use crate::shard::record::Record;
        let mut connection = Connection { handed: 150, unsent: 95, ..Connection::default() };
        let mut outgoing = super::super::outgoing::Outgoing::new(0, 16);
        for (number, end) in [(1, 60), (2, 110), (3, 150)] {
            outgoing.announce(number, end, Record::new(None));
        }
        connection.outgoing = Some(Box::new(outgoing));
        let mut rescued = Output::default();
        rescued.put(&[7; 130]);
        let revival = Revival {
            lost: Some(CloseReason::Reset),
            rescued: Some(Box::new(rescued)),
            base: 20,
            floor: 150,
            ..Revival::default()
        };
        connection.rare().revival = Some(Box::new(revival));
        connection.put_in_order(&Lost { ends: vec![50, 110], heard: false }, 1);
        assert_eq!((connection.handed, connection.queued()), (20, 130), "from 20, not from 50");
    }

    #[test]
    fn pauses_grow_to_their_bound() {
        assert_eq!([0, 1, 2, 3].map(pause_ms), [0, 50, 100, 200]);
        assert_eq!(pause_ms(8), PAUSE_MAX_MS);
        assert_eq!(pause_ms(u32::MAX), PAUSE_MAX_MS);
    }
}
