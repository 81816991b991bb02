//! Datagrams: trains that come into buffers of a pool of their own, and trains that leave.
//!
//! Above: `UringDriver::submit` and `complete`. Below: `ring`, `memory`; `control` codes what
//! travels beside a train. A receive goes on by itself (multishot) until it is stopped or no buffer
//! is left; every train that leaves is an entry of its own, whose name, control messages and
//! segments lie in a place of the table until it is answered (K1).
//! Absent: who the peers are. Bounds: `POSTED` buffers with the kernel, the pool's budget, one
//! output of trains per Token.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::{opcode, types};

use super::super::control::{self, CONTROL_IN_BYTES, NAME_BYTES};
use super::super::datagram::{Label, blank_header, report_peer_errors, segment_of, send_train};
use super::super::memory::Pool;
use super::super::ring::{self, BufferRing};
use super::completions::moved_nothing;
use super::{InFlight, Kind, UringDriver, user_data};
use crate::engine::errno::Errno;
use crate::engine::operation::{Completion, Data, Manner, ReceiveEnd, Token};
use crate::framer::{Output, Train};

/// A train of the kernel is at most 64 KiB long; before it stands what came beside it.
const BUFFER_BYTES: usize = (64 << 10) + 4096;
/// What the kernel writes before everything: lengths of name, control and payload, and flags.
const LENGTHS_BYTES: usize = 16;
const PAYLOAD_START: usize = LENGTHS_BYTES + NAME_BYTES + CONTROL_IN_BYTES;
/// Buffers with the kernel at once: what comes in one turn. Only what was written to is memory.
const POSTED: u16 = 64;
/// Marks the index of a buffer of this pool.
const OURS: u32 = 1 << 16;

/// The Token of a place that is not in use.
const NOBODY: Token = Token { slot: u32::MAX, generation: u32::MAX };

/// What a core needs to receive datagrams; made with the first socket of that kind.
pub(super) struct DatagramReceives {
    buffers: BufferRing,
    pool: Rc<Pool>,
    /// How much room name and control messages have; the kernel reads it with each entry.
    template: Box<libc::msghdr>,
    /// Receives to be armed as soon as there are buffers.
    waiting: VecDeque<Token>,
}

/// A train under way. The kernel reads all but the first three until it has answered (K1).
pub(super) struct Departure {
    token: Token,
    train: Train,
    /// It goes when there is room, rather than come back.
    waits: bool,
    header: libc::msghdr,
    segments: Vec<libc::iovec>,
    label: Label,
}

/// The trains of one output that are under way.
#[derive(Default)]
pub(super) struct Departing {
    /// Not answered yet, with those that wait.
    left: usize,
    /// They found no room: each leaves when the one before it has left.
    waiting: VecDeque<Train>,
    /// Why the first that could not leave did not.
    error: Option<i32>,
    paced: bool,
}

impl Departing {
    /// True while the kernel has some of them.
    pub(super) const fn is_some(&self) -> bool {
        self.left > 0
    }
}

impl DatagramReceives {
    fn new(driver: &mut UringDriver) -> io::Result<Self> {
        let mut buffers = BufferRing::new(POSTED)?;
        driver.ring.register_datagram_buffers(&buffers)?;
        let pool = Pool::new(
            BUFFER_BYTES,
            driver.plan.datagram_pool_bytes,
            usize::from(POSTED),
            driver.bell.clone(),
            driver.pool.metrics(),
        );
        buffers.fill(&pool, POSTED);
        let mut template = Box::new(blank_header());
        template.msg_namelen = NAME_BYTES as u32;
        template.msg_controllen = CONTROL_IN_BYTES as _;
        Ok(Self { buffers, pool, template, waiting: VecDeque::new() })
    }

    /// Arms nothing any more.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

impl UringDriver {
    /// The pool and the index that a buffer's number stands for.
    #[inline]
    pub(super) fn pool_of(&self, number: u32) -> (&Pool, u16) {
        match &self.datagrams {
            Some(datagrams) if number & OURS != 0 => (&datagrams.pool, number as u16),
            _ => (&self.pool, number as u16),
        }
    }

    pub(super) fn receive_datagrams(&mut self, token: Token) {
        let made = if self.datagrams.is_none() { self.make_datagrams() } else { Ok(()) };
        let end = match (self.fd(token), made) {
            (Some(_), Ok(())) => {
                let slot = &mut self.slots[token.slot as usize];
                debug_assert!(
                    !slot.waiting && slot.kinds & Kind::Datagrams.bit() == 0,
                    "one receive per token"
                );
                slot.stopping = false;
                slot.waiting = true;
                let datagrams = self.datagrams.as_mut().expect("just made");
                return datagrams.waiting.push_back(token);
            }
            (None, _) => ReceiveEnd::Stopped,
            (_, Err(error)) => {
                ReceiveEnd::Failed(Errno(error.raw_os_error().unwrap_or(libc::ENOMEM)))
            }
        };
        self.made.push_back(Completion::ReceiveEnded { token, end });
    }

    fn make_datagrams(&mut self) -> io::Result<()> {
        let datagrams = DatagramReceives::new(self)?;
        self.lenders.add(OURS, Rc::clone(&datagrams.pool));
        self.datagrams = Some(Box::new(datagrams));
        Ok(())
    }

    /// Posts spares and arms what waits; true if this has to be done again before a sleep.
    pub(super) fn arm_datagrams(&mut self) -> bool {
        let Some(datagrams) = &mut self.datagrams else { return false };
        datagrams.pool.collect();
        if datagrams.buffers.posted() < POSTED {
            datagrams.buffers.fill(&datagrams.pool, POSTED);
        }
        let has_buffers = datagrams.buffers.posted() > 0;
        let starved = !datagrams.waiting.is_empty() && !has_buffers;
        datagrams.pool.set_starved(starved);
        if starved {
            // A lease that came back before the mark was set rang no bell.
            return datagrams.pool.has_returns();
        }
        while let Some(token) = self.datagrams.as_mut().and_then(|them| them.waiting.pop_front()) {
            let Some(fd) = self.fd(token) else { continue };
            let slot = &mut self.slots[token.slot as usize];
            if !std::mem::take(&mut slot.waiting) {
                continue;
            }
            let Some(datagrams) = &self.datagrams else { break };
            let template = &raw const *datagrams.template;
            let entry = opcode::RecvMsgMulti::new(fd, template, ring::DATAGRAM_GROUP).build();
            self.metrics.rearmed.add(1);
            self.push_for(token, Kind::Datagrams, entry);
        }
        false
    }

    pub(super) fn datagrams_received(
        &mut self,
        token: Token,
        result: i32,
        flags: u32,
        last: bool,
    ) -> Option<Completion> {
        let slot = &mut self.slots[token.slot as usize];
        let buffer = ring::buffer_of(flags);
        let datagrams = self.datagrams.as_mut().expect("made with the first receive");
        if buffer.is_some() {
            datagrams.buffers.used_one();
        }
        let end = match -result {
            ..=0 => (slot.stopping || slot.closing).then_some(ReceiveEnd::Stopped),
            libc::ECANCELED => Some(ReceiveEnd::Stopped),
            _ if slot.stopping || slot.closing => Some(ReceiveEnd::Stopped),
            libc::ENOBUFS => {
                self.metrics.starved.add(1);
                None
            }
            errno if moved_nothing(errno) => None,
            // What one peer or its path said does not end what all others send.
            _ if slot.reports_peer_errors(token, &mut self.made) => None,
            errno => Some(ReceiveEnd::Failed(Errno(errno))),
        };
        match end {
            _ if !last => {}
            Some(end) => self.made.push_back(Completion::ReceiveEnded { token, end }),
            None => {
                // No buffer was left, or the kernel wants to be asked again.
                slot.waiting = true;
                datagrams.waiting.push_back(token);
            }
        }
        let buffer = buffer?;
        match datagrams.read(buffer, result) {
            Some((data, arrival)) => Some(Completion::Datagrams { token, data, arrival }),
            None => {
                datagrams.pool.give(buffer);
                None
            }
        }
    }

    /// Sends the trains of `output`, each by an entry of its own.
    pub(super) fn send_datagrams(&mut self, token: Token, output: Box<Output>, manner: Manner) {
        let slot = &mut self.slots[token.slot as usize];
        slot.kinds |= Kind::Send.bit();
        let rare = slot.rare.get_or_insert_default();
        let singly = rare.no_segmentation;
        let count = output.trains().len();
        let datagrams = || output.trains().iter().map(|train| train.datagrams().count()).sum();
        let left = if singly { datagrams() } else { count };
        let paced = matches!(manner, Manner::WhenWritable(_));
        // Its room is used again.
        let mut waiting = std::mem::take(&mut rare.departing.waiting);
        if paced {
            let trains = output.trains().iter();
            match singly {
                true => waiting.extend(trains.flat_map(Train::split)),
                false => waiting.extend(trains),
            }
        }
        rare.departing = Departing { left, waiting, error: None, paced };
        slot.sending = Some(output);
        if paced {
            return self.depart_next(token);
        }
        for at in 0..count {
            let sending = &self.slots[token.slot as usize].sending;
            let train = sending.as_ref().expect("just put there").trains()[at];
            if singly {
                train.split().for_each(|one| self.depart(token, one, false));
            } else {
                self.depart(token, train, false);
            }
        }
    }

    /// The first of those that wait, if it waits for none but the socket.
    fn depart_next(&mut self, token: Token) {
        let rare = self.slots[token.slot as usize].rare.as_mut();
        let departing = &mut rare.expect("it has trains under way").departing;
        if departing.left == departing.waiting.len()
            && let Some(train) = departing.waiting.pop_front()
        {
            self.depart(token, train, true);
        }
    }

    fn depart(&mut self, token: Token, train: Train, waits: bool) {
        let place = self.departures_free.pop().map_or(self.departures.len(), |at| at as usize);
        if place == self.departures.len() {
            self.departures.push(Departure::empty());
        }
        let slot = &self.slots[token.slot as usize];
        let (Some(output), Some(socket)) = (&slot.sending, &slot.socket) else { return };
        let departure = &mut self.departures[place];
        (departure.token, departure.waits) = (token, waits);
        departure.load(output, train);
        let fd = types::Fd(socket.as_raw_fd());
        let header = &raw const departure.header;
        // Several that waited for room at once would overtake one another.
        let patience = if waits { 0 } else { libc::MSG_DONTWAIT };
        let flags = (libc::MSG_NOSIGNAL | patience) as u32;
        let entry = opcode::SendMsg::new(fd, header).flags(flags).build();
        let paced = slot.rare.as_ref().is_some_and(|rare| rare.departing.paced);
        let entry = if paced && waits { ring::poll_first(entry) } else { entry };
        self.in_flight += 1;
        let place = Token { slot: place as u32, generation: 0 };
        self.push(&entry.user_data(user_data(Kind::Departure, place)));
    }

    /// The datagrams of a train that could not leave, each for itself.
    fn depart_apart(&mut self, token: Token, train: &Train) -> Option<Completion> {
        let slot = &mut self.slots[token.slot as usize];
        let rare = slot.rare.as_mut().expect("it has trains under way");
        rare.departing.left += train.datagrams().count() - 1;
        train.split().for_each(|one| self.depart(token, one, false));
        None
    }

    /// A train that found no room goes when there is some, in its turn.
    fn found_no_room(
        &mut self,
        token: Token,
        train: Train,
        had_waited: bool,
    ) -> Option<Completion> {
        let rare = self.slots[token.slot as usize].rare.as_mut();
        let waiting = &mut rare.expect("it has trains under way").departing.waiting;
        match had_waited {
            true => waiting.push_front(train),
            false => waiting.push_back(train),
        }
        self.depart_next(token);
        None
    }

    /// A train has left, or could not; with the last one its output is answered.
    pub(super) fn departed(&mut self, place: u32, result: i32) -> Option<Completion> {
        self.in_flight -= 1;
        let departure = &mut self.departures[place as usize];
        let (token, train, waited) = (departure.token, departure.train, departure.waits);
        departure.token = NOBODY;
        self.departures_free.push(place);
        let slot = &self.slots[token.slot as usize];
        let (train, result) = match result < 0 && !slot.closing {
            true => self.try_again(token, train, result),
            false => (train, result),
        };
        let slot = &mut self.slots[token.slot as usize];
        if moved_nothing(-result) && !slot.closing {
            return self.found_no_room(token, train, waited);
        }
        if -result == libc::EMSGSIZE && train.segment().is_some() && !slot.closing {
            // Some of it is too long for the path; the rest need not stay with it.
            return self.depart_apart(token, &train);
        }
        let rare = slot.rare.as_mut().expect("it has trains under way");
        if result < 0 {
            self.metrics.unsent_datagrams.add(train.datagrams().count() as u64);
            rare.departing.error.get_or_insert(-result);
        }
        rare.departing.left -= 1;
        // Called back where its socket stays, it was by a driver that ends.
        if slot.closing || -result == libc::ECANCELED {
            let waiting = std::mem::take(&mut rare.departing.waiting);
            rare.departing.left -= waiting.len();
            let datagrams: usize = waiting.iter().map(|train| train.datagrams().count()).sum();
            self.metrics.unsent_datagrams.add(datagrams as u64);
            if datagrams > 0 {
                rare.departing.error.get_or_insert(libc::ECANCELED);
            }
        }
        if rare.departing.left > 0 {
            self.depart_next(token);
            return None;
        }
        let error = rare.departing.error.take();
        slot.kinds &= !Kind::Send.bit();
        let output = slot.sending.take().expect("a send in flight owns its output");
        let result = error.map_or(Ok(output.len()), |errno| Err(Errno(errno)));
        if slot.closing {
            // This completion first, then the last word.
            self.made.push_back(Completion::Sent { token, output, result });
            self.finish_close(token);
            return None;
        }
        Some(Completion::Sent { token, output, result })
    }

    /// A train could not leave for `result`: tries what may help. What is left of it, and what came
    /// of that.
    fn try_again(&mut self, token: Token, train: Train, result: i32) -> (Train, i32) {
        let slot = &mut self.slots[token.slot as usize];
        // It may be the error of another datagram, which waited on the socket.
        let may_be_foreign = match -result {
            libc::ECANCELED | libc::EAGAIN | libc::EINTR => false,
            errno if errno == libc::EMSGSIZE || train.to().is_some() => true,
            _ => slot.reports_peer_errors(token, &mut self.made),
        };
        let mut result = result;
        if may_be_foreign {
            result = slot.send_once_more(token, &train, &mut self.made);
        }
        let refused = matches!(-result, libc::EIO | libc::EINVAL) && train.segment().is_some();
        let mut singles = train.split();
        let Some(first) = singles.next().filter(|_| refused) else { return (train, result) };
        // By the device, or for what is wrong with its peer: its first datagram tells.
        let result = slot.send_once_more(token, &first, &mut self.made);
        let rare = slot.rare.as_mut().expect("it has trains under way");
        if result == 0 && !std::mem::replace(&mut rare.no_segmentation, true) {
            self.metrics.segmentation_refused.add(1);
            tracing::info!("the device does not segment datagrams; they leave singly");
        }
        for single in singles {
            let slot = &mut self.slots[token.slot as usize];
            slot.rare.as_mut().expect("it has trains under way").departing.left += 1;
            self.depart(token, single, false);
        }
        (first, result)
    }

    /// Calls back the trains of a socket that closes.
    pub(super) fn cancel_departures(&mut self, token: Token) {
        for place in 0..self.departures.len() {
            if self.departures[place].token == token {
                self.cancel(Token { slot: place as u32, generation: 0 }, Kind::Departure);
            }
        }
    }
}

impl InFlight {
    /// A datagram that is too long leaves its error on the socket, where the next one finds it, and
    /// so does a peer that takes none: a train that failed is tried again at once, with nothing in
    /// between.
    fn send_once_more(&self, token: Token, train: &Train, made: &mut VecDeque<Completion>) -> i32 {
        let (Some(socket), Some(output)) = (&self.socket, &self.sending) else {
            return -libc::ECANCELED;
        };
        let mut forget = || {
            report_peer_errors(socket.as_fd(), token, made);
            let _ = rustix::net::sockopt::socket_error(socket);
        };
        forget();
        match send_train(socket.as_fd(), output, train) {
            Ok(()) => 0,
            Err(error) => {
                forget();
                -error.raw_os_error()
            }
        }
    }

    fn reports_peer_errors(&self, token: Token, made: &mut VecDeque<Completion>) -> bool {
        let report = |socket: &OwnedFd| report_peer_errors(socket.as_fd(), token, made);
        self.socket.as_ref().is_some_and(report)
    }
}

impl DatagramReceives {
    /// What lies in a buffer that the kernel has filled with `result` bytes.
    fn read(&self, buffer: u16, result: i32) -> Option<(Data, crate::engine::operation::Arrival)> {
        let filled = usize::try_from(result).ok().filter(|filled| *filled >= PAYLOAD_START)?;
        let bytes = self.pool.bytes(buffer, filled);
        let length = |at: usize| {
            let word = bytes[at..at + 4].try_into().expect("four bytes");
            u32::from_ne_bytes(word) as usize
        };
        let name = &bytes[LENGTHS_BYTES..][..length(0).min(NAME_BYTES)];
        let control = &bytes[LENGTHS_BYTES + NAME_BYTES..][..length(4).min(CONTROL_IN_BYTES)];
        let arrival = control::read(name, control, length(12) as i32);
        let len = length(8).min(filled - PAYLOAD_START);
        let buffer = OURS | u32::from(buffer);
        Some((Data { buffer, start: PAYLOAD_START as u32, len, leasable: true }, arrival))
    }
}

impl Departure {
    fn empty() -> Box<Self> {
        Box::new(Self {
            token: NOBODY,
            train: Train::default(),
            waits: false,
            header: blank_header(),
            segments: Vec::new(),
            label: Label::empty(),
        })
    }

    /// Has the header point at everything of `train`.
    fn load(&mut self, output: &Output, train: Train) {
        self.train = train;
        self.segments.clear();
        self.segments.extend(output.pieces(train.range()).map(segment_of));
        self.label.point(&mut self.header, &train, &mut self.segments);
    }
}
