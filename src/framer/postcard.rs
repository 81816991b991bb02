//! Postcard: values of serde types in a compact binary form, each behind its length.
//!
//! Below: `length_prefixed` says where a value ends, the crate `postcard` reads and writes it (its
//! wire format is written down and stable). Absent: values that lend the receive buffer; any
//! description of the types on the wire: both sides must agree. Bound: the length limit.

use std::cell::Cell;
use std::marker::PhantomData;

use ::postcard::Deserializer;
use ::postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::length_prefixed::LengthPrefixed;
use super::limited::Limited;
use super::shallow::{DEPTH_MAX, Shallow};
use super::value::{Decoded, Value};
use super::{FrameError, Framer, Output};

/// Sends values of type `S` and receives values of type `R` as [postcard], each behind a length of
/// four bytes, big-endian, and at most 1 MiB long.
///
/// A peer chooses the lengths inside a value, too. They cost it as many bytes, except where the
/// elements have none: do not receive sequences of `()`. It chooses how deep a recursive type is
/// nested as well: 128 levels at most, where what is inside of something is a level.
///
/// ```
/// use postring::{Framer, Output, Postcard};
///
/// #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
/// struct Reading { sensor: u16, celsius: f32 }
///
/// let mut framer = Postcard::<Reading>::default();
/// let mut output = Output::default();
/// framer.encode(Reading { sensor: 7, celsius: 21.5 }.into(), &mut output)?;
/// assert_eq!(output.len(), 4 + 1 + 4);
/// let bytes = output.to_vec();
/// let (_, reading) = framer.decode(&bytes)?.expect("a whole value");
/// assert_eq!(*reading, Reading { sensor: 7, celsius: 21.5 });
/// # Ok::<(), postring::FrameError>(())
/// ```
///
/// [postcard]: https://postcard.jamesmunns.com/wire-format
pub struct Postcard<S, R = S> {
    frames: LengthPrefixed,
    types: PhantomData<fn(S) -> R>,
}

const LEN_MAX_DEFAULT: usize = 1 << 20;

impl<S, R> Default for Postcard<S, R> {
    fn default() -> Self {
        Self::framed_by(LengthPrefixed::default().len_max(LEN_MAX_DEFAULT))
    }
}

impl<S, R> Clone for Postcard<S, R> {
    fn clone(&self) -> Self {
        Self { frames: self.frames.clone(), ..*self }
    }
}

impl<S, R> std::fmt::Debug for Postcard<S, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postcard").field("frames", &self.frames).finish()
    }
}

impl<S, R> Postcard<S, R> {
    /// Values behind a length as `frames` describes it: its width, endianness and limit.
    #[must_use]
    pub const fn framed_by(frames: LengthPrefixed) -> Self {
        Self { frames, types: PhantomData }
    }
}

impl<S, R> Framer for Postcard<S, R>
where
    S: Serialize + Send + 'static,
    R: DeserializeOwned + Send + 'static,
{
    type Got = R;
    type In<'a> = Decoded<R>;
    type Out<'a> = Value<S>;

    fn decode(&mut self, input: &[u8]) -> Result<Option<(usize, Decoded<R>)>, FrameError> {
        let Some((taken, frame)) = self.frames.decode(input)? else { return Ok(None) };
        let wrong = |what: &dyn std::fmt::Display| {
            let wanted = std::any::type_name::<R>();
            FrameError::Malformed(format!("a frame is no postcard of {wanted}: {what}"))
        };
        let was_too_deep = Cell::new(false);
        let mut bytes = Deserializer::from_bytes(frame.bytes());
        let value = R::deserialize(Shallow::new(&mut bytes, &was_too_deep));
        match (value, bytes.finalize()) {
            (Ok(value), Ok([])) => Ok(Some((taken, Decoded::new(value)))),
            (Ok(_), Ok(rest)) => Err(wrong(&format_args!("{} bytes too many", rest.len()))),
            (Err(_), _) if was_too_deep.get() => {
                Err(wrong(&format_args!("it is nested deeper than {DEPTH_MAX} levels")))
            }
            (Err(error), _) | (Ok(_), Err(error)) => Err(wrong(&error)),
        }
    }

    fn lend(value: R) -> Decoded<R> {
        Decoded::new(value)
    }

    const RESTARTABLE: bool = true;

    fn encode(&mut self, value: Value<S>, into: &mut Output) -> Result<(), FrameError> {
        let header_len = self.frames.header_len();
        into.put(&[0; 8][..header_len]);
        let storage = Storage(Limited::new(into, self.frames.payload_max()));
        let len = ::postcard::serialize_with_flavor(&value.0, storage).map_err(|error| {
            let given = std::any::type_name::<S>();
            FrameError::Malformed(format!("{given} cannot be postcard: {error}"))
        })??;
        let header = self.frames.header(len as u64)?;
        into.put_over(header_len + len, &header[..header_len]);
        Ok(())
    }

    fn needs(&self, input: &[u8]) -> Option<usize> {
        self.frames.needs(input)
    }
}

/// What the serialiser writes to; its end is the length.
struct Storage<'o>(Limited<'o>);

impl Flavor for Storage<'_> {
    type Output = Result<usize, FrameError>;

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> ::postcard::Result<()> {
        self.0.put(bytes);
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, byte: u8) -> ::postcard::Result<()> {
        self.0.put(&[byte]);
        Ok(())
    }

    fn finalize(self) -> ::postcard::Result<Self::Output> {
        Ok(self.0.finish())
    }
}
