//! What a run shows of itself while it goes on.
//!
//! Above: `recorder` counts, `worker` publishes a few times a second, `progress` draws. Below:
//! atomics, written by one generator and read by one thread. Absent: anything a report is made of:
//! these times are coarse (to a sixteenth), so that publishing them costs next to nothing.
//! Bound: `BUCKETS` counts for each class.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Buckets of one power of two.
const PER_OCTAVE: u64 = 8;
/// Up to two minutes, in nanoseconds.
const BUCKETS: usize = 288;

/// Sums that are read while the run goes on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Scheduled messages.
    pub(crate) scheduled: u64,
    /// Handed to the engine.
    pub(crate) submitted: u64,
    /// Answered.
    pub(crate) received: u64,
    /// Skipped.
    pub(crate) skipped: u64,
}

/// What a generator counts of one class for the view.
#[derive(Debug, Clone)]
pub(crate) struct ClassCounts {
    /// Answered, in the warm-up, too.
    received: u64,
    /// Answered late, in the measured part.
    late: u64,
    /// Response times of the measured part.
    times: Vec<u32>,
}

impl ClassCounts {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self { received: 0, late: 0, times: vec![0; BUCKETS] }
    }

    /// A reply, with its response time if its message belongs to the measured part.
    #[inline]
    pub(crate) fn replied(&mut self, response_ns: Option<u64>, is_late: bool) {
        self.received += 1;
        if let Some(response_ns) = response_ns {
            self.late += u64::from(is_late);
            let bucket = &mut self.times[bucket_of(response_ns)];
            *bucket = bucket.saturating_add(1);
        }
    }
}

/// Bucket of a time.
fn bucket_of(time_ns: u64) -> usize {
    let time_ns = time_ns.max(PER_OCTAVE);
    let octave = u64::from(time_ns.ilog2());
    let part = (time_ns >> (octave - 3)) & (PER_OCTAVE - 1);
    (((octave - 3) * PER_OCTAVE + part) as usize).min(BUCKETS - 1)
}

/// The middle of a bucket, in nanoseconds.
const fn middle_ns(bucket: usize) -> u64 {
    let (octave, part) = (bucket as u64 / PER_OCTAVE, bucket as u64 % PER_OCTAVE);
    ((PER_OCTAVE + part) << octave) + (1 << octave) / 2
}

/// What one generator publishes.
#[derive(Debug)]
pub(crate) struct Live {
    /// Messages handed to the engine.
    pub(crate) submitted: AtomicU64,
    /// Replies.
    pub(crate) received: AtomicU64,
    /// Messages not sent.
    pub(crate) skipped: AtomicU64,
    /// Number of its thread; 0 before it is known.
    pub(crate) thread: AtomicU32,
    /// Its classes.
    pub(crate) classes: Vec<LiveClass>,
}

/// What one generator publishes of one class.
#[derive(Debug)]
pub(crate) struct LiveClass {
    received: AtomicU64,
    late: AtomicU64,
    waiting: AtomicU64,
    times: Vec<AtomicU32>,
}

impl Live {
    /// Nothing published yet, of so many classes.
    pub(crate) fn new(classes: usize) -> Self {
        let class = || LiveClass {
            received: AtomicU64::new(0),
            late: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            times: (0..BUCKETS).map(|_| AtomicU32::new(0)).collect(),
        };
        Self {
            submitted: AtomicU64::new(0),
            received: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            thread: AtomicU32::new(0),
            classes: (0..classes).map(|_| class()).collect(),
        }
    }

    /// Publishes the sums over all classes.
    pub(crate) fn sums(&self, counts: Counts) {
        self.submitted.store(counts.submitted, Ordering::Relaxed);
        self.received.store(counts.received, Ordering::Relaxed);
        self.skipped.store(counts.skipped, Ordering::Relaxed);
    }
}

impl LiveClass {
    /// Publishes what was counted, and how many messages wait to be sent.
    pub(crate) fn publish(&self, counts: &ClassCounts, waiting: u32) {
        self.received.store(counts.received, Ordering::Relaxed);
        self.late.store(counts.late, Ordering::Relaxed);
        self.waiting.store(waiting.into(), Ordering::Relaxed);
        for (own, count) in self.times.iter().zip(&counts.times) {
            own.store(*count, Ordering::Relaxed);
        }
    }
}

/// One class over all generators, as far as it was published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ClassView {
    /// Answered so far, in the warm-up, too.
    pub(crate) received: u64,
    /// Answered late.
    pub(crate) late: u64,
    /// Not yet handed to the kernel.
    pub(crate) waiting: u64,
    /// Response time p50 and p99, about, in nanoseconds.
    pub(crate) response_ns: Option<(u64, u64)>,
}

impl ClassView {
    /// Of the class with this number.
    pub(crate) fn of(live: &[Live], number: usize) -> Self {
        let mut view = Self::default();
        let mut times = [0_u64; BUCKETS];
        for class in live.iter().filter_map(|live| live.classes.get(number)) {
            view.received += class.received.load(Ordering::Relaxed);
            view.late += class.late.load(Ordering::Relaxed);
            view.waiting += class.waiting.load(Ordering::Relaxed);
            for (sum, count) in times.iter_mut().zip(&class.times) {
                *sum += u64::from(count.load(Ordering::Relaxed));
            }
        }
        let all: u64 = times.iter().sum();
        let at = |percent: u64| {
            let rank = (all * percent).div_ceil(100);
            let mut seen = 0;
            let bucket = times.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            middle_ns(bucket.unwrap_or(BUCKETS - 1))
        };
        view.response_ns = (all > 0).then(|| (at(50), at(99)));
        view
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_as_wide_as_a_sixteenth_to_both_sides() {
        for time_ns in [8, 9, 100, 12_345, 999_999, 77_000_000, 100_000_000_000] {
            let middle = middle_ns(bucket_of(time_ns));
            assert!(middle.abs_diff(time_ns) * 16 <= time_ns + 16, "{middle} for {time_ns}");
        }
        assert_eq!((bucket_of(0), bucket_of(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn generators_are_added_up_before_a_percentile_is_taken() {
        let live = [Live::new(2), Live::new(2)];
        for (generator, time_ns) in [(0, 1_000), (1, 1_000_000)] {
            let mut counts = ClassCounts::new();
            (0..50).for_each(|_| counts.replied(Some(time_ns), generator == 1));
            counts.replied(None, true);
            live[generator].classes[1].publish(&counts, 3);
        }
        let view = ClassView::of(&live, 1);
        assert_eq!((view.received, view.late, view.waiting), (102, 50, 6));
        let (p50, p99) = view.response_ns.expect("a hundred samples");
        assert!(p50.abs_diff(1_000) < 70 && p99.abs_diff(1_000_000) < 70_000, "{p50} {p99}");
        assert_eq!(ClassView::of(&live, 0), ClassView::default());
    }
}
