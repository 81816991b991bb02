//! Carriers: the application's way to send and receive Messages (draft §2.1).
//!
//! Above: application code, on a core or on any other thread. Below: the shard of the Carrier's
//! core; verbs on another thread travel by mailbox. Absent: sockets; threads.

pub(crate) mod accept;
mod accepting;
mod association;
mod endpoint;
mod events;
mod fork;
mod halves;
mod here;
mod inbox;
mod part;
mod parts;
mod posting;
pub(crate) mod promise;
mod receipt;
mod receive;
pub(crate) mod responder;
mod scheduled;
mod send;
mod slot;
#[cfg(feature = "futures")]
mod streams;
mod supports;
pub(crate) mod task;
#[cfg(feature = "futures")]
mod under_way;
mod wait;
mod way;

use std::future::Future;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

pub use self::association::{Association, Transient};
pub use self::events::{Events, NextEvent};
pub use self::fork::{Acceptor, Forking};
pub use self::halves::{Sink, Source};
pub use self::part::Part;
pub use self::parts::PartialMessage;
pub use self::receipt::{Receipt, Settling};
pub use self::receive::{Receiving, ReceivingPart};
pub use self::send::{Callback, Sending};
pub use self::supports::{Reporter, Supports};

pub(crate) use self::association::associate;
pub(crate) use self::here::{initiate_here, initiate_there, nowhere};

use self::here::{activate_here, close_here, disown, on_closed_here, set_handler, state_here};
use self::part::Demand;
use self::promise::{Answer, Promise, answered, promise};
use self::responder::Answer as HandlerAnswer;
use crate::error::{CloseReason, Error, Result};
use crate::framer::{Framer, Unframed};
use crate::shard::connection::Peer;
use crate::shard::core::{CallError, Core, Id};
use crate::shard::mail::{self, Mail};

/// The identity of a Carrier, with every verb: small, `Copy`, usable on any thread.
///
/// On the Carrier's own core a verb acts at once; on any other thread it travels by mailbox. The
/// connection is owned by [`Carrier`]; a `CarrierRef` to an ended one answers with an error.
#[doc(alias = "Connection")]
pub struct CarrierRef<F: Framer = Unframed> {
    id: Id,
    framer: PhantomData<fn() -> F>,
}

impl<F: Framer> Clone for CarrierRef<F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: Framer> Copy for CarrierRef<F> {}

impl<F: Framer> std::fmt::Debug for CarrierRef<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CarrierRef({}.{}.{})", self.id.unit, self.id.slot, self.id.generation)
    }
}

/// Where a Carrier stands (draft §2.1, Figure 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CarrierState {
    /// Initiated; nothing was opened yet.
    Inactive,
    /// A connection is being made.
    Activating,
    /// Backed by a connection.
    Active,
    /// Its connection was lost; it is made again when there is something to send or to wait for
    /// (draft §2.1). Only Carriers that were initiated, with a framer that is
    /// [`RESTARTABLE`](Framer::RESTARTABLE) and whose Messages
    /// [stand alone](Framer::STANDS_ALONE).
    Dormant,
    /// This side has ended; what was queued is flushed.
    Closing,
    /// It has ended, and why.
    Closed(CloseReason),
}

/// The future of a verb that its core answers.
///
/// Cancel safety: dropping it does not undo what was asked.
#[must_use = "the answer comes when the future is awaited"]
pub struct Asked<T>(Answer<T>);

impl<T> Asked<T> {
    /// Waits on this thread.
    ///
    /// # Errors
    /// Those of the verb; [`Error::WaitOnCore`] on a core thread.
    pub fn wait(self) -> Result<T> {
        wait::wait(self)
    }
}

impl<T> Future for Asked<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        Pin::new(&mut self.0).poll(context)
    }
}

/// Does `act` on the core with number `unit`: at once, or by mailbox.
fn ask_core<T: Send + 'static>(
    unit: u32,
    act: impl FnOnce(&Rc<Core>, Promise<T>) + Send + 'static,
) -> Asked<T> {
    let (promise, answer) = promise();
    match tell_core(unit, move |core| act(core, promise)) {
        Ok(()) => Asked(answer),
        Err(error) => Asked(answered(Err(error))),
    }
}

/// The same without an answer.
fn tell_core(unit: u32, act: impl FnOnce(&Rc<Core>) + Send + 'static) -> Result<()> {
    if let Some(core) = Core::current_is(unit) {
        act(&core);
        return Ok(());
    }
    let handle = mail::find(unit).ok_or_else(|| mail::absent(unit))?;
    match handle.post(Mail::Errand(Box::new(act))) {
        Ok(()) => Ok(()),
        Err(_) if handle.has_ended() => Err(Error::EngineEnded),
        Err(_) => Err(Error::MailboxFull),
    }
}

impl<F: Framer> CarrierRef<F> {
    pub(crate) const fn new(id: Id) -> Self {
        Self { id, framer: PhantomData }
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) const fn id(&self) -> Id {
        self.id
    }

    /// Does `act` on the Carrier's core: at once, or by mailbox.
    fn ask<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Rc<Core>, Id, Promise<T>) + Send + 'static,
    ) -> Asked<T> {
        let id = self.id;
        ask_core(id.unit, move |core, promise| act(core, id, promise))
    }

    /// Does `act` on the Carrier's core, without an answer.
    fn tell(&self, act: impl FnOnce(&Rc<Core>, Id) + Send + 'static) -> Result<()> {
        let id = self.id;
        tell_core(id.unit, move |core| act(core, id))
    }

    /// Does `act` on the Carrier's core, right after whatever runs there, waiting for room in its
    /// mailbox. Without a core there is nobody it could matter to.
    fn insist(&self, act: impl FnOnce(&Rc<Core>, Id) + Send + 'static) {
        let id = self.id;
        match Core::current_is(id.unit) {
            Some(core) => core.defer(move |core| act(core, id)),
            None => {
                let errand = move |core: &Rc<Core>| act(core, id);
                mail::post_patiently(id.unit, Mail::Errand(Box::new(errand)));
            }
        }
    }

    /// Connects now instead of with the first Message (draft §3.2). Ready when messages can flow.
    ///
    /// # Errors
    /// [`Error::Address`]; [`Error::Connect`] if no connection came about, now or earlier;
    /// [`Error::Closed`] if the Carrier has ended; [`Error::EngineEnded`], or
    /// [`Error::MailboxFull`] from another thread: then nothing was asked, try again. A thread that
    /// activates thousands of Carriers waits for some of them before it goes on, or raises
    /// [`Limits::mailbox`](crate::Limits).
    pub fn activate(&self) -> Asked<()> {
        self.ask(|core, id, promise| activate_here::<F>(core, id, Some(promise)))
    }

    /// Ends this side: queued Messages are flushed, scheduled receives finish, then the connection
    /// closes. Ready when both sides have ended (or the linger time is over). No peer says that it
    /// sends no more datagrams: there it is ready when the receives are, or after the linger time.
    ///
    /// A Responder's connection ends when its async handlers have: one of them that awaited its own
    /// Carrier's end would wait for itself. There the future gives an error at once; the end comes
    /// all the same, as soon as the handler returns.
    ///
    /// # Errors
    /// Why it did not end in order, if so: [`Error::Closed`]; [`Error::Connect`] if there never was
    /// a connection; [`Error::Unsupported`] in an async handler of this very Carrier, and for the
    /// socket of a Responder of datagrams, which serves others; [`Error::EngineEnded`], or
    /// [`Error::MailboxFull`] from another thread: then nothing was asked, try again.
    pub fn close(&self) -> Asked<()> {
        self.ask(|core, id, promise| close_here::<F>(core, id, Some(promise)))
    }

    /// Ends the connection at once; what is queued is lost, the peer sees a reset. Of the socket of
    /// a Responder of datagrams, which serves others, it ends nothing.
    pub fn abort(&self) {
        let aborted = self.tell(|core, id| match core.serves_anybody(id) {
            true => tracing::warn!("a Responder's socket of datagrams serves others: no abort"),
            false => core.fail(id, CloseReason::Aborted),
        });
        if let Err(error) = aborted {
            tracing::debug!(%error, "an abort found nothing to abort");
        }
    }

    /// Has `handler` called with every Message, inline on the completion, until it says
    /// [`Flow::Stop`](crate::Flow) (draft §3.1.1: `Ready`). Replaces an earlier handler.
    ///
    /// # Errors
    /// [`Error::EngineEnded`], or [`Error::MailboxFull`] from another thread.
    pub fn ready<H, R>(&self, mut handler: H) -> Result<()>
    where
        R: HandlerAnswer,
        H: FnMut(F::In<'_>) -> R + Send + 'static,
    {
        self.tell(move |core, id| {
            let handler: inbox::Handler<F> =
                Box::new(move |part: Part<F::In<'_>>| handler(part.into_message()).flow());
            set_handler::<F>(core, id, Demand::Whole, handler);
        })
    }

    /// As [`CarrierRef::ready`], in parts: `handler` gets at least `min_len` bytes of content at a
    /// time unless a Message is complete with fewer, and at most `max_len`; see
    /// [`CarrierRef::receive_partial`]. When a connection is lost within a Message and made again,
    /// the next part has another [`handle`](Part::handle).
    ///
    /// # Errors
    /// [`Error::EngineEnded`], or [`Error::MailboxFull`] from another thread.
    pub fn ready_partial<H, R>(&self, min_len: usize, max_len: usize, mut handler: H) -> Result<()>
    where
        R: HandlerAnswer,
        H: FnMut(Part<F::In<'_>>) -> R + Send + 'static,
    {
        let demand = Demand::Part { min: min_len, max: max_len };
        self.tell(move |core, id| {
            let handler: inbox::Handler<F> =
                Box::new(move |part: Part<F::In<'_>>| handler(part).flow());
            set_handler::<F>(core, id, demand, handler);
        })
    }

    /// Has `handler` called once when the Carrier has ended (draft §3.2: `OnClosed`); at once if
    /// it has already.
    ///
    /// # Errors
    /// [`Error::EngineEnded`], or [`Error::MailboxFull`] from another thread.
    pub fn on_closed<H>(&self, handler: H) -> Result<()>
    where
        H: FnOnce(CloseReason) + Send + 'static,
    {
        self.tell(move |core, id| on_closed_here::<F>(core, id, Box::new(handler)))
    }

    /// Where the Carrier stands.
    ///
    /// # Errors
    /// [`Error::EngineEnded`], or [`Error::MailboxFull`] from another thread.
    pub fn state(&self) -> Asked<CarrierState> {
        self.ask(|core, id, promise| promise.answer(Ok(state_here(core, id))))
    }

    /// Bytes that have not left for the kernel: those in the send queue and those the kernel has no
    /// room for yet. A Message of another thread that still waits for room in the queue is not
    /// framed and counts as one byte, so that 0 means that nothing waits.
    ///
    /// # Errors
    /// As [`CarrierRef::state`].
    pub fn queued(&self) -> Asked<usize> {
        self.ask(|core, id, promise| promise.answer(Ok(here::queued_here::<F>(core, id))))
    }

    /// The peer's IP address; `None` for a unix socket or before a connection was made.
    ///
    /// # Errors
    /// As [`CarrierRef::state`]; [`Error::Closed`] if the Carrier has ended and is forgotten.
    pub fn peer_address(&self) -> Asked<Option<SocketAddr>> {
        self.ask(|core, id, promise| {
            let peer = core.look(id, |connection| connection.peer);
            promise.answer(match peer {
                Ok(Peer::Ip(address)) => Ok(Some(address)),
                Ok(_) => Ok(None),
                Err(CallError::Gone(reason)) => Err(reason.into()),
                Err(CallError::InCall) => Ok(None),
            });
        })
    }
}

/// A Carrier: an open way to one peer. It owns the connection: dropping it closes gracefully,
/// [`Carrier::keep`] leaves it to the engine.
pub struct Carrier<F: Framer = Unframed> {
    carrier: CarrierRef<F>,
}

impl<F: Framer> Carrier<F> {
    pub(crate) const fn own(carrier: CarrierRef<F>) -> Self {
        Self { carrier }
    }

    /// Leaves the connection to the engine until it ends by itself or its peer ends its side;
    /// returns its identity.
    #[must_use = "the identity is the only way left to reach the Carrier"]
    pub fn keep(self) -> CarrierRef<F> {
        let carrier = self.carrier;
        std::mem::forget(self);
        if let Some(core) = Core::current_is(carrier.id.unit) {
            // Maybe inside a call into this very connection: after it.
            core.defer(move |core| disown(core, carrier.id));
            return carrier;
        }
        mail::post_patiently(
            carrier.id.unit,
            Mail::Errand(Box::new(move |core: &Rc<Core>| disown(core, carrier.id))),
        );
        carrier
    }
}

impl<F: Framer> Deref for Carrier<F> {
    type Target = CarrierRef<F>;

    fn deref(&self) -> &CarrierRef<F> {
        &self.carrier
    }
}

impl<F: Framer> std::fmt::Debug for Carrier<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.carrier.fmt(f)
    }
}

impl<F: Framer> Drop for Carrier<F> {
    fn drop(&mut self) {
        let id = self.carrier.id;
        let drop_here = move |core: &Rc<Core>| {
            close_here::<F>(core, id, None);
            disown(core, id);
        };
        match Core::current_is(id.unit) {
            // Maybe inside a call into this very connection: after it.
            Some(core) => core.defer(drop_here),
            None => mail::post_patiently(id.unit, Mail::Errand(Box::new(drop_here))),
        }
    }
}
