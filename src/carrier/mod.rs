//! Carriers: the application's way to send and receive Messages (draft §2.1).
//!
//! Above: application code, on a core or on any other thread. Below: the shard of the Carrier's
//! core; verbs on another thread travel by mailbox. Absent: sockets; threads.

mod endpoint;
mod inbox;
pub(crate) mod listener;
pub(crate) mod promise;
mod receive;
pub(crate) mod responder;
mod send;
mod slot;
pub(crate) mod task;
mod wait;

use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

pub use self::receive::Receiving;
pub use self::send::Sending;

use self::endpoint::Endpoint;
use self::promise::{Answer, Promise, answered, promise};
use self::responder::Answer as HandlerAnswer;
use crate::address::Address;
use crate::error::{CloseReason, Error, Result};
use crate::framer::{Framer, Unframed};
use crate::shard::connection::{Peer, Phase};
use crate::shard::core::{CallError, Core, Id, TICKET_SLOT};
use crate::shard::mail::{self, CoreHandle, Mail};
use crate::shard::protocol::Protocol;

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

impl<F: Framer> CarrierRef<F> {
    pub(crate) const fn new(id: Id) -> Self {
        Self { id, framer: PhantomData }
    }

    /// Does `act` on the Carrier's core: at once, or by mailbox.
    fn ask<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Rc<Core>, Id, Promise<T>) + Send + 'static,
    ) -> Asked<T> {
        let (promise, answer) = promise();
        match self.tell(move |core, id| act(core, id, promise)) {
            Ok(()) => Asked(answer),
            Err(error) => Asked(answered(Err(error))),
        }
    }

    /// Does `act` on the Carrier's core, without an answer.
    fn tell(&self, act: impl FnOnce(&Rc<Core>, Id) + Send + 'static) -> Result<()> {
        let id = self.id;
        if let Some(core) = Core::current_is(id.unit) {
            act(&core, id);
            return Ok(());
        }
        let handle = mail::find(id.unit).ok_or(Error::EngineEnded)?;
        let errand = move |core: &Rc<Core>| act(core, id);
        match handle.post(Mail::Errand(Box::new(errand))) {
            Ok(()) => Ok(()),
            Err(_) if handle.has_ended() => Err(Error::EngineEnded),
            Err(_) => Err(Error::MailboxFull),
        }
    }

    /// Connects now instead of with the first Message (draft §3.2). Ready when messages can flow.
    pub fn activate(&self) -> Asked<()> {
        self.ask(|core, id, promise| activate_here::<F>(core, id, Some(promise)))
    }

    /// Ends this side: queued Messages are flushed, scheduled receives finish, then the connection
    /// closes. Ready when both sides have ended (or the linger time is over).
    pub fn close(&self) -> Asked<()> {
        self.ask(|core, id, promise| close_here::<F>(core, id, Some(promise)))
    }

    /// Ends the connection at once; what is queued is lost, the peer sees a reset.
    pub fn abort(&self) {
        let aborted = self.tell(|core, id| core.fail(id, CloseReason::Aborted));
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
            let handler: inbox::Handler<F> = Box::new(move |message| handler(message).flow());
            set_handler::<F>(core, id, handler);
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
    pub fn state(&self) -> Asked<CarrierState> {
        self.ask(|core, id, promise| promise.answer(Ok(state_here(core, id))))
    }

    /// Bytes that wait in the send queue.
    pub fn queued(&self) -> Asked<usize> {
        self.ask(|core, id, promise| {
            let queued = core.look(id, crate::shard::connection::Connection::queued);
            promise.answer(Ok(queued.unwrap_or(0)));
        })
    }

    /// The peer's IP address; `None` for a unix socket or before a connection was made.
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

    /// Leaves the connection to the engine until it ends by itself; returns its identity.
    #[must_use = "the identity is the only way left to reach the Carrier"]
    pub fn keep(self) -> CarrierRef<F> {
        let carrier = self.carrier;
        std::mem::forget(self);
        let kept = carrier.tell(disown);
        if let Err(error) = kept {
            tracing::debug!(%error, "a carrier could not be left to its engine");
        }
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

/// The engine keeps the connection from now on, and forgets it when it has ended.
fn disown(core: &Rc<Core>, id: Id) {
    let closed = core.change(id, |connection| {
        connection.flags.owned = false;
        connection.phase == Phase::Closed
    });
    if closed == Ok(true) {
        drop(core.free(id));
    }
}

/// The typed half behind a verb.
fn endpoint_of<F: Framer>(protocol: &mut dyn Protocol) -> Result<&mut Endpoint<F>> {
    protocol.as_any().downcast_mut::<Endpoint<F>>().ok_or_else(|| {
        Error::Unsupported("a verb with another framer than the Carrier's own".into())
    })
}

fn activate_here<F: Framer>(core: &Rc<Core>, id: Id, promise: Option<Promise<()>>) {
    let phase = core.look(id, |connection| (connection.phase, connection.reason));
    let (phase, reason) = match phase {
        Ok(found) => found,
        Err(CallError::Gone(reason)) => (Phase::Closed, Some(reason)),
        Err(CallError::InCall) => (Phase::Open, None),
    };
    let opening = match phase {
        Phase::Inactive | Phase::Resolving | Phase::Connecting => true,
        Phase::Open => {
            return promise.into_iter().for_each(|promise| promise.answer(Ok(())));
        }
        _ => false,
    };
    if !opening {
        let reason = reason.unwrap_or(CloseReason::Finished);
        promise.into_iter().for_each(|promise| promise.answer(Err(error_of(reason, None))));
        return;
    }
    let mut promise = promise;
    let address = core.call(id, |protocol, _| {
        let endpoint = endpoint_of::<F>(protocol)?;
        let address = endpoint.address().cloned();
        match address {
            Some(Ok(address)) => {
                endpoint.rare().activating.extend(promise.take());
                Ok(Some(address))
            }
            Some(Err((address, why))) => Err(Error::Address { address, why }),
            None => Ok(None),
        }
    });
    let again = move |core: &Rc<Core>, promise| activate_here::<F>(core, id, promise);
    let refused = match address {
        Ok(Ok(Some(address))) => return core.begin_connect(id, &address),
        Err(CallError::InCall) => return core.defer(move |core| again(core, promise)),
        Ok(Ok(None)) => Ok(()),
        Ok(Err(error)) => Err(error),
        Err(CallError::Gone(reason)) => Err(error_of(reason, None)),
    };
    if let Some(promise) = promise {
        promise.answer(refused);
    }
}

/// Tells other threads whether the Carrier's queue is full, under both of its names.
fn set_full(core: &Core, id: Id, is_full: bool) {
    let id = core.resolve(id);
    core.handle.set_full(id, is_full);
    let ticket = core.look(id, |connection| connection.rare.as_ref().map_or(0, |rare| rare.ticket));
    if let Ok(ticket @ 1..) = ticket {
        core.handle.set_full(Id { slot: TICKET_SLOT, generation: ticket, ..id }, is_full);
    }
}

fn close_here<F: Framer>(core: &Rc<Core>, id: Id, promise: Option<Promise<()>>) {
    let mut promise = promise;
    let again = move |core: &Rc<Core>, promise| close_here::<F>(core, id, promise);
    let called = core.call(id, |protocol, _| match (endpoint_of::<F>(protocol), promise.take()) {
        (Ok(endpoint), Some(promise)) => endpoint.rare().closing.push(promise),
        (Err(error), Some(promise)) => promise.answer(Err(error)),
        (_, None) => {}
    });
    match called {
        Ok(()) => {}
        Err(CallError::Gone(reason)) => {
            return promise.into_iter().for_each(|promise| promise.answer(closed_in_order(reason)));
        }
        Err(CallError::InCall) => return core.defer(move |core| again(core, promise)),
    }
    let phase = core.look(id, |connection| (connection.phase, connection.reason));
    match phase {
        Ok((Phase::Closed | Phase::Closing, reason)) => {
            let reason = reason.unwrap_or(CloseReason::Finished);
            // Whoever closes what has ended is answered at once.
            let _ = core.call(id, |protocol, _| {
                if let Ok(endpoint) = endpoint_of::<F>(protocol) {
                    for promise in endpoint.rare().closing.drain(..) {
                        promise.answer(closed_in_order(reason));
                    }
                }
            });
        }
        Ok((Phase::Inactive, _)) => core.fail(id, CloseReason::Local),
        _ => core.end_output(id, CloseReason::Local),
    }
}

fn set_handler<F: Framer>(core: &Rc<Core>, id: Id, handler: inbox::Handler<F>) {
    let mut handler = Some(handler);
    let set = core.call(id, |protocol, _| {
        let inbox = endpoint_of::<F>(protocol).and_then(Endpoint::inbox);
        match (inbox, handler.take()) {
            (Ok(inbox), Some(handler)) => drop(inbox.set_handler(handler)),
            (Err(error), _) => tracing::warn!(%error, "ready() has no effect"),
            (Ok(_), None) => {}
        }
    });
    if set == Err(CallError::InCall)
        && let Some(handler) = handler
    {
        return core.defer(move |core| set_handler::<F>(core, id, handler));
    }
    core.attend(id);
}

type ClosedHandler = Box<dyn FnOnce(CloseReason) + Send>;

fn on_closed_here<F: Framer>(core: &Rc<Core>, id: Id, handler: ClosedHandler) {
    let ended = core
        .look(id, |connection| (connection.phase == Phase::Closed).then_some(connection.reason));
    let reason = match ended {
        Ok(Some(reason)) => Some(reason.unwrap_or(CloseReason::Finished)),
        Err(CallError::Gone(reason)) => Some(reason),
        _ => None,
    };
    if let Some(reason) = reason {
        return handler(reason);
    }
    let mut handler = Some(handler);
    let set = core.call(id, |protocol, _| {
        if let Ok(endpoint) = endpoint_of::<F>(protocol) {
            endpoint.rare().on_closed.extend(handler.take());
        }
    });
    if set == Err(CallError::InCall)
        && let Some(handler) = handler
    {
        core.defer(move |core| on_closed_here::<F>(core, id, handler));
    }
}

fn state_here(core: &Rc<Core>, id: Id) -> CarrierState {
    let state = core.look(id, |connection| {
        let reason = connection.reason.unwrap_or(CloseReason::Finished);
        match connection.phase {
            Phase::Inactive => CarrierState::Inactive,
            Phase::Resolving | Phase::Connecting => CarrierState::Activating,
            Phase::Closed => CarrierState::Closed(reason),
            Phase::Closing => CarrierState::Closing,
            _ if connection.flags.end_wanted => CarrierState::Closing,
            _ => CarrierState::Active,
        }
    });
    match state {
        Ok(state) => state,
        Err(CallError::Gone(reason)) => CarrierState::Closed(reason),
        Err(CallError::InCall) => CarrierState::Active,
    }
}

/// What a verb on an ended connection returns.
fn error_of(reason: CloseReason, address: Option<&str>) -> Error {
    match (reason, address) {
        (CloseReason::NotConnected(errno), Some(address)) => Error::Connect {
            address: address.to_owned(),
            source: io::Error::from_raw_os_error(errno),
        },
        _ => reason.into(),
    }
}

/// A close is answered well if the connection ended as it should.
fn closed_in_order(reason: CloseReason) -> Result<()> {
    match reason {
        CloseReason::Finished
        | CloseReason::Local
        | CloseReason::Stopped
        | CloseReason::Shutdown => Ok(()),
        other => Err(other.into()),
    }
}

/// A Carrier to `address` on this core: opens nothing yet.
pub(crate) fn initiate_here<F: Framer>(core: &Rc<Core>, address: &str, framer: F) -> Carrier<F> {
    let id = place::<F>(core, address, framer);
    Carrier::own(CarrierRef::new(id))
}

/// A Carrier to `address` on another thread's core: opens nothing yet.
pub(crate) fn initiate_there<F: Framer>(
    handle: &Arc<CoreHandle>,
    address: &str,
    framer: F,
) -> Carrier<F> {
    let ticket = handle.ticket();
    let address = address.to_owned();
    let errand = move |core: &Rc<Core>| {
        let id = place::<F>(core, &address, framer);
        core.name_ticket(ticket, id);
        // Just placed.
        let _ = core.change(id, |connection| connection.rare().ticket = ticket);
    };
    mail::post_patiently(handle.unit, Mail::Errand(Box::new(errand)));
    let id = Id { unit: handle.unit, slot: TICKET_SLOT, generation: ticket };
    Carrier::own(CarrierRef::new(id))
}

/// A Carrier whose engine does not exist: every verb answers that it has ended.
pub(crate) fn nowhere<F: Framer>() -> Carrier<F> {
    Carrier::own(CarrierRef::new(Id { unit: 0, slot: TICKET_SLOT, generation: 0 }))
}

fn place<F: Framer>(core: &Rc<Core>, address: &str, framer: F) -> Id {
    let id = core.allocate(Phase::Inactive);
    let mut endpoint = Endpoint::carrier(framer, core);
    let parsed = address.parse::<Address>().map_err(|error| match error {
        Error::Address { address, why } => (address, why),
        other => (address.to_owned(), other.to_string()),
    });
    endpoint.rare().address = Some(parsed);
    // Just allocated.
    let _ = core.change(id, |connection| {
        connection.flags.owned = true;
        connection.protocol = Some(Box::new(endpoint));
    });
    id
}
