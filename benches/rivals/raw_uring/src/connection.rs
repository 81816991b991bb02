//! Connection: what one connection has received and what it owes.
//!
//! Above: `server`. Below: the frame scan.
//! Absent: no ring: it holds bytes and flags, the server moves them.
//! Bounds: [`QUEUE_MAX`] echoes wait at a time; a gathered frame is bounded by the scan.

use common::frames;
use common::receive_buffers::ReceiveBuffers;
use std::collections::VecDeque;
use std::io;

/// Echoes that may wait before the connection's receive is stopped.
pub(crate) const QUEUE_MAX: usize = 32;
/// Frames beyond this size get a buffer of their own, in bytes.
pub(crate) const LARGE: usize = 16 * 1024;

/// Whole frames on their way out.
#[derive(Debug)]
pub(crate) enum Echo {
    /// Still in the provided buffer they came in.
    Provided { id: u16, at: u32, end: u32 },
    /// Put together from several receives.
    Gathered { bytes: Vec<u8>, at: usize },
}

impl Echo {
    /// Address and length of what is still to be sent.
    pub(crate) fn rest(&self, buffers: &ReceiveBuffers) -> (*const u8, u32) {
        match self {
            Self::Provided { id, at, end } => {
                (buffers.pointer(*id).wrapping_add(*at as usize), end - at)
            }
            Self::Gathered { bytes, at } => (bytes[*at..].as_ptr(), length(bytes.len() - at)),
        }
    }

    /// Counts `sent` bytes; true once nothing is left.
    pub(crate) fn advance(&mut self, sent: u32) -> bool {
        match self {
            Self::Provided { at, end, .. } => {
                *at += sent;
                at >= end
            }
            Self::Gathered { bytes, at } => {
                *at += sent as usize;
                *at >= bytes.len()
            }
        }
    }
}

/// A buffer of its own, for a connection that sends large frames: received and echoed in turn.
#[derive(Debug, Default)]
pub(crate) struct Large {
    pub(crate) bytes: Vec<u8>,
    pub(crate) filled: usize,
    /// Sent so far, of `whole`.
    pub(crate) sent: usize,
    /// End of the whole frames that are being sent; 0: none.
    pub(crate) whole: usize,
}

impl Large {
    pub(crate) fn with(partial: &[u8]) -> Self {
        let mut bytes = vec![0; frames::room_for(partial.len() + 2 * LARGE)];
        bytes[..partial.len()].copy_from_slice(partial);
        Self { bytes, filled: partial.len(), ..Self::default() }
    }

    /// Makes room for a frame of `wanted` bytes.
    pub(crate) fn make_room(&mut self, wanted: usize) {
        if wanted > self.bytes.len() {
            self.bytes.resize(frames::room_for(wanted), 0);
        }
    }

    /// Forgets the frames that were sent.
    pub(crate) fn shift(&mut self) {
        self.bytes.copy_within(self.whole..self.filled, 0);
        self.filled -= self.whole;
        self.whole = 0;
        self.sent = 0;
    }
}

/// One connection. It is closed when it has ended and the kernel holds nothing of it.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    pub(crate) receiving: bool,
    pub(crate) sending: bool,
    pub(crate) ended: bool,
    /// The receive was cancelled, to begin again once all echoes are sent.
    pub(crate) paused: bool,
    /// The receive waits for a provided buffer.
    pub(crate) starved: bool,
    /// The next receive goes into a buffer of its own.
    pub(crate) wants_large: bool,
    pub(crate) large: Option<Box<Large>>,
    pub(crate) partial: Vec<u8>,
    /// Being sent, or next; apart from `queue` so that one echo at a time allocates nothing.
    pub(crate) current: Option<Echo>,
    pub(crate) queue: VecDeque<Echo>,
}

impl Connection {
    /// Takes the bytes of a provided buffer. True: the buffer is kept until it is sent.
    pub(crate) fn take(&mut self, id: u16, received: &[u8]) -> io::Result<bool> {
        if self.partial.is_empty() {
            let found = frames::scan(received)?;
            self.partial.extend_from_slice(&received[found.whole..]);
            self.wants_large |= found.wanted > LARGE;
            if found.whole == 0 {
                return Ok(false);
            }
            self.queue_up(Echo::Provided { id, at: 0, end: length(found.whole) });
            return Ok(true);
        }
        self.partial.extend_from_slice(received);
        let found = frames::scan(&self.partial)?;
        self.wants_large |= found.wanted > LARGE;
        if found.whole > 0 {
            let rest = self.partial[found.whole..].to_vec();
            let mut bytes = std::mem::replace(&mut self.partial, rest);
            bytes.truncate(found.whole);
            self.queue_up(Echo::Gathered { bytes, at: 0 });
        }
        Ok(false)
    }

    fn queue_up(&mut self, echo: Echo) {
        if self.current.is_none() {
            self.current = Some(echo);
        } else {
            self.queue.push_back(echo);
        }
    }

    /// Counts `sent` bytes of the current echo; returns the buffer that became free.
    pub(crate) fn advance(&mut self, sent: u32) -> Option<u16> {
        let done = self.current.take_if(|echo| echo.advance(sent))?;
        self.current = self.queue.pop_front();
        match done {
            Echo::Provided { id, .. } => Some(id),
            Echo::Gathered { .. } => None,
        }
    }

    /// The kernel holds nothing of this connection.
    pub(crate) fn quiet(&self) -> bool {
        !self.receiving && !self.sending
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("echoes are bounded by the receives that filled them")
}
