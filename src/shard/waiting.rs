//! Waiting: how a core spends the time until something happens. A named choice (D5).
//!
//! Above: `launch` passes the choice on. Below: the shard asks before every turn. Pure: `now` is
//! an argument.

use std::time::{Duration, Instant};

use crate::engine::plan::Patience;

/// How a core waits when it has nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wait {
    /// Sleeps at once: no CPU while idle. The default.
    #[default]
    Sleep,
    /// Spins as long as recent events promise the next one within `budget`, else sleeps. Cuts the
    /// wake-up out of the latency of busy connections; idle ones still cost nothing.
    Adaptive {
        /// The longest wait worth spinning for; 20 to 100 us is usual.
        budget: Duration,
    },
    /// Never sleeps: one whole CPU, always.
    Spin,
}

/// One spin before the mailbox is looked at again.
const SPIN_SLICE: Duration = Duration::from_micros(5);

pub(super) struct Waiting {
    wait: Wait,
    last_event: Option<Instant>,
    /// Moving average of the gaps between turns with events.
    gap_ns: u64,
}

impl Waiting {
    pub(super) fn new(wait: Wait) -> Self {
        Self { wait, last_event: None, gap_ns: GAP_NS_MAX }
    }

    /// Takes note of a turn.
    pub(super) fn observe(&mut self, now: Instant, had_events: bool) {
        if !had_events || !matches!(self.wait, Wait::Adaptive { .. }) {
            return;
        }
        if let Some(last) = self.last_event {
            let gap = u64::try_from(now.duration_since(last).as_nanos()).unwrap_or(u64::MAX / 16);
            // One long pause must not hide a hundred short gaps, nor the other way round.
            self.gap_ns = (self.gap_ns / 8 * 7).saturating_add(gap.min(GAP_NS_MAX) / 8);
        }
        self.last_event = Some(now);
    }

    /// How to wait for at most `longest`.
    pub(super) fn patience(&self, now: Instant, longest: Duration) -> Patience {
        match self.wait {
            Wait::Sleep => Patience::Sleep(longest),
            Wait::Spin => Patience::Spin(longest.min(SPIN_SLICE)),
            Wait::Adaptive { budget } => {
                let promising = u128::from(self.gap_ns) <= budget.as_nanos();
                let waited = self.last_event.map_or(Duration::MAX, |last| now.duration_since(last));
                if promising && waited < budget {
                    Patience::Spin(longest.min(SPIN_SLICE))
                } else {
                    Patience::Sleep(longest)
                }
            }
        }
    }
}

const GAP_NS_MAX: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_micros(50);

    fn after_events(gap: Duration) -> (Waiting, Instant) {
        let mut waiting = Waiting::new(Wait::Adaptive { budget: BUDGET });
        let mut now = Instant::now();
        for _ in 0..200 {
            now += gap;
            waiting.observe(now, true);
        }
        (waiting, now)
    }

    #[test]
    fn short_gaps_promise_and_long_gaps_do_not() {
        let longest = Duration::from_millis(100);
        let (busy, now) = after_events(Duration::from_micros(8));
        assert!(matches!(busy.patience(now, longest), Patience::Spin(_)));
        let (slow, now) = after_events(Duration::from_millis(1));
        assert_eq!(slow.patience(now, longest), Patience::Sleep(longest));
    }

    #[test]
    fn a_promise_that_is_not_kept_ends_in_sleep() {
        let longest = Duration::from_millis(100);
        let (busy, now) = after_events(Duration::from_micros(8));
        assert_eq!(busy.patience(now + BUDGET, longest), Patience::Sleep(longest));
    }

    #[test]
    fn a_thousand_messages_a_second_are_not_worth_spinning_for() {
        let (waiting, now) = after_events(Duration::from_micros(1000));
        let patience = waiting.patience(now, Duration::from_secs(1));
        assert!(matches!(patience, Patience::Sleep(_)));
    }
}
