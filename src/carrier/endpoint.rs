//! Endpoint: the typed half of a connection: a framer and whoever gets the Messages.
//!
//! Above: a Responder's handler, or a Carrier's inbox. Below: the shard calls it with bytes.
//! Absent: sockets, timers, threads. Bounds: see `Inbox` and `Limits`.

use std::any::{Any, TypeId};
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
use crate::message::Outcome;
use crate::shard::core::{Core, Id};
use crate::shard::protocol::{Call, Lost, Packing, Progress, Protocol, Verdict};

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
            if call.is_full() || !self.has_room_for_messages(call.core) {
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

impl<F: Framer> Protocol for Endpoint<F> {
    fn input(&mut self, call: &Call<'_>, bytes: &[u8], at_end: bool) -> Progress {
        let (progress, messages) = self.decode_all(call, bytes, at_end);
        call.core.metrics.received_messages.add(messages);
        // What nobody has asked for yet is a greeting, too.
        let came = messages > 0 || (progress.verdict == Verdict::Paused && !bytes.is_empty());
        if came && !self.greeted {
            self.greeted = true;
            // In use: it is in a call.
            let _ = call.core.change(call.id, |connection| connection.flags.greeted = true);
        }
        progress
    }

    fn takes_datagrams(&mut self) {
        if let Reader::Carrier(inbox) = &mut self.reader {
            inbox.takes_datagrams();
        }
        let fresh = self.way.framer.get_mut().clone();
        self.rare().fresh.get_or_insert(fresh);
    }

    fn datagram(&mut self, call: &Call<'_>, bytes: &[u8]) {
        match self.way.framer.get_mut().decode_datagram(bytes) {
            // Nobody can be told to send no more: each datagram is for itself.
            Ok(message) => {
                self.hand_over(call, message);
                call.core.metrics.received_messages.add(1);
            }
            Err(error) => {
                call.core.metrics.frame_errors.add(1);
                if call.core.may_log() {
                    tracing::debug!(%error, "a datagram was no message; it was dropped");
                }
                if let Some(fresh) = self.rare.as_ref().and_then(|rare| rare.fresh.as_ref()) {
                    self.way.framer = RefCell::new(fresh.clone());
                }
            }
        }
    }

    fn needs(&mut self, bytes: &[u8]) -> Option<usize> {
        let demand = self.demand(false);
        needs(self.way.framer.get_mut(), bytes, demand)
    }

    fn input_ended(&mut self, call: &Call<'_>, rest: usize) -> Verdict {
        let ended = self.way.framer.get_mut().end(rest);
        let verdict = match ended {
            Ok(None) => Verdict::More { needs: None },
            Ok(Some(message)) => {
                if self.hand_over(call, message) {
                    Verdict::More { needs: None }
                } else {
                    Verdict::Stop
                }
            }
            // Nobody ends in order within a Message.
            Err(_) if self.is_revivable() => return Verdict::Fail(CloseReason::Reset),
            Err(error) => {
                tracing::debug!(%error, "the peer ended within a message");
                Verdict::Fail(CloseReason::Framing)
            }
        };
        if let Reader::Carrier(inbox) = &mut self.reader {
            let reason = match verdict {
                Verdict::Fail(reason) => reason,
                _ => CloseReason::Finished,
            };
            inbox.end(reason);
        }
        verdict
    }

    fn opened(&mut self, call: &Call<'_>) {
        let Some(rare) = &mut self.rare else { return };
        for promise in rare.activating.drain(..) {
            promise.answer(Ok(()));
        }
        self.take_parcels(call);
    }

    fn writable(&mut self, call: &Call<'_>) {
        self.take_parcels(call);
        let Some(rare) = &mut self.rare else { return };
        for waker in rare.room.drain(..) {
            waker.wake();
        }
        if !rare.parcels.is_empty() {
            // In use: it is in a call.
            let _ = call.core.change(call.id, |connection| connection.flags.wants_room = true);
        }
    }

    fn closed(&mut self, core: &Rc<Core>, id: Id, reason: CloseReason) {
        if let Reader::Carrier(inbox) = &mut self.reader {
            inbox.end(reason);
        }
        self.break_off(core, Outcome::MayHaveArrived);
        let connecting = self.connecting();
        let words = super::here::unresolved(core, id);
        let Some(rare) = &mut self.rare else { return };
        let failure = || super::here::error_of(reason, connecting.as_deref(), words.as_deref());
        for promise in rare.activating.drain(..) {
            promise.answer(Err(failure()));
        }
        super::here::set_full(core, id, None);
        for (accepting, _) in rare.parcels.drain(..) {
            if accepting.claim() {
                accepting.answer(core, id, Err(failure()));
            }
        }
        for waker in rare.room.drain(..) {
            waker.wake();
        }
        for promise in rare.closing.drain(..) {
            let (address, words) = (connecting.as_deref(), words.as_deref());
            promise.answer(super::here::closed_in_order(reason, address, words));
        }
        // Each is called, whatever the one before it did: a panic is caught, counted and logged.
        for handler in rare.on_closed.drain(..) {
            core.guard(|| handler(reason));
        }
    }

    fn wants_input(&self, core: &Core) -> bool {
        self.has_room_for_messages(core)
    }

    fn awaits_input(&self) -> bool {
        match &self.reader {
            Reader::Respond(_) => false,
            Reader::Carrier(inbox) => inbox.is_awaited(),
        }
    }

    fn awaits_connection(&self) -> bool {
        let activating = self.rare.as_ref().is_some_and(|rare| !rare.activating.is_empty());
        activating || self.awaits_input()
    }

    fn lost(&mut self, core: &Core) -> Lost {
        self.break_off(core, Outcome::MayHaveArrived);
        if let Reader::Carrier(inbox) = &mut self.reader {
            inbox.reopen();
        }
        let heard = std::mem::take(&mut self.greeted);
        let Some(rare) = &mut self.rare else { return Lost { ends: Vec::new(), heard } };
        if let Some(fresh) = &rare.fresh {
            self.way.framer = RefCell::new(fresh.clone());
        }
        Lost { ends: rare.ends.iter().copied().collect(), heard }
    }

    fn remote(&self) -> Option<Address> {
        self.address()?.as_ref().ok().cloned()
    }

    fn is_busy(&self) -> bool {
        self.answering > 0
    }

    fn submitted(&self) -> u64 {
        self.way.submitted.get()
    }

    fn task_ended(&mut self) {
        self.answering = self.answering.saturating_sub(1);
    }

    fn ends_with_input(&self) -> bool {
        matches!(self.reader, Reader::Respond(_))
    }

    fn framer(&self) -> TypeId {
        TypeId::of::<F>()
    }

    fn name(&self) -> Rc<str> {
        match &self.reader {
            Reader::Respond(respond) => respond.name(),
            Reader::Carrier(_) => std::any::type_name::<F>().into(),
        }
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
