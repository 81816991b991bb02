//! LengthPrefixed: a length, then that many bytes.
//!
//! Absent: no buffering: it only looks at the bytes it is given; of a Message in parts it keeps how
//! much is still to come. Bound: `len_max`, checked on both ways before a byte of the payload is
//! waited for.

use super::{FrameError, Framer, Output};
use crate::message::{Marking, Message, Properties};

/// Frames of a length and that many payload bytes: by default four bytes, big-endian, at most
/// 16 MiB (draft §4.3: message limits are errors, never silent cuts).
///
/// Messages go and come in parts, too: the length of the whole is stated with the first part
/// ([`Message::partial_of`](crate::Message::partial_of)).
///
/// ```
/// use postring::{Endianness, LengthPrefixed, Width};
/// let framer = LengthPrefixed::default()
///     .width(Width::Two)
///     .endianness(Endianness::Little)
///     .len_max(1400);
/// ```
#[derive(Debug, Clone)]
pub struct LengthPrefixed {
    width: Width,
    endianness: Endianness,
    len_max: usize,
    /// While a Message is under way in parts; most connections never have one.
    parts: Option<Box<Parts>>,
}

/// How far Messages in parts have come, each way.
#[derive(Debug, Clone, Default)]
struct Parts {
    receiving: Begun,
    /// Content bytes still to be sent of the Message begun in parts; it is over with its last part
    /// only, which may be empty.
    sending: Option<u64>,
}

/// How far a Message has come that is received in parts.
#[derive(Debug, Clone, Copy, Default)]
struct Begun {
    /// Bytes of its content.
    len: usize,
    /// Bytes of its content still to come; 0 if no Message is begun.
    rest: usize,
}

/// How many bytes the length field has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// One byte: payloads up to 255 bytes.
    One,
    /// Two bytes: payloads up to 64 KiB less one.
    Two,
    /// Four bytes: payloads up to 4 GiB less one.
    Four,
    /// Eight bytes.
    Eight,
}

/// The order of the bytes of the length field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endianness {
    /// Most significant byte first (network order).
    Big,
    /// Least significant byte first.
    Little,
}

const LEN_MAX_DEFAULT: usize = 16 << 20;

impl Default for LengthPrefixed {
    fn default() -> Self {
        Self {
            width: Width::Four,
            endianness: Endianness::Big,
            len_max: LEN_MAX_DEFAULT,
            parts: None,
        }
    }
}

impl LengthPrefixed {
    /// Sets the width of the length field; default [`Width::Four`].
    #[must_use]
    pub const fn width(mut self, width: Width) -> Self {
        self.width = width;
        self
    }

    /// Sets the order of the length field's bytes; default [`Endianness::Big`].
    #[must_use]
    pub const fn endianness(mut self, endianness: Endianness) -> Self {
        self.endianness = endianness;
        self
    }

    /// Sets the longest payload, in bytes, that is sent or received; default 16 MiB. The length
    /// field counts towards what a `usize` can say: the last 8 lengths below `usize::MAX` are out
    /// of reach.
    #[must_use]
    pub const fn len_max(mut self, len_max: usize) -> Self {
        // A whole frame must have a length too, or `needs` would overflow on a hostile header.
        let reachable = usize::MAX - 8;
        self.len_max = if len_max < reachable { len_max } else { reachable };
        self
    }

    pub(super) const fn header_len(&self) -> usize {
        match self.width {
            Width::One => 1,
            Width::Two => 2,
            Width::Four => 4,
            Width::Eight => 8,
        }
    }

    #[inline]
    fn is_usual(&self) -> bool {
        (self.width, self.endianness) == (Width::Four, Endianness::Big)
    }

    /// The payload length that the header says, or `None` if the header is not all there.
    #[inline]
    fn payload_len(&self, input: &[u8]) -> Option<u64> {
        if self.is_usual() {
            return input.first_chunk().map(|field| u64::from(u32::from_be_bytes(*field)));
        }
        let field = input.get(..self.header_len())?;
        let mut value = [0; 8];
        Some(match self.endianness {
            Endianness::Big => {
                value[8 - field.len()..].copy_from_slice(field);
                u64::from_be_bytes(value)
            }
            Endianness::Little => {
                value[..field.len()].copy_from_slice(field);
                u64::from_le_bytes(value)
            }
        })
    }

    #[inline]
    fn checked(&self, len: u64) -> Result<usize, FrameError> {
        match usize::try_from(len) {
            Ok(len) if len <= self.len_max => Ok(len),
            _ => Err(too_long(len, self.len_max as u64)),
        }
    }

    const fn field_max(&self) -> u64 {
        match self.width {
            Width::One => u8::MAX as u64,
            Width::Two => u16::MAX as u64,
            Width::Four => u32::MAX as u64,
            Width::Eight => u64::MAX,
        }
    }

    /// The field before `len` bytes of payload: its bytes are the first `header_len`.
    #[inline]
    pub(super) fn header(&self, len: u64) -> Result<[u8; 8], FrameError> {
        self.checked(len)?;
        if len > self.field_max() {
            return Err(too_long(len, self.field_max()));
        }
        let unused_bits = 8 * (8 - self.header_len() as u32);
        Ok(match self.endianness {
            Endianness::Big => (len << unused_bits).to_be_bytes(),
            Endianness::Little => len.to_le_bytes(),
        })
    }

    /// The longest payload that both the limit and the field allow.
    #[cfg(feature = "postcard")]
    pub(super) fn payload_max(&self) -> usize {
        usize::try_from(self.field_max()).unwrap_or(usize::MAX).min(self.len_max)
    }

    #[inline]
    fn receiving(&self) -> Begun {
        self.parts.as_deref().map_or_else(Begun::default, |parts| parts.receiving)
    }

    #[inline]
    fn sending(&self) -> Option<u64> {
        self.parts.as_deref().and_then(|parts| parts.sending)
    }

    /// Remembers what is under way; nothing, if nothing is.
    fn keep(&mut self, receiving: Begun, sending: Option<u64>) {
        if receiving.rest == 0 && sending.is_none() {
            self.parts = None;
        } else {
            *self.parts.get_or_insert_default().as_mut() = Parts { receiving, sending };
        }
    }

    /// How many bytes of content the next part must have at least.
    fn part_min(rest: usize, min: usize, max: usize) -> usize {
        min.clamp(1, max.max(1)).min(rest)
    }

    /// The header's length and the length and rest of the Message that `input` begins or goes on
    /// with.
    fn begun(&self, input: &[u8]) -> Result<Option<(usize, Begun)>, FrameError> {
        let receiving = self.receiving();
        if receiving.rest > 0 {
            return Ok(Some((0, receiving)));
        }
        let Some(len) = self.payload_len(input) else { return Ok(None) };
        let len = self.checked(len)?;
        Ok(Some((self.header_len(), Begun { len, rest: len })))
    }

    /// Encodes what is no whole Message behind four bytes of length, most significant first.
    #[inline(never)]
    fn encode_unusual(
        &mut self,
        message: &Message<'_>,
        into: &mut Output,
    ) -> Result<(), FrameError> {
        if !message.is_complete() || self.sending().is_some() {
            return self.encode_part(message, into);
        }
        let len = message.len() as u64;
        if let Some(total) = stated(message).filter(|total| *total != len) {
            let wrong = format!("a whole message of {len} bytes was stated to have {total}");
            return Err(malformed(wrong));
        }
        let header = self.header(len)?;
        into.put(&header[..self.header_len()]);
        into.put_message(message);
        Ok(())
    }

    /// Encodes a part of a Message: of one just begun, or of the one that is being sent.
    #[cold]
    fn encode_part(&mut self, part: &Message<'_>, into: &mut Output) -> Result<(), FrameError> {
        let total = stated(part);
        let (rest, begins) = match (self.sending(), total) {
            (Some(_), Some(_)) => return Err(malformed("a part of another message was begun")),
            (Some(rest), None) => (rest, false),
            (None, Some(total)) => (total, true),
            (None, None) => {
                let advice = "its length stands first, so the first part must state it: partial_of";
                return Err(malformed(format!("a message in parts without a length; {advice}")));
            }
        };
        let len = part.len() as u64;
        if len > rest || (part.is_complete() && len < rest) {
            let what = if len > rest { "goes beyond" } else { "ends before" };
            let wrong = format!("a part of {len} bytes {what} the {rest} that were stated to come");
            return Err(malformed(wrong));
        }
        if begins {
            let header = self.header(rest)?;
            into.put(&header[..self.header_len()]);
        }
        into.put_message(part);
        let sending = (!part.is_complete()).then_some(rest - len);
        self.keep(self.receiving(), sending);
        Ok(())
    }
}

/// The length that the whole Message was stated to have.
fn stated(message: &Message<'_>) -> Option<u64> {
    message.properties().and_then(Properties::total_len_if_set)
}

#[cold]
fn too_long(len: u64, len_max: u64) -> FrameError {
    let within = |len| usize::try_from(len).unwrap_or(usize::MAX);
    FrameError::TooLong { len: within(len), len_max: within(len_max) }
}

fn malformed(wrong: impl Into<String>) -> FrameError {
    FrameError::Malformed(wrong.into())
}

impl Framer for LengthPrefixed {
    type Got = Message<'static>;
    type In<'a> = Message<'a>;
    type Out<'a> = Message<'a>;

    #[inline]
    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(usize, Message<'a>)>, FrameError> {
        if self.receiving().rest > 0 {
            return self.decode_part(input, usize::MAX, usize::MAX);
        }
        let Some(len) = self.payload_len(input) else { return Ok(None) };
        let len = self.checked(len)?;
        let header = self.header_len();
        let payload = input[header..].get(..len);
        Ok(payload.map(|payload| (header + len, Message::lent(payload))))
    }

    fn mark(message: &mut Message<'_>, marking: Marking) {
        message.set_marking(marking);
    }

    fn lend(message: Message<'static>) -> Message<'static> {
        message
    }

    const RESTARTABLE: bool = true;

    #[inline]
    fn properties<'a>(message: &'a Message<'_>) -> Option<&'a Properties> {
        message.properties()
    }

    #[inline(always)]
    fn encode(&mut self, message: Message<'_>, into: &mut Output) -> Result<(), FrameError> {
        let whole = message.is_complete() && self.sending().is_none();
        let usual = self.is_usual() && whole && stated(&message).is_none();
        if let (true, Ok(len)) = (usual, u32::try_from(message.len()))
            && message.len() <= self.len_max
        {
            into.put_framed(len.to_be_bytes(), &message);
            return Ok(());
        }
        self.encode_unusual(&message, into)
    }

    fn needs(&self, input: &[u8]) -> Option<usize> {
        let (header, begun) = self.begun(input).ok()??;
        Some(header + begun.rest)
    }

    const PARTS: bool = true;

    fn decode_part<'a>(
        &mut self,
        input: &'a [u8],
        min: usize,
        max: usize,
    ) -> Result<Option<(usize, Message<'a>)>, FrameError> {
        let Some((header, Begun { len, rest })) = self.begun(input)? else { return Ok(None) };
        let content = &input[header..];
        if content.len() < Self::part_min(rest, min, max) {
            return Ok(None);
        }
        let taken = content.len().min(max.max(1)).min(rest);
        self.keep(Begun { len, rest: rest - taken }, self.sending());
        let part = Message::lent(&content[..taken]);
        Ok(Some((header + taken, if taken < rest { part.partial() } else { part })))
    }

    fn is_complete(message: &Message<'_>) -> bool {
        message.is_complete()
    }

    fn cut(message: Message<'static>, max: usize) -> (Message<'static>, Option<Message<'static>>) {
        message.cut(max)
    }

    fn needs_part(&self, input: &[u8], min: usize, max: usize) -> Option<usize> {
        let (header, begun) = self.begun(input).ok()??;
        Some(header + Self::part_min(begun.rest, min, max))
    }

    fn is_within_message(&self) -> bool {
        self.sending().is_some()
    }

    fn end(&mut self, rest: usize) -> Result<Option<Message<'static>>, FrameError> {
        let Begun { len: whole, rest: missing } = self.receiving();
        let begun = if missing > 0 { whole - missing } else { 0 };
        match rest + begun {
            0 => Ok(None),
            len => Err(FrameError::Truncated { len }),
        }
    }
}
