//! Protocol: the typed half of a connection, seen by a shard without its types.
//!
//! Above: `carrier` implements it (a framer and who gets the messages). Below: the shard calls it
//! with bytes. Absent: sockets, buffers, the driver.

use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::core::{Core, Id};
use super::outgoing::Outgoing;
use crate::address::{Address, Route};
use crate::error::CloseReason;
use crate::framer::Output;
use crate::message::Marking;

/// One call into user code: where it is and where its answers go. The outbox has left its slot for
/// the call, so that no borrow of the core's state is alive while user code runs.
pub(crate) struct Call<'a> {
    pub(crate) core: &'a Rc<Core>,
    pub(crate) id: Id,
    pub(crate) outbox: &'a RefCell<Box<Output>>,
    /// The ordered way out, if the connection has one; it has left its slot likewise.
    pub(crate) outgoing: &'a RefCell<Option<Box<Outgoing>>>,
    /// Bytes that left the outbox before this call.
    pub(crate) handed: u64,
    /// Bytes that the kernel had taken before this call.
    pub(crate) left: u64,
    /// How what is framed becomes packets.
    pub(crate) packing: Packing,
    /// Messages framed into the outbox so far.
    pub(crate) sent_messages: Cell<u64>,
}

/// How Messages become packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// They follow one another in a stream.
    Stream,
    /// Each is a datagram to the peer of a connected socket, of at most so many bytes.
    Connected { bytes_max: u32 },
    /// Each is a datagram to whoever sent the one that is being answered.
    To(Route),
    /// Each would be a datagram, but to nobody in particular.
    Nowhere,
}

impl Call<'_> {
    /// True if the outbox has reached its high-water mark: no handler is called until it falls.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.is_full_for(0)
    }

    /// The same for a Message of class `niceness`.
    #[inline]
    pub(crate) fn is_full_for(&self, niceness: u32) -> bool {
        let limits = &self.core.limits;
        let waiting = self.outbox.borrow().held_bytes();
        match &*self.outgoing.borrow() {
            None => waiting >= limits.send_queue_bytes,
            Some(outgoing) => outgoing.is_full_for(
                niceness,
                waiting,
                limits.send_queue_bytes,
                limits.scheduled_messages,
            ),
        }
    }
}

/// What came of a call with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes that were used up.
    pub(crate) consumed: usize,
    pub(crate) verdict: Verdict,
}

/// What the connection needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// More bytes; the message at the start of the rest has this length in all, if that is known.
    More { needs: Option<usize> },
    /// Nothing now: nobody wants a message, or the outbox is full.
    Paused,
    /// No more bytes ever: flush what is in the outbox, then end.
    Stop,
    /// The connection is broken.
    Fail(CloseReason),
}

/// What the typed half says when its connection was lost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Lost {
    /// Where Messages without wishes end in the stream: the last that has left, and all behind it.
    pub(crate) ends: Vec<u64>,
    /// A Message had come.
    pub(crate) heard: bool,
}

/// The typed half of a connection. Every method may run user code.
pub(crate) trait Protocol: Any {
    /// Bytes of the peer, from the first that was not consumed; `at_end`: no more will come.
    fn input(&mut self, call: &Call<'_>, bytes: &[u8], at_end: bool) -> Progress;

    /// From now on its Messages are datagrams.
    fn takes_datagrams(&mut self);

    /// One datagram of the peer, whose packet was marked so: a Message, or nothing.
    fn datagram(&mut self, call: &Call<'_>, bytes: &[u8], marking: Marking);

    /// How long the message at the start of `bytes` is in all, if that is known.
    fn needs(&mut self, bytes: &[u8]) -> Option<usize>;

    /// The peer has ended its direction; `rest` bytes were never consumed.
    fn input_ended(&mut self, call: &Call<'_>, rest: usize) -> Verdict;

    /// The connection has come about.
    fn opened(&mut self, call: &Call<'_>);

    /// The outbox has fallen below its low-water mark.
    fn writable(&mut self, call: &Call<'_>);

    /// The connection has ended. Called once.
    fn closed(&mut self, core: &Rc<Core>, id: Id, reason: CloseReason);

    /// True if what it is given is held back until there is room for what it answers.
    fn answers_by_handler(&self) -> bool;

    /// True if it wants bytes now.
    fn wants_input(&self, core: &Core) -> bool;

    /// True while somebody waits for a message that was asked for.
    fn awaits_input(&self) -> bool;

    /// True while somebody waits for what only a connection can bring.
    fn awaits_connection(&self) -> bool;

    /// The connection was lost and may be made again: what comes next begins anew.
    fn lost(&mut self, core: &Core) -> Lost;

    /// Where a connection that may be made again leads.
    fn remote(&self) -> Option<Address>;

    /// Messages sent through it before they asked for an order.
    fn submitted(&self) -> u64;

    /// One of the answers it waited for has come.
    fn task_ended(&mut self);

    /// True while something it has begun must still be answered (an async handler).
    fn is_busy(&self) -> bool;

    /// True if an end of the peer's direction ends the connection (a Responder has nothing to say
    /// of its own accord).
    fn ends_with_input(&self) -> bool;

    /// The type of its framer. Runs no user code.
    fn framer(&self) -> TypeId;

    /// What the log calls it.
    fn name(&self) -> Rc<str>;

    /// For the typed verbs.
    fn as_any(&mut self) -> &mut dyn Any;
}

/// What a listening slot makes of an accepted connection.
pub(crate) trait Service {
    /// The typed half for one connection, or why there is none.
    fn open(&self, core: &Rc<Core>, id: Id) -> Result<Box<dyn Protocol>, CloseReason>;

    /// True if one more connection would find a place.
    fn takes_more(&self) -> bool {
        true
    }

    /// True if each sender of datagrams gets a Carrier; else one protocol serves the socket.
    fn serves_remotes_apart(&self) -> bool;

    /// The connection is in its slot and can be used.
    fn accepted(&self, core: &Rc<Core>, id: Id);
}
