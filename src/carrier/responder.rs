//! Responder: one function from a received Message to its replies (draft §2.1, Figure 4).
//!
//! Above: handlers of the application, called inline on the completion. Below: the endpoint. The
//! reply handle only sends: what the draft calls a Source in its text and a Sink in its figure.
//! Absent: threads, listening.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::CarrierRef;
use super::endpoint::{Endpoint, Reader};
use super::way::{Way, encode};
use crate::error::{CloseReason, Error, Result};
use crate::framer::Framer;
use crate::message::Detach;
use crate::shard::core::{Core, Id};
use crate::shard::protocol::{Call, Protocol, Service};

/// Whether a handler wants more Messages (draft, Figure 2: true goes on, false stops).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// More Messages, please.
    Continue,
    /// No more: what was replied is flushed, then the Carrier ends. On a Responder's socket of
    /// datagrams it ends nothing, for that serves everybody; where an async handler answers it, the
    /// Carrier of that peer ends, and what it sends next begins another.
    Stop,
}

/// What a handler may return: nothing, a [`Flow`], the draft's boolean, or a `Result` of these.
/// An error stops; it is logged, at most a few times a second.
pub trait Answer {
    /// Whether to go on.
    fn flow(self) -> Flow;
}

impl Answer for () {
    fn flow(self) -> Flow {
        Flow::Continue
    }
}

impl Answer for Flow {
    fn flow(self) -> Flow {
        self
    }
}

impl Answer for bool {
    fn flow(self) -> Flow {
        if self { Flow::Continue } else { Flow::Stop }
    }
}

impl<T: Answer, E: std::fmt::Display> Answer for Result<T, E> {
    fn flow(self) -> Flow {
        match self {
            Ok(answer) => answer.flow(),
            Err(error) => {
                if Core::current().is_none_or(|core| core.may_log()) {
                    tracing::warn!(%error, "a handler failed; its carrier ends, if it has one");
                }
                Flow::Stop
            }
        }
    }
}

/// Where replies to one Message go: back to its sender, on the same core.
///
/// It stays on its core and ends with the call; [`Reply::carrier`] is what may be kept.
pub struct Reply<'a, F: Framer> {
    way: &'a Way<F>,
    call: &'a Call<'a>,
}

impl<'a, F: Framer> Reply<'a, F> {
    pub(super) fn new(way: &'a Way<F>, call: &'a Call<'a>) -> Self {
        Self { way, call }
    }

    /// Queues a Message. All replies of one turn to one peer leave in one system call. A handler
    /// is called only while the queue is below [`Limits::send_queue_bytes`](crate::Limits), so a
    /// reply always finds room; datagrams that come meanwhile are dropped and counted.
    ///
    /// # Errors
    /// If the framer cannot express the Message, or if it is longer than a datagram to this peer
    /// may be; nothing is sent then.
    #[inline]
    pub fn send<'m>(&self, message: impl Into<F::Out<'m>>) -> Result<()> {
        encode(self.way, self.call, message.into())
    }

    /// The Carrier to the sender, for replies after the handler has returned. A Responder's socket
    /// of datagrams keeps none: there it cannot send, which its verbs say; async handlers have one.
    #[must_use]
    pub fn carrier(&self) -> CarrierRef<F> {
        CarrierRef::new(self.call.id)
    }
}

/// What a Responder's endpoint is to do after a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Responded {
    Continue,
    Stop,
    /// No more messages before an async handler has answered.
    Pause,
}

/// A handler without its type.
pub(super) trait Respond<F: Framer> {
    fn respond(&self, message: F::In<'_>, reply: Reply<'_, F>) -> Responded;
    fn name(&self) -> Rc<str>;
}

/// One core's inline handler.
struct Inline<H> {
    handler: RefCell<H>,
    name: Rc<str>,
}

impl<F, H, R> Respond<F> for Inline<H>
where
    F: Framer,
    R: Answer,
    H: FnMut(F::In<'_>, Reply<'_, F>) -> R + 'static,
{
    #[inline]
    fn respond(&self, message: F::In<'_>, reply: Reply<'_, F>) -> Responded {
        // Only the core's loop calls handlers, so this one is not running.
        match (self.handler.borrow_mut())(message, reply).flow() {
            Flow::Continue => Responded::Continue,
            Flow::Stop => Responded::Stop,
        }
    }

    fn name(&self) -> Rc<str> {
        Rc::clone(&self.name)
    }
}

/// One core's async handler, on owned Messages.
struct Async<H> {
    handler: Rc<H>,
    name: Rc<str>,
}

impl<F, H, R> Respond<F> for Async<H>
where
    F: Framer,
    R: Answer,
    H: AsyncFn(F::Got, CarrierRef<F>) -> R + 'static,
{
    fn respond(&self, message: F::In<'_>, reply: Reply<'_, F>) -> Responded {
        if !reply.call.core.executor.has_room() {
            if reply.call.core.may_log() {
                tracing::warn!("an async handler was not called: Limits::tasks run on this core");
            }
            reply.call.core.metrics.refused_limit.add(1);
            reply.call.core.end_output(reply.call.id, CloseReason::Limit);
            return Responded::Stop;
        }
        let handler = Rc::clone(&self.handler);
        let (core, id) = (Rc::clone(reply.call.core), reply.call.id);
        let (message, carrier) = (message.detach(), reply.carrier());
        let answering = Answering { core: Rc::clone(&core), id, over: Cell::new(None) };
        let spawned = core.executor.spawn(&core, async move {
            let handling = std::pin::pin!(handler(message, carrier));
            let answer = Known { core: &answering.core, id, handling }.await;
            answering.over.set(Some(answer.flow()));
        });
        if spawned { Responded::Pause } else { Responded::Stop }
    }

    fn name(&self) -> Rc<str> {
        Rc::clone(&self.name)
    }
}

/// A handler's future; while it is polled its core knows whose it is.
struct Known<'a, H> {
    core: &'a Core,
    id: Id,
    handling: Pin<&'a mut H>,
}

impl<H: Future> Future for Known<'_, H> {
    type Output = H::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<H::Output> {
        /// A panic ends the poll, too.
        struct Over<'a>(&'a Core);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.handling.set(None);
            }
        }
        self.core.handling.set(Some(self.id));
        let _over = Over(self.core);
        self.handling.as_mut().poll(context)
    }
}

/// An async handler under way. Its end, also by panic, makes room for the next message.
struct Answering {
    core: Rc<Core>,
    id: Id,
    over: Cell<Option<Flow>>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        let (id, flow) = (self.id, self.over.take());
        self.core.defer(move |core| {
            // The connection may have ended meanwhile.
            let _ = core.call(id, |protocol, _| protocol.task_ended());
            core.attend(id);
            match flow {
                Some(Flow::Continue) => {}
                Some(Flow::Stop) => core.end_output(id, CloseReason::Stopped),
                None => core.fail(id, CloseReason::Panicked),
            }
        });
    }
}

/// One core's Responder: it gives every accepted connection an endpoint that calls the handler.
pub(crate) struct ResponderService<F: Framer> {
    framer: F,
    respond: Rc<dyn Respond<F>>,
    answers_later: bool,
}

impl<F: Framer> ResponderService<F> {
    pub(crate) fn inline<H, R>(framer: F, handler: H) -> Self
    where
        R: Answer + 'static,
        H: FnMut(F::In<'_>, Reply<'_, F>) -> R + 'static,
    {
        let name = std::any::type_name::<H>().into();
        let respond = Rc::new(Inline { handler: RefCell::new(handler), name });
        Self { framer, respond: respond as Rc<dyn Respond<F>>, answers_later: false }
    }

    pub(crate) fn asynchronous<H, R>(framer: F, handler: H) -> Self
    where
        R: Answer + 'static,
        H: AsyncFn(F::Got, CarrierRef<F>) -> R + 'static,
    {
        let name = std::any::type_name::<H>().into();
        let respond = Rc::new(Async { handler: Rc::new(handler), name });
        Self { framer, respond: respond as Rc<dyn Respond<F>>, answers_later: true }
    }
}

impl<F: Framer> Service for ResponderService<F> {
    fn open(&self, _core: &Rc<Core>, _id: Id) -> Result<Box<dyn Protocol>, CloseReason> {
        let reader = Reader::Respond(Rc::clone(&self.respond));
        Ok(Box::new(Endpoint::new(self.framer.clone(), reader)))
    }

    /// What answers later needs to know to whom.
    fn serves_remotes_apart(&self) -> bool {
        self.answers_later
    }

    fn accepted(&self, _core: &Rc<Core>, _id: Id) {}
}

/// Starts `future` on this core; it may use `Rc` and other things that stay on one thread.
///
/// # Errors
/// [`Error::Unsupported`] on a thread that is no core, [`Error::Configuration`] if
/// [`Limits::tasks`](crate::Limits) tasks run already.
pub fn spawn(future: impl Future<Output = ()> + 'static) -> Result<()> {
    let Some(core) = Core::current() else {
        return Err(Error::Unsupported(
            "spawn() outside a core thread; use Engine::spawn_on".into(),
        ));
    };
    if core.executor.spawn(&core, future) {
        Ok(())
    } else {
        Err(Error::Configuration("Limits::tasks tasks run on this core already".into()))
    }
}
