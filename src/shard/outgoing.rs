//! Outgoing: the way out of one connection whose Messages ask for an order, a deadline or word of
//! what became of them (draft §2.2, §4.2).
//!
//! Above: verbs submit framed Messages; Receipts and callbacks hear of them. Below: the scheduler
//! says which is next, the outbox takes a quantum of them at a time. A connection without one
//! writes straight into its outbox.
//! Absent: framers, system calls, clocks (`now_us` is an argument).
//! Bounds: `Limits::send_queue_bytes` per class and twice that in all,
//! `Limits::scheduled_messages`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

mod drain;
mod pacing;
mod resending;

use self::drain::Drain;
use self::resending::{Again, Resending};
use super::events::{Listeners, Report};
use super::record::{Action, Record};
use crate::engine::operation::PathSample;
use crate::engine::socket_option::SocketOption;
use crate::error::CloseReason;
use crate::framer::Output;
use crate::message::{Expiry, Outcome};
use crate::scheduler::{self, Ask, Bounds, Event, Refusal, Scheduler};

/// A path is measured again after this long.
const SAMPLE_US: u64 = 5_000;
/// One framed Message that waits.
pub(crate) struct Parcel {
    pub(crate) output: Output,
    pub(crate) record: Option<Arc<Record>>,
    pub(crate) niceness: u32,
    pub(crate) immediate: bool,
    pub(crate) idempotent: bool,
    pub(crate) deadline_us: Option<u64>,
    /// The numbers of its antecedents, if it may be sent again.
    pub(crate) relies_on: Box<[u64]>,
}

impl Parcel {
    /// No Message, but a place in the order, for one that leaves by itself.
    pub(crate) fn place() -> Self {
        Self {
            output: Output::default(),
            record: None,
            niceness: 0,
            immediate: false,
            idempotent: false,
            deadline_us: None,
            relies_on: Box::default(),
        }
    }

    fn is_place(&self) -> bool {
        self.record.is_none() && self.output.is_empty()
    }
}

/// One Message that was handed over, until the kernel has it (and the peer, if that was asked).
struct Handed {
    number: u64,
    /// Where its last byte stands in the stream.
    position: u64,
    record: Option<Arc<Record>>,
    /// It was sent before there was an order: only its Receipt hears of it.
    private: bool,
    /// It may be sent again until the peer has it.
    again: Option<Box<Again>>,
}

/// What a quantum is filled with.
pub(crate) struct Filling<'a> {
    pub(crate) now_us: u64,
    /// Bytes handed to the driver so far.
    pub(crate) handed: u64,
    /// Bytes that may be kept to be sent again.
    pub(crate) copies_max: usize,
    pub(crate) outbox: &'a mut Box<Output>,
}

/// The ordered way out of one connection.
pub(crate) struct Outgoing {
    scheduler: Scheduler<Parcel>,
    /// Messages that were sent before there was an order.
    base: u64,
    /// Bytes waiting, by class.
    classes: BTreeMap<u32, usize>,
    handed: VecDeque<Handed>,
    unacknowledged: VecDeque<Handed>,
    resending: Resending,
    reports: Vec<Report>,
    pub(crate) listeners: Listeners,
    path: Option<PathSample>,
    /// What the socket takes, where nobody measures a path.
    drain: Drain,
    sampled_us: Option<u64>,
    /// Where the stream stood when the path was found empty.
    idle_at: Option<u64>,
    /// Niceness or lifetime was used: what is handed over is kept short.
    paced: bool,
    /// The socket knows.
    tuned: bool,
    /// What the kernel may hold unsent.
    unsent_max: u32,
    /// The most urgent class of which a Message has left.
    best_niceness: Option<u32>,
    expires: bool,
}

impl Report {
    fn of(handed: &Handed, outcome: Outcome) -> Self {
        let Handed { number, record, private, .. } = handed;
        Self { number: *number, record: record.clone(), outcome, private: *private, remains: None }
    }
}

impl Outgoing {
    pub(crate) fn new(base: u64, messages_max: usize) -> Self {
        let bounds = Bounds { messages: messages_max, bytes: usize::MAX };
        Self {
            scheduler: Scheduler::new(bounds),
            base,
            classes: BTreeMap::new(),
            handed: VecDeque::new(),
            unacknowledged: VecDeque::new(),
            resending: Resending::default(),
            reports: Vec::new(),
            listeners: Listeners::default(),
            path: None,
            drain: Drain::default(),
            sampled_us: None,
            idle_at: None,
            paced: false,
            tuned: false,
            unsent_max: 0,
            best_niceness: None,
            expires: false,
        }
    }

    /// Queues a framed Message; its number on the Carrier.
    pub(crate) fn submit(
        &mut self,
        now_us: u64,
        deadline_us: Option<u64>,
        antecedents: &[u64],
        mut parcel: Parcel,
    ) -> Result<u64, (Refusal, Box<Parcel>)> {
        if parcel.idempotent {
            parcel.relies_on = antecedents.into();
        }
        let (niceness, bytes) = (parcel.niceness, parcel.output.len());
        let mut numbers = [0; scheduler::ANTECEDENTS_MAX];
        let mut count = 0;
        // What was sent before there was an order has left in front of everything.
        for number in antecedents.iter().filter(|number| **number > self.base) {
            let Some(place) = numbers.get_mut(count) else {
                return Err((Refusal::TooManyAntecedents, Box::new(parcel)));
            };
            *place = number - self.base;
            count += 1;
        }
        let antecedents = &numbers[..count];
        let ask = Ask { carrier: 0, niceness, deadline_us, antecedents, bytes };
        let submitted = self.scheduler.submit(now_us, ask, parcel);
        let number = submitted.map_err(|(refusal, parcel)| (refusal, Box::new(parcel)))?;
        *self.classes.entry(niceness).or_default() += bytes;
        self.paced |= niceness > 0 || deadline_us.is_some();
        self.expires |= deadline_us.is_some();
        self.collect();
        Ok(self.base + number)
    }

    /// Has the kernel told when a Message that was handed over earlier has left.
    pub(crate) fn watch(&mut self, number: u64, position: u64, record: Arc<Record>) {
        self.note(number, position, record, true);
    }

    /// Has everybody told when a Message has left that did not wait for its turn.
    pub(crate) fn announce(&mut self, number: u64, position: u64, record: Arc<Record>) {
        self.note(number, position, record, false);
    }

    fn note(&mut self, number: u64, position: u64, record: Arc<Record>, private: bool) {
        record.handed_over(position);
        let handed = Handed { number, position, record: Some(record), private, again: None };
        let at = self.handed.partition_point(|other| other.position <= position);
        self.handed.insert(at, handed);
    }

    /// A Message that has left is also to be reported when the peer has it; nobody can know that of
    /// one that left on a connection which was `lost`.
    pub(crate) fn watch_ack(
        &mut self,
        number: u64,
        position: u64,
        record: Arc<Record>,
        lost: bool,
    ) {
        let known = self.handed.iter().chain(&self.unacknowledged);
        let mut known = known.chain(self.resending.waiting());
        let is_it = |known: &Arc<Record>| Arc::ptr_eq(known, &record);
        if known.any(|handed| handed.record.as_ref().is_some_and(is_it)) {
            return;
        }
        let record = Some(record);
        let handed = Handed { number, position, record, private: true, again: None };
        if lost {
            self.reports.push(Report::of(&handed, Outcome::MayHaveArrived));
        } else {
            let at = self.unacknowledged.partition_point(|other| other.position <= position);
            self.unacknowledged.insert(at, handed);
        }
    }

    /// True if a Message of this class finds no room. A more urgent one than the worst that waits
    /// may use a reserve as large as the queue: or bulk would hold it up at the door.
    pub(crate) fn is_full_for(
        &self,
        niceness: u32,
        outbox: usize,
        bytes_max: usize,
        messages_max: usize,
    ) -> bool {
        let waiting = outbox + self.queued_bytes();
        let urgent = self.classes.last_key_value().is_some_and(|(worst, _)| niceness < *worst);
        let at_least = self.classes.range(..=niceness).map(|(_, bytes)| bytes).sum::<usize>();
        let full = if urgent {
            at_least >= bytes_max || waiting >= bytes_max.saturating_mul(2)
        } else {
            waiting >= bytes_max
        };
        full || self.scheduler.queued_messages() >= messages_max
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.scheduler.queued_bytes()
    }

    /// The most urgent class of which a Message has left.
    pub(crate) const fn best_niceness(&self) -> Option<u32> {
        self.best_niceness
    }

    pub(crate) fn has_queued(&self) -> bool {
        self.scheduler.queued_messages() > 0
    }

    /// If what is handed to the kernel is kept short: how many bytes at a time.
    pub(crate) fn paced_quantum(&self) -> Option<u32> {
        self.paced.then(|| self.quantum_after(&Output::default()) as u32)
    }

    /// What the socket is to be told, once: when pacing begins.
    pub(crate) fn tune(&mut self, unsent_bytes: u32) -> Option<SocketOption> {
        self.unsent_max = unsent_bytes;
        let begins = self.paced && !std::mem::replace(&mut self.tuned, self.paced);
        begins.then_some(SocketOption::UnsentLimit(unsent_bytes))
    }

    /// True if the path should be measured before the next quantum.
    pub(crate) fn wants_sample(&self, now_us: u64) -> bool {
        self.paced && self.sampled_us.is_none_or(|at| now_us.saturating_sub(at) >= SAMPLE_US)
    }

    /// The path as it is now, `handed` bytes into the stream.
    pub(crate) fn sample(&mut self, now_us: u64, handed: u64, path: Option<PathSample>) {
        self.sampled_us = Some(now_us);
        self.idle_at = path.filter(|path| path.unacknowledged_bytes == 0).map(|_| handed);
        self.path = path;
    }

    /// Moves what is to leave next into the outbox: whole Messages, until a quantum is full. A
    /// frame once begun is finished on a stack that cannot interleave.
    pub(crate) fn fill(&mut self, filling: Filling<'_>) {
        let Filling { now_us, handed, copies_max, outbox } = filling;
        if self.tuned && self.path.is_none() {
            self.drain.ask(now_us);
        }
        let mut path = self.path();
        let known = (path.rate_bytes_per_s, path.unsent_bytes);
        while outbox.len() < self.quantum_after(outbox) {
            // An empty path is not judged by what it carried once: a rate that was low for a moment
            // would stay the last one known for ever. The first Message measures it anew.
            let is_idle = outbox.is_empty() && self.idle_at == Some(handed);
            path.rate_bytes_per_s = known.0.filter(|_| !is_idle);
            path.unsent_bytes = known.1 + outbox.len() as u64;
            let Some(taken) = self.scheduler.take(now_us, &path, usize::MAX) else { break };
            let Some(mut parcel) = self.scheduler.finish(taken.number) else { break };
            self.leave_class(&parcel);
            let number = self.base + taken.number;
            if parcel.is_place() {
                // Only a place in the order: what stands for it leaves by itself.
                continue;
            }
            let (immediate, niceness) = (parcel.immediate, parcel.niceness);
            let again = self.resending.copy(&mut parcel, copies_max);
            let Parcel { mut output, record, .. } = parcel;
            if outbox.is_empty() {
                **outbox = output
            } else {
                outbox.append(&mut output)
            }
            let position = handed + outbox.len() as u64;
            if let Some(record) = &record {
                record.handed_over(position);
            }
            self.handed.push_back(Handed { number, position, record, private: false, again });
            self.best_niceness = Some(self.best_niceness.map_or(niceness, |b| b.min(niceness)));
            if immediate {
                break;
            }
        }
        if self.tuned && self.path.is_none() {
            self.drain.give(now_us, outbox.len() as u64, self.has_queued());
        }
        self.collect();
    }

    fn leave_class(&mut self, parcel: &Parcel) {
        if let Some(bytes) = self.classes.get_mut(&parcel.niceness) {
            *bytes = bytes.saturating_sub(parcel.output.len());
            if *bytes == 0 {
                self.classes.remove(&parcel.niceness);
            }
        }
    }

    /// Lets expire what is past its deadline.
    pub(crate) fn expire(&mut self, now_us: u64) {
        self.scheduler.expire(now_us);
        self.expire_resends(now_us);
        self.collect();
    }

    pub(crate) fn next_timeout_us(&self) -> Option<u64> {
        if !self.expires {
            return None;
        }
        let resending = self.resending.next_timeout_us();
        self.scheduler.next_timeout_us().into_iter().chain(resending).min()
    }

    fn collect(&mut self) {
        while let Some(Event::Expired { number, why, payload, .. }) = self.scheduler.poll_event() {
            self.leave_class(&payload);
            let why = match why {
                Expiry::Antecedent(number) => Expiry::Antecedent(self.base + number),
                other => other,
            };
            self.reports.push(Report {
                number: self.base + number,
                record: payload.record,
                outcome: Outcome::Expired(why),
                private: false,
                remains: Some(payload.output),
            });
        }
    }

    /// The kernel has answered a send.
    pub(crate) fn taken(&mut self, now_us: u64) {
        self.drain.take(now_us);
    }

    /// The kernel has everything up to `position`.
    pub(crate) fn left(&mut self, position: u64) {
        while self.handed.front().is_some_and(|handed| handed.position <= position) {
            let Some(handed) = self.handed.pop_front() else { return };
            self.resending.left(handed.position);
            self.reports.push(Report::of(&handed, Outcome::Sent));
            let asked = handed.record.as_ref().is_some_and(|record| record.wants_ack());
            if asked || self.listeners.want_acks() || handed.again.is_some() {
                self.unacknowledged.push_back(handed);
            }
        }
    }

    /// Of what was handed over up to `position`, nobody knows what has left.
    pub(crate) fn may_have_left(&mut self, position: u64) {
        while self.handed.front().is_some_and(|handed| handed.position <= position) {
            let Some(handed) = self.handed.pop_front() else { return };
            self.reports.push(Report::of(&handed, Outcome::MayHaveArrived));
        }
    }

    pub(crate) fn awaits_acks(&self) -> bool {
        !self.unacknowledged.is_empty()
    }

    /// The peer's kernel has everything up to `position`; `None`: this stack cannot tell.
    pub(crate) fn acknowledged(&mut self, position: Option<u64>) {
        let (until, outcome) = match position {
            Some(position) => (position, Outcome::Acked),
            None => (u64::MAX, Outcome::Unsupported),
        };
        self.resending.acknowledged(position);
        while self.unacknowledged.front().is_some_and(|handed| handed.position <= until) {
            let Some(handed) = self.unacknowledged.pop_front() else { return };
            let mut report = Report::of(&handed, outcome);
            report.remains = self.resending.forget(handed.again);
            self.reports.push(report);
        }
    }

    /// The connection is over: whatever waits has failed, whatever was under way may have arrived.
    /// Up to `given` the stream was given to the driver.
    pub(crate) fn end(&mut self, reason: CloseReason, given: u64) {
        let base = self.base;
        let under_way = self.resending.drain().into_iter().chain(self.unacknowledged.drain(..));
        let under_way = under_way.map(|handed| (Outcome::MayHaveArrived, handed));
        let handed = self.handed.drain(..).map(|handed| match handed.position > given {
            true => (Outcome::Failed(reason), handed),
            false => (Outcome::MayHaveArrived, handed),
        });
        self.reports.extend(under_way.chain(handed).map(|(outcome, handed)| {
            let report = Report::of(&handed, outcome);
            Report { remains: handed.again.map(|again| again.into_output()), ..report }
        }));
        let waiting = self.scheduler.drain().filter(|(_, parcel)| !parcel.is_place());
        self.reports.extend(waiting.map(|(number, parcel)| Report {
            number: base + number,
            record: parcel.record,
            outcome: Outcome::Failed(reason),
            private: false,
            remains: Some(parcel.output),
        }));
        self.classes.clear();
    }

    pub(crate) fn has_reports(&self) -> bool {
        !self.reports.is_empty()
    }

    /// True if the loop has something to do for it.
    pub(crate) fn needs_attention(&self) -> bool {
        self.has_queued() || self.has_reports()
    }

    pub(crate) fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }
}

impl Drop for Outgoing {
    /// Only a core that broke down has not told everybody by now.
    fn drop(&mut self) {
        self.end(CloseReason::Shutdown, u64::MAX);
        for Report { record, outcome, .. } in self.take_reports() {
            let settled = record.map(|record| record.settle(outcome));
            settled.into_iter().flat_map(|(actions, _)| actions).for_each(Action::run);
        }
    }
}

#[cfg(test)]
mod tests;
