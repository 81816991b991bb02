//! Pacing: how much leaves at a time, and when it can be there, as far as that is known.
//!
//! Above: the way out, when it fills a quantum. Below: what the stack has measured of the path, or
//! else the `drain` of the socket. Absent: which Message is next.

use super::{Outgoing, SAMPLE_US};
use crate::engine::operation::PathSample;
use crate::framer::Output;
use crate::scheduler;

/// A quantum holds what the path carries in this time: an urgent Message waits no longer for one
/// that has begun.
const QUANTUM_US: u64 = 100;
const QUANTUM_BYTES_MIN: usize = 1400;
const QUANTUM_BYTES_MAX: usize = 64 << 10;
/// A stack without measurements carries quanta of this size.
const QUANTUM_BYTES_UNKNOWN: usize = 16 << 10;

impl Outgoing {
    /// Bytes of the quantum that begins with `outbox`.
    pub(super) fn quantum_after(&self, outbox: &Output) -> usize {
        // Until it is known how quickly datagrams leave, no more of them go at a time than the
        // kernel is to hold.
        let is_held = self.unsent_max > 0 && !outbox.trains().is_empty();
        let held_max = if is_held { self.unsent_max as usize } else { QUANTUM_BYTES_MAX };
        match self.rate_bytes_per_s() {
            _ if !self.paced => QUANTUM_BYTES_MAX,
            None => QUANTUM_BYTES_UNKNOWN.min(held_max),
            Some(rate) => {
                let bytes = rate.saturating_mul(QUANTUM_US) / 1_000_000;
                usize::try_from(bytes)
                    .unwrap_or(QUANTUM_BYTES_MAX)
                    .clamp(QUANTUM_BYTES_MIN, QUANTUM_BYTES_MAX)
            }
        }
    }

    /// What the path carries, or what the socket takes where nobody measures a path.
    fn rate_bytes_per_s(&self) -> Option<u64> {
        self.path.map_or_else(|| self.drain.rate_bytes_per_s(), |path| path.rate_bytes_per_s)
    }

    /// The path as the scheduler judges by it.
    pub(super) fn path(&self) -> scheduler::Path {
        let rate_bytes_per_s = self.rate_bytes_per_s();
        let unsent_bytes = self.path.map_or(0, |path| path.unsent_bytes).max(self.unsent_max);
        let delay_us = self.path.as_ref().map_or_else(|| self.drain.delay_us(), delay_us);
        scheduler::Path { rate_bytes_per_s, delay_us, unsent_bytes: unsent_bytes.into() }
    }
}

/// How long a byte that the kernel takes now is under way. While nothing is unsent that is half of
/// the emptiest round trip. On a busy path it is what round trips take of late, less the empty way
/// back, what they vary by (as RFC 6298 bounds a late acknowledgement), and what a queue can grow
/// by since the path was measured: too high an estimate costs a few Messages, too low a one makes
/// every Message late.
fn delay_us(sample: &PathSample) -> u64 {
    let back = sample.rtt_min_us / 2;
    if sample.unsent_bytes == 0 {
        return u64::from(back);
    }
    u64::from(sample.rtt_us.saturating_sub(back)) + 4 * u64::from(sample.rtt_var_us) + SAMPLE_US
}
