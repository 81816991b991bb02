//! Receive: one Message for one future, on the Carrier's core or on any other thread.
//!
//! Above: `receive`. Below: the inbox. Scheduling a receive is what tells the peer that bytes are
//! wanted (draft §2.2): without one it stalls. Absent: order between receives that wait at once.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::CarrierRef;
use super::endpoint::Endpoint;
use super::here::endpoint_of;
use super::slot::Slot;
use crate::error::{Error, Result};
use crate::framer::Framer;
use crate::shard::core::{CallError, Core, Id};
use crate::shard::mail::{self, Mail};

/// The future of [`CarrierRef::receive`].
///
/// Cancel safety: dropped before it is ready, no Message is lost or doubled; the next receive gets
/// it.
#[must_use = "a receive is scheduled when the future is awaited"]
pub struct Receiving<F: Framer> {
    carrier: CarrierRef<F>,
    /// Where another thread's message arrives, once it was asked for.
    slot: Option<Arc<Slot<F::Got>>>,
}

impl<F: Framer> CarrierRef<F> {
    /// Receives the next Message (draft §2.2). An orderly end of the peer is
    /// [`CloseReason::Finished`](crate::CloseReason).
    pub fn receive(&self) -> Receiving<F> {
        Receiving { carrier: *self, slot: None }
    }
}

impl<F: Framer> Receiving<F> {
    /// Waits on this thread.
    ///
    /// # Errors
    /// Those of the future; [`Error::WaitOnCore`] on a core thread.
    pub fn wait(self) -> Result<F::Got> {
        super::wait::wait(self)
    }

    fn poll_here(&self, core: &Rc<Core>, context: &Context<'_>) -> Poll<Result<F::Got>> {
        let id = self.carrier.id;
        let taken = core.call(id, |protocol, _| {
            let inbox = endpoint_of::<F>(protocol).and_then(Endpoint::inbox)?;
            Ok(inbox.take(context.waker()))
        });
        match taken {
            Ok(Ok(Some(Ok(message)))) => {
                core.attend(id);
                Poll::Ready(Ok(message))
            }
            Ok(Ok(Some(Err(reason)))) => Poll::Ready(Err(reason.into())),
            Ok(Ok(None)) => {
                core.attend(id);
                Poll::Pending
            }
            Ok(Err(error)) => Poll::Ready(Err(error)),
            Err(CallError::Gone(reason)) => Poll::Ready(Err(reason.into())),
            Err(CallError::InCall) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn poll_elsewhere(&mut self, context: &Context<'_>) -> Poll<Result<F::Got>> {
        if let Some(slot) = &self.slot {
            return slot.take(context.waker()).map_or(Poll::Pending, |taken| {
                self.slot = None;
                Poll::Ready(taken)
            });
        }
        let id = self.carrier.id;
        let Some(handle) = mail::find(id.unit) else {
            return Poll::Ready(Err(Error::EngineEnded));
        };
        let slot = Slot::new();
        let registered = slot.take(context.waker());
        debug_assert!(registered.is_none(), "a new slot is empty");
        let asking = Asking { slot: Some(Arc::clone(&slot)) };
        let errand = move |core: &Rc<Core>| wait_there::<F>(core, id, asking);
        match handle.post(Mail::Errand(Box::new(errand))) {
            Ok(()) => {
                self.slot = Some(slot);
                Poll::Pending
            }
            Err(_) if handle.has_ended() => Poll::Ready(Err(Error::EngineEnded)),
            Err(_) => {
                // The mailbox is emptied every turn of its core: ask again.
                std::thread::yield_now();
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

/// A request on its way; dropped on the way it is answered all the same.
struct Asking<T> {
    slot: Option<Arc<Slot<T>>>,
}

impl<T> Drop for Asking<T> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            slot.end(Error::EngineEnded);
        }
    }
}

fn wait_there<F: Framer>(core: &Rc<Core>, id: Id, mut asking: Asking<F::Got>) {
    let Some(slot) = asking.slot.take() else { return };
    let asked =
        core.call(id, |protocol, _| match endpoint_of::<F>(protocol).and_then(Endpoint::inbox) {
            Ok(inbox) => inbox.wait_elsewhere(Arc::clone(&slot)),
            Err(error) => slot.end(error),
        });
    match asked {
        Ok(()) => core.attend(id),
        Err(CallError::Gone(reason)) => slot.end(reason.into()),
        Err(CallError::InCall) => {
            let asking = Asking { slot: Some(slot) };
            core.defer(move |core| wait_there::<F>(core, id, asking));
        }
    }
}

impl<F: Framer> Future for Receiving<F> {
    type Output = Result<F::Got>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<F::Got>> {
        match Core::current_is(self.carrier.id.unit) {
            Some(core) if self.slot.is_none() => self.poll_here(&core, context),
            _ => self.poll_elsewhere(context),
        }
    }
}

impl<F: Framer> Drop for Receiving<F> {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        if !slot.abandon() {
            return;
        }
        // A message lay in it: others may wait for that one.
        let id = self.carrier.id;
        let errand = move |core: &Rc<Core>| hand_out::<F>(core, id);
        mail::post_patiently(id.unit, Mail::Errand(Box::new(errand)));
    }
}

fn hand_out<F: Framer>(core: &Rc<Core>, id: Id) {
    let handed = core.call(id, |protocol, _| {
        if let Ok(inbox) = endpoint_of::<F>(protocol).and_then(Endpoint::inbox) {
            inbox.hand_out();
        }
    });
    if handed == Err(CallError::InCall) {
        core.defer(move |core| hand_out::<F>(core, id));
    }
}
