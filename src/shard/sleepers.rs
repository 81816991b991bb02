//! Sleepers: futures on a core that wait for time.
//!
//! Above: `sleep`. Below: the wheel, whose keys they share with the slots. Absent: timeouts of
//! connections. Bound: one entry per sleeping future; entries of cancelled ones are sifted out of
//! the wheel before they are more than the others.

use std::collections::HashMap;
use std::task::Waker;
use std::time::Duration;

use super::core::Core;
use crate::engine::clock;

/// Futures that sleep, by their wheel keys.
#[derive(Default)]
pub(super) struct Sleepers {
    wakers: HashMap<u64, Waker>,
    next: u64,
    /// Entries of the wheel whose future was dropped.
    cancelled: usize,
}

/// Wheel keys from here on are sleeping futures, below it slots.
const SLEEPER_KEYS: u64 = 1 << 63;
/// So many cancelled sleeps are not worth a look at the whole wheel.
const CANCELLED_MIN: usize = 256;

impl Core {
    /// Wakes `waker` after `after`; the key cancels it.
    pub(crate) fn sleep(&self, after: Duration, waker: Waker) -> u64 {
        let mut sleepers = self.sleepers.borrow_mut();
        sleepers.next = (sleepers.next + 1) % SLEEPER_KEYS;
        let key = sleepers.next | SLEEPER_KEYS;
        sleepers.wakers.insert(key, waker);
        let elapsed = clock::now().duration_since(self.began).saturating_add(after);
        // Rounded up: a sleep is never short.
        let at = u64::try_from(elapsed.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        self.state.borrow_mut().wheel.schedule(key, at);
        key
    }

    /// Replaces the waker of a sleep; false if it is over.
    pub(crate) fn resleep(&self, key: u64, waker: &Waker) -> bool {
        let mut sleepers = self.sleepers.borrow_mut();
        let Some(place) = sleepers.wakers.get_mut(&key) else { return false };
        let old = (!place.will_wake(waker)).then(|| std::mem::replace(place, waker.clone()));
        drop(sleepers);
        drop(old);
        true
    }

    pub(crate) fn forget_sleep(&self, key: u64) {
        let waker = self.sleepers.borrow_mut().wakers.remove(&key);
        if waker.is_some() {
            self.count_cancelled();
        }
        drop(waker);
    }

    /// A race of a receive against a timer leaves an entry behind each time it wins.
    fn count_cancelled(&self) {
        let mut sleepers = self.sleepers.borrow_mut();
        sleepers.cancelled += 1;
        let wheel = &mut self.state.borrow_mut().wheel;
        if sleepers.cancelled >= CANCELLED_MIN && sleepers.cancelled > wheel.len() / 2 {
            sleepers.cancelled = 0;
            wheel.retain(|key| key & SLEEPER_KEYS == 0 || sleepers.wakers.contains_key(&key));
        }
    }

    /// A wheel key whose time has come: wakes it if it sleeps, else says which slot it is.
    pub(crate) fn due(&self, key: u64) -> Option<u32> {
        if key & SLEEPER_KEYS == 0 {
            return Some(key as u32);
        }
        let waker = {
            let mut sleepers = self.sleepers.borrow_mut();
            let waker = sleepers.wakers.remove(&key);
            if waker.is_none() {
                sleepers.cancelled = sleepers.cancelled.saturating_sub(1);
            }
            waker
        };
        if let Some(waker) = waker {
            self.guard(|| waker.wake());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::timeouts::tests::core;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn cancelled_sleeps_do_not_stay_in_the_wheel() {
        let core = core();
        let kept: Vec<_> = (0..100).map(|_| core.sleep(HOUR, Waker::noop().clone())).collect();
        for _ in 0..100_000 {
            let key = core.sleep(HOUR, Waker::noop().clone());
            core.forget_sleep(key);
            assert!(core.state.borrow().wheel.len() <= 2 * (kept.len() + CANCELLED_MIN));
        }
        for key in kept {
            assert!(core.resleep(key, Waker::noop()), "still asleep");
            core.forget_sleep(key);
            // A sleep that is over is forgotten a second time without being counted.
            core.forget_sleep(key);
        }
    }
}
