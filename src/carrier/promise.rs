//! Promise: one answer from a core to whoever waits for it, on any thread.
//!
//! Above: the futures of verbs. Below: a mutex held for a few instructions. Absent: what is asked.
//! A promise that is dropped unanswered answers "the engine has ended".

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::{Error, Result};

enum State<T> {
    Open(Option<Waker>),
    Answered(Result<T>),
    Done,
}

type Shared<T> = Arc<Mutex<State<T>>>;

fn lock<T>(shared: &Shared<T>) -> MutexGuard<'_, State<T>> {
    // Nothing that can panic runs under the lock.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The side that answers.
pub(crate) struct Promise<T>(Shared<T>);

/// The side that waits.
pub(crate) struct Answer<T>(Shared<T>);

pub(crate) fn promise<T>() -> (Promise<T>, Answer<T>) {
    let shared = Arc::new(Mutex::new(State::Open(None)));
    (Promise(Arc::clone(&shared)), Answer(shared))
}

/// An answer that is there already.
pub(crate) fn answered<T>(result: Result<T>) -> Answer<T> {
    Answer(Arc::new(Mutex::new(State::Answered(result))))
}

impl<T> Promise<T> {
    pub(crate) fn answer(self, result: Result<T>) {
        self.settle(result);
    }

    fn settle(&self, result: Result<T>) {
        let mut state = lock(&self.0);
        if let State::Open(waker) = &mut *state {
            let waker = waker.take();
            *state = State::Answered(result);
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        self.settle(Err(Error::EngineEnded));
    }
}

impl<T> Future for Answer<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let mut state = lock(&self.0);
        match std::mem::replace(&mut *state, State::Done) {
            State::Answered(result) => Poll::Ready(result),
            State::Open(old) => {
                *state = State::Open(Some(context.waker().clone()));
                drop(state);
                drop(old);
                Poll::Pending
            }
            State::Done => panic!("a future is not polled after it was ready"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::carrier::wait::wait;

    #[test]
    fn an_answer_from_another_thread_arrives() {
        let (promise, answer) = promise();
        let asked = std::thread::spawn(move || promise.answer(Ok(7)));
        assert_eq!(wait(answer).unwrap(), 7);
        asked.join().unwrap();
    }

    #[test]
    fn a_dropped_promise_is_an_answer() {
        let (promise, answer) = promise::<()>();
        drop(promise);
        assert!(matches!(wait(answer), Err(Error::EngineEnded)));
    }
}
