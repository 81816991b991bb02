//! Resending: what becomes of handed-over Messages when their connection is lost and may be made
//! again (draft §2.1, §2.2: Idempotence).
//!
//! Above: `revival` asks. Below: copies of idempotent Messages, kept until the peer has them; large
//! payloads are shared. Absent: what was never handed over; it goes on waiting in the scheduler.
//! Bound: `Limits::resend_bytes`.

use std::collections::{HashSet, VecDeque};

use super::super::events::Report;
use super::{Handed, Outgoing, Parcel};
use crate::framer::Output;
use crate::message::{Expiry, Outcome};

/// A Message that may be sent again.
pub(super) struct Again {
    output: Output,
    deadline_us: Option<u64>,
    /// The numbers of its antecedents.
    relies_on: Box<[u64]>,
}

impl Again {
    pub(super) fn into_output(self) -> Output {
        self.output
    }
}

/// What is kept for another connection.
#[derive(Default)]
pub(super) struct Resending {
    /// Handed to a connection that was lost, to be sent again on the next one.
    waiting: Vec<Handed>,
    /// Bytes of all that may be sent again.
    copied: usize,
    /// Where the last of those that have left ends.
    left_end: u64,
    /// Up to here the peer is known to have everything.
    acknowledged_end: u64,
}

impl Resending {
    /// A copy of what may be sent again, if there is room for one in `bytes_max`.
    pub(super) fn copy(&mut self, parcel: &mut Parcel, bytes_max: usize) -> Option<Box<Again>> {
        let bytes = parcel.output.len();
        if !parcel.idempotent || self.copied + bytes > bytes_max {
            return None;
        }
        self.copied += bytes;
        let mut output = Output::default();
        parcel.output.copy_into(0..bytes, &mut output);
        let relies_on = std::mem::take(&mut parcel.relies_on);
        Some(Box::new(Again { output, deadline_us: parcel.deadline_us, relies_on }))
    }

    /// What was kept is not needed any more; its drop may run user code.
    pub(super) fn forget(&mut self, again: Option<Box<Again>>) -> Option<Output> {
        let output = again?.output;
        self.copied -= output.len();
        Some(output)
    }

    /// The peer has everything up to `position`, if that is known.
    pub(super) fn acknowledged(&mut self, position: Option<u64>) {
        self.acknowledged_end = self.acknowledged_end.max(position.unwrap_or(0));
    }

    pub(super) const fn left(&mut self, end: u64) {
        self.left_end = end;
    }

    pub(super) fn next_timeout_us(&self) -> Option<u64> {
        let deadlines = self.waiting.iter().filter_map(|handed| handed.again.as_ref()?.deadline_us);
        deadlines.min()
    }

    pub(super) fn waiting(&self) -> &[Handed] {
        &self.waiting
    }

    /// Everything, for it ends.
    pub(super) fn drain(&mut self) -> Vec<Handed> {
        self.copied = 0;
        std::mem::take(&mut self.waiting)
    }
}

fn bytes(handed: &Handed) -> usize {
    handed.again.as_ref().map_or(0, |again| again.output.len())
}

impl Outgoing {
    /// What waits to be sent again has a lifetime, too.
    pub(super) fn expire_resends(&mut self, now_us: u64) {
        let due = |handed: &Handed| {
            let deadline_us = handed.again.as_ref().and_then(|again| again.deadline_us);
            deadline_us.is_some_and(|at| at <= now_us)
        };
        while let Some(at) = self.resending.waiting.iter().position(due) {
            let handed = self.resending.waiting.remove(at);
            let mut report = Report::of(&handed, Outcome::Expired(Expiry::Deadline));
            report.remains = self.resending.forget(handed.again);
            self.reports.push(report);
        }
    }

    /// Where the Messages end that were handed over: the last that has left, and all behind it.
    pub(crate) fn ends(&self) -> impl Iterator<Item = u64> {
        let left = std::iter::once(self.resending.left_end);
        left.chain(self.handed.iter().map(|handed| handed.position))
    }

    /// The connection was lost and may be made again. What ends up to `position` was handed to it:
    /// it is sent again if it may arrive twice and what it depends on arrives, too; the rest goes
    /// on waiting.
    pub(crate) fn lost(&mut self, position: u64) {
        (self.tuned, self.path, self.sampled_us) = (false, None, None);
        self.resending.left_end = position;
        let broken = self.handed.partition_point(|handed| handed.position <= position);
        let under_way = self.unacknowledged.drain(..).chain(self.handed.drain(..broken));
        let mut come_again = HashSet::new();
        for handed in under_way {
            // Where its antecedents stand is not kept, but they stand before it.
            let begins = handed.position - bytes(&handed) as u64;
            let is_known_of = |number: &u64| {
                begins <= self.resending.acknowledged_end || come_again.contains(number)
            };
            if handed.again.as_ref().is_some_and(|again| again.relies_on.iter().all(is_known_of)) {
                come_again.insert(handed.number);
                self.resending.waiting.push(handed);
            } else {
                let mut report = Report::of(&handed, Outcome::MayHaveArrived);
                report.remains = self.resending.forget(handed.again);
                self.reports.push(report);
            }
        }
    }

    /// The bytes of what is to be sent again, as far as it is still of use, now that there is a
    /// connection. They stand before `position` in the stream, where what is new goes on.
    pub(crate) fn resend(&mut self, now_us: u64, position: u64) -> Option<Output> {
        self.expire(now_us);
        let resends = std::mem::take(&mut self.resending.waiting);
        let mut at = position - resends.iter().map(bytes).sum::<usize>() as u64;
        self.resending.left_end = at;
        self.resending.acknowledged_end = self.resending.acknowledged_end.min(at);
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
        self.has_queued() || !self.resending.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Filling;
    use super::*;

    /// Three Messages that depend each on the one before, and one that depends on none; all but
    /// the first may arrive twice. What becomes of them if the peer had `acknowledged` bytes.
    fn after_a_loss(acknowledged: Option<u64>) -> Vec<(u64, Outcome)> {
        let mut outgoing = Outgoing::new(0, 16);
        let parcel = |idempotent| {
            let mut output = Output::default();
            output.put(b"ten bytes.");
            Parcel { output, idempotent, ..Parcel::place() }
        };
        for (idempotent, antecedents) in
            [(false, &[][..]), (true, &[1][..]), (true, &[2][..]), (true, &[][..])]
        {
            assert!(outgoing.submit(0, None, antecedents, parcel(idempotent)).is_ok());
        }
        let mut outbox = Box::default();
        outgoing.fill(Filling { now_us: 0, handed: 0, copies_max: 1000, outbox: &mut outbox });
        assert_eq!(outbox.len(), 40);
        outgoing.left(40);
        if let Some(acknowledged) = acknowledged {
            outgoing.acknowledged(Some(acknowledged));
        }
        outgoing.take_reports();
        outgoing.lost(40);
        let again = outgoing.resending.waiting.iter().map(|handed| (handed.number, Outcome::Sent));
        let again: Vec<_> = again.collect();
        let lost = outgoing.take_reports();
        let mut all: Vec<_> =
            lost.iter().map(|report| (report.number, report.outcome)).chain(again).collect();
        all.sort_by_key(|(number, _)| *number);
        all
    }

    #[test]
    fn nothing_is_sent_again_that_depends_on_what_may_be_lost() {
        use Outcome::{MayHaveArrived as Lost, Sent as Again};
        // The first asked for no word of the peer: nobody knows of it any more.
        assert_eq!(after_a_loss(None), [(2, Lost), (3, Lost), (4, Again)]);
        assert_eq!(after_a_loss(Some(9)), [(2, Lost), (3, Lost), (4, Again)]);
        assert_eq!(after_a_loss(Some(10)), [(2, Again), (3, Again), (4, Again)]);
        assert_eq!(after_a_loss(Some(20)), [(3, Again), (4, Again)]);
    }
}
