//! Input end: the peer has ended its direction.
//!
//! Above: protocols hear of it once, behind everything that came before. Below: completions of
//! receives, and `settle` where something was waited for. Absent: the end of this side.

use super::Shard;
use super::core::Id;
use super::protocol::{Progress, Verdict};
use crate::error::CloseReason;

impl Shard {
    /// Tells the protocol that the peer has ended, once it has seen everything before that.
    pub(super) fn tell_input_end(&mut self, id: Id) {
        let ready = self.core.look(id, |connection| {
            let flags = &connection.flags;
            let waiting = flags.paused && !connection.pending.is_empty();
            flags.input_ended && !flags.input_end_told && !waiting && !flags.discarding
        });
        if ready != Ok(true) {
            return;
        }
        let left = self.core.change(id, |connection| {
            connection.flags.input_end_told = true;
            let begun = connection.gather.take().map(|gather| gather.buffer);
            let mut left = begun.unwrap_or_default();
            left.append(&mut connection.pending);
            left
        });
        let mut left = left.unwrap_or_default();
        if !left.is_empty() {
            // Whoever takes parts takes what is there, since no more will come.
            let progress = self.core.call(id, |protocol, call| protocol.input(call, &left, true));
            let Ok(Progress { consumed, verdict }) = progress else { return };
            left.drain(..consumed);
            if verdict == Verdict::Paused && !left.is_empty() {
                return self.keep_end(id, left);
            }
        }
        let rest = left.len();
        let verdict = self.core.call(id, |protocol, call| {
            (protocol.input_ended(call, rest), protocol.ends_with_input())
        });
        match verdict {
            // It broke off where no orderly end can be.
            Ok((Verdict::Fail(CloseReason::Reset), _)) => self.core.fail(id, CloseReason::Reset),
            Ok((Verdict::Fail(reason), _)) => {
                self.core.metrics.frame_errors.add(1);
                self.core.end_output(id, reason);
            }
            Ok((_, ends)) if ends || self.is_left_to_engine(id) => {
                self.core.end_output(id, CloseReason::Finished);
            }
            _ => {}
        }
    }

    /// Nobody takes what came before the end: it waits, and so does the end.
    fn keep_end(&self, id: Id, left: Vec<u8>) {
        // In use: it was just called.
        let _ = self.core.change(id, |connection| {
            connection.flags.input_end_told = false;
            connection.flags.paused = true;
            connection.pending = left;
        });
    }

    /// True if no Carrier owns the connection: then it ends with its peer.
    fn is_left_to_engine(&self, id: Id) -> bool {
        self.core.look(id, |connection| !connection.flags.owned) == Ok(true)
    }
}
