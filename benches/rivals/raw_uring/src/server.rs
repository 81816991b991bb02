//! Server: from completions to the next operations, on one ring.
//!
//! Above: `main`. Below: the ring, the provided buffers, `connection`.
//! Absent: no timeouts and no metrics: a measure, not a product.
//! Bounds: as many connections as the file table has slots; more wait in the backlog.

use crate::connection::{Connection, Echo, Large, QUEUE_MAX};
use anyhow::{Result, bail};
use common::frames;
use common::receive_buffers::{GROUP, ReceiveBuffers};
use common::ring::Submissions;
use io_uring::squeue::Entry;
use io_uring::{cqueue, opcode, types};
use std::os::fd::RawFd;

const ENFILE: i32 = -23;
const ENOBUFS: i32 = -105;
const ECANCELED: i32 = -125;
const MSG_WAITALL: i32 = 0x100;
const MSG_NOSIGNAL: i32 = 0x4000;

const ACCEPT: u64 = 1 << 32;
const RECEIVE: u64 = 2 << 32;
const SEND: u64 = 3 << 32;
const CANCEL: u64 = 4 << 32;
const CLOSE: u64 = 5 << 32;
const OPERATION: u64 = !(u32::MAX as u64);

/// All connections of the thread.
pub(crate) struct Server<'ring> {
    submissions: Submissions<'ring>,
    buffers: ReceiveBuffers,
    table: Vec<Connection>,
    listener: RawFd,
    accepting: bool,
    /// Accepting has stopped until a connection closes.
    full: bool,
    /// Slots whose receive found no buffer.
    starved: Vec<u32>,
    given_back: bool,
}

impl<'ring> Server<'ring> {
    pub(crate) fn new(
        submissions: Submissions<'ring>,
        buffers: ReceiveBuffers,
        listener: RawFd,
    ) -> Self {
        Self {
            submissions,
            buffers,
            table: Vec::new(),
            listener,
            accepting: false,
            full: false,
            starved: Vec::new(),
            given_back: false,
        }
    }

    /// One system call: submits, runs what completed, and sleeps if asked to.
    pub(crate) fn enter(&mut self, sleep: bool) -> Result<()> {
        if !self.accepting {
            self.accepting = true;
            let listener = types::Fd(self.listener);
            let accept = opcode::AcceptMulti::new(listener).allocate_file_index(true).build();
            self.push(accept.user_data(ACCEPT))?;
        }
        if self.given_back {
            self.given_back = false;
            self.buffers.publish();
            for slot in std::mem::take(&mut self.starved) {
                if std::mem::take(&mut self.table[slot as usize].starved) {
                    self.next(slot)?;
                }
            }
        }
        self.submissions.enter(sleep)
    }

    /// Handles one completion.
    pub(crate) fn complete(&mut self, entry: &cqueue::Entry) -> Result<()> {
        let (user_data, result, flags) = (entry.user_data(), entry.result(), entry.flags());
        let slot = user_data as u32;
        match user_data & OPERATION {
            ACCEPT => self.accepted(result, flags),
            RECEIVE => self.received(slot, result, flags),
            SEND => self.sent(slot, result),
            CANCEL => Ok(()),
            CLOSE => {
                self.table[slot as usize] = Connection::default();
                // A slot is free again: accept, in case that stopped for want of one.
                self.accepting &= !std::mem::take(&mut self.full);
                Ok(())
            }
            other => bail!("completion of an unknown operation {other:#x}"),
        }
    }

    fn accepted(&mut self, result: i32, flags: u32) -> Result<()> {
        let Ok(slot) = u32::try_from(result) else {
            self.full = result == ENFILE;
            self.accepting = self.full || cqueue::more(flags);
            return Ok(());
        };
        self.accepting = cqueue::more(flags);
        if self.table.len() <= slot as usize {
            self.table.resize_with(slot as usize + 1, Connection::default);
        }
        self.next(slot)
    }

    fn received(&mut self, slot: u32, result: i32, flags: u32) -> Result<()> {
        let connection = &mut self.table[slot as usize];
        connection.receiving = cqueue::more(flags);
        let count = result.max(0) as usize;
        if let Some(large) = connection.large.as_deref_mut() {
            large.filled += count;
        } else if let Some(id) = cqueue::buffer_select(flags) {
            let taken = connection.take(id, self.buffers.received(id, count));
            connection.ended |= taken.is_err();
            if !taken.unwrap_or(false) {
                self.give_back(id);
            }
        }
        let connection = &mut self.table[slot as usize];
        match result {
            ENOBUFS if !connection.receiving => {
                connection.starved = true;
                self.starved.push(slot);
            }
            ENOBUFS | ECANCELED => {}
            result if result <= 0 => connection.ended = true,
            _ => {}
        }
        self.next(slot)
    }

    fn sent(&mut self, slot: u32, result: i32) -> Result<()> {
        let connection = &mut self.table[slot as usize];
        connection.sending = false;
        let count = result.max(0) as u32;
        if result <= 0 {
            connection.ended = true;
            self.drop_echoes(slot);
        } else if let Some(large) = connection.large.as_deref_mut() {
            large.sent += count as usize;
            if large.sent >= large.whole {
                large.shift();
            }
        } else if let Some(id) = connection.advance(count) {
            self.give_back(id);
        }
        self.next(slot)
    }

    /// Starts what the connection's state asks for.
    fn next(&mut self, slot: u32) -> Result<()> {
        let connection = &mut self.table[slot as usize];
        if connection.large.is_some() {
            return self.next_large(slot);
        }
        let crowded = connection.queue.len() >= QUEUE_MAX || connection.wants_large;
        let stop = crowded || connection.ended;
        if stop && connection.receiving && !connection.paused {
            connection.paused = true;
            let cancel = opcode::AsyncCancel::new(RECEIVE | u64::from(slot)).build();
            self.push(cancel.user_data(CANCEL | u64::from(slot)))?;
        }
        let connection = &mut self.table[slot as usize];
        if let Some(echo) = connection.current.as_ref().filter(|_| !connection.sending) {
            let (address, length) = echo.rest(&self.buffers);
            connection.sending = true;
            return self.send(slot, address, length);
        }
        if connection.receiving || connection.sending {
            return Ok(());
        }
        // Nothing is in the kernel and nothing is owed.
        connection.paused = false;
        if connection.ended {
            return self.close(slot);
        }
        if connection.wants_large {
            let partial = std::mem::take(&mut connection.partial);
            connection.large = Some(Box::new(Large::with(&partial)));
            return self.next_large(slot);
        }
        self.arm(slot)
    }

    fn arm(&mut self, slot: u32) -> Result<()> {
        let connection = &mut self.table[slot as usize];
        if connection.starved {
            return Ok(());
        }
        connection.receiving = true;
        let receive = opcode::RecvMulti::new(types::Fixed(slot), GROUP).build();
        self.push(receive.user_data(RECEIVE | u64::from(slot)))
    }

    /// The same for a connection with a buffer of its own: send, else close, else receive.
    fn next_large(&mut self, slot: u32) -> Result<()> {
        let connection = &mut self.table[slot as usize];
        let quiet = connection.quiet();
        let Some(large) = connection.large.as_deref_mut().filter(|_| quiet) else {
            return Ok(());
        };
        let mut lacking = 0;
        if large.whole == 0 {
            match frames::scan(&large.bytes[..large.filled]) {
                Ok(found) => {
                    large.whole = found.whole;
                    large.make_room(found.wanted);
                    lacking = found.wanted.saturating_sub(large.filled);
                }
                Err(_) => connection.ended = true,
            }
        }
        if large.whole > 0 {
            let rest = &large.bytes[large.sent..large.whole];
            let (address, length) = (rest.as_ptr(), u32::try_from(rest.len())?);
            connection.sending = true;
            return self.send(slot, address, length);
        }
        if connection.ended {
            return self.close(slot);
        }
        // Inside a frame wait for the rest of it, at its start take what there is.
        let (length, flags) = match lacking {
            0 => (large.bytes.len() - large.filled, 0),
            rest => (rest, MSG_WAITALL),
        };
        let address = large.bytes[large.filled..].as_mut_ptr();
        connection.receiving = true;
        let receive = opcode::Recv::new(types::Fixed(slot), address, u32::try_from(length)?);
        self.push(receive.flags(flags).build().user_data(RECEIVE | u64::from(slot)))
    }

    fn send(&mut self, slot: u32, address: *const u8, length: u32) -> Result<()> {
        let send = opcode::Send::new(types::Fixed(slot), address, length);
        let send = send.flags(MSG_WAITALL | MSG_NOSIGNAL).build();
        self.push(send.user_data(SEND | u64::from(slot)))
    }

    fn close(&mut self, slot: u32) -> Result<()> {
        self.drop_echoes(slot);
        self.table[slot as usize].starved = false;
        let close = opcode::Close::new(types::Fixed(slot)).build();
        self.push(close.user_data(CLOSE | u64::from(slot)))
    }

    /// Forgets what is owed and takes its buffers back; nothing of it may be in the kernel.
    fn drop_echoes(&mut self, slot: u32) {
        let connection = &mut self.table[slot as usize];
        connection.large = connection.large.take().map(|_| Box::default());
        let owed = connection.current.take().into_iter().chain(connection.queue.drain(..));
        for echo in owed {
            if let Echo::Provided { id, .. } = echo {
                self.buffers.give_back(id);
                self.given_back = true;
            }
        }
    }

    fn give_back(&mut self, id: u16) {
        self.buffers.give_back(id);
        self.given_back = true;
    }

    fn push(&mut self, entry: Entry) -> Result<()> {
        // SAFETY: entries name provided buffers, which are given back only after the send that
        // reads them; gathered echoes, kept in `current` while `sending`; and a large buffer,
        // whose connection has one operation at a time and is dropped after its last one.
        unsafe { self.submissions.push(&entry) }
    }
}
