//! Antecedents: who waits for whom, and what became of numbers that are settled.
//!
//! Above: `Scheduler`. Below: nothing. Absent: Messages themselves. An antecedent always has the
//! smaller number, so there are no cycles.
//! Bounds: `ANTECEDENTS_MAX` links for each queued Message; `FAILED_RUNS_MAX` runs of failed
//! numbers, whatever the number of Messages.

use std::collections::{BTreeMap, BTreeSet};

use super::slots::Slot;
use super::{Number, Rank};

/// Runs of failed numbers that are remembered. Beyond it the oldest run is forgotten, and with it
/// everything about numbers up to its end: they are unknown from then on, sent or not, unless
/// they are still queued.
const FAILED_RUNS_MAX: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Link {
    antecedent: Slot,
    /// The rank of the successor.
    rank: Rank,
    successor: Slot,
}

/// Who waits for whom: the successors of each antecedent, the most urgent first.
#[derive(Debug, Default)]
pub(super) struct Links(BTreeSet<Link>);

impl Links {
    pub(super) fn insert(&mut self, antecedent: Slot, rank: Rank, successor: Slot) {
        self.0.insert(Link { antecedent, rank, successor });
    }

    pub(super) fn remove(&mut self, antecedent: Slot, rank: Rank, successor: Slot) {
        self.0.remove(&Link { antecedent, rank, successor });
    }

    /// The best rank among those that wait for `antecedent`.
    pub(super) fn best(&self, antecedent: Slot) -> Option<Rank> {
        self.first(antecedent).map(|link| link.rank)
    }

    /// Unlinks one of those that wait for `antecedent`.
    pub(super) fn pop(&mut self, antecedent: Slot) -> Option<Slot> {
        let link = self.first(antecedent)?;
        self.0.remove(&link);
        Some(link.successor)
    }

    fn first(&self, antecedent: Slot) -> Option<Link> {
        let start = Link { antecedent, rank: Rank::FIRST, successor: 0 };
        let link = *self.0.range(start..).next()?;
        (link.antecedent == antecedent).then_some(link)
    }
}

/// What became of a number that is not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was sent.
    Sent,
    /// It expired or was withdrawn.
    Failed,
    /// It is too long ago.
    Forgotten,
}

/// What is remembered of settled numbers: those that failed; the others were sent.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// First and last number of each run of failed ones.
    runs: BTreeMap<Number, Number>,
    /// Nothing is known of numbers below.
    floor: Number,
}

impl Settled {
    /// Remembers that `number` failed.
    pub(super) fn fail(&mut self, number: Number) {
        if number < self.floor {
            return;
        }
        let mut last = number;
        if let Some(after) = self.runs.remove(&(number + 1)) {
            last = after;
        }
        match self.runs.range_mut(..number).next_back() {
            Some((_, before)) if *before + 1 == number => *before = last,
            _ => _ = self.runs.insert(number, last),
        }
        if self.runs.len() > FAILED_RUNS_MAX
            && let Some((_, last)) = self.runs.pop_first()
        {
            self.floor = last + 1;
        }
    }

    /// What became of `number`, which was given out and is not queued.
    pub(super) fn fate(&self, number: Number) -> Fate {
        if number < self.floor {
            return Fate::Forgotten;
        }
        match self.runs.range(..=number).next_back() {
            Some((_, &last)) if number <= last => Fate::Failed,
            _ => Fate::Sent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successors_come_out_most_urgent_first_and_only_those_asked_for() {
        let mut links = Links::default();
        let rank = |niceness| Rank { niceness, ..Rank::FIRST };
        links.insert(5, rank(2), 7);
        links.insert(5, rank(1), 9);
        links.insert(6, rank(0), 8);
        links.insert(4, rank(3), 8);
        assert_eq!(links.best(5), Some(rank(1)));
        assert_eq!(links.pop(5), Some(9));
        links.remove(5, rank(2), 7);
        assert_eq!((links.best(5), links.pop(5)), (None, None));
        assert_eq!((links.best(4), links.best(6)), (Some(rank(3)), Some(rank(0))));
        assert_eq!(links.best(7), None);
    }

    #[test]
    fn failed_numbers_are_remembered_in_runs() {
        let mut settled = Settled::default();
        [5, 7, 2, 6, 3].into_iter().for_each(|number| settled.fail(number));
        assert_eq!(settled.runs.iter().collect::<Vec<_>>(), [(&2, &3), (&5, &7)]);
        settled.fail(4);
        assert_eq!(settled.runs.iter().collect::<Vec<_>>(), [(&2, &7)]);
        let fates = [1, 2, 7, 8].map(|number| settled.fate(number));
        assert_eq!(fates, [Fate::Sent, Fate::Failed, Fate::Failed, Fate::Sent]);
    }

    #[test]
    fn the_oldest_run_is_forgotten_with_all_before_it() {
        let mut settled = Settled::default();
        settled.fail(11);
        (0..FAILED_RUNS_MAX as Number).for_each(|at| settled.fail(10 + 2 * at));
        assert_eq!(settled.runs.len(), FAILED_RUNS_MAX - 1, "11 joined 10 and 12");
        settled.fail(5);
        assert_eq!((settled.runs.len(), settled.fate(4)), (FAILED_RUNS_MAX, Fate::Sent));
        settled.fail(1_000_000);
        assert_eq!(settled.runs.len(), FAILED_RUNS_MAX);
        assert_eq!((settled.fate(4), settled.fate(5)), (Fate::Forgotten, Fate::Forgotten));
        assert_eq!((settled.fate(6), settled.fate(10)), (Fate::Sent, Fate::Failed));
        settled.fail(3);
        assert_eq!((settled.fate(4), settled.fate(10)), (Fate::Forgotten, Fate::Failed));
        settled.fail(6);
        assert_eq!(settled.fate(6), Fate::Forgotten, "it is the oldest run, and one too many");
        assert_eq!((settled.runs.len(), settled.fate(10)), (FAILED_RUNS_MAX, Fate::Failed));
    }
}
