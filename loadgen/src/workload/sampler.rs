//! The sampler: draws class and size of one Message after the other, from a seed.
//!
//! Above: `pace` in an open loop, `worker` in a closed one. Below: `Workload`. Absent: times.
//! A workload of one class and one size draws no random numbers.

use std::sync::Arc;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::Workload;

/// No deadline.
pub(crate) const NEVER_NS: u64 = u64::MAX;

/// What was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Number of the class.
    pub(crate) class: u8,
    /// Payload bytes.
    pub(crate) bytes: u32,
    /// Deadline after the intended send, in nanoseconds; `NEVER_NS` is none.
    pub(crate) deadline_ns: u64,
}

/// A seeded sequence of kinds.
#[derive(Debug)]
pub(crate) struct Sampler {
    workload: Arc<Workload>,
    /// Sum of the shares up to and with each class.
    cumulative: Vec<f64>,
    random: Xoshiro256PlusPlus,
}

impl Sampler {
    /// The sequence of this seed.
    pub(crate) fn new(workload: Arc<Workload>, seed: u64) -> Self {
        let sums = workload.classes.iter().scan(0.0, |sum, class| {
            *sum += class.share;
            Some(*sum)
        });
        // Not the sequence that the times are drawn from.
        let random = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0x5851_f42d_4c95_7f2d);
        Self { cumulative: sums.collect(), workload, random }
    }

    /// The next Message's class, size and deadline.
    pub(crate) fn draw(&mut self) -> Kind {
        let last = self.workload.classes.len() - 1;
        let class = if last == 0 {
            0
        } else {
            let u: f64 = self.random.random();
            self.cumulative.partition_point(|sum| *sum <= u).min(last)
        };
        let of = &self.workload.classes[class];
        let bytes = of.sizes.only().unwrap_or_else(|| of.sizes.at(self.random.random()));
        Kind {
            class: class as u8,
            bytes: bytes.max(self.workload.least_bytes()),
            deadline_ns: of.deadline.map_or(NEVER_NS, |deadline| deadline.as_nanos() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_come_in_their_shares_and_the_seed_decides() {
        let none = |_: &str| Err("no files".to_owned());
        let classes = ["share=5%,size=64", "share=70%,size=uniform:100:300", "size=9"];
        let workload = Workload::of_flags(&classes.map(ToOwned::to_owned), &none).expect("three");
        let workload = Arc::new(workload);
        let drawn = |seed| {
            let mut sampler = Sampler::new(workload.clone(), seed);
            (0..100_000).map(|_| sampler.draw()).collect::<Vec<_>>()
        };
        let first = drawn(1);
        assert_eq!(first, drawn(1));
        assert_ne!(first, drawn(2));
        for (class, share) in [(0, 0.05), (1, 0.7), (2, 0.25)] {
            let count = first.iter().filter(|kind| kind.class == class).count() as f64;
            // Four sigma of a binomial.
            let sigma = (1e5_f64 * share * (1.0 - share)).sqrt();
            assert!((count - 1e5 * share).abs() < 4.0 * sigma, "class {class}: {count}");
        }
        let least = first.iter().map(|kind| kind.bytes).min();
        assert_eq!(least, Some(workload.least_bytes()), "9 bytes have no room for the stamp");
    }
}
