//! Unframed: adds nothing. What the stack delimits is a Message; on a byte stream each direction
//! is one Message in parts, complete at its end (draft §2.2).
//!
//! Absent: no delimiter, no limit: parts are as long as what arrived.

use super::{FrameError, Framer, Output};
use crate::message::{Marking, Message, Properties};

/// The default framer: no framing at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unframed;

impl Framer for Unframed {
    type Got = Message<'static>;
    type In<'a> = Message<'a>;
    type Out<'a> = Message<'a>;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(usize, Message<'a>)>, FrameError> {
        if input.is_empty() {
            return Ok(None);
        }
        Ok(Some((input.len(), Message::lent(input).partial())))
    }

    // A datagram is whole, even without a byte.
    fn decode_datagram<'a>(&mut self, datagram: &'a [u8]) -> Result<Message<'a>, FrameError> {
        Ok(Message::lent(datagram))
    }

    fn mark(message: &mut Message<'_>, marking: Marking) {
        message.set_marking(marking);
    }

    fn lend(message: Message<'static>) -> Message<'static> {
        message
    }

    const PARTS: bool = true;

    fn decode_part<'a>(
        &mut self,
        input: &'a [u8],
        min: usize,
        max: usize,
    ) -> Result<Option<(usize, Message<'a>)>, FrameError> {
        let max = max.max(1);
        if input.len() < min.clamp(1, max) {
            return Ok(None);
        }
        let len = input.len().min(max);
        Ok(Some((len, Message::lent(&input[..len]).partial())))
    }

    fn is_complete(message: &Message<'_>) -> bool {
        message.is_complete()
    }

    fn cut(message: Message<'static>, max: usize) -> (Message<'static>, Option<Message<'static>>) {
        message.cut(max)
    }

    fn needs_part(&self, _input: &[u8], min: usize, max: usize) -> Option<usize> {
        Some(min.clamp(1, max.max(1)))
    }

    // On a byte stream its Messages are parts of one.
    const STANDS_ALONE: bool = false;

    #[inline]
    fn properties<'a>(message: &'a Message<'_>) -> Option<&'a Properties> {
        message.properties()
    }

    fn encode(&mut self, message: Message<'_>, into: &mut Output) -> Result<(), FrameError> {
        into.put_message(&message);
        Ok(())
    }

    fn end(&mut self, _rest: usize) -> Result<Option<Message<'static>>, FrameError> {
        Ok(Some(Message::lent(&[])))
    }
}
