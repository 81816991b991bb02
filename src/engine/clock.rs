//! The clocks: one precise, read once per turn, and one cheap enough for every call into user code.
//!
//! Above: `shard` reads the time here only, so that a test can tell where time comes from.
//! Absent: the time of day.

use std::time::Instant;

/// The monotonic clock.
#[inline]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Milliseconds of a monotonic clock that moves in steps of a scheduler tick, 1 to 10 ms; wraps.
#[inline]
pub(crate) fn coarse_ms() -> u32 {
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
