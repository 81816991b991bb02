//! Queue: which slot has the smallest key; a heap that knows where each slot stands in it.
//!
//! Above: `Scheduler` has one by turn and one by deadline. Below: nothing. Absent: what a slot
//! means.
//! Bounds: one entry per slot at most, one word per slot that ever was in it; every operation
//! takes O(log n) comparisons, and none allocates once the queue has had its full length.

use super::slots::{KEPT_SLOTS, Slot};

/// Four children a parent: half the levels of two, and siblings share a cache line or two.
const CHILDREN: usize = 4;
/// The place of a slot that is not queued.
const ABSENT: u32 = u32::MAX;

/// Slots in the order of their keys; equal keys in any order.
#[derive(Debug)]
pub(super) struct Queue<K> {
    entries: Vec<(K, Slot)>,
    /// Where each slot is in `entries`.
    places: Vec<u32>,
}

impl<K: Ord + Copy> Queue<K> {
    pub(super) const fn new() -> Self {
        Self { entries: Vec::new(), places: Vec::new() }
    }

    /// The smallest key and its slot.
    #[inline]
    pub(super) fn first(&self) -> Option<(K, Slot)> {
        self.entries.first().copied()
    }

    /// Whether the slot is queued.
    pub(super) fn holds(&self, slot: Slot) -> bool {
        self.place_of(slot).is_some()
    }

    /// Queues the slot, or moves it to where `key` puts it.
    pub(super) fn put(&mut self, slot: Slot, key: K) {
        let at = self.place_of(slot).unwrap_or(self.entries.len());
        if at == self.entries.len() {
            if self.places.len() <= slot as usize {
                self.places.resize(slot as usize + 1, ABSENT);
            }
            self.entries.push((key, slot));
        }
        self.settle(at, (key, slot));
    }

    /// Takes the slot out, wherever it is; nothing happens if it is not queued.
    pub(super) fn remove(&mut self, slot: Slot) {
        let Some(at) = self.place_of(slot) else { return };
        self.places[slot as usize] = ABSENT;
        let last = self.entries.pop().expect("a queued slot has an entry");
        if at < self.entries.len() {
            self.settle(at, last);
        }
    }

    /// Gives back the memory of a burst; for an empty queue.
    pub(super) fn shrink(&mut self) {
        self.places.truncate(KEPT_SLOTS);
        self.places.shrink_to(KEPT_SLOTS);
        self.entries.shrink_to(KEPT_SLOTS);
    }

    fn place_of(&self, slot: Slot) -> Option<usize> {
        let place = *self.places.get(slot as usize)?;
        (place != ABSENT).then_some(place as usize)
    }

    /// Writes `entry` where it belongs, given that the entry at `at` may be overwritten and that
    /// all others stand right.
    fn settle(&mut self, mut at: usize, entry: (K, Slot)) {
        while at > 0 {
            let parent = (at - 1) / CHILDREN;
            if self.entries[parent].0 <= entry.0 {
                break;
            }
            self.write(at, self.entries[parent]);
            at = parent;
        }
        while let Some(child) = self.first_child(at) {
            if entry.0 <= self.entries[child].0 {
                break;
            }
            self.write(at, self.entries[child]);
            at = child;
        }
        self.write(at, entry);
    }

    /// Where the smallest of the children of `at` stands.
    fn first_child(&self, at: usize) -> Option<usize> {
        let start = at * CHILDREN + 1;
        let end = (start + CHILDREN).min(self.entries.len());
        (start..end).min_by_key(|&child| self.entries[child].0)
    }

    #[inline]
    fn write(&mut self, at: usize, entry: (K, Slot)) {
        self.entries[at] = entry;
        // Slots are counted in u32, so places fit too.
        self.places[entry.1 as usize] = at as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn check(queue: &Queue<u64>, model: &BTreeMap<Slot, u64>) {
        assert_eq!(queue.entries.len(), model.len());
        assert_eq!(queue.first().map(|first| first.0), model.values().min().copied());
        for (at, &(key, slot)) in queue.entries.iter().enumerate() {
            assert_eq!(model.get(&slot), Some(&key));
            assert_eq!(queue.place_of(slot), Some(at));
            assert!(at == 0 || queue.entries[(at - 1) / CHILDREN].0 <= key, "place {at}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn it_agrees_with_a_map_searched_for_its_minimum(
            steps in prop::collection::vec(
                (0..60u32, prop::option::weighted(0.7, 0..50u64)),
                0..300,
            ),
        ) {
            let (mut queue, mut model) = (Queue::new(), BTreeMap::new());
            for (slot, key) in steps {
                prop_assert_eq!(queue.holds(slot), model.contains_key(&slot));
                match key {
                    Some(key) => {
                        queue.put(slot, key);
                        model.insert(slot, key);
                    }
                    None => {
                        queue.remove(slot);
                        model.remove(&slot);
                    }
                }
                check(&queue, &model);
            }
            while let Some((_, slot)) = queue.first() {
                queue.remove(slot);
                model.remove(&slot);
                check(&queue, &model);
            }
        }
    }

    #[test]
    fn the_memory_of_a_burst_goes_back_and_the_queue_works_on() {
        let mut queue = Queue::new();
        (0..10_000).for_each(|slot| queue.put(slot, slot));
        (0..10_000).for_each(|slot| queue.remove(slot));
        queue.shrink();
        assert!(queue.entries.capacity() < 2 * KEPT_SLOTS);
        assert!(queue.places.capacity() < 2 * KEPT_SLOTS);
        queue.put(9_000, 1);
        assert_eq!(queue.first(), Some((1, 9_000)));
    }
}
