//! Event queue: what happened on one Carrier, until its listener takes it, on any thread.
//!
//! Above: `carrier::events` reads it. Below: the core pushes what it reports. Absent: what the
//! events mean. Bound: `Limits::events`; what finds it full is counted, and the count stands where
//! the events would have stood. The end is never lost.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::error::CloseReason;
use crate::message::Event;

struct State {
    events: VecDeque<Event>,
    events_max: usize,
    /// Events lost since the last one that was kept.
    missed: u64,
    /// `Some(None)`: the end was told and taken.
    ended: Option<Option<CloseReason>>,
    waker: Option<Waker>,
    abandoned: bool,
}

type Shared = Arc<Mutex<State>>;

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    // Nothing that can panic runs under the lock.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The core's side. Dropped, it says that the engine was shut down.
pub(crate) struct EventSender(Shared);

/// The listener's side.
pub(crate) struct EventReceiver(Shared);

/// Two ends of a queue of `events_max` events.
pub(crate) fn event_queue(events_max: usize) -> (EventSender, EventReceiver) {
    let shared = Arc::new(Mutex::new(State {
        events: VecDeque::new(),
        events_max: events_max.max(2),
        missed: 0,
        ended: None,
        waker: None,
        abandoned: false,
    }));
    (EventSender(Arc::clone(&shared)), EventReceiver(shared))
}

impl EventSender {
    /// Sets the bound of the core that has it now.
    pub(crate) fn bound(&self, events_max: usize) {
        lock(&self.0).events_max = events_max.max(2);
    }

    /// Keeps `event`, or counts it; who waits is to be woken outside every borrow.
    pub(crate) fn push(&self, event: Event) -> Option<Waker> {
        let mut state = lock(&self.0);
        let missed = state.missed;
        // The count takes a place of its own before what comes behind it.
        let needs = 1 + usize::from(missed > 0);
        if state.events.len() + needs > state.events_max {
            state.missed += 1;
            return None;
        }
        if missed > 0 {
            state.events.push_back(Event::Missed(missed));
            state.missed = 0;
        }
        state.events.push_back(event);
        state.waker.take()
    }

    /// The Carrier has ended.
    pub(crate) fn end(&self, reason: CloseReason) -> Option<Waker> {
        let mut state = lock(&self.0);
        state.ended.get_or_insert(Some(reason));
        state.waker.take()
    }

    /// True if nobody will read it any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        lock(&self.0).abandoned
    }
}

impl Drop for EventSender {
    fn drop(&mut self) {
        if let Some(waker) = self.end(CloseReason::Shutdown) {
            waker.wake();
        }
    }
}

impl EventReceiver {
    /// The next event; `None` after the end.
    pub(crate) fn poll(&self, waker: &Waker) -> Poll<Option<Event>> {
        let mut state = lock(&self.0);
        if let Some(event) = state.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if state.missed > 0 {
            return Poll::Ready(Some(Event::Missed(std::mem::take(&mut state.missed))));
        }
        if let Some(ended) = &mut state.ended {
            return Poll::Ready(ended.take().map(Event::Closed));
        }
        let before = state.waker.replace(waker.clone());
        drop(state);
        drop(before);
        Poll::Pending
    }
}

impl Drop for EventReceiver {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.abandoned = true;
        let (events, waker) = (std::mem::take(&mut state.events), state.waker.take());
        drop(state);
        drop((events, waker));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageId;

    fn sent(number: u64) -> Event {
        Event::Sent(MessageId { unit: 1, slot: 2, generation: 3, number })
    }

    fn all(receiver: &EventReceiver) -> Vec<Event> {
        let mut events = Vec::new();
        while let Poll::Ready(Some(event)) = receiver.poll(Waker::noop()) {
            events.push(event);
        }
        events
    }

    #[test]
    fn what_was_missed_is_counted_where_it_was_missed() {
        let (sender, receiver) = event_queue(3);
        for number in 1..=5 {
            sender.push(sent(number));
        }
        assert_eq!(receiver.poll(Waker::noop()), Poll::Ready(Some(sent(1))));
        // One place is free, but the count and the event need two.
        sender.push(sent(6));
        assert_eq!(all(&receiver), [sent(2), sent(3), Event::Missed(3)]);
        sender.push(sent(7));
        sender.end(CloseReason::Local);
        assert_eq!(all(&receiver), [sent(7), Event::Closed(CloseReason::Local)]);
        assert_eq!(receiver.poll(Waker::noop()), Poll::Ready(None));
    }

    #[test]
    fn room_behind_what_was_missed_is_used_in_order() {
        let (sender, receiver) = event_queue(2);
        (1..=4).for_each(|number| drop(sender.push(sent(number))));
        assert_eq!(receiver.poll(Waker::noop()), Poll::Ready(Some(sent(1))));
        assert_eq!(receiver.poll(Waker::noop()), Poll::Ready(Some(sent(2))));
        sender.push(sent(5));
        assert_eq!(all(&receiver), [Event::Missed(2), sent(5)]);
    }

    #[test]
    fn a_core_that_breaks_down_ends_the_stream() {
        let (sender, receiver) = event_queue(4);
        drop(sender);
        assert_eq!(all(&receiver), [Event::Closed(CloseReason::Shutdown)]);
    }

    #[test]
    fn a_stream_that_was_dropped_is_known_to_be() {
        let (sender, receiver) = event_queue(4);
        assert!(!sender.is_abandoned());
        drop(receiver);
        assert!(sender.is_abandoned());
    }
}
