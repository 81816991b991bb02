//! The pulse of one generator: did it turn without a pause, how much of it was work.
//!
//! Above: `worker` beats once per turn; the verdict reads the sums. Below: nothing.
//! Absent: a clock; histograms (the longest pause is what disqualifies a run).

/// Turns between two looks at the CPU the thread is on.
const TURNS_PER_LOOK: u64 = 1024;

/// Sums over the turns of one generator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pulse {
    last_ns: Option<u64>,
    turns: u64,
    cpu: Option<usize>,
    /// Longest time from one turn to the next.
    pub(crate) longest_gap_ns: u64,
    /// When it began.
    pub(crate) longest_gap_at_ns: u64,
    /// Time of turns in which a message was sent or received.
    pub(crate) busy_ns: u64,
    /// Time of all turns.
    pub(crate) total_ns: u64,
    /// How often the thread was on another CPU than at the look before.
    pub(crate) cpu_moves: u64,
    /// Time the thread was ready and others had its CPU.
    pub(crate) waited_ns: Option<u64>,
}

impl Pulse {
    /// A turn begins at `now_ns`; `worked` tells of the one that ends.
    #[inline]
    pub(crate) fn beat(&mut self, now_ns: u64, worked: bool) {
        if let Some(last_ns) = self.last_ns.replace(now_ns) {
            let turn_ns = now_ns.saturating_sub(last_ns);
            self.total_ns += turn_ns;
            self.busy_ns += if worked { turn_ns } else { 0 };
            if turn_ns > self.longest_gap_ns {
                (self.longest_gap_ns, self.longest_gap_at_ns) = (turn_ns, last_ns);
            }
        }
        self.turns += 1;
    }

    /// True when it is time to look which CPU the thread is on.
    #[inline]
    pub(crate) const fn wants_look(&self) -> bool {
        self.turns % TURNS_PER_LOOK == 1
    }

    /// The thread is on this CPU.
    pub(crate) fn look(&mut self, cpu: Option<usize>) {
        if let (Some(before), Some(now)) = (self.cpu, cpu)
            && before != now
        {
            self.cpu_moves += 1;
        }
        self.cpu = cpu.or(self.cpu);
    }

    /// Share of the time that others had the CPU.
    pub(crate) fn waited_share(&self) -> Option<f64> {
        self.waited_ns.map(|waited_ns| waited_ns as f64 / self.total_ns.max(1) as f64)
    }

    /// Share of the time at work.
    pub(crate) fn busy_share(&self) -> f64 {
        self.busy_ns as f64 / self.total_ns.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_and_the_share_of_work_are_kept() {
        let mut pulse = Pulse::default();
        pulse.beat(1_000, true);
        pulse.beat(1_200, false);
        pulse.beat(1_500, true);
        pulse.beat(1_001_500, false);
        pulse.beat(1_001_600, true);
        assert_eq!((pulse.longest_gap_ns, pulse.longest_gap_at_ns), (1_000_000, 1_500));
        assert_eq!((pulse.busy_ns, pulse.total_ns), (400, 1_000_600));
    }

    #[test]
    fn moves_between_cpus_are_counted() {
        let mut pulse = Pulse::default();
        for cpu in [Some(1), Some(1), None, Some(1), Some(0), Some(1)] {
            pulse.look(cpu);
        }
        assert_eq!(pulse.cpu_moves, 2);
    }
}
