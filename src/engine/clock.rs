//! The coarse clock: cheap enough to be read around every call into user code.
//!
//! Absent: precision. It moves in steps of a scheduler tick, 1 to 10 ms.

/// Milliseconds of a monotonic clock with a step of some milliseconds; wraps.
#[inline]
pub(crate) fn coarse_ms() -> u32 {
    #[cfg(target_os = "linux")]
    {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        (now.tv_sec as u32).wrapping_mul(1000).wrapping_add((now.tv_nsec / 1_000_000) as u32)
    }
    #[cfg(not(target_os = "linux"))]
    {
        use std::sync::OnceLock;
        use std::time::Instant;
        static BEGAN: OnceLock<Instant> = OnceLock::new();
        BEGAN.get_or_init(Instant::now).elapsed().as_millis() as u32
    }
}
