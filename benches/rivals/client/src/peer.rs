//! Peer: one connection's frames, on their way out and back.
//!
//! Above: the engines and the modes. Below: a non-blocking socket.
//! Every payload of 8 bytes and more begins with a sequence number, so that an echo out of order,
//! lost or of a wrong length is noticed; with `verify` every byte is compared.
//! Absent: no waiting. Bound: what the mode puts in flight.

use crate::meter::Meter;
use anyhow::{Context as _, Result, bail, ensure};
use common::frames::PREFIX;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::collections::VecDeque;
use std::net::TcpStream;

/// Bytes of a frame that are checked in every echo: prefix and sequence number.
const CHECKED: usize = PREFIX + 8;
/// Bytes of frames that are written in one call at most.
const WRITE_MAX: usize = 256 * 1024;

/// One connection and the frames it has in flight.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) socket: TcpStream,
    /// Which meter counts its echoes.
    pub(crate) class: usize,
    /// Every echo is answered by a new message at once (closed loop).
    pub(crate) refill: bool,
    pub(crate) failed: bool,
    verify: bool,
    frame: usize,
    /// Copies of the frame; those in `at..end` are numbered and being written.
    template: Vec<u8>,
    at: usize,
    end: usize,
    queued: usize,
    next_number: u64,
    /// Intended send times of what has not come back.
    in_flight: VecDeque<u64>,
    expected: u64,
    got: usize,
    head: [u8; CHECKED],
}

impl Peer {
    /// A peer whose messages are `size` bytes long, up to `burst` of them in one write.
    pub(crate) fn new(socket: TcpStream, size: usize, burst: usize, verify: bool) -> Result<Self> {
        let frame = PREFIX + size;
        let mut one: Vec<u8> = (0..frame).map(pattern).collect();
        one[..PREFIX].copy_from_slice(&u32::try_from(size)?.to_be_bytes());
        let copies = burst.min(WRITE_MAX / frame).max(1);
        Ok(Self {
            socket,
            class: 0,
            refill: false,
            failed: false,
            verify,
            frame,
            template: one.repeat(copies),
            at: 0,
            end: 0,
            queued: 0,
            next_number: 0,
            in_flight: VecDeque::with_capacity(burst),
            expected: 0,
            got: 0,
            head: [0; CHECKED],
        })
    }

    /// Begins again on a new connection.
    pub(crate) fn renew(&mut self, socket: TcpStream) {
        self.socket = socket;
        (self.at, self.end, self.queued, self.got) = (0, 0, 0, 0);
        (self.next_number, self.expected, self.failed) = (0, 0, false);
        self.in_flight.clear();
    }

    /// Adds a message that should be sent at `intended`.
    #[inline]
    pub(crate) fn queue(&mut self, intended: u64) {
        self.in_flight.push_back(intended);
        self.queued += 1;
    }

    /// Messages that have not come back.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Echoes that have come back.
    pub(crate) fn echoed(&self) -> u64 {
        self.expected
    }

    /// What to write next; empty if nothing waits.
    #[inline]
    pub(crate) fn outgoing(&mut self) -> &[u8] {
        if self.at == self.end {
            let count = self.queued.min(self.template.len() / self.frame);
            self.queued -= count;
            (self.at, self.end) = (0, count * self.frame);
            if self.frame >= CHECKED {
                for frame in self.template[..self.end].chunks_exact_mut(self.frame) {
                    frame[PREFIX..CHECKED].copy_from_slice(&self.next_number.to_be_bytes());
                    self.next_number += 1;
                }
            }
        }
        &self.template[self.at..self.end]
    }

    #[inline]
    pub(crate) fn advance(&mut self, written: usize) {
        self.at += written;
    }

    /// Writes until nothing waits or the socket is full.
    pub(crate) fn write(&mut self) -> Result<()> {
        while !self.outgoing().is_empty() {
            let rest = &self.template[self.at..self.end];
            match send(&self.socket, rest, SendFlags::NOSIGNAL) {
                Ok(count) => self.at += count,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot send"),
            }
        }
        Ok(())
    }

    /// Reads until the socket is empty; in a closed loop also sends the next messages.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        clock: crate::clock::Clock,
        meter: &mut Meter,
    ) -> Result<()> {
        loop {
            let count = match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) => bail!("the server closed the connection"),
                Ok((count, _)) => count,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error).context("cannot receive"),
            };
            let echoes = self.take(&buffer[..count], clock.now(), meter)?;
            if echoes > 0 && self.refill {
                self.write()?;
            }
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Takes received bytes; returns how many echoes they completed.
    #[inline]
    pub(crate) fn take(&mut self, bytes: &[u8], now: u64, meter: &mut Meter) -> Result<usize> {
        let (mut rest, mut echoes) = (bytes, 0);
        while !rest.is_empty() {
            let (part, later) = rest.split_at(rest.len().min(self.frame - self.got));
            self.check(part)?;
            self.got += part.len();
            rest = later;
            if self.got == self.frame {
                self.got = 0;
                self.expected += 1;
                echoes += 1;
                let intended = self.in_flight.pop_front().context("more echoes than messages")?;
                meter.record(intended, now);
                if self.refill {
                    self.queue(now);
                }
            }
        }
        Ok(echoes)
    }

    /// Compares the next bytes of an echo with what was sent.
    #[inline]
    fn check(&mut self, part: &[u8]) -> Result<()> {
        let checked = CHECKED.min(self.frame);
        if self.got < checked {
            let count = part.len().min(checked - self.got);
            self.head[self.got..self.got + count].copy_from_slice(&part[..count]);
            if self.got + count == checked {
                self.check_head()?;
            }
        }
        if self.verify {
            let wrong = part.iter().enumerate().map(|(i, byte)| (self.got + i, *byte));
            let wrong = wrong.skip(checked.saturating_sub(self.got));
            if let Some((at, _)) = { wrong }.find(|&(at, byte)| byte != pattern(at)) {
                bail!("byte {at} of echo {} differs", self.expected);
            }
        }
        Ok(())
    }

    fn check_head(&self) -> Result<()> {
        let (prefix, number) = self.head.split_first_chunk::<PREFIX>().context("short head")?;
        let length = u32::from_be_bytes(*prefix) as usize;
        ensure!(length == self.frame - PREFIX, "echo of {length} bytes, {} sent", self.frame);
        if self.frame >= CHECKED {
            let number = u64::from_be_bytes(number.try_into()?);
            ensure!(number == self.expected, "echo {number} came when {} was due", self.expected);
        }
        Ok(())
    }
}

/// Byte `at` of a frame, behind prefix and sequence number.
#[inline]
fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Window;

    fn pair() -> (Peer, Meter) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let meter = Meter::new(Window { from: 0, to: u64::MAX / 2 }).unwrap();
        (Peer::new(socket, 16, 4, true).unwrap(), meter)
    }

    #[test]
    fn echoes_in_pieces_are_counted_whole() {
        let (mut peer, mut meter) = pair();
        (0..3).for_each(|time| peer.queue(time));
        let sent = peer.outgoing().to_vec();
        peer.advance(sent.len());
        let counts: Vec<usize> =
            sent.chunks(7).map(|part| peer.take(part, 9, &mut meter).unwrap()).collect();
        assert_eq!(counts.iter().sum::<usize>(), 3);
        assert_eq!((peer.echoed(), peer.in_flight()), (3, 0));
    }

    #[test]
    fn wrong_order_length_and_bytes_are_noticed() {
        for (at, text) in [(3, "bytes"), (11, "was due"), (15, "differs")] {
            let (mut peer, mut meter) = pair();
            peer.queue(0);
            let mut sent = peer.outgoing().to_vec();
            sent[at] ^= 1;
            let error = peer.take(&sent, 1, &mut meter).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
