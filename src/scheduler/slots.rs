//! Slots: the queued Messages, found by number or by slot.
//!
//! Above: `Scheduler`. Below: nothing. Absent: order, time, outcomes.
//! Bounds: the owner's bound on messages; slots are used again, with what they had allocated.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::{NEVER_US, Number, Rank, Turn, turn};

/// Where a queued Message is kept: an index that is used again after the Message left.
pub(super) type Slot = u32;

/// This much room stays when the last Message leaves; the memory of a burst goes back.
pub(super) const KEPT_SLOTS: usize = 1024;

/// How far a Message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not wholly handed over: waiting for antecedents, ready, or begun.
    Queued,
    /// Wholly handed over; its end is reported by `finish` or `withdraw`.
    InHand,
    /// An antecedent failed; it expires in the same call.
    Doomed,
}

/// One queued Message.
#[derive(Debug)]
pub(super) struct Entry<T> {
    /// 0 in a free slot.
    pub(super) number: Number,
    /// What was asked for it; the tag moves on with what was taken of it.
    pub(super) own: Rank,
    /// The best of its own rank and the ranks of those that wait for it.
    pub(super) rank: Rank,
    pub(super) carrier: u32,
    pub(super) stage: Stage,
    /// Whether its bytes were counted as wasted because its deadline had passed.
    pub(super) late: bool,
    pub(super) bytes: usize,
    pub(super) taken: usize,
    /// Antecedents that are not finished yet, none twice.
    pub(super) antecedents: Vec<Slot>,
    payload: Option<T>,
}

impl<T> Entry<T> {
    /// Where it stands among the ready ones, if it is one.
    pub(super) const fn turn(&self) -> Turn {
        turn(&self.rank, self.number)
    }

    /// Where it stands among those that may expire, if it is one.
    pub(super) const fn expiry(&self) -> (u64, Number) {
        (self.own.deadline_us, self.number)
    }

    /// Whether it has a deadline that has come.
    pub(super) const fn is_due(&self, now_us: u64) -> bool {
        self.own.deadline_us <= now_us && self.own.deadline_us != NEVER_US
    }

    /// Bytes of it that were handed over and are wasted if it ends here.
    pub(super) const fn lost_bytes(&self) -> usize {
        if self.late { 0 } else { self.taken }
    }
}

/// All queued Messages.
#[derive(Debug)]
pub(super) struct Slots<T> {
    entries: Vec<Entry<T>>,
    free: Vec<Slot>,
    by_number: HashMap<Number, Slot, BuildHasherDefault<Spread>>,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), by_number: HashMap::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    pub(super) fn find(&self, number: Number) -> Option<Slot> {
        self.by_number.get(&number).copied()
    }

    #[inline]
    pub(super) fn at(&self, slot: Slot) -> &Entry<T> {
        &self.entries[slot as usize]
    }

    #[inline]
    pub(super) fn at_mut(&mut self, slot: Slot) -> &mut Entry<T> {
        &mut self.entries[slot as usize]
    }

    /// Keeps a Message that nothing was taken of and that waits for nothing.
    pub(super) fn insert(
        &mut self,
        number: Number,
        own: Rank,
        (carrier, bytes): (u32, usize),
        payload: T,
    ) -> Slot {
        let slot = self.free.pop().unwrap_or(self.entries.len() as Slot);
        let antecedents = self.entries.get_mut(slot as usize).map(|free| {
            debug_assert!(free.number == 0 && free.antecedents.is_empty(), "the slot is free");
            std::mem::take(&mut free.antecedents)
        });
        let known = antecedents.is_some();
        let entry = Entry {
            number,
            own,
            rank: own,
            carrier,
            stage: Stage::Queued,
            late: false,
            bytes,
            taken: 0,
            antecedents: antecedents.unwrap_or_default(),
            payload: Some(payload),
        };
        if known {
            self.entries[slot as usize] = entry;
        } else {
            self.entries.push(entry);
        }
        self.by_number.insert(number, slot);
        slot
    }

    /// Frees the slot and gives its payload back.
    pub(super) fn remove(&mut self, slot: Slot) -> T {
        let entry = &mut self.entries[slot as usize];
        self.by_number.remove(&entry.number);
        entry.number = 0;
        entry.antecedents.clear();
        self.free.push(slot);
        entry.payload.take().expect("a slot in use has its payload")
    }

    /// Every queued Message, latest number first.
    pub(super) fn latest_first(&self) -> Vec<(Number, Slot)> {
        let pairs = self.by_number.iter().map(|(&number, &slot)| (number, slot));
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_unstable_by(|one, other| other.cmp(one));
        pairs
    }

    /// Gives back the memory of a burst, if nothing is queued and there is much of it.
    pub(super) fn shrink(&mut self) -> bool {
        let shrinks = self.by_number.is_empty() && self.entries.len() > KEPT_SLOTS;
        if shrinks {
            self.entries.clear();
            self.entries.shrink_to(KEPT_SLOTS);
            self.free.clear();
            self.free.shrink_to(KEPT_SLOTS);
            self.by_number.shrink_to(KEPT_SLOTS);
        }
        shrinks
    }
}

/// Hashes numbers that this process counts itself: nobody outside can make them collide, so one
/// multiplication a word is enough.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANK: Rank = Rank { niceness: 0, deadline_us: NEVER_US, tag: 0 };

    #[test]
    fn slots_are_used_again_and_the_memory_of_a_burst_goes_back() {
        let mut slots = Slots::new();
        let first = slots.insert(1, RANK, (0, 0), "one");
        assert_eq!(slots.remove(first), "one");
        assert_eq!(slots.insert(2, RANK, (0, 0), "two"), first);
        assert_eq!((slots.find(1), slots.find(2)), (None, Some(first)));
        let more: Vec<_> = (3..5_000).map(|at| slots.insert(at, RANK, (0, 0), "more")).collect();
        assert!(!slots.shrink(), "there is something in it");
        more.into_iter().for_each(|slot| _ = slots.remove(slot));
        assert!(!slots.shrink());
        slots.remove(first);
        assert!(slots.shrink());
        assert!(
            slots.entries.capacity() < 2 * KEPT_SLOTS && slots.free.capacity() < 2 * KEPT_SLOTS
        );
        assert!(slots.by_number.capacity() < 3 * KEPT_SLOTS);
        assert!(!slots.shrink(), "it is small already");
        assert_eq!(slots.insert(9_000, RANK, (0, 0), "again"), 0);
        assert_eq!(slots.latest_first(), [(9_000, 0)]);
    }

    #[test]
    fn neighbours_are_spread_over_high_and_low_bits() {
        let hash = |number: u64| {
            let mut spread = Spread::default();
            spread.write_u32(7);
            spread.write_u64(number);
            spread.finish()
        };
        let low: std::collections::HashSet<u64> = (0..1000).map(|at| hash(at) & 1023).collect();
        let high: std::collections::HashSet<u64> = (0..1000).map(|at| hash(at) >> 57).collect();
        assert!(low.len() > 500 && high.len() == 128, "{} {}", low.len(), high.len());
    }
}
