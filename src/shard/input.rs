//! Input: from received bytes to calls of the protocol.
//!
//! Above: protocols (framers and handlers). Below: completions of receives. Small messages are
//! handed over where they lie in the receive buffer; what is no whole message yet is kept; a large
//! message gets a buffer of exactly its size (`exact`). Absent: sends, timers.

use std::rc::Rc;

use super::Shard;
use super::call::Taken;
use super::connection::{Connection, Gather};
use super::core::{CallError, Core, Id};
use super::protocol::{Progress, Verdict};
use crate::engine::errno::Errno;
use crate::engine::operation::{Data, Operation, ReceiveEnd, Token};
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
        let (route, taken) = {
            let mut state = core.state.borrow_mut();
            let connection = &mut state.slots[token.slot as usize];
            connection.clocks.last_activity = core.now_ms();
            match route(connection, bytes) {
                Route::Direct => (Route::Direct, state.take(token.slot).ok()),
                other => (other, None),
            }
        };
        match route {
            Route::Direct => {
                if let Some(taken) = taken {
                    match self.driver.shared(&data) {
                        None => {
                            lending::lend_buffer(bytes, data.leasable.then_some(data.buffer));
                        }
                        Some(whole) => lending::lend_shared(&whole),
                    }
                    let exact_min = core.limits.exact_receive_bytes;
                    let large = (exact_min..=self.large_receive_bytes).contains(&data.len);
                    use_direct(core, id, taken, bytes, large);
                }
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
            self.core.state.borrow_mut().unattend_last(token.slot);
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

    pub(super) fn receive_ended(&mut self, token: Token, end: ReceiveEnd) {
        let id = self.id(token);
        let changed = self.core.change(id, |connection| {
            connection.flags.receiving = false;
            connection.flags.stopping = false;
        });
        if changed.is_err() {
            return;
        }
        let ends = match end {
            ReceiveEnd::EndOfInput => true,
            ReceiveEnd::Failed(errno) => self.ends_receiving(id, errno),
            ReceiveEnd::Credit | ReceiveEnd::Stopped => false,
        };
        if !ends {
            return;
        }
        // In use, as just seen.
        let _ = self.core.change(id, |connection| connection.flags.input_ended = true);
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

impl Core {
    /// Somebody wants messages in another way: what was kept is looked at again.
    pub(crate) fn look_again(&self, id: Id) {
        // Gone already: then nothing is kept.
        let _ = self.change(id, |connection| {
            connection.flags.paused |= !connection.pending.is_empty();
        });
    }
}

/// Hands lent bytes to the protocol; `large` if more of this length are worth expecting. Mostly it
/// uses them up, and what follows from that is done when its slot is looked at anyway.
#[inline]
fn use_direct(core: &Rc<Core>, id: Id, taken: Taken, bytes: &[u8], large: bool) {
    let used_up = |progress: &Progress| {
        matches!(progress.verdict, Verdict::More { .. }) && progress.consumed >= bytes.len()
    };
    let progress = core.call_taken(
        id,
        taken,
        |protocol, call| protocol.input(call, bytes, false),
        |connection, progress| {
            if used_up(progress) {
                connection.clocks.message_begun = 0;
                if large {
                    // Such a message is expected once more.
                    connection.large = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                }
            }
        },
    );
    lending::take_back();
    if !progress.as_ref().is_ok_and(used_up) {
        after_input(core, id, progress, bytes);
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
fn bounded(core: &Core, progress: Progress, rest: usize) -> Progress {
    let unmeasured = matches!(progress.verdict, Verdict::More { needs: None });
    if !unmeasured || rest <= core.limits.unmeasured_message_bytes {
        return progress;
    }
    tracing::debug!(rest, "a message is longer than Limits::unmeasured_message_bytes");
    Progress { verdict: Verdict::Fail(CloseReason::Framing), ..progress }
}

/// Does what the protocol said, and keeps the rest of `bytes`.
pub(super) fn after_input(
    core: &Rc<Core>,
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
                        let mut buffer = Vec::with_capacity(Gather::capacity(rest.len(), needs));
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
            if matches!(reason, CloseReason::Framing | CloseReason::FramerBroken) {
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

/// Bytes that are read and thrown away after the end of a connection was decided; a reset follows.
const DISCARDED_BYTES_MAX: usize = 4 << 20;

/// The clock of an unfinished message starts, if it does not run yet.
pub(super) fn begin_message(core: &Core, id: Id) {
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
        if self.core.look(id, |connection| connection.flags.datagrams) == Ok(true) {
            return self.ask_for_datagrams(id);
        }
        let credit = self.core.limits.receive_credit_bytes;
        let mut expects = false;
        let operation = {
            let mut state = self.core.state.borrow_mut();
            let connection = &mut state.slots[id.slot as usize];
            let large = connection.large as usize;
            if let Some(gather) = &mut connection.gather {
                connection.flags.gathering = true;
                let mut buffer = std::mem::take(&mut gather.buffer);
                let capacity = Gather::capacity(buffer.len(), gather.needs);
                buffer.reserve_exact(capacity.saturating_sub(buffer.len()));
                Operation::ReceiveExact { token, buffer, whole: true }
            } else if (1..=self.large_receive_bytes).contains(&large) {
                connection.flags.receiving = true;
                // If another one comes, that is expected again.
                connection.large = 0;
                Operation::Receive { token, credit: credit.max(large) }
            } else if large > 0 && connection.pending.is_empty() && !connection.flags.discarding {
                connection.flags.gathering = true;
                connection.gather = Some(Box::default());
                expects = true;
                let buffer = Vec::with_capacity(large.min(Gather::STEP_BYTES));
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
}
