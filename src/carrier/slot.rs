//! Slot: where a receive on another thread waits for its one Message.
//!
//! Above: `receive` on foreign threads takes from it. Below: the inbox fills it on the core.
//! Absent: order between slots. A Message in a slot whose future was dropped is fetched back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::error::Error;

/// One future's place.
pub(crate) struct Slot<T>(Mutex<State<T>>);

enum State<T> {
    Waiting(Option<Waker>),
    Full(T),
    Ended(Error),
    /// The message was taken, or the end was seen.
    Taken,
    /// The future is gone; a message that was in it waits to be fetched back.
    Abandoned(Option<T>),
}

/// What became of a filled slot.
pub(super) enum Fate<T> {
    StillThere,
    Over,
    Back(T),
}

impl<T> Slot<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Waiting(None))))
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The message or the end, if one of them is there; else `waker` will be woken.
    pub(crate) fn take(&self, waker: &Waker) -> Option<Result<T, Error>> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Full(message) => Some(Ok(message)),
            State::Ended(error) => Some(Err(error)),
            State::Waiting(old) => {
                *state = State::Waiting(Some(waker.clone()));
                drop(state);
                drop(old);
                None
            }
            other => {
                *state = other;
                Some(Err(Error::EngineEnded))
            }
        }
    }

    /// The future is over or dropped; true if a message lay in it.
    pub(crate) fn abandon(&self) -> bool {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Abandoned(None)) {
            State::Full(message) => {
                *state = State::Abandoned(Some(message));
                true
            }
            _ => false,
        }
    }

    /// Puts the message in; gives it back if nobody waits any more.
    pub(super) fn fill(&self, message: T) -> Option<T> {
        let mut state = self.lock();
        let State::Waiting(waker) = &mut *state else { return Some(message) };
        let waker = waker.take();
        *state = State::Full(message);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        None
    }

    /// Says that no message will come.
    pub(super) fn end(&self, error: Error) {
        let mut state = self.lock();
        let State::Waiting(waker) = &mut *state else { return };
        let waker = waker.take();
        *state = State::Ended(error);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn is_abandoned(&self) -> bool {
        matches!(*self.lock(), State::Abandoned(_))
    }

    pub(super) fn fate(&self) -> Fate<T> {
        match &mut *self.lock() {
            State::Full(_) => Fate::StillThere,
            State::Abandoned(message) => message.take().map_or(Fate::Over, Fate::Back),
            _ => Fate::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_an_abandoned_slot_comes_back_once() {
        let slot = Slot::new();
        assert!(slot.take(Waker::noop()).is_none());
        assert!(slot.fill(5).is_none());
        assert!(matches!(slot.fate(), Fate::StillThere));
        assert!(slot.abandon());
        assert!(matches!(slot.fate(), Fate::Back(5)));
        assert!(matches!(slot.fate(), Fate::Over));
    }

    #[test]
    fn a_message_for_an_abandoned_slot_is_given_back() {
        let slot = Slot::new();
        assert!(!slot.abandon());
        assert_eq!(slot.fill(5), Some(5));
    }
}
