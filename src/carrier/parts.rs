//! Parts: a Message that is sent in parts, with one handle for all of it (draft §2.2, Partial
//! Messages).
//!
//! Above: `begin` and the handle it gives. Below: each part goes straight to the outbox, for
//! nothing may stand between two of them; other Messages wait at the door meanwhile, and the first
//! part waits until what was queued before has gone. Absent: niceness and lifetime, which would
//! mean something else could come between. Bound: one such Message at a time on a Carrier.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::CarrierRef;
use super::endpoint::Endpoint;
use super::here::endpoint_of;
use super::receipt::{Receipt, message_id};
use super::scheduled::Wishes;
use super::send::Sending;
use crate::error::{CloseReason, Error, Result};
use crate::framer::Framer;
use crate::message::{Message, Outcome, Properties};
use crate::shard::core::Core;
use crate::shard::mail::{self, Mail};
use crate::shard::outgoing::{Outgoing, Parcel};
use crate::shard::protocol::Call;
use crate::shard::record::Record;

const NOT_BEGUN: u8 = 0;
const BEGUN: u8 = 1;
const COMPLETE: u8 = 2;
const BROKEN: u8 = 3;

/// One Message in parts, as its handle and its core know it.
pub(super) struct Progress {
    state: AtomicU8,
    record: Arc<Record>,
}

impl Progress {
    fn is(&self, state: u8) -> bool {
        self.state.load(Ordering::SeqCst) == state
    }

    fn set(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
    }
}

/// What makes a Message a part of a longer one.
pub(super) struct PartTag {
    progress: Arc<Progress>,
    complete: bool,
}

impl PartTag {
    /// True if an earlier part was sent.
    pub(super) fn goes_on(&self) -> bool {
        self.progress.is(BEGUN)
    }
}

/// The Message in parts that has the way out of a Carrier.
pub(super) struct Begun {
    progress: Arc<Progress>,
    number: u64,
}

/// A Message that is sent in parts: one handle for all of it.
///
/// Dropped after its first part and before its last, it aborts the Carrier where the framer
/// delimits Messages: nothing can follow half a Message.
///
/// ```no_run
/// use postring::{Carrier, LengthPrefixed, Properties};
/// # async fn example(carrier: Carrier<LengthPrefixed>) -> postring::Result<()> {
/// let mut picture = carrier.begin(Properties::new().total_len(6));
/// picture.send("Hel", false).await?;
/// let whole = picture.send("lo!", true).await?;
/// println!("{:?}", whole.sent().await);
/// # Ok(())
/// # }
/// ```
pub struct PartialMessage<F: Framer> {
    carrier: CarrierRef<F>,
    properties: Properties,
    progress: Arc<Progress>,
    /// A part was given to a future, maybe to the core, which may begin with it at any moment.
    offered: bool,
}

impl<F> CarrierRef<F>
where
    F: for<'m> Framer<Out<'m> = Message<'m>>,
{
    /// Begins a Message that is sent in parts, for content whose end is not there yet. A framer
    /// that writes the length first needs it beforehand: [`Properties::total_len`].
    ///
    /// From its first part to its last no other Message can leave this Carrier: `send` waits and
    /// `try_send` says Full on the Carrier's core; from another thread, which cannot know yet, it
    /// may take a Message that then waits at the core. The first part waits until the queue is
    /// empty.
    ///
    /// On a byte stream without frames ([`Unframed`](crate::Unframed)) the parts are as any
    /// others: what completes the one Message of the direction is [`CarrierRef::close`].
    pub fn begin(&self, properties: Properties) -> PartialMessage<F> {
        let progress = Progress { state: AtomicU8::new(NOT_BEGUN), record: Record::new(None) };
        PartialMessage { carrier: *self, properties, progress: Arc::new(progress), offered: false }
    }
}

impl<F> PartialMessage<F>
where
    F: for<'m> Framer<Out<'m> = Message<'m>>,
{
    /// Sends the next part; `complete` says that it is the last one, which may be empty. Resolves
    /// to the [`Receipt`] of the whole Message when the part is in the bounded queue; on a byte
    /// stream without frames to one of the part alone.
    ///
    /// # Errors
    /// [`Error::Message`] if the Message is complete already, was broken off by the loss of its
    /// connection, or has niceness, lifetime or antecedents; [`Error::Frame`] if the framer needs
    /// the length beforehand or was told another one; otherwise as [`CarrierRef::send`].
    pub fn send<'m>(&'m mut self, part: impl Into<Message<'m>>, complete: bool) -> Sending<'m, F> {
        self.offered = true;
        let part = part.into();
        let part = if complete { part } else { part.partial() };
        let part = match self.progress.is(NOT_BEGUN) {
            true => part.with_properties(self.properties.clone()),
            false => part,
        };
        let tag = PartTag { progress: Arc::clone(&self.progress), complete };
        self.carrier.sending(part, Wishes { part: Some(tag), ..Wishes::default() })
    }

    /// True if its last part was accepted.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.progress.is(COMPLETE)
    }
}

impl<F: Framer> std::fmt::Debug for PartialMessage<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartialMessage").field("carrier", &self.carrier).finish_non_exhaustive()
    }
}

impl<F: Framer> Drop for PartialMessage<F> {
    fn drop(&mut self) {
        let over = self.progress.is(COMPLETE) || self.progress.is(BROKEN);
        if over || !self.offered {
            return;
        }
        let (id, progress) = (self.carrier.id, Arc::clone(&self.progress));
        let give_up = move |core: &std::rc::Rc<Core>| {
            let holds = core.call(id, |protocol, _| {
                let begun = endpoint_of::<F>(protocol).ok()?.rare_ref()?.begun.as_ref()?;
                Some(Arc::ptr_eq(&begun.progress, &progress))
            });
            if holds == Ok(Some(true)) {
                core.fail(id, CloseReason::Aborted);
            }
        };
        match Core::current_is(id.unit) {
            // Maybe inside a call into this very connection: after it.
            Some(core) => core.defer(give_up),
            None => mail::post_patiently(id.unit, Mail::Errand(Box::new(give_up))),
        }
    }
}

impl<F: Framer> Endpoint<F> {
    /// True if a Message may be pushed now; false if it has to wait.
    pub(super) fn admits(
        &self,
        call: &Call<'_>,
        niceness: u32,
        part: Option<&PartTag>,
    ) -> Result<bool> {
        let begun = self.rare_ref().and_then(|rare| rare.begun.as_ref());
        let Some(PartTag { progress, .. }) = part else {
            return Ok(begun.is_none() && !call.is_full_for(niceness));
        };
        let wrong = match progress.state.load(Ordering::SeqCst) {
            COMPLETE => "its last part was sent already",
            BROKEN => "its connection was lost between two parts; begin it again",
            _ => {
                let mine = begun.is_some_and(|begun| Arc::ptr_eq(&begun.progress, progress));
                let outgoing = call.outgoing.borrow();
                let waits = outgoing.as_ref().is_some_and(|outgoing| outgoing.has_queued());
                let first = begun.is_none() && (!waits || progress.is(BEGUN));
                return Ok((mine || first) && !call.is_full());
            }
        };
        Err(Error::Message(format!("a message in parts: {wrong}")))
    }

    /// The next of the sends of other threads that may go now. While a Message in parts has the
    /// way, only its parts go; one that waits for the way lets nobody past.
    pub(super) fn next_parcel(&self, call: &Call<'_>) -> Option<usize> {
        let rare = self.rare_ref()?;
        for (at, (accepting, parcel)) in rare.parcels.iter().enumerate() {
            let part = parcel.wishes.part.as_ref();
            let niceness = super::send::niceness_of::<F>(&parcel.message, &parcel.wishes);
            // What can never go is answered so.
            if accepting.is_withdrawn() || self.admits(call, niceness, part).unwrap_or(true) {
                return Some(at);
            }
            rare.begun.as_ref()?;
        }
        None
    }

    /// Sends a part.
    pub(super) fn push_part(
        &mut self,
        call: &Call<'_>,
        message: F::Out<'_>,
        tag: PartTag,
    ) -> Result<Receipt> {
        let PartTag { progress, complete } = tag;
        let properties = F::properties(&message);
        let orders = |properties: &Properties| {
            let Properties { niceness, lifetime, antecedents, .. } = properties;
            *niceness > 0 || lifetime.is_some() || !antecedents.is_empty()
        };
        if properties.is_some_and(orders) {
            let why = "a message in parts has no niceness, lifetime or antecedents on this stack: \
                       nothing can come between its parts";
            return Err(Error::Message(why.into()));
        }
        let within = {
            let mut outbox = call.outbox.borrow_mut();
            let mark = outbox.mark();
            let mut framer = self.way.framer.borrow_mut();
            if let Err(error) = framer.encode(message, &mut outbox) {
                outbox.rewind(mark);
                return Err(error.into());
            }
            framer.is_within_message()
        };
        let known = self.rare_ref().and_then(|rare| rare.begun.as_ref()).map(|begun| begun.number);
        let number = match known {
            Some(number) => number,
            None => self.number(call)?,
        };
        progress.set(if complete { COMPLETE } else { BEGUN });
        if !within && !complete {
            // Nothing delimits Messages here: its word is its own, for the whole has no end.
            return Ok(self.part_alone(call, number));
        }
        let receipt = Receipt::tracked(message_id(call.id, number), Arc::clone(&progress.record));
        if complete {
            self.complete_part(call, number, &progress);
        }
        let begun = within.then_some(Begun { progress, number });
        let released = self.rare().begun.take().is_some() && begun.is_none();
        self.rare().begun = begun;
        if released {
            let id = call.id;
            // Those that wait at the door; gone is gone.
            call.core.defer(move |core| {
                let _ = core.call(id, |protocol, call| protocol.writable(call));
            });
        }
        Ok(receipt)
    }

    /// The Receipt of a part that is a Message of its own.
    fn part_alone(&mut self, call: &Call<'_>, number: u64) -> Receipt {
        let message = message_id(call.id, number);
        let position = call.handed + call.outbox.borrow().len() as u64;
        let mut outgoing = call.outgoing.borrow_mut();
        let Some(outgoing) = outgoing.as_mut() else {
            call.sent_messages.set(call.sent_messages.get() + 1);
            return Receipt::plain(message, position);
        };
        let record = Record::new(None);
        outgoing.announce(number, position, Arc::clone(&record));
        outgoing.left(call.left);
        Receipt::tracked(message, record)
    }

    /// A number for a Message that does not wait for its turn.
    fn number(&self, call: &Call<'_>) -> Result<u64> {
        let mut outgoing = call.outgoing.borrow_mut();
        let Some(outgoing) = outgoing.as_mut() else {
            let number = self.way.submitted.get() + 1;
            self.way.submitted.set(number);
            return Ok(number);
        };
        let submitted = outgoing.submit(call.core.now_us(), None, &[], Parcel::place());
        submitted.map_err(|_| Error::Message("Limits::scheduled_messages wait already".into()))
    }

    fn complete_part(&mut self, call: &Call<'_>, number: u64, progress: &Progress) {
        call.core.metrics.sent_messages.add(1);
        let position = call.handed + call.outbox.borrow().len() as u64;
        self.rare().note_end(position, call.left);
        let messages_max = call.core.limits.scheduled_messages;
        let submitted = self.way.submitted.get();
        let mut outgoing = call.outgoing.borrow_mut();
        let outgoing =
            outgoing.get_or_insert_with(|| Box::new(Outgoing::new(submitted, messages_max)));
        outgoing.announce(number, position, Arc::clone(&progress.record));
        // An empty last part may come when all the others have left.
        outgoing.left(call.left);
    }

    /// The connection is gone in the middle of a Message in parts.
    pub(super) fn break_off(&mut self, core: &Core, outcome: Outcome) {
        let Some(begun) = self.rare_mut().and_then(|rare| rare.begun.take()) else { return };
        begun.progress.set(BROKEN);
        let (actions, _) = begun.progress.record.settle(outcome);
        for action in actions {
            core.defer(move |_| action.run());
        }
    }
}
