//! Completions: from the kernel's answer to a value, with its memory taken back (K1).
//!
//! Above: `UringDriver::next`. Below: `ring`. Absent: operations, except those that a completion
//! makes necessary (a starved receive waits again, a bell is watched again).

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use super::super::ring;
use super::{Kind, UringDriver};
use crate::engine::errno::Errno;
use crate::engine::operation::{Completion, Data, ReceiveEnd, Token};
use crate::engine::socket::Socket;

impl UringDriver {
    pub(super) fn complete(
        &mut self,
        user_data: u64,
        result: i32,
        flags: u32,
    ) -> Option<Completion> {
        let kind = Kind::of(user_data)?;
        match kind {
            Kind::Ignored => return None,
            Kind::Bell => {
                self.rung(flags);
                return None;
            }
            Kind::ZeroCopy => {
                return self.zero_copy_answered(user_data as u32, result, flags);
            }
            Kind::Departure => return self.departed(user_data as u32, result),
            Kind::Sibling => {
                // Only failures are told: then the bell wakes it.
                if let Some(Some(sibling)) = self.siblings.get(user_data as u32 as usize) {
                    sibling.bell.ring();
                }
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
            Kind::Datagrams => self.datagrams_received(token, result, flags, last),
            Kind::Send => self.sent(token, result),
            Kind::Exact => self.received_exact(token, result),
            Kind::Accept => self.accepted(token, result, last),
            Kind::Connect => {
                let result = if result < 0 { Err(Errno(-result)) } else { Ok(()) };
                Some(Completion::Connected { token, result })
            }
            Kind::Ignored | Kind::Bell | Kind::Sibling | Kind::ZeroCopy | Kind::Departure => None,
        };
        if last && self.slots[slot as usize].closing {
            // This completion first, then whatever it left behind, then the last word.
            self.finish_close(token);
        }
        completion
    }

    pub(super) fn received(
        &mut self,
        token: Token,
        result: i32,
        flags: u32,
        last: bool,
    ) -> Option<Completion> {
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
                libc::EINVAL if self.total_cap && !slot.stopping && !slot.closing => {
                    tracing::info!("this kernel cannot cap a receive in total; counting instead");
                    self.total_cap = false;
                    slot.waiting = true;
                    self.arming.push_back(token);
                    return None;
                }
                libc::ECANCELED | libc::ENOBUFS | libc::EINVAL if slot.stopping || slot.closing => {
                    ReceiveEnd::Stopped
                }
                errno if errno == libc::ECANCELED || moved_nothing(errno) => ReceiveEnd::Credit,
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
        let len = result as usize;
        let data = Data { buffer: buffer.into(), start: 0, len, leasable: true };
        Some(Completion::Received { token, data })
    }

    pub(super) fn sent(&mut self, token: Token, result: i32) -> Option<Completion> {
        let slot = &mut self.slots[token.slot as usize];
        let output = slot.sending.take().expect("a send in flight owns its output");
        slot.end_if_sent();
        let result = match result {
            0.. => Ok(result as usize),
            _ if moved_nothing(-result) && !slot.closing => Ok(0),
            _ => Err(Errno(-result)),
        };
        Some(Completion::Sent { token, output, result })
    }

    pub(super) fn received_exact(&mut self, token: Token, result: i32) -> Option<Completion> {
        let slot = &mut self.slots[token.slot as usize];
        let buffer = slot.rare.as_mut().and_then(|rare| rare.exact.take());
        let mut buffer = buffer.expect("an exact receive in flight owns its buffer");
        let result = if moved_nothing(-result) {
            // As if it had been called back: whoever wants the bytes asks for them again.
            Err(Errno::CANCELLED)
        } else if result < 0 {
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
        if last && result >= 0 && !slot.stopping && !slot.closing {
            // A full completion queue ends a multishot accept; nobody asked for an end.
            self.accept(token);
        } else if last {
            let error = (result < 0 && !slot.stopping && !slot.closing).then_some(Errno(-result));
            if slot.stopping
                && let Some(listener) = &slot.socket
            {
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
        self.bell.answer();
        self.metrics.wakes_received.add(1);
        if !ring::more(flags)
            && let Err(error) = self.watch_bell()
        {
            tracing::error!(%error, "watching the bell again");
        }
    }
}

/// The kernel gives up waiting for a busy socket after 128 wake-ups in vain and says so with the
/// error of a socket that does not block; nothing is wrong with the connection.
pub(super) const fn moved_nothing(errno: i32) -> bool {
    matches!(errno, libc::EAGAIN | libc::EINTR)
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
