//! Accepting: the core's side of a send that waits elsewhere: whether it was accepted, and its
//! answer.
//!
//! Above: `send` offers and withdraws. Below: one atomic and a promise. Absent: the Message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::promise::Promise;
use super::receipt::Receipt;
use crate::error::Result;

/// The core's side of a send of another thread: whether it was accepted, and its answer. Dropped
/// unanswered it answers that the engine has ended.
pub(super) struct Accepting {
    state: Arc<AtomicU8>,
    promise: Option<Promise<Receipt>>,
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
        Self { state: Arc::new(AtomicU8::new(OFFERED)), promise }
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

    pub(super) fn answer(self, result: Result<Receipt>) {
        match (self.promise, result) {
            (Some(promise), result) => promise.answer(result),
            (None, Err(error)) => tracing::debug!(%error, "a message could not be sent"),
            (None, Ok(_)) => {}
        }
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
