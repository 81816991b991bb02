//! Entry: what the epoll driver knows of one socket, and the moves it makes on it.
//!
//! Above: `epoll` finds the Entry of a Token and says when its socket is ready. Below: plain
//! system calls, none of which waits. Absent: epoll itself; other sockets.
//! Bounds: 64 bytes, as long as nothing is under way.

use std::collections::VecDeque;
use std::io::IoSlice;

use rustix::buffer::spare_capacity;
use rustix::io::Errno as SystemErrno;
use rustix::net::{self, RecvFlags, SendAncillaryBuffer, SendFlags};

use super::hot::Hot;
use crate::address::SocketAddress;
use crate::engine::errno::Errno;
use crate::engine::metrics::CoreMetrics;
use crate::engine::operation::{Completion, Manner, ReceiveEnd, SEND_BYTES_MAX, Token};
use crate::engine::socket::{Socket, with_system_address};
use crate::framer::Output;

/// Pieces of an Output that one system call takes.
const SEGMENTS_MAX: usize = 64;
const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);
pub(super) const CANCELED: Errno = Errno(SystemErrno::CANCELED.raw_os_error());

pub(super) type Completions = VecDeque<Completion>;

/// The readiness asked of epoll.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Interest {
    pub(super) input: bool,
    pub(super) output: bool,
}

impl Interest {
    pub(super) const NONE: Self = Self { input: false, output: false };
}

// Aligned, so that one cache line has all of it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Entry {
    pub(super) socket: Option<Socket>,
    pub(super) generation: u32,
    /// What epoll knows; without interest a socket is not in it at all, because epoll reports
    /// errors unasked and would report them for ever.
    pub(super) registered: Interest,
    pub(super) accepting: Accepting,
    /// It stands in the driver's list of changed interests.
    pub(super) changed: bool,
    connecting: bool,
    end_after_send: bool,
    pub(super) reading: Reading,
    pub(super) sending: Option<Sending>,
    /// The send under way is kept short: what has left of it is said at once.
    paced: bool,
    /// The device does not cut trains: datagrams leave one by one.
    pub(super) singly: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepting {
    #[default]
    Never,
    Active,
    /// Out of descriptors or memory: not now.
    Resting,
    Ended,
}

#[derive(Debug, Default)]
pub(super) enum Reading {
    #[default]
    Nothing,
    /// Into the driver's buffer until `credit` bytes came.
    Shared {
        credit: usize,
    },
    Exact(Box<Exact>),
    Datagrams,
}

#[derive(Debug)]
pub(super) struct Exact {
    buffer: Vec<u8>,
    /// Bytes that were in the buffer before.
    before: usize,
    whole: bool,
}

/// A send under way. Of an output of datagrams `before` counts those that are done with, and `sent`
/// is the number of the first error, 0 for none.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) output: Box<Output>,
    /// Bytes of the output that had left before this operation.
    pub(super) before: usize,
    /// Bytes that have left with it.
    pub(super) sent: u32,
    /// Bytes that leave with it at most.
    sent_max: u32,
}

impl Entry {
    pub(super) fn new(socket: Option<Socket>, generation: u32, changed: bool) -> Self {
        Self { socket, generation, changed, ..Self::default() }
    }

    /// What epoll should know.
    #[inline]
    pub(super) fn wanted(&self) -> Interest {
        Interest {
            input: self.accepting == Accepting::Active || !matches!(self.reading, Reading::Nothing),
            output: self.connecting || self.sending.is_some(),
        }
    }

    /// True if what epoll should know has changed and was not noted yet; it is from now on.
    #[inline]
    pub(super) fn notes_change(&mut self) -> bool {
        let is_news = !self.changed && self.wanted() != self.registered;
        self.changed |= is_news;
        is_news
    }

    pub(super) fn connect(&mut self, token: Token, to: &SocketAddress, done: &mut Completions) {
        let Some(socket) = &self.socket else { return };
        let result = match with_system_address(to, |to| net::connect(socket.as_fd(), to)) {
            // After an interrupt the attempt goes on by itself too.
            Err(SystemErrno::INPROGRESS | SystemErrno::INTR) => {
                self.connecting = true;
                return;
            }
            outcome => outcome.map_err(Errno::from),
        };
        done.push_back(Completion::Connected { token, result });
    }

    pub(super) fn begin_receive(&mut self, token: Token, credit: usize, done: &mut Completions) {
        debug_assert!(matches!(self.reading, Reading::Nothing), "two receives for {token:?}");
        self.reading = Reading::Shared { credit };
        if credit == 0 {
            self.end_receive(token, ReceiveEnd::Credit, done);
        }
    }

    pub(super) fn begin_exact(
        &mut self,
        token: Token,
        buffer: Vec<u8>,
        whole: bool,
        done: &mut Completions,
    ) {
        debug_assert!(matches!(self.reading, Reading::Nothing), "two receives for {token:?}");
        let (before, room) = (buffer.len(), buffer.capacity() > buffer.len());
        self.reading = Reading::Exact(Box::new(Exact { buffer, before, whole }));
        if !room {
            self.end_exact(token, Ok(0), done);
        }
    }

    pub(super) fn begin_send(
        &mut self,
        token: Token,
        output: Box<Output>,
        sent: usize,
        manner: Manner,
        done: &mut Completions,
        metrics: &CoreMetrics,
    ) {
        debug_assert!(self.sending.is_none(), "two sends for {token:?}");
        let rest = u32::try_from(output.len() - sent).unwrap_or(u32::MAX);
        let sent_max = match manner {
            Manner::WhenWritable(len_max) => rest.min(len_max),
            _ => rest,
        };
        self.paced = matches!(manner, Manner::WhenWritable(_));
        self.sending = Some(Sending { output, before: sent, sent: 0, sent_max });
        // epoll reports a socket as writable by the same limit that this manner waits for.
        if !self.connecting && !matches!(manner, Manner::WhenWritable(_)) {
            self.send(token, done, metrics);
        }
    }

    pub(super) fn shutdown_write(&mut self) {
        if self.sending.is_some() || self.connecting {
            self.end_after_send = true;
        } else {
            self.send_end();
        }
    }

    fn send_end(&mut self) {
        self.end_after_send = false;
        if let Some(Err(error)) = self.socket.as_ref().map(Socket::shutdown_write) {
            // The connection is gone; the receive reports that.
            tracing::trace!(%error, "no end of stream could be sent");
        }
    }

    /// The socket takes bytes again, or is broken.
    pub(super) fn output_ready(&mut self, token: Token, done: &mut Completions, m: &CoreMetrics) {
        if std::mem::take(&mut self.connecting) {
            let result = match self.socket.as_ref().and_then(Socket::take_error) {
                None => Ok(()),
                Some(error) => Err(error),
            };
            done.push_back(Completion::Connected { token, result });
            if self.end_after_send && self.sending.is_none() {
                self.send_end();
            }
        }
        self.send(token, done, m);
    }

    fn send(&mut self, token: Token, done: &mut Completions, metrics: &CoreMetrics) {
        if self.sending.as_ref().is_some_and(|sending| !sending.output.trains().is_empty()) {
            return self.send_trains(token, done, metrics);
        }
        let (Some(sending), Some(socket)) = (&mut self.sending, &self.socket) else { return };
        let result = match send_all(socket, sending) {
            // Much has left: saying so lets the shard see that the peer reads.
            Err(SystemErrno::AGAIN)
                if sending.sent as usize >= SEND_BYTES_MAX && !self.end_after_send =>
            {
                Ok(())
            }
            Err(SystemErrno::AGAIN) if sending.sent > 0 && self.paced && !self.end_after_send => {
                Ok(())
            }
            Err(SystemErrno::AGAIN) => return,
            outcome => outcome.map_err(Errno::from),
        };
        self.end_send(token, result, done);
    }

    fn end_send(&mut self, token: Token, result: Result<(), Errno>, done: &mut Completions) {
        let Some(Sending { output, sent, .. }) = self.sending.take() else { return };
        if self.end_after_send {
            self.send_end();
        }
        let result = result.map(|()| sent as usize);
        done.push_back(Completion::Sent { token, output, result });
    }

    /// The socket has bytes, its end or an error. Bytes for the shared buffer are returned, all
    /// else goes to `done`. One system call at most, so that no peer holds up the others.
    pub(super) fn input_ready(
        &mut self,
        token: Token,
        hot: &mut Hot,
        done: &mut Completions,
    ) -> Option<Completion> {
        let socket = self.socket.as_ref()?;
        match &mut self.reading {
            Reading::Nothing => None,
            Reading::Datagrams => self.datagrams_ready(token, hot, done),
            Reading::Shared { credit } => {
                let (room, number) = hot.room(*credit);
                match net::recv(socket.as_fd(), room, RecvFlags::DONTWAIT) {
                    Ok((_, 0)) => self.end_receive(token, ReceiveEnd::EndOfInput, done),
                    Ok((_, len)) => {
                        *credit = credit.saturating_sub(len);
                        if *credit == 0 {
                            self.end_receive(token, ReceiveEnd::Credit, done);
                        }
                        let data = Hot::filled(number, len);
                        return Some(Completion::Received { token, data });
                    }
                    Err(SystemErrno::AGAIN | SystemErrno::INTR) => {}
                    Err(error) => self.end_receive(token, ReceiveEnd::Failed(error.into()), done),
                }
                None
            }
            Reading::Exact(exact) => {
                let room = spare_capacity(&mut exact.buffer);
                match net::recv(socket.as_fd(), room, RecvFlags::DONTWAIT) {
                    Err(SystemErrno::AGAIN | SystemErrno::INTR) => {}
                    Err(error) => self.end_exact(token, Err(error.into()), done),
                    Ok((_, len)) => {
                        let full = exact.buffer.len() == exact.buffer.capacity();
                        if len == 0 || full || !exact.whole {
                            let received = exact.buffer.len() - exact.before;
                            self.end_exact(token, Ok(received), done);
                        }
                    }
                }
                None
            }
        }
    }

    pub(super) fn end_receive(&mut self, token: Token, end: ReceiveEnd, done: &mut Completions) {
        self.reading = Reading::Nothing;
        done.push_back(Completion::ReceiveEnded { token, end });
    }

    /// Gives the buffer back; on an error as it was, because its connection is of no more use.
    fn end_exact(&mut self, token: Token, result: Result<usize, Errno>, done: &mut Completions) {
        if let Reading::Exact(exact) = std::mem::take(&mut self.reading) {
            let Exact { mut buffer, before, .. } = *exact;
            if result.is_err() {
                buffer.truncate(before);
            }
            done.push_back(Completion::ReceivedExact { token, buffer, result });
        }
    }

    /// Ends a receive of either kind. A stopped exact receive counts what it has; with nothing
    /// it says cancelled, because `Ok(0)` would mean that the peer ended.
    pub(super) fn stop_receive(&mut self, token: Token, done: &mut Completions) {
        match &self.reading {
            Reading::Nothing => {}
            Reading::Shared { .. } | Reading::Datagrams => {
                self.end_receive(token, ReceiveEnd::Stopped, done);
            }
            Reading::Exact(exact) => {
                let received = exact.buffer.len() - exact.before;
                let result = if received > 0 { Ok(received) } else { Err(CANCELED) };
                self.end_exact(token, result, done);
            }
        }
    }

    /// Answers everything under way: with `error`, or as cancelled.
    pub(super) fn answer_all(
        &mut self,
        token: Token,
        error: Option<Errno>,
        done: &mut Completions,
    ) {
        match error {
            None => self.stop_receive(token, done),
            Some(error) if matches!(self.reading, Reading::Shared { .. } | Reading::Datagrams) => {
                self.end_receive(token, ReceiveEnd::Failed(error), done);
            }
            Some(error) => self.end_exact(token, Err(error), done),
        }
        let result = Err(error.unwrap_or(CANCELED));
        self.end_after_send = false;
        if std::mem::take(&mut self.connecting) {
            done.push_back(Completion::Connected { token, result });
        }
        self.end_send(token, result, done);
        if matches!(self.accepting, Accepting::Active | Accepting::Resting) {
            self.accepting = Accepting::Ended;
            done.push_back(Completion::AcceptEnded { token, error });
        }
    }
}

/// Sends until all is sent, the socket takes no more (`AGAIN`) or it fails.
fn send_all(socket: &Socket, sending: &mut Sending) -> Result<(), SystemErrno> {
    while sending.sent < sending.sent_max {
        let from = sending.before + sending.sent as usize;
        let until = sending.before + sending.sent_max as usize;
        let (asked, outcome) = send_some(socket, &sending.output, from, until);
        match outcome {
            Err(SystemErrno::INTR) => {}
            Err(error) => return Err(error),
            Ok(len) => {
                // At most what is missing of 32 bits.
                sending.sent += len as u32;
                if len < asked {
                    // The socket is full: asking again would cost a call to hear that.
                    return Err(SystemErrno::AGAIN);
                }
            }
        }
    }
    Ok(())
}

/// One system call: how many bytes it was given and what it said.
#[inline]
fn send_some(
    socket: &Socket,
    output: &Output,
    sent: usize,
    until: usize,
) -> (usize, rustix::io::Result<usize>) {
    let Some(bytes) = output.contiguous(sent) else {
        return send_segments(socket, output, sent, until);
    };
    let bytes = &bytes[..bytes.len().min(until - sent)];
    (bytes.len(), net::send(socket.as_fd(), bytes, SEND_FLAGS))
}

/// Apart from `send_some`, to keep its array off the stack of the usual send.
#[inline(never)]
fn send_segments(
    socket: &Socket,
    output: &Output,
    sent: usize,
    until: usize,
) -> (usize, rustix::io::Result<usize>) {
    let mut slices = [IoSlice::new(&[]); SEGMENTS_MAX];
    let (mut count, mut asked) = (0, 0);
    for (slice, segment) in slices.iter_mut().zip(output.segments(sent)) {
        let room = until - sent - asked;
        if room == 0 {
            break;
        }
        let segment = &segment[..segment.len().min(room)];
        *slice = IoSlice::new(segment);
        count += 1;
        asked += segment.len();
    }
    let mut control = SendAncillaryBuffer::default();
    (asked, net::sendmsg(socket.as_fd(), &slices[..count], &mut control, SEND_FLAGS))
}
