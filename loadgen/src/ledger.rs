//! The ledger: where every scheduled message went.
//!
//! Above: `recorder` keeps two (warm-up and measured), reports print them. Below: nothing.
//! Absent: time. Invariant, checked at the end of every run, interrupted ones too:
//! scheduled = submitted + skipped, and submitted = received + lost + in flight at the end.
//! `in_flight` is counted from the table of open messages, never derived, so the check can fail.

use serde::Serialize;

/// Messages the generator should have sent and did not, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Skipped {
    /// The connection had `depth` unanswered messages.
    pub(crate) at_depth: u64,
    /// The connection's send queue was full.
    pub(crate) queue_full: u64,
    /// The connection was gone.
    pub(crate) disconnected: u64,
    /// The run ended before the generator reached them.
    pub(crate) never_reached: u64,
}

impl Skipped {
    /// All of them.
    pub(crate) const fn total(&self) -> u64 {
        self.at_depth + self.queue_full + self.disconnected + self.never_reached
    }
}

/// Counts of messages; every one is in exactly one place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Ledger {
    /// The schedule said so.
    pub(crate) scheduled: u64,
    /// Handed to the engine.
    pub(crate) submitted: u64,
    /// Not handed over.
    pub(crate) skipped: Skipped,
    /// Answered.
    pub(crate) received: u64,
    /// Unanswered when their connection ended.
    pub(crate) lost: u64,
    /// Unanswered at the end of the run.
    pub(crate) in_flight: u64,
}

impl Ledger {
    /// Submitted and never answered: lost or in flight.
    pub(crate) const fn unanswered(&self) -> u64 {
        self.lost + self.in_flight
    }

    /// Adds the counts of another worker.
    pub(crate) const fn merge(&mut self, other: &Self) {
        self.scheduled += other.scheduled;
        self.submitted += other.submitted;
        self.skipped.at_depth += other.skipped.at_depth;
        self.skipped.queue_full += other.skipped.queue_full;
        self.skipped.disconnected += other.skipped.disconnected;
        self.skipped.never_reached += other.skipped.never_reached;
        self.received += other.received;
        self.lost += other.lost;
        self.in_flight += other.in_flight;
    }

    /// True if both sums close exactly.
    pub(crate) const fn closes(&self) -> bool {
        self.scheduled == self.submitted + self.skipped.total()
            && self.submitted == self.received + self.lost + self.in_flight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Ledger {
        Ledger {
            scheduled: 100,
            submitted: 90,
            skipped: Skipped { at_depth: 4, queue_full: 3, disconnected: 2, never_reached: 1 },
            received: 80,
            lost: 7,
            in_flight: 3,
        }
    }

    #[test]
    fn a_ledger_closes_only_if_every_message_has_one_place() {
        assert!(sample().closes());
        assert!(Ledger::default().closes());
        assert!(!Ledger { scheduled: 101, ..sample() }.closes());
        assert!(!Ledger { received: 81, ..sample() }.closes());
        assert!(!Ledger { in_flight: 0, ..sample() }.closes());
    }

    #[test]
    fn merged_ledgers_close_and_add_up() {
        let mut merged = sample();
        merged.merge(&sample());
        assert!(merged.closes());
        assert_eq!((merged.scheduled, merged.skipped.total(), merged.unanswered()), (200, 20, 20));
    }
}
