//! Fairness: Carriers that share a scheduler share what its path carries, byte for byte, where
//! niceness and deadline are equal (start-time fair queueing).
//!
//! A Message's tag is the virtual time at which it should start: when the one before it of the
//! same Carrier would end if every Carrier had a path of its own. Smaller tags go first. So a
//! Carrier that queues much waits behind itself, not others behind it.
//!
//! Above: `Scheduler` asks for tags and says what was served. Below: nothing. Absent: order
//! between classes; weights (niceness is strict, and the draft knows no other).
//! Bounds: a clock for each class that has Messages queued; a flow for each Carrier and class that
//! has, and `IDLE_FLOWS_MAX` more.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;

use super::Rank;
use super::slots::Spread;

/// Flows without a queued Message that are remembered. When there are more, all of them are
/// forgotten: those Carriers start anew, at the share of a newcomer.
const IDLE_FLOWS_MAX: usize = 4096;

/// Messages whose tags are compared: niceness, and whether there is a deadline. Deadlines differ
/// mostly, and then tags do not matter, so all of one niceness share a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Class(u64);

impl Class {
    fn of(rank: &Rank) -> Self {
        Self(u64::from(rank.niceness) * 2 + u64::from(rank.has_deadline()))
    }
}

#[derive(Debug)]
struct Clock {
    /// The largest tag that was served.
    now: u64,
    queued: usize,
}

/// What one Carrier has queued in one class.
#[derive(Debug, Default)]
struct Flow {
    /// Where its last Message ends.
    finish: u64,
    /// Where its last Message starts; later ones never start before it, or they would overtake.
    last_start: u64,
    /// Bytes it was charged for that were never served.
    credit: u64,
    queued: usize,
}

/// The virtual clocks and flows of one scheduler.
#[derive(Debug, Default)]
pub(super) struct Fairness {
    clocks: BTreeMap<Class, Clock>,
    flows: HashMap<(Class, u32), Flow, BuildHasherDefault<Spread>>,
    queued: usize,
    /// Where the last of all Messages ends: a new clock starts here, so that what flows remember
    /// of the class's earlier days is past.
    horizon: u64,
}

/// An empty Message costs something too, or a Carrier that sends nothing else has no end.
const fn price(bytes: usize) -> u64 {
    if bytes == 0 { 1 } else { bytes as u64 }
}

impl Fairness {
    /// The tag of a new Message of `bytes` bytes, with its tag still to be set in `rank`.
    pub(super) fn enter(&mut self, carrier: u32, rank: &Rank, bytes: usize) -> u64 {
        let class = Class::of(rank);
        let horizon = self.horizon;
        let clock = self.clocks.entry(class).or_insert(Clock { now: horizon, queued: 0 });
        let flow = self.flows.entry((class, carrier)).or_default();
        let earliest = clock.now.max(flow.finish.saturating_sub(flow.credit));
        let start = earliest.max(flow.last_start);
        flow.credit = start - earliest;
        flow.last_start = start;
        flow.finish = start.saturating_add(price(bytes));
        self.horizon = horizon.max(flow.finish);
        clock.queued += 1;
        flow.queued += 1;
        self.queued += 1;
        start
    }

    /// A Message goes with this rank.
    pub(super) fn serve(&mut self, rank: &Rank) {
        if let Some(clock) = self.clocks.get_mut(&Class::of(rank)) {
            clock.now = clock.now.max(rank.tag);
        }
    }

    /// A Message leaves the queue; `taken` of its `bytes` bytes were served.
    pub(super) fn leave(&mut self, carrier: u32, rank: &Rank, bytes: usize, taken: usize) {
        let class = Class::of(rank);
        if let Some(clock) = self.clocks.get_mut(&class) {
            clock.queued -= 1;
            if clock.queued == 0 {
                self.clocks.remove(&class);
            }
        }
        if let Some(flow) = self.flows.get_mut(&(class, carrier)) {
            flow.queued -= 1;
            if flow.queued == 0 {
                flow.last_start = 0;
            }
            if taken < bytes {
                flow.credit = flow.credit.saturating_add(price(bytes) - taken as u64);
            }
        }
        self.queued -= 1;
        if self.flows.len() > self.queued + IDLE_FLOWS_MAX {
            self.flows.retain(|_, flow| flow.queued > 0);
            self.flows.shrink_to(IDLE_FLOWS_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::NEVER_US;
    use super::*;

    impl Fairness {
        /// The lowest niceness that has a Message queued.
        pub(in super::super) fn best_niceness(&self) -> Option<u32> {
            self.clocks.first_key_value().map(|(class, _)| (class.0 / 2) as u32)
        }
    }

    const RANK: Rank = Rank { niceness: 3, deadline_us: NEVER_US, tag: 0 };

    fn at(tag: u64) -> Rank {
        Rank { tag, ..RANK }
    }

    #[test]
    fn a_carrier_waits_behind_itself_and_a_newcomer_starts_now() {
        let mut fairness = Fairness::default();
        assert_eq!(fairness.enter(1, &RANK, 100), 0);
        assert_eq!(fairness.enter(1, &RANK, 50), 100);
        assert_eq!(fairness.enter(1, &RANK, 0), 150);
        assert_eq!(fairness.enter(1, &RANK, 1), 151);
        assert_eq!(fairness.enter(2, &RANK, 7), 0);
        fairness.serve(&at(100));
        fairness.serve(&at(0));
        assert_eq!(fairness.enter(3, &RANK, 7), 100);
        assert_eq!(fairness.enter(2, &RANK, 7), 100);
        assert_eq!(fairness.enter(1, &RANK, 7), 152);
    }

    #[test]
    fn classes_have_clocks_of_their_own_and_the_lowest_is_known() {
        let mut fairness = Fairness::default();
        assert_eq!(fairness.best_niceness(), None);
        let dated = Rank { deadline_us: 9, ..RANK };
        let nicer = Rank { niceness: 4, ..RANK };
        fairness.enter(1, &nicer, 100);
        assert_eq!(fairness.best_niceness(), Some(4));
        // New clocks start where the last Message of all ends.
        assert_eq!((fairness.enter(1, &RANK, 10), fairness.enter(1, &dated, 20)), (100, 110));
        assert_eq!((fairness.enter(1, &RANK, 10), fairness.enter(1, &dated, 20)), (110, 130));
        assert_eq!((fairness.enter(2, &RANK, 10), fairness.enter(2, &dated, 20)), (100, 110));
        assert_eq!(fairness.best_niceness(), Some(3));
        fairness.serve(&Rank { tag: 105, ..dated });
        assert_eq!((fairness.enter(3, &RANK, 10), fairness.enter(3, &dated, 20)), (100, 110));
        (1..=3).for_each(|carrier| fairness.leave(carrier, &RANK, 10, 10));
        assert_eq!(fairness.best_niceness(), Some(3));
        fairness.leave(1, &RANK, 10, 10);
        (1..=3).for_each(|carrier| fairness.leave(carrier, &dated, 20, 20));
        assert_eq!(fairness.best_niceness(), Some(3));
        fairness.leave(1, &dated, 20, 20);
        assert_eq!(fairness.best_niceness(), Some(4));
    }

    #[test]
    fn what_was_not_served_is_given_back_without_overtaking() {
        let mut fairness = Fairness::default();
        fairness.enter(1, &RANK, 1000);
        assert_eq!(fairness.enter(1, &RANK, 10), 1000);
        fairness.leave(1, &RANK, 1000, 300);
        // 700 bytes came back, but nothing overtakes the Message that starts at 1000.
        assert_eq!(fairness.enter(1, &RANK, 10), 1000);
        fairness.leave(1, &RANK, 10, 10);
        fairness.leave(1, &RANK, 10, 10);
        let other = fairness.enter(2, &RANK, 10);
        assert_eq!(other, 1010, "a class that was empty starts at the horizon");
        assert_eq!(fairness.enter(1, &RANK, 10), 1010);
        fairness.leave(1, &RANK, 10, 0);
        assert_eq!(fairness.enter(1, &RANK, 10), 1010, "nothing was served, nothing is owed");
        assert_eq!(fairness.enter(1, &RANK, 10), 1020, "and credit is given once");
    }

    #[test]
    fn a_carrier_is_charged_for_what_was_served_exactly() {
        let mut fairness = Fairness::default();
        fairness.enter(2, &RANK, 5000);
        fairness.enter(1, &RANK, 1000);
        fairness.leave(1, &RANK, 1000, 300);
        assert_eq!(fairness.enter(1, &RANK, 0), 300);
        fairness.leave(1, &RANK, 0, 0);
        assert_eq!(fairness.enter(1, &RANK, 10), 301, "an empty Message has its price");
        fairness.leave(1, &RANK, 10, 10);
        assert_eq!(fairness.enter(1, &RANK, 10), 311);
    }

    #[test]
    fn idle_flows_are_remembered_up_to_a_bound_and_busy_ones_always() {
        let mut fairness = Fairness::default();
        fairness.enter(0, &RANK, 10);
        fairness.enter(0, &RANK, 10);
        for carrier in 1..=IDLE_FLOWS_MAX as u32 {
            fairness.enter(carrier, &RANK, 10);
            fairness.leave(carrier, &RANK, 10, 10);
        }
        assert_eq!(fairness.enter(7, &RANK, 10), 10, "remembered");
        fairness.leave(7, &RANK, 10, 10);
        assert_eq!(fairness.flows.len(), IDLE_FLOWS_MAX + 1);
        for carrier in 5000..5002 {
            fairness.enter(carrier, &RANK, 10);
            fairness.leave(carrier, &RANK, 10, 10);
        }
        assert_eq!(fairness.flows.len(), 1, "two queued Messages have one flow");
        assert_eq!(fairness.enter(7, &RANK, 10), 0, "forgotten");
        assert_eq!(fairness.enter(0, &RANK, 10), 20, "busy");
    }
}
