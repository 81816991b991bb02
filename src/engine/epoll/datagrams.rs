//! Datagrams on one socket of the epoll driver: a train is received a turn, trains are sent as far
//! as the socket takes them.
//!
//! Above: `entry`, for sockets of this kind. Below: `kernel` for the two system calls. Absent:
//! epoll; streams. Bounds: one train of 64 KiB received at a time, into the shared buffer.

use rustix::io::Errno as SystemErrno;

use super::entry::{Completions, Entry, Reading, Sending};
use super::hot::Hot;
use crate::engine::errno::Errno;
use crate::engine::metrics::CoreMetrics;
use crate::engine::operation::{Completion, ReceiveEnd, Token};
use crate::engine::socket::Socket;
use crate::framer::{Output, Train};
use crate::kernel::{receive_datagrams, report_peer_errors, send_train};

/// The longest train that the kernel gathers.
const TRAIN_BYTES_MAX: usize = 64 << 10;

impl Entry {
    pub(super) fn begin_datagrams(&mut self, token: Token) {
        debug_assert!(matches!(self.reading, Reading::Nothing), "two receives for {token:?}");
        self.reading = Reading::Datagrams;
    }

    /// True if what is under way is of datagrams.
    pub(super) fn is_of_datagrams(&self) -> bool {
        let sends = self.sending.as_ref().is_some_and(|it| !it.output.trains().is_empty());
        sends || matches!(self.reading, Reading::Datagrams)
    }

    /// The socket has datagrams or an error.
    pub(super) fn datagrams_ready(
        &mut self,
        token: Token,
        hot: &mut Hot,
        done: &mut Completions,
    ) -> Option<Completion> {
        let socket = self.socket.as_ref()?;
        let (room, number) = hot.room_for_train(TRAIN_BYTES_MAX);
        match receive_datagrams(socket.as_fd(), room) {
            Ok((len, arrival)) => {
                let data = Hot::filled(number, len);
                Some(Completion::Datagrams { token, data, arrival })
            }
            Err(SystemErrno::AGAIN | SystemErrno::INTR) => None,
            // What one peer or its path said does not end what all others send.
            Err(_) if self.reports_peer_errors(token, done) => None,
            Err(error) => {
                self.end_receive(token, ReceiveEnd::Failed(error.into()), done);
                None
            }
        }
    }

    /// Reports what peers and paths have said; true if there was something.
    pub(super) fn reports_peer_errors(&self, token: Token, done: &mut Completions) -> bool {
        let report = |socket: &Socket| report_peer_errors(socket.as_fd(), token, done);
        self.socket.as_ref().is_some_and(report)
    }

    /// Sends trains until all are gone or the socket takes no more. What has left as single
    /// datagrams of a train that the device refused is not sent again: the rest of it waits.
    pub(super) fn send_trains(&mut self, token: Token, done: &mut Completions, m: &CoreMetrics) {
        let (Some(sending), Some(socket)) = (&mut self.sending, &self.socket) else { return };
        let output = &*sending.output;
        let mut tries = Tries::default();
        let mut next = Next::after(output, sending.before);
        while let Some(train) = next.train(output, self.singly || tries.apart) {
            let count = train.datagrams().count();
            // What waits on the socket may be the error of another datagram.
            let mut forget = || {
                let was_told = report_peer_errors(socket.as_fd(), token, done);
                socket.take_error();
                was_told
            };
            let failure = match send_train(socket.as_fd(), output, &train) {
                Err(SystemErrno::AGAIN) => return,
                Err(SystemErrno::INTR) => continue,
                Err(error) if tries.helps(error, &train, &mut forget) => continue,
                sent => sent.err(),
            };
            if let Some(error) = failure {
                forget();
                m.unsent_datagrams.add(count as u64);
                if sending.sent == 0 {
                    sending.sent = error.raw_os_error().cast_unsigned();
                }
            } else if tries.refused {
                self.singly = true;
                m.segmentation_refused.add(1);
                tracing::info!("the device does not segment datagrams; they leave singly");
            }
            tries = Tries::default();
            sending.before += count;
            next.pass(output, count);
        }
        let Some(Sending { output, sent, .. }) = self.sending.take() else { return };
        let result = match sent {
            0 => Ok(output.len()),
            errno => Err(Errno(errno.cast_signed())),
        };
        done.push_back(Completion::Sent { token, output, result });
    }
}

/// What was tried for a train that could not leave.
#[derive(Default)]
struct Tries {
    /// The same once more.
    again: bool,
    /// Its datagrams one by one.
    apart: bool,
    /// By the device, or for what is wrong with its peer: its first datagram tells.
    refused: bool,
}

impl Tries {
    /// True if another try may succeed where `train` failed with `error`. `forget` clears what
    /// waits on the socket, and says if that was an error of another datagram.
    fn helps(
        &mut self,
        error: SystemErrno,
        train: &Train,
        forget: &mut impl FnMut() -> bool,
    ) -> bool {
        let is_one = train.segment().is_none();
        match error {
            SystemErrno::IO | SystemErrno::INVAL if !is_one => {
                (self.apart, self.refused) = (true, true);
                true
            }
            _ if !self.again => {
                let was_told = forget();
                self.again = true;
                was_told || error == SystemErrno::MSGSIZE || train.to().is_some()
            }
            // Some of it is too long for the path; the rest need not stay with it.
            SystemErrno::MSGSIZE if !is_one => {
                (self.again, self.apart) = (false, true);
                true
            }
            _ => false,
        }
    }
}

/// What leaves next: the rest of a train, or one datagram of it.
struct Next {
    /// The train, by its number in the output.
    train: usize,
    /// Datagrams of it that are done with.
    gone: usize,
}

impl Next {
    /// After the first `gone` datagrams of `output`.
    fn after(output: &Output, gone: usize) -> Self {
        let mut next = Self { train: 0, gone: 0 };
        next.pass(output, gone);
        next
    }

    /// `count` more datagrams are done with.
    fn pass(&mut self, output: &Output, count: usize) {
        self.gone += count;
        let trains = output.trains().iter().skip(self.train);
        for count in trains.map(|train| train.datagrams().count()) {
            if self.gone < count {
                break;
            }
            (self.train, self.gone) = (self.train + 1, self.gone - count);
        }
    }

    fn train(&self, output: &Output, singly: bool) -> Option<Train> {
        let train = output.trains().get(self.train)?;
        if singly || self.gone > 0 { train.split().nth(self.gone) } else { Some(*train) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_datagram_has_its_turn_from_wherever_one_begins() {
        let mut output = Output::default();
        for len in [5, 5, 5, 0, 7, 0, 0, 9, 9] {
            output.put(&vec![0; len]);
            output.end_datagram(None, None);
        }
        let all: Vec<_> = output.trains().iter().flat_map(Train::split).collect();
        assert_eq!((all.len(), output.trains().len()), (9, 6));
        for gone in 0..=all.len() {
            let mut next = Next::after(&output, gone);
            let mut left = Vec::new();
            while let Some(train) = next.train(&output, left.len() % 2 == 0) {
                left.extend(train.split());
                next.pass(&output, train.datagrams().count());
            }
            assert_eq!(left, all[gone..], "after {gone}");
        }
    }
}
