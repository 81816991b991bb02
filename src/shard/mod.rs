//! Shard: one core's whole world, and the turn that joins it.
//!
//! Above: `carrier` gives it typed protocols and services, `launch` its thread. Below: the driver.
//!
//! One turn: run tasks, read the mailbox, look at the wheel, settle what slots need (one coalesced
//! send per connection, receives armed), one enter, then its completions: receives are handed to
//! handlers inline.
//! Absent: message types, threads, signals.

mod call;
pub(crate) mod connection;
pub(crate) mod core;
mod datagrams;
pub(crate) mod event_queue;
pub(crate) mod events;
mod exact;
mod executor;
mod hub;
mod input;
mod input_end;
pub(crate) mod inspection;
mod lifecycle;
pub(crate) mod mail;
pub(crate) mod outgoing;
pub(crate) mod path_limits;
mod prefixes;
pub(crate) mod protocol;
pub(crate) mod record;
mod remotes;
pub(crate) mod revival;
mod settle;
mod sleepers;
mod stall;
#[cfg(any(test, feature = "testing"))]
mod stepping;
mod steps;
mod timeouts;
pub(crate) mod traffic_class;
mod waiting;

use std::any::Any;
use std::rc::Rc;
use std::time::{Duration, Instant};

use self::core::{Core, Id};
use self::mail::{Mail, Sibling};
use self::waiting::Waiting;
use crate::engine::clock;
use crate::engine::driver::Driver;
use crate::engine::mailbox::Mailbox;
use crate::engine::operation::{Completion, Token};
use crate::engine::plan::Patience;
use crate::error::CloseReason;
use crate::lending;

pub(crate) use self::lifecycle::Listening;
pub use self::waiting::Wait;

/// Letters read per turn.
const LETTERS_PER_TURN: usize = 256;
/// What "never" comes down to for a shutdown that waits: longer than any process lives.
const DRAIN_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);
/// While it drains, a core looks for quiet connections this often.
const DRAIN_STEP: Duration = Duration::from_millis(10);
/// A connection whose last request was answered this long ago is done.
const QUIET_MS: i32 = 20;
/// A connection that never sent a request is given this long to send one.
const UNHEARD_MS: i32 = 500;
/// The longest sleep: a net below every wake-up path.
const SLEEP_MAX: Duration = Duration::from_millis(250);

/// One core's loop.
pub(crate) struct Shard {
    pub(crate) core: Rc<Core>,
    driver: Driver,
    mailbox: Mailbox<Mail>,
    siblings: Vec<Sibling>,
    waiting: Waiting,
    sends_at_once: bool,
    /// Messages up to this length are received where the driver receives small ones.
    large_receive_bytes: usize,
    due: Vec<u64>,
    /// When a shutdown gives up waiting.
    drain_until: Option<Instant>,
    /// When it last looked for quiet connections, in the core's milliseconds.
    drained_at: u32,
    /// When the last turn of the driver began: whatever had come by then has been seen.
    looked_at: u32,
    /// It ends with its last connection.
    retiring: bool,
    /// The coarse clock before the call that is now running, for the stall detector.
    watched: u32,
}

impl Shard {
    pub(crate) fn new(
        core: Rc<Core>,
        driver: Driver,
        mailbox: Mailbox<Mail>,
        siblings: Vec<Sibling>,
        wait: Wait,
    ) -> Self {
        lending::use_lender(driver.lender());
        let sends_at_once = driver.sends_at_once();
        Self {
            core,
            sends_at_once,
            large_receive_bytes: driver.large_receive_bytes(),
            driver,
            mailbox,
            siblings,
            waiting: Waiting::new(wait),
            due: Vec::new(),
            drain_until: None,
            drained_at: 0,
            looked_at: 0,
            retiring: false,
            watched: 0,
        }
    }

    /// Turns until it was shut down and everything has ended.
    pub(crate) fn run(mut self) -> std::io::Result<()> {
        let mut now = self.core.read_clock();
        let result = loop {
            match self.go_round(now) {
                Ok(Some(later)) => now = later,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.end();
        result
    }

    /// One turn; the time after its wait, or `None` when everything has ended.
    #[inline]
    pub(crate) fn go_round(&mut self, now: Instant) -> std::io::Result<Option<Instant>> {
        self.core.executor.collect();
        self.read_mail();
        self.core.executor.run();
        self.core.run_deferred();
        self.core.post_letters();
        self.look_at_wheel();
        self.settle_all();
        if self.is_drained(now) {
            return Ok(None);
        }
        let patience = self.patience(now);
        self.turn(patience)?;
        let now = self.core.read_clock();
        let had_events = self.complete_all();
        self.waiting.observe(now, had_events);
        Ok(Some(now))
    }

    fn turn(&mut self, patience: Patience) -> std::io::Result<()> {
        self.core.metrics.turns.add(1);
        self.looked_at = self.core.now_ms();
        let patience = match patience {
            Patience::Sleep(longest) => {
                if !self.mailbox.park() {
                    return self.driver.turn(Patience::None);
                }
                self.core.metrics.sleeps.add(1);
                Patience::Sleep(longest)
            }
            other => other,
        };
        let turned = self.driver.turn(patience);
        self.mailbox.unpark();
        turned
    }

    /// Dispatches the turn's completions; true if there were any.
    fn complete_all(&mut self) -> bool {
        self.begin_watch();
        let mut any = false;
        while let Some(completion) = self.driver.next() {
            any = true;
            self.complete(completion);
            self.core.run_deferred();
        }
        any
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Received { token, data } => self.received(token, data),
            Completion::Sent { token, output, result } => self.sent(token, output, result),
            Completion::Datagrams { token, data, arrival } => {
                self.datagrams(token, data, arrival);
            }
            Completion::PeerFailed { token, error } => self.peer_failed(token, error),
            Completion::ReceiveEnded { token, end } => self.receive_ended(token, end),
            Completion::ReceivedExact { token, buffer, result } => {
                self.received_exact(token, buffer, result);
            }
            Completion::Accepted { token, socket } => self.accepted(token, socket),
            Completion::AcceptEnded { token, error } => self.accept_ended(token, error),
            Completion::Connected { token, result } => self.connected(token, result),
            Completion::Closed { token } => self.closed(token),
        }
    }

    fn read_mail(&mut self) {
        for _ in 0..LETTERS_PER_TURN {
            let Some(mail) = self.mailbox.pop() else { return };
            match mail {
                Mail::Errand(errand) => self.core.guard(|| errand.run(&self.core)),
                Mail::Adopt { socket, service } => self.adopt(socket, service),
                Mail::Resolved { slot, generation, result } => {
                    let id = self.core.id(slot, generation);
                    self.resolved(id, result);
                }
                Mail::Inspect(inspector) => self.inspect(inspector),
                Mail::Retire => self.retire(),
                Mail::Shutdown { at_once } => self.shut_down(at_once),
            }
            self.core.run_deferred();
        }
    }

    fn look_at_wheel(&mut self) {
        let now = self.core.now_tick();
        if !self.core.state.borrow_mut().wheel.pass(now) {
            self.look_at_due(now);
        }
    }

    #[cold]
    fn look_at_due(&mut self, now: u64) {
        let mut due = std::mem::take(&mut self.due);
        self.core.state.borrow_mut().wheel.advance(now, &mut due);
        for key in due.drain(..) {
            if let Some(slot) = self.core.due(key) {
                self.check_timeouts(slot);
            }
        }
        self.due = due;
    }

    /// How long the next turn may wait.
    fn patience(&mut self, now: Instant) -> Patience {
        let core = &self.core;
        let (attended, next) = {
            let state = core.state.borrow();
            (!state.attention.is_empty(), state.wheel.next_tick())
        };
        if attended || core.executor.has_runnable() {
            return Patience::None;
        }
        let longest = next.map_or(SLEEP_MAX, |tick| {
            let left = tick.saturating_sub(core.now_tick());
            Duration::from_millis(left).min(SLEEP_MAX)
        });
        // A drain looks for quiet connections, a letter for room, every few milliseconds.
        let in_steps = self.drain_until.is_some() || core.has_letters();
        let longest = if in_steps { longest.min(DRAIN_STEP) } else { longest };
        if longest.is_zero() {
            return Patience::None;
        }
        self.waiting.patience(now, longest)
    }

    fn token(&self, id: Id) -> Token {
        Token { slot: id.slot, generation: id.generation }
    }

    fn id(&self, token: Token) -> Id {
        self.core.id(token.slot, token.generation)
    }

    /// Begins to end: listeners first, then connections as they finish.
    fn shut_down(&mut self, at_once: bool) {
        let again = self.core.draining.replace(true);
        let drain = if at_once || again { Duration::ZERO } else { self.core.timeouts.drain };
        let now = clock::now();
        self.drain_until = Some(now.checked_add(drain).unwrap_or(now + DRAIN_MAX));
        let ids = self.slots_in_use();
        for id in &ids {
            // In use a moment ago; closed slots have nothing left to end.
            let _ = self.core.change(*id, |connection| {
                if connection.service().is_some() {
                    connection.flags.end_wanted = true;
                }
            });
        }
        if at_once || again {
            return self.drain_quiet(true);
        }
        // What came before this letter may not have been read yet: one turn before anybody is
        // taken for quiet.
        self.drained_at = self.core.now_ms();
    }

    /// Ends the connections that have been quiet for a moment: their requests are answered. Those
    /// that have only just come get the time to send one.
    fn drain_quiet(&mut self, at_once: bool) {
        let (now, looked_at) = (self.core.now_ms(), self.looked_at);
        for id in self.slots_in_use() {
            let quiet = self.core.look(id, |connection| {
                let still = if connection.flags.greeted { QUIET_MS } else { UNHEARD_MS };
                let since = connection.clocks.last_activity;
                // A core that was held up has not seen what came meanwhile: that is no quiet.
                let quiet_ms = looked_at.wrapping_sub(since).cast_signed();
                !connection.flags.end_wanted && quiet_ms >= still
            });
            if at_once || quiet == Ok(true) {
                self.drain_connection(id);
            }
        }
        self.drained_at = now;
    }

    fn slots_in_use(&self) -> Vec<Id> {
        use self::connection::Phase;
        let state = self.core.state.borrow();
        let used = state.slots.iter().enumerate().filter(|(_, slot)| slot.phase != Phase::Free);
        used.map(|(at, slot)| self.core.id(at as u32, slot.generation)).collect()
    }

    fn is_drained(&mut self, now: Instant) -> bool {
        let Some(until) = self.drain_until else { return self.is_deserted() };
        if self.core.now_ms().wrapping_sub(self.drained_at) >= DRAIN_STEP.as_millis() as u32 {
            self.drain_quiet(false);
            self.settle_all();
        }
        let idle = {
            let state = self.core.state.borrow();
            let sockets = state.slots.iter().filter(|slot| slot.attached).count();
            sockets == 0 && self.mailbox.is_empty()
        };
        if idle {
            return true;
        }
        if now >= until {
            let left = self.slots_in_use();
            tracing::warn!(connections = left.len(), "drain time is over; aborting what is left");
            for id in left {
                self.core.fail(id, CloseReason::Shutdown);
            }
            self.settle_all();
            return true;
        }
        false
    }

    /// Ends all connections and tasks at once, and answers whoever waits for it.
    pub(crate) fn end(mut self) {
        self.core.handle.set_ended();
        for id in self.slots_in_use() {
            self.tell_closed(id, CloseReason::Shutdown);
        }
        self.core.executor.end();
        while let Some(mail) = self.mailbox.pop() {
            // Dropping an errand answers whoever waits for it.
            drop(mail);
        }
        self.core.run_deferred();
        lending::use_lender(None);
        let (slots, services) = {
            let mut state = self.core.state.borrow_mut();
            (std::mem::take(&mut state.slots), std::mem::take(&mut state.services))
        };
        slots.into_iter().for_each(|slot| self.core.guard(|| drop(slot)));
        services.into_iter().for_each(|service| self.core.guard(|| drop(service)));
    }
}

/// The text of a panic, where it has one.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no text)")
}
