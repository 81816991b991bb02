//! Latencies as counts: mergeable, bounded, three significant digits.
//!
//! Above: `recorder` fills them, `statistics` asks for ranks. Below: the crate hdrhistogram.
//! Absent: percentiles of percentiles (histograms merge, percentiles never average) and any
//! correction after the fact: times count from the intended send already.
//! Bound: values end at `TIME_MAX_NS`, memory is fixed at `new`; `record` never allocates.

use hdrhistogram::{Counter, Histogram};
use serde::{Deserialize, Serialize};

/// Longest time told apart, in nanoseconds: two minutes.
const TIME_MAX_NS: u64 = 120_000_000_000;
/// Resolution of a timeline's histograms, in nanoseconds.
const TIMELINE_UNIT_NS: u64 = 100;

/// Counts of times in nanoseconds, to three significant digits.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "Vec<(u64, u64)>", from = "Vec<(u64, u64)>")]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    /// No counts yet.
    pub(crate) fn new() -> Self {
        let counts = Histogram::new_with_bounds(1, TIME_MAX_NS, 3);
        Self(counts.expect("constant bounds that hdrhistogram accepts"))
    }

    /// Counts one time; longer ones than two minutes count as two minutes.
    #[inline]
    pub(crate) fn record(&mut self, time_ns: u64) {
        self.0.saturating_record(time_ns);
    }

    /// Adds the counts of another worker.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("equal bounds always add");
    }

    /// How many times were counted.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The longest time, in nanoseconds; `None` without counts.
    pub(crate) fn max_ns(&self) -> Option<u64> {
        (self.count() > 0).then(|| self.0.max())
    }

    /// The mean, in nanoseconds; `None` without counts.
    pub(crate) fn mean_ns(&self) -> Option<f64> {
        (self.count() > 0).then(|| self.0.mean())
    }

    /// All counts, for other tools; in nanoseconds.
    pub(crate) const fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }

    /// Upper edge and count of every bucket in use, rising, in nanoseconds.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let max_ns = self.0.max();
        self.0
            .iter_recorded()
            .map(move |step| (step.value_iterated_to().min(max_ns), step.count_at_value()))
    }

    /// The values of rising `ranks` (1 is the shortest time), `None` beyond the last.
    pub(crate) fn at_ranks(&self, ranks: &[u64]) -> Vec<Option<u64>> {
        let mut values = Vec::with_capacity(ranks.len());
        let mut seen = 0;
        for (value_ns, count) in self.buckets() {
            seen += count;
            while ranks.get(values.len()).is_some_and(|rank| *rank <= seen) {
                values.push(Some(value_ns));
            }
        }
        values.resize(ranks.len(), None);
        values
    }
}

/// Upper edge and count of every bucket in use: put in again they are the same counts.
impl From<Latencies> for Vec<(u64, u64)> {
    fn from(latencies: Latencies) -> Self {
        latencies.buckets().collect()
    }
}

impl From<Vec<(u64, u64)>> for Latencies {
    fn from(buckets: Vec<(u64, u64)>) -> Self {
        let mut latencies = Self::new();
        refill(&mut latencies.0, buckets);
        latencies
    }
}

fn refill<T: Counter>(histogram: &mut Histogram<T>, buckets: Vec<(u64, T)>) {
    for (value, count) in buckets {
        histogram.saturating_record_n(value, count);
    }
}

/// The form of a stretch's histogram outside: as `Latencies`, in units of the timeline.
mod stretch {
    use serde::{Deserializer, Serializer};

    use super::{Deserialize, Histogram, Interval, Serialize, refill};

    pub(super) fn serialize<S: Serializer>(
        histogram: &Histogram<u32>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let step = histogram.iter_recorded();
        let buckets = step.map(|step| (step.value_iterated_to(), step.count_at_value()));
        buckets.collect::<Vec<(u64, u32)>>().serialize(to)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(
        from: D,
    ) -> Result<Histogram<u32>, D::Error> {
        let mut histogram = Interval::new().response;
        refill(&mut histogram, Vec::deserialize(from)?);
        Ok(histogram)
    }
}

/// What happened to the messages meant for one stretch of the run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Interval {
    #[serde(with = "stretch")]
    response: Histogram<u32>,
    /// Messages handed to the engine.
    pub(crate) submitted: u64,
    /// Sum of their send lags, in nanoseconds.
    pub(crate) lag_sum_ns: u64,
    /// Longest of their send lags, in nanoseconds.
    pub(crate) lag_max_ns: u64,
    /// By class, how long the oldest message had waited for the kernel at the worst look within
    /// this stretch, in nanoseconds; empty where nobody looked.
    pub(crate) waited_ns: Vec<u64>,
}

impl Interval {
    fn new() -> Self {
        let counts = Histogram::new_with_bounds(1, TIME_MAX_NS / TIMELINE_UNIT_NS, 2);
        let response = counts.expect("constant bounds that hdrhistogram accepts");
        Self { response, submitted: 0, lag_sum_ns: 0, lag_max_ns: 0, waited_ns: Vec::new() }
    }

    /// Answered messages.
    pub(crate) fn received(&self) -> u64 {
        self.response.len()
    }

    /// Response time at a share such as 0.99, in nanoseconds; `None` without replies.
    pub(crate) fn response_ns(&self, share: f64) -> Option<u64> {
        let value = || self.response.value_at_quantile(share) * TIMELINE_UNIT_NS;
        (self.received() > 0).then(value)
    }

    /// Mean send lag, in nanoseconds; `None` if nothing was sent.
    pub(crate) fn lag_mean_ns(&self) -> Option<f64> {
        (self.submitted > 0).then(|| self.lag_sum_ns as f64 / self.submitted as f64)
    }

    fn merge(&mut self, other: &Self) {
        self.response.add(&other.response).expect("equal bounds always add");
        self.submitted += other.submitted;
        self.lag_sum_ns += other.lag_sum_ns;
        self.lag_max_ns = self.lag_max_ns.max(other.lag_max_ns);
        for (class, waited_ns) in other.waited_ns.iter().enumerate() {
            self.waited(class, *waited_ns);
        }
    }

    fn waited(&mut self, class: usize, waited_ns: u64) {
        if self.waited_ns.len() <= class {
            self.waited_ns.resize(class + 1, 0);
        }
        self.waited_ns[class] = self.waited_ns[class].max(waited_ns);
    }
}

/// The measured part of a run in equal stretches, by *intended* send time: a stall shows where
/// it began to hurt, not where its replies came in a heap.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Timeline {
    interval_ns: u64,
    intervals: Vec<Interval>,
}

impl Timeline {
    /// Most stretches of one run.
    const INTERVALS_MAX: u64 = 100;
    /// Shortest stretch, in nanoseconds.
    const INTERVAL_MIN_NS: u64 = 50_000_000;

    /// An empty timeline of `duration_ns`.
    pub(crate) fn new(duration_ns: u64) -> Self {
        let (interval_ns, count) = Self::stretches(duration_ns);
        Self { interval_ns, intervals: vec![Interval::new(); count] }
    }

    /// Length in nanoseconds and number of the stretches of so long a run.
    pub(crate) fn stretches(duration_ns: u64) -> (u64, usize) {
        let count = (duration_ns / Self::INTERVAL_MIN_NS).clamp(1, Self::INTERVALS_MAX);
        (duration_ns.div_ceil(count).max(1), count as usize)
    }

    /// Length of a stretch, in nanoseconds.
    pub(crate) const fn interval_ns(&self) -> u64 {
        self.interval_ns
    }

    /// The stretches in order.
    pub(crate) fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    /// Notes a message sent `lag_ns` late; `at_ns` counts from the start of the timeline.
    #[inline]
    pub(crate) fn submitted(&mut self, at_ns: u64, lag_ns: u64) {
        let interval = self.interval(at_ns);
        interval.submitted += 1;
        interval.lag_sum_ns += lag_ns;
        interval.lag_max_ns = interval.lag_max_ns.max(lag_ns);
    }

    /// Notes the reply of the message intended at `at_ns`.
    #[inline]
    pub(crate) fn received(&mut self, at_ns: u64, response_ns: u64) {
        self.interval(at_ns).response.saturating_record(response_ns / TIMELINE_UNIT_NS);
    }

    /// True if `other` has the same stretches, and no sum that could overflow.
    pub(crate) fn fits(&self, other: &Self) -> bool {
        let small = |interval: &Interval| interval.submitted.max(interval.lag_sum_ns) < 1 << 53;
        (self.interval_ns, self.intervals.len()) == (other.interval_ns, other.intervals.len())
            && other.intervals.iter().all(small)
    }

    /// Notes that at `at_ns` the oldest message of a class had waited so long for the kernel.
    pub(crate) fn waited(&mut self, at_ns: u64, class: usize, waited_ns: u64) {
        self.interval(at_ns).waited(class, waited_ns);
    }

    /// The longest such wait of a class; `None` where nobody looked.
    pub(crate) fn longest_wait_ns(&self, class: usize) -> Option<u64> {
        self.intervals.iter().filter_map(|interval| interval.waited_ns.get(class)).max().copied()
    }

    /// Adds another worker's timeline of the same run.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (own, other) in self.intervals.iter_mut().zip(&other.intervals) {
            own.merge(other);
        }
    }

    /// Median response time of the first and of the second half, over the stretches in use.
    pub(crate) fn median_of_halves_ns(&self) -> Option<(u64, u64)> {
        let used = self.intervals.iter().rposition(|i| i.received() > 0)? + 1;
        if used < 4 {
            return None;
        }
        let half = |range: &[Interval]| {
            let mut merged = Interval::new();
            range.iter().for_each(|interval| merged.merge(interval));
            merged.response_ns(0.5)
        };
        Some((half(&self.intervals[..used / 2])?, half(&self.intervals[used / 2..used])?))
    }

    /// Mean send lag of each quarter, over the stretches in use, in nanoseconds.
    pub(crate) fn lag_by_quarter_ns(&self) -> Option<[f64; 4]> {
        let used = self.intervals.iter().rposition(|i| i.submitted > 0)? + 1;
        if used < 4 {
            return None;
        }
        let quarter = |number: usize| {
            let range = &self.intervals[used * number / 4..used * (number + 1) / 4];
            let sum_ns: u64 = range.iter().map(|interval| interval.lag_sum_ns).sum();
            let count: u64 = range.iter().map(|interval| interval.submitted).sum();
            sum_ns as f64 / count.max(1) as f64
        };
        Some([quarter(0), quarter(1), quarter(2), quarter(3)])
    }

    fn interval(&mut self, at_ns: u64) -> &mut Interval {
        let last = self.intervals.len() - 1;
        &mut self.intervals[((at_ns / self.interval_ns) as usize).min(last)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(times_ns: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::new();
        times_ns.into_iter().for_each(|time_ns| latencies.record(time_ns));
        latencies
    }

    #[test]
    fn ranks_find_values_to_three_digits() {
        let latencies = latencies((1..=10_000).map(|n| n * 1_000));
        let found = latencies.at_ranks(&[1, 5_000, 9_900, 10_000, 10_001]);
        for (value, want_ns) in found.iter().zip([1_000, 5_000_000, 9_900_000, 10_000_000]) {
            let value = value.expect("a rank within the count");
            assert!(value.abs_diff(want_ns) * 1_000 <= want_ns, "{value} for {want_ns}");
        }
        assert_eq!(found[4], None);
        assert_eq!(latencies.max_ns().map(|ns| ns.abs_diff(10_000_000) <= 10_000), Some(true));
    }

    #[test]
    fn merging_is_the_same_as_counting_together() {
        let mut merged = latencies([5, 70_000, 3]);
        merged.merge(&latencies([900_000_000, 70_000]));
        let together = latencies([5, 70_000, 3, 900_000_000, 70_000]);
        assert!(merged.buckets().eq(together.buckets()));
        assert_eq!(merged.count(), 5);
    }

    #[test]
    fn what_was_written_and_read_again_is_the_same_count_for_count() {
        let counted = latencies((0..5_000).map(|n| n * n * n).chain([0, u64::MAX]));
        let text = serde_json::to_string(&counted).expect("numbers");
        let again: Latencies = serde_json::from_str(&text).expect("the same form");
        assert!(again.buckets().eq(counted.buckets()));
        assert_eq!((again.count(), again.max_ns()), (counted.count(), counted.max_ns()));
        assert_eq!(again.mean_ns(), counted.mean_ns());
        let mut timeline = Timeline::new(1_000_000_000);
        (0..900).for_each(|n| timeline.received(n * 1_000_000, n * n * 1_000));
        timeline.submitted(5, 7);
        let text = serde_json::to_string(&timeline).expect("numbers");
        let again: Timeline = serde_json::from_str(&text).expect("the same form");
        assert!(timeline.fits(&again) && !timeline.fits(&Timeline::new(100_000_000)));
        for (one, two) in timeline.intervals().iter().zip(again.intervals()) {
            assert_eq!(
                (one.response_ns(0.99), one.received()),
                (two.response_ns(0.99), two.received())
            );
            assert_eq!(one.lag_mean_ns(), two.lag_mean_ns());
        }
    }

    #[test]
    fn nothing_counted_gives_no_figures_and_huge_times_saturate() {
        let empty = Latencies::new();
        assert_eq!((empty.max_ns(), empty.at_ranks(&[1])), (None, vec![None]));
        assert!(empty.mean_ns().is_none());
        let huge = latencies([u64::MAX]);
        assert_eq!(huge.count(), 1);
    }

    #[test]
    fn a_timeline_puts_replies_where_they_were_meant() {
        let mut timeline = Timeline::new(10_000_000_000);
        assert_eq!((timeline.intervals().len(), timeline.interval_ns()), (100, 100_000_000));
        timeline.submitted(250_000_000, 40);
        timeline.submitted(260_000_000, 60);
        timeline.received(250_000_000, 7_000_000);
        timeline.received(u64::MAX, 1_000);
        let third = &timeline.intervals()[2];
        assert_eq!((third.submitted, third.lag_max_ns, third.lag_mean_ns()), (2, 60, Some(50.0)));
        assert!(third.response_ns(0.5).is_some_and(|ns| ns.abs_diff(7_000_000) < 70_000));
        assert_eq!(timeline.intervals()[99].received(), 1, "late ones go to the last stretch");
        assert_eq!(timeline.intervals()[0].response_ns(0.5), None);
    }

    #[test]
    fn the_worst_look_of_a_stretch_is_kept() {
        let mut timeline = Timeline::new(10_000_000_000);
        timeline.waited(250_000_000, 1, 700);
        timeline.waited(260_000_000, 1, 300);
        let mut other = Timeline::new(10_000_000_000);
        other.waited(270_000_000, 0, 5);
        timeline.merge(&other);
        assert_eq!(timeline.intervals()[2].waited_ns, [5, 700]);
        assert_eq!((timeline.longest_wait_ns(1), timeline.longest_wait_ns(2)), (Some(700), None));
    }

    #[test]
    fn lag_is_averaged_by_quarter() {
        let mut timeline = Timeline::new(1_000_000_000);
        for at_ms in 0..1_000 {
            timeline.submitted(at_ms * 1_000_000, at_ms / 250 * 100);
        }
        assert_eq!(timeline.lag_by_quarter_ns(), Some([0.0, 100.0, 200.0, 300.0]));
        assert_eq!(Timeline::new(1_000_000_000).lag_by_quarter_ns(), None);
    }

    #[test]
    fn halves_differ_when_the_run_is_not_steady() {
        let mut timeline = Timeline::new(1_000_000_000);
        for at_ms in 0..1_000 {
            let response_ns = if at_ms < 500 { 100_000 } else { 300_000 };
            timeline.received(at_ms * 1_000_000, response_ns);
        }
        let (first, second) = timeline.median_of_halves_ns().expect("twenty stretches");
        assert!(first.abs_diff(100_000) < 1_000 && second.abs_diff(300_000) < 3_000);
        assert_eq!(Timeline::new(100_000_000).median_of_halves_ns(), None);
    }
}
