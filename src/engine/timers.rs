//! Which keys are due: a hierarchical timer wheel for one core.
//!
//! Above: `shard` schedules Tokens and re-checks each key that comes due. Below: nothing.
//! Absent: clocks (now is an argument), cancelling one by one (an entry is 16 bytes and stays until
//! its tick; its owner looks whether it still matters, and may have all sifted) and callbacks.
//! Bounds: 16 bytes per entry plus the slack of a growing Vec; an entry moves at most once per
//! level (11 levels of 64 slots cover every tick of 64 bits). The number of entries is the
//! owner's to limit: it schedules a key again only after the key came due.

/// Slots per level; a level looks at one digit of this base.
const SLOTS: usize = 64;
/// Bits of one digit.
const DIGIT_BITS: u32 = SLOTS.ilog2();
/// A drained slot keeps room for this many entries; the memory of a burst goes back.
const KEPT_CAPACITY: usize = 16;

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: u64,
    at_tick: u64,
}

const _: () = assert!(size_of::<Entry>() == 16);

#[derive(Debug)]
struct Slot {
    entries: Vec<Entry>,
    /// The earliest tick among the entries, `u64::MAX` if there is none.
    earliest_tick: u64,
}

#[derive(Debug)]
struct Level {
    /// One bit per slot with entries.
    occupied: u64,
    slots: Box<[Slot]>,
}

impl Level {
    fn new() -> Self {
        let empty = || Slot { entries: Vec::new(), earliest_tick: u64::MAX };
        Self { occupied: 0, slots: (0..SLOTS).map(|_| empty()).collect() }
    }
}

/// The timers of one core, in ticks (the engine's tick is 1 ms since the core started).
// An entry lies at the level of the highest digit in which its tick differs from now, in the slot
// of that digit. So everything at a lower level is earlier than everything at a higher one, and
// in a level the lower slot is the earlier one: the first entry is always in the first slot
// occupied. Whenever now enters the span of a slot, that slot is dealt out to lower levels.
#[derive(Debug, Default)]
pub(crate) struct Wheel {
    now_tick: u64,
    len: usize,
    /// Where the span of the first slot occupied begins; unused if there is no entry.
    first_starts_tick: u64,
    /// The tick of the earliest entry; unused if there is no entry.
    earliest_tick: u64,
    /// Grown to the highest level in use so far.
    levels: Vec<Level>,
}

impl Wheel {
    /// Has `advance` report `key` once at `at_tick`; a tick that has passed means the next call.
    /// The same key may be scheduled several times and is then reported as often.
    pub(crate) fn schedule(&mut self, key: u64, at_tick: u64) {
        if self.len == 0 {
            (self.first_starts_tick, self.earliest_tick) = (u64::MAX, u64::MAX);
        }
        self.len += 1;
        self.insert(Entry { key, at_tick: at_tick.max(self.now_tick) });
    }

    /// Moves to `now_tick` if that takes it into no entry's span: then nothing is due. If it says
    /// false it has done nothing; `advance` is needed.
    #[inline]
    pub(crate) fn pass(&mut self, now_tick: u64) -> bool {
        let passes = self.len == 0 || now_tick < self.first_starts_tick;
        if passes {
            self.now_tick = now_tick.max(self.now_tick);
        }
        passes
    }

    /// Moves to `now_tick` and pushes every key whose tick has come to `due`, earlier ticks
    /// first, keys of one tick in any order. A now that lies before an earlier one changes
    /// nothing.
    pub(crate) fn advance(&mut self, now_tick: u64, due: &mut Vec<u64>) {
        let now_tick = now_tick.max(self.now_tick);
        while let Some((level, slot)) = self.first_occupied() {
            let starts_tick = self.starts_tick(level, slot);
            if starts_tick > now_tick {
                break;
            }
            self.now_tick = starts_tick;
            let mut entries = self.empty_slot(level, slot);
            if level == 0 {
                self.len -= entries.len();
                due.extend(entries.iter().map(|entry| entry.key));
            } else {
                entries.iter().for_each(|entry| self.insert(*entry));
            }
            if entries.capacity() <= KEPT_CAPACITY {
                entries.clear();
                self.levels[level].slots[slot].entries = entries;
            }
        }
        self.now_tick = now_tick;
        self.note_first();
    }

    /// The tick of the earliest entry, exactly; `None` if there is no entry.
    #[inline]
    pub(crate) fn next_tick(&self) -> Option<u64> {
        (self.len > 0).then_some(self.earliest_tick)
    }

    /// Forgets the entries whose key `matters` no more. It looks at every entry: worth it when many
    /// have been given up.
    pub(crate) fn retain(&mut self, mut matters: impl FnMut(u64) -> bool) {
        self.len = 0;
        for level in &mut self.levels {
            for (digit, slot) in level.slots.iter_mut().enumerate() {
                slot.entries.retain(|entry| matters(entry.key));
                slot.entries.shrink_to(slot.entries.len().max(KEPT_CAPACITY));
                slot.earliest_tick = u64::MAX;
                if let Some(earliest) = slot.entries.iter().map(|entry| entry.at_tick).min() {
                    slot.earliest_tick = earliest;
                } else {
                    level.occupied &= !(1 << digit);
                }
                self.len += slot.entries.len();
            }
        }
        self.note_first();
    }

    fn note_first(&mut self) {
        if let Some((level, slot)) = self.first_occupied() {
            self.first_starts_tick = self.starts_tick(level, slot);
            self.earliest_tick = self.levels[level].slots[slot].earliest_tick;
        }
    }

    /// Entries that were not reported yet.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn insert(&mut self, entry: Entry) {
        let level = match self.now_tick ^ entry.at_tick {
            0 => 0,
            difference => (difference.ilog2() / DIGIT_BITS) as usize,
        };
        if self.levels.len() <= level {
            self.levels.resize_with(level + 1, Level::new);
        }
        let digit = (entry.at_tick >> shift_bits(level)) as usize % SLOTS;
        let starts_tick = self.starts_tick(level, digit);
        self.first_starts_tick = self.first_starts_tick.min(starts_tick);
        self.earliest_tick = self.earliest_tick.min(entry.at_tick);
        let level = &mut self.levels[level];
        level.occupied |= 1 << digit;
        let slot = &mut level.slots[digit];
        slot.earliest_tick = slot.earliest_tick.min(entry.at_tick);
        slot.entries.push(entry);
    }

    fn first_occupied(&self) -> Option<(usize, usize)> {
        let level = self.levels.iter().position(|level| level.occupied != 0)?;
        Some((level, self.levels[level].occupied.trailing_zeros() as usize))
    }

    /// The first tick a slot stands for: now's digits above its level, its own digit, zeros.
    fn starts_tick(&self, level: usize, slot: usize) -> u64 {
        let above = u64::MAX.checked_shl(shift_bits(level + 1)).unwrap_or(0);
        (self.now_tick & above) | ((slot as u64) << shift_bits(level))
    }

    fn empty_slot(&mut self, level: usize, slot: usize) -> Vec<Entry> {
        let level = &mut self.levels[level];
        level.occupied &= !(1 << slot);
        level.slots[slot].earliest_tick = u64::MAX;
        std::mem::take(&mut level.slots[slot].entries)
    }
}

/// How far the digit of a level is shifted.
fn shift_bits(level: usize) -> u32 {
    level as u32 * DIGIT_BITS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn advanced(wheel: &mut Wheel, now_tick: u64) -> Vec<u64> {
        let mut due = Vec::new();
        wheel.advance(now_tick, &mut due);
        due
    }

    fn capacity(wheel: &Wheel) -> usize {
        let slots = wheel.levels.iter().flat_map(|level| level.slots.iter());
        slots.map(|slot| slot.entries.capacity()).sum()
    }

    #[test]
    fn keys_come_in_the_order_of_their_ticks_and_not_before() {
        let mut wheel = Wheel::default();
        for at_tick in [5000, 3, 64, 63, 4096, 100_000] {
            wheel.schedule(at_tick, at_tick);
        }
        assert_eq!(wheel.next_tick(), Some(3));
        assert_eq!(advanced(&mut wheel, 2), [0; 0]);
        assert_eq!(advanced(&mut wheel, 63), [3, 63]);
        assert_eq!(wheel.next_tick(), Some(64));
        assert_eq!(advanced(&mut wheel, 99_999), [64, 4096, 5000]);
        assert_eq!(wheel.len(), 1);
        assert_eq!(advanced(&mut wheel, u64::MAX), [100_000]);
        assert_eq!((wheel.next_tick(), wheel.len()), (None, 0));
    }

    #[test]
    fn a_passed_tick_is_due_at_once_and_time_never_goes_back() {
        let mut wheel = Wheel::default();
        assert_eq!(advanced(&mut wheel, 1000), [0; 0]);
        wheel.schedule(1, 10);
        wheel.schedule(2, 1000);
        wheel.schedule(3, 1001);
        assert_eq!(wheel.next_tick(), Some(1000));
        assert_eq!(advanced(&mut wheel, 5), [1, 2]);
        assert_eq!(advanced(&mut wheel, 1001), [3]);
    }

    #[test]
    fn the_last_ticks_of_all_work() {
        let mut wheel = Wheel::default();
        wheel.schedule(1, u64::MAX);
        wheel.schedule(2, u64::MAX - 1);
        assert_eq!(advanced(&mut wheel, u64::MAX - 1), [2]);
        assert_eq!(wheel.next_tick(), Some(u64::MAX));
        assert_eq!(advanced(&mut wheel, u64::MAX), [1]);
        wheel.schedule(3, 0);
        assert_eq!(advanced(&mut wheel, 0), [3]);
    }

    #[test]
    fn memory_shrinks_after_a_burst() {
        let mut wheel = Wheel::default();
        for key in 0..100_000 {
            wheel.schedule(key, 30_000 + key % 50);
        }
        assert!(capacity(&wheel) >= 100_000);
        let mut last_tick = 0;
        while let Some(next_tick) = wheel.next_tick() {
            assert!(next_tick > last_tick);
            last_tick = next_tick;
            assert_eq!(advanced(&mut wheel, next_tick).len(), 2000);
        }
        assert!(capacity(&wheel) <= wheel.levels.len() * SLOTS * KEPT_CAPACITY);
        assert!(capacity(&wheel) < 10_000, "{}", capacity(&wheel));
    }

    #[test]
    fn what_was_sifted_out_is_gone_and_the_rest_comes_in_time() {
        let mut wheel = Wheel::default();
        (1..10_000).for_each(|key| wheel.schedule(key, key * 7));
        wheel.retain(|key| key % 1000 == 999);
        assert_eq!((wheel.len(), wheel.next_tick()), (10, Some(999 * 7)));
        assert!(capacity(&wheel) <= wheel.levels.len() * SLOTS * KEPT_CAPACITY);
        assert_eq!(advanced(&mut wheel, 1999 * 7), [999, 1999]);
        wheel.retain(|_| false);
        assert_eq!((wheel.len(), wheel.next_tick()), (0, None));
        wheel.schedule(1, 1_000_000);
        assert!(!wheel.pass(1_000_000));
        assert_eq!(advanced(&mut wheel, 1_000_000), [1]);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Schedule(u64),
        Advance(u64),
        AdvanceToNext,
    }

    fn distance() -> impl Strategy<Value = u64> {
        prop_oneof![
            4 => 0..200_u64,
            4 => 0..300_000_u64,
            2 => (0..63_u32, 0..1000_u64).prop_map(|(bits, more)| (1 << bits) + more),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => distance().prop_map(Step::Schedule),
            3 => distance().prop_map(Step::Advance),
            2 => Just(Step::AdvanceToNext),
        ]
    }

    /// What the wheel must do, said with a sorted map.
    #[derive(Default)]
    struct Model(BTreeMap<u64, Vec<u64>>);

    impl Model {
        fn advance(&mut self, now_tick: u64) -> Vec<Vec<u64>> {
            let later = now_tick.checked_add(1).map(|tick| self.0.split_off(&tick));
            let due = std::mem::replace(&mut self.0, later.unwrap_or_default());
            due.into_values().collect()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn the_wheel_does_what_a_sorted_map_does(
            start in prop_oneof![Just(0), any::<u64>()],
            steps in prop::collection::vec(step(), 1..300),
        ) {
            let (mut wheel, mut model, mut now_tick) = (Wheel::default(), Model::default(), start);
            prop_assert_eq!(advanced(&mut wheel, start), Vec::<u64>::new());
            for (key, step) in (0_u64..).zip(steps) {
                match step {
                    Step::Schedule(distance) => {
                        let at_tick = now_tick.saturating_add(distance);
                        wheel.schedule(key, at_tick);
                        model.0.entry(at_tick).or_default().push(key);
                    }
                    Step::Advance(distance) => now_tick = now_tick.saturating_add(distance),
                    Step::AdvanceToNext => now_tick = wheel.next_tick().unwrap_or(now_tick),
                }
                if !matches!(step, Step::Schedule(_)) {
                    let mut rest = advanced(&mut wheel, now_tick);
                    for mut same_tick in model.advance(now_tick) {
                        prop_assert!(rest.len() >= same_tick.len());
                        let later = rest.split_off(same_tick.len());
                        rest.sort_unstable();
                        same_tick.sort_unstable();
                        prop_assert_eq!(std::mem::replace(&mut rest, later), same_tick);
                    }
                    prop_assert!(rest.is_empty(), "reported without being due: {:?}", rest);
                }
                prop_assert_eq!(wheel.next_tick(), model.0.keys().next().copied());
                prop_assert_eq!(wheel.len(), model.0.values().map(Vec::len).sum::<usize>());
            }
        }
    }
}
