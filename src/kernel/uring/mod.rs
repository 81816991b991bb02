//! The io_uring driver: Operations become entries, completions become Completions, and whatever
//! the kernel points at meanwhile is owned here.
//!
//! Above: `engine::driver`. Below: `ring` and `memory`. Absent: connections, framers, handlers.
//! Bounds: one receive, one send, one connect per Token; completions per turn; the pool's budget.

mod completions;
mod datagrams;
mod operations;
#[cfg(test)]
mod tests;
mod zero_copy;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use io_uring::{opcode, squeue, types};
use rustix::net::SocketAddrAny;

use self::datagrams::{DatagramReceives, Departing, Departure};
use super::memory::{Lenders, Pool};
use super::ring::{BufferRing, Ring, RingOptions};
use crate::address::SocketAddress;
use crate::engine::bell::EventBell;
use crate::engine::metrics::CoreMetrics;
use crate::engine::operation::{Completion, Data, Operation, PathSample, Token};
use crate::engine::plan::{BufferPlan, Patience};
use crate::engine::socket::{local_address, tune};
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
    Sibling = 7,
    ZeroCopy = 8,
    Datagrams = 9,
    Departure = 10,
}

impl Kind {
    const fn bit(self) -> u16 {
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
            7 => Self::Sibling,
            8 => Self::ZeroCopy,
            9 => Self::Datagrams,
            10 => Self::Departure,
            _ => return None,
        })
    }
}

const GENERATION_MASK: u32 = 0x00ff_ffff;

const fn user_data(kind: Kind, token: Token) -> u64 {
    (kind as u64) << 56 | ((token.generation & GENERATION_MASK) as u64) << 32 | token.slot as u64
}

/// A Token's socket and what the kernel holds of it (K1).
#[derive(Default)]
struct InFlight {
    socket: Option<OwnedFd>,
    generation: u32,
    /// Bits of `Kind`: entries whose last completion has not come.
    kinds: u16,
    stopping: bool,
    closing: bool,
    /// A receive that waits for its turn to be armed, or for buffers.
    waiting: bool,
    /// Zero-copy sends to this peer were copied by the kernel.
    copies_anyway: bool,
    /// The end of the stream follows the send in flight.
    ending: bool,
    credit_left: u32,
    sending: Option<Box<Output>>,
    rare: Option<Box<Rare>>,
}

impl InFlight {
    /// Sends the end of the stream once no send is in flight.
    fn end_if_sent(&mut self) {
        if self.ending
            && self.kinds & Kind::Send.bit() == 0
            && let Some(socket) = &self.socket
        {
            self.ending = false;
            // A peer that is gone already is reported by the receive.
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
        }
    }
}

/// What only some connections need.
#[derive(Default)]
struct Rare {
    exact: Option<Vec<u8>>,
    address: Option<SocketAddrAny>,
    header: Option<Box<SendHeader>>,
    /// Where its zero-copy send lingers.
    zero_copy: Option<u32>,
    /// The trains of the output that is being sent.
    departing: Departing,
    /// The device does not cut trains into datagrams.
    no_segmentation: bool,
}

/// The scatter list of a send in several pieces.
struct SendHeader {
    segments: Vec<libc::iovec>,
    header: libc::msghdr,
}

/// How a sibling core is woken: by its ring, and by its bell if that fails.
struct SiblingRing {
    ring: OwnedFd,
    bell: EventBell,
}

/// One thread's io_uring with its sockets and buffers. `!Send` by its `Rc`s.
pub(crate) struct UringDriver {
    ring: Ring,
    buffers: BufferRing,
    pool: Rc<Pool>,
    /// Those of datagrams, once there is a socket for them.
    datagrams: Option<Box<DatagramReceives>>,
    lenders: Rc<Lenders>,
    #[allow(clippy::vec_box, reason = "the kernel reads what lies in them: they must not move")]
    departures: Vec<Box<Departure>>,
    /// Unused places among them.
    departures_free: Vec<u32>,
    plan: BufferPlan,
    slots: Vec<InFlight>,
    in_flight: usize,
    arming: VecDeque<Token>,
    /// Receives that found no buffer; armed again, first come first served, when some are back.
    starved: VecDeque<Token>,
    /// Outputs the kernel may still read after their send was answered.
    lingering: Vec<Option<zero_copy::Lingering>>,
    /// Unused places among them.
    lingering_free: Vec<u32>,
    reaped: Vec<(u64, i32, u32)>,
    next: usize,
    more_waiting: bool,
    made: VecDeque<Completion>,
    bell: EventBell,
    siblings: Vec<Option<SiblingRing>>,
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
        let lenders = Rc::new(Lenders::default());
        lenders.add(0, Rc::clone(&pool));
        let mut driver = Self {
            ring,
            buffers,
            pool,
            datagrams: None,
            lenders,
            departures: Vec::new(),
            departures_free: Vec::new(),
            plan: plan.clone(),
            slots: Vec::new(),
            in_flight: 0,
            arming: VecDeque::new(),
            starved: VecDeque::new(),
            lingering: Vec::new(),
            lingering_free: Vec::new(),
            reaped: Vec::with_capacity(COMPLETIONS_PER_TURN),
            next: 0,
            more_waiting: false,
            made: VecDeque::new(),
            bell,
            siblings: Vec::new(),
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
        Rc::clone(&self.lenders) as Rc<dyn Lender>
    }

    /// Names the ring and the bell of sibling `index`.
    pub(crate) fn know_sibling(&mut self, index: usize, ring: OwnedFd, bell: EventBell) {
        if self.siblings.len() <= index {
            self.siblings.resize_with(index + 1, || None);
        }
        self.siblings[index] = Some(SiblingRing { ring, bell });
    }

    /// What the kernel knows of the path of a connection.
    pub(crate) fn path(&self, token: Token) -> Option<PathSample> {
        let slot = self.slots.get(token.slot as usize)?;
        let socket = slot.socket.as_ref().filter(|_| slot.generation == token.generation)?;
        super::path_sample(socket.as_fd())
    }

    /// The longest datagram that the path of a connected socket carries.
    pub(crate) fn datagram_bytes_max(&self, token: Token) -> Option<u32> {
        let slot = self.slots.get(token.slot as usize)?;
        let socket = slot.socket.as_ref().filter(|_| slot.generation == token.generation)?;
        super::datagram_bytes_max(socket.as_fd())
    }

    /// Where a connection's own end is.
    pub(crate) fn local_address(&self, token: Token) -> Option<SocketAddress> {
        let slot = self.slots.get(token.slot as usize)?;
        let socket = slot.socket.as_ref().filter(|_| slot.generation == token.generation)?;
        local_address(socket.as_fd()).ok()
    }

    /// Queues a wake of a sibling: a completion in its ring, posted by the next enter. False if
    /// its ring is not known.
    pub(crate) fn ring_sibling(&mut self, index: usize) -> bool {
        let Some(Some(sibling)) = self.siblings.get(index) else { return false };
        let fd = types::Fd(sibling.ring.as_raw_fd());
        let ignored = u64::from(Kind::Ignored as u8) << 56;
        let entry = opcode::MsgRingData::new(fd, 0, ignored, None).build();
        let token = Token { slot: index as u32, generation: 0 };
        let entry = entry.flags(squeue::Flags::SKIP_SUCCESS);
        self.push(&entry.user_data(user_data(Kind::Sibling, token)));
        true
    }

    pub(crate) fn submit(&mut self, operation: Operation) {
        match operation {
            Operation::Attach { token, socket } => self.attach(token, socket),
            Operation::Accept { token } => self.accept(token),
            Operation::StopAccept { token } => self.stop(token, Kind::Accept),
            Operation::Connect { token, address } => self.connect(token, &address),
            Operation::Receive { token, credit } => self.receive(token, credit),
            Operation::ReceiveDatagrams { token } => self.receive_datagrams(token),
            Operation::StopReceive { token } => self.stop_receive(token),
            Operation::ReceiveExact { token, buffer, whole } => self.exact(token, buffer, whole),
            Operation::Send { token, output, sent, manner } => {
                self.send(token, output, sent, manner);
            }
            Operation::Tune { token, option } => {
                if let Some(socket) = self.slot(token).and_then(|slot| slot.socket.as_ref()) {
                    tune(socket.as_fd(), option);
                }
            }
            Operation::ShutdownWrite { token } => {
                if let Some(slot) = self.slot(token) {
                    slot.ending = true;
                    slot.end_if_sent();
                }
            }
            Operation::Close { token, reset } => self.close(token, reset),
        }
    }

    pub(crate) fn turn(&mut self, patience: Patience) -> io::Result<()> {
        debug_assert!(self.next == self.reaped.len(), "completions are taken before the turn");
        let unarmed = self.arm() | self.arm_datagrams();
        let goes_on = unarmed || !self.made.is_empty() || self.more_waiting;
        match patience {
            _ if goes_on => self.ring.enter(0, None)?,
            Patience::None => self.ring.enter(0, None)?,
            Patience::Sleep(longest) => self.ring.enter(1, Some(longest))?,
            Patience::Spin(longest) => self.spin(longest)?,
        }
        self.reaped.clear();
        self.next = 0;
        let waited = self.more_waiting;
        self.more_waiting = self.ring.reap(&mut self.reaped, COMPLETIONS_PER_TURN);
        // Only a full queue overflows, and a full one takes several turns.
        if (waited || self.more_waiting) && self.ring.overflown() {
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
        let (pool, index) = self.pool_of(data.buffer);
        let start = data.start as usize;
        &pool.bytes(index, start + data.len)[start..]
    }

    /// The same with what stands before it in its buffer, for those who lease it.
    #[inline]
    pub(crate) fn whole(&self, data: &Data) -> &[u8] {
        let (pool, index) = self.pool_of(data.buffer);
        pool.bytes(index, data.start as usize + data.len)
    }

    #[inline]
    #[allow(clippy::needless_pass_by_value, reason = "a released buffer cannot be read again")]
    pub(crate) fn release(&mut self, data: Data) {
        let (pool, index) = self.pool_of(data.buffer);
        pool.give(index);
    }
}

/// How many waits of 10 ms a driver that ends gives unacknowledged zero-copy sends.
const LINGER_ROUNDS: usize = 20;

impl Drop for UringDriver {
    fn drop(&mut self) {
        for round in 0..1000 {
            while self.next().is_some() {}
            // A receive that is armed from now on would be one more to cancel.
            self.arming.clear();
            self.starved.clear();
            if let Some(datagrams) = &mut self.datagrams {
                datagrams.clear();
            }
            // What is queued goes to the kernel first: siblings hear of their wakes, and only
            // what the kernel has can be cancelled.
            if self.ring.queued() > 0 && self.ring.enter(0, None).is_err() {
                break;
            }
            if self.in_flight == 0 {
                return;
            }
            // Only zero-copy sends that a silent peer has not acknowledged: their memory is left to
            // the kernel without waiting for the peer.
            let only_lingering = self.slots.iter().all(|slot| slot.kinds == 0);
            if only_lingering && round >= LINGER_ROUNDS {
                std::mem::forget(std::mem::take(&mut self.lingering));
                return;
            }
            // Again from time to time: a completion may have begun something anew.
            if round % 100 == 0 {
                self.ring.cancel_all();
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
        std::mem::forget(std::mem::take(&mut self.lingering));
        std::mem::forget(std::mem::take(&mut self.departures));
        std::mem::forget(std::mem::take(&mut self.datagrams));
        std::mem::forget(Rc::clone(&self.lenders));
    }
}

fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}
