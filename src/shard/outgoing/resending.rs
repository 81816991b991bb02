//! Resending: what becomes of handed-over Messages when their connection is lost and may be made
//! again (draft §2.1, §2.2: Idempotence).
//!
//! Above: `revival` asks. Below: copies of idempotent Messages, kept until the peer has them; large
//! payloads are shared. Absent: what was never handed over; it goes on waiting in the scheduler.
//! Bound: `Limits::resend_bytes`.

use std::collections::VecDeque;

use super::super::events::Report;
use super::{Handed, Outgoing, Parcel};
use crate::framer::Output;
use crate::message::{Expiry, Outcome};

/// A Message that may be sent again.
pub(super) struct Again {
    output: Output,
    deadline_us: Option<u64>,
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
}

impl Resending {
    /// A copy of what may be sent again, if there is room for one in `bytes_max`.
    pub(super) fn copy(&mut self, parcel: &Parcel, bytes_max: usize) -> Option<Box<Again>> {
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
    pub(super) fn forget(&mut self, again: Option<Box<Again>>) -> Option<Output> {
        let output = again?.output;
        self.copied -= output.len();
        Some(output)
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
    /// it is sent again if it may arrive twice; the rest goes on waiting.
    pub(crate) fn lost(&mut self, position: u64) {
        (self.tuned, self.path, self.sampled_us) = (false, None, None);
        self.resending.left_end = position;
        let broken = self.handed.partition_point(|handed| handed.position <= position);
        let under_way = self.unacknowledged.drain(..).chain(self.handed.drain(..broken));
        for handed in under_way {
            if handed.again.is_some() {
                self.resending.waiting.push(handed);
            } else {
                self.reports.push(Report::of(&handed, Outcome::MayHaveArrived));
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
