//! Raw io_uring on UDP: multishot recvmsg into provided buffers, each train (GRO) sent back as one
//! (GSO) out of the buffer it came in, one enter per turn.
//!
//! Above: the client. Below: io-uring.
//! Absent: no peers that are remembered, no metrics.
//! Bounds: [`BUFFERS`] trains are in memory; while all are, the socket's own buffer fills.

use anyhow::{Context as _, Result};
use common::datagrams::{self, CONTROL, Control, DATAGRAM_MAX, Name};
use common::options::ServerOptions;
use common::receive_buffers::{GROUP, ReceiveBuffers};
use common::ring::{self, Submissions};
use io_uring::squeue::Entry;
use io_uring::types::RecvMsgOut;
use io_uring::{cqueue, opcode, types};
use std::os::fd::AsRawFd as _;
use std::ptr;

/// Provided buffers. More would cost cache, fewer would stop the receive in large turns.
const BUFFERS: u16 = 64;
/// What the kernel writes before the bytes: lengths, the peer's name, control messages.
const AHEAD: usize = 16 + Name::MAX + CONTROL;
const BUFFER_SIZE: usize = (AHEAD + DATAGRAM_MAX).next_multiple_of(64);
const SOCKET: types::Fixed = types::Fixed(0);
/// Mark of the receive; sends have their buffer's number.
const RECEIVE: u64 = u64::MAX;

/// The header of a send, at an address that stays until its completion.
struct Slot {
    header: libc::msghdr,
    part: libc::iovec,
    control: Control,
}

struct Server<'ring> {
    submissions: Submissions<'ring>,
    buffers: ReceiveBuffers,
    slots: Vec<Slot>,
    /// What the receive wants to know; the kernel reads it when it is armed.
    wanted: Box<libc::msghdr>,
    /// The receive has ended and is to be armed once a buffer is free.
    ended: bool,
    given_back: bool,
    /// Buffers that hold a train whose answer is under way.
    in_use: usize,
}

impl Server<'_> {
    fn arm(&mut self) -> Result<()> {
        self.ended = false;
        let receive = opcode::RecvMsgMulti::new(SOCKET, &raw const *self.wanted, GROUP).build();
        self.push(&receive.user_data(RECEIVE))
    }

    fn complete(&mut self, entry: &cqueue::Entry) -> Result<()> {
        if entry.user_data() != RECEIVE {
            // An answer the kernel refused is lost, as UDP's datagrams may be.
            self.give_back(u16::try_from(entry.user_data())?);
            return Ok(());
        }
        self.ended |= !cqueue::more(entry.flags());
        let Some(id) = cqueue::buffer_select(entry.flags()) else {
            let expected = [-libc::ENOBUFS, -libc::ECONNREFUSED, -libc::EINTR, -libc::EAGAIN];
            let result = entry.result();
            anyhow::ensure!(result >= 0 || expected.contains(&result), "receive: errno {result}");
            return Ok(());
        };
        self.in_use += 1;
        match usize::try_from(entry.result()) {
            Ok(len) => self.echo(id, len),
            Err(_) => {
                self.give_back(id);
                Ok(())
            }
        }
    }

    fn echo(&mut self, id: u16, len: usize) -> Result<()> {
        let received = RecvMsgOut::parse(self.buffers.received(id, len), &self.wanted);
        let Ok(received) = received else {
            self.give_back(id);
            return Ok(());
        };
        let (name, bytes) = (received.name_data(), received.payload_data());
        let slot = &mut self.slots[usize::from(id)];
        slot.part.iov_base = bytes.as_ptr().cast_mut().cast();
        slot.part.iov_len = bytes.len();
        slot.header.msg_name = name.as_ptr().cast_mut().cast();
        slot.header.msg_namelen = u32::try_from(name.len())?;
        slot.header.msg_iov = &raw mut slot.part;
        slot.header.msg_iovlen = 1;
        slot.header.msg_controllen = 0;
        slot.header.msg_control = ptr::null_mut();
        let segment = datagrams::segment_in(received.control_data());
        if let Some(segment) = segment.filter(|segment| usize::from(*segment) < bytes.len()) {
            slot.header.msg_controllen = slot.control.say_segment(segment);
            slot.header.msg_control = slot.control.0.as_mut_ptr().cast();
        }
        let send = opcode::SendMsg::new(SOCKET, &raw const slot.header).build();
        self.push(&send.user_data(u64::from(id)))
    }

    fn give_back(&mut self, id: u16) {
        self.buffers.give_back(id);
        self.given_back = true;
        self.in_use -= 1;
    }

    /// Ends a turn: buffers become the kernel's again, then everything is submitted.
    fn enter(&mut self) -> Result<()> {
        if std::mem::take(&mut self.given_back) {
            self.buffers.publish();
        }
        // Without a free buffer it would end at once; the next send's completion frees one.
        if self.ended && self.in_use < usize::from(BUFFERS) {
            self.arm()?;
        }
        self.submissions.enter(true)
    }

    fn push(&mut self, entry: &Entry) -> Result<()> {
        // SAFETY: the receive's header is boxed and never changed. A send's slot and the buffer it
        // points into are touched again only after its completion gave the buffer back.
        unsafe { self.submissions.push(entry) }
    }
}

fn main() -> Result<()> {
    let options = ServerOptions::from_command_line()?;
    let socket = datagrams::bound_socket(options.address)?;
    datagrams::receive_in_trains(&socket)?;
    let mut ring = ring::build()?;
    let (submitter, queue, mut completions) = ring.split();
    let submissions = Submissions::new(submitter, queue);
    let submitter = submissions.submitter();
    submitter.register_files(&[socket.as_raw_fd()]).context("cannot register the socket")?;
    let buffers = ReceiveBuffers::register(submitter, BUFFERS, u32::try_from(BUFFER_SIZE)?)?;
    let mut wanted = Box::new(datagrams::empty_header());
    wanted.msg_namelen = Name::MAX as libc::socklen_t;
    wanted.msg_controllen = CONTROL;
    let empty = || Slot {
        header: datagrams::empty_header(),
        part: libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 },
        control: Control([0; CONTROL]),
    };
    let slots = (0..BUFFERS).map(|_| empty()).collect();
    let (ended, given_back, in_use) = (false, false, 0);
    let mut server = Server { submissions, buffers, slots, wanted, ended, given_back, in_use };
    server.arm()?;
    loop {
        server.enter()?;
        completions.sync();
        for entry in &mut completions {
            server.complete(&entry)?;
        }
        completions.sync();
    }
}
