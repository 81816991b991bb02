//! Drain: how quickly a socket takes what is given to it, where its stack measures no path.
//!
//! Above: the way out of a connection, which gives it a quantum whenever it takes one. Absent:
//! clocks; what happens beyond this host, which nobody tells a sender of datagrams.

/// Shortest stretch of time that a rate is told from, in microseconds.
const STRETCH_US: u64 = 5_000;
/// What the threads and timers on the way may be late by, in microseconds: a Message that leaves
/// with less time than that is late as often as not.
const LATE_US: u64 = 1_000;

/// What a socket takes, as long as more waits all the time.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// Bytes that were given and not taken yet, if more waits behind them.
    given: Option<u64>,
    /// When the present stretch began, and what was taken in it.
    begun_us: u64,
    taken: u64,
    /// Of the last stretch and the one before: one that was slow for once does not count.
    rates_bytes_per_s: [Option<u64>; 2],
}

impl Drain {
    /// The socket takes more: what it was given is gone.
    pub(super) fn ask(&mut self, now_us: u64) {
        let Some(given) = self.given.take() else {
            // It was idle.
            *self = Self { begun_us: now_us, ..Self::default() };
            return;
        };
        self.taken += given;
        let stretch_us = now_us.saturating_sub(self.begun_us);
        if stretch_us >= STRETCH_US {
            let rate = u128::from(self.taken) * 1_000_000 / u128::from(stretch_us);
            let rate = u64::try_from(rate).unwrap_or(u64::MAX).max(1);
            self.rates_bytes_per_s = [Some(rate), self.rates_bytes_per_s[0]];
            (self.begun_us, self.taken) = (now_us, 0);
        }
    }

    /// It was given so many bytes; `more`: others wait behind them.
    pub(super) fn give(&mut self, bytes: u64, more: bool) {
        self.given = (bytes > 0 && more).then_some(bytes);
    }

    /// What it takes in a second; `None` after it was idle, until that is known.
    pub(super) fn rate_bytes_per_s(&self) -> Option<u64> {
        self.rates_bytes_per_s.into_iter().flatten().max()
    }

    /// What to allow for beyond the bytes ahead, in microseconds.
    pub(super) fn delay_us(&self) -> u64 {
        if self.rate_bytes_per_s().is_some() { LATE_US } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quanta of 1 000 bytes, one every `gap_us`.
    fn goes_on(drain: &mut Drain, from_us: u64, gap_us: u64, count: u64) -> u64 {
        for step in 1..=count {
            drain.give(1000, true);
            drain.ask(from_us + step * gap_us);
        }
        from_us + count * gap_us
    }

    #[test]
    fn a_socket_that_never_rests_has_a_rate() {
        let mut drain = Drain::default();
        drain.ask(7);
        assert_eq!((drain.rate_bytes_per_s(), drain.delay_us()), (None, 0));
        let now_us = goes_on(&mut drain, 7, 1000, 4);
        assert_eq!(drain.rate_bytes_per_s(), None, "not long enough");
        let now_us = goes_on(&mut drain, now_us, 1000, 1);
        assert_eq!((drain.rate_bytes_per_s(), drain.delay_us()), (Some(1_000_000), LATE_US));
        let now_us = goes_on(&mut drain, now_us, 500, 10);
        assert_eq!(drain.rate_bytes_per_s(), Some(2_000_000));
        let now_us = goes_on(&mut drain, now_us, 100_000, 1);
        assert_eq!(drain.rate_bytes_per_s(), Some(2_000_000), "slow for once");
        goes_on(&mut drain, now_us, 100_000, 1);
        assert_eq!(drain.rate_bytes_per_s(), Some(10_000), "slow indeed");
    }

    #[test]
    fn one_that_was_idle_has_none() {
        for (bytes, more) in [(1000, false), (0, true)] {
            let mut drain = Drain::default();
            drain.ask(0);
            let now_us = goes_on(&mut drain, 0, 1000, 5);
            assert_eq!(drain.rate_bytes_per_s(), Some(1_000_000));
            drain.give(bytes, more);
            drain.ask(now_us + 1_000_000);
            assert_eq!(drain.rate_bytes_per_s(), None);
        }
    }
}
