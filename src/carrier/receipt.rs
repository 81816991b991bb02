//! Receipt: what a sender holds of a Message it has sent (draft §2.2, §3.2: events).
//!
//! Above: `send` returns one; `after` takes them as antecedents. Below: the record that the
//! Message's core settles. Absent: content. A plain Message has no record until somebody asks.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use super::responder::{Answer as HandlerAnswer, Flow};
use crate::error::{CloseReason, Error, Result};
use crate::message::{MessageId, Outcome};
use crate::shard::core::{CallError, Core, Id};
use crate::shard::mail::{self, Mail};
use crate::shard::outgoing::Outgoing;
use crate::shard::record::{Action, Awaited, Record};

pub(super) fn message_id(id: Id, number: u64) -> MessageId {
    MessageId { unit: id.unit, slot: id.slot, generation: id.generation, number }
}

/// A Message that was accepted for sending: its identity, and word of what became of it.
///
/// Asking costs nothing until it is done; a Receipt that is dropped cancels nothing (draft §4.2).
/// It does not keep its Carrier open.
#[derive(Clone)]
pub struct Receipt {
    message: MessageId,
    /// Where a plain Message ends in the stream.
    position: Option<u64>,
    record: OnceLock<Arc<Record>>,
}

impl Receipt {
    pub(super) const fn plain(message: MessageId, position: u64) -> Self {
        Self { message, position: Some(position), record: OnceLock::new() }
    }

    pub(super) fn tracked(message: MessageId, record: Arc<Record>) -> Self {
        Self { message, position: None, record: record.into() }
    }

    /// Which Message it is.
    #[must_use]
    pub const fn message(&self) -> MessageId {
        self.message
    }

    /// Resolves when the Message was handed to the stack, or never will be: [`Outcome::Sent`],
    /// [`Outcome::Expired`], [`Outcome::Failed`] or [`Outcome::MayHaveArrived`].
    pub fn sent(&self) -> Settling {
        Settling { record: self.record(), awaited: Awaited::Sent }
    }

    /// Resolves when the peer has the Message, or never will as far as is known:
    /// [`Outcome::Acked`], or as [`Receipt::sent`]; [`Outcome::Unsupported`] where the stack
    /// cannot tell. Over TCP: the peer's kernel has it.
    pub fn acked(&self) -> Settling {
        let record = self.record();
        let position = record.want_ack().or(self.position);
        if record.known(Awaited::Acked).is_none() {
            let (watched, number) = (Arc::clone(&record), self.message.number);
            self.on_core(&record, move |core, id| watch_ack(core, id, number, position, watched));
        }
        Settling { record, awaited: Awaited::Acked }
    }

    /// The record; a plain Message gets one now.
    fn record(&self) -> Arc<Record> {
        let record = self.record.get_or_init(|| {
            let record = Record::new(None);
            if let Some(position) = self.position {
                let (watched, number) = (Arc::clone(&record), self.message.number);
                self.on_core(&record, move |core, id| watch(core, id, number, position, watched));
            }
            record
        });
        Arc::clone(record)
    }

    /// Does `act` on the Message's core; where that is gone, the Message has failed.
    fn on_core(&self, record: &Arc<Record>, act: impl FnOnce(&Rc<Core>, Id) + Send + 'static) {
        let MessageId { unit, slot, generation, .. } = self.message;
        let id = Id { unit, slot, generation };
        if let Some(core) = Core::current_is(unit) {
            // Maybe inside a call into this very connection: after it.
            return core.defer(move |core| act(core, id));
        }
        // Where nobody reads the letter, its end settles the Message.
        let unheard = Unheard(Some(Arc::clone(record)));
        if mail::find(unit).is_some() {
            let errand = move |core: &Rc<Core>| {
                unheard.heard();
                act(core, id);
            };
            mail::post_patiently(unit, Mail::Errand(Box::new(errand)));
        }
    }
}

/// A question to a core about one Message. Dropped unheard, for the core has ended, it settles the
/// Message.
struct Unheard(Option<Arc<Record>>);

impl Unheard {
    fn heard(mut self) {
        self.0 = None;
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        if let Some(record) = self.0.take() {
            let (actions, _) = record.settle(Outcome::Failed(CloseReason::Shutdown));
            actions.into_iter().for_each(Action::run);
        }
    }
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipt").field("message", &self.message).finish_non_exhaustive()
    }
}

/// A handler may return what `send` gave it.
impl HandlerAnswer for Receipt {
    fn flow(self) -> Flow {
        Flow::Continue
    }
}

impl From<&Receipt> for MessageId {
    fn from(receipt: &Receipt) -> Self {
        receipt.message
    }
}

impl From<&Self> for MessageId {
    fn from(message: &Self) -> Self {
        *message
    }
}

/// Has the core tell when a plain Message has left.
fn watch(core: &Rc<Core>, id: Id, number: u64, position: u64, record: Arc<Record>) {
    let limit = core.limits.scheduled_messages;
    let unheard = Arc::clone(&record);
    let watched = core.change(id, |connection| {
        let base = connection.protocol.as_ref().map_or(number, |protocol| protocol.submitted());
        let (left, handed) = (connection.left(), connection.handed);
        let reason = connection.reason.unwrap_or(CloseReason::Finished);
        let outgoing =
            connection.outgoing.get_or_insert_with(|| Box::new(Outgoing::new(base, limit)));
        outgoing.watch(number, position, record);
        outgoing.left(left);
        if connection.flags.close_told {
            outgoing.end(reason, handed);
        }
    });
    settle_gone(core, watched, &unheard);
}

/// Has the core ask the kernel for the ack of a Message.
fn watch_ack(core: &Rc<Core>, id: Id, number: u64, position: Option<u64>, record: Arc<Record>) {
    let unheard = Arc::clone(&record);
    let watched = core.change(id, |connection| {
        let (left, floor) = (connection.left(), connection.floor());
        let (Some(outgoing), Some(position)) = (&mut connection.outgoing, position) else { return };
        if position <= left {
            outgoing.watch_ack(number, position, record, position <= floor);
        }
    });
    if watched.is_ok() {
        core.check_soon(id);
    }
    settle_gone(core, watched, &unheard);
}

fn settle_gone(core: &Rc<Core>, watched: Result<(), CallError>, record: &Arc<Record>) {
    if let Err(CallError::Gone(_)) = watched {
        // It has left the queue one way or another before its connection ended.
        let (actions, _) = record.settle(Outcome::MayHaveArrived);
        for action in actions {
            core.guard(|| action.run());
        }
    }
}

/// The future of [`Receipt::sent`] and [`Receipt::acked`].
///
/// Cancel safety: dropping it changes nothing; the outcome can be asked for again.
#[must_use = "the outcome comes when the future is awaited"]
pub struct Settling {
    record: Arc<Record>,
    awaited: Awaited,
}

impl Settling {
    /// Waits on this thread.
    ///
    /// # Errors
    /// [`Error::WaitOnCore`] on a core thread.
    pub fn wait(self) -> Result<Outcome> {
        super::wait::wait(async { Ok::<_, Error>(self.await) })
    }
}

impl Future for Settling {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        match self.record.poll(self.awaited, context.waker()) {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::mailbox::{Bell, Mailbox};
    use crate::shard::mail::CoreHandle;

    struct Silent;
    impl Bell for Silent {
        fn ring(&self) {}
    }

    #[test]
    fn a_receipt_that_its_core_never_heard_of_settles() {
        let mailbox = Mailbox::new(16, Arc::new(Silent));
        let handle = CoreHandle::new(mailbox.postbox(), Arc::new(Silent), Arc::default());
        mail::register(&handle);
        let id = Id { unit: handle.unit, slot: 1, generation: 1 };
        let receipt = Receipt::plain(message_id(id, 1), 10);
        let mut settlings = [receipt.sent(), receipt.acked()];
        let mut context = Context::from_waker(std::task::Waker::noop());
        for settling in &mut settlings {
            assert!(Pin::new(settling).poll(&mut context).is_pending());
        }
        // It breaks down with the letters in its mailbox.
        drop(mailbox);
        mail::unregister(handle.unit);
        let failed = Poll::Ready(Outcome::Failed(CloseReason::Shutdown));
        for settling in &mut settlings {
            assert_eq!(Pin::new(settling).poll(&mut context), failed);
        }
    }
}
