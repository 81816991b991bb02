//! Listener: accepts Carriers on a Local, with the engine that listens for it (draft §2.1).
//!
//! Above: applications, on any thread. Below: the queue of accepted Carriers. Absent: sockets.

#[cfg(feature = "futures")]
use std::future::Future;
#[cfg(feature = "futures")]
use std::pin::Pin;
use std::sync::Arc;
#[cfg(feature = "futures")]
use std::task::{Context, Poll};

use super::Engine;
use crate::carrier::accept::{AcceptingCarrier, Queue};
use crate::carrier::responder::Answer;
use crate::carrier::{Acceptor, Carrier};
use crate::error::Result;
use crate::framer::{Framer, Unframed};

/// Listens on a Local and accepts Carriers, on all cores of its engine (draft §2.1).
///
/// Dropping it ends its engine's listening; accepted Carriers live on, and with the last of them
/// the engine ends.
///
/// Over `udp://` each remote address that sends is a Carrier, until that is closed or has been idle
/// for [`Timeouts::idle`](crate::Timeouts). They share the Listener's socket. At
/// [`Limits::connections`](crate::Limits) the one heard of least recently makes way for a new one;
/// what a Carrier has no room for, or nobody accepts, is dropped and counted.
pub struct Listener<F: Framer = Unframed> {
    queue: Arc<Queue<F>>,
    engine: Option<Engine>,
    /// Where it listens in a simulated world.
    simulated: Option<String>,
}

impl<F: Framer> Listener<F> {
    pub(crate) fn new(queue: Arc<Queue<F>>, engine: Option<Engine>) -> Self {
        Self { queue, engine, simulated: None }
    }

    /// A Listener in a simulated world, which has no engine.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn simulated(queue: Arc<Queue<F>>, address: String) -> Self {
        Self { queue, engine: None, simulated: Some(address) }
    }

    /// The next Carrier that a peer has opened.
    pub fn accept(&self) -> AcceptingCarrier<'_, F> {
        self.queue.accept()
    }

    /// Calls `handler` with every Carrier until it says stop, on this thread (draft, Figure 3).
    ///
    /// # Errors
    /// [`Error::EngineEnded`](crate::Error) when no more Carriers come,
    /// [`Error::WaitOnCore`](crate::Error) on a core thread.
    pub fn accept_each<R: Answer>(&self, handler: impl FnMut(Carrier<F>) -> R) -> Result<()> {
        Acceptor::accept_each(self, handler)
    }

    /// Ends listening, as dropping it does: [`accept`](Self::accept) has no more Carriers, those
    /// that nobody has taken are closed, accepted ones live on. Called again, it does nothing.
    #[doc(alias = "Close")]
    pub fn close(&self) {
        self.queue.abandon();
        if let Some(engine) = &self.engine {
            engine.retire();
        }
    }

    /// The address it listens on, port resolved.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<String> {
        match &self.engine {
            Some(engine) => engine.local_addresses(),
            None => self.simulated.iter().cloned().collect(),
        }
    }

    /// The engine behind it.
    #[must_use]
    pub fn engine(&self) -> Option<&Engine> {
        self.engine.as_ref()
    }
}

impl<F: Framer> Acceptor<F> for Listener<F> {
    fn accept(&self) -> AcceptingCarrier<'_, F> {
        self.queue.accept()
    }
}

/// Accepted Carriers, until the engine ends.
#[cfg(feature = "futures")]
impl<F: Framer> futures_core::Stream for Listener<F> {
    type Item = Carrier<F>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Carrier<F>>> {
        // The only error is the engine's end.
        Pin::new(&mut self.queue.accept()).poll(context).map(Result::ok)
    }
}

impl<F: Framer> Drop for Listener<F> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<F: Framer> std::fmt::Debug for Listener<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("addresses", &self.local_addresses()).finish()
    }
}
