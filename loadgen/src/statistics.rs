//! What a sample says about percentiles, and how surely.
//!
//! Above: reports and the verdict. Below: `histogram`. Absent: any assumed shape of the
//! latencies: intervals come from order statistics alone (ranks n·p ± 1.96·√(n·p·(1−p))).
//! They take samples as independent, and one start of the processes may differ from the next.

use crate::histogram::Latencies;

/// Samples that must lie above a percentile before it is shown.
pub(crate) const SAMPLES_ABOVE_MIN: u64 = 10;
/// The percentiles of tables, as shares.
pub(crate) const SHARES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];
/// Two-sided 95 % of the normal distribution.
const Z_95: f64 = 1.96;

/// One percentile of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Percentile {
    /// The share of messages that were at most this slow, for example 0.99.
    pub(crate) share: f64,
    /// The value in nanoseconds; `None` with fewer than ten samples above it, or if it lies
    /// among messages that were never answered.
    pub(crate) value_ns: Option<u64>,
    /// Its 95 % confidence interval, in nanoseconds.
    pub(crate) interval_ns: Option<(u64, u64)>,
    /// How many messages were slower, unanswered ones included.
    pub(crate) above: u64,
}

/// The percentiles at rising `shares`. Messages without an answer count as slower than all
/// others: leaving them out would make a server look better the more it loses.
pub(crate) fn percentiles(
    latencies: &Latencies,
    unanswered: u64,
    shares: &[f64],
) -> Vec<Percentile> {
    let n = latencies.count() + unanswered;
    let rank_of = |share: f64| ((n as f64 * share).ceil() as u64).clamp(1, n.max(1));
    let mut ranks = Vec::with_capacity(shares.len() * 3);
    for &share in shares {
        let (low, high) = interval_ranks(n, share);
        ranks.extend([low, rank_of(share), high]);
    }
    let mut rising = ranks.clone();
    rising.sort_unstable();
    let values = latencies.at_ranks(&rising);
    let value_at = |rank: u64| values[rising.partition_point(|r| *r < rank)];
    let of_share = |(share, ranks): (&f64, &[u64])| {
        let above = n.saturating_sub(ranks[1]);
        let value_ns = value_at(ranks[1]).filter(|_| above >= SAMPLES_ABOVE_MIN);
        let interval_ns = value_ns.and_then(|_| value_at(ranks[0]).zip(value_at(ranks[2])));
        Percentile { share: *share, value_ns, interval_ns, above }
    };
    shares.iter().zip(ranks.chunks(3)).map(of_share).collect()
}

/// The ranks between which the true percentile lies with 95 % confidence. A rank may exceed
/// `n`: then the sample has no upper bound.
fn interval_ranks(n: u64, share: f64) -> (u64, u64) {
    let expected = n as f64 * share;
    let spread = Z_95 * (expected * (1.0 - share)).sqrt();
    let low = (expected - spread).floor().max(1.0) as u64;
    let high = ((expected + spread).ceil() as u64 + 1).max(1);
    (low, high)
}

/// Points of the percentile curve: shares spaced evenly on the axis log 1/(1−p), with the value
/// at each, up to the last sample. Unanswered messages lie above the end of the curve.
pub(crate) fn curve(latencies: &Latencies, unanswered: u64) -> Vec<(f64, u64)> {
    const POINTS_PER_DECADE: f64 = 24.0;
    let n = latencies.count() + unanswered;
    if n == 0 {
        return Vec::new();
    }
    let last = ((n as f64).log10() * POINTS_PER_DECADE).ceil() as u32;
    let share_at = |point: u32| 1.0 - 10_f64.powf(-f64::from(point) / POINTS_PER_DECADE);
    let shares: Vec<f64> = (0..=last).map(|p| share_at(p).min(1.0 - 1.0 / n as f64)).collect();
    let rank_of = |share: &f64| ((n as f64 * share).floor() as u64 + 1).clamp(1, n);
    let ranks: Vec<u64> = shares.iter().map(rank_of).collect();
    let values = latencies.at_ranks(&ranks);
    shares.into_iter().zip(values).filter_map(|(share, value)| Some((share, value?))).collect()
}

#[cfg(test)]
mod tests {
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn latencies(times_ns: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::new();
        times_ns.into_iter().for_each(|time_ns| latencies.record(time_ns));
        latencies
    }

    fn near(value_ns: u64, want_ns: u64) -> bool {
        value_ns.abs_diff(want_ns) * 500 <= want_ns
    }

    #[test]
    fn percentiles_of_a_known_sample() {
        let sample = latencies((1..=100_000).map(|n| n * 100));
        let found = percentiles(&sample, 0, &SHARES);
        for (percentile, want_ns) in found.iter().zip([5_000_000, 9_000_000, 9_900_000, 9_990_000])
        {
            let value_ns = percentile.value_ns.expect("a hundred samples lie above");
            assert!(near(value_ns, want_ns), "{value_ns} for {want_ns}");
            let (low, high) = percentile.interval_ns.expect("ranks within the sample");
            assert!(low <= value_ns && value_ns <= high);
        }
        assert_eq!(found[2].above, 1_000);
        let (low, high) = found[0].interval_ns.expect("a wide sample");
        assert!(near(low, (50_000 - 310) * 100) && near(high, (50_000 + 311) * 100));
    }

    #[test]
    fn too_few_samples_above_give_no_figure() {
        let sample = latencies(1..=1_000);
        let found = percentiles(&sample, 0, &[0.98, 0.99, 0.999]);
        assert!(found[0].value_ns.is_some());
        assert_eq!(found[1].above, 10);
        assert!(found[1].value_ns.is_some(), "exactly ten are enough");
        assert_eq!((found[2].value_ns, found[2].above), (None, 1));
        let none = percentiles(&Latencies::new(), 0, &SHARES);
        assert!(none.iter().all(|p| p.value_ns.is_none() && p.above == 0));
    }

    #[test]
    fn unanswered_messages_are_slower_than_all_others() {
        let sample = latencies((0..900).map(|_| 1_000));
        let found = percentiles(&sample, 100, &[0.5, 0.9, 0.95]);
        assert!(found[0].value_ns.is_some() && found[1].value_ns.is_some());
        assert_eq!(found[2].value_ns, None, "p95 lies among the unanswered");
        assert_eq!(found[1].interval_ns, None, "its upper bound is unknown");
    }

    #[test]
    fn intervals_hold_the_truth_about_95_times_in_100() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(11);
        let mut held = [0_u32; 2];
        for _ in 0..500 {
            let sample = latencies((0..2_000).map(|_| random.random_range(0..1_000_000)));
            for (at, percentile) in percentiles(&sample, 0, &[0.5, 0.99]).iter().enumerate() {
                let truth_ns = (percentile.share * 1e6) as u64;
                let (low, high) = percentile.interval_ns.expect("twenty samples lie above");
                held[at] += u32::from((low..=high).contains(&truth_ns));
            }
        }
        assert!(held.iter().all(|held| (460..=495).contains(held)), "{held:?} of 500");
    }

    #[test]
    fn the_curve_rises_from_the_fastest_to_the_slowest() {
        let sample = latencies((1..=10_000).map(|n| n * 1_000));
        let points = curve(&sample, 0);
        assert!(points.windows(2).all(|w| w[0].0 <= w[1].0 && w[0].1 <= w[1].1));
        assert!(near(points[0].1, 1_000) && near(points[points.len() - 1].1, 10_000_000));
        let median = points.iter().find(|(share, _)| *share >= 0.5).expect("the curve passes p50");
        assert!(median.1.abs_diff(5_000_000) < 600_000);
        assert!(curve(&Latencies::new(), 0).is_empty());
        let cut = curve(&sample, 10_000);
        assert!(cut.last().is_some_and(|(share, _)| *share < 0.51), "the unanswered half is off");
    }
}
