//! Zero-copy sends: large outputs that the network card reads where they lie.
//!
//! Above: `UringDriver::send`, for outputs the shard thinks worth it. Below: `ring`. The kernel
//! answers twice: first how much left, much later that it has let go of the memory. The next send
//! never waits for the second answer; the output lingers here until it comes (K1).
//! Absent: the decision how large is large. A connection whose sends the kernel had to copy after
//! all (loopback, veth) is told so by the kernel and sends plainly from then on.

use std::os::fd::AsRawFd;

use io_uring::{cqueue, opcode, squeue, types};

use super::super::ring;
use super::completions::moved_nothing;
use super::{Kind, SendHeader, UringDriver, user_data};
use crate::engine::errno::Errno;
use crate::engine::operation::{Completion, SEND_BYTES_MAX, Token};
use crate::framer::Output;

/// Asks the kernel to say whether it had to copy.
const REPORT_USAGE: u16 = 1 << 3;
/// The kernel's answer that it had to.
const COPIED: u32 = 1 << 31;

/// An output that the kernel may still read.
pub(super) struct Lingering {
    token: Token,
    output: Box<Output>,
    header: Box<SendHeader>,
    /// Bytes that had left before, and that left with this operation.
    before: usize,
    left: usize,
    /// Answers still to come.
    expected: u32,
    /// The kernel refused to do without a copy; the rest is sent with one, from here.
    plainly: bool,
}

impl UringDriver {
    /// Sends `output` from `sent` on without copying it.
    pub(super) fn send_zero_copy(&mut self, token: Token, output: Box<Output>, sent: usize) {
        let header = SendHeader::empty();
        let (before, left, expected, plainly) = (sent, 0, 0, false);
        let lingering = Lingering { token, output, header, before, left, expected, plainly };
        let place = match self.lingering_free.pop() {
            Some(place) => place as usize,
            None => {
                self.lingering.push(None);
                self.lingering.len() - 1
            }
        };
        self.lingering[place] = Some(lingering);
        let slot = &mut self.slots[token.slot as usize];
        slot.kinds |= Kind::Send.bit();
        slot.rare.get_or_insert_default().zero_copy = Some(place as u32);
        self.push_zero_copy(place);
    }

    fn push_zero_copy(&mut self, place: usize) {
        let Some(Some(lingering)) = self.lingering.get_mut(place) else { return };
        let slot = &self.slots[lingering.token.slot as usize];
        let Some(socket) = &slot.socket else { return };
        let fd = types::Fd(socket.as_raw_fd());
        let entry = lingering.entry(fd);
        lingering.expected += 1;
        self.in_flight += 1;
        let place = Token { slot: place as u32, generation: 0 };
        self.push(&entry.user_data(user_data(Kind::ZeroCopy, place)));
    }

    /// One of the kernel's answers; the first kind is reported.
    pub(super) fn zero_copy_answered(
        &mut self,
        place: u32,
        result: i32,
        flags: u32,
    ) -> Option<Completion> {
        let at = place as usize;
        let lingering = self.lingering.get_mut(at)?.as_mut()?;
        let token = lingering.token;
        if !ring::more(flags) {
            lingering.expected -= 1;
            self.in_flight -= 1;
        }
        let is_over = lingering.expected == 0;
        if cqueue::notif(flags) {
            if result as u32 & COPIED != 0
                && let Some(slot) = self.slot(token)
            {
                slot.copies_anyway = true;
            }
            if is_over {
                self.let_go(at);
            }
            return None;
        }
        let slot = &mut self.slots[token.slot as usize];
        if moved_nothing(-result) && !slot.closing {
            self.push_zero_copy(at);
            return None;
        }
        if is_refusal(-result) && !lingering.plainly && !slot.closing {
            lingering.plainly = true;
            slot.copies_anyway |= !is_shortage(-result);
            self.push_zero_copy(at);
            return None;
        }
        if result > 0 {
            lingering.left += result as usize;
            let missing = lingering.before + lingering.left < lingering.output.len();
            if missing && !slot.closing {
                self.push_zero_copy(at);
                return None;
            }
        }
        self.report_zero_copy(at, token, result, is_over)
    }

    fn report_zero_copy(
        &mut self,
        at: usize,
        token: Token,
        result: i32,
        is_over: bool,
    ) -> Option<Completion> {
        let slot = &mut self.slots[token.slot as usize];
        slot.kinds &= !Kind::Send.bit();
        slot.end_if_sent();
        let closing = slot.closing;
        if let Some(rare) = &mut slot.rare {
            rare.zero_copy = None;
        }
        let lingering = self.lingering[at].as_ref()?;
        // After a failure nothing of the rest can be sent: the bytes are not with the shard.
        let result = if result < 0 { Err(Errno(-result)) } else { Ok(lingering.left) };
        // What returns to the shard is as long, but empty: the bytes stay until they are let go.
        let output = Box::new(Output::ghost(lingering.output.len()));
        if is_over {
            self.let_go(at);
        }
        if closing {
            self.finish_close(token);
        }
        Some(Completion::Sent { token, output, result })
    }

    /// The kernel has given the last answer.
    fn let_go(&mut self, at: usize) {
        self.lingering[at] = None;
        self.lingering_free.push(at as u32);
    }

    /// Cancels the zero-copy send of a Token, if one is under way.
    pub(super) fn cancel_zero_copy(&mut self, place: u32) {
        let place = Token { slot: place, generation: 0 };
        let entry = opcode::AsyncCancel::new(user_data(Kind::ZeroCopy, place)).build();
        self.push(&entry.user_data(0));
    }
}

/// The kernel cannot do without a copy: at the moment, or on this socket, or at all (before 6.2).
fn is_refusal(errno: i32) -> bool {
    is_shortage(errno) || matches!(errno, libc::EOPNOTSUPP | libc::EINVAL)
}

/// The memory that a process may pin (RLIMIT_MEMLOCK) is used up by sends before this one.
fn is_shortage(errno: i32) -> bool {
    matches!(errno, libc::ENOMEM | libc::ENOBUFS)
}

impl Lingering {
    fn entry(&mut self, fd: types::Fd) -> squeue::Entry {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let sent = self.before + self.left;
        if self.output.is_contiguous() {
            let bytes = self.output.segments(sent).next().unwrap_or_default();
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            if self.plainly {
                return opcode::Send::new(fd, bytes.as_ptr(), len).flags(flags).build();
            }
            let entry = opcode::SendZc::new(fd, bytes.as_ptr(), len);
            return entry.flags(flags).zc_flags(REPORT_USAGE).build();
        }
        self.header.point_at(&self.output, sent, SEND_BYTES_MAX);
        if self.plainly {
            let entry = opcode::SendMsg::new(fd, self.header.pointer());
            return entry.flags(flags as u32).build();
        }
        let entry = opcode::SendMsgZc::new(fd, self.header.pointer());
        entry.ioprio(REPORT_USAGE).flags(flags as u32).build()
    }
}
