//! Sleepers: futures on a core that wait for time.
//!
//! Above: `sleep`. Below: the wheel, whose keys they share with the slots. Absent: timeouts of
//! connections. Bound: one entry per sleeping future; a cancelled one keeps its wheel entry until
//! its time has come.

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
}

/// Wheel keys from here on are sleeping futures, below it slots.
const SLEEPER_KEYS: u64 = 1 << 63;

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
        drop(waker);
    }

    /// A wheel key whose time has come: wakes it if it sleeps, else says which slot it is.
    pub(crate) fn due(&self, key: u64) -> Option<u32> {
        if key & SLEEPER_KEYS == 0 {
            return Some(key as u32);
        }
        let waker = self.sleepers.borrow_mut().wakers.remove(&key);
        if let Some(waker) = waker {
            self.guard(|| waker.wake());
        }
        None
    }
}
