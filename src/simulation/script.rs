//! The script driver: the seam of the engine over a simulated world, with faults on purpose.
//!
//! Above: shards under test, the conformance suite. Below: `world` holds the bytes in flight,
//! `faults` says what goes wrong, `slots` what is under way for a Token.
//! Absent: system calls, clocks (`slept` counts what a clock would have seen), leases.
//! Bounds: one accept, connect, receive and send per Token; the plan's posted buffers.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::faults::{Fault, Faults};
use super::random::Random;
use super::slots::{Exact, Receive, Send, Slot};
use super::trains::{TRAIN, Trains};
use super::world::{World, endpoint_of, errno};
use crate::address::SocketAddress;
use crate::engine::operation::{Completion, Data, Operation, PathSample, ReceiveEnd, Token};
use crate::engine::plan::{BufferPlan, Patience};
use crate::engine::socket::Socket;
use crate::engine::socket_option::SocketOption;

/// Rounds that a patient turn tries before it calls the world quiet.
const PATIENT_ROUNDS: usize = 64;

/// One thread's door to a simulated world.
#[derive(Debug)]
pub(crate) struct ScriptDriver {
    pub(super) world: World,
    pub(super) random: Random,
    pub(super) faults: Faults,
    /// Faults that strike once, at the first operation they fit.
    pub(super) injected: Vec<Fault>,
    pub(super) buffers: Vec<Box<[u8]>>,
    /// Posted buffers, the one given back last on top.
    pub(super) spare: Vec<u32>,
    pub(super) starvations: u64,
    pub(super) trains: Trains,
    slots: BTreeMap<u32, Slot>,
    /// Completions that have happened but are not handed over yet.
    pub(super) late: VecDeque<Completion>,
    handed: VecDeque<Completion>,
    bell: Bell,
    slept: Duration,
    waited_in_vain: bool,
}

/// Ends a sleeping turn from any thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bell(Arc<AtomicBool>);

impl Bell {
    pub(crate) fn ring(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Acquire)
    }
}

impl ScriptDriver {
    /// A driver in `world` whose luck follows from `seed`.
    pub(crate) fn new(world: &World, plan: &BufferPlan, faults: Faults, seed: u64) -> Self {
        let posted = u32::from(plan.posted);
        Self {
            world: world.clone(),
            random: Random::new(seed),
            faults,
            injected: Vec::new(),
            buffers: (0..posted).map(|_| vec![0; plan.buffer_len].into_boxed_slice()).collect(),
            spare: (0..posted).rev().collect(),
            starvations: 0,
            trains: Trains::default(),
            slots: BTreeMap::new(),
            late: VecDeque::new(),
            handed: VecDeque::new(),
            bell: Bell::default(),
            slept: Duration::ZERO,
            waited_in_vain: false,
        }
    }

    /// Lets `fault` strike once, at the first operation it fits.
    pub(crate) fn inject(&mut self, fault: Fault) {
        self.injected.push(fault);
    }

    /// Closes a socket that was accepted and refused.
    pub(crate) fn discard(&self, socket: &Socket) {
        self.world.close(endpoint_of(socket), true);
    }

    /// What other threads ring to end a sleeping turn.
    pub(crate) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// What the way of a connection is like, as its network says.
    pub(crate) fn path(&self, token: Token) -> Option<PathSample> {
        self.world.path(self.stream(token)?)
    }

    /// The end of a connection that `token` stands for.
    pub(crate) fn endpoint(&self, token: Token) -> Option<usize> {
        let slot = self.slots.get(&token.slot).filter(|slot| slot.token == token);
        slot.map(|slot| slot.endpoint)
    }

    /// The same if it is a stream.
    pub(crate) fn stream(&self, token: Token) -> Option<usize> {
        let slot = self.slots.get(&token.slot).filter(|slot| slot.token == token);
        slot.filter(|slot| !slot.is_datagrams).map(|slot| slot.endpoint)
    }

    /// The longest datagram that the way of a connected socket carries.
    pub(crate) fn datagram_bytes_max(&self, token: Token) -> Option<u32> {
        self.world.datagram_bytes_max(self.datagrams(token)?)
    }

    /// The own address of a socket of datagrams.
    pub(crate) fn local_address(&self, token: Token) -> Option<SocketAddr> {
        self.world.datagram_address(self.datagrams(token)?)
    }

    fn datagrams(&self, token: Token) -> Option<usize> {
        self.endpoint(token).filter(|_| self.stream(token).is_none())
    }

    /// A socket to connect to `address` with.
    pub(crate) fn connecting(&self, address: &SocketAddress) -> Socket {
        match address {
            SocketAddress::Udp(_) => self.world.datagram_socket(),
            _ => self.world.connecting(),
        }
    }

    /// True if the last turn waited and nothing happened in it.
    pub(crate) fn waited_in_vain(&self) -> bool {
        self.waited_in_vain
    }

    /// How long turns have waited in vain: what a simulated clock goes on by.
    pub(crate) fn slept(&self) -> Duration {
        self.slept
    }

    /// How often a receive found no buffer.
    pub(crate) fn starvations(&self) -> u64 {
        self.starvations
    }

    pub(crate) fn submit(&mut self, operation: Operation) {
        match operation {
            Operation::Attach { token, socket } => self.attach(token, &socket),
            Operation::Receive { token, credit } => self.receive(token, credit),
            Operation::ReceiveDatagrams { token } => self.receive(token, usize::MAX),
            Operation::ReceiveExact { token, buffer, whole } => self.exact(token, buffer, whole),
            Operation::Send { token, output, sent, manner } => {
                self.send(token, Send::new(output, sent, manner));
            }
            Operation::Tune { token, option: SocketOption::UnsentLimit(bytes) } => {
                // Datagrams leave when they are sent.
                if let Some(endpoint) = self.stream(token) {
                    self.world.limit_unsent(endpoint, bytes as usize);
                }
            }
            Operation::Tune { token, option: SocketOption::PeerErrors } => {
                if let Some(endpoint) = self.endpoint(token) {
                    self.world.keep_datagram_errors(endpoint);
                }
            }
            Operation::Tune { token, option: SocketOption::ArrivalTimes } => {
                if let Some(endpoint) = self.endpoint(token) {
                    self.world.time_datagrams(endpoint);
                }
            }
            // The simulated world has no packets to mark.
            Operation::Tune { option: SocketOption::TrafficClass(_), .. } => {}
            Operation::Accept { token } => match self.slot(token) {
                Some(slot) => put(&mut slot.accept, false),
                None => self.late.push_back(Completion::AcceptEnded { token, error: None }),
            },
            Operation::Connect { token, address } => match self.slot(token) {
                Some(slot) => put(&mut slot.connect, address),
                None => {
                    let result = Err(errno::ECANCELED);
                    self.late.push_back(Completion::Connected { token, result });
                }
            },
            // What is asked of a Token that is gone, or to stop what has ended, came too late.
            Operation::StopAccept { token } => {
                if let Some(stopping) = self.slot(token).and_then(|slot| slot.accept.as_mut()) {
                    *stopping = true;
                }
            }
            Operation::StopReceive { token } => {
                if let Some(slot) = self.slot(token) {
                    slot.stop_receive();
                }
            }
            Operation::ShutdownWrite { token } => {
                if let Some(slot) = self.slot(token) {
                    slot.ending = true;
                }
            }
            Operation::Close { token, reset } => {
                if let Some(slot) = self.slot(token) {
                    slot.stop_receive();
                    slot.closing.get_or_insert(reset);
                }
            }
        }
    }

    /// Lets the world go on. A patient turn goes on until something has happened or nothing more
    /// can; the time it would have slept is counted, not spent.
    ///
    /// # Errors
    /// None; the signature is the seam's.
    #[allow(clippy::unnecessary_wraps, reason = "the drivers of a kernel can fail here")]
    pub(crate) fn turn(&mut self, patience: Patience) -> io::Result<()> {
        debug_assert!(self.handed.is_empty(), "completions are taken before the turn");
        let (rounds, longest) = match patience {
            Patience::None => (1, Duration::ZERO),
            Patience::Sleep(longest) | Patience::Spin(longest) => (PATIENT_ROUNDS, longest),
        };
        let mut rung = self.bell.take();
        for _ in 0..rounds {
            let before = self.world.happened();
            self.round();
            rung |= self.bell.take();
            let quiet = self.faults.step_at_once() && before == self.world.happened();
            if rung || quiet || !self.late.is_empty() {
                break;
            }
        }
        self.waited_in_vain = !rung && self.late.is_empty() && patience != Patience::None;
        if self.waited_in_vain {
            self.slept = self.slept.saturating_add(longest);
        }
        let room = self.room_for_completions();
        self.handed.extend(self.late.drain(..room.min(self.late.len())));
        Ok(())
    }

    /// How many completions this turn hands over: all, or few when the queue overflows.
    fn room_for_completions(&mut self) -> usize {
        let overflow = self.strikes(|fault| matches!(fault, Fault::Overflow)).is_some();
        if overflow || self.random.chance(self.faults.overflow) {
            self.random.below(3)
        } else {
            usize::MAX
        }
    }

    pub(crate) fn next(&mut self) -> Option<Completion> {
        self.handed.pop_front()
    }

    pub(crate) fn bytes(&self, data: &Data) -> &[u8] {
        match data.buffer & TRAIN {
            0 => &self.buffers[data.buffer as usize][..data.len],
            _ => self.trains.bytes(data.buffer),
        }
    }

    #[allow(clippy::needless_pass_by_value, reason = "a released buffer cannot be read again")]
    pub(crate) fn release(&mut self, data: Data) {
        if data.buffer & TRAIN != 0 {
            return self.trains.give_back(data.buffer);
        }
        debug_assert!(!self.spare.contains(&data.buffer), "a buffer is released once");
        self.spare.push(data.buffer);
    }

    /// Every Token may go one step on, in an order of chance.
    fn round(&mut self) {
        let mut turns: Vec<u32> = self.slots.keys().copied().collect();
        self.random.shuffle(&mut turns);
        for index in turns {
            let mut slot = self.slots.remove(&index).expect("only this loop removes slots");
            if !self.advance(&mut slot) {
                self.slots.insert(index, slot);
            }
        }
    }

    /// Takes the injected fault that `fits`, if there is one.
    pub(super) fn strikes(&mut self, fits: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let index = self.injected.iter().position(fits)?;
        Some(self.injected.remove(index))
    }

    fn slot(&mut self, token: Token) -> Option<&mut Slot> {
        self.slots.get_mut(&token.slot).filter(|slot| slot.token == token)
    }

    fn attach(&mut self, token: Token, socket: &Socket) {
        let before = self.slots.insert(token.slot, Slot::new(token, socket));
        debug_assert!(before.is_none(), "a slot is used again only after Closed");
    }

    fn receive(&mut self, token: Token, credit: usize) {
        debug_assert!(credit > 0, "a receive without credit receives nothing");
        match self.slot(token) {
            Some(slot) => {
                debug_assert!(slot.exact.is_none(), "one receive per token");
                let stopped = slot.closing.is_some();
                put(&mut slot.receive, Receive { credit_left: credit, stopped });
            }
            None => {
                let end = ReceiveEnd::Stopped;
                self.late.push_back(Completion::ReceiveEnded { token, end });
            }
        }
    }

    fn exact(&mut self, token: Token, buffer: Vec<u8>, whole: bool) {
        debug_assert!(buffer.capacity() > buffer.len(), "an exact receive needs spare capacity");
        match self.slot(token) {
            Some(slot) => {
                debug_assert!(slot.receive.is_none(), "one receive per token");
                let stopped = slot.closing.is_some();
                put(&mut slot.exact, Exact { buffer, whole, got: 0, stopped });
            }
            None => {
                let result = Err(errno::ECANCELED);
                self.late.push_back(Completion::ReceivedExact { token, buffer, result });
            }
        }
    }

    fn send(&mut self, token: Token, send: Send) {
        match self.slot(token) {
            Some(slot) => put(&mut slot.send, send),
            None => {
                let (output, result) = (send.output, Err(errno::ECANCELED));
                self.late.push_back(Completion::Sent { token, output, result });
            }
        }
    }
}

/// At most one operation of a kind is under way for a Token.
fn put<T>(place: &mut Option<T>, operation: T) {
    debug_assert!(place.is_none(), "one operation of a kind per token");
    *place = Some(operation);
}
