//! Drain: how quickly a socket takes what is given to it, where its stack measures no path.
//!
//! Above: the way out of a connection, which gives it a quantum whenever it takes one. Absent:
//! clocks; what happens beyond this host, which nobody tells a sender of datagrams.

/// Shortest stretch of time that a rate is told from, in microseconds.
const STRETCH_US: u64 = 5_000;
/// What the threads and timers on the way may be late by, in microseconds: a Message that leaves
/// with less time than that is late as often as not.
const LATE_US: u64 = 1_000;

/// What a socket takes, as long as more waits all the time. A core that comes late with more does
/// not make a socket slow: of its own time no more counts than the socket took.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// What it was given last, if more waits behind that.
    given: Option<Given>,
    /// Of the present stretch: how long it is, and what the socket took.
    stretch_us: u64,
    taken: u64,
    /// Of the last stretch and the one before: one that was slow for once does not count.
    rates_bytes_per_s: [Option<u64>; 2],
}

#[derive(Debug)]
struct Given {
    bytes: u64,
    from_us: u64,
    until_us: u64,
}

impl Drain {
    /// More is about to be given: it has taken what there was, or was idle.
    pub(super) fn ask(&mut self, now_us: u64) {
        let Some(given) = self.given.take() else {
            *self = Self::default();
            return;
        };
        self.taken += given.bytes;
        // What the kernel holds goes on leaving while the core comes to give it more.
        let busy_us = given.until_us.saturating_sub(given.from_us);
        self.stretch_us += now_us.saturating_sub(given.from_us).min(2 * busy_us);
        if self.stretch_us >= STRETCH_US {
            let rate = u128::from(self.taken) * 1_000_000 / u128::from(self.stretch_us);
            let rate = u64::try_from(rate).unwrap_or(u64::MAX).max(1);
            self.rates_bytes_per_s = [Some(rate), self.rates_bytes_per_s[0]];
            (self.stretch_us, self.taken) = (0, 0);
        }
    }

    /// It was given so many bytes; `more`: others wait behind them.
    pub(super) fn give(&mut self, now_us: u64, bytes: u64, more: bool) {
        let given = Given { bytes, from_us: now_us, until_us: now_us };
        self.given = (bytes > 0 && more).then_some(given);
    }

    /// It has taken what it was given, or a part of it.
    pub(super) fn take(&mut self, now_us: u64) {
        if let Some(given) = &mut self.given {
            given.until_us = now_us;
        }
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
        for step in 0..count {
            // It takes them after three quarters of the time, and the core comes after all of it.
            drain.give(from_us + step * gap_us, 1000, true);
            drain.take(from_us + (4 * step + 3) * gap_us / 4);
            drain.ask(from_us + (step + 1) * gap_us);
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
    fn a_core_that_comes_late_does_not_make_a_socket_slow() {
        let mut drain = Drain::default();
        drain.ask(0);
        for turn in 0..2000 {
            // It takes them in 10 us, and gets more after 10 ms.
            drain.give(turn * 10_000, 1000, true);
            drain.take(turn * 10_000 + 10);
            drain.ask((turn + 1) * 10_000);
        }
        assert_eq!(drain.rate_bytes_per_s(), Some(50_000_000));
    }

    #[test]
    fn one_that_was_idle_has_none() {
        for (bytes, more) in [(1000, false), (0, true)] {
            let mut drain = Drain::default();
            drain.ask(0);
            let now_us = goes_on(&mut drain, 0, 1000, 5);
            assert_eq!(drain.rate_bytes_per_s(), Some(1_000_000));
            drain.give(now_us, bytes, more);
            drain.take(now_us + 1_000_000);
            drain.ask(now_us + 1_000_000);
            assert_eq!(drain.rate_bytes_per_s(), None);
        }
    }
}
