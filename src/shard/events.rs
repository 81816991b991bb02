//! Events: who hears what became of the Messages of one connection, and how word reaches them.
//!
//! Above: `carrier::events` sets handlers and streams. Below: `Outgoing` says what became of each
//! Message. A Message's own callbacks stand in place of the Carrier's handlers; streams hear of
//! every one. Absent: how an outcome comes about. Bounds: three handlers, `STREAMS_MAX` streams.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use super::core::{Core, Id};
use super::event_queue::EventSender;
use super::outgoing::Outgoing;
use super::record::{Action, Record};
use crate::error::CloseReason;
use crate::framer::Output;
use crate::message::{Event, MessageId, Outcome};

/// The most streams of events of one Carrier.
pub(crate) const STREAMS_MAX: usize = 16;

/// A Carrier's own handler for one kind of event.
pub(crate) type Handler = Rc<RefCell<dyn FnMut(MessageId)>>;

/// Which default handler of a Carrier (draft §3.2: `OnSent`, `OnAcked`, `OnExpired`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sent,
    Acked,
    Expired,
}

/// Who hears of the Messages of one connection.
#[derive(Default)]
pub(crate) struct Listeners {
    sent: Option<Handler>,
    acked: Option<Handler>,
    expired: Option<Handler>,
    streams: Vec<EventSender>,
}

/// Word of one Message, to be delivered outside every borrow.
pub(crate) struct Report {
    pub(crate) number: u64,
    pub(crate) record: Option<Arc<Record>>,
    pub(crate) outcome: Outcome,
    /// Nobody but its Receipt asked: it was sent before anybody listened.
    pub(crate) private: bool,
    /// What is left of it; its drop may run user code.
    pub(crate) remains: Option<Output>,
}

impl Listeners {
    /// Sets a handler; the one that was set before is to be dropped outside every borrow.
    pub(crate) fn set(&mut self, kind: Kind, handler: Handler) -> Option<Handler> {
        let place = match kind {
            Kind::Sent => &mut self.sent,
            Kind::Acked => &mut self.acked,
            Kind::Expired => &mut self.expired,
        };
        place.replace(handler)
    }

    /// Adds a stream, or gives it back if there are too many.
    pub(crate) fn add(&mut self, stream: EventSender) -> Result<(), EventSender> {
        self.streams.retain(|known| !known.is_abandoned());
        if self.streams.len() >= STREAMS_MAX {
            return Err(stream);
        }
        self.streams.push(stream);
        Ok(())
    }

    /// True if acks are to be asked for even where no Receipt wants one.
    pub(crate) fn want_acks(&self) -> bool {
        self.acked.is_some() || self.streams.iter().any(|stream| !stream.is_abandoned())
    }

    /// The handler of an outcome.
    fn handler(&self, outcome: Outcome) -> Option<Handler> {
        let handler = match outcome {
            Outcome::Sent => self.sent.as_ref(),
            Outcome::Acked => self.acked.as_ref(),
            Outcome::Expired(_) => self.expired.as_ref(),
            _ => None,
        };
        handler.map(Rc::clone)
    }

    fn tell_streams(&mut self, event: Event) -> Vec<Waker> {
        self.streams.retain(|stream| !stream.is_abandoned());
        self.streams.iter().filter_map(|stream| stream.push(event)).collect()
    }
}

/// What is to be done about one report.
struct Word {
    message: MessageId,
    outcome: Outcome,
    actions: Vec<Action>,
    wakers: Vec<Waker>,
    handler: Option<Handler>,
    remains: Option<Output>,
    /// The last to know it drops its callbacks, which are user memory.
    record: Option<Arc<Record>>,
}

impl Word {
    fn of(report: Report, message: MessageId, listeners: &mut Listeners) -> Self {
        let Report { record, outcome, private, remains, .. } = report;
        let (actions, unheard) = match &record {
            Some(record) => record.settle(outcome),
            None => (Vec::new(), true),
        };
        let event = Event::of(message, outcome).filter(|_| !private);
        let wakers = event.map_or_else(Vec::new, |event| listeners.tell_streams(event));
        let handler = if unheard && !private { listeners.handler(outcome) } else { None };
        Self { message, outcome, actions, wakers, handler, remains, record }
    }

    /// Runs user code, piece by piece: a panic of one does not keep the others from being told.
    fn deliver(self, core: &Core) {
        core.guard(|| drop(self.remains));
        for waker in self.wakers {
            core.guard(|| waker.wake());
        }
        for action in self.actions {
            core.guard(|| action.run());
        }
        if let Some(handler) = self.handler {
            core.guard(|| (handler.borrow_mut())(self.message));
        }
        core.guard(|| drop(self.record));
    }
}

impl Core {
    /// Delivers word of Messages that have settled; user code runs right after this call.
    pub(crate) fn report(&self, id: Id) {
        let id = self.resolve(id);
        let Id { unit, slot, generation } = id;
        let words = self.with_outgoing(id, |outgoing| {
            let reports = outgoing.take_reports();
            let word = |report: Report| {
                let message = MessageId { unit, slot, generation, number: report.number };
                Word::of(report, message, &mut outgoing.listeners)
            };
            reports.into_iter().map(word).collect::<Vec<_>>()
        });
        for word in words.unwrap_or_default() {
            self.count(word.outcome);
            self.defer(move |core| word.deliver(core));
        }
    }

    /// Tells the streams that a Message was refused before it had a number; user code may run.
    pub(crate) fn tell_refused(&self, id: Id) {
        let id = self.resolve(id);
        let tell = |outgoing: &mut Outgoing| outgoing.listeners.tell_streams(Event::Refused);
        for waker in self.with_outgoing(id, tell).unwrap_or_default() {
            self.guard(|| waker.wake());
        }
    }

    fn count(&self, outcome: Outcome) {
        let metrics = &self.metrics;
        match outcome {
            Outcome::Sent => metrics.sent_messages.add(1),
            Outcome::Acked => metrics.acked_messages.add(1),
            Outcome::Expired(_) => metrics.expired_messages.add(1),
            Outcome::Failed(_) | Outcome::MayHaveArrived => metrics.failed_messages.add(1),
            Outcome::Unsupported => {}
        }
    }

    /// Tells the streams of a connection that it is over.
    pub(crate) fn end_events(&self, id: Id, reason: CloseReason) {
        let id = self.resolve(id);
        let listeners = self.with_outgoing(id, |outgoing| std::mem::take(&mut outgoing.listeners));
        let Some(listeners) = listeners else { return };
        for waker in listeners.streams.iter().filter_map(|stream| stream.end(reason)) {
            self.defer(move |core| core.guard(|| waker.wake()));
        }
        // Handlers are user memory.
        self.defer(move |core| core.guard(|| drop(listeners)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::event_queue::event_queue;

    fn message() -> MessageId {
        MessageId { unit: 1, slot: 1, generation: 1, number: 1 }
    }

    fn report(record: Option<Arc<Record>>, outcome: Outcome, private: bool) -> Report {
        Report { number: 1, record, outcome, private, remains: None }
    }

    #[test]
    fn each_outcome_has_its_handler_and_private_ones_have_none() {
        let mut listeners = Listeners::default();
        let heard = Rc::new(RefCell::new(Vec::new()));
        for kind in [Kind::Sent, Kind::Acked, Kind::Expired] {
            let heard = Rc::clone(&heard);
            let tell = move |_| heard.borrow_mut().push(kind);
            assert!(listeners.set(kind, Rc::new(RefCell::new(tell))).is_none());
        }
        let expired = Outcome::Expired(crate::message::Expiry::Deadline);
        for outcome in [Outcome::Sent, Outcome::Acked, expired, Outcome::MayHaveArrived] {
            let word = Word::of(report(None, outcome, false), message(), &mut listeners);
            if let Some(handler) = word.handler {
                (handler.borrow_mut())(message());
            }
            let word = Word::of(report(None, outcome, true), message(), &mut listeners);
            assert!(word.handler.is_none());
        }
        assert_eq!(*heard.borrow(), [Kind::Sent, Kind::Acked, Kind::Expired]);
    }

    #[test]
    fn a_message_that_settled_is_told_once() {
        let mut listeners = Listeners::default();
        listeners.set(Kind::Acked, Rc::new(RefCell::new(|_| ())));
        let record = Record::new(None);
        for (times, wanted) in [(1, true), (2, false)] {
            let again = report(Some(Arc::clone(&record)), Outcome::Acked, false);
            let word = Word::of(again, message(), &mut listeners);
            assert_eq!(word.handler.is_some(), wanted, "time {times}");
        }
    }

    #[test]
    fn streams_are_bounded_and_forgotten_when_dropped() {
        let mut listeners = Listeners::default();
        let mut kept = Vec::new();
        for _ in 0..STREAMS_MAX {
            let (sender, receiver) = event_queue(4);
            assert!(listeners.add(sender).is_ok());
            kept.push(receiver);
        }
        assert!(listeners.want_acks());
        assert!(listeners.add(event_queue(4).0).is_err());
        kept.pop();
        assert!(listeners.add(event_queue(4).0).is_ok());
        kept.clear();
        assert!(!listeners.want_acks());
    }
}
