//! The ledger: where every scheduled message went, in messages and in bytes.
//!
//! Above: `recorder` keeps one account per class and one for the warm-up, reports print them.
//! Below: nothing. Absent: time. Invariant, checked at the end of every run, interrupted ones
//! too, for messages and for bytes: scheduled = submitted + skipped; submitted = sent + expired +
//! refused + unsent; sent = on time + late + lost + in flight. `unsent` and `in_flight` are
//! counted from the table of open messages, never derived, so the check can fail.

use serde::{Deserialize, Serialize};

/// Messages the generator should have sent and did not, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Skipped {
    /// The connection had `depth` unanswered messages.
    pub(crate) at_depth: u64,
    /// The connection was gone.
    pub(crate) disconnected: u64,
    /// The run ended before the generator reached them.
    pub(crate) never_reached: u64,
}

impl Skipped {
    /// All of them.
    pub(crate) const fn total(&self) -> u64 {
        self.at_depth + self.disconnected + self.never_reached
    }
}

/// Counts of messages, or of their bytes; every one is in exactly one place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// The schedule said so.
    pub(crate) scheduled: u64,
    /// Not handed over.
    pub(crate) skipped: Skipped,
    /// Handed to the engine.
    pub(crate) submitted: u64,
    /// Not taken by the engine: the connection's send queue was full.
    pub(crate) refused: u64,
    /// Discarded by the engine, because they could not be in time any more.
    pub(crate) expired: u64,
    /// Still with the engine at the end of the run, or when their connection ended.
    pub(crate) unsent: u64,
    /// Handed to the kernel; where single messages are not watched: to the engine.
    pub(crate) sent: u64,
    /// Answered, and by their deadline if they had one.
    pub(crate) on_time: u64,
    /// Answered after their deadline.
    pub(crate) late: u64,
    /// Sent and unanswered when their connection ended; of datagrams, unanswered for a second.
    pub(crate) lost: u64,
    /// Sent and unanswered at the end of the run.
    pub(crate) in_flight: u64,
}

impl Ledger {
    /// Answered, in time or not.
    pub(crate) const fn received(&self) -> u64 {
        self.on_time + self.late
    }

    /// Handed to the engine, not discarded by it, and never answered.
    pub(crate) const fn unanswered(&self) -> u64 {
        self.refused + self.unsent + self.lost + self.in_flight
    }

    /// Scheduled, and not answered in time, as a share; 0 without any.
    pub(crate) fn missed_share(&self) -> f64 {
        self.share(self.scheduled - self.on_time)
    }

    /// `count` as a share of what was scheduled; 0 without any.
    pub(crate) fn share(&self, count: u64) -> f64 {
        count as f64 / self.scheduled.max(1) as f64
    }

    /// Adds the counts of another worker.
    pub(crate) const fn merge(&mut self, other: &Self) {
        self.scheduled += other.scheduled;
        self.skipped.at_depth += other.skipped.at_depth;
        self.skipped.disconnected += other.skipped.disconnected;
        self.skipped.never_reached += other.skipped.never_reached;
        self.submitted += other.submitted;
        self.refused += other.refused;
        self.expired += other.expired;
        self.unsent += other.unsent;
        self.sent += other.sent;
        self.on_time += other.on_time;
        self.late += other.late;
        self.lost += other.lost;
        self.in_flight += other.in_flight;
    }

    /// True if no count is so large that sums of some could overflow.
    pub(crate) fn is_plausible(&self) -> bool {
        let Skipped { at_depth, disconnected, never_reached } = self.skipped;
        let all = [
            [self.scheduled, self.submitted, self.sent, at_depth],
            [self.refused, self.expired, self.unsent, disconnected],
            [self.on_time, self.late, self.lost, never_reached],
            [self.in_flight, 0, 0, 0],
        ];
        all.as_flattened().iter().all(|count| *count < 1 << 53)
    }

    /// True if all three sums close exactly.
    pub(crate) const fn closes(&self) -> bool {
        self.scheduled == self.submitted + self.skipped.total()
            && self.submitted == self.sent + self.expired + self.refused + self.unsent
            && self.sent == self.on_time + self.late + self.lost + self.in_flight
    }
}

/// A ledger of messages beside one of their payload bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Counts of messages.
    pub(crate) messages: Ledger,
    /// Counts of their bytes.
    pub(crate) bytes: Ledger,
}

impl Account {
    /// Books `count` messages of `bytes` each at one place.
    pub(crate) fn book(&mut self, count: u64, bytes: u32, place: fn(&mut Ledger) -> &mut u64) {
        *place(&mut self.messages) += count;
        *place(&mut self.bytes) += count * u64::from(bytes);
    }

    /// Takes back one message of `bytes`.
    pub(crate) fn unbook(&mut self, bytes: u32, place: fn(&mut Ledger) -> &mut u64) {
        *place(&mut self.messages) -= 1;
        *place(&mut self.bytes) -= u64::from(bytes);
    }

    /// Adds another account.
    pub(crate) const fn merge(&mut self, other: &Self) {
        self.messages.merge(&other.messages);
        self.bytes.merge(&other.bytes);
    }

    /// True if both ledgers close.
    pub(crate) const fn closes(&self) -> bool {
        self.messages.closes() && self.bytes.closes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Ledger {
        Ledger {
            scheduled: 100,
            skipped: Skipped { at_depth: 4, disconnected: 2, never_reached: 1 },
            submitted: 93,
            refused: 3,
            expired: 5,
            unsent: 2,
            sent: 83,
            on_time: 70,
            late: 3,
            lost: 7,
            in_flight: 3,
        }
    }

    #[test]
    fn a_ledger_closes_only_if_every_message_has_one_place() {
        assert!(sample().closes());
        assert!(Ledger::default().closes());
        assert!(!Ledger { scheduled: 101, ..sample() }.closes());
        assert!(!Ledger { late: 4, ..sample() }.closes());
        assert!(!Ledger { in_flight: 0, ..sample() }.closes());
        assert!(!Ledger { expired: 6, ..sample() }.closes());
        assert_eq!((sample().received(), sample().unanswered()), (73, 15));
        assert!((sample().missed_share() - 0.3).abs() < 1e-9);
    }

    #[test]
    fn merged_ledgers_close_and_add_up() {
        let mut merged = sample();
        merged.merge(&sample());
        assert!(merged.closes());
        assert_eq!((merged.scheduled, merged.skipped.total(), merged.unanswered()), (200, 14, 30));
    }

    #[test]
    fn an_account_books_messages_and_bytes_together() {
        let mut account = Account::default();
        account.book(3, 100, |ledger| &mut ledger.scheduled);
        account.book(2, 100, |ledger| &mut ledger.submitted);
        assert!(!account.closes());
        account.unbook(100, |ledger| &mut ledger.scheduled);
        account.book(2, 100, |ledger| &mut ledger.expired);
        assert!(account.closes());
        assert_eq!((account.messages.expired, account.bytes.expired), (2, 200));
        account.bytes.expired -= 1;
        assert!(!account.closes(), "bytes are checked too");
    }
}
