//! Endpoint: the typed half of a connection: a framer and whoever gets the Messages.
//!
//! Above: a Responder's handler, or a Carrier's inbox. Below: the shard calls it with bytes.
//! Absent: sockets, timers, threads. Bounds: see `Inbox` and `Limits`.

mod protocol;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use super::accepting::Accepting;
use super::inbox::Inbox;
use super::part::Demand;
use super::parts::Begun;
use super::posting::Parcel;
use super::promise::Promise;
use super::receipt::{Receipt, message_id};
use super::responder::{Reply, Respond, Responded};
use super::scheduled::Wishes;
use super::way::Way;
use super::way::encode;
use crate::address::Address;
use crate::error::{CloseReason, Error, Result};
use crate::framer::Framer;
use crate::shard::core::Core;
use crate::shard::protocol::{Call, Packing, Progress, Verdict};

/// Who gets the Messages.
pub(super) enum Reader<F: Framer> {
    Respond(Rc<dyn Respond<F>>),
    Carrier(Box<Inbox<F>>),
}

/// The typed half of one connection.
pub(super) struct Endpoint<F: Framer> {
    pub(super) way: Way<F>,
    reader: Reader<F>,
    /// Async handlers that have not answered.
    answering: u32,
    greeted: bool,
    rare: Option<Box<Rare<F>>>,
}

/// What only some connections have.
pub(super) struct Rare<F: Framer> {
    /// Where an initiated Carrier goes, or what is wrong with that.
    pub(super) address: Option<Result<Address, (String, String)>>,
    /// An initiated Carrier's framer as it was given, for forks and further connections.
    pub(super) fresh: Option<F>,
    pub(super) on_closed: Vec<Box<dyn FnOnce(CloseReason) + Send>>,
    pub(super) activating: Vec<Promise<()>>,
    pub(super) closing: Vec<Promise<()>>,
    /// Sends on this core that wait for room.
    pub(super) room: VecDeque<Waker>,
    /// Sends of other threads that wait for room, with their messages.
    pub(super) parcels: VecDeque<(Accepting, Parcel<F>)>,
    /// A lost connection is made again.
    pub(super) revivable: bool,
    /// The Message in parts that has the way out.
    pub(super) begun: Option<Begun>,
    /// Where Messages without wishes end in the stream, while there may be another connection:
    /// the last that has left, and all behind it.
    pub(super) ends: VecDeque<u64>,
}

impl<F: Framer> Default for Rare<F> {
    fn default() -> Self {
        Self {
            address: None,
            fresh: None,
            on_closed: Vec::new(),
            activating: Vec::new(),
            closing: Vec::new(),
            room: VecDeque::new(),
            parcels: VecDeque::new(),
            revivable: false,
            begun: None,
            ends: VecDeque::new(),
        }
    }
}

impl<F: Framer> Rare<F> {
    /// Has `waker` woken when there is room; a task that asks again waits once.
    pub(super) fn wait_for_room(&mut self, waker: Option<&Waker>) {
        if let Some(waker) = waker
            && !self.room.iter().any(|known| known.will_wake(waker))
        {
            self.room.push_back(waker.clone());
        }
    }

    /// Takes note of where a Message ends, and forgets what nobody will ask for.
    pub(super) fn note_end(&mut self, position: u64, left: u64) {
        if !self.revivable {
            return;
        }
        while self.ends.get(1).is_some_and(|end| *end <= left) {
            self.ends.pop_front();
        }
        if self.ends.back() != Some(&position) {
            self.ends.push_back(position);
        }
    }

    /// Keeps a send of another thread until there is room. Now and then those are thrown out
    /// whose future was dropped, so that a race of a send against a timer costs no memory.
    pub(super) fn park(&mut self, accepting: Accepting, parcel: Parcel<F>) {
        let len = self.parcels.len();
        if len >= 16 && len.is_power_of_two() {
            self.parcels.retain(|(accepting, _)| !accepting.is_withdrawn());
        }
        self.parcels.push_back((accepting, parcel));
    }
}

impl<F: Framer> Endpoint<F> {
    pub(super) fn new(framer: F, reader: Reader<F>) -> Self {
        let way = Way { framer: RefCell::new(framer), submitted: Cell::new(0) };
        Self { way, reader, answering: 0, greeted: false, rare: None }
    }

    /// An endpoint whose Messages wait in an inbox.
    pub(super) fn carrier(framer: F, core: &Core) -> Self {
        let inbox = Inbox::new(core.limits.receive_queue_messages);
        Self::new(framer, Reader::Carrier(Box::new(inbox)))
    }

    pub(super) fn rare(&mut self) -> &mut Rare<F> {
        self.rare.get_or_insert_default()
    }

    pub(super) fn rare_mut(&mut self) -> Option<&mut Rare<F>> {
        self.rare.as_deref_mut()
    }

    pub(super) fn rare_ref(&self) -> Option<&Rare<F>> {
        self.rare.as_deref()
    }

    pub(super) fn address(&self) -> Option<&Result<Address, (String, String)>> {
        self.rare.as_ref()?.address.as_ref()
    }

    /// Where an initiated Carrier connects to, in words.
    pub(super) fn connecting(&self) -> Option<String> {
        Some(self.address()?.as_ref().ok()?.to_string())
    }

    /// The inbox for one who would wait for a Message: an address that is none brings none.
    pub(super) fn inbox_to_wait(&mut self) -> Result<&mut Inbox<F>> {
        if let Some(Err((address, why))) = self.address() {
            return Err(Error::Address { address: address.clone(), why: why.clone() });
        }
        self.inbox()
    }

    /// The inbox; a Responder's connection has none.
    pub(super) fn inbox(&mut self) -> Result<&mut Inbox<F>> {
        match &mut self.reader {
            Reader::Carrier(inbox) => Ok(inbox),
            Reader::Respond(_) => {
                let what = "receive on a Responder's connection: its handler gets the messages";
                Err(Error::Unsupported(what.into()))
            }
        }
    }

    /// Sends a Message; its Receipt.
    #[inline]
    pub(super) fn push(
        &mut self,
        call: &Call<'_>,
        message: F::Out<'_>,
        mut wishes: Wishes,
    ) -> Result<Receipt> {
        if let Some(part) = wishes.part.take() {
            if call.packing != Packing::Stream {
                let what = "a message in parts over datagrams: each datagram is a whole one";
                return Err(Error::Unsupported(what.into()));
            }
            return self.push_part(call, message, part);
        }
        let scheduled = call.outgoing.borrow().is_some();
        if scheduled || wishes.are_some() || F::properties(&message).is_some() {
            return super::scheduled::submit::<F>(&self.way, call, message, wishes);
        }
        encode(&self.way, call, message)?;
        let number = self.way.submitted.get() + 1;
        self.way.submitted.set(number);
        let position = call.handed + call.outbox.borrow().len() as u64;
        if let Some(rare) = &mut self.rare {
            rare.note_end(position, call.left);
        }
        Ok(Receipt::plain(message_id(call.id, number), position))
    }

    /// Accepts what other threads sent, in order, as long as there is room.
    pub(super) fn take_parcels(&mut self, call: &Call<'_>) {
        while let Some(at) = self.next_parcel(call) {
            let parcel = self.rare.as_mut().and_then(|rare| rare.parcels.remove(at));
            let Some((accepting, parcel)) = parcel else { return };
            if accepting.claim() {
                let Parcel { message, wishes } = parcel;
                let pushed = self.push(call, message, wishes);
                accepting.answer(call.core, call.id, pushed);
            }
        }
        super::here::set_full(call.core, call.id, self.most_urgent_parcel());
    }

    pub(super) fn is_revivable(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.revivable)
    }

    /// True if Messages go to a handler, which is to find room for its answers. Who waits for a
    /// Message gets it however full the queue is: two peers whose queues are full would else wait
    /// for each other.
    pub(super) fn answers_by_handler(&self) -> bool {
        match &self.reader {
            Reader::Respond(_) => true,
            Reader::Carrier(inbox) => inbox.has_handler(),
        }
    }

    fn has_room_for_messages(&self, core: &Core) -> bool {
        match &self.reader {
            Reader::Respond(_) => {
                (self.answering as usize) < core.limits.async_handlers_per_connection
            }
            Reader::Carrier(inbox) => inbox.wants(),
        }
    }

    /// Hands one decoded message over; false if its taker wants no more at all.
    #[inline]
    fn hand_over(&mut self, call: &Call<'_>, message: F::In<'_>) -> bool {
        match &mut self.reader {
            Reader::Respond(respond) => {
                match respond.respond(message, Reply::new(&self.way, call)) {
                    Responded::Continue => true,
                    Responded::Stop => false,
                    Responded::Pause => {
                        self.answering += 1;
                        true
                    }
                }
            }
            Reader::Carrier(inbox) => {
                inbox.deliver(message);
                true
            }
        }
    }

    /// What the next Message is wanted as.
    #[inline]
    fn demand(&self, at_end: bool) -> Demand {
        match &self.reader {
            Reader::Respond(_) => Demand::Whole,
            Reader::Carrier(inbox) => match inbox.demand() {
                Demand::Part { max, .. } if at_end => Demand::Part { min: 1, max },
                demand => demand,
            },
        }
    }

    /// More bytes are needed, `needs` in all if that is known: now, or not before a receive.
    fn await_rest(&mut self, core: &Core, needs: Option<usize>) -> Verdict {
        let large = needs.is_some_and(|needs| needs >= core.limits.exact_receive_bytes);
        if large
            && let Reader::Carrier(inbox) = &mut self.reader
            && inbox.holds_large()
        {
            return Verdict::Paused;
        }
        Verdict::More { needs }
    }

    fn decode_all(&mut self, call: &Call<'_>, bytes: &[u8], at_end: bool) -> (Progress, u64) {
        let mut consumed = 0;
        let mut messages = 0;
        let verdict = loop {
            let held_up = self.answers_by_handler() && call.is_full();
            if held_up || !self.has_room_for_messages(call.core) {
                break Verdict::Paused;
            }
            let rest = &bytes[consumed..];
            let demand = self.demand(at_end);
            let framer = self.way.framer.get_mut();
            let decoded = match demand {
                Demand::Whole => framer.decode(rest),
                Demand::Part { min, max } => framer.decode_part(rest, min, max),
            };
            match decoded {
                Ok(Some((used, message))) if used > 0 && used <= rest.len() => {
                    consumed += used;
                    messages += 1;
                    if !self.hand_over(call, message) {
                        break Verdict::Stop;
                    }
                }
                Ok(None) if rest.is_empty() => break Verdict::More { needs: None },
                Ok(None) => {
                    let needs = needs(self.way.framer.get_mut(), rest, demand);
                    // A length that is there already is a lie: the limit of unknown lengths holds.
                    break self.await_rest(call.core, needs.filter(|needs| *needs > rest.len()));
                }
                Ok(Some((taken, _))) => {
                    if call.core.may_log() {
                        let (framer, given) = (std::any::type_name::<F>(), rest.len());
                        tracing::error!(framer, taken, given, "a framer took what it could not");
                    }
                    break Verdict::Fail(CloseReason::FramerBroken);
                }
                Err(error) => {
                    if call.core.may_log() {
                        tracing::warn!(%error, "the peer broke the framing; its carrier ends");
                    }
                    break Verdict::Fail(CloseReason::Framing);
                }
            }
        };
        (Progress { consumed, verdict }, messages)
    }
}

/// How many bytes the next Message or part needs in all, if that is known.
fn needs<F: Framer>(framer: &F, bytes: &[u8], demand: Demand) -> Option<usize> {
    match demand {
        Demand::Whole => framer.needs(bytes),
        Demand::Part { min, max } => framer.needs_part(bytes, min, max),
    }
}
