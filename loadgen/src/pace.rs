//! The schedule: when each message is meant to leave, and on which connection.
//!
//! Above: `worker` sends what is due. Below: `workload` says what it is. Absent: a clock
//! (times are nanoseconds since the start of the run); knowledge of replies, so nothing the
//! server does can move it.
//! Bound: `AHEAD_MAX` arrivals are drawn ahead, whatever the rate.

use std::collections::VecDeque;
use std::sync::Arc;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::workload::trace::Line;
use crate::workload::{Kind, NEVER_NS, Sampler, Workload};

/// Arrivals kept ready, so that drawing happens while nothing is due.
const AHEAD_MAX: usize = 256;

/// One message that is meant to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    /// Intended time, in nanoseconds since the start of the run.
    pub(crate) intended_ns: u64,
    /// Index of the connection.
    pub(crate) connection: u32,
    /// What is sent.
    pub(crate) kind: Kind,
}

/// When messages are meant to leave.
#[derive(Debug, Clone)]
pub(crate) enum Gaps {
    /// Exponentially distributed gaps: a Poisson process; connections are drawn too.
    Exponential,
    /// All equal; connections take turns.
    Equal,
    /// So many at once, all workers together; connections take turns.
    Burst(u32),
    /// A Poisson process whose rate changes evenly, from the end of the warm-up to the end.
    Ramp {
        /// Messages per second until the end of the warm-up, all workers together.
        from_per_s: f64,
        /// At the end.
        to_per_s: f64,
        /// When it begins to change, in nanoseconds.
        warmup_ns: u64,
    },
    /// As written, from this time on; workers and connections take turns.
    Trace(Arc<[Line]>, u64),
}

/// The part of every worker's schedule that this process sends: the messages of every so-many-th
/// connection. All parts together are the whole schedule, message for message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Number of this part, from 0 to below `of`.
    pub(crate) number: u32,
    /// How many parts there are, at least 1.
    pub(crate) of: u32,
}

impl Part {
    /// The only one.
    pub(crate) const WHOLE: Self = Self { number: 0, of: 1 };

    /// How many of `connections` are in this part.
    pub(crate) const fn connections(self, connections: u32) -> u32 {
        connections / self.of + (self.number < connections % self.of) as u32
    }

    /// True if this connection of the whole schedule is in this part.
    const fn has(self, connection: u32) -> bool {
        connection % self.of == self.number
    }
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
    /// Connections of this worker, over all parts.
    pub(crate) connections: u32,
    /// Which of its messages are sent here; the others are drawn and passed over.
    pub(crate) part: Part,
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
    sampler: Sampler,
    /// Number of the next arrival to draw.
    number: u64,
    /// Sum of the gaps drawn so far, in mean gaps; exact to far below 1 ns for days.
    elapsed: f64,
    ahead: VecDeque<Due>,
}

/// The seed of one worker's random numbers.
pub(crate) const fn seed_of(share: &Share) -> u64 {
    // Odd multiplier: distinct workers get distinct seeds.
    share.seed.wrapping_add((share.worker as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The times and classes of all arrivals of one worker.
pub(crate) fn arrivals(
    gaps: Gaps,
    share: Share,
    workload: Arc<Workload>,
) -> impl Iterator<Item = (u64, u8)> {
    let mut schedule = Schedule::new(gaps, share, Sampler::new(workload, seed_of(&share)));
    let drawn = std::iter::from_fn(move || schedule.take_due(u64::MAX));
    drawn.map(|due| (due.intended_ns, due.kind.class))
}

impl Schedule {
    /// The schedule of one worker. Several workers' Poisson streams add up to one of the whole
    /// rate; constant ones interleave.
    pub(crate) fn new(gaps: Gaps, share: Share, sampler: Sampler) -> Self {
        Self {
            gaps,
            share,
            random: Xoshiro256PlusPlus::seed_from_u64(seed_of(&share)),
            sampler,
            number: 0,
            elapsed: 0.0,
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
        let workers = f64::from(self.share.workers);
        let expected = match &self.gaps {
            Gaps::Trace(lines, offset_ns) => {
                let before = |ns: u64| lines.partition_point(|line| line.at_ns + offset_ns < ns);
                (before(until_ns) - before(next.intended_ns + 1)) as f64 / workers
            }
            Gaps::Ramp { .. } => self.mass(until_ns) - self.mass(next.intended_ns),
            _ => (until_ns - next.intended_ns) as f64 * self.own_rate_per_ns(),
        };
        let share = self.share.part.connections(self.share.connections);
        1 + (expected * f64::from(share) / f64::from(self.share.connections)) as u64
    }

    fn own_rate_per_ns(&self) -> f64 {
        self.share.rate_per_s / f64::from(self.share.workers) / 1e9
    }

    /// The next arrival of this part.
    fn draw(&mut self) -> Due {
        let Share { part, end_ns, .. } = self.share;
        loop {
            let due = self.draw_any();
            if part.has(due.connection) || due.intended_ns >= end_ns {
                return Due { connection: due.connection / part.of, ..due };
            }
        }
    }

    /// The next arrival of the whole.
    fn draw_any(&mut self) -> Due {
        let number = self.number;
        self.number += 1;
        let intended_ns = match self.gaps {
            Gaps::Exponential => {
                self.elapsed += self.gap();
                (self.elapsed / self.own_rate_per_ns()).round() as u64
            }
            Gaps::Ramp { .. } => {
                self.elapsed += self.gap();
                self.time_of(self.elapsed)
            }
            Gaps::Equal => {
                let offset = f64::from(self.share.worker) / self.share.rate_per_s * 1e9;
                (number as f64 / self.own_rate_per_ns() + offset).round() as u64
            }
            Gaps::Burst(count) => {
                let count = u64::from(count);
                let burst = self.global(number) / count;
                ((burst * count) as f64 / self.share.rate_per_s * 1e9).round() as u64
            }
            Gaps::Trace(ref lines, offset_ns) => {
                return self.traced(lines.get(self.global(number) as usize), offset_ns, number);
            }
        };
        let connection = if matches!(self.gaps, Gaps::Exponential | Gaps::Ramp { .. }) {
            self.random.random_range(0..self.share.connections)
        } else {
            self.in_turn(number)
        };
        Due { intended_ns, connection, kind: self.sampler.draw() }
    }

    /// An exponential gap, in mean gaps.
    fn gap(&mut self) -> f64 {
        // 1 - u lies in (0, 1], so the logarithm is finite.
        let u: f64 = self.random.random();
        -(1.0 - u).ln()
    }

    /// The place of this worker's arrival `number` among those of all workers.
    fn global(&self, number: u64) -> u64 {
        number * u64::from(self.share.workers) + u64::from(self.share.worker)
    }

    fn in_turn(&self, number: u64) -> u32 {
        (number % u64::from(self.share.connections)) as u32
    }

    fn traced(&self, line: Option<&Line>, offset_ns: u64, number: u64) -> Due {
        let Some(line) = line else {
            let kind = Kind { class: 0, bytes: 0, deadline_ns: NEVER_NS };
            return Due { intended_ns: u64::MAX, connection: 0, kind };
        };
        let deadline_ns = line.deadline_ns.unwrap_or(NEVER_NS);
        Due {
            intended_ns: line.at_ns.saturating_add(offset_ns),
            connection: self.in_turn(number),
            kind: Kind { class: line.class, bytes: line.bytes, deadline_ns },
        }
    }

    /// Arrivals of this worker expected of a ramp from the start to `at_ns`.
    fn mass(&self, at_ns: u64) -> f64 {
        let Gaps::Ramp { from_per_s, to_per_s, warmup_ns } = self.gaps else { return 0.0 };
        let warm_s = at_ns.min(warmup_ns) as f64 / 1e9;
        let since_s = at_ns.saturating_sub(warmup_ns) as f64 / 1e9;
        let length_s = (self.share.end_ns - warmup_ns) as f64 / 1e9;
        let slope = (to_per_s - from_per_s) / length_s;
        let all = from_per_s * (warm_s + since_s) + slope * since_s * since_s / 2.0;
        all / f64::from(self.share.workers)
    }

    /// When a ramp has brought `mass` arrivals: the inverse of `mass`.
    fn time_of(&self, mass: f64) -> u64 {
        let Gaps::Ramp { from_per_s, to_per_s, warmup_ns } = self.gaps else { return u64::MAX };
        let left = mass * f64::from(self.share.workers) - from_per_s * warmup_ns as f64 / 1e9;
        if left <= 0.0 {
            let before_ns = -left / from_per_s * 1e9;
            return (warmup_ns as f64 - before_ns).max(0.0).round() as u64;
        }
        let length_s = (self.share.end_ns - warmup_ns) as f64 / 1e9;
        let slope = (to_per_s - from_per_s) / length_s;
        // The root of from*s + slope*s^2/2 = left in the form without cancellation.
        let under = from_per_s * from_per_s + 2.0 * slope * left;
        if under < 0.0 {
            return u64::MAX;
        }
        let since_s = 2.0 * left / (from_per_s + under.sqrt());
        (warmup_ns as f64 + since_s * 1e9).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Sizes;

    const SECOND_NS: u64 = 1_000_000_000;

    fn share(worker: u32, workers: u32, seed: u64) -> Share {
        let end_ns = 10 * SECOND_NS;
        let part = Part::WHOLE;
        Share { worker, workers, rate_per_s: 20_000.0, connections: 50, part, end_ns, seed }
    }

    fn schedule(gaps: Gaps, share: Share) -> Schedule {
        let workload = Arc::new(Workload::plain(Sizes::fixed(64)));
        Schedule::new(gaps, share, Sampler::new(workload, seed_of(&share)))
    }

    fn all(gaps: Gaps, share: Share) -> Vec<Due> {
        let mut schedule = schedule(gaps, share);
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
        let mut schedule = schedule(Gaps::Exponential, share(0, 1, 7));
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
        let mut schedule = schedule(Gaps::Equal, share(0, 1, 1));
        assert!(schedule.take_due(0).is_some());
        assert!(schedule.take_due(49_999).is_none());
        assert!(schedule.take_due(50_000).is_some());
        assert_eq!(schedule.expected_until(0), 0);
        assert!(schedule.expected_until(SECOND_NS).abs_diff(19_998) <= 1);
        assert!(schedule.expected_until(u64::MAX).abs_diff(199_998) <= 1);
    }

    #[test]
    fn bursts_leave_at_once_and_workers_share_them() {
        let mut both = all(Gaps::Burst(64), share(0, 2, 1));
        both.extend(all(Gaps::Burst(64), share(1, 2, 1)));
        both.sort_by_key(|due| due.intended_ns);
        for (number, due) in both.iter().enumerate() {
            assert_eq!(due.intended_ns, number as u64 / 64 * 3_200_000, "arrival {number}");
        }
        assert_eq!(both.len(), 200_000);
    }

    #[test]
    fn a_ramp_has_the_rate_of_its_time() {
        for (from_per_s, to_per_s) in [(1e4, 5e4), (5e4, 1e4), (3e4, 3e4)] {
            let ramp = Gaps::Ramp { from_per_s, to_per_s, warmup_ns: 2 * SECOND_NS };
            let dues = all(ramp.clone(), share(0, 1, 5));
            assert!(dues.is_sorted_by_key(|due| due.intended_ns));
            let count = |from: u64, to: u64| {
                let within =
                    |due: &&Due| (from * SECOND_NS..to * SECOND_NS).contains(&due.intended_ns);
                dues.iter().filter(within).count() as f64
            };
            let slope = (to_per_s - from_per_s) / 8.0;
            let near = |got: f64, want: f64| (got - want).abs() < 4.0 * want.sqrt();
            assert!(near(count(0, 2), 2.0 * from_per_s), "{}", count(0, 2));
            assert!(near(count(2, 3), from_per_s + slope / 2.0), "{}", count(2, 3));
            assert!(near(count(9, 10), to_per_s - slope / 2.0), "{}", count(9, 10));
            let mut fresh = schedule(ramp, share(0, 1, 5));
            let expected = fresh.expected_until(u64::MAX) as f64;
            assert!(near(dues.len() as f64, expected), "{} for {expected}", dues.len());
        }
    }

    #[test]
    fn a_trace_is_played_as_written_by_all_workers_together() {
        let line = |at_ns| Line { at_ns, bytes: at_ns as u32, class: 0, deadline_ns: None };
        let lines: Arc<[Line]> = (0..9).map(line).collect();
        let gaps = Gaps::Trace(lines, SECOND_NS);
        let (one, two) = (all(gaps.clone(), share(0, 2, 1)), all(gaps.clone(), share(1, 2, 1)));
        assert_eq!((one.len(), two.len()), (5, 4));
        let bytes = |dues: &[Due]| dues.iter().map(|due| due.kind.bytes).collect::<Vec<_>>();
        assert_eq!((bytes(&one), bytes(&two)), (vec![0, 2, 4, 6, 8], vec![1, 3, 5, 7]));
        assert!(one.iter().all(|due| due.intended_ns == SECOND_NS + u64::from(due.kind.bytes)));
        assert_eq!(schedule(gaps, share(0, 1, 1)).expected_until(u64::MAX), 9);
    }
}

#[cfg(test)]
#[path = "tests/theory.rs"]
mod theory;

#[cfg(test)]
#[path = "tests/partition.rs"]
mod partition;
