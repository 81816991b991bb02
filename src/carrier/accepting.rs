//! Accepting: the core's side of a send that waits elsewhere: whether it was accepted, and its
//! answer.
//!
//! Above: `send` offers and withdraws. Below: one atomic and a promise; where nobody waits, word
//! of a refusal goes to the log, the counters, the Carrier's streams and its `on_expired`.
//! Absent: the Message.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::promise::Promise;
use super::receipt::Receipt;
use crate::error::{Error, Result};
use crate::shard::core::{Core, Id};
use crate::shard::record::Callbacks;

/// A callback that either the Message's own record calls or a refusal of the Message.
type Shared = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// The core's side of a send of another thread: whether it was accepted, and its answer. Dropped
/// unanswered it answers that the engine has ended.
pub(super) struct Accepting {
    state: Arc<AtomicU8>,
    promise: Option<Promise<Receipt>>,
    /// What a refusal calls where no future hears of it.
    refused: Option<Shared>,
}

const OFFERED: u8 = 0;
const CLAIMED: u8 = 1;
const WITHDRAWN: u8 = 2;

/// The future's side: it may take the Message back until the core has it.
pub(super) struct Withdrawal(Arc<AtomicU8>);

impl Withdrawal {
    /// Takes it back; false if the core has it.
    pub(super) fn withdraw(&self) -> bool {
        step(&self.0, WITHDRAWN)
    }
}

impl Accepting {
    pub(super) fn new(promise: Option<Promise<Receipt>>) -> Self {
        Self { state: Arc::new(AtomicU8::new(OFFERED)), promise, refused: None }
    }

    /// One whose sender does not wait for the answer: a refusal calls the Message's `expired`.
    pub(super) fn unawaited(callbacks: Option<&mut Callbacks>) -> Self {
        let mut accepting = Self::new(None);
        if let Some(callbacks) = callbacks
            && let Some(expired) = callbacks.expired.take()
        {
            let shared = Arc::new(Mutex::new(Some(expired)));
            let own = Arc::clone(&shared);
            callbacks.expired = Some(Box::new(move || call(&own)));
            accepting.refused = Some(shared);
        }
        accepting
    }

    pub(super) fn withdrawal(&self) -> Withdrawal {
        Withdrawal(Arc::clone(&self.state))
    }

    /// There was no room after all: it can be withdrawn again.
    pub(super) fn offer_again(&self) {
        self.state.store(OFFERED, Ordering::SeqCst);
    }

    /// The core takes the message; false if its future was dropped before.
    pub(super) fn claim(&self) -> bool {
        step(&self.state, CLAIMED)
    }

    /// True if its future was dropped before the core took the message.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.state.load(Ordering::SeqCst) == WITHDRAWN
    }

    /// Says what became of it; of a refusal the application hears right after the present call.
    pub(super) fn answer(self, core: &Core, id: Id, result: Result<Receipt>) {
        match (self.promise, result) {
            (Some(promise), result) => promise.answer(result),
            (None, Err(error)) => refuse(core, id, self.refused, &error),
            (None, Ok(_)) => {}
        }
    }
}

/// A Message that its sender takes for sent will not be: gives that an end.
fn refuse(core: &Core, id: Id, refused: Option<Shared>, error: &Error) {
    core.metrics.failed_messages.add(1);
    if core.may_log() {
        let Id { unit, slot, generation } = core.resolve(id);
        let carrier = format_args!("{unit}.{slot}.{generation}");
        tracing::warn!(%carrier, %error, "a message that try_send had taken could not be sent");
    }
    core.defer(move |core| {
        core.tell_refused(id);
        if let Some(refused) = refused {
            core.guard(|| call(&refused));
        }
    });
}

fn call(shared: &Shared) {
    // The lock is free again as it runs.
    let callback = shared.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(callback) = callback {
        callback();
    }
}

/// Moves an offered send to `to`; false if it was moved before.
fn step(state: &AtomicU8, to: u8) -> bool {
    let order = Ordering::SeqCst;
    state.compare_exchange(OFFERED, to, order, order).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::carrier::promise::promise;
    use crate::error::Error;

    #[test]
    fn a_send_that_its_core_drops_is_answered() {
        let (promise, answer) = promise();
        let accepting = Accepting::new(Some(promise));
        // The future keeps the flag, as long as it waits.
        let _withdrawal = accepting.withdrawal();
        drop(accepting);
        assert!(matches!(crate::carrier::wait::wait(answer), Err(Error::EngineEnded)));
    }
}
