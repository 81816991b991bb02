//! Json: values of serde types, one JSON text a line.
//!
//! Below: `newline` finds the lines, `serde_json` reads and writes them. Absent: values that lend
//! the receive buffer; JSON texts over several lines. Bound: `len_max`, on both ways; texts nest at
//! most as deep as `serde_json` allows (128).

use std::io;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::limited::Limited;
use super::newline::Newline;
use super::value::{Decoded, Value};
use super::{FrameError, Framer, Output};

/// Newline-delimited JSON: sends values of type `S`, receives values of type `R`, each on a line of
/// at most 1 MiB. A line that is no `R` ends the Carrier; so does an empty one.
///
/// ```
/// use postring::{Framer, Json, Output};
///
/// #[derive(serde::Serialize)]
/// struct Question { celsius: f32 }
///
/// #[derive(serde::Deserialize)]
/// struct Answer { fahrenheit: f32 }
///
/// // The client's side; the server's is `Json<Answer, Question>`.
/// let mut framer = Json::<Question, Answer>::default();
/// let mut output = Output::default();
/// framer.encode(Question { celsius: 100.0 }.into(), &mut output)?;
/// assert_eq!(output.to_vec(), b"{\"celsius\":100.0}\n");
/// let (_, answer) = framer.decode(b"{\"fahrenheit\":212}\n")?.expect("a whole line");
/// assert_eq!(answer.fahrenheit, 212.0);
/// # Ok::<(), postring::FrameError>(())
/// ```
pub struct Json<S, R = S> {
    newline: Newline,
    len_max: usize,
    types: PhantomData<fn(S) -> R>,
}

const LEN_MAX_DEFAULT: usize = 1 << 20;

impl<S, R> Default for Json<S, R> {
    fn default() -> Self {
        Self { newline: Newline::default(), len_max: LEN_MAX_DEFAULT, types: PhantomData }
    }
}

impl<S, R> Clone for Json<S, R> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<S, R> std::fmt::Debug for Json<S, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Json").field("len_max", &self.len_max).finish_non_exhaustive()
    }
}

impl<S, R> Json<S, R> {
    /// Sets the longest text, in bytes without the line's ending, that is sent or received; default
    /// 1 MiB.
    #[must_use]
    pub fn len_max(self, len_max: usize) -> Self {
        Self { len_max, ..self }
    }
}

impl<S, R> Framer for Json<S, R>
where
    S: Serialize + Send + 'static,
    R: DeserializeOwned + Send + 'static,
{
    type Got = R;
    type In<'a> = Decoded<R>;
    type Out<'a> = Value<S>;

    fn decode(&mut self, input: &[u8]) -> Result<Option<(usize, Decoded<R>)>, FrameError> {
        let Some((taken, line)) = self.newline.find(input, self.len_max)? else {
            return Ok(None);
        };
        match serde_json::from_slice(line) {
            Ok(value) => Ok(Some((taken, Decoded::new(value)))),
            Err(error) => {
                let wanted = std::any::type_name::<R>();
                Err(FrameError::Malformed(format!("a line is no JSON of {wanted}: {error}")))
            }
        }
    }

    fn lend(value: R) -> Decoded<R> {
        Decoded::new(value)
    }

    const RESTARTABLE: bool = true;

    fn encode(&mut self, value: Value<S>, into: &mut Output) -> Result<(), FrameError> {
        let mut line = OneLine { text: Limited::new(into, self.len_max), is_broken: false };
        if let Err(error) = serde_json::to_writer(&mut line, &value.0) {
            let given = std::any::type_name::<S>();
            return Err(FrameError::Malformed(format!("{given} cannot be JSON: {error}")));
        }
        if line.is_broken {
            // Only raw JSON that the application puts in can do that.
            return Err(FrameError::Malformed("a JSON text of several lines".into()));
        }
        line.text.finish()?;
        into.put(b"\n");
        Ok(())
    }
}

/// A text that must not contain a line feed.
struct OneLine<'o> {
    text: Limited<'o>,
    is_broken: bool,
}

impl io::Write for OneLine<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.is_broken |= memchr::memchr(b'\n', bytes).is_some();
        self.text.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_several_lines_is_noticed() {
        let mut output = Output::default();
        let mut line = OneLine { text: Limited::new(&mut output, 100), is_broken: false };
        io::Write::write_all(&mut line, b"[1,").expect("it takes everything");
        assert!(!line.is_broken);
        io::Write::write_all(&mut line, b"\n2]").expect("it takes everything");
        io::Write::write_all(&mut line, b"more").expect("it takes everything");
        assert!(line.is_broken);
    }
}
