//! Accept: Carriers that peers have opened, until somebody takes them (draft §2.1).
//!
//! Above: a `Listener` on any thread. Below: a service on every core that gives accepted
//! connections an inbox and puts their Carriers here. Absent: listening sockets; the engine.
//! Bound: `Limits::accept_queue`.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::endpoint::Endpoint;
use super::{Carrier, CarrierRef};
use crate::error::{CloseReason, Error, Result};
use crate::framer::Framer;
use crate::shard::core::{Core, Id};
use crate::shard::protocol::{Protocol, Service};

/// Accepted Carriers that nobody has taken yet.
pub(crate) struct Queue<F: Framer> {
    state: Mutex<Waiting<F>>,
    carriers_max: usize,
}

struct Waiting<F: Framer> {
    carriers: VecDeque<Carrier<F>>,
    wakers: Vec<Waker>,
    ended: bool,
}

impl<F: Framer> Queue<F> {
    pub(crate) fn new(carriers_max: usize) -> Arc<Self> {
        let state = Waiting { carriers: VecDeque::new(), wakers: Vec::new(), ended: false };
        Arc::new(Self { state: Mutex::new(state), carriers_max })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<F>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, carrier: Carrier<F>) {
        let mut state = self.lock();
        if state.ended {
            // Nobody will take it: dropping it closes it, outside the lock.
            drop(state);
            return drop(carrier);
        }
        state.carriers.push_back(carrier);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn is_full(&self) -> bool {
        let state = self.lock();
        state.ended || state.carriers.len() >= self.carriers_max
    }

    /// The next one.
    pub(crate) fn accept(&self) -> AcceptingCarrier<'_, F> {
        AcceptingCarrier { from: Requests::Queue(self) }
    }

    /// Nobody will take any: those that wait are closed.
    pub(crate) fn abandon(&self) {
        self.end();
        let never_taken = std::mem::take(&mut self.lock().carriers);
        drop(never_taken);
    }

    /// No more Carriers come.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The future of [`Listener::accept`](crate::Listener::accept) and of
/// [`CarrierRef::accept`].
///
/// Cancel safety: a Carrier leaves the queue only in the poll that returns it.
#[must_use = "a carrier is accepted when the future is awaited"]
pub struct AcceptingCarrier<'a, F: Framer> {
    from: Requests<'a, F>,
}

/// Where requests for new Carriers come from.
enum Requests<'a, F: Framer> {
    Queue(&'a Queue<F>),
    /// From nowhere, and why; it is said once.
    Nowhere(Option<Error>),
}

impl<F: Framer> AcceptingCarrier<'_, F> {
    /// There will be no request.
    pub(super) const fn refused(why: Error) -> Self {
        Self { from: Requests::Nowhere(Some(why)) }
    }

    /// Waits on this thread.
    ///
    /// # Errors
    /// Those of the future; [`Error::WaitOnCore`] on a core thread.
    pub fn wait(self) -> Result<Carrier<F>> {
        super::wait::wait(self)
    }
}

impl<F: Framer> Future for AcceptingCarrier<'_, F> {
    type Output = Result<Carrier<F>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Carrier<F>>> {
        let queue = match &mut self.from {
            Requests::Queue(queue) => *queue,
            Requests::Nowhere(why) => {
                let why = why.take().expect("an accept is not polled after it was ready");
                return Poll::Ready(Err(why));
            }
        };
        let mut state = queue.lock();
        if let Some(carrier) = state.carriers.pop_front() {
            return Poll::Ready(Ok(carrier));
        }
        if state.ended {
            return Poll::Ready(Err(Error::EngineEnded));
        }
        if !state.wakers.iter().any(|known| known.will_wake(context.waker())) {
            state.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}

/// A Listener's service on one core.
pub(crate) struct ListenerService<F: Framer> {
    framer: F,
    queue: Arc<Queue<F>>,
}

impl<F: Framer> ListenerService<F> {
    pub(crate) fn new(framer: F, queue: Arc<Queue<F>>) -> Self {
        Self { framer, queue }
    }
}

impl<F: Framer> Service for ListenerService<F> {
    fn open(&self, core: &Rc<Core>, id: Id) -> Result<Box<dyn Protocol>, CloseReason> {
        if self.queue.is_full() {
            core.metrics.refused_limit.add(1);
            return Err(CloseReason::Limit);
        }
        // Just allocated; owned by the Carrier that is made when the slot is ready.
        let _ = core.change(id, |connection| connection.flags.owned = true);
        Ok(Box::new(Endpoint::carrier(self.framer.clone(), core)))
    }

    fn takes_more(&self) -> bool {
        !self.queue.is_full()
    }

    fn serves_remotes_apart(&self) -> bool {
        true
    }

    fn accepted(&self, _core: &Rc<Core>, id: Id) {
        self.queue.push(Carrier::own(CarrierRef::new(id)));
    }
}

impl<F: Framer> Drop for ListenerService<F> {
    fn drop(&mut self) {
        self.queue.end();
    }
}
