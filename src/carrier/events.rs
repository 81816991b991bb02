//! Events: a Carrier's default handlers and its streams of events (draft §3.2: `OnSent`,
//! `OnAcked`, `OnExpired`).
//!
//! Above: applications; handlers run on the Carrier's core, a stream is read on any thread. Below:
//! `shard::events` keeps them with the connection. Absent: what became of one Message alone; that
//! is its Receipt. Bound: `Limits::events` per stream.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::CarrierRef;
use crate::error::{CloseReason, Result};
use crate::framer::Framer;
use crate::message::{Event, MessageId};
use crate::shard::core::{CallError, Core, Id};
use crate::shard::event_queue::{EventReceiver, EventSender, event_queue};
use crate::shard::events::{Handler, Kind, Listeners};
use crate::shard::outgoing::Outgoing;
use crate::shard::protocol::{Call, Protocol};

impl<F: Framer> CarrierRef<F> {
    /// Has `handler` called on the Carrier's core with every Message that was handed to the stack
    /// (draft §3.2: `OnSent`), unless a callback of its own stands in its place
    /// ([`CarrierRef::send_msg`]). Messages sent before this call are not reported. Replaces an
    /// earlier handler; one that panics is logged and called again with the next Message.
    ///
    /// Word of one Message comes in the order sent, acked; Messages are reported as sent in the
    /// order in which they left; word of Messages comes before `on_closed`.
    ///
    /// # Errors
    /// [`Error::EngineEnded`](crate::Error), or [`Error::MailboxFull`](crate::Error) from another
    /// thread.
    #[doc(alias = "OnSent")]
    pub fn on_sent<H: FnMut(MessageId) + Send + 'static>(&self, handler: H) -> Result<()> {
        self.on(Kind::Sent, handler)
    }

    /// As [`CarrierRef::on_sent`], with every Message that the peer has (draft §3.2: `OnAcked`).
    /// [`Supports::acked`](crate::Supports::acked) says what that means on this stack; where
    /// nobody can tell, `handler` is never called. Acks are asked for every millisecond while any
    /// is outstanding.
    ///
    /// # Errors
    /// As [`CarrierRef::on_sent`].
    #[doc(alias = "OnAcked")]
    pub fn on_acked<H: FnMut(MessageId) + Send + 'static>(&self, handler: H) -> Result<()> {
        self.on(Kind::Acked, handler)
    }

    /// As [`CarrierRef::on_sent`], with every Message that expired (draft §3.2: `OnExpired`); its
    /// Receipt and [`Event::Expired`] say why.
    ///
    /// # Errors
    /// As [`CarrierRef::on_sent`].
    #[doc(alias = "OnExpired")]
    pub fn on_expired<H: FnMut(MessageId) + Send + 'static>(&self, handler: H) -> Result<()> {
        self.on(Kind::Expired, handler)
    }

    fn on(&self, kind: Kind, handler: impl FnMut(MessageId) + Send + 'static) -> Result<()> {
        self.tell(move |core, id| {
            let handler: Handler = Rc::new(RefCell::new(handler));
            set_handler_here(core, id, kind, handler);
        })
    }

    /// A stream of everything that becomes of Messages sent from now on, those with callbacks of
    /// their own included, and of the Carrier's end. Each stream hears of all; a Carrier has at
    /// most 16 at once, a further one ends at once with
    /// [`CloseReason::Limit`](crate::CloseReason).
    ///
    /// ```no_run
    /// # async fn example(carrier: postring::Carrier) -> postring::Result<()> {
    /// use postring::Event;
    /// let mut events = carrier.events()?;
    /// carrier.send("Hello!").await?;
    /// while let Some(event) = events.next().await {
    ///     match event {
    ///         Event::Sent(message) => println!("{} has left", message.number()),
    ///         Event::Closed(reason) => println!("{reason}"),
    ///         other => println!("{other:?}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`CarrierRef::on_sent`].
    pub fn events(&self) -> Result<Events> {
        let (sender, receiver) = event_queue(2);
        self.tell(move |core, id| {
            sender.bound(core.limits.events);
            listen_here(core, id, sender);
        })?;
        Ok(Events { queue: receiver })
    }
}

/// Runs `act` on who hears of the Carrier's Messages; from now on they go the ordered way.
fn with_listeners<R>(
    protocol: &dyn Protocol,
    call: &Call<'_>,
    act: impl FnOnce(&mut Listeners) -> R,
) -> R {
    let mut outgoing = call.outgoing.borrow_mut();
    let outgoing = outgoing.get_or_insert_with(|| {
        Box::new(Outgoing::new(protocol.submitted(), call.core.limits.scheduled_messages))
    });
    act(&mut outgoing.listeners)
}

fn set_handler_here(core: &Rc<Core>, id: Id, kind: Kind, handler: Handler) {
    let mut handler = Some(handler);
    let set = core.call(id, |protocol, call| {
        let handler = handler.take();
        let set =
            |listeners: &mut Listeners| handler.and_then(|handler| listeners.set(kind, handler));
        // The one before is dropped outside the borrow.
        drop(with_listeners(protocol, call, set));
    });
    if set == Err(CallError::InCall)
        && let Some(handler) = handler
    {
        core.defer(move |core| set_handler_here(core, id, kind, handler));
    }
}

fn listen_here(core: &Rc<Core>, id: Id, sender: EventSender) {
    let told = core.look(id, |connection| {
        let reason = connection.reason.unwrap_or(CloseReason::Finished);
        connection.flags.close_told.then_some(reason)
    });
    let over = match told {
        Ok(None) => None,
        Ok(Some(reason)) | Err(CallError::Gone(reason)) => Some(reason),
        Err(CallError::InCall) => None,
    };
    if let Some(reason) = over {
        return end(core, &sender, reason);
    }
    let mut sender = Some(sender);
    let set = core.call(id, |protocol, call| {
        let Some(sender) = sender.take() else { return };
        let added = with_listeners(protocol, call, |listeners| listeners.add(sender));
        if let Err(sender) = added {
            end(call.core, &sender, CloseReason::Limit);
        }
    });
    if set == Err(CallError::InCall)
        && let Some(sender) = sender
    {
        core.defer(move |core| listen_here(core, id, sender));
    }
}

fn end(core: &Core, sender: &EventSender, reason: CloseReason) {
    if let Some(waker) = sender.end(reason) {
        core.defer(move |core| core.guard(|| waker.wake()));
    }
}

/// The stream of a Carrier's events: [`CarrierRef::events`]. Dropped, it is forgotten; it does not
/// keep its Carrier open.
pub struct Events {
    queue: EventReceiver,
}

impl Events {
    /// The next event; `None` after [`Event::Closed`].
    #[allow(clippy::should_implement_trait, reason = "it is awaited; an iterator would block")]
    pub fn next(&mut self) -> NextEvent<'_> {
        NextEvent { events: self }
    }

    /// As [`Events::next`], for those that poll by hand.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.queue.poll(context.waker())
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

#[cfg(feature = "futures")]
impl futures_core::Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        Self::poll_next(&mut self, context)
    }
}

/// The future of [`Events::next`].
///
/// Cancel safety: an event leaves its queue only in the poll that returns it.
#[must_use = "an event comes when the future is awaited"]
pub struct NextEvent<'a> {
    events: &'a mut Events,
}

impl NextEvent<'_> {
    /// Waits on this thread.
    ///
    /// # Errors
    /// [`Error::WaitOnCore`](crate::Error) on a core thread.
    pub fn wait(self) -> Result<Option<Event>> {
        super::wait::wait(async { Ok(self.await) })
    }
}

impl Future for NextEvent<'_> {
    type Output = Option<Event>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_next(context)
    }
}
