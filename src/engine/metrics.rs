//! What a core counts about itself, and the plain numbers others read from it.
//!
//! Above: `shard` and the drivers add to `CoreMetrics`; applications read `Metrics`.
//! Below: nothing but atomics. Absent: histograms, clocks, exporters and names of hosts.
//! Bounds: a fixed set of 64-bit fields per core; adding costs one load and one store.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows. One thread writes it, any thread reads it.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning core may call this: it is a load and a store, not a locked
    /// addition, so a second writer would lose counts (never more than that).
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        let sum = self.0.load(Ordering::Relaxed).wrapping_add(n);
        self.0.store(sum, Ordering::Relaxed);
    }

    /// Adds `n` from any thread. A counter is written with this or with `add`, never with both.
    pub(crate) fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count so far, possibly a moment old.
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down. One thread writes it, any thread reads it.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    /// Replaces the value.
    #[inline]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The last value set.
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares each field once: as an atomic in `CoreMetrics` and as a plain number in
/// `CoreSnapshot`.
macro_rules! core_metrics {
    ($($(#[$doc:meta])+ $name:ident: $kind:ident,)+) => {
        /// One core's numbers. The core writes, anybody reads.
        // Aligned so that two cores never write to the same pair of cache lines.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(crate) struct CoreMetrics {
            $($(#[$doc])+ pub(crate) $name: $kind,)+
        }

        impl CoreMetrics {
            /// All numbers now. Each is exact, but they are not read at the same instant.
            pub(crate) fn snapshot(&self) -> CoreSnapshot {
                CoreSnapshot { $($name: self.$name.get(),)+ }
            }
        }

        /// The numbers of one core at one moment, or of several cores summed.
        ///
        /// Counters start at 0 when the core starts and only grow; those called gauges say how
        /// things stand.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct CoreSnapshot {
            $($(#[$doc])+ pub $name: u64,)+
        }

        impl CoreSnapshot {
            /// Adds up cores field by field; a sum that does not fit stays at `u64::MAX`.
            pub fn sum<'a>(cores: impl IntoIterator<Item = &'a Self>) -> Self {
                cores.into_iter().fold(Self::default(), |total, core| Self {
                    $($name: total.$name.saturating_add(core.$name),)+
                })
            }

            /// Every field as name and value, in the order of declaration, for exporters.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }
        }
    };
}

core_metrics! {
    /// Turns of the core's loop.
    turns: Counter,
    /// Turns that went to sleep because nothing was to be done.
    sleeps: Counter,
    /// Times the core looked again for work instead of sleeping.
    spins: Counter,
    /// Operations given to the driver.
    submissions: Counter,
    /// Completions taken from the driver.
    completions: Counter,
    /// Whole Messages received.
    received_messages: Counter,
    /// Bytes received from sockets, framing included.
    received_bytes: Counter,
    /// Messages handed to the stack completely.
    sent_messages: Counter,
    /// Messages that expired before they could be sent.
    expired_messages: Counter,
    /// Messages that failed because their Carrier ended.
    failed_messages: Counter,
    /// Messages that the peer has acknowledged, of those that asked.
    acked_messages: Counter,
    /// Bytes the kernel took for sending, framing included.
    sent_bytes: Counter,
    /// Connections accepted.
    accepted: Counter,
    /// Connections opened from this side.
    connected: Counter,
    /// Connections closed, for whatever reason.
    closed: Counter,
    /// Connections lost whose Carriers live on without one.
    dormant: Counter,
    /// Dormant Carriers connected again.
    revived: Counter,
    /// Gauge: connections open now.
    open_connections: Gauge,
    /// Datagrams that could not leave, or that the kernel refused.
    unsent_datagrams: Counter,
    /// Datagrams that found no place: their Carrier or its async handlers had enough, no Carrier
    /// was to be had, a Responder's answers did not leave as fast as they were asked for, its
    /// handler panicked on one before them in the same train, or they claimed to come from the very
    /// address and port that received them, so that an answer would be answered for ever.
    dropped_datagrams: Counter,
    /// Carriers that had to make way for those of others, on a Listener of datagrams.
    evicted_remotes: Counter,
    /// Datagrams that came longer than a buffer, or with more beside them than has room: something
    /// was missing, so they were dropped.
    truncated_datagrams: Counter,
    /// Datagrams that the kernel dropped because a socket's receive queue was full.
    kernel_drops: Counter,
    /// Sockets whose device refused to cut trains of datagrams; theirs leave one by one.
    segmentation_refused: Counter,
    /// Receives that ended because no buffer was free (ENOBUFS).
    starved: Counter,
    /// Receives that were started again after the kernel had ended them.
    rearmed: Counter,
    /// Payloads copied because buffers were too scarce to lease one.
    forced_copies: Counter,
    /// Receive buffers leased to Messages.
    leases: Counter,
    /// Gauge: receive buffers in the pool, wherever they are.
    buffers_total: Gauge,
    /// Gauge: receive buffers the kernel may fill now.
    buffers_posted: Gauge,
    /// Times another thread woke this core from its sleep.
    wakes_received: Counter,
    /// Posts to this core that found its mailbox full; counted by whoever posted.
    mailbox_full: Counter,
    /// Connections this core accepted and gave to another core.
    handed_over: Counter,
    /// Connections refused because a limit on connections was reached.
    refused_limit: Counter,
    /// Connections refused because their address prefix had too many.
    refused_prefix: Counter,
    /// Connections ended because the peer broke the framing, or the framer its contract.
    frame_errors: Counter,
    /// Panics of user code that were caught.
    panics: Counter,
    /// Turns that took longer than the stall limit, mostly a handler that blocks.
    stalls: Counter,
    /// Connections ended by the idle timeout.
    idle_timeouts: Counter,
    /// Connections ended because no first Message came in time.
    handshake_timeouts: Counter,
    /// Connections ended because a Message begun was not completed in time.
    message_timeouts: Counter,
    /// Connections ended because the peer did not read in time.
    send_timeouts: Counter,
    /// Bytes accepted for sending that never left, because their connection ended before.
    lost_bytes: Counter,
    /// Connections reset by the peer.
    resets: Counter,
    /// Accepts that failed, such as for want of file descriptors.
    accept_errors: Counter,
    /// Times the kernel's completion queue overflowed.
    overflows: Counter,
    /// Tasks started: asynchronous handlers, and what was spawned.
    tasks_spawned: Counter,
}

/// The numbers of the whole engine at one moment.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// The driver in use, such as `"io_uring"` or `"epoll"`.
    pub driver: &'static str,
    /// Why it is not the preferred driver, and what to do about it; `None` if it is.
    pub driver_reason: Option<String>,
    /// One snapshot per core, in the order of the core threads.
    pub cores: Vec<CoreSnapshot>,
}

impl Metrics {
    /// All cores added up.
    pub fn total(&self) -> CoreSnapshot {
        CoreSnapshot::sum(&self.cores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_has_what_was_counted() {
        let core = CoreMetrics::default();
        core.turns.add(2);
        core.turns.add(3);
        core.open_connections.set(9);
        core.open_connections.set(7);
        core.mailbox_full.add_shared(1);
        let seen = core.snapshot();
        assert_eq!((seen.turns, seen.open_connections, seen.mailbox_full), (5, 7, 1));
        assert_eq!(seen.sent_bytes, 0);
    }

    #[test]
    fn every_field_is_named_once_and_carries_its_own_value() {
        let core = CoreMetrics::default();
        core.turns.add(1);
        core.tasks_spawned.add(35);
        let named: Vec<_> = core.snapshot().named().collect();
        assert_eq!(named.first(), Some(&("turns", 1)));
        assert_eq!(named.last(), Some(&("tasks_spawned", 35)));
        assert_eq!(named.len() * size_of::<u64>(), size_of::<CoreSnapshot>());
        let names: std::collections::BTreeSet<_> = named.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), named.len());
    }

    #[test]
    fn the_total_adds_cores_and_never_wraps() {
        let one = CoreSnapshot { turns: 3, sent_bytes: u64::MAX, ..Default::default() };
        let two = CoreSnapshot { turns: 4, sent_bytes: 1, ..Default::default() };
        let metrics = Metrics { cores: vec![one, two], ..Default::default() };
        assert_eq!(metrics.total().turns, 7);
        assert_eq!(metrics.total().sent_bytes, u64::MAX);
        assert_eq!(Metrics::default().total(), CoreSnapshot::default());
    }

    #[test]
    fn a_reader_never_sees_a_counter_go_back() {
        let core = CoreMetrics::default();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..50_000).for_each(|_| core.turns.add(1)));
            let mut last = 0;
            while last < 50_000 {
                let now = core.snapshot().turns;
                assert!(now >= last, "{now} after {last}");
                last = now;
            }
        });
    }

    #[test]
    fn shared_counting_loses_nothing() {
        let core = CoreMetrics::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| core.mailbox_full.add_shared(1)));
            }
        });
        assert_eq!(core.snapshot().mailbox_full, 40_000);
    }

    #[test]
    fn neighbouring_cores_do_not_share_cache_lines() {
        assert_eq!(align_of::<CoreMetrics>(), 128);
        assert_eq!(size_of::<CoreMetrics>() % 128, 0);
    }
}
