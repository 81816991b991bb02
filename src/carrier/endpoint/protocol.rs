//! The endpoint as the shard knows it: without its types.
//!
//! Above: the shard calls it with bytes, datagrams and ends. Below: the endpoint. Absent: sockets.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::rc::Rc;

use super::super::here;
use super::{Endpoint, Reader, needs};
use crate::address::Address;
use crate::error::CloseReason;
use crate::framer::Framer;
use crate::message::{Marking, Outcome};
use crate::shard::core::{Core, Id};
use crate::shard::protocol::{Call, Lost, Progress, Protocol, Verdict};

impl<F: Framer> Protocol for Endpoint<F> {
    fn input(&mut self, call: &Call<'_>, bytes: &[u8], at_end: bool) -> Progress {
        let (progress, messages) = self.decode_all(call, bytes, at_end);
        call.core.metrics.received_messages.add(messages);
        // What nobody has asked for yet is a greeting, too.
        let came = messages > 0 || (progress.verdict == Verdict::Paused && !bytes.is_empty());
        if came && !self.greeted {
            self.greeted = true;
            // In use: it is in a call.
            let _ = call.core.change(call.id, |connection| connection.flags.greeted = true);
        }
        progress
    }

    fn takes_datagrams(&mut self) {
        if let Reader::Carrier(inbox) = &mut self.reader {
            inbox.takes_datagrams();
        }
        let fresh = self.way.framer.get_mut().clone();
        self.rare().fresh.get_or_insert(fresh);
    }

    fn datagram(&mut self, call: &Call<'_>, bytes: &[u8], marking: Marking) {
        if matches!(self.reader, Reader::Respond(_)) && !self.has_room_for_messages(call.core) {
            // Those before it in its train have begun all the handlers that there may be.
            return call.core.metrics.dropped_datagrams.add(1);
        }
        match self.way.framer.get_mut().decode_datagram(bytes) {
            // Nobody can be told to send no more: each datagram is for itself.
            Ok(mut message) => {
                F::mark(&mut message, marking);
                self.hand_over(call, message);
                call.core.metrics.received_messages.add(1);
            }
            Err(error) => {
                call.core.metrics.frame_errors.add(1);
                if call.core.may_log() {
                    tracing::debug!(%error, "a datagram was no message; it was dropped");
                }
                if let Some(fresh) = self.rare.as_ref().and_then(|rare| rare.fresh.as_ref()) {
                    self.way.framer = RefCell::new(fresh.clone());
                }
            }
        }
    }

    fn needs(&mut self, bytes: &[u8]) -> Option<usize> {
        let demand = self.demand(false);
        needs(self.way.framer.get_mut(), bytes, demand)
    }

    fn input_ended(&mut self, call: &Call<'_>, rest: usize) -> Verdict {
        let ended = self.way.framer.get_mut().end(rest);
        let verdict = match ended {
            Ok(None) => Verdict::More { needs: None },
            Ok(Some(message)) => {
                if self.hand_over(call, message) {
                    Verdict::More { needs: None }
                } else {
                    Verdict::Stop
                }
            }
            // Nobody ends in order within a Message.
            Err(_) if self.is_revivable() => return Verdict::Fail(CloseReason::Reset),
            Err(error) => {
                tracing::debug!(%error, "the peer ended within a message");
                Verdict::Fail(CloseReason::Framing)
            }
        };
        if let Reader::Carrier(inbox) = &mut self.reader {
            let reason = match verdict {
                Verdict::Fail(reason) => reason,
                _ => CloseReason::Finished,
            };
            inbox.end(reason);
        }
        verdict
    }

    fn opened(&mut self, call: &Call<'_>) {
        let Some(rare) = &mut self.rare else { return };
        for promise in rare.activating.drain(..) {
            promise.answer(Ok(()));
        }
        self.take_parcels(call);
    }

    fn writable(&mut self, call: &Call<'_>) {
        self.take_parcels(call);
        let Some(rare) = &mut self.rare else { return };
        for waker in rare.room.drain(..) {
            waker.wake();
        }
        if !rare.parcels.is_empty() {
            // In use: it is in a call.
            let _ = call.core.change(call.id, |connection| connection.flags.wants_room = true);
        }
    }

    fn closed(&mut self, core: &Rc<Core>, id: Id, reason: CloseReason) {
        if let Reader::Carrier(inbox) = &mut self.reader {
            inbox.end(reason);
        }
        self.break_off(core, Outcome::MayHaveArrived);
        let connecting = self.connecting();
        let words = here::unresolved(core, id);
        let Some(rare) = &mut self.rare else { return };
        let failure = || here::error_of(reason, connecting.as_deref(), words.as_deref());
        for promise in rare.activating.drain(..) {
            promise.answer(Err(failure()));
        }
        here::set_full(core, id, None);
        for (accepting, _) in rare.parcels.drain(..) {
            if accepting.claim() {
                accepting.answer(core, id, Err(failure()));
            }
        }
        for waker in rare.room.drain(..) {
            waker.wake();
        }
        for promise in rare.closing.drain(..) {
            let (address, words) = (connecting.as_deref(), words.as_deref());
            promise.answer(here::closed_in_order(reason, address, words));
        }
        // Each is called, whatever the one before it did: a panic is caught, counted and logged.
        for handler in rare.on_closed.drain(..) {
            core.guard(|| handler(reason));
        }
    }

    fn answers_by_handler(&self) -> bool {
        Self::answers_by_handler(self)
    }

    fn wants_input(&self, core: &Core) -> bool {
        self.has_room_for_messages(core)
    }

    fn awaits_input(&self) -> bool {
        match &self.reader {
            Reader::Respond(_) => false,
            Reader::Carrier(inbox) => inbox.is_awaited(),
        }
    }

    fn awaits_connection(&self) -> bool {
        let activating = self.rare.as_ref().is_some_and(|rare| !rare.activating.is_empty());
        activating || self.awaits_input()
    }

    fn lost(&mut self, core: &Core) -> Lost {
        self.break_off(core, Outcome::MayHaveArrived);
        if let Reader::Carrier(inbox) = &mut self.reader {
            inbox.reopen();
        }
        let heard = std::mem::take(&mut self.greeted);
        let Some(rare) = &mut self.rare else { return Lost { ends: Vec::new(), heard } };
        if let Some(fresh) = &rare.fresh {
            self.way.framer = RefCell::new(fresh.clone());
        }
        Lost { ends: rare.ends.iter().copied().collect(), heard }
    }

    fn remote(&self) -> Option<Address> {
        self.address()?.as_ref().ok().cloned()
    }

    fn is_busy(&self) -> bool {
        self.answering > 0
    }

    fn submitted(&self) -> u64 {
        self.way.submitted.get()
    }

    fn task_ended(&mut self) {
        self.answering = self.answering.saturating_sub(1);
    }

    fn ends_with_input(&self) -> bool {
        matches!(self.reader, Reader::Respond(_))
    }

    fn framer(&self) -> TypeId {
        TypeId::of::<F>()
    }

    fn name(&self) -> Rc<str> {
        match &self.reader {
            Reader::Respond(respond) => respond.name(),
            Reader::Carrier(_) => std::any::type_name::<F>().into(),
        }
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
