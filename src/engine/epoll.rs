//! EpollDriver: carries out Operations by epoll and plain system calls, where io_uring is refused.
//!
//! Above: a shard, through the same seam as the io_uring driver. Below: `entry` moves the bytes
//! of one socket; rustix is the door to the kernel. Absent: leases of small payloads (the hot
//! buffer is overwritten by the next receive, so those that leave the core are copied).
//! Bounds: one receive buffer of 256 KiB and one of 128 KiB for large messages (and one more of
//! these for each turn's worth of large messages that somebody keeps), 256 ready sockets and 64
//! accepts per listener a turn, 64 bytes per idle socket.
//!
//! A steady echo costs what a bare loop pays: its part of one `epoll_wait`, one `recv`, one
//! `send`. Sends are tried when they are submitted. Reads happen one at a time inside `next`.
//! Interest is brought up to date once a turn, just before the wait, so a receive that ends and
//! is asked for again costs no `epoll_ctl`. All is level-triggered: what a turn leaves unread is
//! reported again.

mod accepting;
mod datagrams;
mod entry;
mod hot;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno as SystemErrno;

use self::accepting::ACCEPTS_MAX;
use self::entry::{Accepting, CANCELED, Completions, Entry, Interest};
use self::hot::Hot;
pub(super) use self::hot::LARGE_RECEIVE_BYTES;
use super::bell::EventBell;
use super::metrics::CoreMetrics;
use super::operation::{Completion, Data, Operation, PathSample, ReceiveEnd, Token};
use super::plan::{BufferPlan, Patience};
use super::socket::{Socket, local_address};
use crate::address::SocketAddress;

const EVENTS_MAX: usize = 256;
/// Longest wait handed to the system; a turn may always end early.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// Trains of datagrams that one socket gives in a turn, less one.
const LOOKS_MAX: u32 = 63;
/// Completions beyond this many give their memory back once they are taken.
const DONE_KEPT: usize = 1024;
/// The bell's mark among the events; no Token has it, slots are counted from 0.
const BELL: u64 = u64::MAX;

/// The driver of one core.
pub(crate) struct EpollDriver {
    epoll: OwnedFd,
    bell: EventBell,
    entries: Vec<Entry>,
    /// Slots whose interest may differ from what epoll knows, each once.
    changed: Vec<u32>,
    /// Listeners that rest, and until when.
    resting: Vec<(Instant, Token)>,
    done: Completions,
    /// Tokens whose last word is said after all that is in `done`.
    closed: VecDeque<Token>,
    events: Vec<epoll::Event>,
    event_next: usize,
    /// How often the next event was looked at in this turn.
    looks: u32,
    hot: Hot,
    metrics: Arc<CoreMetrics>,
}

impl EpollDriver {
    /// A driver without sockets.
    ///
    /// # Errors
    /// What the system says: above all that no descriptor is free.
    pub(crate) fn new(plan: &BufferPlan, metrics: Arc<CoreMetrics>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let bell = EventBell::new()?;
        let mark = epoll::EventData::new_u64(BELL);
        epoll::add(&epoll, &bell, mark, epoll::EventFlags::IN)?;
        Ok(Self {
            epoll,
            bell,
            entries: Vec::new(),
            changed: Vec::new(),
            resting: Vec::new(),
            done: Completions::new(),
            closed: VecDeque::new(),
            events: Vec::with_capacity(EVENTS_MAX),
            event_next: 0,
            looks: 0,
            hot: Hot::new(plan.buffer_len),
            metrics,
        })
    }

    /// Wakes this driver from a sleep, from any thread.
    pub(crate) fn bell(&self) -> EventBell {
        self.bell.clone()
    }

    /// Carries out `operation` or notes it; every failure comes as a completion.
    pub(crate) fn submit(&mut self, operation: Operation) {
        self.metrics.submissions.add(1);
        if let Operation::Attach { token, socket } = operation {
            return self.attach(token, socket);
        }
        let token = operation.token();
        let Some(entry) = find(&mut self.entries, token) else {
            return refuse(operation, &mut self.done);
        };
        let done = &mut self.done;
        match operation {
            Operation::Send { output, sent, manner, .. } => {
                entry.begin_send(token, output, sent, manner, done, &self.metrics);
                // No second look at the entry for the most frequent of all.
                if entry.notes_change() {
                    self.changed.push(token.slot);
                }
                return;
            }
            Operation::Tune { option, .. } => {
                if let Some(socket) = &entry.socket {
                    socket.tune(option);
                }
            }
            Operation::Receive { credit, .. } => entry.begin_receive(token, credit, done),
            Operation::ReceiveExact { buffer, whole, .. } => {
                entry.begin_exact(token, buffer, whole, done);
            }
            Operation::ReceiveDatagrams { .. } => entry.begin_datagrams(token),
            Operation::StopReceive { .. } => entry.stop_receive(token, done),
            Operation::ShutdownWrite { .. } => entry.shutdown_write(),
            Operation::Connect { address, .. } => entry.connect(token, &address, done),
            Operation::Accept { .. } => {
                debug_assert!(entry.accepting != Accepting::Active, "two accepts for {token:?}");
                entry.accepting = Accepting::Active;
            }
            Operation::StopAccept { .. } => self.stop_accept(token),
            Operation::Close { reset, .. } => self.close(token, reset),
            Operation::Attach { .. } => {}
        }
        self.note_change(token);
    }

    /// Brings epoll up to date and asks it what is ready, waiting for the first event as
    /// `patience` says (in whole milliseconds, rounded up). Returns at once while completions
    /// or events of an earlier turn are left.
    ///
    /// # Errors
    /// If epoll itself fails; the driver is of no use then.
    pub(crate) fn turn(&mut self, patience: Patience) -> io::Result<()> {
        self.wake_rested();
        self.update_interest();
        if self.event_next < self.events.len() {
            return Ok(());
        }
        if self.done.is_empty() && self.done.capacity() > DONE_KEPT {
            self.done = Completions::new();
        }
        let is_idle = self.done.is_empty() && self.closed.is_empty();
        match patience {
            Patience::Sleep(longest) if is_idle && !longest.is_zero() => {
                self.poll(self.until_rested(longest))
            }
            Patience::Spin(longest) if is_idle => self.spin(longest),
            _ => self.poll(Duration::ZERO),
        }
    }

    /// The next completion; `None` when the turn's are all taken.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Completion> {
        loop {
            let completion = if let Some(completion) = self.done.pop_front() {
                Some(completion)
            } else if let Some(token) = self.closed.pop_front() {
                Some(Completion::Closed { token })
            } else {
                let event = *self.events.get(self.event_next)?;
                self.event_next += 1;
                self.take_event(event)
            };
            if completion.is_some() {
                self.metrics.completions.add(1);
                return completion;
            }
        }
    }

    /// What the kernel knows of the path of a connection.
    pub(crate) fn path(&self, token: Token) -> Option<PathSample> {
        let entry = self.entries.get(token.slot as usize)?;
        let socket = entry.socket.as_ref().filter(|_| entry.generation == token.generation)?;
        crate::kernel::path_sample(socket.as_fd())
    }

    /// The longest datagram that the path of a connected socket carries.
    pub(crate) fn datagram_bytes_max(&self, token: Token) -> Option<u32> {
        let entry = self.entries.get(token.slot as usize)?;
        let socket = entry.socket.as_ref().filter(|_| entry.generation == token.generation)?;
        crate::kernel::datagram_bytes_max(socket.as_fd())
    }

    /// Where a connection's own end is.
    pub(crate) fn local_address(&self, token: Token) -> Option<SocketAddress> {
        let entry = self.entries.get(token.slot as usize)?;
        let socket = entry.socket.as_ref().filter(|_| entry.generation == token.generation)?;
        local_address(socket.as_fd()).ok()
    }

    /// The bytes of `data`, until the next call of `next`.
    #[inline]
    pub(crate) fn bytes(&self, data: &Data) -> &[u8] {
        self.hot.bytes(data)
    }

    /// `data` by reference count, if it lies where that is possible.
    #[inline]
    pub(crate) fn shared(&self, data: &Data) -> Option<Bytes> {
        data.leasable.then(|| self.hot.share(data))
    }

    /// Takes back `data`.
    #[inline]
    pub(crate) fn release(&mut self, data: Data) {
        // Its buffer is free again by itself, or when those who share it are done.
        let Data { .. } = data;
    }

    fn attach(&mut self, token: Token, socket: Socket) {
        let slot = token.slot as usize;
        let len = self.entries.len();
        if slot >= self.entries.capacity() {
            // Doubling would leave up to twice the memory unused.
            self.entries.reserve_exact((slot + 1 - len).max(len / 8).max(64));
        }
        if slot >= len {
            self.entries.resize_with(slot + 1, Entry::default);
        }
        let entry = &mut self.entries[slot];
        debug_assert!(entry.socket.is_none(), "slot {slot} is in use");
        let (generation, changed) = (token.generation, entry.changed);
        *entry = Entry::new(Some(socket), generation, changed);
    }

    fn close(&mut self, token: Token, reset: bool) {
        let Some(entry) = find(&mut self.entries, token) else { return };
        entry.answer_all(token, None, &mut self.done);
        let changed = entry.changed;
        let closed = std::mem::replace(entry, Entry::new(None, token.generation, changed));
        if let Some(socket) = closed.socket {
            if reset && let Err(error) = socket.send_reset_on_close() {
                tracing::debug!(%error, "closing without a reset");
            }
            // Others may hold a listening socket too (a successor of this process), and epoll
            // forgets a socket only with its last descriptor.
            if closed.accepting != Accepting::Never && closed.registered != Interest::NONE {
                let _ = epoll::delete(&self.epoll, socket.as_fd());
            }
        }
        self.closed.push_back(token);
    }

    fn note_change(&mut self, token: Token) {
        if let Some(entry) = find(&mut self.entries, token)
            && entry.notes_change()
        {
            self.changed.push(token.slot);
        }
    }

    fn update_interest(&mut self) {
        while let Some(slot) = self.changed.pop() {
            let entry = &mut self.entries[slot as usize];
            entry.changed = false;
            let (old, new) = (entry.registered, entry.wanted());
            let Some(socket) = entry.socket.as_ref().filter(|_| old != new) else { continue };
            let token = Token { slot, generation: entry.generation };
            let (mark, flags) = (mark(token), flags(new));
            let outcome = match (old, new) {
                (Interest::NONE, _) => epoll::add(&self.epoll, socket.as_fd(), mark, flags),
                (_, Interest::NONE) => epoll::delete(&self.epoll, socket.as_fd()),
                _ => epoll::modify(&self.epoll, socket.as_fd(), mark, flags),
            };
            match outcome {
                Ok(()) => entry.registered = new,
                Err(error) => entry.answer_all(token, Some(error.into()), &mut self.done),
            }
        }
    }

    fn poll(&mut self, longest: Duration) -> io::Result<()> {
        self.events.clear();
        self.event_next = 0;
        let longest = Timespec::try_from(longest.min(WAIT_MAX)).unwrap_or_default();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&longest)) {
            Ok(_) | Err(SystemErrno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn spin(&mut self, longest: Duration) -> io::Result<()> {
        let begin = Instant::now();
        loop {
            self.poll(Duration::ZERO)?;
            if !self.events.is_empty() || begin.elapsed() >= longest {
                return Ok(());
            }
            self.metrics.spins.add(1);
            std::hint::spin_loop();
        }
    }

    fn take_event(&mut self, event: epoll::Event) -> Option<Completion> {
        let (data, flags) = (event.data, event.flags);
        if data.u64() == BELL {
            self.bell.answer();
            return None;
        }
        let token = token_of_mark(data);
        let entry = find(&mut self.entries, token)?;
        // Reported unasked; whatever is under way learns of it by its own system call.
        let broken = flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP);
        if broken && entry.is_of_datagrams() {
            // Else it would be reported for ever, though its receive finds nothing.
            entry.reports_peer_errors(token, &mut self.done);
        }
        if broken || flags.contains(epoll::EventFlags::OUT) {
            entry.output_ready(token, &mut self.done, &self.metrics);
        }
        let mut completion = None;
        if broken || flags.contains(epoll::EventFlags::IN) {
            if entry.accepting == Accepting::Active {
                self.accept(token, ACCEPTS_MAX);
                self.note_change(token);
                return None;
            }
            completion = entry.input_ready(token, &mut self.hot, &mut self.done);
            // Datagrams come one train a call: what is there is taken in one turn.
            if matches!(completion, Some(Completion::Datagrams { .. })) && self.looks < LOOKS_MAX {
                self.looks += 1;
                self.event_next -= 1;
            } else {
                self.looks = 0;
            }
        }
        if entry.notes_change() {
            self.changed.push(token.slot);
        }
        completion
    }
}

/// The entry whose socket `token` names; none if that is closed or of an older use of the slot.
#[inline]
fn find(entries: &mut [Entry], token: Token) -> Option<&mut Entry> {
    let entry = entries.get_mut(token.slot as usize)?;
    (entry.generation == token.generation && entry.socket.is_some()).then_some(entry)
}

fn mark(token: Token) -> epoll::EventData {
    epoll::EventData::new_u64(u64::from(token.generation) << 32 | u64::from(token.slot))
}

fn token_of_mark(mark: epoll::EventData) -> Token {
    let mark = mark.u64();
    Token { slot: mark as u32, generation: (mark >> 32) as u32 }
}

fn flags(interest: Interest) -> epoll::EventFlags {
    let mut flags = epoll::EventFlags::empty();
    flags.set(epoll::EventFlags::IN, interest.input);
    flags.set(epoll::EventFlags::OUT, interest.output);
    flags
}

/// Answers an operation for a Token that has no socket any longer as cancelled: it was asked
/// before its `Closed` was heard. What needs no answer, or had its last one, gets none.
fn refuse(operation: Operation, done: &mut Completions) {
    done.push_back(match operation {
        Operation::Accept { token } => Completion::AcceptEnded { token, error: Some(CANCELED) },
        Operation::Connect { token, .. } => Completion::Connected { token, result: Err(CANCELED) },
        Operation::Receive { token, .. } => {
            Completion::ReceiveEnded { token, end: ReceiveEnd::Failed(CANCELED) }
        }
        Operation::ReceiveDatagrams { token } => {
            Completion::ReceiveEnded { token, end: ReceiveEnd::Stopped }
        }
        Operation::ReceiveExact { token, buffer, .. } => {
            Completion::ReceivedExact { token, buffer, result: Err(CANCELED) }
        }
        Operation::Send { token, output, .. } => {
            Completion::Sent { token, output, result: Err(CANCELED) }
        }
        Operation::Attach { .. }
        | Operation::Tune { .. }
        | Operation::StopAccept { .. }
        | Operation::StopReceive { .. }
        | Operation::ShutdownWrite { .. }
        | Operation::Close { .. } => return,
    });
}
