//! Slowdown: how many times as long a message took as the best that it could take alone.
//!
//! Above: `recorder` counts, the scenario `homa` shows. Below: `histogram`. Absent: how the best
//! times were found. Bound: one histogram for each band of sizes, `BANDS_MAX` bands.

use std::sync::Arc;

use crate::histogram::Latencies;
use crate::statistics::{self, Percentile};

/// Most bands of sizes.
const BANDS_MAX: usize = 32;
/// Slowdowns are counted in thousandths: histograms count whole numbers.
const UNITS: f64 = 1e3;

/// The best time of each size, and the bands that sizes are counted in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scale {
    /// Sizes in bytes and their best times in nanoseconds, both rising.
    best: Vec<(u32, f64)>,
    /// Nanoseconds that each byte beyond the last of them takes on the link.
    byte_ns: f64,
    /// The largest size of each band but the last, rising.
    edges: Vec<u32>,
}

impl Scale {
    /// From measured points (bytes, nanoseconds) with rising sizes, at least one, the time of a
    /// byte on the link, and the rising edges of the bands; equal edges are one.
    pub(crate) fn new(points: &[(u32, u64)], byte_ns: f64, mut edges: Vec<u32>) -> Self {
        // A longer message is never better off: where a shorter one seems to take more time, that
        // was not its best.
        let mut least = f64::INFINITY;
        let falling = points.iter().rev().map(|(bytes, time_ns)| {
            least = least.min((*time_ns).max(1) as f64);
            (*bytes, least)
        });
        let mut best: Vec<_> = falling.collect();
        best.reverse();
        edges.dedup();
        edges.truncate(BANDS_MAX - 1);
        Self { best, byte_ns, edges }
    }

    /// The best time of a message of so many bytes, in nanoseconds.
    pub(crate) fn best_ns(&self, bytes: u32) -> f64 {
        let next = self.best.partition_point(|(size, _)| *size < bytes);
        let Some(&(size, time_ns)) = self.best.get(next) else {
            let (last, time_ns) = self.best.last().copied().unwrap_or((0, 1.0));
            return time_ns + f64::from(bytes - last) * self.byte_ns;
        };
        let Some(&(below, below_ns)) = next.checked_sub(1).and_then(|at| self.best.get(at)) else {
            return time_ns;
        };
        let part = f64::from(bytes - below) / f64::from(size - below);
        below_ns + (time_ns - below_ns) * part
    }

    /// The number of bands.
    pub(crate) const fn bands(&self) -> usize {
        self.edges.len() + 1
    }

    fn band(&self, bytes: u32) -> usize {
        self.edges.partition_point(|edge| *edge < bytes)
    }
}

/// What came out for one band of sizes; too few messages have no figure.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Figures {
    /// Messages that left.
    pub(crate) messages: u64,
    /// Median slowdown.
    pub(crate) p50: Option<f64>,
    /// The slowdown that one in a hundred exceeds.
    pub(crate) p99: Option<f64>,
}

/// The slowdowns of one run, by band of sizes.
#[derive(Debug)]
pub(crate) struct Slowdowns {
    scale: Arc<Scale>,
    bands: Vec<Band>,
}

#[derive(Debug, Clone)]
struct Band {
    submitted: u64,
    counts: Latencies,
}

impl Slowdowns {
    /// Nothing yet.
    pub(crate) fn new(scale: Arc<Scale>) -> Self {
        let bands = vec![Band { submitted: 0, counts: Latencies::new() }; scale.bands()];
        Self { scale, bands }
    }

    /// A message of so many bytes left.
    pub(crate) fn submitted(&mut self, bytes: u32) {
        self.bands[self.scale.band(bytes)].submitted += 1;
    }

    /// Its reply came.
    pub(crate) fn answered(&mut self, bytes: u32, response_ns: u64) {
        let slowdown = response_ns as f64 / self.scale.best_ns(bytes);
        self.bands[self.scale.band(bytes)].counts.record((slowdown * UNITS).round() as u64);
    }

    /// Adds another worker's.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (own, other) in self.bands.iter_mut().zip(&other.bands) {
            own.submitted += other.submitted;
            own.counts.merge(&other.counts);
        }
    }

    /// Those of each band. What was never answered counts as slower than all others.
    pub(crate) fn figures(&self) -> impl Iterator<Item = Figures> {
        self.bands.iter().map(|band| {
            let unanswered = band.submitted.saturating_sub(band.counts.count());
            let found = statistics::percentiles(&band.counts, unanswered, &[0.5, 0.99]);
            let value = |percentile: &Percentile| Some(percentile.value_ns? as f64 / UNITS);
            Figures { messages: band.submitted, p50: value(&found[0]), p99: value(&found[1]) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale() -> Scale {
        Scale::new(&[(100, 1_100), (200, 1_000), (300, 3_000)], 10.0, vec![150, 150, 400])
    }

    #[test]
    fn the_best_time_rises_with_the_size_and_goes_on_at_the_links_pace() {
        let best = [50, 100, 200, 250, 300, 400].map(|bytes| scale().best_ns(bytes));
        assert_eq!(best, [1_000.0, 1_000.0, 1_000.0, 2_000.0, 3_000.0, 4_000.0]);
    }

    #[test]
    fn slowdowns_are_counted_by_band_and_what_is_missing_is_slowest() {
        let mut slowdowns = Slowdowns::new(Arc::new(scale()));
        for _ in 0..100 {
            slowdowns.submitted(100);
            slowdowns.answered(100, 2_000);
        }
        for number in 0..40 {
            slowdowns.submitted(400);
            if number < 15 {
                slowdowns.answered(400, 4_000);
            }
        }
        let mut both = Slowdowns::new(Arc::new(scale()));
        both.merge(&slowdowns);
        let figures: Vec<_> = both.figures().collect();
        assert_eq!(figures.len(), 3, "equal edges are one");
        assert_eq!(
            figures[0],
            Figures { messages: 100, p50: Some(2.0), p99: None },
            "one above p99 is too few"
        );
        assert_eq!(
            figures[1],
            Figures { messages: 40, p50: None, p99: None },
            "the median was never answered"
        );
        assert_eq!(figures[2].messages, 0);
    }
}
