//! Answers: which open message a reply belongs to, and what is said of those that belong to none or
//! come out of turn.
//!
//! Above: the recorder, for every reply. Below: its table of open messages, the mark in payloads.
//! Absent: whether a transport may do that: the verdict knows.

use serde::{Deserialize, Serialize};

use super::{FREE, Open, PLACE_BITS, Recorder};
use crate::mark;
use crate::workload::NEVER_NS;

/// Replies that a path or a server did not bring once and in turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Strays {
    /// That answer no message at all, or are not its echo: at any time of the run.
    pub(crate) unmatched: u64,
    /// That answer a message of the measured part which had its answer, or was given up.
    pub(crate) duplicated: u64,
    /// That came after the answer to a later message of their connection (RFC 4737 §3.3), of the
    /// measured part.
    pub(crate) reordered: u64,
}

impl Strays {
    /// Adds what another worker counted.
    pub(crate) const fn merge(&mut self, other: &Self) {
        self.unmatched += other.unmatched;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
    }

    /// True if no count is so large that sums of some could overflow.
    pub(crate) fn is_plausible(&self) -> bool {
        [self.unmatched, self.duplicated, self.reordered].iter().all(|count| *count < 1 << 53)
    }
}

impl Recorder {
    /// The open message that `payload` answers, taken out of the table; a reply that answers none
    /// is counted.
    pub(super) fn take_answered(&mut self, connection: u32, payload: &[u8]) -> Option<Open> {
        let numbered = mark::number(payload);
        let first = self.connections[connection as usize].order.front().copied();
        let number = numbered.or(first);
        let is_echo = number
            .and_then(|number| self.entry(connection, number))
            .is_some_and(|entry| payload.len() == entry.bytes as usize);
        let Some(number) = number.filter(|_| is_echo) else {
            self.note_stray(connection, number);
            return None;
        };
        let book = &mut self.connections[connection as usize];
        if numbered.is_none() {
            book.order.pop_front();
        }
        let sequence = number >> PLACE_BITS;
        if sequence >= book.answered {
            book.answered = sequence + 1;
        } else if sequence >= book.rehearsed {
            self.strays.reordered += 1;
        }
        self.close_entry(connection, number)
    }

    /// Counts what was not answered in time as lost, where a path may lose it: its place is free
    /// again, and a closed loop goes on.
    pub(super) fn give_up(&mut self, now_ns: u64) {
        let since_ns = self.bounds.patience_ns.and_then(|patience| now_ns.checked_sub(patience));
        let Some(since_ns) = since_ns else { return };
        let mut lost = Vec::new();
        for (connection, book) in self.connections.iter().enumerate() {
            let begun_ns = |open: &Open| match open.sent_ns {
                NEVER_NS => open.submitted_ns,
                sent_ns => sent_ns,
            };
            let is_lost =
                |open: &&Open| open.number != FREE && open.sent && begun_ns(open) <= since_ns;
            let numbers = book.table.iter().filter(is_lost).map(|open| open.number);
            lost.extend(numbers.map(|number| (connection as u32, number)));
        }
        for (connection, number) in lost {
            let Some(open) = self.close_entry(connection, number) else { continue };
            let account = self.account(open.intended_ns, open.class);
            account.book(1, open.bytes, |ledger| &mut ledger.lost);
            if self.bounds.closed_loop {
                self.ready.push_back(connection);
            }
        }
    }

    fn note_stray(&mut self, connection: u32, number: Option<u64>) {
        let book = &self.connections[connection as usize];
        let (sequence, rehearsed) = (book.sequence, book.rehearsed);
        let was_sent = number.is_some_and(|number| number >> PLACE_BITS < sequence);
        let in_warmup = number.is_some_and(|number| number >> PLACE_BITS < rehearsed);
        let is_open = number.is_some_and(|number| self.entry(connection, number).is_some());
        if !was_sent || is_open {
            self.strays.unmatched += 1;
        } else if !in_warmup {
            self.strays.duplicated += 1;
        }
    }
}
