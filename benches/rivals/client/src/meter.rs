//! Meter: counts echoes and their latencies within the window.
//!
//! Above: the modes. Below: hdrhistogram.
//! Absent: no printing. Bound: latencies of 1 ns to 60 s at three digits; longer count as 60 s.

use crate::clock::Window;
use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// Latency quantiles in microseconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Latency {
    pub(crate) samples: u64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

/// Echoes of one kind of traffic.
#[derive(Debug)]
pub(crate) struct Meter {
    window: Window,
    histogram: Histogram<u64>,
    /// Echoes that arrived in the window.
    arrived: u64,
}

impl Meter {
    pub(crate) fn new(window: Window) -> Result<Self> {
        let histogram = Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3)?;
        Ok(Self { window, histogram, arrived: 0 })
    }

    /// Counts an echo that arrived `now` and should have been sent at `intended`. The rate counts
    /// arrivals in the window, the latency what was meant to be sent in it, however late it came.
    #[inline]
    pub(crate) fn record(&mut self, intended: u64, now: u64) {
        self.arrived += u64::from(self.window.contains(now));
        if self.window.contains(intended) {
            self.histogram.saturating_record(now.saturating_sub(intended).max(1));
        }
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.arrived as f64 / self.window.seconds()
    }

    pub(crate) fn latency(&self) -> Latency {
        let at = |quantile| self.histogram.value_at_quantile(quantile) as f64 / 1e3;
        Latency {
            samples: self.histogram.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.histogram.max() as f64 / 1e3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_echo_counts_for_latency_but_not_for_the_rate() {
        let window = Window { from: 1_000, to: 1_000_001_000 };
        let mut meter = Meter::new(window).unwrap();
        meter.record(2_000, 3_000);
        meter.record(2_000, 2_000_000_000);
        meter.record(500, 1_500);
        assert!((meter.per_second() - 2.0).abs() < 1e-9);
        assert_eq!(meter.latency().samples, 2);
        assert!(meter.latency().max_us > 1_900_000.0);
    }
}
