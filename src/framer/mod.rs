//! Framers: bytes on the wire <-> typed Messages (draft §4.2; RFC 9622 §9.1.2).
//!
//! Above: Carriers and Responders are generic over their Framer. Below: a framer sees plain
//! slices and an `Output`; it never sees a socket, a clock or the engine. One of the two doors
//! where users plug in their own code.

#[cfg(feature = "codec")]
mod codec;
#[cfg(feature = "json")]
mod json;
mod length_prefixed;
#[cfg(any(feature = "json", feature = "postcard"))]
mod limited;
mod lines;
mod newline;
mod output;
#[cfg(feature = "postcard")]
mod postcard;
#[cfg(feature = "postcard")]
mod shallow;
mod shown;
mod train;
mod unframed;
#[cfg(any(feature = "codec", feature = "json", feature = "postcard"))]
mod value;

#[cfg(feature = "codec")]
pub use codec::Codec;
#[cfg(feature = "json")]
pub use json::Json;
pub use length_prefixed::{Endianness, LengthPrefixed, Width};
pub use lines::{Line, Lines};
pub(crate) use output::Mark;
pub use output::Output;
#[cfg(feature = "postcard")]
pub use postcard::Postcard;
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
pub(crate) use train::TRAIN_DATAGRAMS_MAX;
pub(crate) use train::Train;
pub use unframed::Unframed;
#[cfg(any(feature = "codec", feature = "json", feature = "postcard"))]
pub use value::{Decoded, Value};

use crate::message::{Detach, Marking, Properties};

/// Turns bytes into Messages of one type and Messages into bytes.
///
/// A fresh clone serves each Carrier, so a framer may keep state between calls. (A Responder's
/// socket of datagrams has one for all who send to it: nothing of one Message may matter to the
/// next there.) `In` borrows the input, never the framer: replies are encoded while a received
/// Message is still in use.
///
/// ```
/// use postring::{FrameError, Framer, Message, Output};
/// type Found<'a> = Option<(usize, Message<'a>)>;
///
/// /// One byte of length, then the payload.
/// #[derive(Clone)]
/// struct Tiny;
///
/// impl Framer for Tiny {
///     type Got = Message<'static>;
///     type In<'a> = Message<'a>;
///     type Out<'a> = Message<'a>;
///
///     fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Found<'a>, FrameError> {
///         let Some((&len, rest)) = input.split_first() else { return Ok(None) };
///         Ok(rest.get(..len.into()).map(|payload| (1 + payload.len(), Message::lent(payload))))
///     }
///
///     fn lend(message: Message<'static>) -> Message<'static> {
///         message
///     }
///
///     fn encode(&mut self, message: Message<'_>, into: &mut Output) -> Result<(), FrameError> {
///         let len = u8::try_from(message.len())
///             .map_err(|_| FrameError::TooLong { len: message.len(), len_max: 255 })?;
///         into.put(&[len]);
///         into.put_message(&message);
///         Ok(())
///     }
/// }
/// ```
pub trait Framer: Clone + Send + 'static {
    /// A received Message, owned.
    type Got: Send + 'static;
    /// A received Message that may still lend the receive buffer.
    type In<'a>: Detach<Owned = Self::Got>;
    /// What is sent.
    type Out<'a>: Detach<Owned = Self::Out<'static>> + Send;

    /// Looks for one Message at the start of `input`: how many bytes it took and the Message, or
    /// `None` if more bytes are needed; the next call then begins at the same byte, with more
    /// behind it. A framer that searches for a delimiter remembers how far it has searched.
    /// Taking no bytes is allowed only together with `None`.
    ///
    /// # Errors
    /// If the bytes can never become a Message; the Carrier ends.
    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(usize, Self::In<'a>)>, FrameError>;

    /// An owned Message in the form that handlers take: it was received before its handler was set.
    fn lend(message: Self::Got) -> Self::In<'static>;

    /// Appends the bytes of `message`.
    ///
    /// # Errors
    /// If the Message cannot be expressed; nothing is sent then.
    fn encode(&mut self, message: Self::Out<'_>, into: &mut Output) -> Result<(), FrameError>;

    /// True if every encoded Message can be decoded whatever was sent before it: then niceness and
    /// lifetime may change the order in which Messages leave, or leave some out. Otherwise they
    /// leave as they were sent.
    const STANDS_ALONE: bool = true;

    /// True if a new connection of the same Carrier may begin at a Message's boundary with a fresh
    /// clone of the framer: then a dormant Carrier is revived by connecting again (draft §2.1).
    const RESTARTABLE: bool = false;

    /// What the sender asked for `message`. Framers whose `Out` carries [`Properties`] say so
    /// here; those of a [`Message`](crate::Message) are in it.
    fn properties<'a>(message: &'a Self::Out<'_>) -> Option<&'a Properties> {
        let _ = message;
        None
    }

    /// How many bytes the Message at the start of `input` has in all, as soon as that is known.
    /// Lets the engine receive a large Message straight into a buffer of its own size.
    fn needs(&self, input: &[u8]) -> Option<usize> {
        let _ = input;
        None
    }

    /// True if [`decode_part`](Self::decode_part) cuts Messages in parts; otherwise every Message
    /// comes whole, however long it is.
    const PARTS: bool = false;

    /// Like [`decode`](Self::decode), for a receiver that takes Messages in parts (draft §2.2,
    /// Partial Messages): the next part of the Message at the start of `input`, or of the Message
    /// begun by an earlier call. A part has at least `min` bytes of content unless it is the last
    /// one, and at most `max`; values below 1 count as 1, a `min` above `max` as `max`. All parts
    /// but the last are [`partial`](crate::Message::partial). A `decode` that follows a part gives
    /// the whole rest of that Message as its last part.
    ///
    /// When the peer has ended its direction, what is left over is asked for with a `min` of 1
    /// until nothing comes, then [`end`](Self::end) is called.
    ///
    /// # Errors
    /// As `decode`.
    fn decode_part<'a>(
        &mut self,
        input: &'a [u8],
        min: usize,
        max: usize,
    ) -> Result<Option<(usize, Self::In<'a>)>, FrameError> {
        let _ = (min, max);
        self.decode(input)
    }

    /// False for a part after which more parts of the same Message come.
    fn is_complete(message: &Self::In<'_>) -> bool {
        let _ = message;
        true
    }

    /// Cuts a received Message that has more than `max` bytes of content into a part of that length
    /// and the rest: it was received before somebody asked for parts.
    fn cut(message: Self::Got, max: usize) -> (Self::Got, Option<Self::Got>) {
        let _ = max;
        (message, None)
    }

    /// How many bytes `decode_part` needs at the start of `input` to give something, as soon as
    /// that is known.
    fn needs_part(&self, input: &[u8], min: usize, max: usize) -> Option<usize> {
        let _ = (min, max);
        self.needs(input)
    }

    /// True while the last Message encoded was a part that is not the last one: what is encoded
    /// next belongs right behind it, so nothing may be sent between the two.
    fn is_within_message(&self) -> bool {
        false
    }

    /// The Message that a datagram is: where the stack carries datagrams (`udp://`) each is one
    /// Message, framed or not. By default what `decode` makes of it, if that takes all of it.
    ///
    /// # Errors
    /// If the datagram is no Message, or more than one: it is dropped and counted, and the framer
    /// begins anew with the next one.
    fn decode_datagram<'a>(&mut self, datagram: &'a [u8]) -> Result<Self::In<'a>, FrameError> {
        match self.decode(datagram)? {
            Some((taken, message)) if taken == datagram.len() => Ok(message),
            Some((taken, _)) => Err(FrameError::Malformed(format!(
                "{} bytes behind the message of a datagram",
                datagram.len().saturating_sub(taken)
            ))),
            None => Err(FrameError::Truncated { len: datagram.len() }),
        }
    }

    /// Takes note of how the packet of a datagram was marked. A framer whose `In` is a
    /// [`Message`](crate::Message) passes it on by [`set_marking`](crate::Message::set_marking).
    fn mark(message: &mut Self::In<'_>, marking: Marking) {
        let _ = (message, marking);
    }

    /// The last Message of the direction, made when the peer has ended it and `rest` bytes are
    /// left over (draft §2.2: a byte stream is one Message that is complete at its end). `None`
    /// if the end carries no Message; a framer whose Messages are delimited reports leftover
    /// bytes as an error.
    ///
    /// # Errors
    /// If `rest` is the beginning of a Message whose end will never come.
    fn end(&mut self, rest: usize) -> Result<Option<Self::In<'static>>, FrameError> {
        if rest == 0 { Ok(None) } else { Err(FrameError::Truncated { len: rest }) }
    }
}

/// Why bytes are no Message, or a Message no bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The Message is longer than the framer's limit.
    #[error(
        "a message of {len} bytes exceeds the framer's limit of {len_max} bytes; \
         raise the limit on both sides or send it in parts"
    )]
    TooLong {
        /// Length of the Message in bytes; at least this where it has not come to its end.
        len: usize,
        /// The limit in bytes.
        len_max: usize,
    },
    /// The peer ended in the middle of a Message.
    #[error("the peer ended {len} bytes into a message")]
    Truncated {
        /// Bytes of the unfinished Message that had arrived.
        len: usize,
    },
    /// The bytes or the Message break the framer's own rules.
    ///
    /// As it may quote the peer, it shows itself on one line, with control characters escaped, and
    /// at most 300 characters of it.
    #[error("{}", shown::Shown(.0))]
    Malformed(String),
}
