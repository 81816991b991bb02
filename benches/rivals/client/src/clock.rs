//! Clock: nanoseconds since the client began, and the window that is measured.
//!
//! Above: everything in the client. Below: the monotonic clock. Absent: no wall-clock time.
//! Bound: 584 years.

use std::time::{Duration, Instant};

/// Nanoseconds since the clock was started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    #[inline]
    pub(crate) fn now(self) -> u64 {
        nanoseconds(self.0.elapsed())
    }
}

/// What is measured: from `from` up to and without `to`, in nanoseconds of the clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl Window {
    /// The next `length`, after a warm-up.
    pub(crate) fn after(clock: Clock, warmup: Duration, length: Duration) -> Self {
        let from = clock.now() + nanoseconds(warmup);
        Self { from, to: from + nanoseconds(length) }
    }

    #[inline]
    pub(crate) fn contains(self, time: u64) -> bool {
        self.from <= time && time < self.to
    }

    pub(crate) fn seconds(self) -> f64 {
        (self.to - self.from) as f64 / 1e9
    }
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("durations of a run fit 64 bits of nanoseconds")
}
