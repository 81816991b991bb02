//! Outgoing: the way out of one connection whose Messages ask for an order, a deadline or word of
//! what became of them (draft §2.2, §4.2).
//!
//! Above: verbs submit framed Messages; Receipts and callbacks hear of them. Below: the scheduler
//! says which is next, the outbox takes a quantum of them at a time. A connection without one
//! writes straight into its outbox.
//! Absent: framers, system calls, clocks (`now_us` is an argument).
//! Bounds: `Limits::send_queue_bytes` per class and twice that in all,
//! `Limits::scheduled_messages`.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use super::record::{Action, Record};
use crate::engine::operation::{PathSample, SocketOption};
use crate::error::CloseReason;
use crate::framer::Output;
use crate::message::{Expiry, Outcome};
use crate::scheduler::{self, Ask, Bounds, Event, Number, Refusal, Scheduler};

/// A quantum holds what the path carries in this time: an urgent Message waits no longer for one
/// that has begun.
const QUANTUM_US: u64 = 100;
const QUANTUM_BYTES_MIN: usize = 1400;
const QUANTUM_BYTES_MAX: usize = 64 << 10;
/// A path is measured again after this long.
const SAMPLE_US: u64 = 5_000;
/// A stack without measurements carries quanta of this size.
const QUANTUM_BYTES_UNKNOWN: usize = 16 << 10;

/// One framed Message that waits.
pub(crate) struct Parcel {
    pub(crate) output: Output,
    pub(crate) record: Option<Arc<Record>>,
    pub(crate) niceness: u32,
    pub(crate) immediate: bool,
    pub(crate) idempotent: bool,
    pub(crate) deadline_us: Option<u64>,
}

/// One Message that was handed over, until the kernel has it (and the peer, if that was asked).
struct Handed {
    number: u64,
    /// Where its last byte stands in the stream.
    position: u64,
    record: Option<Arc<Record>>,
    /// It may be sent again until the peer has it: its bytes, and until when.
    again: Option<Box<Again>>,
}

/// A Message that may be sent again.
struct Again {
    output: Output,
    deadline_us: Option<u64>,
}

/// Word of one Message, to be delivered outside every borrow.
pub(crate) struct Report {
    pub(crate) number: u64,
    pub(crate) record: Option<Arc<Record>>,
    pub(crate) outcome: Outcome,
    /// What is left of it; its drop may run user code.
    pub(crate) remains: Option<Output>,
}

/// A Carrier's own handler for one kind of event: it gets the Message's number.
pub(crate) type Handler = Rc<RefCell<dyn FnMut(u64)>>;

/// A Carrier's default handlers (draft §3.2: `OnSent`, `OnAcked`, `OnExpired`).
#[derive(Default)]
pub(crate) struct Handlers {
    pub(crate) sent: Option<Handler>,
    pub(crate) acked: Option<Handler>,
    pub(crate) expired: Option<Handler>,
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
    /// Handed to a connection that was lost, to be sent again on the next one.
    resends: Vec<Handed>,
    /// Bytes of all that may be sent again.
    copied: usize,
    /// Where the last of those that have left ends.
    left_end: u64,
    reports: Vec<Report>,
    pub(crate) handlers: Handlers,
    path: Option<PathSample>,
    sampled_us: Option<u64>,
    /// Niceness or lifetime was used: what is handed over is kept short.
    paced: bool,
    /// The socket knows.
    tuned: bool,
    /// The lowest class in use has this traffic class on its packets.
    best_niceness: Option<u32>,
    expires: bool,
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
            resends: Vec::new(),
            copied: 0,
            left_end: 0,
            reports: Vec::new(),
            handlers: Handlers::default(),
            path: None,
            sampled_us: None,
            paced: false,
            tuned: false,
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
        parcel: Parcel,
    ) -> Result<u64, (Refusal, Parcel)> {
        let (niceness, bytes) = (parcel.niceness, parcel.output.len());
        let mut numbers = [0; scheduler::ANTECEDENTS_MAX];
        let mut count = 0;
        // What was sent before there was an order has left in front of everything.
        for number in antecedents.iter().filter(|number| **number > self.base) {
            let Some(place) = numbers.get_mut(count) else {
                return Err((Refusal::TooManyAntecedents, parcel));
            };
            *place = number - self.base;
            count += 1;
        }
        let antecedents = &numbers[..count];
        let ask = Ask { carrier: 0, niceness, deadline_us, antecedents, bytes };
        let number = self.scheduler.submit(now_us, ask, parcel)?;
        *self.classes.entry(niceness).or_default() += bytes;
        self.paced |= niceness > 0 || deadline_us.is_some();
        self.expires |= deadline_us.is_some();
        self.collect();
        Ok(self.base + number)
    }

    /// Has the kernel told when a Message that was handed over earlier has left.
    pub(crate) fn watch(&mut self, number: u64, position: u64, record: Arc<Record>) {
        record.handed_over(position);
        let handed = Handed { number, position, record: Some(record), again: None };
        let at = self.handed.partition_point(|other| other.position <= position);
        self.handed.insert(at, handed);
    }

    /// A Message that has left is also to be reported when the peer has it.
    pub(crate) fn watch_ack(
        &mut self,
        number: u64,
        position: u64,
        record: Arc<Record>,
        on_a_lost_connection: bool,
    ) {
        let known = self.handed.iter().chain(&self.unacknowledged).chain(&self.resends);
        if known.into_iter().any(|handed| handed.number == number) {
            return;
        }
        if on_a_lost_connection {
            let (record, outcome) = (Some(record), Outcome::MayHaveArrived);
            self.reports.push(Report { number, record, outcome, remains: None });
        } else {
            let handed = Handed { number, position, record: Some(record), again: None };
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
            at_least >= bytes_max || waiting >= bytes_max * 2
        } else {
            waiting >= bytes_max
        };
        full || self.scheduler.queued_messages() >= messages_max
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.scheduler.queued_bytes()
    }

    pub(crate) fn has_queued(&self) -> bool {
        self.scheduler.queued_messages() > 0
    }

    pub(crate) const fn is_paced(&self) -> bool {
        self.paced
    }

    /// What the socket is to be told, once: when pacing begins.
    pub(crate) fn tune(&mut self, unsent_bytes: u32) -> Option<SocketOption> {
        let begins = self.paced && !std::mem::replace(&mut self.tuned, self.paced);
        begins.then_some(SocketOption::UnsentLimit(unsent_bytes))
    }

    /// True if the path should be measured before the next quantum.
    pub(crate) fn wants_sample(&self, now_us: u64) -> bool {
        self.paced && self.sampled_us.is_none_or(|at| now_us.saturating_sub(at) >= SAMPLE_US)
    }

    pub(crate) fn sample(&mut self, now_us: u64, path: Option<PathSample>) {
        self.sampled_us = Some(now_us);
        self.path = path;
    }

    fn quantum(&self) -> usize {
        match self.path.and_then(|path| path.rate_bytes_per_s) {
            _ if !self.paced => QUANTUM_BYTES_MAX,
            None => QUANTUM_BYTES_UNKNOWN,
            Some(rate) => {
                let bytes = rate.saturating_mul(QUANTUM_US) / 1_000_000;
                usize::try_from(bytes)
                    .unwrap_or(QUANTUM_BYTES_MAX)
                    .clamp(QUANTUM_BYTES_MIN, QUANTUM_BYTES_MAX)
            }
        }
    }

    /// Moves what is to leave next into the outbox: whole Messages, until a quantum is full. A
    /// frame once begun is finished on a stack that cannot interleave.
    pub(crate) fn fill(&mut self, filling: Filling<'_>) {
        let Filling { now_us, handed, copies_max, outbox } = filling;
        let sample = self.path.unwrap_or_default();
        let path = scheduler::Path {
            rate_bytes_per_s: sample.rate_bytes_per_s,
            delay_us: u64::from(sample.rtt_min_us / 2),
            unsent_bytes: u64::from(sample.unsent_bytes),
        };
        let quantum = self.quantum();
        while outbox.len() < quantum {
            let Some(taken) = self.scheduler.take(now_us, &path, usize::MAX) else { break };
            let Some(parcel) = self.scheduler.finish(taken.number) else { break };
            self.leave_class(&parcel);
            let number = self.base + taken.number;
            if parcel.record.is_none() && parcel.output.is_empty() {
                // Only a place in the order: what stands for it leaves by itself.
                continue;
            }
            let (immediate, niceness) = (parcel.immediate, parcel.niceness);
            let again = self.copy(&parcel, copies_max);
            let Parcel { output, record, .. } = parcel;
            if outbox.is_empty() {
                **outbox = output
            } else {
                outbox.append(output)
            }
            let position = handed + outbox.len() as u64;
            if let Some(record) = &record {
                record.handed_over(position);
            }
            self.handed.push_back(Handed { number, position, record, again });
            self.best_niceness = Some(self.best_niceness.map_or(niceness, |b| b.min(niceness)));
            if immediate {
                break;
            }
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
        let resends = self.resends.iter().filter_map(|handed| handed.again.as_ref()?.deadline_us);
        resends.chain(self.scheduler.next_timeout_us()).min()
    }

    fn collect(&mut self) {
        while let Some(Event::Expired { number, why, payload, .. }) = self.scheduler.poll_event() {
            self.leave_class(&payload);
            let why = match why {
                scheduler::Expiry::Deadline => Expiry::Deadline,
                scheduler::Expiry::Hopeless => Expiry::Hopeless,
                scheduler::Expiry::Antecedent(number) => Expiry::Antecedent(self.base + number),
            };
            self.reports.push(Report {
                number: self.base + number,
                record: payload.record,
                outcome: Outcome::Expired(why),
                remains: Some(payload.output),
            });
        }
    }

    /// The kernel has everything up to `position`.
    pub(crate) fn left(&mut self, position: u64) {
        while self.handed.front().is_some_and(|handed| handed.position <= position) {
            let Some(handed) = self.handed.pop_front() else { return };
            self.left_end = handed.position;
            self.reports.push(Report {
                number: handed.number,
                record: handed.record.clone(),
                outcome: Outcome::Sent,
                remains: None,
            });
            let asked = handed.record.as_ref().is_some_and(|record| record.wants_ack());
            if asked || self.handlers.acked.is_some() || handed.again.is_some() {
                self.unacknowledged.push_back(handed);
            }
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
        while self.unacknowledged.front().is_some_and(|handed| handed.position <= until) {
            let Some(Handed { number, record, again, .. }) = self.unacknowledged.pop_front()
            else {
                return;
            };
            let remains = self.forget(again);
            self.reports.push(Report { number, record, outcome, remains });
        }
    }

    /// A copy of what may be sent again, if there is room for one.
    fn copy(&mut self, parcel: &Parcel, bytes_max: usize) -> Option<Box<Again>> {
        let bytes = parcel.output.len();
        if !parcel.idempotent || self.copied + bytes > bytes_max {
            return None;
        }
        self.copied += bytes;
        let mut output = Output::default();
        parcel.output.copy_into(0..bytes, &mut output);
        Some(Box::new(Again { output, deadline_us: parcel.deadline_us }))
    }

    /// What was kept is not needed any more; its drop may run user code.
    fn forget(&mut self, again: Option<Box<Again>>) -> Option<Output> {
        let output = again?.output;
        self.copied -= output.len();
        Some(output)
    }

    /// What waits to be sent again has a lifetime, too.
    fn expire_resends(&mut self, now_us: u64) {
        let due = |handed: &Handed| {
            let deadline_us = handed.again.as_ref().and_then(|again| again.deadline_us);
            deadline_us.is_some_and(|at| at <= now_us)
        };
        while let Some(at) = self.resends.iter().position(due) {
            let Handed { number, record, again, .. } = self.resends.remove(at);
            let outcome = Outcome::Expired(Expiry::Deadline);
            let remains = self.forget(again);
            self.reports.push(Report { number, record, outcome, remains });
        }
    }

    /// Where the Messages end that were handed over: the last that has left, and all behind it.
    pub(crate) fn ends(&self) -> impl Iterator<Item = u64> {
        let left = std::iter::once(self.left_end);
        left.chain(self.handed.iter().map(|handed| handed.position))
    }

    /// The connection was lost and may be made again. What ends up to `position` was handed to it:
    /// it is sent again if it may arrive twice; the rest goes on waiting.
    pub(crate) fn lost(&mut self, position: u64) {
        (self.tuned, self.path, self.sampled_us) = (false, None, None);
        self.left_end = position;
        let broken = self.handed.partition_point(|handed| handed.position <= position);
        let under_way = self.unacknowledged.drain(..).chain(self.handed.drain(..broken));
        for handed in under_way {
            if handed.again.is_some() {
                self.resends.push(handed);
                continue;
            }
            let Handed { number, record, .. } = handed;
            let outcome = Outcome::MayHaveArrived;
            self.reports.push(Report { number, record, outcome, remains: None });
        }
    }

    /// The bytes of what is to be sent again, as far as it is still of use, now that there is a
    /// connection. They stand before `position` in the stream, where what is new goes on.
    pub(crate) fn resend(&mut self, now_us: u64, position: u64) -> Option<Output> {
        self.expire(now_us);
        let resends = std::mem::take(&mut self.resends);
        let bytes = |handed: &Handed| handed.again.as_ref().map_or(0, |again| again.output.len());
        let mut at = position - resends.iter().map(bytes).sum::<usize>() as u64;
        self.left_end = at;
        let mut all = Output::default();
        let mut first = VecDeque::new();
        for handed in resends {
            if let Some(again) = &handed.again {
                again.output.copy_into(0..again.output.len(), &mut all);
            }
            at += bytes(&handed) as u64;
            if let Some(record) = &handed.record {
                record.handed_over(at);
            }
            first.push_back(Handed { position: at, ..handed });
        }
        first.append(&mut self.handed);
        self.handed = first;
        (!all.is_empty()).then_some(all)
    }

    /// True if something is to be sent, now or again.
    pub(crate) fn has_unsent(&self) -> bool {
        self.has_queued() || !self.resends.is_empty()
    }

    /// The connection is over: whatever waits has failed, whatever was under way may have arrived.
    /// Up to `given` the stream was given to the driver.
    pub(crate) fn end(&mut self, reason: CloseReason, given: u64) {
        let base = self.base;
        let resends = self.resends.drain(..).chain(self.unacknowledged.drain(..));
        let begun = resends.map(|handed| (Outcome::MayHaveArrived, handed));
        let handed = self.handed.drain(..).map(|handed| match handed.position > given {
            true => (Outcome::Failed(reason), handed),
            false => (Outcome::MayHaveArrived, handed),
        });
        self.reports.extend(begun.chain(handed).map(|(outcome, handed)| Report {
            number: handed.number,
            record: handed.record,
            outcome,
            remains: handed.again.map(|again| again.output),
        }));
        self.copied = 0;
        self.reports.extend(self.scheduler.drain().map(|(number, parcel)| Report {
            number: base + number,
            record: parcel.record,
            outcome: Outcome::Failed(reason),
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

    /// What is to be done about a report, outside every borrow.
    pub(crate) fn actions(&self, report: &Report) -> (Vec<Action>, Option<Handler>) {
        let (actions, unheard) = match &report.record {
            Some(record) => record.settle(report.outcome),
            None => (Vec::new(), true),
        };
        let handler = match report.outcome {
            Outcome::Sent => self.handlers.sent.as_ref(),
            Outcome::Acked => self.handlers.acked.as_ref(),
            Outcome::Expired(_) => self.handlers.expired.as_ref(),
            _ => None,
        };
        (actions, handler.filter(|_| unheard).map(Rc::clone))
    }

    /// Messages queued so far, those before there was an order included.
    pub(crate) fn scheduler_number(&self, number: Number) -> u64 {
        self.base + number
    }
}
