//! Settle: does what slots need next, step by step until nothing is left.
//!
//! Above: the turn, for every slot that asked for attention. Below: `steps` decides, the driver is
//! given operations. Absent: how a slot came to its state.

use std::rc::Rc;
use std::time::Duration;

use super::Shard;
use super::connection::{Connection, Peer, Phase};
use super::core::{ACKS_EVERY, Core, Id};
use super::outgoing::Filling;
use super::remotes::Remotes;
use super::steps::{Step, next_step};
use crate::engine::errno::Errno;
use crate::engine::operation::{Manner, Operation, PathSample, Token};
use crate::framer::Output;

impl Shard {
    pub(super) fn settle_all(&mut self) {
        // Settling may call user code, which may ask for attention again: until none is left,
        // bounded so that completions are not kept waiting.
        for _ in 0..4 {
            let mut attention = {
                let mut state = self.core.state.borrow_mut();
                if state.attention.is_empty() {
                    return;
                }
                std::mem::take(&mut state.attention)
            };
            for slot in attention.drain(..) {
                self.settle(slot);
                self.core.run_deferred();
            }
            let mut state = self.core.state.borrow_mut();
            if state.attention.is_empty() {
                state.attention = attention;
                return;
            }
        }
    }

    pub(super) fn settle(&mut self, slot: u32) {
        let mut tries = 0;
        loop {
            let (id, step) = {
                let mut state = self.core.state.borrow_mut();
                let connection = &mut state.slots[slot as usize];
                connection.flags.attended = false;
                if connection.is_quiet() {
                    return;
                }
                let id = self.core.id(slot, connection.generation);
                (id, next_step(connection, &self.core))
            };
            // A handler that makes its own connection resumable again and again yields to others.
            tries += 1;
            if tries > 16 {
                return self.core.attend(id);
            }
            match step {
                Step::Nothing => return,
                Step::Wait { until_us } => {
                    let now_us = self.core.now_us();
                    return self.look_again(id, now_us, Some(until_us), false);
                }
                Step::Revive => self.revive(id),
                Step::Resume => self.feed_pending(id),
                Step::TellEnd => self.tell_input_end(id),
                Step::Schedule => self.schedule(id),
                Step::Report => self.report(id),
                Step::Send => self.send(id),
                Step::EndOutput => self.end_output_now(id),
                Step::Close => return self.close(id),
                Step::Discard => {
                    let mut state = self.core.state.borrow_mut();
                    let connection = &mut state.slots[slot as usize];
                    connection.flags.discarding = true;
                    // Nobody resumes it any more, and what still comes must be read.
                    connection.flags.paused = false;
                    connection.pending = Vec::new();
                }
                Step::Receive => self.ask_for_bytes(id),
                Step::StopReceive => self.submit_flagged(
                    id,
                    |flags| flags.stopping = true,
                    |token| Operation::StopReceive { token },
                ),
                Step::Accept => self.submit_flagged(
                    id,
                    |flags| flags.accepting = true,
                    |token| Operation::Accept { token },
                ),
                Step::StopAccept => self.submit_flagged(
                    id,
                    |flags| flags.stopping = true,
                    |token| Operation::StopAccept { token },
                ),
            }
        }
    }

    fn submit_flagged(
        &mut self,
        id: Id,
        flag: impl FnOnce(&mut super::connection::Flags),
        operation: impl FnOnce(Token) -> Operation,
    ) {
        flag(&mut self.core.state.borrow_mut().slots[id.slot as usize].flags);
        self.driver.submit(operation(self.token(id)));
    }

    fn send(&mut self, id: Id) {
        self.mark(id);
        let token = self.token(id);
        let now = self.core.now_ms();
        let (output, paced, kept, hub) = {
            let mut state = self.core.state.borrow_mut();
            if let Some(at) = super::timeouts::after(now, self.core.timeouts.unread_send) {
                state.check_by(id.slot, at, self.core.now_tick());
            }
            let connection = &mut state.slots[id.slot as usize];
            connection.flags.sending = true;
            connection.clocks.send_begun = now;
            let output = connection.outbox.take().expect("a send step has an outbox");
            connection.unsent = output.len();
            connection.handed += output.len() as u64;
            if connection.serves_apart() {
                connection.remotes().map(Remotes::depart);
            }
            // What may have to go again must stay as it is.
            (output, connection.paced_quantum(), connection.is_revivable(), connection.hub())
        };
        if let Some(hub) = hub {
            return self.send_by(hub, id, output);
        }
        let is_large = !kept && output.len() >= self.core.limits.zero_copy_bytes;
        let is_large = is_large && output.trains().is_empty();
        let manner = if let Some(bytes) = paced {
            Manner::WhenWritable(bytes)
        } else if is_large && self.leaves_host(id) {
            Manner::ZeroCopy
        } else {
            Manner::Plain
        };
        self.driver.submit(Operation::Send { token, output, sent: 0, manner });
    }

    pub(super) fn sent(&mut self, token: Token, output: Box<Output>, result: Result<usize, Errno>) {
        let id = self.id(token);
        let (now, turned_us) = (self.core.now_ms(), self.core.turned_us());
        let is_datagrams = !output.trains().is_empty();
        let failed = result.is_err();
        let (unsent, broken, wants_room, manner) = {
            let mut state = self.core.state.borrow_mut();
            let connection = &mut state.slots[token.slot as usize];
            connection.flags.sending = false;
            // Who was sent something is no stranger: push-only servers wait for no first message.
            connection.flags.greeted = true;
            connection.clocks.last_activity = now;
            let left = *result.as_ref().unwrap_or(&0);
            connection.unsent = connection.unsent.saturating_sub(left);
            if left > 0 || result.is_err() || connection.unsent == 0 {
                connection.clocks.send_begun = 0;
            }
            if connection.unsent == 0
                && result.is_ok()
                && !connection.serves_apart()
                && connection.is_quiet()
                && !connection.flags.wants_room
            {
                // Mostly that is all there is to it.
                self.core.metrics.sent_bytes.add(left as u64);
                let shared = state.recycle(output);
                drop(state);
                return shared.into_iter().for_each(|output| self.core.recycle(output));
            }
            let position = connection.left();
            if let Some(outgoing) = &mut connection.outgoing {
                outgoing.taken(turned_us);
                outgoing.left(position);
            }
            let low = connection.backlog() < self.core.limits.send_queue_bytes / 2;
            let broken = connection.reason.is_some() && connection.flags.output_ended;
            let paced = connection.paced_quantum();
            let manner = paced.map_or(Manner::Plain, Manner::WhenWritable);
            (connection.unsent, broken, low && connection.flags.wants_room, manner)
        };
        match result {
            Err(errno) if !is_datagrams => {
                self.core.fail(id, super::input::reason_of(errno));
                return self.keep_unsent(id, output);
            }
            Err(errno) if self.could_not_leave(id, errno) => return self.core.recycle(output),
            Err(_) => {}
            Ok(some) => self.core.metrics.sent_bytes.add(some as u64),
        }
        let unsent = if is_datagrams { 0 } else { unsent };
        if unsent > 0 && !broken {
            let mut state = self.core.state.borrow_mut();
            let connection = &mut state.slots[token.slot as usize];
            connection.flags.sending = true;
            if connection.clocks.send_begun == 0 {
                connection.clocks.send_begun = now;
            }
            drop(state);
            let sent = output.len() - unsent;
            let rest = Operation::Send { token, output, sent, manner };
            return self.driver.submit(rest);
        }
        if unsent > 0 {
            return self.keep_unsent(id, output);
        }
        self.core.recycle(output);
        self.remotes_sent(id, failed);
        if wants_room {
            self.has_room(id);
        }
        self.core.attend(id);
    }

    /// What waits has fallen below the mark.
    fn has_room(&mut self, id: Id) {
        self.let_remotes_send(id);
        // In use: the driver has just reported on it.
        let _ = self.core.change(id, |connection| connection.flags.wants_room = false);
        let _ = self.core.call(id, |protocol, call| protocol.writable(call));
    }

    /// A send was broken off: a lost connection keeps it for the next one.
    fn keep_unsent(&self, id: Id, output: Box<Output>) {
        let mut output = Some(output);
        // Gone already: then nobody needs it.
        let _ = self.core.change(id, |connection| {
            output = output.take().and_then(|output| connection.rescue(output));
        });
        if let Some(output) = output {
            self.core.recycle(output);
        }
    }

    /// Lets the scheduler choose what leaves next.
    fn schedule(&mut self, id: Id) {
        let token = self.token(id);
        let now_us = self.core.now_us();
        let mut spare = self.core.spare_output();
        let (next_us, awaits_acks, tune, filled) = {
            let mut state = self.core.state.borrow_mut();
            let connection = &mut state.slots[id.slot as usize];
            let handed = connection.handed;
            let copies_max =
                if connection.is_revivable() { self.core.limits.resend_bytes } else { 0 };
            let Some(outgoing) = &mut connection.outgoing else { return };
            // A socket that serves anybody is not held up for one of them.
            let tune = match connection.peer {
                Peer::Anybody => None,
                _ => outgoing.tune(self.core.limits.paced_unsent_bytes),
            };
            if outgoing.wants_sample(now_us) {
                outgoing.sample(now_us, handed, self.driver.path(token));
            }
            outgoing.fill(Filling { now_us, handed, copies_max, outbox: &mut spare });
            if spare.is_empty() {
                // A Message without a byte has left with those before it.
                outgoing.left(handed);
            }
            let next_us = outgoing.next_timeout_us();
            let awaits_acks = outgoing.awaits_acks();
            let filled = !spare.is_empty();
            if filled {
                connection.outbox = Some(std::mem::take(&mut spare));
            }
            (next_us, awaits_acks, tune, filled)
        };
        self.core.recycle(spare);
        if let Some(option) = tune {
            self.driver.submit(Operation::Tune { token, option });
        }
        self.look_again(id, now_us, next_us, awaits_acks);
        if !filled {
            // Nothing leaves, so nothing that has left will say that there is room.
            self.offer_room(id);
        }
    }

    /// Has the wheel come back for the next deadline of a Message, or to ask for acks.
    fn look_again(&self, id: Id, now_us: u64, next_us: Option<u64>, awaits_acks: bool) {
        let deadline = next_us.map(|at| Duration::from_micros(at.saturating_sub(now_us)));
        let acks = awaits_acks.then_some(ACKS_EVERY);
        if let Some(after) = deadline.into_iter().chain(acks).min() {
            super::timeouts::check_after(&self.core, id, after);
        }
    }

    /// Lets those in that wait for room, if there is some.
    fn offer_room(&self, id: Id) {
        let low_water = self.core.limits.send_queue_bytes / 2;
        let offers = self.core.change(id, |connection| {
            let offers = connection.flags.wants_room && connection.backlog() < low_water;
            connection.flags.wants_room &= !offers;
            offers
        });
        if offers == Ok(true) {
            // Gone in the call: then nobody waits.
            let _ = self.core.call(id, |protocol, call| protocol.writable(call));
        }
    }

    fn report(&mut self, id: Id) {
        self.core.report(id);
        // What has expired has left room, too.
        self.offer_room(id);
        let awaits = |connection: &Connection| {
            connection.outgoing.as_ref().is_some_and(|outgoing| outgoing.awaits_acks())
        };
        if self.core.look(id, awaits) == Ok(true) {
            self.core.check_soon(id);
        }
    }

    /// The wheel is due for Messages: expiries, and acks that are waited for.
    pub(super) fn check_messages(&mut self, id: Id) {
        let token = self.token(id);
        let now_us = self.core.now_us();
        let looked = self.core.change(id, |connection| {
            let left = connection.left();
            let outgoing = connection.outgoing.as_mut()?;
            outgoing.expire(now_us);
            if outgoing.awaits_acks() {
                let sample = self.driver.path(token);
                let unacknowledged = |path: PathSample| u64::from(path.unacknowledged_bytes);
                // The kernel may count an end of the stream as a byte of its own.
                outgoing.acknowledged(sample.map(|path| left.saturating_sub(unacknowledged(path))));
            }
            Some((outgoing.next_timeout_us(), outgoing.awaits_acks()))
        });
        if let Ok(Some((next_us, awaits_acks))) = looked {
            self.look_again(id, now_us, next_us, awaits_acks);
        }
    }

    /// What the peer has acknowledged by the end is known only as long as the socket is there.
    fn take_last_acks(&self, id: Id) {
        let sample = self.driver.path(self.token(id));
        let Some(PathSample { unacknowledged_bytes, .. }) = sample else { return };
        // In use: it is about to close.
        let _ = self.core.change(id, |connection| {
            let left = connection.left();
            if let Some(outgoing) = &mut connection.outgoing {
                let acked = left.saturating_sub(u64::from(unacknowledged_bytes));
                outgoing.acknowledged(Some(acked));
            }
        });
    }

    /// True if the peer is on another host, as far as its address says; loopback always copies.
    fn leaves_host(&self, id: Id) -> bool {
        let peer = self.core.look(id, |connection| connection.peer);
        matches!(peer, Ok(Peer::Ip(address)) if !address.ip().to_canonical().is_loopback())
    }

    fn end_output_now(&mut self, id: Id) {
        let now = self.core.now_ms();
        {
            let mut state = self.core.state.borrow_mut();
            let connection = &mut state.slots[id.slot as usize];
            connection.flags.output_ended = true;
            connection.clocks.ended = now;
        }
        let is_stream = self.core.look(id, |connection| !connection.flags.datagrams);
        if is_stream == Ok(true) {
            self.driver.submit(Operation::ShutdownWrite { token: self.token(id) });
        }
        super::timeouts::check_after(&self.core, id, self.core.timeouts.linger);
    }

    fn close(&mut self, id: Id) {
        let (attached, reset, before) = {
            let mut state = self.core.state.borrow_mut();
            let connection = &mut state.slots[id.slot as usize];
            let before = std::mem::replace(&mut connection.phase, Phase::Closing);
            (connection.attached, connection.flags.reset, before)
        };
        if attached {
            if before == Phase::Open {
                self.note_path(id);
            }
            if !reset {
                self.take_last_acks(id);
            }
            self.driver.submit(Operation::Close { token: self.token(id), reset });
        } else {
            self.finish_slot(id);
        }
    }
}

impl Shard {
    /// A fresh reference to the core, for calls that need the shard as well.
    pub(super) fn core(&self) -> Rc<Core> {
        Rc::clone(&self.core)
    }
}
