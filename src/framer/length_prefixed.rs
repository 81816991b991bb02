//! LengthPrefixed: a length, then that many bytes.
//!
//! Absent: no buffering: it only looks at the bytes it is given. Bound: `len_max`, checked on
//! both ways before a byte of the payload is waited for.

use super::{FrameError, Framer, Output};
use crate::message::{Message, Properties};

/// Frames of a length and that many payload bytes: by default four bytes, big-endian, at most
/// 16 MiB (draft §4.3: message limits are errors, never silent cuts).
///
/// ```
/// use postring::{Endianness, LengthPrefixed, Width};
/// let framer = LengthPrefixed::default()
///     .width(Width::Two)
///     .endianness(Endianness::Little)
///     .len_max(1400);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct LengthPrefixed {
    width: Width,
    endianness: Endianness,
    len_max: usize,
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
        Self { width: Width::Four, endianness: Endianness::Big, len_max: LEN_MAX_DEFAULT }
    }
}

impl LengthPrefixed {
    /// Sets the width of the length field; default [`Width::Four`].
    #[must_use]
    pub const fn width(self, width: Width) -> Self {
        Self { width, ..self }
    }

    /// Sets the order of the length field's bytes; default [`Endianness::Big`].
    #[must_use]
    pub const fn endianness(self, endianness: Endianness) -> Self {
        Self { endianness, ..self }
    }

    /// Sets the longest payload, in bytes, that is sent or received; default 16 MiB. The length
    /// field counts towards what a `usize` can say: the last 8 lengths below `usize::MAX` are out
    /// of reach.
    #[must_use]
    pub const fn len_max(self, len_max: usize) -> Self {
        // A whole frame must have a length too, or `needs` would overflow on a hostile header.
        let reachable = usize::MAX - 8;
        Self { len_max: if len_max < reachable { len_max } else { reachable }, ..self }
    }

    const fn header_len(self) -> usize {
        match self.width {
            Width::One => 1,
            Width::Two => 2,
            Width::Four => 4,
            Width::Eight => 8,
        }
    }

    /// The payload length that the header says, or `None` if the header is not all there.
    #[inline]
    fn payload_len(self, input: &[u8]) -> Option<u64> {
        if (self.width, self.endianness) == (Width::Four, Endianness::Big) {
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
    fn checked(self, len: u64) -> Result<usize, FrameError> {
        match usize::try_from(len) {
            Ok(len) if len <= self.len_max => Ok(len),
            _ => Err(FrameError::TooLong {
                len: usize::try_from(len).unwrap_or(usize::MAX),
                len_max: self.len_max,
            }),
        }
    }

    const fn field_max(self) -> u64 {
        match self.width {
            Width::One => u8::MAX as u64,
            Width::Two => u16::MAX as u64,
            Width::Four => u32::MAX as u64,
            Width::Eight => u64::MAX,
        }
    }
}

impl Framer for LengthPrefixed {
    type Got = Message<'static>;
    type In<'a> = Message<'a>;
    type Out<'a> = Message<'a>;

    #[inline]
    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(usize, Message<'a>)>, FrameError> {
        let Some(len) = self.payload_len(input) else { return Ok(None) };
        let len = self.checked(len)?;
        let header = self.header_len();
        let payload = input[header..].get(..len);
        Ok(payload.map(|payload| (header + len, Message::lent(payload))))
    }

    fn lend(message: Message<'static>) -> Message<'static> {
        message
    }

    const RESTARTABLE: bool = true;

    #[inline]
    fn properties<'a>(message: &'a Message<'_>) -> Option<&'a Properties> {
        message.properties()
    }

    #[inline]
    fn encode(&mut self, message: Message<'_>, into: &mut Output) -> Result<(), FrameError> {
        let len = message.len() as u64;
        self.checked(len)?;
        if len > self.field_max() {
            let len_max = usize::try_from(self.field_max()).unwrap_or(usize::MAX);
            return Err(FrameError::TooLong { len: message.len(), len_max });
        }
        let header = self.header_len();
        match self.endianness {
            // The usual one, whose length the compiler knows.
            Endianness::Big if header == 4 => into.put(&(len as u32).to_be_bytes()),
            Endianness::Big => into.put(&len.to_be_bytes()[8 - header..]),
            Endianness::Little => into.put(&len.to_le_bytes()[..header]),
        }
        into.put_message(&message);
        Ok(())
    }

    fn needs(&self, input: &[u8]) -> Option<usize> {
        let len = self.checked(self.payload_len(input)?).ok()?;
        Some(self.header_len() + len)
    }
}
