//! Way: from a typed Message to bytes in the outbox, for a Carrier whose Messages ask for nothing.
//!
//! Above: `Reply` and the endpoint. Below: the framer writes; Messages that ask for an order go on
//! to `scheduled`. Absent: inboxes, threads, waiting for room.

use std::cell::{Cell, RefCell};

use super::scheduled::Wishes;
use crate::error::{Error, Result};
use crate::framer::{FrameError, Framer, Mark, Output};
use crate::shard::protocol::{Call, Packing};

/// The typed way out: the framer, and how many Messages the Carrier sent before they asked for an
/// order.
pub(super) struct Way<F> {
    pub(super) framer: RefCell<F>,
    pub(super) submitted: Cell<u64>,
}

/// Frames `message` into the outbox of a call; a failure leaves the outbox as it was.
// Always inlined, as is the usual framer's encoding: else the Message is moved once for each.
#[inline(always)]
pub(super) fn encode<F: Framer>(way: &Way<F>, call: &Call<'_>, message: F::Out<'_>) -> Result<()> {
    if call.outgoing.borrow().is_some() || F::properties(&message).is_some() {
        return encode_scheduled(way, call, message);
    }
    let mut outbox = call.outbox.borrow_mut();
    let mark = outbox.mark();
    let mut framer = way.framer.borrow_mut();
    if framer.is_within_message() {
        return Err(within_message());
    }
    match framer.encode(message, &mut outbox) {
        Ok(()) => {
            if call.packing != Packing::Stream {
                pack(call, 0, &mut outbox, mark)?;
            }
            call.sent_messages.set(call.sent_messages.get() + 1);
            Ok(())
        }
        Err(error) => Err(undo(&mut outbox, mark, error)),
    }
}

/// Makes a datagram of what was framed since `mark` for a Message of class `niceness`.
pub(super) fn pack(call: &Call<'_>, niceness: u32, output: &mut Output, mark: Mark) -> Result<()> {
    let core = call.core;
    let len = output.len() - output.datagram_begin();
    let (to, bytes_max) = match call.packing {
        Packing::Stream => return Ok(()),
        Packing::Connected { bytes_max } if len > bytes_max as usize => {
            (None, core.bytes_max_again(call.id, bytes_max))
        }
        Packing::Connected { bytes_max } => (None, bytes_max),
        Packing::To(route) => (Some(route), core.datagram_bytes_max(route.remote, len)),
        Packing::Nowhere => {
            output.rewind(mark);
            let what = "send on a Responder's socket of datagrams to nobody in particular: answer \
                        with the Reply, or initiate a Carrier to the peer";
            return Err(Error::Unsupported(what.into()));
        }
    };
    if len > bytes_max as usize {
        output.rewind(mark);
        return Err(Error::Message(format!(
            "a datagram of {len} bytes exceeds the path's limit of {bytes_max} bytes"
        )));
    }
    output.end_datagram(to, core.traffic_class(niceness));
    Ok(())
}

// Apart, so that the usual way is short enough to be part of a handler.
#[cold]
fn encode_scheduled<F: Framer>(way: &Way<F>, call: &Call<'_>, message: F::Out<'_>) -> Result<()> {
    super::scheduled::submit::<F>(way, call, message, Wishes::default()).map(drop)
}

#[cold]
fn within_message() -> Error {
    Error::Message("a message in parts is under way on this carrier".into())
}

#[cold]
fn undo(outbox: &mut Output, mark: Mark, error: FrameError) -> Error {
    outbox.rewind(mark);
    error.into()
}
