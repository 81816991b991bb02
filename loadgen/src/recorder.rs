//! One worker's book-keeping: which messages are open, what became of the others, how long each
//! took, by class.
//!
//! Above: `worker` reports what it did and saw. Below: `class_books`, `ledger`, `histogram`.
//! Absent: sockets and clocks (every call says what time it is, in nanoseconds since the start of
//! the run).
//! Bound: `depth` open messages per connection; a table grows to what was open at once.

mod answers;
mod merging;
mod sample;

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(crate) use self::answers::Strays;
use crate::class_books::ClassBooks;
use crate::histogram::{Latencies, Timeline};
use crate::ledger::{Account, Ledger};
use crate::live::{ClassCounts, Counts};
use crate::mark;
use crate::pace::Due;
use crate::slowdown::{Scale, Slowdowns};
use crate::waiting::Waiting;
use crate::workload::{NEVER_NS, Workload};

/// Marks a free entry of a table: no message has this number.
const FREE: u64 = u64::MAX;
/// The low bits of a number are its place in the table.
const PLACE_BITS: u32 = 20;

/// What a recorder has to know of the plan.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// Connections of this worker.
    pub(crate) connections: u32,
    /// Open messages per connection, from 1 to 2^20.
    pub(crate) depth: u32,
    /// Which messages there are.
    pub(crate) workload: Arc<Workload>,
    /// End of the warm-up and start of the measured part.
    pub(crate) warmup_ns: u64,
    /// End of the measured part.
    pub(crate) end_ns: u64,
    /// Closed loop: replies make their connection ready for the next message.
    pub(crate) closed_loop: bool,
    /// After so long an unanswered message is lost, if its path may lose it.
    pub(crate) patience_ns: Option<u64>,
    /// What each size takes alone, if slowdowns are counted.
    pub(crate) scale: Option<Arc<Scale>>,
}

/// Why a message was not sent after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The connection's send queue was full.
    QueueFull,
    /// The connection was gone.
    Disconnected,
}

/// An ended connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Disconnection {
    /// When, in nanoseconds since the start of the run.
    pub(crate) at_ns: u64,
    /// Why, as the engine says it.
    pub(crate) reason: String,
}

/// Everything one worker counted.
#[derive(Debug)]
pub(crate) struct Recorder {
    bounds: Bounds,
    /// True if the engine says what becomes of single messages.
    watched: bool,
    connections: Vec<Connection>,
    /// Connections that may send in a closed loop.
    ready: VecDeque<u32>,
    /// Messages intended in the warm-up.
    pub(crate) warmup: Account,
    /// Messages intended in the measured part, by class.
    pub(crate) classes: Vec<ClassBooks>,
    /// Measured messages handed over before the end of the measured part.
    pub(crate) submitted_in_time: u64,
    /// Actual minus intended send.
    pub(crate) lag: Latencies,
    /// Response times against what they would be alone, by size, if that is known.
    pub(crate) slowdowns: Option<Slowdowns>,
    /// The run in stretches.
    pub(crate) timeline: Timeline,
    /// Counts over all classes and both parts, for the progress line.
    pub(crate) pulse: Counts,
    /// Watched messages not handed to the kernel, by class, over all connections.
    waiting: Vec<Waiting>,
    /// For the view of each class.
    views: Vec<ClassCounts>,
    /// Replies that did not come once and in turn; what was sent in the warm-up is not counted.
    pub(crate) strays: Strays,
    /// Connections that ended.
    pub(crate) disconnections: u32,
    /// The first of them.
    pub(crate) first_disconnection: Option<Disconnection>,
    /// Messages open now, over all connections.
    pub(crate) open: u64,
}

#[derive(Debug)]
struct Connection {
    connected: bool,
    /// How many messages were opened.
    sequence: u64,
    /// How many of them belong to the warm-up.
    rehearsed: u64,
    /// One more than the sequence of the latest one that was answered.
    answered: u64,
    /// Open messages, each at the place its number says.
    table: Vec<Open>,
    /// Free places of the table.
    free: Vec<u32>,
    /// Numbers in the order of sending, where messages are too short to carry theirs.
    order: VecDeque<u64>,
    /// Watched messages not handed to the kernel, by class.
    waiting: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    number: u64,
    intended_ns: u64,
    submitted_ns: u64,
    /// When the kernel had it; `NEVER_NS` before, and if nobody says.
    sent_ns: u64,
    /// Until when its answer is of use.
    due_ns: u64,
    bytes: u32,
    /// Its place among those that wait, if it is watched and not sent.
    place: u32,
    class: u8,
    sent: bool,
}

impl Recorder {
    /// Empty books.
    pub(crate) fn new(bounds: Bounds) -> Self {
        let classes = bounds.workload.classes.len();
        let watched = bounds.workload.is_watched();
        let connection = || Connection {
            connected: true,
            sequence: 0,
            rehearsed: 0,
            answered: 0,
            table: Vec::new(),
            free: Vec::new(),
            order: VecDeque::new(),
            waiting: if watched { vec![0; classes] } else { Vec::new() },
        };
        let ready = if bounds.closed_loop { bounds.connections * bounds.depth } else { 0 };
        Self {
            watched,
            connections: (0..bounds.connections).map(|_| connection()).collect(),
            ready: (0..ready).map(|turn| turn % bounds.connections).collect(),
            warmup: Account::default(),
            classes: (0..classes).map(|_| ClassBooks::new()).collect(),
            submitted_in_time: 0,
            lag: Latencies::new(),
            slowdowns: bounds.scale.clone().map(Slowdowns::new),
            timeline: Timeline::new(bounds.end_ns - bounds.warmup_ns),
            pulse: Counts::default(),
            waiting: (0..if watched { classes } else { 0 }).map(|_| Waiting::new()).collect(),
            views: vec![ClassCounts::new(); classes],
            strays: Strays::default(),
            disconnections: 0,
            first_disconnection: None,
            open: 0,
            bounds,
        }
    }

    /// A scheduled message leaves at `now_ns`. Its number: `payload` is stamped, send it and call
    /// `refused` if that fails. `None`: it was skipped, and counted as such.
    pub(crate) fn admit(&mut self, due: &Due, now_ns: u64, payload: &mut [u8]) -> Option<u64> {
        let connection = &self.connections[due.connection as usize];
        let connected = connection.connected;
        let room =
            !connection.free.is_empty() || connection.table.len() < self.bounds.depth as usize;
        self.pulse.scheduled += 1;
        let account = self.account(due.intended_ns, due.kind.class);
        let bytes = due.kind.bytes;
        account.book(1, bytes, |ledger| &mut ledger.scheduled);
        if !connected || !room {
            account.book(
                1,
                bytes,
                if connected {
                    |ledger: &mut Ledger| &mut ledger.skipped.at_depth
                } else {
                    |ledger: &mut Ledger| &mut ledger.skipped.disconnected
                },
            );
            self.pulse.skipped += 1;
            return None;
        }
        account.book(1, bytes, |ledger| &mut ledger.submitted);
        self.pulse.submitted += 1;
        let number = self.open_entry(due, now_ns);
        let niceness = self.watched.then(|| {
            let class = &self.bounds.workload.classes[usize::from(due.kind.class)];
            if class.tells_niceness { class.niceness } else { 0 }
        });
        mark::stamp(payload, number, due.intended_ns, niceness);
        if let Some(at_ns) = due.intended_ns.checked_sub(self.bounds.warmup_ns) {
            let lag_ns = now_ns.saturating_sub(due.intended_ns);
            self.lag.record(lag_ns);
            self.timeline.submitted(at_ns, lag_ns);
            if let Some(slowdowns) = &mut self.slowdowns {
                slowdowns.submitted(bytes);
            }
            self.submitted_in_time += u64::from(now_ns < self.bounds.end_ns);
        }
        Some(number)
    }

    fn open_entry(&mut self, due: &Due, now_ns: u64) -> u64 {
        let connection = &mut self.connections[due.connection as usize];
        let place = connection.free.pop().unwrap_or(connection.table.len() as u32);
        let number = connection.sequence << PLACE_BITS | u64::from(place);
        connection.sequence += 1;
        if due.intended_ns < self.bounds.warmup_ns {
            connection.rehearsed = connection.sequence;
        }
        let waiting = self.waiting.get_mut(usize::from(due.kind.class));
        let entry = Open {
            number,
            intended_ns: due.intended_ns,
            submitted_ns: now_ns,
            sent_ns: NEVER_NS,
            due_ns: due.intended_ns.saturating_add(due.kind.deadline_ns),
            bytes: due.kind.bytes,
            place: waiting.map_or(0, |waiting| waiting.add(now_ns)),
            class: due.kind.class,
            sent: !self.watched,
        };
        match connection.table.get_mut(place as usize) {
            Some(free) => *free = entry,
            None => connection.table.push(entry),
        }
        if self.watched {
            connection.waiting[usize::from(due.kind.class)] += 1;
        } else if (due.kind.bytes as usize) < mark::STAMP_BYTES {
            connection.order.push_back(number);
        }
        self.open += 1;
        if !self.watched {
            let account = self.account(due.intended_ns, due.kind.class);
            account.book(1, due.kind.bytes, |ledger| &mut ledger.sent);
        }
        number
    }

    /// An admitted message was not taken by the engine.
    pub(crate) fn refused(&mut self, connection: u32, number: u64, why: Refusal) {
        let Some(open) = self.close_entry(connection, number) else { return };
        let order = &mut self.connections[connection as usize].order;
        if order.back() == Some(&number) {
            order.pop_back();
        }
        let closed_loop = self.bounds.closed_loop;
        let account = self.account(open.intended_ns, open.class);
        if open.sent {
            account.unbook(open.bytes, |ledger| &mut ledger.sent);
        }
        match why {
            Refusal::QueueFull if closed_loop => {
                // Nobody scheduled it for this moment: it simply waits for its turn.
                account.unbook(open.bytes, |ledger| &mut ledger.submitted);
                account.unbook(open.bytes, |ledger| &mut ledger.scheduled);
                self.ready.push_back(connection);
            }
            Refusal::QueueFull => account.book(1, open.bytes, |ledger| &mut ledger.refused),
            Refusal::Disconnected => {
                account.unbook(open.bytes, |ledger| &mut ledger.submitted);
                account.book(1, open.bytes, |ledger| &mut ledger.skipped.disconnected);
                self.pulse.skipped += 1;
            }
        }
    }

    /// The kernel has a watched message.
    pub(crate) fn sent(&mut self, connection: u32, number: u64, now_ns: u64) {
        let Some(open) = self.entry(connection, number).filter(|open| !open.sent) else { return };
        (open.sent, open.sent_ns) = (true, now_ns);
        let open = *open;
        self.note_sent(connection, &open);
        if open.intended_ns >= self.bounds.warmup_ns {
            let inverted = self.overtakes_urgent(connection, open.class);
            let class = &mut self.classes[usize::from(open.class)];
            class.wait.record(now_ns.saturating_sub(open.submitted_ns));
            class.inversions += u64::from(inverted);
        }
    }

    fn note_sent(&mut self, connection: u32, open: &Open) {
        self.connections[connection as usize].waiting[usize::from(open.class)] -= 1;
        self.waiting[usize::from(open.class)].remove(open.place);
        let account = self.account(open.intended_ns, open.class);
        account.book(1, open.bytes, |ledger| &mut ledger.sent);
    }

    fn overtakes_urgent(&self, connection: u32, class: u8) -> bool {
        let classes = &self.bounds.workload.classes;
        let niceness = classes[usize::from(class)].niceness;
        let waiting = &self.connections[connection as usize].waiting;
        classes.iter().zip(waiting).any(|(c, count)| c.niceness < niceness && *count > 0)
    }

    /// The engine discarded a watched message: it could not be in time any more.
    pub(crate) fn expired(&mut self, connection: u32, number: u64) {
        let Some(open) = self.close_entry(connection, number) else { return };
        let account = self.account(open.intended_ns, open.class);
        if open.sent {
            account.unbook(open.bytes, |ledger| &mut ledger.sent);
        }
        account.book(1, open.bytes, |ledger| &mut ledger.expired);
        if self.bounds.closed_loop {
            self.ready.push_back(connection);
        }
    }

    /// The next connection that may send in a closed loop.
    pub(crate) fn next_ready(&mut self) -> Option<u32> {
        while let Some(connection) = self.ready.pop_front() {
            if self.connections[connection as usize].connected {
                return Some(connection);
            }
        }
        None
    }

    /// Messages like `due` were due and the run ended before they were looked at.
    pub(crate) fn never_reached(&mut self, due: &Due, count: u64) {
        let account = self.account(due.intended_ns, due.kind.class);
        account.book(count, due.kind.bytes, |ledger| &mut ledger.scheduled);
        account.book(count, due.kind.bytes, |ledger| &mut ledger.skipped.never_reached);
    }

    /// A reply came on a connection at `now_ns`. Its message is on time if it was in time at the
    /// server, where that can be said (`arrived_ns`), else if the reply is.
    pub(crate) fn replied(
        &mut self,
        connection: u32,
        payload: &[u8],
        now_ns: u64,
        arrived_ns: Option<u64>,
    ) {
        let Some(open) = self.take_answered(connection, payload) else { return };
        if !open.sent {
            // The answer was quicker than the word that it was sent.
            let account = self.account(open.intended_ns, open.class);
            account.book(1, open.bytes, |ledger| &mut ledger.sent);
        }
        let account = self.account(open.intended_ns, open.class);
        let is_late = arrived_ns.unwrap_or(now_ns) > open.due_ns;
        if !is_late {
            account.book(1, open.bytes, |ledger| &mut ledger.on_time);
        } else {
            account.book(1, open.bytes, |ledger| &mut ledger.late);
        }
        self.pulse.received += 1;
        let at_ns = open.intended_ns.checked_sub(self.bounds.warmup_ns);
        let response_ns = now_ns.saturating_sub(open.intended_ns);
        let view = &mut self.views[usize::from(open.class)];
        view.replied(at_ns.map(|_| response_ns), is_late);
        if let Some(at_ns) = at_ns {
            let begun_ns = if open.sent_ns == NEVER_NS { open.submitted_ns } else { open.sent_ns };
            let class = &mut self.classes[usize::from(open.class)];
            class.response.record(response_ns);
            class.service.record(now_ns.saturating_sub(begun_ns));
            self.timeline.received(at_ns, response_ns);
            if let Some(slowdowns) = &mut self.slowdowns {
                slowdowns.answered(open.bytes, response_ns);
            }
        }
        if self.bounds.closed_loop {
            self.ready.push_back(connection);
        }
    }

    /// A connection ended: its open messages are lost.
    pub(crate) fn disconnected(&mut self, connection: u32, now_ns: u64, reason: String) {
        let book = &mut self.connections[connection as usize];
        if !std::mem::replace(&mut book.connected, false) {
            return;
        }
        let table = std::mem::take(&mut book.table);
        (book.free, book.order) = (Vec::new(), VecDeque::new());
        book.waiting.fill(0);
        for open in table.iter().filter(|open| open.number != FREE) {
            let account = self.account(open.intended_ns, open.class);
            if open.sent {
                account.book(1, open.bytes, |ledger| &mut ledger.lost);
            } else {
                account.book(1, open.bytes, |ledger| &mut ledger.unsent);
                self.waiting[usize::from(open.class)].remove(open.place);
            }
            self.open -= 1;
        }
        self.disconnections += 1;
        self.first_disconnection.get_or_insert(Disconnection { at_ns: now_ns, reason });
    }

    /// True until a connection has ended.
    pub(crate) fn is_connected(&self, connection: u32) -> bool {
        self.connections.get(connection as usize).is_some_and(|book| book.connected)
    }

    /// True if no connection is left.
    pub(crate) const fn all_disconnected(&self) -> bool {
        self.disconnections == self.bounds.connections
    }

    /// The run is over: counts what is still open.
    pub(crate) fn finish(&mut self) {
        for at in 0..self.connections.len() {
            let table = std::mem::take(&mut self.connections[at].table);
            for open in table.iter().filter(|open| open.number != FREE) {
                let account = self.account(open.intended_ns, open.class);
                if open.sent {
                    account.book(1, open.bytes, |ledger| &mut ledger.in_flight);
                } else {
                    account.book(1, open.bytes, |ledger| &mut ledger.unsent);
                }
            }
        }
    }

    #[inline]
    fn account(&mut self, intended_ns: u64, class: u8) -> &mut Account {
        if intended_ns < self.bounds.warmup_ns {
            &mut self.warmup
        } else {
            &mut self.classes[usize::from(class)].account
        }
    }

    fn entry(&mut self, connection: u32, number: u64) -> Option<&mut Open> {
        let place = (number & ((1 << PLACE_BITS) - 1)) as usize;
        let table = &mut self.connections[connection as usize].table;
        table.get_mut(place).filter(|open| open.number == number && number != FREE)
    }

    /// Takes an open message out of the table.
    fn close_entry(&mut self, connection: u32, number: u64) -> Option<Open> {
        let entry = self.entry(connection, number)?;
        let open = *entry;
        entry.number = FREE;
        let connection = &mut self.connections[connection as usize];
        connection.free.push((number & ((1 << PLACE_BITS) - 1)) as u32);
        if !open.sent {
            connection.waiting[usize::from(open.class)] -= 1;
            self.waiting[usize::from(open.class)].remove(open.place);
        }
        self.open -= 1;
        Some(open)
    }
}

#[cfg(test)]
#[path = "tests/recorder.rs"]
mod tests;
