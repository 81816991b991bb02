//! Operations: from a value to an entry, with its memory put where the kernel may use it (K1).
//!
//! Above: `UringDriver::submit` and the arming of receives before each enter. Below: `ring`.
//! Absent: completions.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::{opcode, squeue, types};
use rustix::net::SocketAddrAny;

use super::super::datagram::{blank_header, segment_of};
use super::super::ring;
use super::{
    InFlight, Kind, SEGMENTS_MAX, SendHeader, UringDriver, WORK_ITEMS_PER_ENTER, user_data,
};
use crate::address::SocketAddress;
use crate::engine::errno::Errno;
use crate::engine::operation::{Completion, Manner, ReceiveEnd, SEND_BYTES_MAX, Token};
use crate::engine::socket::Socket;
use crate::framer::Output;

impl UringDriver {
    pub(super) fn push(&mut self, entry: &squeue::Entry) {
        self.metrics.submissions.add(1);
        if let Err(error) = self.ring.push(entry) {
            // Only a ring that is unusable refuses a submission; the next turn reports it.
            tracing::error!(%error, "submitting to io_uring");
        }
    }

    pub(super) fn push_for(&mut self, token: Token, kind: Kind, entry: squeue::Entry) {
        let slot = &mut self.slots[token.slot as usize];
        slot.kinds |= kind.bit();
        self.in_flight += 1;
        self.push(&entry.user_data(user_data(kind, token)));
    }

    /// A second operation of a kind would replace memory that the kernel uses (K1), so this holds
    /// in release builds too; a breach is a bug of the shard.
    fn assert_free(&self, token: Token, kind: Kind) {
        let kinds = self.slots[token.slot as usize].kinds;
        assert!(kinds & kind.bit() == 0, "one operation of a kind per token");
    }

    pub(super) fn slot(&mut self, token: Token) -> Option<&mut InFlight> {
        let slot = self.slots.get_mut(token.slot as usize)?;
        (slot.socket.is_some() && slot.generation == token.generation).then_some(slot)
    }

    /// The descriptor for an entry, or `None` if the Token is unknown or closing.
    pub(super) fn fd(&mut self, token: Token) -> Option<types::Fd> {
        let slot = self.slot(token)?;
        if slot.closing {
            return None;
        }
        slot.socket.as_ref().map(|socket| types::Fd(socket.as_raw_fd()))
    }

    pub(super) fn attach(&mut self, token: Token, socket: Socket) {
        let index = token.slot as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, InFlight::default);
        }
        let slot = &mut self.slots[index];
        // Otherwise what the kernel uses would be dropped (K1).
        assert!(slot.socket.is_none() && slot.kinds == 0, "a slot is used again after Closed");
        *slot = InFlight { generation: token.generation, ..InFlight::default() };
        slot.socket = socket.into_descriptor();
    }

    pub(super) fn accept(&mut self, token: Token) {
        let Some(fd) = self.fd(token) else { return };
        self.assert_free(token, Kind::Accept);
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        self.push_for(token, Kind::Accept, opcode::AcceptMulti::new(fd).flags(flags).build());
    }

    pub(super) fn stop(&mut self, token: Token, kind: Kind) {
        let Some(slot) = self.slot(token) else { return };
        slot.stopping = true;
        if slot.kinds & kind.bit() != 0 {
            self.cancel(token, kind);
        }
    }

    pub(super) fn cancel(&mut self, token: Token, kind: Kind) {
        let entry = opcode::AsyncCancel::new(user_data(kind, token)).build();
        self.push(&entry.user_data(0));
    }

    pub(super) fn connect(&mut self, token: Token, address: &SocketAddress) {
        let Some(fd) = self.fd(token) else {
            let result = Err(Errno(libc::ECANCELED));
            return self.made.push_back(Completion::Connected { token, result });
        };
        self.assert_free(token, Kind::Connect);
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

    pub(super) fn receive(&mut self, token: Token, credit: usize) {
        if self.fd(token).is_none() {
            let end = ReceiveEnd::Stopped;
            return self.made.push_back(Completion::ReceiveEnded { token, end });
        }
        let slot = &mut self.slots[token.slot as usize];
        debug_assert!(
            !slot.waiting && slot.kinds & Kind::Receive.bit() == 0,
            "one receive per token"
        );
        slot.credit_left = u32::try_from(credit).unwrap_or(u32::MAX);
        slot.stopping = false;
        slot.waiting = true;
        self.arming.push_back(token);
    }

    pub(super) fn stop_receive(&mut self, token: Token) {
        let Some(slot) = self.slot(token) else { return };
        if slot.waiting {
            slot.waiting = false;
            let end = ReceiveEnd::Stopped;
            return self.made.push_back(Completion::ReceiveEnded { token, end });
        }
        slot.stopping = true;
        for kind in [Kind::Receive, Kind::Datagrams, Kind::Exact] {
            if self.slots[token.slot as usize].kinds & kind.bit() != 0 {
                self.cancel(token, kind);
            }
        }
    }

    pub(super) fn exact(&mut self, token: Token, mut buffer: Vec<u8>, whole: bool) {
        let Some(fd) = self.fd(token) else {
            let result = Err(Errno(libc::ECANCELED));
            return self.made.push_back(Completion::ReceivedExact { token, buffer, result });
        };
        self.assert_free(token, Kind::Exact);
        let spare = buffer.spare_capacity_mut();
        let len = u32::try_from(spare.len()).unwrap_or(u32::MAX);
        let flags = if whole { libc::MSG_WAITALL } else { 0 };
        let entry = opcode::Recv::new(fd, spare.as_mut_ptr().cast(), len).flags(flags).build();
        let slot = &mut self.slots[token.slot as usize];
        slot.stopping = false;
        slot.rare.get_or_insert_default().exact = Some(buffer);
        self.push_for(token, Kind::Exact, entry);
    }

    pub(super) fn send(&mut self, token: Token, output: Box<Output>, sent: usize, manner: Manner) {
        let Some(fd) = self.fd(token) else {
            let result = Err(Errno(libc::ECANCELED));
            return self.made.push_back(Completion::Sent { token, output, result });
        };
        self.assert_free(token, Kind::Send);
        if !output.trains().is_empty() {
            return self.send_datagrams(token, output, manner);
        }
        let slot = &mut self.slots[token.slot as usize];
        if manner == Manner::ZeroCopy && !slot.copies_anyway {
            return self.send_zero_copy(token, output, sent);
        }
        let (len_max, paced) = match manner {
            Manner::WhenWritable(len_max) => (SEND_BYTES_MAX.min(len_max as usize), true),
            _ => (SEND_BYTES_MAX, false),
        };
        // What has left of a paced send is said at once: the Messages in it may have waited for it.
        let whole = if paced { 0 } else { libc::MSG_WAITALL };
        let flags = libc::MSG_NOSIGNAL | whole;
        let output = slot.sending.insert(output);
        let entry = if let Some(bytes) = output.contiguous(sent) {
            let len = bytes.len().min(len_max) as u32;
            opcode::Send::new(fd, bytes.as_ptr(), len).flags(flags).build()
        } else {
            let rare = slot.rare.get_or_insert_default();
            let header = rare.header.get_or_insert_with(SendHeader::empty);
            header.point_at(output, sent, len_max);
            opcode::SendMsg::new(fd, header.pointer()).flags(flags as u32).build()
        };
        let entry = if paced { ring::poll_first(entry) } else { entry };
        self.push_for(token, Kind::Send, entry);
    }

    pub(super) fn close(&mut self, token: Token, reset: bool) {
        let Some(slot) = self.slot(token) else { return };
        if slot.closing {
            return;
        }
        slot.closing = true;
        let (waiting, kinds) = (std::mem::take(&mut slot.waiting), slot.kinds);
        let lingering = slot.rare.as_ref().and_then(|rare| rare.zero_copy);
        if reset && let Some(socket) = &slot.socket {
            let now = Some(std::time::Duration::ZERO);
            // Refused only by stacks that have no reset; their end is a plain one.
            let _ = rustix::net::sockopt::set_socket_linger(socket, now);
        }
        let departs = slot.rare.as_ref().is_some_and(|rare| rare.departing.is_some());
        if waiting {
            let end = ReceiveEnd::Stopped;
            self.made.push_back(Completion::ReceiveEnded { token, end });
        }
        if let Some(place) = lingering {
            self.cancel_zero_copy(place);
        }
        if departs {
            self.cancel_departures(token);
        }
        let kinds_here =
            [Kind::Accept, Kind::Receive, Kind::Datagrams, Kind::Exact, Kind::Send, Kind::Connect];
        for kind in kinds_here {
            if kinds & kind.bit() != 0 {
                self.cancel(token, kind);
            }
        }
        self.finish_close(token);
    }

    /// The socket goes when nothing of it is in flight any more.
    pub(super) fn finish_close(&mut self, token: Token) {
        let slot = &mut self.slots[token.slot as usize];
        if slot.closing && slot.kinds == 0 {
            *slot = InFlight { generation: token.generation, ..InFlight::default() };
            self.made.push_back(Completion::Closed { token });
        }
    }

    pub(super) fn watch_bell(&mut self) -> io::Result<()> {
        let fd = types::Fd(self.bell.as_fd().as_raw_fd());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build();
        let nobody = Token { slot: 0, generation: 0 };
        self.ring.push(&entry.user_data(user_data(Kind::Bell, nobody)))
    }
}

impl UringDriver {
    /// Posts spares, then arms as many receives as the posted buffers can bear: each armed receive
    /// and each of the work items of one pass may use up a whole credit.
    ///
    /// True if this has to be done again before a sleep: some receives wait although there are
    /// buffers, so nothing else would wake the core for their sake.
    pub(super) fn arm(&mut self) -> bool {
        self.pool.collect();
        if self.buffers.posted() < self.plan.posted {
            self.buffers.fill(&self.pool, self.plan.posted);
            self.metrics.buffers_posted.set(u64::from(self.buffers.posted()));
        }
        if self.arming.is_empty() && self.starved.is_empty() {
            self.pool.set_starved(false);
            return false;
        }
        let posted = usize::from(self.buffers.posted());
        let buffer_len = self.plan.buffer_len;
        let buffers_of = |credit: usize| credit.div_ceil(buffer_len).max(1);
        let others = WORK_ITEMS_PER_ENTER * buffers_of(self.plan.credit);
        // Four at least, or few buffers would never serve many receives.
        let mut bearable = posted.saturating_sub(others).max(posted.min(4));
        while bearable > 0
            && let Some(token) = self.starved.pop_front().or_else(|| self.arming.pop_front())
        {
            let credit = self.slots[token.slot as usize].credit_left as usize;
            bearable = bearable.saturating_sub(buffers_of(credit));
            self.arm_one(token);
        }
        let waiting = !self.starved.is_empty() || !self.arming.is_empty();
        let starved = waiting && posted == 0;
        self.pool.set_starved(starved);
        // A lease that came back before the mark was set rang no bell: looked for once more.
        waiting && (!starved || self.pool.has_returns())
    }

    pub(super) fn arm_one(&mut self, token: Token) {
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

impl SendHeader {
    /// Where the kernel finds it, as long as the box is kept (K1).
    pub(super) fn pointer(&self) -> *const libc::msghdr {
        &raw const self.header
    }

    pub(super) fn empty() -> Box<Self> {
        Box::new(Self { segments: Vec::new(), header: blank_header() })
    }

    pub(super) fn point_at(&mut self, output: &Output, sent: usize, len_max: usize) {
        self.segments.clear();
        let mut room = len_max;
        let segments = output.segments(sent).take(SEGMENTS_MAX).map_while(|bytes| {
            let bytes = &bytes[..bytes.len().min(room)];
            room -= bytes.len();
            (!bytes.is_empty()).then(|| segment_of(bytes))
        });
        self.segments.extend(segments);
        self.header.msg_iov = self.segments.as_mut_ptr();
        self.header.msg_iovlen = self.segments.len();
    }
}

fn encode(address: &SocketAddress) -> Result<SocketAddrAny, Errno> {
    match address {
        SocketAddress::Tcp(ip) | SocketAddress::Udp(ip) => Ok(SocketAddrAny::from(*ip)),
        SocketAddress::Group(group) => Ok(SocketAddrAny::from(group.address)),
        SocketAddress::Unix(path) => crate::engine::socket::unix_address(path)
            .map(SocketAddrAny::from)
            .map_err(|error| Errno(error.raw_os_error())),
        SocketAddress::Memory(_) => Err(Errno(rustix::io::Errno::AFNOSUPPORT.raw_os_error())),
    }
}
