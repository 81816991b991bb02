//! Codec: any Encoder and Decoder of `tokio_util::codec` as a framer.
//!
//! Below: the codec, which wants a buffer of its own. Absent: any knowledge of what it does. Bound:
//! the codec's own; besides, `Limits::unmeasured_message_bytes` bounds what it leaves unfinished.

use std::fmt::Display;
use std::marker::PhantomData;

use bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

use super::value::{Decoded, Value};
use super::{FrameError, Framer, Output};

/// A framer made of a codec `C`: it sends values of type `S` and receives the codec's items.
///
/// One copy is the price: a codec takes its bytes from a `BytesMut`, so what is received is copied
/// there once. What is sent is copied once below 8 KiB and not at all above.
///
/// What a codec remembers from Message to Message cannot be known, so a Carrier keeps the order of
/// Messages and does not connect again by itself, unless the codec is declared
/// [`independent`](Self::independent). An item must have taken at least one byte of its own; a
/// codec that makes one of nothing ends the Carrier.
///
/// ```
/// use postring::{Codec, Framer, Output};
/// use tokio_util::codec::LinesCodec;
/// let mut framer = Codec::<_, String>::new(LinesCodec::new_with_max_length(100)).independent();
/// let (taken, line) = framer.decode(b"Hello!\nhow are")?.expect("a whole line");
/// assert_eq!((taken, line.as_str()), (7, "Hello!"));
/// let mut output = Output::default();
/// framer.encode("Hello!".to_owned().into(), &mut output)?;
/// assert_eq!(output.to_vec(), b"Hello!\n");
/// # Ok::<(), postring::FrameError>(())
/// ```
pub struct Codec<C, S, const INDEPENDENT: bool = false> {
    codec: C,
    /// Bytes at the start of the input that the codec has taken, of an item that is not there yet.
    taken: usize,
    /// The bytes of the input behind those, as far as they were seen.
    waiting: BytesMut,
    encoded: BytesMut,
    sends: PhantomData<fn(S)>,
}

impl<C, S> Codec<C, S> {
    /// A framer made of `codec`.
    #[must_use]
    pub fn new(codec: C) -> Self {
        Self {
            codec,
            taken: 0,
            waiting: BytesMut::new(),
            encoded: BytesMut::new(),
            sends: PhantomData,
        }
    }

    /// Declares that what the codec makes of a Message depends on no other Message, in either
    /// direction: Messages may overtake each other or be left out, and a Carrier that lost its
    /// connection may go on with a fresh clone of the codec.
    #[must_use]
    pub fn independent(self) -> Codec<C, S, true> {
        let Self { codec, taken, waiting, encoded, sends } = self;
        Codec { codec, taken, waiting, encoded, sends }
    }
}

impl<C: Clone, S, const INDEPENDENT: bool> Clone for Codec<C, S, INDEPENDENT> {
    fn clone(&self) -> Self {
        Self {
            codec: self.codec.clone(),
            taken: self.taken,
            waiting: self.waiting.clone(),
            encoded: BytesMut::new(),
            sends: PhantomData,
        }
    }
}

impl<C: std::fmt::Debug, S, const INDEPENDENT: bool> std::fmt::Debug for Codec<C, S, INDEPENDENT> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Codec").field("codec", &self.codec).finish_non_exhaustive()
    }
}

impl<C, S, const INDEPENDENT: bool> Codec<C, S, INDEPENDENT>
where
    C: Decoder<Error: Display>,
{
    /// Asks the codec for an item and counts what it took.
    fn ask(
        &mut self,
        decode: impl FnOnce(&mut C, &mut BytesMut) -> Result<Option<C::Item>, C::Error>,
    ) -> Result<Option<C::Item>, FrameError> {
        let before = self.waiting.len();
        let item = decode(&mut self.codec, &mut self.waiting).map_err(malformed)?;
        let Some(taken) = before.checked_sub(self.waiting.len()) else {
            return Err(malformed("the codec added bytes to what it was to read"));
        };
        self.taken += taken;
        Ok(item)
    }
}

impl<C, S, const INDEPENDENT: bool> Framer for Codec<C, S, INDEPENDENT>
where
    C: Decoder<Error: Display, Item: Send + 'static> + Clone + Send + 'static,
    C: Encoder<S, Error: Display>,
    S: Send + 'static,
{
    type Got = C::Item;
    type In<'a> = Decoded<C::Item>;
    type Out<'a> = Value<S>;

    fn decode(&mut self, input: &[u8]) -> Result<Option<(usize, Decoded<C::Item>)>, FrameError> {
        let seen = self.taken + self.waiting.len();
        self.waiting.extend_from_slice(input.get(seen..).unwrap_or_default());
        let Some(item) = self.ask(C::decode)? else { return Ok(None) };
        match std::mem::take(&mut self.taken) {
            0 => Err(malformed("the codec made an item of no bytes")),
            taken => Ok(Some((taken, Decoded::new(item)))),
        }
    }

    fn lend(item: C::Item) -> Decoded<C::Item> {
        Decoded::new(item)
    }

    const STANDS_ALONE: bool = INDEPENDENT;
    const RESTARTABLE: bool = INDEPENDENT;

    fn encode(&mut self, value: Value<S>, into: &mut Output) -> Result<(), FrameError> {
        if let Err(error) = self.codec.encode(value.0, &mut self.encoded) {
            self.encoded.clear();
            return Err(malformed(error));
        }
        into.put_bytes(self.encoded.split().freeze());
        Ok(())
    }

    fn end(&mut self, rest: usize) -> Result<Option<Decoded<C::Item>>, FrameError> {
        if rest != self.taken + self.waiting.len() {
            return Err(FrameError::Truncated { len: rest });
        }
        let last = self.ask(C::decode_eof)?;
        if last.is_some() && self.ask(C::decode_eof)?.is_some() {
            return Err(malformed("the codec has more than one item left at the end"));
        }
        match (last, self.waiting.len()) {
            (None, 0) if self.taken > 0 => Err(FrameError::Truncated { len: rest }),
            (last, 0) => Ok(last.map(Decoded::new)),
            _ => Err(FrameError::Truncated { len: rest }),
        }
    }
}

fn malformed(error: impl Display) -> FrameError {
    FrameError::Malformed(error.to_string())
}
