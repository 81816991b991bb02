//! Call: user code is run, with no borrow of the core's state alive and no panic getting further.
//!
//! Above: the loop and the verbs. Below: `core`, whose slots the protocol, the outbox and the
//! ordered way out leave for the time of a call. Absent: what the calls are for.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::connection::{Connection, Peer};
use super::core::{CallError, Core, Id, State, attend, find, keep};
use super::outgoing::Outgoing;
use super::protocol::{Call, Packing, Protocol, Service};
use crate::error::CloseReason;
use crate::framer::Output;

/// What leaves its slot for the time of a call.
pub(super) struct Taken {
    protocol: Box<dyn Protocol>,
    outbox: Box<Output>,
    outgoing: Option<Box<Outgoing>>,
    handed: u64,
    left: u64,
    pub(super) packing: Packing,
}

impl State {
    /// Takes what a call needs out of its slot.
    #[inline]
    pub(super) fn take(&mut self, slot: u32) -> Result<Taken, CallError> {
        let connection = &mut self.slots[slot as usize];
        let protocol = connection.protocol.take().ok_or(CallError::InCall)?;
        let outbox = connection.outbox.take().or_else(|| self.spare_outputs.pop());
        let (handed, left) = (connection.handed, connection.left());
        let outgoing = connection.outgoing.take();
        let packing = connection.packing();
        let outbox = outbox.unwrap_or_default();
        Ok(Taken { protocol, outbox, outgoing, handed, left, packing })
    }
}

impl Core {
    /// Calls into the typed half of a connection, with no borrow alive; a panic ends the
    /// connection, not the core.
    pub(crate) fn call<R>(
        self: &Rc<Self>,
        id: Id,
        act: impl FnOnce(&mut dyn Protocol, &Call<'_>) -> R,
    ) -> Result<R, CallError> {
        let id = self.resolve(id);
        let taken = {
            let mut state = self.state.borrow_mut();
            find(&mut state.slots, id)?;
            state.take(id.slot)?
        };
        self.call_taken(id, taken, act, |_, _| {})
    }

    /// The same for what was taken out of its slot already; `then` sees the slot when all is back.
    #[inline]
    pub(super) fn call_taken<R>(
        self: &Rc<Self>,
        id: Id,
        taken: Taken,
        act: impl FnOnce(&mut dyn Protocol, &Call<'_>) -> R,
        then: impl FnOnce(&mut Connection, &R),
    ) -> Result<R, CallError> {
        let Taken { mut protocol, outbox, outgoing, handed, left, packing } = taken;
        let (outbox, outgoing) = (RefCell::new(outbox), RefCell::new(outgoing));
        let call = Call {
            core: self,
            id,
            outbox: &outbox,
            outgoing: &outgoing,
            handed,
            left,
            packing,
            sent_messages: Cell::new(0),
        };
        let acted = catch_unwind(AssertUnwindSafe(|| act(&mut *protocol, &call)));
        let name = acted.is_err().then(|| protocol.name());
        self.metrics.sent_messages.add(call.sent_messages.get());
        let (mut outbox, outgoing) = (outbox.into_inner(), outgoing.into_inner());
        if acted.is_err() && packing != Packing::Stream {
            // What a framer had begun would become a part of the next datagram, to anybody.
            self.guard(|| outbox.forget_begun());
        }
        let taken = Taken { protocol, outbox, outgoing, handed, left, packing };
        self.put_back(id, taken, |connection| {
            if let Ok(result) = &acted {
                then(connection, result);
            }
        });
        acted.map_err(|panic| self.panicked(id, name.as_deref(), panic))
    }

    #[cold]
    fn panicked(&self, id: Id, name: Option<&str>, payload: Box<dyn Any + Send>) -> CallError {
        let name = name.unwrap_or_default();
        self.metrics.panics.add(1);
        let panic = super::panic_text(&*payload);
        let serves_all = self.look(id, |connection| connection.peer == Peer::Anybody);
        if serves_all == Ok(true) {
            // One of those who send datagrams must not end the service of all others.
            tracing::error!(name, panic, "user code panicked; its datagrams are unanswered");
            discard(payload);
            return CallError::Gone(CloseReason::Panicked);
        }
        tracing::error!(name, panic, "user code panicked; its carrier has ended");
        discard(payload);
        self.fail(id, CloseReason::Panicked);
        CallError::Gone(CloseReason::Panicked)
    }

    /// What `service` makes of a fresh slot; a panic of user code is its failure.
    pub(super) fn open(
        self: &Rc<Self>,
        service: &dyn Service,
        id: Id,
    ) -> Result<Box<dyn Protocol>, CloseReason> {
        let opened = AssertUnwindSafe(|| service.open(self, id));
        catch_unwind(opened).unwrap_or_else(|payload| {
            self.metrics.panics.add(1);
            let panic = super::panic_text(&*payload);
            tracing::error!(panic, "a factory panicked; its carrier has ended");
            discard(payload);
            Err(CloseReason::Panicked)
        })
    }

    /// Runs user code that belongs to no connection: a panic is counted and logged, the core lives
    /// on.
    pub(crate) fn guard(&self, act: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(act)) {
            self.metrics.panics.add(1);
            let panic = super::panic_text(&*payload);
            tracing::error!(panic, "user code outside a carrier panicked; its core lives on");
            discard(payload);
        }
    }

    /// Frees a slot; what it held is dropped outside every borrow, whatever its Drop does.
    pub(crate) fn free_guarded(&self, id: Id) {
        let freed = self.free(id);
        self.guard(|| drop(freed));
    }

    #[inline]
    fn put_back(&self, id: Id, taken: Taken, then: impl FnOnce(&mut Connection)) {
        let Taken { protocol, outbox, outgoing, .. } = taken;
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let connection = &mut state.slots[id.slot as usize];
        debug_assert!(connection.generation == id.generation, "a slot in a call is not freed");
        connection.protocol = Some(protocol);
        then(connection);
        if let Some(outgoing) = outgoing {
            if outgoing.needs_attention() {
                attend(connection, id.slot, &mut state.attention);
            }
            connection.outgoing = Some(outgoing);
        }
        if outbox.is_empty() {
            keep(&mut state.spare_outputs, outbox);
        } else {
            connection.outbox = Some(outbox);
            attend(connection, id.slot, &mut state.attention);
        }
    }
}

/// Drops what a panic left behind; if that panics as well, it is left where it is.
pub(super) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}
