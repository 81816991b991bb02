//! Send: a Message on its way into a Carrier's bounded queue, from its core or from elsewhere.
//!
//! Above: `try_send`, `send`. Below: the endpoint's framer writes into the outbox. Absent: when it
//! leaves (the shard's turn). Bound: `Limits::send_queue_bytes` per Carrier; from other threads
//! at most the mailbox on top of it.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::CarrierRef;
use super::accepting::{Accepting, Withdrawal};
use super::endpoint::Endpoint;
use super::here::{activate_here, endpoint_of, set_full};
use super::posting::{Parcel, Unposted, post};
use super::promise::{Answer, promise};
use super::receipt::Receipt;
use super::scheduled::Wishes;
use crate::error::{CloseReason, Error, Result, TrySendError};
use crate::framer::Framer;
use crate::message::{Detach, Properties};
use crate::shard::connection::Phase;
use crate::shard::core::{CallError, Core, Id};
use crate::shard::mail;
use crate::shard::record::Callbacks;

/// Why a Message was not taken; but for a failure it is where it was offered.
enum Refused {
    Full,
    /// Its Carrier is in a call: asked from inside of it.
    InCall,
    Failed(Error),
}

/// A Message on offer, in its sender's frame: it is moved once, when it is taken.
type Offered<'m, F> = Option<(<F as Framer>::Out<'m>, Wishes)>;

const STILL_OFFERED: &str = "a message that was not taken is where it was offered";

/// Frames a Message into the outbox, on its core.
fn push_here<F: Framer>(
    core: &Rc<Core>,
    id: Id,
    offered: &mut Offered<'_, F>,
    waker: Option<&Waker>,
) -> Result<Receipt, Refused> {
    let looked = core.look(id, |connection| {
        let flags = &connection.flags;
        // An async handler under way may still answer, unless this side closed on purpose.
        let busy = connection.protocol.as_ref().is_some_and(|protocol| protocol.is_busy());
        let answers = busy && connection.reason != Some(CloseReason::Local);
        let ended = flags.output_ended || (flags.end_wanted && !answers);
        // Without a connection it goes on taking Messages for the next one, until it is closed.
        let lost = connection.is_lost();
        let ended = if lost { connection.is_closing_lost() } else { ended };
        let ended = ended || connection.phase == Phase::Closed;
        (connection.phase, ended.then(|| connection.reason.unwrap_or(CloseReason::Local)))
    });
    let phase = match looked {
        Ok((phase, None)) => phase,
        Ok((_, Some(reason))) | Err(CallError::Gone(reason)) => {
            return Err(Refused::Failed(reason.into()));
        }
        Err(CallError::InCall) => Phase::Open,
    };
    let pushed = core.call(id, |protocol, call| {
        let endpoint = endpoint_of::<F>(protocol)?;
        // The framer is asked within the call: if it panics, it is this Carrier that ends.
        let niceness = offered.as_ref().map_or(0, |(m, wishes)| niceness_of::<F>(m, wishes));
        if let Some(Err((address, why))) = endpoint.address() {
            return Err(Error::Address { address: address.clone(), why: why.clone() });
        }
        let part = offered.as_ref().and_then(|(_, wishes)| wishes.part.as_ref());
        if !endpoint.admits(call, niceness, part)? {
            endpoint.rare().wait_for_room(waker);
            return Ok(None);
        }
        let (message, wishes) = offered.take().expect("a call happens at most once");
        endpoint.push(call, message, wishes).map(Some)
    });
    match pushed {
        Ok(Ok(Some(receipt))) => {
            if phase == Phase::Inactive {
                activate_here::<F>(core, id, None);
            }
            Ok(receipt)
        }
        Ok(Ok(None)) => {
            // In use: it was just called.
            let _ = core.change(id, |connection| connection.flags.wants_room = true);
            Err(Refused::Full)
        }
        Err(CallError::InCall) => Err(Refused::InCall),
        Ok(Err(error)) => Err(Refused::Failed(error)),
        Err(CallError::Gone(reason)) => Err(Refused::Failed(reason.into())),
    }
}

/// Sends from inside a call as soon as it is over.
fn send_later<F: Framer>(
    core: &Core,
    id: Id,
    message: F::Out<'_>,
    wishes: Wishes,
    accepting: Accepting,
) {
    let parcel = Parcel::<F> { message: message.detach(), wishes };
    core.defer(move |core| send_or_park::<F>(core, id, parcel, accepting));
}

pub(super) fn niceness_of<F: Framer>(message: &F::Out<'_>, wishes: &Wishes) -> u32 {
    let properties = wishes.properties.as_deref().or_else(|| F::properties(message));
    properties.map_or(0, Properties::niceness_or_default)
}

/// Frames an owned Message, or keeps it until there is room.
pub(super) fn send_or_park<F: Framer>(
    core: &Rc<Core>,
    id: Id,
    parcel: Parcel<F>,
    accepting: Accepting,
) {
    if parks::<F>(core, id, &parcel) {
        return park::<F>(core, id, parcel, accepting);
    }
    if !accepting.claim() {
        return;
    }
    let mut offered = Some((parcel.message, parcel.wishes));
    let pushed = push_here::<F>(core, id, &mut offered, None);
    match (pushed, offered) {
        (Ok(receipt), _) => accepting.answer(core, id, Ok(receipt)),
        (Err(Refused::Failed(error)), _) => accepting.answer(core, id, Err(error)),
        (Err(Refused::InCall), offered) => {
            accepting.offer_again();
            let (message, wishes) = offered.expect(STILL_OFFERED);
            send_later::<F>(core, id, message, wishes, accepting);
        }
        (Err(Refused::Full), offered) => {
            accepting.offer_again();
            let (message, wishes) = offered.expect(STILL_OFFERED);
            park::<F>(core, id, Parcel { message, wishes }, accepting);
        }
    }
}

/// True if there is no room, or others wait for it that are not less urgent: then this one stands
/// behind them.
fn parks<F: Framer>(core: &Rc<Core>, id: Id, parcel: &Parcel<F>) -> bool {
    let part = parcel.wishes.part.as_ref();
    let waiting = core.call(id, |protocol, call| {
        // The framer is asked within the call: if it panics, it is this Carrier that ends.
        let niceness = niceness_of::<F>(&parcel.message, &parcel.wishes);
        let endpoint = endpoint_of::<F>(protocol).ok()?;
        // What can never go need not wait to hear of it.
        let Ok(admitted) = endpoint.admits(call, niceness, part) else { return Some(false) };
        // The rest of a Message in parts stands behind nobody.
        let goes_on = part.is_some_and(|part| part.goes_on());
        let mut others = endpoint.rare().parcels.iter();
        let before =
            others.any(|(_, parcel)| niceness_of::<F>(&parcel.message, &parcel.wishes) <= niceness);
        Some(!admitted || (before && !goes_on))
    });
    matches!(waiting, Ok(Some(true)))
}

fn park<F: Framer>(core: &Rc<Core>, id: Id, parcel: Parcel<F>, accepting: Accepting) {
    let niceness = niceness_of::<F>(&parcel.message, &parcel.wishes);
    let others = core.handle.full_for(core.resolve(id)).unwrap_or(niceness);
    let mut parcel = Some((accepting, parcel));
    let parked = core.call(id, |protocol, _| {
        if let Ok(endpoint) = endpoint_of::<F>(protocol)
            && let Some((accepting, parcel)) = parcel.take()
        {
            endpoint.rare().park(accepting, parcel);
        }
    });
    match (parked, parcel) {
        (Ok(()), None) => {
            set_full(core, id, Some(others.min(niceness)));
            // In use: it was just called.
            let _ = core.change(id, |connection| connection.flags.wants_room = true);
        }
        (parked, Some((accepting, _))) => {
            let reason = match parked {
                Err(CallError::Gone(reason)) => reason,
                _ => CloseReason::Local,
            };
            if accepting.claim() {
                accepting.answer(core, id, Err(reason.into()));
            }
        }
        (Err(_), None) => {}
    }
}

impl<F: Framer> CarrierRef<F> {
    /// Queues a Message at once, or gives it back if the bounded queue is full.
    ///
    /// On an inactive Carrier the first Message also begins to connect (draft §3.1.1). On the
    /// Carrier's core nothing is copied or allocated beyond the queue; from another thread the
    /// Message is made owned and travels by mailbox.
    ///
    /// From another thread, or from inside a call into this Carrier, `Ok` says that the Message is
    /// on its way to the queue. Its core may refuse it there: the Carrier has ended, its address is
    /// none, the framer cannot express it. Such a Message is counted (`failed_messages`), logged,
    /// and told to streams of events as [`Event::Refused`](crate::Event). [`CarrierRef::send`]
    /// gives the reason to its caller.
    ///
    /// # Errors
    /// [`TrySendError::Full`] with the Message; [`TrySendError::Failed`] if it can never be sent.
    pub fn try_send<'m>(
        &self,
        message: impl Into<F::Out<'m>>,
    ) -> Result<(), TrySendError<F::Out<'static>>> {
        self.offer(message.into(), Wishes::default())
    }

    /// As [`CarrierRef::try_send`], with callbacks for this Message in place of the Carrier's own
    /// (draft §3.2: `SendMsg`; each may be `None`). They run on the Carrier's core; one that
    /// panics is logged. `on_expired` also runs if the Carrier's core refused a Message that was
    /// taken here; if the Carrier ends before one has left, none of them does.
    ///
    /// # Errors
    /// As [`CarrierRef::try_send`].
    pub fn send_msg<'m>(
        &self,
        message: impl Into<F::Out<'m>>,
        on_sent: Option<Callback>,
        on_acked: Option<Callback>,
        on_expired: Option<Callback>,
    ) -> Result<(), TrySendError<F::Out<'static>>> {
        let callbacks = Callbacks { sent: on_sent, acked: on_acked, expired: on_expired };
        self.offer(
            message.into(),
            Wishes { callbacks: Some(Box::new(callbacks)), ..Wishes::default() },
        )
    }

    fn offer<'m>(
        &self,
        message: F::Out<'m>,
        wishes: Wishes,
    ) -> Result<(), TrySendError<F::Out<'static>>> {
        let Some(core) = Core::current_is(self.id.unit) else {
            return self.offer_there(message, wishes);
        };
        let mut offered = Some((message, wishes));
        let refused = match push_here::<F>(&core, self.id, &mut offered, None) {
            Ok(_) => return Ok(()),
            Err(Refused::Failed(error)) => return Err(TrySendError::Failed(error)),
            Err(refused) => refused,
        };
        let (message, mut wishes) = offered.expect(STILL_OFFERED);
        if matches!(refused, Refused::InCall) && core.can_defer() {
            let accepting = Accepting::unawaited(wishes.callbacks.as_deref_mut());
            send_later::<F>(&core, self.id, message, wishes, accepting);
            return Ok(());
        }
        Err(TrySendError::Full(message.detach()))
    }

    /// Posts a Message that nobody waits for; what can never be sent is refused at once, as far as
    /// this thread can know.
    fn offer_there<'m>(
        &self,
        message: F::Out<'m>,
        mut wishes: Wishes,
    ) -> Result<(), TrySendError<F::Out<'static>>> {
        let Some(handle) = mail::find(self.id.unit) else {
            return Err(TrySendError::Failed(mail::absent(self.id.unit)));
        };
        let others = handle.full_for(self.id);
        if others.is_some_and(|others| others <= niceness_of::<F>(&message, &wishes)) {
            return Err(TrySendError::Full(message.detach()));
        }
        let properties = wishes.properties.as_deref().or_else(|| F::properties(&message));
        if let Some(properties) = properties {
            super::scheduled::check(properties, self.id).map_err(TrySendError::Failed)?;
        }
        let accepting = Accepting::unawaited(wishes.callbacks.as_deref_mut());
        let parcel = Parcel { message: message.detach(), wishes };
        post::<F>(&handle, self.id, parcel, accepting).map_err(|unposted| match unposted {
            Unposted::Full(parcel) => TrySendError::Full(parcel.message),
            Unposted::Failed(error) => TrySendError::Failed(error),
        })
    }

    /// Sends a Message: waits for room and resolves to its [`Receipt`] when it is in the bounded
    /// queue. Dropped before that it was never sent, after that it is not cancelled (draft §4.2).
    #[doc(alias = "Send")]
    pub fn send<'m>(&self, message: impl Into<F::Out<'m>>) -> Sending<'m, F> {
        self.sending(message.into(), Wishes::default())
    }

    /// As [`CarrierRef::send`], with properties beside the Message: for framers whose Messages
    /// are values without properties of their own. They stand in place of the Message's own.
    pub fn send_with<'m>(
        &self,
        properties: Properties,
        message: impl Into<F::Out<'m>>,
    ) -> Sending<'m, F> {
        let properties = Some(Box::new(properties));
        self.sending(message.into(), Wishes { properties, ..Wishes::default() })
    }

    pub(super) fn sending<'m>(&self, message: F::Out<'m>, wishes: Wishes) -> Sending<'m, F> {
        Sending { carrier: *self, step: Step::Offered(Some((message, wishes))) }
    }
}

/// A callback of [`CarrierRef::send_msg`].
pub type Callback = Box<dyn FnOnce() + Send>;

/// The future of [`CarrierRef::send`].
///
/// Cancel safety: dropped before it is ready, the Message was not sent; nothing else is lost.
#[must_use = "a message is sent when the future is awaited"]
pub struct Sending<'m, F: Framer> {
    carrier: CarrierRef<F>,
    step: Step<'m, F>,
}

enum Step<'m, F: Framer> {
    Offered(Offered<'m, F>),
    /// It could not be posted yet.
    Held(Option<Parcel<F>>),
    /// The core has it, unless it is withdrawn before.
    Posted(Answer<Receipt>, Withdrawal),
}

// Nothing in it is pinned: messages are moved out, never polled in place.
impl<F: Framer> Unpin for Sending<'_, F> {}

impl<F: Framer> Sending<'_, F> {
    /// Waits on this thread.
    ///
    /// # Errors
    /// Those of the future; [`Error::WaitOnCore`] on a core thread.
    pub fn wait(self) -> Result<Receipt> {
        super::wait::wait(self)
    }

    fn post(&mut self, parcel: Parcel<F>, context: &mut Context<'_>) -> Poll<Result<Receipt>> {
        let id = self.carrier.id;
        let Some(handle) = mail::find(id.unit) else {
            return Poll::Ready(Err(mail::absent(id.unit)));
        };
        let (promise, answer) = promise();
        let accepting = Accepting::new(Some(promise));
        let withdrawal = accepting.withdrawal();
        match post::<F>(&handle, id, parcel, accepting) {
            Ok(()) => {
                self.step = Step::Posted(answer, withdrawal);
                self.poll_posted(context)
            }
            Err(Unposted::Failed(error)) => Poll::Ready(Err(error)),
            Err(Unposted::Full(parcel)) => {
                // The mailbox is emptied every turn of its core: ask again.
                self.step = Step::Held(Some(parcel));
                std::thread::yield_now();
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn poll_posted(&mut self, context: &mut Context<'_>) -> Poll<Result<Receipt>> {
        match &mut self.step {
            Step::Posted(answer, _) => Pin::new(answer).poll(context),
            _ => Poll::Pending,
        }
    }
}

impl<F: Framer> Future for Sending<'_, F> {
    type Output = Result<Receipt>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Receipt>> {
        let id = self.carrier.id;
        match &mut self.step {
            Step::Posted(..) => self.poll_posted(context),
            Step::Held(parcel) => {
                let parcel = parcel.take().expect("a held message is there until posted");
                self.post(parcel, context)
            }
            Step::Offered(offered) => {
                const UNREADY: &str = "a send is not polled after it was ready";
                let Some(core) = Core::current_is(id.unit) else {
                    let (message, wishes) = offered.take().expect(UNREADY);
                    let message = message.detach();
                    return self.post(Parcel { message, wishes }, context);
                };
                assert!(offered.is_some(), "{UNREADY}");
                match push_here::<F>(&core, id, offered, Some(context.waker())) {
                    Ok(receipt) => Poll::Ready(Ok(receipt)),
                    Err(Refused::Failed(error)) => {
                        // It may be that it was not taken; it is not offered again.
                        *offered = None;
                        Poll::Ready(Err(error))
                    }
                    Err(Refused::Full) => Poll::Pending,
                    Err(Refused::InCall) => {
                        let (message, wishes) = offered.take().expect(STILL_OFFERED);
                        // Its number is not known before the call is over.
                        let (promise, answer) = promise();
                        let accepting = Accepting::new(Some(promise));
                        self.step = Step::Posted(answer, accepting.withdrawal());
                        send_later::<F>(&core, id, message, wishes, accepting);
                        self.poll_posted(context)
                    }
                }
            }
        }
    }
}

impl<F: Framer> Drop for Sending<'_, F> {
    fn drop(&mut self) {
        if let Step::Posted(_, withdrawal) = &self.step {
            withdrawal.withdraw();
        }
    }
}

impl<F: Framer> Endpoint<F> {
    /// The most urgent class among the sends of other threads that wait for room.
    pub(super) fn most_urgent_parcel(&self) -> Option<u32> {
        let mut best = None;
        for (_, parcel) in &self.rare_ref()?.parcels {
            let niceness = niceness_of::<F>(&parcel.message, &parcel.wishes);
            best = Some(best.map_or(niceness, |best: u32| best.min(niceness)));
            if niceness == 0 {
                break;
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::carrier::endpoint::Rare;
    use crate::framer::Unframed;
    use crate::message::Message;

    struct Asleep;
    impl std::task::Wake for Asleep {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn sends_that_were_given_up_cost_no_memory() {
        let mut rare = Rare::<Unframed>::default();
        let waker = Waker::from(Arc::new(Asleep));
        for _ in 0..10_000 {
            let accepting = Accepting::new(None);
            assert!(accepting.withdrawal().withdraw());
            let message = Message::from("given up");
            rare.park(accepting, Parcel { message, wishes: Wishes::default() });
            rare.wait_for_room(Some(&waker));
        }
        assert!(rare.parcels.len() <= 16, "{} parcels", rare.parcels.len());
        assert_eq!(rare.room.len(), 1);
    }
}
