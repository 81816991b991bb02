//! Message: the unit of communication between applications (draft §2.2).
//!
//! Above: handlers and Carriers hand Messages to the application and take them from it. Below:
//! framers make Messages out of bytes and bytes out of Messages. A Message either lends bytes of
//! a receive buffer or owns them; `detach` turns the first into the second.
//! Absent: no I/O, no framing, no socket.

mod event;
mod identity;
mod marking;
mod outcome;
mod properties;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

pub use self::event::Event;
pub use self::identity::MessageId;
pub use self::marking::{Ecn, Marking};
pub use self::outcome::{Expiry, Outcome};
pub use self::properties::{ANTECEDENTS_MAX, Properties, SPECIFICS_MAX};

use crate::lending;

/// A Message, or one part of a Message whose end is not known yet (draft §2.2).
///
/// `Message<'static>` owns its content and may travel to any thread. A shorter lifetime means that
/// the content still lies in a receive buffer of the core; [`Detach::detach`] makes it owned, by
/// copy when it is small and by lease when it is large.
///
/// ```
/// use postring::Message;
/// let message = Message::from("Hello!");
/// assert_eq!(message.text().unwrap(), "Hello!");
/// assert!(message.is_complete());
/// ```
#[doc(alias = "MessageContext")]
pub struct Message<'a> {
    content: Content<'a>,
    complete: bool,
    marking: Option<Marking>,
    /// Most Messages have none: then they cost one word.
    properties: Option<Box<Properties>>,
}

enum Content<'a> {
    Lent(&'a [u8]),
    Owned(Bytes),
}

impl Message<'static> {
    /// A complete Message that owns `content`.
    pub fn new(content: impl Into<Bytes>) -> Self {
        Self::from(content.into())
    }

    /// Its first `max` bytes (at least one) as a part, and the rest if there is one.
    #[must_use]
    pub fn cut(self, max: usize) -> (Self, Option<Self>) {
        let max = max.max(1);
        if self.len() <= max {
            return (self, None);
        }
        let Self { content, complete, marking, properties } = self;
        let mut first = match content {
            Content::Lent(bytes) => Bytes::from_static(bytes),
            Content::Owned(bytes) => bytes,
        };
        let rest = Content::Owned(first.split_off(max));
        let rest = Self { content: rest, complete, marking, properties: None };
        let first = Self { content: Content::Owned(first), complete: false, marking, properties };
        (first, Some(rest))
    }
}

impl<'a> Message<'a> {
    /// A complete Message that lends `content`. Framers use it to hand out what they found.
    #[inline]
    #[must_use]
    pub const fn lent(content: &'a [u8]) -> Self {
        Self { content: Content::Lent(content), complete: true, marking: None, properties: None }
    }

    /// The same content as one part of a longer Message: more parts follow (draft §2.2, Partial
    /// Messages).
    #[must_use]
    pub fn partial(self) -> Self {
        Self { complete: false, ..self }
    }

    /// The first part of a Message of `total_len` bytes in all, this part included. Framers that
    /// write the length before the content need it; further parts are [`partial`](Self::partial),
    /// the last one is not, and may be empty.
    ///
    /// ```
    /// use postring::{Framer, LengthPrefixed, Message, Output};
    /// let (mut framer, mut output) = (LengthPrefixed::default(), Output::default());
    /// framer.encode(Message::from("Hel").partial_of(6), &mut output)?;
    /// framer.encode(Message::from("lo").partial(), &mut output)?;
    /// framer.encode(Message::from("!"), &mut output)?;
    /// assert_eq!(output.to_vec(), b"\0\0\0\x06Hello!");
    /// # Ok::<(), postring::FrameError>(())
    /// ```
    #[must_use]
    pub fn partial_of(self, total_len: u64) -> Self {
        self.ask(|properties| properties.total_len(total_len)).partial()
    }

    /// The content.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Lent(bytes) => bytes,
            Content::Owned(bytes) => bytes,
        }
    }

    /// The length of the content in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// True if the content has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// False while more parts of the same Message follow.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// How the packet was marked that it came in, and when it came; `None` if it did not come as a
    /// datagram (`udp://`), or by a framer that does not keep it
    /// ([`Framer::mark`](crate::Framer::mark)).
    #[must_use]
    pub const fn marking(&self) -> Option<Marking> {
        self.marking
    }

    /// Takes note of how the packet was marked. Framers of Messages use it.
    #[inline]
    pub const fn set_marking(&mut self, marking: Marking) {
        self.marking = Some(marking);
    }

    /// What was asked for it beyond its content; `None` if nothing was.
    #[inline]
    #[must_use]
    pub fn properties(&self) -> Option<&Properties> {
        self.properties.as_deref()
    }

    /// The Message with `properties` in place of its own.
    #[must_use]
    pub fn with_properties(self, properties: Properties) -> Self {
        Self { properties: Some(Box::new(properties)), ..self }
    }

    fn ask(mut self, ask: impl FnOnce(Properties) -> Properties) -> Self {
        let properties = self.properties.take().map_or_else(Properties::default, |boxed| *boxed);
        self.with_properties(ask(properties))
    }

    /// See [`Properties::niceness`].
    #[must_use]
    pub fn niceness(self, niceness: u32) -> Self {
        self.ask(|properties| properties.niceness(niceness))
    }

    /// See [`Properties::lifetime`].
    #[must_use]
    pub fn lifetime(self, lifetime: Duration) -> Self {
        self.ask(|properties| properties.lifetime(lifetime))
    }

    /// See [`Properties::after`].
    #[must_use]
    pub fn after<M: Into<MessageId>>(self, antecedents: impl IntoIterator<Item = M>) -> Self {
        self.ask(|properties| properties.after(antecedents))
    }

    /// See [`Properties::idempotent`].
    #[must_use]
    pub fn idempotent(self) -> Self {
        self.ask(Properties::idempotent)
    }

    /// See [`Properties::immediate`].
    #[must_use]
    pub fn immediate(self) -> Self {
        self.ask(Properties::immediate)
    }

    /// See [`Properties::unreliable`].
    #[must_use]
    pub fn unreliable(self) -> Self {
        self.ask(Properties::unreliable)
    }

    /// See [`Properties::unordered`].
    #[must_use]
    pub fn unordered(self) -> Self {
        self.ask(Properties::unordered)
    }

    /// The content as text.
    ///
    /// # Errors
    /// If the content is not UTF-8.
    pub fn text(&self) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(self.bytes())
    }

    /// The content as owned bytes: no copy if the Message owns it or its buffer can be leased.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self.content {
            Content::Lent(bytes) => lending::own(bytes),
            Content::Owned(bytes) => bytes,
        }
    }

    /// The owned content, if the Message owns it.
    pub(crate) const fn owned(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Lent(_) => None,
            Content::Owned(bytes) => Some(bytes),
        }
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.bytes()[..self.len().min(32)];
        f.debug_struct("Message")
            .field("len", &self.len())
            .field("complete", &self.complete)
            .field("start", &format_args!("{}", shown.escape_ascii()))
            .finish()
    }
}

impl PartialEq for Message<'_> {
    fn eq(&self, other: &Self) -> bool {
        // Properties are wishes of the sender, a marking is the path's: neither is content.
        self.complete == other.complete && self.bytes() == other.bytes()
    }
}

impl Eq for Message<'_> {}

impl Clone for Message<'static> {
    fn clone(&self) -> Self {
        let content = match &self.content {
            Content::Lent(bytes) => Content::Lent(bytes),
            Content::Owned(bytes) => Content::Owned(bytes.clone()),
        };
        let (complete, marking) = (self.complete, self.marking);
        Self { content, complete, marking, properties: self.properties.clone() }
    }
}

impl<'a> From<&'a str> for Message<'a> {
    fn from(text: &'a str) -> Self {
        Self::lent(text.as_bytes())
    }
}

impl<'a> From<&'a [u8]> for Message<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::lent(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Message<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::lent(bytes)
    }
}

impl From<Bytes> for Message<'_> {
    fn from(bytes: Bytes) -> Self {
        Self { content: Content::Owned(bytes), complete: true, marking: None, properties: None }
    }
}

impl From<Vec<u8>> for Message<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Message<'_> {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

/// What can leave its core: the owned form of a value that may lend a receive buffer.
pub trait Detach {
    /// The owned form.
    type Owned: Send + 'static;

    /// Makes the value owned; content that a buffer can be leased for is not copied.
    fn detach(self) -> Self::Owned;
}

impl Detach for Message<'_> {
    type Owned = Message<'static>;

    fn detach(self) -> Message<'static> {
        let Self { content, complete, marking, properties } = self;
        let bytes = match content {
            Content::Lent(bytes) => lending::own(bytes),
            Content::Owned(bytes) => bytes,
        };
        Message { content: Content::Owned(bytes), complete, marking, properties }
    }
}
