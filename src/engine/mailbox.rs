//! How other threads and sibling cores hand values to a core, and how a sleeping core hears of it.
//!
//! Above: `shard` pops; Carriers on other threads and sibling shards post. Below: the driver's
//! way to wake a core (`Bell`, or the ring of a sibling when `Lane::post` asks for it).
//! Absent: what the values mean; waiting for room (a full queue gives the value back).
//! Bounds: one queue for all foreign threads and one lane per sibling, each with a fixed capacity.
//!
//! # Why no wake is lost
//!
//! A value is queued (Q) and the core's state says AWAKE, PARKED or CLOSED (S). A producer writes
//! Q, passes a sequentially consistent fence, reads S. The core writes S = PARKED, passes such a
//! fence, reads Q. The two fences have an order. If the producer's comes first, the core's read
//! of Q sees the value and `park` refuses. If the core's comes first, the producer's read of S
//! sees PARKED (or something later), and whoever changes PARKED to AWAKE by compare-exchange
//! rings, so exactly one of several producers does. If one finds AWAKE instead, either another
//! producer took over the ring, or the core itself left the sleep; in both cases the core looks
//! into the queues before it parks again, and `park` looks once more.
//!
//! The same argument with CLOSED for PARKED shows that a value posted while the core ends is
//! drained by the core or by the producer, so that nothing waits for an answer for ever.
//!
//! Two things are the caller's: the bell is sticky (one rung early wakes the next sleep), and the
//! core clears it only while it is not parked. A ring may come late, after the core woke for
//! another reason; then the next sleep ends early, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

/// Wakes a parked core, from any thread. Ringing twice before the core looked is ringing once,
/// and a ring is remembered until then.
pub(crate) trait Bell: Send + Sync {
    /// Wakes the core. It must neither block nor panic.
    fn ring(&self);
}

const AWAKE: u8 = 0;
const PARKED: u8 = 1;
const CLOSED: u8 = 2;

/// What a producer has to do after it queued something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    Nothing,
    Ring,
    /// The core is gone: what was queued has no reader.
    Drain,
}

#[derive(Debug, Default)]
struct Door {
    /// `AWAKE`, `PARKED` or `CLOSED`.
    state: AtomicU8,
    /// Somebody wants a turn of the core without sending it a value.
    wake: AtomicBool,
}

impl Door {
    /// Called after something was queued.
    fn knock(&self) -> Duty {
        fence(Ordering::SeqCst);
        match self.state.load(Ordering::Relaxed) {
            AWAKE => Duty::Nothing,
            PARKED if self.take_over_ring() => Duty::Ring,
            PARKED => self.after_lost_race(),
            _ => Duty::Drain,
        }
    }

    fn take_over_ring(&self) -> bool {
        let (old, new) = (PARKED, AWAKE);
        self.state.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The state was PARKED and then changed under us: to AWAKE, or even to CLOSED.
    fn after_lost_race(&self) -> Duty {
        if self.is_closed() { Duty::Drain } else { Duty::Nothing }
    }

    fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) == CLOSED
    }
}

struct Shared<T> {
    queue: ArrayQueue<T>,
    door: Arc<CachePadded<Door>>,
    bell: Arc<dyn Bell>,
}

/// The receiving end. It lives on its core; dropping it closes all ways in and drops what they
/// hold.
pub(crate) struct Mailbox<T> {
    shared: Arc<Shared<T>>,
    lanes: Vec<Arc<ArrayQueue<T>>>,
    /// Which source `pop` tries first: 0 is the queue, `n` is lane `n - 1`.
    first: usize,
}

impl<T> Mailbox<T> {
    /// A mailbox whose common queue holds up to `capacity` values (at least 1). `bell` wakes the
    /// thread that will own it.
    pub(crate) fn new(capacity: usize, bell: Arc<dyn Bell>) -> Self {
        let queue = ArrayQueue::new(capacity.max(1));
        let shared = Arc::new(Shared { queue, door: Arc::default(), bell });
        Self { shared, lanes: Vec::new(), first: 0 }
    }

    /// A way in for any thread.
    pub(crate) fn postbox(&self) -> Postbox<T> {
        Postbox { shared: self.shared.clone() }
    }

    /// A way in of its own for one sibling core, holding up to `capacity` values (at least 1).
    pub(crate) fn add_lane(&mut self, capacity: usize) -> Lane<T> {
        let queue = Arc::new(ArrayQueue::new(capacity.max(1)));
        self.lanes.push(queue.clone());
        Lane { queue, door: self.shared.door.clone() }
    }

    /// The next value; the queue and the lanes take turns, each keeps its own order. It never
    /// sleeps, but spins while a producer is in the middle of queueing the very next value.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let mut source = self.first;
        for _ in 0..=self.lanes.len() {
            let queue = self.source(source);
            // Looking first spares an empty queue the fence inside of its pop.
            let value = if queue.is_empty() { None } else { queue.pop() };
            source = if source == self.lanes.len() { 0 } else { source + 1 };
            if value.is_some() {
                self.first = source;
                return value;
            }
        }
        None
    }

    /// Whether `pop` has nothing to give at this moment.
    pub(crate) fn is_empty(&self) -> bool {
        (0..=self.lanes.len()).all(|source| self.source(source).is_empty())
    }

    /// Announces that the core is about to sleep. If false, there is something to do and the
    /// core is not parked: take another turn. If true, the bell rings once for the first value
    /// or wake that comes; call `unpark` when the sleep has ended, for whatever reason.
    #[must_use]
    pub(crate) fn park(&self) -> bool {
        let door = &self.shared.door;
        door.state.store(PARKED, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let woken = door.wake.load(Ordering::Relaxed);
        if woken || !self.is_empty() {
            self.unpark();
            return false;
        }
        true
    }

    /// The core is awake: values posted from now on ring no bell. A wake that came before is done
    /// with, for the turn that follows sees everything its sender did before it.
    pub(crate) fn unpark(&self) {
        let door = &self.shared.door;
        door.state.store(AWAKE, Ordering::Relaxed);
        if door.wake.load(Ordering::Relaxed) {
            door.wake.swap(false, Ordering::AcqRel);
        }
    }

    fn source(&self, source: usize) -> &ArrayQueue<T> {
        match source.checked_sub(1) {
            None => &self.shared.queue,
            Some(lane) => &self.lanes[lane],
        }
    }
}

impl<T> Drop for Mailbox<T> {
    fn drop(&mut self) {
        self.shared.door.state.store(CLOSED, Ordering::Release);
        fence(Ordering::SeqCst);
        (0..=self.lanes.len()).for_each(|source| drain(self.source(source)));
    }
}

/// A way into a mailbox for any thread.
pub(crate) struct Postbox<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Postbox<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T> Postbox<T> {
    /// Queues `value` and wakes the core if it sleeps. The value comes back if the queue is full
    /// or the core has ended (`is_closed` says which). A value taken while the core ends is
    /// dropped unread.
    pub(crate) fn post(&self, value: T) -> Result<(), T> {
        if self.is_closed() {
            return Err(value);
        }
        self.shared.queue.push(value)?;
        self.settle();
        Ok(())
    }

    /// Makes the core take a turn, if it sleeps or is about to, without sending it a value. What
    /// the caller did before is visible to that turn.
    pub(crate) fn wake(&self) {
        // An exchange, so that clearing the flag synchronises with every waker, not the last only.
        self.shared.door.wake.swap(true, Ordering::AcqRel);
        self.settle();
    }

    /// Whether the core has ended: nothing posted will be read any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.door.is_closed()
    }

    fn settle(&self) {
        match self.shared.door.knock() {
            Duty::Nothing => {}
            Duty::Ring => self.shared.bell.ring(),
            Duty::Drain => drain(&self.shared.queue),
        }
    }
}

/// A way into a mailbox for one sibling core that has its own way to wake the other.
// Deliberately not `Clone`: a lane's order and its share of `pop` belong to one producer.
pub(crate) struct Lane<T> {
    queue: Arc<ArrayQueue<T>>,
    door: Arc<CachePadded<Door>>,
}

impl<T> Lane<T> {
    /// Queues `value`. True means that the core sleeps and this caller, nobody else, must wake
    /// it soon; the wake has to be as sticky as a bell. The value comes back if the lane is full
    /// or the core has ended (`is_closed` says which). A value taken while the core ends is
    /// dropped unread.
    pub(crate) fn post(&self, value: T) -> Result<bool, T> {
        if self.is_closed() {
            return Err(value);
        }
        self.queue.push(value)?;
        let duty = self.door.knock();
        if duty == Duty::Drain {
            drain(&self.queue);
        }
        Ok(duty == Duty::Ring)
    }

    /// Whether the core has ended: nothing posted will be read any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.door.is_closed()
    }
}

fn drain<T>(queue: &ArrayQueue<T>) {
    // At most what was in it, so that a value whose drop posts again cannot keep us here.
    for _ in 0..queue.capacity() {
        if queue.pop().is_none() {
            break;
        }
    }
}

#[cfg(test)]
mod tests;
