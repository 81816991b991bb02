//! Record: what became of one Message, shared by its Receipts and its core.
//!
//! Above: `carrier::receipt` waits for it on any thread. Below: the way out settles it, once for
//! "sent" and once for "acked". Absent: which Message it is; how it is sent.
//! Bound: one waker per task that waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::message::Outcome;

/// Something to do outside every borrow: user code runs in it.
pub(crate) enum Action {
    Wake(Waker),
    Call(Box<dyn FnOnce() + Send>),
    /// What will not be called any more.
    Drop(Box<Callbacks>),
}

impl Action {
    pub(crate) fn run(self) {
        match self {
            Self::Wake(waker) => waker.wake(),
            Self::Call(callback) => callback(),
            Self::Drop(callbacks) => drop(callbacks),
        }
    }
}

/// What is called when one Message settles (draft §3.2: `SendMsg` with three callbacks).
#[derive(Default)]
pub(crate) struct Callbacks {
    pub(crate) sent: Option<Box<dyn FnOnce() + Send>>,
    pub(crate) acked: Option<Box<dyn FnOnce() + Send>>,
    pub(crate) expired: Option<Box<dyn FnOnce() + Send>>,
}

/// Which event is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    Sent,
    Acked,
}

#[derive(Default)]
struct State {
    sent: Option<Outcome>,
    acked: Option<Outcome>,
    /// Where its last byte stands in the stream, once it was handed over.
    position: Option<u64>,
    wants_ack: bool,
    wakers: Vec<Waker>,
    callbacks: Option<Box<Callbacks>>,
}

/// What became of one Message.
#[derive(Default)]
pub(crate) struct Record(Mutex<State>);

impl Record {
    pub(crate) fn new(callbacks: Option<Box<Callbacks>>) -> Arc<Self> {
        let wants_ack = callbacks.as_ref().is_some_and(|callbacks| callbacks.acked.is_some());
        Arc::new(Self(Mutex::new(State { callbacks, wants_ack, ..State::default() })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outcome, if it is known; else `waker` is woken when it is.
    pub(crate) fn poll(&self, awaited: Awaited, waker: &Waker) -> Option<Outcome> {
        let mut state = self.lock();
        let known = match awaited {
            Awaited::Sent => state.sent,
            Awaited::Acked => state.acked,
        };
        if known.is_none() && !state.wakers.iter().any(|other| other.will_wake(waker)) {
            let waker = waker.clone();
            state.wakers.push(waker);
        }
        known
    }

    /// What is known by now.
    pub(crate) fn known(&self, awaited: Awaited) -> Option<Outcome> {
        let state = self.lock();
        match awaited {
            Awaited::Sent => state.sent,
            Awaited::Acked => state.acked,
        }
    }

    /// Asks for "acked"; the position if it was handed over already.
    pub(crate) fn want_ack(&self) -> Option<u64> {
        let mut state = self.lock();
        state.wants_ack = true;
        state.position
    }

    pub(crate) fn wants_ack(&self) -> bool {
        self.lock().wants_ack
    }

    pub(crate) fn handed_over(&self, position: u64) {
        self.lock().position = Some(position);
    }

    /// Settles it. The second value is false if the Message had a callback of its own for this,
    /// or if it had settled so before.
    pub(crate) fn settle(&self, outcome: Outcome) -> (Vec<Action>, bool) {
        let mut state = self.lock();
        let mut callback = None;
        // User memory, too: neither the lock nor a borrow of the core may live as it is dropped.
        let mut uncalled = None;
        match outcome {
            Outcome::Sent => {
                if state.sent.is_some() {
                    return (Vec::new(), false);
                }
                state.sent = Some(outcome);
                if let Some(callbacks) = &mut state.callbacks {
                    callback = callbacks.sent.take();
                }
            }
            Outcome::Acked | Outcome::Unsupported => {
                if state.acked.is_some() {
                    return (Vec::new(), false);
                }
                state.acked = Some(outcome);
                if let Some(callbacks) = &mut state.callbacks {
                    let acked = callbacks.acked.take();
                    if outcome == Outcome::Acked {
                        callback = acked;
                    } else if acked.is_some() {
                        uncalled = Some(Box::new(Callbacks { acked, ..Callbacks::default() }));
                    }
                }
            }
            _ => {
                state.sent.get_or_insert(outcome);
                state.acked.get_or_insert(outcome);
                uncalled = state.callbacks.take();
                if let Some(callbacks) = &mut uncalled
                    && matches!(outcome, Outcome::Expired(_))
                {
                    callback = callbacks.expired.take();
                }
            }
        }
        let own = callback.is_some();
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        let mut actions: Vec<_> = wakers.into_iter().map(Action::Wake).collect();
        actions.extend(callback.map(Action::Call));
        actions.extend(uncalled.map(Action::Drop));
        (actions, !own)
    }
}
