//! The io_uring driver: Operations become entries, completions become Completions, and whatever
//! the kernel points at meanwhile is owned here.
//!
//! Above: `engine::driver`. Below: `ring` and `memory`. Absent: connections, framers, handlers.
//! Bounds: one receive, one send, one connect per Token; completions per turn; the pool's budget.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use io_uring::{opcode, squeue, types};
use rustix::net::SocketAddrAny;

use super::memory::Pool;
use super::ring::{self, BufferRing, Ring, RingOptions};
use crate::engine::bell::EventBell;
use crate::engine::driver::{BufferPlan, Patience};
use crate::engine::metrics::CoreMetrics;
use crate::engine::operation::{
    Completion, Data, Errno, Operation, ReceiveEnd, SocketAddress, Token,
};
use crate::engine::socket::Socket;
use crate::framer::Output;
use crate::lending::Lender;

/// Completions taken per turn: bounds how long the first waits for the last.
const COMPLETIONS_PER_TURN: usize = 256;
/// The kernel runs at most this many deferred work items per pass.
const WORK_ITEMS_PER_ENTER: usize = 20;
/// Most segments of one send.
const SEGMENTS_MAX: usize = 64;

/// What an entry was for: the top byte of its user data.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Ignored = 0,
    Accept = 1,
    Receive = 2,
    Exact = 3,
    Send = 4,
    Connect = 5,
    Bell = 6,
}

impl Kind {
    const fn bit(self) -> u8 {
        1 << self as u8
    }

    const fn of(user_data: u64) -> Option<Self> {
        Some(match (user_data >> 56) as u8 {
            0 => Self::Ignored,
            1 => Self::Accept,
            2 => Self::Receive,
            3 => Self::Exact,
            4 => Self::Send,
            5 => Self::Connect,
            6 => Self::Bell,
            _ => return None,
        })
    }
}

const GENERATION_MASK: u32 = 0x00ff_ffff;

const fn user_data(kind: Kind, token: Token) -> u64 {
    (kind as u64) << 56
        | ((token.generation & GENERATION_MASK) as u64) << 32
        | token.slot as u64
}

/// A Token's socket and what the kernel holds of it (K1).
#[derive(Default)]
struct InFlight {
    socket: Option<OwnedFd>,
    generation: u32,
    /// Bits of `Kind`: entries whose last completion has not come.
    kinds: u8,
    stopping: bool,
    closing: bool,
    /// A receive that waits for its turn to be armed, or for buffers.
    waiting: bool,
    credit_left: u32,
    sending: Option<Box<Output>>,
    rare: Option<Box<Rare>>,
}

/// What only some connections need.
#[derive(Default)]
struct Rare {
    exact: Option<Vec<u8>>,
    address: Option<SocketAddrAny>,
    header: Option<Box<SendHeader>>,
}

/// The scatter list of a send in several pieces.
struct SendHeader {
    segments: Vec<libc::iovec>,
    header: libc::msghdr,
}

/// One thread's io_uring with its sockets and buffers. `!Send` by its `Rc`s.
pub(crate) struct UringDriver {
    ring: Ring,
    buffers: BufferRing,
    pool: Rc<Pool>,
    plan: BufferPlan,
    slots: Vec<InFlight>,
    in_flight: usize,
    arming: VecDeque<Token>,
    /// Receives that found no buffer; armed again, first come first served, when some are back.
    starved: VecDeque<Token>,
    reaped: Vec<(u64, i32, u32)>,
    next: usize,
    more_waiting: bool,
    made: VecDeque<Completion>,
    bell: EventBell,
    total_cap: bool,
    metrics: Arc<CoreMetrics>,
}

impl UringDriver {
    pub(crate) fn new(
        plan: &BufferPlan,
        options: &RingOptions,
        metrics: Arc<CoreMetrics>,
    ) -> io::Result<Self> {
        let mut ring = Ring::new(options)?;
        let bell = EventBell::new()?;
        let entries = plan.posted.next_power_of_two();
        let mut buffers = BufferRing::new(entries)?;
        ring.register_buffers(&buffers)?;
        let pool = Pool::new(
            plan.buffer_len,
            plan.pool_bytes_max,
            usize::from(plan.posted),
            bell.clone(),
            Arc::clone(&metrics),
        );
        buffers.fill(&pool, plan.posted);
        let mut driver = Self {
            ring,
            buffers,
            pool,
            plan: plan.clone(),
            slots: Vec::new(),
            in_flight: 0,
            arming: VecDeque::new(),
            starved: VecDeque::new(),
            reaped: Vec::with_capacity(COMPLETIONS_PER_TURN),
            next: 0,
            more_waiting: false,
            made: VecDeque::new(),
            bell,
            total_cap: kernel_is_at_least(6, 17),
            metrics,
        };
        driver.watch_bell()?;
        Ok(driver)
    }

    /// What other threads ring to end a sleeping turn.
    pub(crate) fn bell(&self) -> EventBell {
        self.bell.clone()
    }

    /// A descriptor of the ring, for siblings that post to it directly.
    pub(crate) fn ring_descriptor(&self) -> io::Result<OwnedFd> {
        self.ring.duplicate()
    }

    /// Who leases the buffers of this driver.
    pub(crate) fn lender(&self) -> Rc<dyn Lender> {
        Rc::clone(&self.pool) as Rc<dyn Lender>
    }

    /// Queues a wake of the sibling whose ring this is; leaves with the next enter.
    pub(crate) fn ring_sibling(&mut self, sibling: &OwnedFd) {
        let fd = types::Fd(sibling.as_raw_fd());
        let bell = u64::from(Kind::Ignored as u8) << 56;
        let entry = opcode::MsgRingData::new(fd, 0, bell, None).build();
        self.push(&entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(0));
    }

    pub(crate) fn submit(&mut self, operation: Operation) {
        match operation {
            Operation::Attach { token, socket } => self.attach(token, socket),
            Operation::Accept { token } => self.accept(token),
            Operation::StopAccept { token } => self.stop(token, Kind::Accept),
            Operation::Connect { token, address } => self.connect(token, &address),
            Operation::Receive { token, credit } => self.receive(token, credit),
            Operation::StopReceive { token } => self.stop_receive(token),
            Operation::ReceiveExact { token, buffer, whole } => self.exact(token, buffer, whole),
            Operation::Send { token, output, sent } => self.send(token, output, sent),
            Operation::ShutdownWrite { token } => {
                if let Some(socket) = self.socket(token) {
                    // A peer that is gone already is reported by the receive.
                    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
                }
            }
            Operation::Close { token, reset } => self.close(token, reset),
        }
    }

    pub(crate) fn turn(&mut self, patience: Patience) -> io::Result<()> {
        debug_assert!(self.next == self.reaped.len(), "completions are taken before the turn");
        self.arm();
        let something_made = !self.made.is_empty() || self.more_waiting;
        match patience {
            _ if something_made => self.ring.enter(0, None)?,
            Patience::None => self.ring.enter(0, None)?,
            Patience::Sleep(longest) => self.ring.enter(1, Some(longest))?,
            Patience::Spin(longest) => self.spin(longest)?,
        }
        self.reaped.clear();
        self.next = 0;
        self.more_waiting = self.ring.reap(&mut self.reaped, COMPLETIONS_PER_TURN);
        if self.ring.overflown() {
            self.metrics.overflows.add(1);
            self.more_waiting = true;
        }
        self.metrics.completions.add(self.reaped.len() as u64);
        Ok(())
    }

    /// Spins on the flag that says "work waits", never on the queue's tail, which stands still
    /// until an enter.
    fn spin(&mut self, longest: std::time::Duration) -> io::Result<()> {
        if self.ring.queued() > 0 || self.ring.has_work() {
            return self.ring.enter(0, None);
        }
        let start = std::time::Instant::now();
        loop {
            for _ in 0..16 {
                std::hint::spin_loop();
                if self.ring.has_work() {
                    return self.ring.enter(0, None);
                }
            }
            self.metrics.spins.add(1);
            if start.elapsed() >= longest {
                return Ok(());
            }
        }
    }

    pub(crate) fn next(&mut self) -> Option<Completion> {
        if let Some(made) = self.made.pop_front() {
            return Some(made);
        }
        while let Some(&(user_data, result, flags)) = self.reaped.get(self.next) {
            self.next += 1;
            if let Some(completion) = self.complete(user_data, result, flags) {
                return Some(completion);
            }
        }
        self.made.pop_front()
    }

    #[inline]
    pub(crate) fn bytes(&self, data: &Data) -> &[u8] {
        self.pool.bytes(data.buffer as u16, data.len)
    }

    #[inline]
    #[allow(clippy::needless_pass_by_value, reason = "a released buffer cannot be read again")]
    pub(crate) fn release(&mut self, data: Data) {
        self.pool.give(data.buffer as u16);
    }
}

/// Operations.
impl UringDriver {
    fn push(&mut self, entry: &squeue::Entry) {
        self.metrics.submissions.add(1);
        if let Err(error) = self.ring.push(entry) {
            // Only a ring that is unusable refuses a submission; the next turn reports it.
            tracing::error!(%error, "submitting to io_uring");
        }
    }

    fn push_for(&mut self, token: Token, kind: Kind, entry: squeue::Entry) {
        let slot = &mut self.slots[token.slot as usize];
        debug_assert!(slot.kinds & kind.bit() == 0, "one operation of a kind per token");
        slot.kinds |= kind.bit();
        self.in_flight += 1;
        self.push(&entry.user_data(user_data(kind, token)));
    }

    fn slot(&mut self, token: Token) -> Option<&mut InFlight> {
        let slot = self.slots.get_mut(token.slot as usize)?;
        (slot.socket.is_some() && slot.generation == token.generation).then_some(slot)
    }

    fn socket(&mut self, token: Token) -> Option<&OwnedFd> {
        self.slot(token)?.socket.as_ref()
    }

    /// The descriptor for an entry, or `None` if the Token is unknown or closing.
    fn fd(&mut self, token: Token) -> Option<types::Fd> {
        let slot = self.slot(token)?;
        if slot.closing {
            return None;
        }
        slot.socket.as_ref().map(|socket| types::Fd(socket.as_raw_fd()))
    }

    fn attach(&mut self, token: Token, socket: Socket) {
        let index = token.slot as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, InFlight::default);
        }
        let slot = &mut self.slots[index];
        debug_assert!(slot.socket.is_none(), "a slot is used again only after Closed");
        *slot = InFlight { generation: token.generation, ..InFlight::default() };
        slot.socket = socket.into_descriptor();
    }

    fn accept(&mut self, token: Token) {
        let Some(fd) = self.fd(token) else { return };
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        self.push_for(token, Kind::Accept, opcode::AcceptMulti::new(fd).flags(flags).build());
    }

    fn stop(&mut self, token: Token, kind: Kind) {
        let Some(slot) = self.slot(token) else { return };
        slot.stopping = true;
        if slot.kinds & kind.bit() != 0 {
            self.cancel(token, kind);
        }
    }

    fn cancel(&mut self, token: Token, kind: Kind) {
        let entry = opcode::AsyncCancel::new(user_data(kind, token)).build();
        self.push(&entry.user_data(0));
    }

    fn connect(&mut self, token: Token, address: &SocketAddress) {
        let Some(fd) = self.fd(token) else {
            let result = Err(Errno(libc::ECANCELED));
            return self.made.push_back(Completion::Connected { token, result });
        };
        let any = match encode(address) {
            Ok(any) => any,
            Err(errno) => {
                return self.made.push_back(Completion::Connected { token, result: Err(errno) });
            }
        };
        let slot = &mut self.slots[token.slot as usize];
        let place = slot.rare.get_or_insert_default().address.insert(any);
        let entry = opcode::Connect::new(fd, place.as_ptr().cast(), place.addr_len()).build();
        self.push_for(token, Kind::Connect, entry);
    }

    fn receive(&mut self, token: Token, credit: usize) {
        if self.fd(token).is_none() {
            let end = ReceiveEnd::Stopped;
            return self.made.push_back(Completion::ReceiveEnded { token, end });
        }
        let slot = &mut self.slots[token.slot as usize];
        slot.credit_left = u32::try_from(credit).unwrap_or(u32::MAX);
        slot.stopping = false;
        slot.waiting = true;
        self.arming.push_back(token);
    }

    fn stop_receive(&mut self, token: Token) {
        let Some(slot) = self.slot(token) else { return };
        if slot.waiting {
            slot.waiting = false;
            let end = ReceiveEnd::Stopped;
            return self.made.push_back(Completion::ReceiveEnded { token, end });
        }
        slot.stopping = true;
        for kind in [Kind::Receive, Kind::Exact] {
            if self.slots[token.slot as usize].kinds & kind.bit() != 0 {
                self.cancel(token, kind);
            }
        }
    }

    fn exact(&mut self, token: Token, mut buffer: Vec<u8>, whole: bool) {
        let Some(fd) = self.fd(token) else {
            let result = Err(Errno(libc::ECANCELED));
            return self.made.push_back(Completion::ReceivedExact { token, buffer, result });
        };
        let spare = buffer.spare_capacity_mut();
        let len = u32::try_from(spare.len()).unwrap_or(u32::MAX);
        let flags = if whole { libc::MSG_WAITALL } else { 0 };
        let entry = opcode::Recv::new(fd, spare.as_mut_ptr().cast(), len).flags(flags).build();
        let slot = &mut self.slots[token.slot as usize];
        slot.stopping = false;
        slot.rare.get_or_insert_default().exact = Some(buffer);
        self.push_for(token, Kind::Exact, entry);
    }

    fn send(&mut self, token: Token, output: Box<Output>, sent: usize) {
        let Some(fd) = self.fd(token) else {
            let result = Err(Errno(libc::ECANCELED));
            return self.made.push_back(Completion::Sent { token, output, result });
        };
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let slot = &mut self.slots[token.slot as usize];
        let output = slot.sending.insert(output);
        let entry = if output.is_contiguous() {
            let bytes = output.segments(sent).next().unwrap_or_default();
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            opcode::Send::new(fd, bytes.as_ptr(), len).flags(flags).build()
        } else {
            let rare = slot.rare.get_or_insert_default();
            let header = rare.header.get_or_insert_with(SendHeader::empty);
            header.point_at(output, sent);
            opcode::SendMsg::new(fd, &raw const header.header).flags(flags as u32).build()
        };
        self.push_for(token, Kind::Send, entry);
    }

    fn close(&mut self, token: Token, reset: bool) {
        let Some(slot) = self.slot(token) else { return };
        if slot.closing {
            return;
        }
        slot.closing = true;
        let (waiting, kinds) = (std::mem::take(&mut slot.waiting), slot.kinds);
        if reset && let Some(socket) = &slot.socket {
            let now = Some(std::time::Duration::ZERO);
            // Refused only by stacks that have no reset; their end is a plain one.
            let _ = rustix::net::sockopt::set_socket_linger(socket, now);
        }
        if waiting {
            let end = ReceiveEnd::Stopped;
            self.made.push_back(Completion::ReceiveEnded { token, end });
        }
        for kind in [Kind::Accept, Kind::Receive, Kind::Exact, Kind::Send, Kind::Connect] {
            if kinds & kind.bit() != 0 {
                self.cancel(token, kind);
            }
        }
        self.finish_close(token);
    }

    /// The socket goes when nothing of it is in flight any more.
    fn finish_close(&mut self, token: Token) {
        let slot = &mut self.slots[token.slot as usize];
        if slot.closing && slot.kinds == 0 {
            *slot = InFlight { generation: token.generation, ..InFlight::default() };
            self.made.push_back(Completion::Closed { token });
        }
    }

    fn watch_bell(&mut self) -> io::Result<()> {
        let fd = types::Fd(self.bell.descriptor().as_raw_fd());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build();
        let nobody = Token { slot: 0, generation: 0 };
        self.ring.push(&entry.user_data(user_data(Kind::Bell, nobody)))
    }
}

/// Arming receives.
impl UringDriver {
    /// Posts spares, then arms as many receives as the posted buffers can bear: each armed receive
    /// and each of the work items of one pass may use up a whole credit.
    fn arm(&mut self) {
        self.pool.collect();
        if self.buffers.posted() < self.plan.posted {
            self.buffers.fill(&self.pool, self.plan.posted);
        }
        if self.arming.is_empty() && self.starved.is_empty() {
            return;
        }
        let posted = usize::from(self.buffers.posted());
        let per_receive = self.plan.credit.div_ceil(self.plan.buffer_len).max(1);
        let bearable = (posted / per_receive).saturating_sub(WORK_ITEMS_PER_ENTER).max(4);
        let bearable = if posted == 0 { 0 } else { bearable };
        for _ in 0..bearable {
            let Some(token) = self.starved.pop_front().or_else(|| self.arming.pop_front()) else {
                break;
            };
            self.arm_one(token);
        }
        self.pool.set_starved(!self.starved.is_empty());
    }

    fn arm_one(&mut self, token: Token) {
        let Some(fd) = self.fd(token) else { return };
        let total_cap = self.total_cap;
        let slot = &mut self.slots[token.slot as usize];
        if !std::mem::take(&mut slot.waiting) {
            return;
        }
        let entry = ring::receive_entry(fd, total_cap.then_some(slot.credit_left.max(1)));
        self.metrics.rearmed.add(1);
        self.push_for(token, Kind::Receive, entry);
    }
}

/// Completions.
impl UringDriver {
    fn complete(&mut self, user_data: u64, result: i32, flags: u32) -> Option<Completion> {
        let kind = Kind::of(user_data)?;
        match kind {
            Kind::Ignored => return None,
            Kind::Bell => {
                self.rung(flags);
                return None;
            }
            _ => {}
        }
        let slot = user_data as u32;
        let in_flight = &mut self.slots[slot as usize];
        let token = Token { slot, generation: in_flight.generation };
        debug_assert!(
            in_flight.kinds & kind.bit() != 0,
            "a completion belongs to an operation in flight"
        );
        let last = !ring::more(flags);
        if last {
            in_flight.kinds &= !kind.bit();
            self.in_flight -= 1;
        }
        let completion = match kind {
            Kind::Receive => self.received(token, result, flags, last),
            Kind::Send => self.sent(token, result),
            Kind::Exact => self.received_exact(token, result),
            Kind::Accept => self.accepted(token, result, last),
            Kind::Connect => {
                let result = if result < 0 { Err(Errno(-result)) } else { Ok(()) };
                Some(Completion::Connected { token, result })
            }
            Kind::Ignored | Kind::Bell => None,
        };
        if last && self.slots[slot as usize].closing {
            // This completion first, then whatever it left behind, then the last word.
            self.finish_close(token);
        }
        completion
    }

    fn received(&mut self, token: Token, result: i32, flags: u32, last: bool) -> Option<Completion> {
        let slot = &mut self.slots[token.slot as usize];
        if result <= 0 {
            if let Some(buffer) = ring::buffer_of(flags) {
                self.buffers.used_one();
                self.pool.give(buffer);
            }
            if !last {
                return None;
            }
            let end = match -result {
                0 => ReceiveEnd::EndOfInput,
                libc::ENOBUFS if !slot.stopping && !slot.closing => {
                    slot.waiting = true;
                    self.metrics.starved.add(1);
                    self.starved.push_back(token);
                    return None;
                }
                libc::EINVAL if self.total_cap => {
                    tracing::info!("this kernel cannot cap a receive in total; counting instead");
                    self.total_cap = false;
                    slot.waiting = true;
                    self.arming.push_back(token);
                    return None;
                }
                libc::ECANCELED | libc::ENOBUFS if slot.stopping || slot.closing => {
                    ReceiveEnd::Stopped
                }
                libc::ECANCELED => ReceiveEnd::Credit,
                errno => ReceiveEnd::Failed(Errno(errno)),
            };
            return Some(Completion::ReceiveEnded { token, end });
        }
        let buffer = ring::buffer_of(flags).expect("a receive from the group names its buffer");
        self.buffers.used_one();
        slot.credit_left = slot.credit_left.saturating_sub(result as u32);
        if last {
            let end = if slot.stopping { ReceiveEnd::Stopped } else { ReceiveEnd::Credit };
            self.made.push_back(Completion::ReceiveEnded { token, end });
        } else if !self.total_cap && slot.credit_left == 0 {
            self.cancel(token, Kind::Receive);
        }
        let data = Data { buffer: buffer.into(), len: result as usize, leasable: true };
        Some(Completion::Received { token, data })
    }

    fn sent(&mut self, token: Token, result: i32) -> Option<Completion> {
        let slot = &mut self.slots[token.slot as usize];
        let output = slot.sending.take().expect("a send in flight owns its output");
        let result = if result < 0 { Err(Errno(-result)) } else { Ok(result as usize) };
        Some(Completion::Sent { token, output, result })
    }

    fn received_exact(&mut self, token: Token, result: i32) -> Option<Completion> {
        let slot = &mut self.slots[token.slot as usize];
        let buffer = slot.rare.as_mut().and_then(|rare| rare.exact.take());
        let mut buffer = buffer.expect("an exact receive in flight owns its buffer");
        let result = if result < 0 {
            Err(Errno(-result))
        } else {
            let len = buffer.len() + result as usize;
            assert!(len <= buffer.capacity(), "the kernel keeps to the spare capacity");
            // SAFETY: [K1] the kernel wrote `result` bytes behind the old length and is done.
            unsafe { buffer.set_len(len) };
            Ok(result as usize)
        };
        Some(Completion::ReceivedExact { token, buffer, result })
    }

    fn accepted(&mut self, token: Token, result: i32, last: bool) -> Option<Completion> {
        let slot = &self.slots[token.slot as usize];
        if last {
            let error = (result < 0 && !slot.stopping && !slot.closing).then_some(Errno(-result));
            if slot.stopping && let Some(listener) = &slot.socket {
                accept_rest(listener, token, &mut self.made);
            }
            self.made.push_back(Completion::AcceptEnded { token, error });
        }
        if result < 0 {
            return None;
        }
        let socket = Socket::from(adopt(result));
        Some(Completion::Accepted { token, socket })
    }

    fn rung(&mut self, flags: u32) {
        self.bell.silence();
        self.metrics.wakes_received.add(1);
        if !ring::more(flags)
            && let Err(error) = self.watch_bell()
        {
            tracing::error!(%error, "watching the bell again");
        }
    }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        if self.in_flight > 0 {
            self.ring.cancel_all();
        }
        for _ in 0..1000 {
            while self.next().is_some() {}
            if self.in_flight == 0 {
                return;
            }
            let patience = Patience::Sleep(std::time::Duration::from_millis(10));
            if self.turn(patience).is_err() {
                break;
            }
        }
        tracing::error!(
            in_flight = self.in_flight,
            "the kernel did not give everything back; leaking what it may still write to"
        );
        // [K4] leak on purpose: sockets, outputs and buffers stay where the kernel knows them.
        std::mem::forget(std::mem::take(&mut self.slots));
        std::mem::forget(Rc::clone(&self.pool));
    }
}

impl SendHeader {
    fn empty() -> Box<Self> {
        // SAFETY: [K6] a message header of zeros is valid: no name, no segments, no control.
        let header = unsafe { std::mem::zeroed() };
        Box::new(Self { segments: Vec::new(), header })
    }

    fn point_at(&mut self, output: &Output, sent: usize) {
        self.segments.clear();
        self.segments.extend(output.segments(sent).take(SEGMENTS_MAX).map(|bytes| libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        }));
        self.header.msg_iov = self.segments.as_mut_ptr();
        self.header.msg_iovlen = self.segments.len();
    }
}

fn adopt(descriptor: i32) -> OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: [K1] an accept's result is a fresh descriptor that only this completion knows.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Accepts what the kernel has queued, so that closing the listener resets nobody.
fn accept_rest(listener: &OwnedFd, token: Token, into: &mut VecDeque<Completion>) {
    use rustix::net::SocketFlags;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    while let Ok(socket) = rustix::net::accept_with(listener, flags) {
        into.push_back(Completion::Accepted { token, socket: Socket::from(socket) });
    }
}

fn encode(address: &SocketAddress) -> Result<SocketAddrAny, Errno> {
    match address {
        SocketAddress::Ip(SocketAddr::V4(v4)) => Ok(SocketAddrAny::from(*v4)),
        SocketAddress::Ip(SocketAddr::V6(v6)) => Ok(SocketAddrAny::from(*v6)),
        SocketAddress::Unix(path) => crate::engine::socket::unix_address(path)
            .map(SocketAddrAny::from)
            .map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EINVAL))),
    }
}

fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}
