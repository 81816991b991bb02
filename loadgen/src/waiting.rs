//! Which message has waited longest: those not yet handed to the kernel, oldest first.
//!
//! Above: `recorder` adds and removes, in any order, one list for each class. Below: nothing.
//! Absent: messages; a place in the list stands for one. Bound: as many places as messages waited
//! at once; each step takes the same time however many there are.

/// No place.
const NONE: u32 = u32::MAX;

/// A doubly linked list within one array.
#[derive(Debug)]
pub(crate) struct Waiting {
    places: Vec<Place>,
    oldest: u32,
    youngest: u32,
    /// Places without a message, linked by `younger`.
    free: u32,
    count: u32,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    since_ns: u64,
    older: u32,
    younger: u32,
}

impl Waiting {
    /// Nobody waits.
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), oldest: NONE, youngest: NONE, free: NONE, count: 0 }
    }

    /// How many wait.
    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    /// Since when the first of them waits.
    pub(crate) fn oldest_ns(&self) -> Option<u64> {
        self.places.get(self.oldest as usize).map(|place| place.since_ns)
    }

    /// One more, the youngest; its place.
    pub(crate) fn add(&mut self, since_ns: u64) -> u32 {
        let place = Place { since_ns, older: self.youngest, younger: NONE };
        let at = self.free;
        let at = if let Some(free) = self.places.get_mut(at as usize) {
            self.free = free.younger;
            *free = place;
            at
        } else {
            self.places.push(place);
            self.places.len() as u32 - 1
        };
        match self.places.get_mut(self.youngest as usize) {
            Some(before) => before.younger = at,
            None => self.oldest = at,
        }
        self.youngest = at;
        self.count += 1;
        at
    }

    /// The one at `at` waits no more. It must be there.
    pub(crate) fn remove(&mut self, at: u32) {
        let Place { older, younger, .. } = self.places[at as usize];
        match self.places.get_mut(older as usize) {
            Some(older) => older.younger = younger,
            None => self.oldest = younger,
        }
        match self.places.get_mut(younger as usize) {
            Some(younger) => younger.older = older,
            None => self.youngest = older,
        }
        self.places[at as usize].younger = self.free;
        self.free = at;
        self.count -= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Like a plain row of those that wait, whoever leaves.
        #[test]
        fn the_oldest_is_the_first_of_those_that_are_left(steps in proptest::collection::vec(
            proptest::option::of(any::<proptest::sample::Index>()), 0..200))
        {
            let mut waiting = Waiting::new();
            let mut row: Vec<(u32, u64)> = Vec::new();
            for (now_ns, step) in (0..).zip(steps) {
                match step {
                    Some(leaves) if !row.is_empty() => {
                        let (place, _) = row.remove(leaves.index(row.len()));
                        waiting.remove(place);
                    }
                    _ => row.push((waiting.add(now_ns), now_ns)),
                }
                prop_assert_eq!(waiting.oldest_ns(), row.first().map(|(_, since)| *since));
                prop_assert_eq!(waiting.count() as usize, row.len());
            }
            prop_assert!(waiting.places.len() <= 200);
        }
    }

    #[test]
    fn places_are_used_again() {
        let mut waiting = Waiting::new();
        for round in 0..1_000 {
            let (one, other) = (waiting.add(round), waiting.add(round));
            waiting.remove(one);
            waiting.remove(other);
        }
        assert_eq!((waiting.places.len(), waiting.oldest_ns()), (2, None));
    }
}
