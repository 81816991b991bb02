//! Scheduler: which Message goes next, from niceness, lifetime and antecedents (draft §2.2).
//!
//! A Message is ready when all its antecedents are finished. Of the ready ones goes first, in this
//! order: the lowest niceness; the earliest deadline, none being the latest; the smallest
//! fairness tag (`fairness`); the smallest number. This rank is inherited: a Message others wait
//! for has the best rank among its own and theirs, for as long as they wait, so nobody urgent
//! waits behind somebody who is not. A Message that cannot arrive in time any more expires
//! instead of going, and takes along all that wait for it.
//!
//! Above: a shard, for each stack instance, submits, takes, finishes and polls events. Below:
//! `slots` (memory), `antecedents`, `fairness`, `ledger`; `outcome` has the ends.
//! Absent: bytes (a payload is any value, `bytes` its length as the stack counts it), clocks
//! (now is an argument), and what a peer has: finished means handed over.
//! Bounds: [`Bounds`] over queued Messages and events not polled together. An operation takes
//! O(log n), and as much again for each Message that it makes expire, makes ready or promotes.
//! What is allocated is used again.

mod antecedents;
mod fairness;
mod ledger;
#[cfg(test)]
mod model;
mod outcome;
#[cfg(test)]
mod properties;
mod slots;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use self::antecedents::{Fate, Links, Settled};
use self::fairness::Fairness;
use self::ledger::Ledger;
#[cfg(test)]
use self::ledger::Tally;
use self::outcome::Loss;
use self::slots::{KEPT_SLOTS, Slot, Slots, Stage};
pub(crate) use crate::message::{ANTECEDENTS_MAX, Expiry};

/// A Message of one scheduler: 1 for the first that was submitted, then upwards without gaps.
pub(crate) type Number = u64;

/// The deadline of a Message without one.
const NEVER_US: u64 = u64::MAX;

/// The limits of one scheduler, over all that is queued and all events that were not polled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Most Messages.
    pub(crate) messages: usize,
    /// At this many bytes it is full; one Message may overshoot it.
    pub(crate) bytes: usize,
}

/// What is asked for a Message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    /// Whose Message it is: Carriers of equal urgency share the path.
    pub(crate) carrier: u32,
    /// The class, 0 being the most urgent.
    pub(crate) niceness: u32,
    /// When the peer must have it, on the clock of `now_us`; `u64::MAX` is none.
    pub(crate) deadline_us: Option<u64>,
    /// What must be finished before; at most [`ANTECEDENTS_MAX`], repetitions included.
    pub(crate) antecedents: &'a [Number],
    /// Its length as it is handed over.
    pub(crate) bytes: usize,
}

/// Why `submit` did not take a Message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A bound is reached: try again when something was finished or an event was polled.
    Full,
    /// More than [`ANTECEDENTS_MAX`].
    TooManyAntecedents,
    /// Never submitted here, or settled so long ago that its outcome is forgotten.
    UnknownAntecedent(Number),
}

/// What is known of the path, for the question whether a Message can still arrive.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Path {
    /// What it carries; 0 is taken for unknown.
    pub(crate) rate_bytes_per_s: Option<u64>,
    /// How long a byte is under way.
    pub(crate) delay_us: u64,
    /// Handed over and not on the wire yet: it goes first.
    pub(crate) unsent_bytes: u64,
}

/// A piece of a Message, to be handed over now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The Message.
    pub(crate) number: Number,
    /// Where the piece starts in it, in bytes.
    pub(crate) from: usize,
    /// Its length in bytes; 0 only for an empty Message.
    pub(crate) len: usize,
    /// Whether the Message is complete with it. Then `finish` is due, or `withdraw`.
    pub(crate) last: bool,
}

/// What happened by itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<T> {
    /// A Message expired. Its antecedents' events came before.
    Expired {
        /// The Message.
        number: Number,
        /// Why. An antecedent is named by the number that failed, which may have been withdrawn.
        why: Expiry,
        /// Whether pieces of it were taken: the stack has to cut it short.
        begun: bool,
        /// What was submitted.
        payload: T,
    },
}

/// How urgent a Message is; the smallest goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    niceness: u32,
    deadline_us: u64,
    /// Compared only where the rest is equal; `fairness` says what it is.
    tag: u64,
}

impl Rank {
    const FIRST: Self = Self { niceness: 0, deadline_us: 0, tag: 0 };

    const fn has_deadline(&self) -> bool {
        self.deadline_us != NEVER_US
    }
}

/// Rank and number in two words, quicker to compare than four fields (102 ns a Message against 137
/// with ten queued).
type Turn = (u128, u128);

const fn turn(rank: &Rank, number: Number) -> Turn {
    let urgency = ((rank.niceness as u128) << 64) + rank.deadline_us as u128;
    (urgency, ((rank.tag as u128) << 64) + number as u128)
}

impl Path {
    /// Whether `bytes` more bytes, begun now, can be there at `deadline_us`.
    fn meets(&self, now_us: u64, deadline_us: u64, bytes: usize) -> bool {
        if deadline_us == NEVER_US {
            return true;
        }
        let ahead = u128::from(self.unsent_bytes) + bytes as u128;
        let rate = u128::from(self.rate_bytes_per_s.unwrap_or(0));
        let leaving_us = if rate == 0 { 0 } else { (ahead * 1_000_000).div_ceil(rate) };
        leaving_us + u128::from(self.delay_us) <= u128::from(deadline_us.saturating_sub(now_us))
    }
}

/// The Messages of one stack instance on their way out.
///
/// `submit` puts a Message in, `take` says what to hand over next, `finish` that it is done;
/// `poll_event` gives what expired. Every Message that was submitted ends once: finished,
/// expired, withdrawn or drained.
#[derive(Debug)]
pub(crate) struct Scheduler<T> {
    bounds: Bounds,
    interleaves: bool,
    next: Number,
    slots: Slots<T>,
    /// Ready and not wholly handed over.
    // B-trees, not heaps: what is next lies together, and comes in nearly in order, while a heap
    // of 100 000 misses the cache at every level (measured: 340 ns a Message against 640).
    ready: BTreeMap<Turn, Slot>,
    /// Those that may still expire, whether ready or not.
    deadlines: BTreeMap<(u64, Number), Slot>,
    links: Links,
    settled: Settled,
    fairness: Fairness,
    /// Where a stack does not interleave: the Message that is being handed over.
    begun: Option<Slot>,
    queued_bytes: usize,
    /// Events with the bytes of their Messages, which are held until they are polled.
    events: VecDeque<(usize, Event<T>)>,
    event_bytes: usize,
    ledger: Ledger,
    /// Scratch: whose rank has to be found anew, and who is to leave.
    unranked: BinaryHeap<(Number, Slot)>,
    leaving: VecDeque<(Slot, Loss)>,
}

impl<T> Scheduler<T> {
    /// For a stack that must finish what it has begun: a Message that was begun does not expire.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            interleaves: false,
            next: 1,
            slots: Slots::new(),
            ready: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            links: Links::default(),
            settled: Settled::default(),
            fairness: Fairness::default(),
            begun: None,
            queued_bytes: 0,
            events: VecDeque::new(),
            event_bytes: 0,
            ledger: Ledger::default(),
            unranked: BinaryHeap::new(),
            leaving: VecDeque::new(),
        }
    }

    /// For a stack that can send a piece of one Message between pieces of another and cut one
    /// short: until its last piece was taken, a Message is overtaken and expires like any other.
    #[cfg_attr(not(test), expect(dead_code, reason = "no stack that is there yet interleaves"))]
    pub(crate) fn new_interleaving(bounds: Bounds) -> Self {
        Self { interleaves: true, ..Self::new(bounds) }
    }

    /// Queues a Message. One whose deadline has come, or with an antecedent that failed, expires
    /// in this call: it has a number and an event.
    ///
    /// # Errors
    /// A [`Refusal`], and the payload back.
    pub(crate) fn submit(
        &mut self,
        now_us: u64,
        ask: Ask<'_>,
        payload: T,
    ) -> Result<Number, (Refusal, T)> {
        let failed = match self.check(&ask) {
            Ok(failed) => failed,
            Err(refusal) => {
                self.ledger.refused += 1;
                return Err((refusal, payload));
            }
        };
        let number = self.next;
        self.next += 1;
        self.ledger.submitted.count(ask.bytes);
        let deadline_us = ask.deadline_us.unwrap_or(NEVER_US);
        let mut own = Rank { niceness: ask.niceness, deadline_us, tag: 0 };
        own.tag = self.fairness.enter(ask.carrier, &own, ask.bytes);
        let slot = self.slots.insert(number, own, (ask.carrier, ask.bytes), payload);
        self.queued_bytes += ask.bytes;
        let past = (deadline_us <= now_us && own.has_deadline()).then_some(Expiry::Deadline);
        if let Some(why) = failed.map(Expiry::Antecedent).or(past) {
            self.lose(slot, Loss::Expired(why));
            return Ok(number);
        }
        if own.has_deadline() {
            self.deadlines.insert((deadline_us, number), slot);
        }
        self.link(slot, ask.antecedents);
        Ok(number)
    }

    /// The antecedent that failed, if one did.
    fn check(&self, ask: &Ask<'_>) -> Result<Option<Number>, Refusal> {
        if ask.antecedents.len() > ANTECEDENTS_MAX {
            return Err(Refusal::TooManyAntecedents);
        }
        let mut failed = None;
        for &number in ask.antecedents {
            if number == 0 || number >= self.next {
                return Err(Refusal::UnknownAntecedent(number));
            }
            if self.slots.find(number).is_some() {
                continue;
            }
            match self.settled.fate(number) {
                Fate::Sent => {}
                Fate::Failed => failed = failed.or(Some(number)),
                Fate::Forgotten => return Err(Refusal::UnknownAntecedent(number)),
            }
        }
        let held_bytes = self.queued_bytes + self.event_bytes;
        let fits = self.slots.len() + self.events.len() < self.bounds.messages.min(SLOTS_MAX)
            && held_bytes < self.bounds.bytes
            && held_bytes.checked_add(ask.bytes).is_some();
        if fits { Ok(failed) } else { Err(Refusal::Full) }
    }

    /// Has a new Message wait for those of `antecedents` that are queued; without any it is ready.
    fn link(&mut self, slot: Slot, antecedents: &[Number]) {
        for &number in antecedents {
            let Some(antecedent) = self.slots.find(number) else { continue };
            let entry = self.slots.at_mut(slot);
            if !entry.antecedents.contains(&antecedent) {
                entry.antecedents.push(antecedent);
                self.links.insert(antecedent, entry.own, slot);
                self.unranked.push((number, antecedent));
            }
        }
        let entry = self.slots.at(slot);
        if entry.antecedents.is_empty() {
            self.ready.insert(entry.turn(), slot);
        } else {
            self.rank_anew();
        }
    }

    /// What to hand over now: at most `quantum` bytes of one Message. Where the stack does not
    /// interleave, a Message once begun goes on until it is complete. Expires first whatever is
    /// past its deadline, and of the ready ones those that `path` could not bring there in time.
    /// `None` if nothing is ready or `quantum` is 0.
    pub(crate) fn take(&mut self, now_us: u64, path: &Path, quantum: usize) -> Option<Taken> {
        self.expire(now_us);
        if quantum == 0 {
            return None;
        }
        let slot = match self.begun {
            Some(slot) => slot,
            None => self.choose(now_us, path)?,
        };
        Some(self.hand_over(now_us, slot, quantum))
    }

    fn choose(&mut self, now_us: u64, path: &Path) -> Option<Slot> {
        loop {
            let (_, &slot) = self.ready.first_key_value()?;
            let entry = self.slots.at(slot);
            if path.meets(now_us, entry.own.deadline_us, entry.bytes - entry.taken) {
                return Some(slot);
            }
            self.lose(slot, Loss::Expired(Expiry::Hopeless));
        }
    }

    fn hand_over(&mut self, now_us: u64, slot: Slot, quantum: usize) -> Taken {
        let entry = self.slots.at_mut(slot);
        let from = entry.taken;
        let len = quantum.min(entry.bytes - from);
        entry.taken += len;
        let last = entry.taken == entry.bytes;
        self.fairness.serve(&entry.rank);
        self.ledger.hand_over(len);
        if entry.is_due(now_us) {
            // It was in time when it was begun: what went before is wasted with the rest.
            self.ledger.waste(if entry.late { len } else { entry.taken });
            entry.late = true;
        }
        let taken = Taken { number: entry.number, from, len, last };
        if last {
            entry.stage = Stage::InHand;
            self.begun = None;
        } else if self.interleaves {
            // The tag moves on with the bytes, so that equals take turns piece by piece.
            entry.own.tag = entry.own.tag.saturating_add(len as u64);
            self.unranked.push((entry.number, slot));
            self.rank_anew();
            return taken;
        } else {
            self.begun = Some(slot);
        }
        let (turn, expiry) = (entry.turn(), entry.expiry());
        self.ready.remove(&turn);
        self.deadlines.remove(&expiry);
        taken
    }

    /// Ends a Message whose last piece was handed over: it counts as sent, and those that waited
    /// only for it are ready. `None`, and nothing happens, if it is not at this point.
    pub(crate) fn finish(&mut self, number: Number) -> Option<T> {
        let slot = self.slots.find(number)?;
        let entry = self.slots.at(slot);
        if entry.stage != Stage::InHand {
            return None;
        }
        self.ledger.sent.count(entry.bytes);
        while let Some(successor) = self.links.pop(slot) {
            let entry = self.slots.at_mut(successor);
            entry.antecedents.retain(|&antecedent| antecedent != slot);
            if entry.antecedents.is_empty() {
                self.ready.insert(entry.turn(), successor);
            }
        }
        let payload = self.release(slot);
        self.give_back();
        Some(payload)
    }

    /// Expires whatever has reached its deadline, unless its last piece was taken, or its first
    /// where the stack does not interleave.
    pub(crate) fn expire(&mut self, now_us: u64) {
        while let Some((&(deadline_us, _), &slot)) = self.deadlines.first_key_value()
            && deadline_us <= now_us
        {
            self.lose(slot, Loss::Expired(Expiry::Deadline));
        }
    }

    /// Ends a Message that the stack could not send, or that nobody wants any more; what waits for
    /// it expires. `None` if it is not queued.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "no stack that is there yet gives Messages up")
    )]
    pub(crate) fn withdraw(&mut self, number: Number) -> Option<T> {
        let slot = self.slots.find(number)?;
        self.lose(slot, Loss::Withdrawn)
    }

    /// The next event, in the order in which they happened.
    pub(crate) fn poll_event(&mut self) -> Option<Event<T>> {
        let (bytes, event) = self.events.pop_front()?;
        self.event_bytes -= bytes;
        if self.events.is_empty() {
            self.events.shrink_to(KEPT_SLOTS);
        }
        Some(event)
    }

    /// When `expire` is due, if anything queued may expire.
    pub(crate) fn next_timeout_us(&self) -> Option<u64> {
        self.deadlines.first_key_value().map(|((deadline_us, _), _)| *deadline_us)
    }

    /// Messages without an outcome yet, those that are being handed over included.
    pub(crate) fn queued_messages(&self) -> usize {
        self.slots.len()
    }

    /// The bytes of those Messages, however much of them was handed over.
    pub(crate) const fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }
}

/// Slots are counted in u32.
const SLOTS_MAX: usize = u32::MAX as usize;
