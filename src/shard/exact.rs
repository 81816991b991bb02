//! Exact: messages too large for the pool, received into a buffer of exactly their size.
//!
//! Above: `input`, which begins such a buffer and reads on behind it. Below: completions of exact
//! receives. Absent: small messages. Bound: a buffer grows as bytes come, not as they are claimed.

use bytes::Bytes;

use super::Shard;
use super::connection::Gather;
use super::core::Id;
use super::input::{after_input, begin_message};
use crate::engine::errno::Errno;
use crate::engine::operation::{ReceiveEnd, Token};
use crate::lending;

impl Shard {
    /// A large message is whole in `buffer`.
    pub(super) fn gathered(&mut self, id: Id, buffer: Vec<u8>) {
        let len = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        let whole = Bytes::from(buffer);
        lending::lend_shared(&whole);
        let progress = self.core.call(id, |protocol, call| protocol.input(call, &whole, false));
        lending::take_back();
        // Ended in the call: then the expectation does not matter.
        let _ = self.core.change(id, |connection| connection.large = len);
        after_input(&self.core, id, progress, &whole);
    }

    pub(super) fn received_exact(
        &mut self,
        token: Token,
        buffer: Vec<u8>,
        result: Result<usize, Errno>,
    ) {
        let id = self.id(token);
        self.take_exact(id, token, buffer, result);
        self.watch(id);
    }

    fn take_exact(&mut self, id: Id, token: Token, buffer: Vec<u8>, result: Result<usize, Errno>) {
        let now = self.core.now_ms();
        let (gather, discarding) = {
            let mut state = self.core.state.borrow_mut();
            let connection = &mut state.slots[token.slot as usize];
            connection.flags.gathering = false;
            connection.flags.stopping = false;
            (connection.gather.take(), connection.flags.discarding)
        };
        self.core.attend(id);
        let needs = gather.map_or(0, |gather| gather.needs);
        let got = match result {
            Ok(0) => {
                self.keep_begun(id, buffer, needs);
                return self.receive_ended(token, ReceiveEnd::EndOfInput);
            }
            Ok(got) => got,
            Err(Errno::CANCELLED) => return self.keep_begun(id, buffer, needs),
            Err(errno) => return self.receive_ended(token, ReceiveEnd::Failed(errno)),
        };
        self.core.metrics.received_bytes.add(got as u64);
        // The slot of a completion is in use.
        let _ = self.core.change(id, |connection| connection.clocks.last_activity = now);
        if discarding {
            return;
        }
        if needs > 0 && buffer.len() >= needs {
            return self.gathered(id, buffer);
        }
        if needs == 0 {
            return self.look_at_exact(id, buffer);
        }
        self.keep_begun(id, buffer, needs);
    }

    /// A buffer that was only expected to hold a large message: what is in it?
    fn look_at_exact(&mut self, id: Id, buffer: Vec<u8>) {
        let needs = self.core.call(id, |protocol, _| protocol.needs(&buffer)).ok().flatten();
        match needs {
            Some(needs) if needs > buffer.len() => self.keep_begun(id, buffer, needs),
            Some(needs) if needs >= self.core.limits.exact_receive_bytes => {
                self.gathered(id, buffer);
            }
            _ => {
                // Small ones again: back to the pool.
                let changed = self.core.change(id, |connection| {
                    connection.large = 0;
                    connection.pending = buffer;
                });
                if changed.is_ok() {
                    self.feed_pending(id);
                }
            }
        }
    }

    /// Keeps the beginning of a message whose exact buffer came back unfinished.
    fn keep_begun(&mut self, id: Id, mut buffer: Vec<u8>, needs: usize) {
        if buffer.is_empty() {
            return;
        }
        let exact_min = self.core.limits.exact_receive_bytes;
        // Ended meanwhile: then nobody needs the beginning.
        let _ = self.core.change(id, |connection| {
            if needs >= exact_min {
                let capacity = Gather::capacity(buffer.len(), needs);
                buffer.reserve_exact(capacity.saturating_sub(buffer.len()));
                connection.gather = Some(Box::new(Gather { buffer, needs }));
            } else {
                connection.pending = buffer;
            }
        });
        begin_message(&self.core, id);
    }
}
