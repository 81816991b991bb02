//! Inbox: received Messages of one Carrier, and who waits for them.
//!
//! Above: `receive` from its core and from other threads, `ready` handlers. Below: the endpoint
//! delivers decoded Messages. Absent: bytes. Bound: `Limits::receive_queue_messages` ahead of
//! demand; one slot per future that waits on another thread.
//!
//! No Message is lost or doubled when a future is dropped: on its own core a Message leaves the
//! inbox only in the poll that returns it; for another thread it lies in that future's slot until
//! it is taken, and comes back to the front of the inbox if the future was dropped first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::responder::Flow;
use super::slot::{Fate, Slot};
use crate::error::CloseReason;
use crate::framer::Framer;
use crate::message::Detach;

/// A handler of `ready`: it sees Messages where they lie.
pub(crate) type Handler<F> = Box<dyn FnMut(<F as Framer>::In<'_>) -> Flow + Send>;

/// Received Messages and their takers.
pub(crate) struct Inbox<F: Framer> {
    messages: VecDeque<F::Got>,
    handler: Option<Handler<F>>,
    /// Futures on this core.
    here: VecDeque<Waker>,
    /// Futures on other threads that wait.
    elsewhere: VecDeque<Arc<Slot<F::Got>>>,
    /// Futures on other threads that have a message they did not take yet.
    filled: VecDeque<Arc<Slot<F::Got>>>,
    ahead_max: usize,
    ended: Option<CloseReason>,
}

impl<F: Framer> Inbox<F> {
    pub(crate) fn new(ahead_max: usize) -> Self {
        Self {
            messages: VecDeque::new(),
            handler: None,
            here: VecDeque::new(),
            elsewhere: VecDeque::new(),
            filled: VecDeque::new(),
            ahead_max,
            ended: None,
        }
    }

    /// True if a message would find a taker or a place.
    pub(crate) fn wants(&self) -> bool {
        let somebody = self.handler.is_some() || !self.elsewhere.is_empty();
        somebody || self.messages.len() < self.ahead_max
    }

    /// Hands a decoded message to whoever is first, or keeps it.
    pub(crate) fn deliver(&mut self, message: F::In<'_>) {
        if self.messages.is_empty()
            && let Some(handler) = &mut self.handler
        {
            if handler(message) == Flow::Stop {
                self.handler = None;
            }
            return;
        }
        self.messages.push_back(message.detach());
        self.hand_out();
    }

    /// Gives kept messages to those that wait, in order.
    pub(crate) fn hand_out(&mut self) {
        self.fetch_back();
        self.run_handler();
        while let Some(message) = self.messages.pop_front() {
            let Some(slot) = self.elsewhere.pop_front() else {
                self.messages.push_front(message);
                break;
            };
            match slot.fill(message) {
                None => self.filled.push_back(slot),
                Some(message) => self.messages.push_front(message),
            }
        }
        if !self.messages.is_empty() {
            self.wake_here();
        }
        if let Some(reason) = self.ended
            && self.messages.is_empty()
        {
            for slot in self.elsewhere.drain(..) {
                slot.end(reason.into());
            }
        }
    }

    fn run_handler(&mut self) {
        while let Some(handler) = &mut self.handler
            && let Some(message) = self.messages.pop_front()
        {
            if handler(F::lend(message)) == Flow::Stop {
                self.handler = None;
            }
        }
    }

    fn wake_here(&mut self) {
        for waker in self.here.drain(..) {
            waker.wake();
        }
    }

    /// Messages whose future was dropped come back, oldest first.
    fn fetch_back(&mut self) {
        if self.filled.is_empty() {
            return;
        }
        let mut kept = VecDeque::new();
        while let Some(slot) = self.filled.pop_back() {
            match slot.fate() {
                Fate::StillThere => kept.push_front(slot),
                Fate::Over => {}
                Fate::Back(message) => self.messages.push_front(message),
            }
        }
        self.filled = kept;
    }

    /// The next message for a future on this core; else it is woken when there is one.
    pub(crate) fn take(&mut self, waker: &Waker) -> Option<Result<F::Got, CloseReason>> {
        self.fetch_back();
        if let Some(message) = self.messages.pop_front() {
            return Some(Ok(message));
        }
        if let Some(reason) = self.ended {
            return Some(Err(reason));
        }
        if !self.here.iter().any(|known| known.will_wake(waker)) {
            self.here.push_back(waker.clone());
        }
        None
    }

    /// A future on another thread waits.
    pub(crate) fn wait_elsewhere(&mut self, slot: Arc<Slot<F::Got>>) {
        self.elsewhere.retain(|slot| !slot.is_abandoned());
        self.elsewhere.push_back(slot);
        self.hand_out();
    }

    /// From now on `handler` gets the messages, those that are kept first. Gives back the handler
    /// that was set before.
    pub(crate) fn set_handler(&mut self, handler: Handler<F>) -> Option<Handler<F>> {
        let before = self.handler.replace(handler);
        self.hand_out();
        before
    }

    /// True while messages were asked for that have not come.
    pub(crate) fn is_awaited(&self) -> bool {
        self.ended.is_none()
            && (self.handler.is_some()
                || self.elsewhere.iter().any(|slot| !slot.is_abandoned())
                || !self.here.is_empty())
    }

    /// There may be another connection after all: what waits goes on waiting.
    pub(crate) fn reopen(&mut self) {
        self.ended = None;
    }

    /// No more messages come: those that wait in vain are told.
    pub(crate) fn end(&mut self, reason: CloseReason) {
        self.ended.get_or_insert(reason);
        self.hand_out();
        self.wake_here();
        self.handler = None;
    }
}

impl<F: Framer> Drop for Inbox<F> {
    fn drop(&mut self) {
        // Only a core that broke down drops an inbox before its end was told.
        for slot in self.elsewhere.drain(..) {
            slot.end(crate::error::Error::EngineEnded);
        }
    }
}
