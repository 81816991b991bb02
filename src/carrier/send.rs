//! Send: a Message on its way into a Carrier's bounded queue, from its core or from elsewhere.
//!
//! Above: `try_send`, `send`. Below: the endpoint's framer writes into the outbox. Absent: when it
//! leaves (the shard's turn). Bound: `Limits::send_queue_bytes` per Carrier; from other threads
//! at most the mailbox on top of it.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::endpoint::Endpoint;
use super::promise::{Answer, Promise, promise};
use super::{CarrierRef, endpoint_of};
use crate::error::{CloseReason, Error, Result, TrySendError};
use crate::framer::Framer;
use crate::message::Detach;
use crate::shard::connection::Phase;
use crate::shard::core::{CallError, Core, Id};
use crate::shard::mail::{self, CoreHandle, Errand, Mail};

/// Why a Message was not taken.
enum Refused<M> {
    Full(M),
    Failed(Error),
}

/// An owned Message between threads.
pub(super) struct Parcel<F: Framer>(pub(super) F::Out<'static>);

/// Whether a send of another thread was accepted, and its answer.
pub(super) struct Accepting {
    state: AtomicU8,
    promise: Mutex<Option<Promise<()>>>,
}

const OFFERED: u8 = 0;
const CLAIMED: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Accepting {
    fn new(promise: Option<Promise<()>>) -> Arc<Self> {
        Arc::new(Self { state: AtomicU8::new(OFFERED), promise: Mutex::new(promise) })
    }

    fn step(&self, to: u8) -> bool {
        let order = Ordering::SeqCst;
        self.state.compare_exchange(OFFERED, to, order, order).is_ok()
    }

    /// The core takes the message; false if its future was dropped before.
    pub(super) fn claim(&self) -> bool {
        self.step(CLAIMED)
    }

    pub(super) fn answer(&self, result: Result<()>) {
        let promise = self.promise.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (promise, result) {
            (Some(promise), result) => promise.answer(result),
            (None, Err(error)) => tracing::debug!(%error, "a message could not be sent"),
            (None, Ok(())) => {}
        }
    }
}

/// Frames a Message into the outbox, on its core.
fn push_here<'m, F: Framer>(
    core: &Rc<Core>,
    id: Id,
    message: F::Out<'m>,
    waker: Option<&Waker>,
) -> Result<(), Refused<F::Out<'m>>> {
    let looked = core.look(id, |connection| {
        let flags = &connection.flags;
        // An async handler under way may answer a peer that has ended its own direction.
        let answers = connection.protocol.as_ref().is_some_and(|protocol| protocol.is_busy())
            && !matches!(connection.reason, Some(CloseReason::Local | CloseReason::Stopped));
        let ended = connection.phase == Phase::Closed
            || flags.output_ended
            || (flags.end_wanted && !answers);
        (connection.phase, ended.then(|| connection.reason.unwrap_or(CloseReason::Local)))
    });
    let phase = match looked {
        Ok((phase, None)) => phase,
        Ok((_, Some(reason))) | Err(CallError::Gone(reason)) => {
            return Err(Refused::Failed(reason.into()));
        }
        Err(CallError::InCall) => Phase::Open,
    };
    let mut message = Some(message);
    let pushed = core.call(id, |protocol, call| {
        let endpoint = endpoint_of::<F>(protocol)?;
        if let Some(Err((address, why))) = endpoint.address() {
            return Err(Error::Address { address: address.clone(), why: why.clone() });
        }
        if call.is_full() {
            let room = &mut endpoint.rare().room;
            // Asked again and again by the same task, it is woken once.
            let known = waker.is_none_or(|waker| room.iter().any(|known| known.will_wake(waker)));
            room.extend(waker.filter(|_| !known).cloned());
            return Ok(false);
        }
        let message = message.take().expect("a call happens at most once");
        endpoint.push(call, message).map(|()| true)
    });
    match (pushed, message) {
        (Ok(Ok(true)), _) => {
            if phase == Phase::Inactive {
                super::activate_here::<F>(core, id, None);
            }
            Ok(())
        }
        (Ok(Ok(false)), Some(message)) => {
            // In use: it was just called.
            let _ = core.change(id, |connection| connection.flags.wants_room = true);
            Err(Refused::Full(message))
        }
        (Err(CallError::InCall), Some(message)) if core.can_defer() => {
            let owned = message.detach();
            core.defer(move |core| send_or_park::<F>(core, id, owned, Accepting::new(None)));
            Ok(())
        }
        (Err(CallError::InCall), Some(message)) => Err(Refused::Full(message)),
        (Ok(Err(error)), _) => Err(Refused::Failed(error)),
        (Err(CallError::Gone(reason)), _) => Err(Refused::Failed(reason.into())),
        (Ok(Ok(false)) | Err(CallError::InCall), None) => Err(Refused::Failed(Error::EngineEnded)),
    }
}

/// Frames an owned Message, or keeps it until there is room.
fn send_or_park<F: Framer>(
    core: &Rc<Core>,
    id: Id,
    message: F::Out<'static>,
    accepting: Arc<Accepting>,
) {
    if parks::<F>(core, id) {
        return park::<F>(core, id, message, accepting);
    }
    if !accepting.claim() {
        return;
    }
    match push_here::<F>(core, id, message, None) {
        Ok(()) => accepting.answer(Ok(())),
        Err(Refused::Failed(error)) => accepting.answer(Err(error)),
        Err(Refused::Full(message)) => {
            accepting.state.store(OFFERED, Ordering::SeqCst);
            park::<F>(core, id, message, accepting);
        }
    }
}

/// True if others wait for room already: then this one stands behind them.
fn parks<F: Framer>(core: &Rc<Core>, id: Id) -> bool {
    let waiting = core.call(id, |protocol, call| {
        let endpoint = endpoint_of::<F>(protocol).ok()?;
        Some(call.is_full() || !endpoint.rare().parcels.is_empty())
    });
    matches!(waiting, Ok(Some(true)))
}

fn park<F: Framer>(core: &Rc<Core>, id: Id, message: F::Out<'static>, accepting: Arc<Accepting>) {
    let mut parcel = Some((accepting, Parcel(message)));
    let parked = core.call(id, |protocol, _| {
        if let Ok(endpoint) = endpoint_of::<F>(protocol) {
            endpoint.rare().parcels.extend(parcel.take());
        }
    });
    match (parked, parcel) {
        (Ok(()), None) => {
            super::set_full(core, id, true);
            // In use: it was just called.
            let _ = core.change(id, |connection| connection.flags.wants_room = true);
        }
        (parked, Some((accepting, _))) => {
            let reason = match parked {
                Err(CallError::Gone(reason)) => reason,
                _ => CloseReason::Local,
            };
            if accepting.claim() {
                accepting.answer(Err(reason.into()));
            }
        }
        (Err(_), None) => {}
    }
}

/// A send on its way to the core.
struct SendErrand<F: Framer> {
    id: Id,
    message: F::Out<'static>,
    accepting: Arc<Accepting>,
}

impl<F: Framer> Errand for SendErrand<F> {
    fn run(self: Box<Self>, core: &Rc<Core>) {
        send_or_park::<F>(core, self.id, self.message, self.accepting);
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Posts an owned Message; gives it back if the mailbox is full.
fn post<F: Framer>(
    handle: &CoreHandle,
    id: Id,
    message: F::Out<'static>,
    accepting: Arc<Accepting>,
) -> Result<(), Refused<F::Out<'static>>> {
    let errand = SendErrand::<F> { id, message, accepting };
    let Err(mail) = handle.post(Mail::Errand(Box::new(errand))) else { return Ok(()) };
    if handle.has_ended() {
        return Err(Refused::Failed(Error::EngineEnded));
    }
    let Mail::Errand(errand) = mail else { return Err(Refused::Failed(Error::MailboxFull)) };
    match errand.into_any().downcast::<SendErrand<F>>() {
        Ok(errand) => Err(Refused::Full(errand.message)),
        Err(_) => Err(Refused::Failed(Error::MailboxFull)),
    }
}

impl<F: Framer> CarrierRef<F> {
    /// Queues a Message at once, or gives it back if the bounded queue is full.
    ///
    /// On an inactive Carrier the first Message also begins to connect (draft §3.1.1). On the
    /// Carrier's core nothing is copied or allocated beyond the queue; from another thread the
    /// Message is made owned and travels by mailbox.
    ///
    /// # Errors
    /// [`TrySendError::Full`] with the Message; [`TrySendError::Failed`] if it can never be sent.
    pub fn try_send<'m>(
        &self,
        message: impl Into<F::Out<'m>>,
    ) -> Result<(), TrySendError<F::Out<'static>>> {
        let message = message.into();
        let refused = match Core::current_is(self.id.unit) {
            Some(core) => match push_here::<F>(&core, self.id, message, None) {
                Ok(()) => return Ok(()),
                Err(Refused::Full(message)) => Refused::Full(message.detach()),
                Err(Refused::Failed(error)) => Refused::Failed(error),
            },
            None => match mail::find(self.id.unit) {
                None => Refused::Failed(Error::EngineEnded),
                Some(handle) if handle.is_full(self.id) => Refused::Full(message.detach()),
                Some(handle) => {
                    let accepting = Accepting::new(None);
                    match post::<F>(&handle, self.id, message.detach(), accepting) {
                        Ok(()) => return Ok(()),
                        Err(refused) => refused,
                    }
                }
            },
        };
        Err(match refused {
            Refused::Full(message) => TrySendError::Full(message),
            Refused::Failed(error) => TrySendError::Failed(error),
        })
    }

    /// Sends a Message: waits for room and resolves when the Message is in the bounded queue.
    /// Dropped before that it was never sent, after that it is not cancelled (draft §4.2).
    #[doc(alias = "Send")]
    pub fn send<'m>(&self, message: impl Into<F::Out<'m>>) -> Sending<'m, F> {
        Sending { carrier: *self, step: Step::Offered(Some(message.into())) }
    }
}

/// The future of [`CarrierRef::send`].
///
/// Cancel safety: dropped before it is ready, the Message was not sent; nothing else is lost.
#[must_use = "a message is sent when the future is awaited"]
pub struct Sending<'m, F: Framer> {
    carrier: CarrierRef<F>,
    step: Step<'m, F>,
}

enum Step<'m, F: Framer> {
    Offered(Option<F::Out<'m>>),
    /// It could not be posted yet.
    Held(Option<F::Out<'static>>),
    Posted(Answer<()>, Arc<Accepting>),
}

// Nothing in it is pinned: messages are moved out, never polled in place.
impl<F: Framer> Unpin for Sending<'_, F> {}

impl<F: Framer> Sending<'_, F> {
    /// Waits on this thread.
    ///
    /// # Errors
    /// Those of the future; [`Error::WaitOnCore`] on a core thread.
    pub fn wait(self) -> Result<()> {
        super::wait::wait(self)
    }

    fn post(&mut self, message: F::Out<'static>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let id = self.carrier.id;
        let Some(handle) = mail::find(id.unit) else {
            return Poll::Ready(Err(Error::EngineEnded));
        };
        let (promise, answer) = promise();
        let accepting = Accepting::new(Some(promise));
        match post::<F>(&handle, id, message, Arc::clone(&accepting)) {
            Ok(()) => {
                self.step = Step::Posted(answer, accepting);
                self.poll_posted(context)
            }
            Err(Refused::Failed(error)) => Poll::Ready(Err(error)),
            Err(Refused::Full(message)) => {
                // The mailbox is emptied every turn of its core: ask again.
                self.step = Step::Held(Some(message));
                std::thread::yield_now();
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn poll_posted(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.step {
            Step::Posted(answer, _) => Pin::new(answer).poll(context),
            _ => Poll::Pending,
        }
    }
}

impl<F: Framer> Future for Sending<'_, F> {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let id = self.carrier.id;
        match &mut self.step {
            Step::Posted(..) => self.poll_posted(context),
            Step::Held(message) => {
                let message = message.take().expect("a held message is there until posted");
                self.post(message, context)
            }
            Step::Offered(message) => {
                let message = message.take().expect("a send is not polled after it was ready");
                let Some(core) = Core::current_is(id.unit) else {
                    return self.post(message.detach(), context);
                };
                match push_here::<F>(&core, id, message, Some(context.waker())) {
                    Ok(()) => Poll::Ready(Ok(())),
                    Err(Refused::Failed(error)) => Poll::Ready(Err(error)),
                    Err(Refused::Full(message)) => {
                        self.step = Step::Offered(Some(message));
                        Poll::Pending
                    }
                }
            }
        }
    }
}

impl<F: Framer> Drop for Sending<'_, F> {
    fn drop(&mut self) {
        if let Step::Posted(_, accepting) = &self.step {
            accepting.step(WITHDRAWN);
        }
    }
}

impl<F: Framer> Endpoint<F> {
    /// True if no send of another thread waits for room.
    pub(super) fn has_no_parcels(&self) -> bool {
        self.rare_ref().is_none_or(|rare| rare.parcels.is_empty())
    }
}
