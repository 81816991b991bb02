//! Faults: what goes wrong in a simulated world, by chance from a seed or by name once.
//!
//! Above: tests choose, `script` obeys. Below: `random`. Absent: faults that no driver may show
//! at the seam (lost or doubled bytes).

use super::random::Random;
use crate::engine::errno::Errno;

/// How often what goes wrong: chances in percent of the steps where it could happen.
#[derive(Debug, Clone)]
pub(crate) struct Faults {
    /// An operation makes no progress although it could.
    pub(crate) stall: u8,
    /// A receive ends as if its credit were used up (a lost F_MORE).
    pub(crate) early_end: u8,
    /// A receive finds no buffer (ENOBUFS) although some are free.
    pub(crate) no_buffer: u8,
    /// A send answers before everything left.
    pub(crate) short_send: u8,
    /// A stop or close takes effect later, data comes meanwhile.
    pub(crate) late_stop: u8,
    /// A turn hands over only a few completions (a full queue).
    pub(crate) overflow: u8,
    /// Most bytes that one step receives or sends: at least 1.
    pub(crate) step_bytes_max: usize,
}

impl Faults {
    /// Everything goes well.
    pub(crate) const NONE: Self = Self {
        stall: 0,
        early_end: 0,
        no_buffer: 0,
        short_send: 0,
        late_stop: 0,
        overflow: 0,
        step_bytes_max: usize::MAX,
    };

    /// True if what can be done is done in the first round that tries.
    pub(crate) const fn step_at_once(&self) -> bool {
        self.stall == 0 && self.no_buffer == 0 && self.late_stop == 0
    }

    /// Some mixture of faults, another for each seed.
    pub(crate) fn from_seed(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0xfa17);
        let mut chance = |most: usize| {
            // Each fault is absent in a third of the mixtures, so that others show alone.
            if random.below(3) == 0 { 0 } else { random.below(most + 1) as u8 }
        };
        let mut faults = Self {
            stall: chance(60),
            early_end: chance(30),
            no_buffer: chance(30),
            short_send: chance(60),
            late_stop: chance(80),
            overflow: chance(50),
            step_bytes_max: usize::MAX,
        };
        faults.step_bytes_max = [8, 100, 1000, 4096, usize::MAX][random.below(5)];
        faults
    }
}

/// A fault that strikes once, at the first operation it fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A receive ends as if its credit were used up.
    EndReceive,
    /// A receive fails and the connection with it.
    FailReceive(Errno),
    /// A send leaves this many bytes (at least 1) and answers.
    ShortSend(usize),
    /// A send fails before any byte left.
    FailSend(Errno),
    /// An accept ends with this error (EMFILE, say); its queue stays.
    EndAccept(Errno),
    /// A connect fails.
    FailConnect(Errno),
    /// A turn hands over only a few of its completions.
    Overflow,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_common_in_some_mixture_and_absent_in_another() {
        let mixtures: Vec<Faults> = (0..200).map(Faults::from_seed).collect();
        for chance in [
            |faults: &Faults| faults.stall,
            |faults: &Faults| faults.early_end,
            |faults: &Faults| faults.no_buffer,
            |faults: &Faults| faults.short_send,
            |faults: &Faults| faults.late_stop,
            |faults: &Faults| faults.overflow,
        ] {
            assert!(mixtures.iter().any(|faults| chance(faults) == 0));
            assert!(mixtures.iter().any(|faults| chance(faults) >= 20));
            assert!(mixtures.iter().all(|faults| chance(faults) <= 80), "progress stays possible");
        }
        assert!(mixtures.iter().any(|faults| faults.step_bytes_max == 8));
    }
}
