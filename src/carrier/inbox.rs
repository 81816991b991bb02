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

use super::part::{Demand, Part};
use super::responder::Flow;
use super::slot::{Fate, Slot};
use crate::error::{CloseReason, Error};
use crate::framer::Framer;
use crate::message::Detach;

/// A handler of `ready`: it sees Messages where they lie.
pub(crate) type Handler<F> = Box<dyn FnMut(Part<<F as Framer>::In<'_>>) -> Flow + Send>;

/// Where one Message arrives on another thread.
pub(crate) type Place<F> = Arc<Slot<Part<<F as Framer>::Got>>>;

/// Received Messages and their takers.
pub(crate) struct Inbox<F: Framer> {
    messages: VecDeque<Part<F::Got>>,
    handler: Option<(Demand, Handler<F>)>,
    /// Futures on this core.
    here: VecDeque<(Demand, Waker)>,
    /// Futures on other threads that wait.
    elsewhere: VecDeque<(Demand, Place<F>)>,
    /// Futures on other threads that have a message they did not take yet.
    filled: VecDeque<Place<F>>,
    ahead_max: usize,
    /// What was asked for last: nothing is received ahead of who takes parts.
    last: Demand,
    /// The number of the Message that came last.
    number: u64,
    /// More parts of it are to come.
    within: bool,
    /// A large Message waits for a taker.
    held: bool,
    /// They will not come.
    broken: bool,
    ended: Option<CloseReason>,
    /// Messages come whole, each a datagram.
    datagrams: bool,
}

const BROKEN: &str = "the connection was lost within a message received in parts; its rest will \
                      not come, the next receive begins with another message";

impl<F: Framer> Inbox<F> {
    pub(crate) fn new(ahead_max: usize) -> Self {
        Self {
            messages: VecDeque::new(),
            handler: None,
            here: VecDeque::new(),
            elsewhere: VecDeque::new(),
            filled: VecDeque::new(),
            ahead_max,
            last: Demand::Whole,
            number: 0,
            within: false,
            held: false,
            broken: false,
            ended: None,
            datagrams: false,
        }
    }

    /// From now on Messages come whole, each a datagram.
    pub(crate) const fn takes_datagrams(&mut self) {
        self.datagrams = true;
    }

    /// True if a message would find a taker or a place.
    pub(crate) fn wants(&self) -> bool {
        if self.held && !self.is_awaited() {
            return false;
        }
        // Parts are cut as they are asked for; so is a stream, which is one Message in parts.
        let cut = F::PARTS && !self.datagrams && (!F::STANDS_ALONE || self.last != Demand::Whole);
        let ahead = if cut {
            self.messages.is_empty() && !self.here.is_empty()
        } else {
            self.messages.len() < self.ahead_max
        };
        ahead || self.handler.is_some() || !self.elsewhere.is_empty()
    }

    /// A large Message has begun: it is received for a taker only, and as that one wants it.
    /// True if there is none.
    pub(crate) fn holds_large(&mut self) -> bool {
        self.held = F::PARTS && !self.is_awaited();
        self.held
    }

    /// What the next taker wants.
    pub(crate) fn demand(&self) -> Demand {
        let first = self.handler.as_ref().map(|(demand, _)| *demand);
        let first = first.or_else(|| self.elsewhere.front().map(|(demand, _)| *demand));
        let first = first.or_else(|| self.here.front().map(|(demand, _)| *demand));
        first.unwrap_or(self.last)
    }

    /// Hands a decoded message to whoever is first, or keeps it.
    pub(crate) fn deliver(&mut self, message: F::In<'_>) {
        let complete = F::is_complete(&message);
        self.number += u64::from(!self.within);
        self.within = !complete;
        let handle = self.number;
        if self.messages.is_empty()
            && let Some((_, handler)) = &mut self.handler
        {
            if handler(Part { message, handle, complete }) == Flow::Stop {
                self.handler = None;
            }
            return;
        }
        self.messages.push_back(Part { message: message.detach(), handle, complete });
        self.hand_out();
    }

    /// The next message or part in the way it is asked for.
    fn next(&mut self, demand: Demand) -> Option<Part<F::Got>> {
        let part = self.messages.pop_front()?;
        let Demand::Part { max, .. } = demand else { return Some(part) };
        let Part { message, handle, complete } = part;
        let (message, rest) = F::cut(message, max);
        let is_last = rest.is_none();
        if let Some(message) = rest {
            self.messages.push_front(Part { message, handle, complete });
        }
        Some(Part { message, handle, complete: complete && is_last })
    }

    /// Gives kept messages to those that wait, in order.
    pub(crate) fn hand_out(&mut self) {
        self.fetch_back();
        self.run_handler();
        while !self.messages.is_empty() {
            let Some((demand, slot)) = self.elsewhere.pop_front() else { break };
            let Some(part) = self.next(demand) else { break };
            match slot.fill(part) {
                None => self.filled.push_back(slot),
                Some(part) => self.messages.push_front(part),
            }
        }
        if self.messages.is_empty()
            && self.broken
            && let Some((_, slot)) = self.elsewhere.pop_front()
        {
            self.broken = false;
            slot.end(Error::Message(BROKEN.into()));
        }
        if !self.messages.is_empty() || self.broken {
            self.wake_here();
        }
        if let Some(reason) = self.ended
            && self.messages.is_empty()
        {
            for (_, slot) in self.elsewhere.drain(..) {
                slot.end(reason.into());
            }
        }
    }

    fn run_handler(&mut self) {
        while let Some((demand, mut handler)) = self.handler.take() {
            let Some(Part { message, handle, complete }) = self.next(demand) else {
                self.handler = Some((demand, handler));
                return;
            };
            let part = Part { message: F::lend(message), handle, complete };
            if handler(part) == Flow::Continue {
                self.handler = Some((demand, handler));
            }
        }
    }

    fn wake_here(&mut self) {
        for (_, waker) in self.here.drain(..) {
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
    pub(crate) fn take(
        &mut self,
        demand: Demand,
        waker: &Waker,
    ) -> Option<Result<Part<F::Got>, Error>> {
        (self.last, self.held) = (demand, false);
        self.fetch_back();
        if let Some(part) = self.next(demand) {
            return Some(Ok(part));
        }
        if std::mem::take(&mut self.broken) {
            return Some(Err(Error::Message(BROKEN.into())));
        }
        if let Some(reason) = self.ended {
            return Some(Err(reason.into()));
        }
        if !self.here.iter().any(|(_, known)| known.will_wake(waker)) {
            self.here.push_back((demand, waker.clone()));
        }
        None
    }

    /// A future on another thread waits.
    pub(crate) fn wait_elsewhere(&mut self, demand: Demand, slot: Place<F>) {
        (self.last, self.held) = (demand, false);
        self.elsewhere.retain(|(_, slot)| !slot.is_abandoned());
        self.elsewhere.push_back((demand, slot));
        self.hand_out();
    }

    /// From now on `handler` gets the messages, those that are kept first. Gives back the handler
    /// that was set before.
    pub(crate) fn set_handler(
        &mut self,
        demand: Demand,
        handler: Handler<F>,
    ) -> Option<Handler<F>> {
        (self.last, self.held) = (demand, false);
        let before = self.handler.replace((demand, handler));
        self.hand_out();
        before.map(|(_, handler)| handler)
    }

    pub(crate) const fn has_handler(&self) -> bool {
        self.handler.is_some()
    }

    /// True while messages were asked for that have not come.
    pub(crate) fn is_awaited(&self) -> bool {
        let elsewhere = || self.elsewhere.iter().any(|(_, slot)| !slot.is_abandoned());
        self.ended.is_none() && (self.handler.is_some() || !self.here.is_empty() || elsewhere())
    }

    /// There may be another connection after all: what waits goes on waiting.
    pub(crate) fn reopen(&mut self) {
        self.ended = None;
        self.broken |= std::mem::take(&mut self.within);
        self.hand_out();
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
        for (_, slot) in self.elsewhere.drain(..) {
            slot.end(Error::EngineEnded);
        }
    }
}
