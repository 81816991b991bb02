//! One worker's book-keeping: which messages are open, what became of the others, how long each
//! took.
//!
//! Above: `worker` reports what it did and saw. Below: `ledger`, `histogram`. Absent: sockets
//! and clocks (every call says what time it is, in nanoseconds since the start of the run).
//! Bound: `depth` open messages per connection, in a table made at `new`; no call allocates but
//! `disconnected`.

use std::collections::VecDeque;

use crate::histogram::{Latencies, Timeline};
use crate::ledger::Ledger;
use crate::pace::Due;

/// From this payload size on, each message carries its number and its intended time.
pub(crate) const STAMP_BYTES: usize = 16;
/// Marks a free entry of a table: no message has this number.
const FREE: u64 = u64::MAX;

/// What a recorder has to know of the plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Connections of this worker.
    pub(crate) connections: u32,
    /// Open messages per connection, at least 1.
    pub(crate) depth: u32,
    /// Payload bytes.
    pub(crate) size: usize,
    /// End of the warm-up and start of the measured part.
    pub(crate) warmup_ns: u64,
    /// End of the measured part.
    pub(crate) end_ns: u64,
    /// Closed loop: replies make their connection ready for the next message.
    pub(crate) closed_loop: bool,
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    connections: Vec<Connection>,
    /// Connections that may send in a closed loop.
    ready: VecDeque<u32>,
    /// Messages intended in the warm-up.
    pub(crate) warmup: Ledger,
    /// Messages intended in the measured part.
    pub(crate) measured: Ledger,
    /// Measured messages handed over before the end of the measured part.
    pub(crate) submitted_in_time: u64,
    /// Reply minus intended send.
    pub(crate) response: Latencies,
    /// Reply minus actual send.
    pub(crate) service: Latencies,
    /// Actual minus intended send.
    pub(crate) lag: Latencies,
    /// The run in stretches.
    pub(crate) timeline: Timeline,
    /// Replies that answer no open message, or are not its echo.
    pub(crate) unmatched: u64,
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
    /// Number of the next message to send.
    next: u64,
    /// Number of the oldest message not answered, for replies matched by order.
    oldest: u64,
    /// Open messages, each at its number modulo the length.
    table: Vec<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    number: u64,
    intended_ns: u64,
    submitted_ns: u64,
}

impl Recorder {
    /// Empty books.
    pub(crate) fn new(bounds: Bounds) -> Self {
        let free = Open { number: FREE, intended_ns: 0, submitted_ns: 0 };
        let connection = || Connection {
            connected: true,
            next: 0,
            oldest: 0,
            table: vec![free; bounds.depth as usize],
        };
        let ready = if bounds.closed_loop { bounds.connections * bounds.depth } else { 0 };
        Self {
            bounds,
            connections: (0..bounds.connections).map(|_| connection()).collect(),
            ready: (0..ready).map(|turn| turn % bounds.connections).collect(),
            warmup: Ledger::default(),
            measured: Ledger::default(),
            submitted_in_time: 0,
            response: Latencies::new(),
            service: Latencies::new(),
            lag: Latencies::new(),
            timeline: Timeline::new(bounds.end_ns - bounds.warmup_ns),
            unmatched: 0,
            disconnections: 0,
            first_disconnection: None,
            open: 0,
        }
    }

    /// A scheduled message is about to leave. True: `payload` is stamped, send it and call
    /// `submitted` or `refused`. False: it was skipped, and counted as such.
    pub(crate) fn admit(&mut self, due: Due, payload: &mut [u8]) -> bool {
        let connection = &self.connections[due.connection as usize];
        let (connected, number) = (connection.connected, connection.next);
        let room = connection.table[connection.index(number)].number == FREE;
        let ledger = self.ledger(due.intended_ns);
        ledger.scheduled += 1;
        if !connected {
            ledger.skipped.disconnected += 1;
        } else if !room {
            ledger.skipped.at_depth += 1;
        } else if let Some((stamp, _)) = payload.split_first_chunk_mut::<STAMP_BYTES>() {
            stamp[..8].copy_from_slice(&number.to_le_bytes());
            stamp[8..].copy_from_slice(&due.intended_ns.to_le_bytes());
        }
        connected && room
    }

    /// An admitted message was handed to the engine at `now_ns`.
    pub(crate) fn submitted(&mut self, due: Due, now_ns: u64) {
        let intended_ns = due.intended_ns;
        let connection = &mut self.connections[due.connection as usize];
        let index = connection.index(connection.next);
        connection.table[index] =
            Open { number: connection.next, intended_ns, submitted_ns: now_ns };
        connection.next += 1;
        self.open += 1;
        self.ledger(intended_ns).submitted += 1;
        if let Some(at_ns) = intended_ns.checked_sub(self.bounds.warmup_ns) {
            let lag_ns = now_ns.saturating_sub(intended_ns);
            self.lag.record(lag_ns);
            self.timeline.submitted(at_ns, lag_ns);
            self.submitted_in_time += u64::from(now_ns < self.bounds.end_ns);
        }
    }

    /// An admitted message was not taken by the engine.
    pub(crate) fn refused(&mut self, due: Due, why: Refusal) {
        let closed_loop = self.bounds.closed_loop;
        let ledger = self.ledger(due.intended_ns);
        match why {
            Refusal::QueueFull if closed_loop => {
                // Nobody scheduled it for this moment: it simply waits for its turn.
                ledger.scheduled -= 1;
                self.ready.push_back(due.connection);
            }
            Refusal::QueueFull => ledger.skipped.queue_full += 1,
            Refusal::Disconnected => ledger.skipped.disconnected += 1,
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

    /// A message was due and the run ended before it was looked at. `count` of the same time.
    pub(crate) fn never_reached(&mut self, intended_ns: u64, count: u64) {
        let ledger = self.ledger(intended_ns);
        ledger.scheduled += count;
        ledger.skipped.never_reached += count;
    }

    /// A reply came on a connection at `now_ns`.
    pub(crate) fn replied(&mut self, connection: u32, payload: &[u8], now_ns: u64) {
        let Some(open) = self.take_open(connection, payload) else {
            self.unmatched += 1;
            return;
        };
        self.open -= 1;
        self.ledger(open.intended_ns).received += 1;
        if let Some(at_ns) = open.intended_ns.checked_sub(self.bounds.warmup_ns) {
            let response_ns = now_ns.saturating_sub(open.intended_ns);
            self.response.record(response_ns);
            self.service.record(now_ns.saturating_sub(open.submitted_ns));
            self.timeline.received(at_ns, response_ns);
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
        book.table.push(Open { number: FREE, intended_ns: 0, submitted_ns: 0 });
        for open in table.iter().filter(|open| open.number != FREE) {
            self.ledger(open.intended_ns).lost += 1;
            self.open -= 1;
        }
        self.disconnections += 1;
        self.first_disconnection.get_or_insert(Disconnection { at_ns: now_ns, reason });
    }

    /// True if no connection is left.
    pub(crate) const fn all_disconnected(&self) -> bool {
        self.disconnections == self.bounds.connections
    }

    /// The run is over: counts what is still open.
    pub(crate) fn finish(&mut self) {
        let warmup_ns = self.bounds.warmup_ns;
        let tables = self.connections.iter().flat_map(|connection| &connection.table);
        let (mut warmup, mut measured) = (0, 0);
        for open in tables.filter(|open| open.number != FREE) {
            let count = if open.intended_ns < warmup_ns { &mut warmup } else { &mut measured };
            *count += 1;
        }
        (self.warmup.in_flight, self.measured.in_flight) = (warmup, measured);
    }

    /// Adds what another worker of the same run counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.warmup.merge(&other.warmup);
        self.measured.merge(&other.measured);
        self.submitted_in_time += other.submitted_in_time;
        self.response.merge(&other.response);
        self.service.merge(&other.service);
        self.lag.merge(&other.lag);
        self.timeline.merge(&other.timeline);
        self.unmatched += other.unmatched;
        self.disconnections += other.disconnections;
        let first = |d: &Disconnection| d.at_ns;
        let both = [self.first_disconnection.take(), other.first_disconnection.clone()];
        self.first_disconnection = both.into_iter().flatten().min_by_key(first);
    }

    fn ledger(&mut self, intended_ns: u64) -> &mut Ledger {
        if intended_ns < self.bounds.warmup_ns { &mut self.warmup } else { &mut self.measured }
    }

    /// The open message that `payload` answers, taken out of the table.
    fn take_open(&mut self, connection: u32, payload: &[u8]) -> Option<Open> {
        let connection = &mut self.connections[connection as usize];
        if payload.len() != self.bounds.size {
            return None;
        }
        let number = match payload.first_chunk::<8>() {
            Some(number) if self.bounds.size >= STAMP_BYTES => u64::from_le_bytes(*number),
            _ => connection.oldest,
        };
        let index = connection.index(number);
        let open = connection.table[index];
        if open.number != number || number == FREE {
            return None;
        }
        connection.table[index].number = FREE;
        connection.oldest = connection.oldest.max(number + 1);
        Some(open)
    }
}

impl Connection {
    const fn index(&self, number: u64) -> usize {
        (number % self.table.len() as u64) as usize
    }
}

#[cfg(test)]
#[path = "tests/recorder.rs"]
mod tests;
