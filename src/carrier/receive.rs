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
use super::inbox::Place;
use super::part::{Demand, Part};
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
pub struct Receiving<F: Framer>(Pull<F>);

/// The future of [`CarrierRef::receive_partial`].
///
/// Cancel safety: as [`Receiving`]; a part that had come goes to the next receive of any kind.
#[must_use = "a receive is scheduled when the future is awaited"]
pub struct ReceivingPart<F: Framer>(Pull<F>);

/// One receive.
struct Pull<F: Framer> {
    carrier: CarrierRef<F>,
    demand: Demand,
    /// Where another thread's message arrives, once it was asked for.
    slot: Option<Place<F>>,
}

impl<F: Framer> CarrierRef<F> {
    /// Receives the next Message (draft §2.2). An orderly end of the peer is
    /// [`CloseReason::Finished`](crate::CloseReason). After parts of a Message it gives the rest of
    /// it, as its last part.
    ///
    /// It does not connect: on a Carrier that is inactive it waits until a Message is sent or
    /// [`CarrierRef::activate`] is called. One whose address is none is [`Error::Address`].
    pub fn receive(&self) -> Receiving<F> {
        Receiving(Pull { carrier: *self, demand: Demand::Whole, slot: None })
    }

    /// Receives the next Message, or the next part of one: at least `min_len` bytes of content
    /// unless it is the last part, at most `max_len` (draft §2.2, Partial Messages). A shorter
    /// Message that is complete comes at once. Values below 1 count as 1, a `min_len` above
    /// `max_len` as that. A framer that does not cut Messages
    /// ([`Framer::PARTS`]) gives whole ones. Without frames, on a byte stream, the end of the peer
    /// completes its one Message: what was left below `min_len`, then an empty part.
    ///
    /// A connection that is lost within a Message, and made again, is one
    /// [`Error::Message`](crate::Error) in place of its rest.
    pub fn receive_partial(&self, min_len: usize, max_len: usize) -> ReceivingPart<F> {
        let demand = Demand::Part { min: min_len, max: max_len };
        ReceivingPart(Pull { carrier: *self, demand, slot: None })
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
}

impl<F: Framer> ReceivingPart<F> {
    /// Waits on this thread.
    ///
    /// # Errors
    /// Those of the future; [`Error::WaitOnCore`] on a core thread.
    pub fn wait(self) -> Result<Part<F::Got>> {
        super::wait::wait(self)
    }
}

impl<F: Framer> Pull<F> {
    fn poll_here(&self, core: &Rc<Core>, context: &Context<'_>) -> Poll<Result<Part<F::Got>>> {
        let (id, demand) = (self.carrier.id, self.demand);
        let taken = core.call(id, |protocol, _| {
            let inbox = endpoint_of::<F>(protocol).and_then(Endpoint::inbox_to_wait)?;
            Ok(inbox.take(demand, context.waker()))
        });
        match taken {
            Ok(Ok(Some(Ok(message)))) => {
                core.attend(id);
                Poll::Ready(Ok(message))
            }
            Ok(Ok(Some(Err(reason)))) => Poll::Ready(Err(reason)),
            Ok(Ok(None)) => {
                ask(core, id, demand);
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

    fn poll_elsewhere(&mut self, context: &Context<'_>) -> Poll<Result<Part<F::Got>>> {
        if let Some(slot) = &self.slot {
            return slot.take(context.waker()).map_or(Poll::Pending, |taken| {
                self.slot = None;
                Poll::Ready(taken)
            });
        }
        let id = self.carrier.id;
        let Some(handle) = mail::find(id.unit) else {
            return Poll::Ready(Err(mail::absent(id.unit)));
        };
        let slot = Slot::new();
        let registered = slot.take(context.waker());
        debug_assert!(registered.is_none(), "a new slot is empty");
        let asking = Asking { slot: Some(Arc::clone(&slot)), demand: self.demand };
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

/// A taker has come: the loop shall see to it that there is something to take.
pub(super) fn ask(core: &Core, id: Id, demand: Demand) {
    match demand {
        Demand::Whole => core.attend(id),
        // Too little for a whole Message may be enough for a part.
        Demand::Part { .. } => core.look_again(id),
    }
}

/// A request on its way; dropped on the way it is answered all the same.
struct Asking<T> {
    slot: Option<Arc<Slot<T>>>,
    demand: Demand,
}

impl<T> Drop for Asking<T> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            slot.end(Error::EngineEnded);
        }
    }
}

fn wait_there<F: Framer>(core: &Rc<Core>, id: Id, mut asking: Asking<Part<F::Got>>) {
    let demand = asking.demand;
    let Some(slot) = asking.slot.take() else { return };
    let asked = core.call(id, |protocol, _| {
        match endpoint_of::<F>(protocol).and_then(Endpoint::inbox_to_wait) {
            Ok(inbox) => inbox.wait_elsewhere(demand, Arc::clone(&slot)),
            Err(error) => slot.end(error),
        }
    });
    match asked {
        Ok(()) => ask(core, id, demand),
        Err(CallError::Gone(reason)) => slot.end(reason.into()),
        Err(CallError::InCall) => {
            let asking = Asking { slot: Some(slot), demand };
            core.defer(move |core| wait_there::<F>(core, id, asking));
        }
    }
}

impl<F: Framer> Pull<F> {
    fn poll(&mut self, context: &Context<'_>) -> Poll<Result<Part<F::Got>>> {
        match Core::current_is(self.carrier.id.unit) {
            Some(core) if self.slot.is_none() => self.poll_here(&core, context),
            _ => self.poll_elsewhere(context),
        }
    }
}

impl<F: Framer> Future for Receiving<F> {
    type Output = Result<F::Got>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<F::Got>> {
        self.0.poll(context).map(|part| part.map(Part::into_message))
    }
}

impl<F: Framer> Future for ReceivingPart<F> {
    type Output = Result<Part<F::Got>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context)
    }
}

impl<F: Framer> Drop for Pull<F> {
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
