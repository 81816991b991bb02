//! The clocks: one precise, read once per turn, and one cheap enough for every call into user code.
//!
//! Above: `shard` reads the time here only, so that a test can tell where time comes from: a
//! simulated world sets the time of its thread. Absent: the time of day.

use std::time::Instant;

/// The monotonic clock.
#[inline]
pub(crate) fn now() -> Instant {
    #[cfg(any(test, feature = "testing"))]
    if let Some(now) = simulated::now() {
        return now;
    }
    Instant::now()
}

/// Whether this thread is in a simulated world: its time is set, not read.
#[inline]
pub(crate) fn is_simulated() -> bool {
    #[cfg(any(test, feature = "testing"))]
    return simulated::now().is_some();
    #[cfg(not(any(test, feature = "testing")))]
    false
}

/// The time of threads that live in a simulated world.
#[cfg(any(test, feature = "testing"))]
pub(crate) mod simulated {
    use std::cell::Cell;
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    thread_local! {
        static NOW: Cell<Option<Duration>> = const { Cell::new(None) };
    }

    /// From now on this thread's clock stands at `now` after some beginning that all simulated
    /// worlds of the process share; `None` gives it the real one back.
    pub(crate) fn set(now: Option<Duration>) {
        NOW.set(now);
    }

    pub(super) fn now() -> Option<Instant> {
        static BEGINNING: OnceLock<Instant> = OnceLock::new();
        // A thread that ends has lost its place; then the real clock does.
        let now = NOW.try_with(Cell::get).ok().flatten()?;
        Some(*BEGINNING.get_or_init(Instant::now) + now)
    }
}

/// Milliseconds of a monotonic clock that moves in steps of a scheduler tick, 1 to 10 ms; wraps.
#[inline]
pub(crate) fn coarse_ms() -> u32 {
    if is_simulated() {
        // No call takes any time there.
        return 1;
    }
    #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
    {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        (now.tv_sec as u32).wrapping_mul(1000).wrapping_add((now.tv_nsec / 1_000_000) as u32)
    }
    #[cfg(not(all(target_os = "linux", not(postring_no_kernel))))]
    {
        use std::sync::OnceLock;
        static BEGAN: OnceLock<Instant> = OnceLock::new();
        BEGAN.get_or_init(now).elapsed().as_millis() as u32
    }
}
