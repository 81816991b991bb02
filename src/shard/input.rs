//! Input: from received bytes to calls of the protocol.
//!
//! Above: protocols (framers and handlers). Below: completions of receives. Small messages are
//! handed over where they lie in the receive buffer; what is no whole message yet is kept; a large
//! message gets a buffer of exactly its size. Absent: sends, timers.

use bytes::Bytes;

use super::Shard;
use super::connection::{Connection, Gather};
use super::core::{CallError, Id};
use super::protocol::{Progress, Verdict};
use crate::engine::operation::{Data, Errno, Operation, ReceiveEnd, Token};
use crate::error::CloseReason;
use crate::lending;

/// Where received bytes go.
enum Route {
    /// To the protocol, from where they lie.
    Direct,
    /// They were kept; the protocol looks at all that is kept.
    Kept,
    /// They were kept, and nobody wants them yet.
    Held,
    /// They were thrown away.
    Discarded,
    /// They completed the large message under way; the rest was kept.
    Gathered(Vec<u8>),
}

impl Shard {
    #[inline]
    pub(super) fn received(&mut self, token: Token, data: Data) {
        let id = self.id(token);
        let core = &self.core;
        core.metrics.received_bytes.add(data.len as u64);
        let bytes = self.driver.bytes(&data);
        let route = {
            let mut state = core.state.borrow_mut();
            let connection = &mut state.slots[token.slot as usize];
            connection.clocks.last_activity = core.now_ms();
            route(connection, bytes)
        };
        match route {
            Route::Direct => {
                lending::lend_buffer(bytes, data.leasable.then_some(data.buffer));
                let progress = core.call(id, |protocol, call| protocol.input(call, bytes, false));
                lending::take_back();
                after_input(core, id, progress, bytes);
            }
            Route::Kept => self.feed_pending(id),
            Route::Gathered(buffer) => {
                self.gathered(id, buffer);
                self.feed_pending(id);
            }
            Route::Held => {}
            Route::Discarded => self.discarded(id, data.len),
        }
        self.driver.release(data);
        self.watch(id);
        if self.sends_at_once {
            self.settle(token.slot);
        }
    }

    /// A peer that goes on sending what nobody reads is read for politeness, not for ever.
    fn discarded(&self, id: Id, len: usize) {
        // In use: its bytes have just come.
        let _ = self.core.change(id, |connection| {
            connection.discarded = connection.discarded.saturating_add(len as u32);
            connection.flags.reset |= connection.discarded as usize > DISCARDED_BYTES_MAX;
        });
    }

    /// Hands everything that was kept to the protocol.
    pub(super) fn feed_pending(&mut self, id: Id) {
        let taken = self.core.change(id, |connection| {
            connection.flags.paused = false;
            // After a stop or a failure nobody wants what came behind.
            (std::mem::take(&mut connection.pending), connection.flags.discarding)
        });
        let Ok((mut pending, discarding)) = taken else { return };
        if pending.is_empty() || discarding {
            return;
        }
        let progress = self.core.call(id, |protocol, call| protocol.input(call, &pending, false));
        let consumed = progress.as_ref().map_or(pending.len(), |progress| progress.consumed);
        pending.drain(..consumed);
        if consumed > 0 {
            // What is left is another message, with a clock of its own.
            let _ = self.core.change(id, |connection| connection.clocks.message_begun = 0);
        }
        let progress = progress.map(|progress| {
            bounded(&self.core, Progress { consumed: 0, ..progress }, pending.len())
        });
        self.keep_rest(id, progress, pending);
    }

    /// Like `after_input` for a rest that is owned already.
    fn keep_rest(&self, id: Id, progress: Result<Progress, CallError>, rest: Vec<u8>) {
        let large = matches!(
            progress,
            Ok(Progress { verdict: Verdict::More { needs: Some(needs) }, .. })
                if needs >= self.core.limits.exact_receive_bytes
        );
        if large {
            return after_input(&self.core, id, progress, &rest);
        }
        let begun = matches!(progress, Ok(Progress { verdict: Verdict::More { .. }, .. }));
        if !begun || rest.is_empty() {
            after_input(&self.core, id, progress, &[]);
        }
        if rest.is_empty() {
            return;
        }
        // The connection may have ended in the call; then nobody needs the rest.
        let _ = self.core.change(id, |connection| {
            if !connection.flags.discarding {
                connection.pending = rest;
            }
        });
        if begun {
            begin_message(&self.core, id);
        }
    }

    /// A large message is whole in `buffer`.
    fn gathered(&mut self, id: Id, buffer: Vec<u8>) {
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
                let capacity = exact_capacity(buffer.len(), needs);
                buffer.reserve_exact(capacity.saturating_sub(buffer.len()));
                connection.gather = Some(Box::new(Gather { buffer, needs }));
            } else {
                connection.pending = buffer;
            }
        });
        begin_message(&self.core, id);
    }

    pub(super) fn receive_ended(&mut self, token: Token, end: ReceiveEnd) {
        let id = self.id(token);
        let changed = self.core.change(id, |connection| {
            connection.flags.receiving = false;
            connection.flags.stopping = false;
            let ended = matches!(end, ReceiveEnd::EndOfInput | ReceiveEnd::Failed(_));
            connection.flags.input_ended |= ended;
        });
        if changed.is_err() {
            return;
        }
        match end {
            ReceiveEnd::EndOfInput => self.tell_input_end(id),
            ReceiveEnd::Failed(errno) => {
                let reason = reason_of(errno);
                if reason == CloseReason::Reset {
                    self.core.metrics.resets.add(1);
                }
                self.core.fail(id, reason);
            }
            ReceiveEnd::Credit | ReceiveEnd::Stopped => {}
        }
    }
}

impl super::core::Core {
    /// Somebody wants messages in another way: what was kept is looked at again.
    pub(crate) fn look_again(&self, id: Id) {
        // Gone already: then nothing is kept.
        let _ = self.change(id, |connection| {
            connection.flags.paused |= !connection.pending.is_empty();
        });
    }
}

/// Decides where bytes go, and puts them there unless they can be used from where they lie.
fn route(connection: &mut Connection, bytes: &[u8]) -> Route {
    if connection.flags.discarding {
        return Route::Discarded;
    }
    if let Some(gather) = &mut connection.gather
        && !connection.flags.gathering
    {
        let missing = gather.needs.saturating_sub(gather.buffer.len()).min(bytes.len());
        gather.buffer.extend_from_slice(&bytes[..missing]);
        connection.pending.extend_from_slice(&bytes[missing..]);
        if gather.buffer.len() < gather.needs {
            return Route::Held;
        }
        let buffer = connection.gather.take().map(|gather| gather.buffer);
        return Route::Gathered(buffer.unwrap_or_default());
    }
    if connection.flags.paused {
        connection.pending.extend_from_slice(bytes);
        return Route::Held;
    }
    if connection.pending.is_empty() {
        return Route::Direct;
    }
    connection.pending.extend_from_slice(bytes);
    Route::Kept
}

/// An unmeasured message that became longer than its limit is the peer's failure.
fn bounded(core: &super::core::Core, progress: Progress, rest: usize) -> Progress {
    let unmeasured = matches!(progress.verdict, Verdict::More { needs: None });
    if !unmeasured || rest <= core.limits.unmeasured_message_bytes {
        return progress;
    }
    tracing::debug!(rest, "a message is longer than Limits::unmeasured_message_bytes");
    Progress { verdict: Verdict::Fail(CloseReason::Framing), ..progress }
}

/// Does what the protocol said, and keeps the rest of `bytes`.
fn after_input(
    core: &std::rc::Rc<super::core::Core>,
    id: Id,
    progress: Result<Progress, CallError>,
    bytes: &[u8],
) {
    let Ok(progress) = progress else { return };
    let rest = bytes.get(progress.consumed..).unwrap_or_default();
    let progress = bounded(core, progress, rest.len());
    let exact_min = core.limits.exact_receive_bytes;
    match progress.verdict {
        Verdict::More { .. } if rest.is_empty() => {
            let mut state = core.state.borrow_mut();
            state.slots[id.slot as usize].clocks.message_begun = 0;
        }
        Verdict::More { needs } => {
            // In use: it was just called.
            let _ = core.change(id, |connection| {
                if progress.consumed > 0 {
                    // What is left is another message, with a clock of its own.
                    connection.clocks.message_begun = 0;
                }
                match needs {
                    Some(needs)
                        if needs >= exact_min
                            && needs > rest.len()
                            && connection.pending.is_empty() =>
                    {
                        let mut buffer = Vec::with_capacity(exact_capacity(rest.len(), needs));
                        buffer.extend_from_slice(rest);
                        connection.gather = Some(Box::new(Gather { buffer, needs }));
                    }
                    _ => keep_first(&mut connection.pending, rest),
                }
            });
            begin_message(core, id);
        }
        Verdict::Paused => {
            let _ = core.change(id, |connection| {
                // The peer has done its part of what waits now.
                connection.clocks.message_begun = 0;
                connection.flags.paused = true;
                keep_first(&mut connection.pending, rest);
            });
        }
        Verdict::Stop => {
            let _ = core.change(id, |connection| connection.flags.discarding = true);
            core.end_output(id, CloseReason::Stopped);
        }
        Verdict::Fail(reason) => {
            if reason == CloseReason::Framing {
                core.metrics.frame_errors.add(1);
            }
            let _ = core.change(id, |connection| connection.flags.discarding = true);
            core.end_output(id, reason);
        }
    }
}

/// Keeps `rest` before what came behind it.
fn keep_first(pending: &mut Vec<u8>, rest: &[u8]) {
    pending.splice(..0, rest.iter().copied());
}

/// The buffer of a large message begins with at most this many bytes and doubles as they come.
const EXACT_STEP: usize = 1 << 20;

/// Bytes that are read and thrown away after the end of a connection was decided; a reset follows.
const DISCARDED_BYTES_MAX: usize = 4 << 20;

/// How large the buffer of a message of `needs` bytes is to be when `len` bytes of it have come: a
/// peer that only claims a length costs no memory.
fn exact_capacity(len: usize, needs: usize) -> usize {
    needs.min(EXACT_STEP.max(len.saturating_mul(2)))
}

/// The clock of an unfinished message starts, if it does not run yet.
fn begin_message(core: &super::core::Core, id: Id) {
    let now = core.now_ms();
    let begun = core.change(id, |connection| {
        let clock = &mut connection.clocks.message_begun;
        let begins = *clock == 0;
        if begins {
            *clock = now;
        }
        begins
    });
    if begun == Ok(true) {
        super::timeouts::check_after(core, id, core.timeouts.message);
    }
}

/// What an error number of a connection means for its owner.
pub(super) fn reason_of(errno: Errno) -> CloseReason {
    match errno {
        Errno::CONNECTION_RESET | Errno::BROKEN_PIPE => CloseReason::Reset,
        Errno(other) => CloseReason::Lost(other),
    }
}

impl Shard {
    /// Asks the driver for bytes in the way that fits what is expected.
    pub(super) fn ask_for_bytes(&mut self, id: Id) {
        let token = self.token(id);
        let credit = self.core.limits.receive_credit_bytes;
        let mut expects = false;
        let operation = {
            let mut state = self.core.state.borrow_mut();
            let connection = &mut state.slots[id.slot as usize];
            let large = connection.large as usize;
            if let Some(gather) = &mut connection.gather {
                connection.flags.gathering = true;
                let mut buffer = std::mem::take(&mut gather.buffer);
                let capacity = exact_capacity(buffer.len(), gather.needs);
                buffer.reserve_exact(capacity.saturating_sub(buffer.len()));
                Operation::ReceiveExact { token, buffer, whole: true }
            } else if large > 0 && connection.pending.is_empty() && !connection.flags.discarding {
                connection.flags.gathering = true;
                connection.gather = Some(Box::default());
                expects = true;
                let buffer = Vec::with_capacity(large.min(EXACT_STEP));
                Operation::ReceiveExact { token, buffer, whole: false }
            } else {
                connection.flags.receiving = true;
                // A newcomer gets one buffer's worth, so that many of them can be armed at once.
                let newcomer = connection.flags.accepted && !connection.flags.greeted;
                let buffer = self.core.limits.receive_buffer_bytes;
                let credit = if newcomer { credit.min(buffer) } else { credit };
                Operation::Receive { token, credit }
            }
        };
        self.driver.submit(operation);
        if expects {
            super::timeouts::expect(&self.core, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_stands_before_what_came_behind_it() {
        let mut pending = b"behind".to_vec();
        keep_first(&mut pending, b"first ");
        assert_eq!(pending, b"first behind");
        keep_first(&mut pending, b"");
        assert_eq!(pending, b"first behind");
    }

    #[test]
    fn a_claimed_length_costs_no_memory_before_its_bytes_come() {
        assert_eq!(exact_capacity(8, 65_540), 65_540);
        assert_eq!(exact_capacity(8, usize::MAX), EXACT_STEP);
        assert_eq!(exact_capacity(EXACT_STEP, usize::MAX), 2 * EXACT_STEP);
        assert_eq!(exact_capacity(EXACT_STEP, EXACT_STEP + 1), EXACT_STEP + 1);
    }
}
