//! The engine on io_uring: lighter per message than epoll, so that the client is less the limit.
//!
//! Above: the load modes. Below: the ring and its provided buffers.
//! Absent: no sleeping. Bound: one send and one multishot receive per peer.

use crate::clock::Clock;
use crate::engine::{Engine, Failures};
use crate::meter::Meter;
use crate::peer::Peer;
use anyhow::{Result, anyhow, bail};
use common::receive_buffers::{GROUP, ReceiveBuffers};
use common::ring::{self, Submissions};
use io_uring::{CompletionQueue, IoUring, cqueue, opcode, types};
use std::os::fd::AsRawFd as _;

const RECEIVE: u64 = 1 << 32;
const SEND: u64 = 2 << 32;
const OPERATION: u64 = !(u32::MAX as u64);
const ENOBUFS: i32 = -105;
const MSG_WAITALL: i32 = 0x100;
const MSG_NOSIGNAL: i32 = 0x4000;

/// The engine on one ring that is polled all the time.
pub(crate) struct UringEngine<'ring> {
    submissions: Submissions<'ring>,
    completions: CompletionQueue<'ring>,
    buffers: ReceiveBuffers,
    sending: Vec<bool>,
    /// Peers whose receive is to be started.
    idle: Vec<usize>,
    failures: Failures,
}

impl<'ring> UringEngine<'ring> {
    /// An engine for peers whose frames are `frame` bytes long.
    pub(crate) fn new(ring: &'ring mut IoUring, peers: &[Peer], frame: usize) -> Result<Self> {
        let (submitter, queue, completions) = ring.split();
        let submissions = Submissions::new(submitter, queue);
        let sockets: Vec<_> = peers.iter().map(|peer| peer.socket.as_raw_fd()).collect();
        submissions.submitter().register_files(&sockets)?;
        let (count, size) = if frame > 8192 { (256, 128 * 1024) } else { (1024, 8192) };
        let buffers = ReceiveBuffers::register(submissions.submitter(), count, size)?;
        let (sending, idle) = (vec![false; peers.len()], (0..peers.len()).collect());
        let failures = Failures::default();
        Ok(Self { submissions, completions, buffers, sending, idle, failures })
    }

    fn receive(&mut self, index: usize) -> Result<()> {
        let receive = opcode::RecvMulti::new(types::Fixed(u32::try_from(index)?), GROUP).build();
        // SAFETY: the receive names provided buffers only, which live as long as the process.
        unsafe { self.submissions.push(&receive.user_data(RECEIVE | index as u64)) }
    }

    fn received(
        &mut self,
        entry: &cqueue::Entry,
        peer: &mut Peer,
        meters: &mut [Meter],
        now: u64,
    ) -> Result<()> {
        let count = entry.result().max(0) as usize;
        let result = match cqueue::buffer_select(entry.flags()) {
            Some(id) => {
                let bytes = self.buffers.received(id, count);
                let taken = peer.take(bytes, now, &mut meters[peer.class]);
                self.buffers.give_back(id);
                taken.map(drop)
            }
            None if entry.result() == ENOBUFS => Ok(()),
            None if entry.result() == 0 => Err(anyhow!("the server closed the connection")),
            None => {
                let error = std::io::Error::from_raw_os_error(-entry.result());
                Err(anyhow!("cannot receive: {error}"))
            }
        };
        self.failures.check(peer, result);
        Ok(())
    }
}

impl Engine for UringEngine<'_> {
    fn send(&mut self, index: usize, peer: &mut Peer) -> Result<()> {
        if self.sending[index] || peer.failed {
            return Ok(());
        }
        let rest = peer.outgoing();
        if rest.is_empty() {
            return Ok(());
        }
        let socket = types::Fixed(u32::try_from(index)?);
        let send = opcode::Send::new(socket, rest.as_ptr(), u32::try_from(rest.len())?);
        let send = send.flags(MSG_WAITALL | MSG_NOSIGNAL).build().user_data(SEND | index as u64);
        self.sending[index] = true;
        // SAFETY: the bytes lie in the peer's template, which is never resized and is not
        // renumbered before `advance`, that is before this send has completed.
        unsafe { self.submissions.push(&send) }
    }

    fn pass(&mut self, peers: &mut [Peer], meters: &mut [Meter], clock: Clock) -> Result<()> {
        for index in std::mem::take(&mut self.idle) {
            self.receive(index)?;
        }
        self.submissions.enter(false)?;
        self.completions.sync();
        if self.completions.is_empty() {
            return Ok(());
        }
        let now = clock.now();
        while let Some(entry) = self.completions.next() {
            let index = (entry.user_data() & !OPERATION) as usize;
            let peer = &mut peers[index];
            match entry.user_data() & OPERATION {
                RECEIVE => {
                    self.received(&entry, peer, meters, now)?;
                    if !cqueue::more(entry.flags()) && !peer.failed {
                        self.idle.push(index);
                    }
                }
                SEND => {
                    self.sending[index] = false;
                    match usize::try_from(entry.result()) {
                        Ok(count) => peer.advance(count),
                        Err(_) => {
                            let error = std::io::Error::from_raw_os_error(-entry.result());
                            self.failures.check(peer, Err(anyhow!("cannot send: {error}")));
                        }
                    }
                }
                other => bail!("completion of an unknown operation {other:#x}"),
            }
            self.send(index, &mut peers[index])?;
        }
        self.completions.sync();
        self.buffers.publish();
        Ok(())
    }

    fn failures(&self) -> &Failures {
        &self.failures
    }
}

/// A ring for [`UringEngine::new`], which borrows it.
pub(crate) fn ring() -> Result<IoUring> {
    ring::build()
}
