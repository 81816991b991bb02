//! Stall: handlers that keep their core from its other connections.
//!
//! Above: the turn, around every call with received bytes. Below: the coarse clock. Absent: tasks
//! and calls with bytes that were kept; ending the call, which nobody can.

use super::Shard;
use super::core::Id;

/// From this long a call is a stall.
const STALL_MS: u32 = 10;

impl Shard {
    /// Counts and names a call that kept the core from its other connections.
    #[inline]
    pub(super) fn watch(&mut self, id: Id) {
        let now = crate::engine::clock::coarse_ms();
        let before = std::mem::replace(&mut self.watched, now);
        if before != 0 && now.wrapping_sub(before) >= STALL_MS {
            self.stalled(id, now.wrapping_sub(before));
        }
    }

    /// The stall detector begins to watch: a turn's completions are about to be dispatched.
    pub(super) fn begin_watch(&mut self) {
        self.watched = crate::engine::clock::coarse_ms();
    }

    #[cold]
    fn stalled(&mut self, id: Id, stalled_ms: u32) {
        self.core.metrics.stalls.add(1);
        if self.core.may_log() {
            let name = self.core.call(id, |protocol, _| protocol.name());
            let name = name.unwrap_or_else(|_| "(ended)".into());
            tracing::warn!(
                name = &*name,
                stalled_ms,
                "a call with received bytes took long: its handlers, or other work had the CPU; \
                 offload() takes long work off the core"
            );
        }
    }
}
