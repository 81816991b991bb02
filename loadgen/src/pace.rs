//! The schedule: when each message is meant to leave, and on which connection.
//!
//! Above: `worker` sends what is due. Below: nothing. Absent: a clock (times are nanoseconds
//! since the start of the run); knowledge of replies, so nothing the server does can move it.
//! Bound: `AHEAD_MAX` arrivals are drawn ahead, whatever the rate.

use std::collections::VecDeque;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// Arrivals kept ready, so that drawing happens while nothing is due.
const AHEAD_MAX: usize = 256;

/// One message that is meant to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    /// Intended time, in nanoseconds since the start of the run.
    pub(crate) intended_ns: u64,
    /// Index of the connection.
    pub(crate) connection: u32,
}

/// Which gaps lie between arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gaps {
    /// Exponentially distributed: a Poisson process; connections are drawn too.
    Exponential,
    /// All equal; connections take turns.
    Equal,
}

/// The part of the whole schedule that one of several workers sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    /// Number of this worker, from 0.
    pub(crate) worker: u32,
    /// How many workers there are.
    pub(crate) workers: u32,
    /// Messages per second of all workers together.
    pub(crate) rate_per_s: f64,
    /// Connections of this worker.
    pub(crate) connections: u32,
    /// End of the schedule, in nanoseconds.
    pub(crate) end_ns: u64,
    /// Seed of the whole run; each worker draws its own stream from it.
    pub(crate) seed: u64,
}

/// A seeded sequence of arrivals with rising times.
#[derive(Debug)]
pub(crate) struct Schedule {
    gaps: Gaps,
    share: Share,
    random: Xoshiro256PlusPlus,
    /// Number of the next arrival to draw.
    number: u64,
    /// Sum of the gaps drawn so far, in nanoseconds; exact to far below 1 ns for days.
    elapsed_ns: f64,
    ahead: VecDeque<Due>,
}

impl Schedule {
    /// The schedule of one worker. Several workers' Poisson streams add up to one of the whole
    /// rate; constant ones interleave.
    pub(crate) fn new(gaps: Gaps, share: Share) -> Self {
        // Odd multiplier: distinct workers get distinct seeds.
        let stream = u64::from(share.worker).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            gaps,
            share,
            random: Xoshiro256PlusPlus::seed_from_u64(share.seed.wrapping_add(stream)),
            number: 0,
            elapsed_ns: 0.0,
            ahead: VecDeque::with_capacity(AHEAD_MAX),
        }
    }

    /// Draws at most `count` arrivals ahead; called while nothing is due.
    pub(crate) fn draw_ahead(&mut self, count: usize) {
        for _ in 0..count.min(AHEAD_MAX - self.ahead.len()) {
            let due = self.draw();
            self.ahead.push_back(due);
        }
    }

    /// The next arrival, not taken; `None` when the schedule has ended.
    pub(crate) fn peek(&mut self) -> Option<Due> {
        if self.ahead.is_empty() {
            self.draw_ahead(1);
        }
        self.ahead.front().copied().filter(|due| due.intended_ns < self.share.end_ns)
    }

    /// Takes the next arrival if it is due at `now_ns`.
    pub(crate) fn take_due(&mut self, now_ns: u64) -> Option<Due> {
        self.peek().filter(|due| due.intended_ns <= now_ns)?;
        self.ahead.pop_front()
    }

    /// Arrivals expected from the next one up to `until_ns`, by the rate; for runs that end so
    /// far behind that drawing them one by one would take minutes.
    pub(crate) fn expected_until(&mut self, until_ns: u64) -> u64 {
        let Some(next) = self.peek() else { return 0 };
        let until_ns = until_ns.min(self.share.end_ns);
        if next.intended_ns >= until_ns {
            return 0;
        }
        let rest_ns = (until_ns - next.intended_ns) as f64;
        1 + (rest_ns * self.share.rate_per_s / f64::from(self.share.workers) / 1e9) as u64
    }

    fn draw(&mut self) -> Due {
        let own_rate_per_ns = self.share.rate_per_s / f64::from(self.share.workers) / 1e9;
        let number = self.number;
        self.number += 1;
        match self.gaps {
            Gaps::Exponential => {
                // 1 - u lies in (0, 1], so the logarithm is finite.
                let u: f64 = self.random.random();
                self.elapsed_ns -= (1.0 - u).ln() / own_rate_per_ns;
                let connection = self.random.random_range(0..self.share.connections);
                Due { intended_ns: self.elapsed_ns.round() as u64, connection }
            }
            Gaps::Equal => {
                let offset = f64::from(self.share.worker) / self.share.rate_per_s * 1e9;
                let intended_ns = (number as f64 / own_rate_per_ns + offset).round() as u64;
                let connection = (number % u64::from(self.share.connections)) as u32;
                Due { intended_ns, connection }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn share(worker: u32, workers: u32, seed: u64) -> Share {
        let end_ns = 10 * SECOND_NS;
        Share { worker, workers, rate_per_s: 20_000.0, connections: 50, end_ns, seed }
    }

    fn all(gaps: Gaps, share: Share) -> Vec<Due> {
        let mut schedule = Schedule::new(gaps, share);
        std::iter::from_fn(|| schedule.take_due(u64::MAX)).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_another_seed_another() {
        let first = all(Gaps::Exponential, share(0, 1, 7));
        assert_eq!(first, all(Gaps::Exponential, share(0, 1, 7)));
        assert_ne!(first, all(Gaps::Exponential, share(0, 1, 8)));
        assert_ne!(
            all(Gaps::Exponential, share(0, 2, 7)),
            all(Gaps::Exponential, share(1, 2, 7)),
            "each worker has a stream of its own"
        );
    }

    #[test]
    fn drawing_ahead_changes_nothing() {
        let mut schedule = Schedule::new(Gaps::Exponential, share(0, 1, 7));
        let mut taken = Vec::new();
        while schedule.peek().is_some() {
            schedule.draw_ahead(taken.len() % 40);
            assert!(schedule.ahead.len() <= AHEAD_MAX);
            taken.extend(schedule.take_due(u64::MAX));
        }
        assert_eq!(taken, all(Gaps::Exponential, share(0, 1, 7)));
    }

    #[test]
    fn exponential_gaps_have_the_right_mean_and_distribution() {
        let dues = all(Gaps::Exponential, share(0, 1, 3));
        let n = dues.len() as f64;
        assert!((n - 200_000.0).abs() < 4.0 * 200_000_f64.sqrt(), "{n} arrivals");
        let mut gaps: Vec<f64> =
            dues.windows(2).map(|w| (w[1].intended_ns - w[0].intended_ns) as f64).collect();
        gaps.sort_by(f64::total_cmp);
        // Kolmogorov-Smirnov against 1 - exp(-t/mean); 1.95/sqrt(n) is the bound at p = 0.001.
        let mean_ns = 50_000.0;
        let distance = gaps.iter().enumerate().map(|(rank, gap)| {
            let model = 1.0 - (-gap / mean_ns).exp();
            (model - rank as f64 / n).abs().max((model - (rank + 1) as f64 / n).abs())
        });
        let distance = distance.fold(0.0, f64::max);
        assert!(distance < 1.95 / n.sqrt(), "distance {distance}");
    }

    #[test]
    fn connections_are_drawn_evenly() {
        let mut counts = [0_f64; 50];
        for due in all(Gaps::Exponential, share(0, 1, 3)) {
            counts[due.connection as usize] += 1.0;
        }
        // Chi-square with 49 degrees of freedom: 85.4 is its 99.9 % quantile.
        let mean = counts.iter().sum::<f64>() / 50.0;
        let chi: f64 = counts.iter().map(|count| (count - mean).powi(2) / mean).sum();
        assert!(chi < 85.4, "chi-square {chi}");
    }

    #[test]
    fn constant_workers_interleave_without_drift() {
        let mut both = all(Gaps::Equal, share(0, 2, 1));
        both.extend(all(Gaps::Equal, share(1, 2, 1)));
        both.sort_by_key(|due| due.intended_ns);
        assert_eq!(both.len(), 200_000);
        for (number, due) in both.iter().enumerate() {
            assert!(due.intended_ns.abs_diff(number as u64 * 50_000) <= 1, "arrival {number}");
        }
    }

    #[test]
    fn nothing_is_due_early_and_the_rest_can_be_estimated() {
        let mut schedule = Schedule::new(Gaps::Equal, share(0, 1, 1));
        assert!(schedule.take_due(0).is_some());
        assert!(schedule.take_due(49_999).is_none());
        assert!(schedule.take_due(50_000).is_some());
        assert_eq!(schedule.expected_until(0), 0);
        assert!(schedule.expected_until(SECOND_NS).abs_diff(19_998) <= 1);
        assert!(schedule.expected_until(u64::MAX).abs_diff(199_998) <= 1);
    }
}
