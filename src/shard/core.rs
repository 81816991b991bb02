//! Core: what verbs and user code on a core thread can reach of its shard.
//!
//! Above: the typed verbs of `carrier`. Below: slots, timers, tasks. The driver is not here: it
//! belongs to the loop alone, verbs only leave word of what a slot needs (`attend`).
//! No borrow of `state` lives while user code runs: `call` takes the protocol and the outbox out
//! of their slot first, and what cannot be done inside a call is done right after it (`defer`).
//! Absent: system calls. Bounds: `Limits`.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::{Connection, Phase};
use super::executor::Executor;
use super::mail::{CoreHandle, Mail};
use super::outgoing::Outgoing;
use super::path_limits::PathLimits;
use super::protocol::Service;
use super::sleepers::Sleepers;
use super::traffic_class::TrafficClasses;
use crate::association::Table;
use crate::engine::clock;
use crate::engine::metrics::CoreMetrics;
use crate::engine::throttle::Throttle;
use crate::engine::timers::Wheel;
use crate::error::CloseReason;
use crate::framer::Output;
use crate::limits::{Limits, Timeouts};

/// A connection, process-wide: the core's number, the slot, the generation of its use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Id {
    pub(crate) unit: u32,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// The slot number of a connection initiated from another thread, whose generation is a ticket.
pub(crate) const TICKET_SLOT: u32 = u32::MAX;

/// Messages that user code may send on a connection from inside a call into it.
const DEFERRED_MAX: usize = 4096;
/// Outputs kept for the next sends.
const SPARE_OUTPUTS_MAX: usize = 1024;
/// An output that grew beyond this is not kept whole.
const SPARE_OUTPUT_BYTES_MAX: usize = 16 << 10;

/// Acks that somebody waits for are asked for this often.
pub(super) const ACKS_EVERY: Duration = Duration::from_millis(1);

/// Why a call into a connection did not take place or did not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The connection has ended, and why if that is still known.
    Gone(CloseReason),
    /// It is in a call already: user code asked from inside itself.
    InCall,
}

/// One core's state that user code may reach.
pub(crate) struct Core {
    pub(crate) unit: u32,
    pub(crate) handle: Arc<CoreHandle>,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) metrics: Arc<CoreMetrics>,
    pub(crate) executor: Executor,
    pub(crate) state: RefCell<State>,
    pub(crate) draining: Cell<bool>,
    /// The connection whose async handler is polled just now.
    pub(crate) handling: Cell<Option<Id>>,
    /// Set before the first turn, if packets are to be marked.
    pub(crate) traffic_classes: OnceCell<TrafficClasses>,
    /// Set before the first turn, if datagrams are to say when they came.
    pub(crate) arrival_times: Cell<bool>,
    pub(crate) path_limits: RefCell<PathLimits>,
    pub(super) deferred: RefCell<VecDeque<Deferred>>,
    throttle: RefCell<Throttle>,
    /// Letters to cores whose mailbox was full; one per Carrier or engine given up, so bounded by
    /// what exists.
    pub(super) letters: RefCell<VecDeque<(Arc<CoreHandle>, Mail)>>,
    pub(super) sleepers: RefCell<Sleepers>,
    pub(super) began: Instant,
    now_tick: Cell<u64>,
    /// When the driver last came back from its wait, in microseconds.
    turned_us: Cell<u64>,
}

type Deferred = Box<dyn FnOnce(&Rc<Core>)>;

/// The slots and what belongs to all of them.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) slots: Vec<Connection>,
    free: Vec<u32>,
    /// Slots that need something of the driver.
    pub(crate) attention: Vec<u32>,
    #[allow(clippy::vec_box, reason = "the same box moves on into a slot, then into an operation")]
    pub(super) spare_outputs: Vec<Box<Output>>,
    pub(crate) wheel: Wheel,
    pub(crate) prefixes: HashMap<u64, u32>,
    tickets: HashMap<u32, (u32, u32)>,
    pub(crate) services: Vec<Rc<dyn Service>>,
    /// What outlives connections and Carriers (draft §2.3).
    pub(crate) associations: Table,
    /// Slots in use for connections.
    pub(crate) connections: usize,
    pub(crate) listeners: usize,
}

thread_local! {
    static CORE: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

impl Core {
    pub(crate) fn new(
        handle: Arc<CoreHandle>,
        limits: Limits,
        timeouts: Timeouts,
        metrics: Arc<CoreMetrics>,
    ) -> Rc<Self> {
        Rc::new(Self {
            unit: handle.unit,
            handle,
            executor: Executor::new(limits.tasks),
            state: RefCell::new(State {
                associations: Table::new(limits.associations),
                ..State::default()
            }),
            limits,
            timeouts,
            metrics,
            draining: Cell::new(false),
            handling: Cell::new(None),
            traffic_classes: OnceCell::new(),
            arrival_times: Cell::new(false),
            path_limits: RefCell::default(),
            deferred: RefCell::default(),
            throttle: RefCell::default(),
            letters: RefCell::default(),
            sleepers: RefCell::default(),
            began: clock::now(),
            now_tick: Cell::new(1),
            turned_us: Cell::new(0),
        })
    }

    /// The core of this thread, if it is one.
    #[inline]
    pub(crate) fn current() -> Option<Rc<Self>> {
        CORE.try_with(|core| core.borrow().clone()).ok().flatten()
    }

    /// The core of this thread, if it is the one with number `unit`.
    #[inline]
    pub(crate) fn current_is(unit: u32) -> Option<Rc<Self>> {
        Self::current().filter(|core| core.unit == unit)
    }

    pub(crate) fn enter(self: &Rc<Self>) {
        CORE.set(Some(Rc::clone(self)));
    }

    pub(crate) fn leave() {
        // Dropped after the borrow of the place: what it holds may ask for its core.
        drop(CORE.replace(None));
    }

    /// Milliseconds since the core began, as of this turn: the wheel's tick.
    #[inline]
    pub(crate) fn now_tick(&self) -> u64 {
        self.now_tick.get()
    }

    /// The same in the 32 bits that a slot keeps; never 0. It begins again every 49 days, so
    /// times are compared with `timeouts::has_come` only.
    #[inline]
    pub(crate) fn now_ms(&self) -> u32 {
        (self.now_tick.get() as u32).max(1)
    }

    /// Reads the clock, once per turn.
    pub(crate) fn read_clock(&self) -> Instant {
        let now = clock::now();
        let elapsed = now.duration_since(self.began);
        self.now_tick.set(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1));
        self.turned_us.set(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX));
        now
    }

    /// Microseconds since the core began, by the precise clock: what deadlines count in.
    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(clock::now().duration_since(self.began).as_micros()).unwrap_or(u64::MAX)
    }

    /// As `now_us`, when this turn's events were there: before the first of them was handled.
    pub(crate) fn turned_us(&self) -> u64 {
        self.turned_us.get()
    }

    /// Moves the clock, for tests of what takes weeks.
    #[cfg(test)]
    pub(crate) fn set_tick(&self, tick: u64) {
        self.now_tick.set(tick);
    }

    pub(crate) fn id(&self, slot: u32, generation: u32) -> Id {
        Id { unit: self.unit, slot, generation }
    }

    /// The slot behind an identity; a ticket is looked up.
    #[inline]
    pub(crate) fn resolve(&self, id: Id) -> Id {
        if id.slot == TICKET_SLOT { self.resolve_ticket(id) } else { id }
    }

    #[cold]
    fn resolve_ticket(&self, id: Id) -> Id {
        let state = self.state.borrow();
        let (slot, generation) = state.tickets.get(&id.generation).copied().unwrap_or((0, 0));
        Id { slot, generation, ..id }
    }

    /// An empty output.
    pub(crate) fn spare_output(&self) -> Box<Output> {
        self.state.borrow_mut().spare_outputs.pop().unwrap_or_default()
    }

    /// Gives an output back for the next send.
    pub(crate) fn recycle(&self, mut output: Box<Output>) {
        // Shared payloads are user memory: their drop may run user code, so outside the borrow.
        self.guard(|| output.reset(SPARE_OUTPUT_BYTES_MAX));
        keep(&mut self.state.borrow_mut().spare_outputs, output);
    }

    /// Does `action` as soon as the present call into user code is over.
    pub(crate) fn defer(&self, action: impl FnOnce(&Rc<Self>) + 'static) {
        self.deferred.borrow_mut().push_back(Box::new(action));
    }

    /// True if a log line that a peer can provoke may be written now.
    pub(crate) fn may_log(&self) -> bool {
        self.throttle.borrow_mut().allows(self.now_ms())
    }

    /// False if user code has deferred more than anybody can mean.
    pub(crate) fn can_defer(&self) -> bool {
        self.deferred.borrow().len() < DEFERRED_MAX
    }

    #[inline]
    pub(crate) fn run_deferred(self: &Rc<Self>) {
        if !self.deferred.borrow().is_empty() {
            self.run_all_deferred();
        }
    }

    #[cold]
    fn run_all_deferred(self: &Rc<Self>) {
        loop {
            let next = self.deferred.borrow_mut().pop_front();
            let Some(action) = next else { return };
            self.guard(|| action(self));
        }
    }

    /// The loop shall look at this slot before it sleeps.
    pub(crate) fn attend(&self, id: Id) {
        let id = self.resolve(id);
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if let Ok(connection) = find(&mut state.slots, id) {
            attend(connection, id.slot, &mut state.attention);
        }
    }

    /// Changes a connection's slot and has the loop look at it.
    pub(crate) fn change<R>(
        &self,
        id: Id,
        change: impl FnOnce(&mut Connection) -> R,
    ) -> Result<R, CallError> {
        let id = self.resolve(id);
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let connection = find(&mut state.slots, id)?;
        let result = change(connection);
        attend(connection, id.slot, &mut state.attention);
        Ok(result)
    }

    /// Reads a connection's slot.
    pub(crate) fn look<R>(
        &self,
        id: Id,
        look: impl FnOnce(&Connection) -> R,
    ) -> Result<R, CallError> {
        let id = self.resolve(id);
        find(&mut self.state.borrow_mut().slots, id).map(|connection| look(connection))
    }

    /// Does `act` with a connection's ordered way out, if it has one that is not in a call.
    pub(crate) fn with_outgoing<R>(
        &self,
        id: Id,
        act: impl FnOnce(&mut Outgoing) -> R,
    ) -> Option<R> {
        let mut state = self.state.borrow_mut();
        find(&mut state.slots, id).ok()?.outgoing.as_deref_mut().map(act)
    }

    /// The connection is broken or aborted: it ends without flushing.
    pub(crate) fn fail(&self, id: Id, reason: CloseReason) {
        let reset = matches!(reason, CloseReason::Aborted);
        // Gone already: then there is nothing left to end.
        let kept = self.change(id, |connection| {
            let kept = connection.note_failure(reason);
            // A close promises that what was queued has left: a connection that never came about,
            // or that broke with something still queued, has the last word over it.
            let closing = connection.reason == Some(CloseReason::Local);
            let undone = reason.is_unconnected() || connection.waiting() + connection.unsent > 0;
            let broke = !matches!(reason, CloseReason::Aborted | CloseReason::Shutdown);
            if closing && undone && broke {
                connection.reason = Some(reason);
            }
            connection.reason.get_or_insert(reason);
            connection.flags.reset |= reset;
            connection.flags.discarding = true;
            connection.flags.end_wanted = true;
            connection.flags.output_ended = true;
            connection.flags.input_ended = true;
            kept
        });
        // Payloads that nobody will send again are user memory.
        if let Ok(Some(kept)) = kept {
            self.defer(move |_| drop(kept));
        }
    }

    /// This side has said everything: flush, then end.
    pub(crate) fn end_output(&self, id: Id, reason: CloseReason) {
        // Gone already: then it has ended.
        let _ = self.change(id, |connection| {
            connection.flags.end_wanted = true;
            connection.reason.get_or_insert(reason);
        });
    }

    /// Tells the other cores how many connections it has; a hand-over that was refused was counted.
    pub(crate) fn publish_load(&self) {
        let connections = self.state.borrow().connections as u32;
        self.handle.load.store(connections, std::sync::atomic::Ordering::Relaxed);
    }

    /// A slot for a new connection in `phase`.
    pub(crate) fn allocate(&self, phase: Phase) -> Id {
        let mut state = self.state.borrow_mut();
        let slot = state.free.pop().unwrap_or_else(|| {
            state.slots.push(Connection::default());
            (state.slots.len() - 1) as u32
        });
        if phase == Phase::Listening {
            state.listeners += 1;
        } else {
            state.connections += 1;
            self.handle.load.store(state.connections as u32, std::sync::atomic::Ordering::Relaxed);
            self.metrics.open_connections.set(state.connections as u64);
        }
        let connection = &mut state.slots[slot as usize];
        let generation = connection.generation.wrapping_add(1).max(1);
        *connection = Connection { generation, phase, ..Connection::default() };
        connection.clocks.opened = self.now_ms();
        connection.clocks.last_activity = self.now_ms();
        self.id(slot, generation)
    }

    /// The slot is free again; what it held is returned, to be dropped outside the borrow.
    pub(crate) fn free(&self, id: Id) -> Option<Connection> {
        let id = self.resolve(id);
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let connection = find(&mut state.slots, id).ok()?;
        let listened = connection.service().is_some();
        let generation = connection.generation;
        let freed = std::mem::take(connection);
        connection.generation = generation;
        if let Some(rare) = &freed.rare {
            state.tickets.remove(&rare.ticket);
            rare.association.iter().for_each(|key| state.associations.leave(key));
        }
        if listened {
            state.listeners -= 1;
        } else {
            state.connections -= 1;
            self.handle.load.store(state.connections as u32, std::sync::atomic::Ordering::Relaxed);
            self.metrics.open_connections.set(state.connections as u64);
        }
        state.free.push(id.slot);
        Some(freed)
    }

    pub(crate) fn name_ticket(&self, ticket: u32, id: Id) {
        self.state.borrow_mut().tickets.insert(ticket, (id.slot, id.generation));
    }

    /// Has the wheel look at the connection a moment from now.
    pub(crate) fn check_soon(&self, id: Id) {
        super::timeouts::check_after(self, self.resolve(id), ACKS_EVERY);
    }

    /// Has the wheel look at the connection when a Message of this lifetime expires: a send that
    /// is stuck settles nothing.
    pub(crate) fn check_lifetime(&self, id: Id, lifetime: Duration) {
        super::timeouts::check_after(self, self.resolve(id), lifetime);
    }

    /// Has the wheel look at the slot no later than `at_ms`.
    pub(crate) fn check_by(&self, slot: u32, at_ms: u32) {
        self.state.borrow_mut().check_by(slot, at_ms, self.now_tick());
    }
}

impl State {
    /// Has the wheel look at the slot no later than `at_ms`, when it is `now_tick`.
    #[inline]
    pub(super) fn check_by(&mut self, slot: u32, at_ms: u32, now_tick: u64) {
        let clocks = &mut self.slots[slot as usize].clocks;
        if clocks.check == 0 || !super::timeouts::has_come(clocks.check, at_ms) {
            clocks.check = at_ms;
            let left_ms = super::timeouts::left_ms(at_ms, (now_tick as u32).max(1));
            self.wheel.schedule(u64::from(slot), now_tick + u64::from(left_ms));
        }
    }

    /// The slot is settled now: it need not be settled again for what was wanted before.
    #[inline]
    pub(super) fn unattend_last(&mut self, slot: u32) {
        if self.attention.last() == Some(&slot) {
            self.attention.pop();
        }
    }

    /// Keeps an output for the next send if that runs no user code; returns it otherwise.
    #[inline]
    pub(super) fn recycle(&mut self, mut output: Box<Output>) -> Option<Box<Output>> {
        if !output.is_contiguous() {
            return Some(output);
        }
        output.reset(SPARE_OUTPUT_BYTES_MAX);
        keep(&mut self.spare_outputs, output);
        None
    }
}

#[allow(clippy::vec_box, reason = "as at `State::spare_outputs`")]
#[inline]
pub(super) fn keep(spare: &mut Vec<Box<Output>>, output: Box<Output>) {
    if spare.len() < SPARE_OUTPUTS_MAX {
        spare.push(output);
    }
}

#[inline]
pub(super) fn attend(connection: &mut Connection, slot: u32, attention: &mut Vec<u32>) {
    if !connection.flags.attended {
        connection.flags.attended = true;
        attention.push(slot);
    }
}

#[inline]
pub(super) fn find(slots: &mut [Connection], id: Id) -> Result<&mut Connection, CallError> {
    match slots.get_mut(id.slot as usize) {
        Some(connection)
            if connection.generation == id.generation && connection.phase != Phase::Free =>
        {
            Ok(connection)
        }
        _ => Err(CallError::Gone(CloseReason::Finished)),
    }
}
