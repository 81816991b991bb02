//! Lines: text, one line a Message.
//!
//! Below: `newline` finds the endings. Absent: other encodings than UTF-8; lines without an ending
//! (an end of the stream within a line is an error, since the rest of the line may be missing).
//! Bound: `len_max`, on both ways.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use super::newline::Newline;
use super::{FrameError, Framer, Output};
use crate::message::{Detach, Message, Properties};

/// Lines of UTF-8 text, ended by LF or CRLF; at most 64 KiB each without the ending.
///
/// Both endings are understood; LF is sent unless [`crlf`](Self::crlf) is asked for. Handlers get a
/// [`Line`], Carriers a `String`; anything that makes a [`Message`] is sent, if it is one line.
///
/// ```
/// use postring::{Framer, Lines, Output};
/// let mut lines = Lines::default().len_max(1_000);
/// let (taken, line) = lines.decode(b"Hello!\r\nhow are")?.expect("a whole line");
/// assert_eq!((taken, &*line), (8, "Hello!"));
///
/// let mut output = Output::default();
/// lines.encode("Hello!".into(), &mut output)?;
/// assert_eq!(output.to_vec(), b"Hello!\n");
/// assert!(lines.encode("two\nlines".into(), &mut output).is_err());
/// # Ok::<(), postring::FrameError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Lines {
    newline: Newline,
    len_max: usize,
    crlf: bool,
}

const LEN_MAX_DEFAULT: usize = 64 << 10;

impl Default for Lines {
    fn default() -> Self {
        Self { newline: Newline::default(), len_max: LEN_MAX_DEFAULT, crlf: false }
    }
}

impl Lines {
    /// Sets the longest line, in bytes without its ending, that is sent or received; default
    /// 64 KiB.
    #[must_use]
    pub const fn len_max(self, len_max: usize) -> Self {
        Self { len_max, ..self }
    }

    /// Ends the lines that are sent with CRLF, as SMTP and its kin want it.
    #[must_use]
    pub const fn crlf(self) -> Self {
        Self { crlf: true, ..self }
    }

    fn check(&self, line: &[u8]) -> Result<(), FrameError> {
        if line.len() > self.len_max {
            return Err(FrameError::TooLong { len: line.len(), len_max: self.len_max });
        }
        let wrong = if memchr::memchr(b'\n', line).is_some() {
            "a line cannot contain a line feed; send its lines one by one"
        } else if line.ends_with(b"\r") {
            "a line cannot end with a carriage return: the peer would take it for an ending"
        } else if std::str::from_utf8(line).is_err() {
            "a line must be UTF-8 text"
        } else {
            return Ok(());
        };
        Err(FrameError::Malformed(wrong.into()))
    }
}

impl Framer for Lines {
    type Got = String;
    type In<'a> = Line<'a>;
    type Out<'a> = Message<'a>;

    #[inline]
    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(usize, Line<'a>)>, FrameError> {
        let Some((taken, line)) = self.newline.find(input, self.len_max)? else {
            return Ok(None);
        };
        match std::str::from_utf8(line) {
            Ok(text) => Ok(Some((taken, Line(Cow::Borrowed(text))))),
            Err(error) => Err(FrameError::Malformed(format!("a line is not UTF-8: {error}"))),
        }
    }

    fn lend(line: String) -> Line<'static> {
        Line(Cow::Owned(line))
    }

    const RESTARTABLE: bool = true;

    #[inline]
    fn properties<'a>(message: &'a Message<'_>) -> Option<&'a Properties> {
        message.properties()
    }

    fn encode(&mut self, line: Message<'_>, into: &mut Output) -> Result<(), FrameError> {
        if !line.is_complete() {
            return Err(FrameError::Malformed("a line cannot be sent in parts".into()));
        }
        self.check(line.bytes())?;
        into.put_message(&line);
        into.put(if self.crlf { b"\r\n" } else { b"\n" });
        Ok(())
    }
}

/// A received line without its ending: text, lent by the receive buffer or owned.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Line<'a>(Cow<'a, str>);

impl Deref for Line<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl Detach for Line<'_> {
    type Owned = String;

    fn detach(self) -> String {
        self.0.into_owned()
    }
}

impl<'a> From<Line<'a>> for Message<'a> {
    fn from(line: Line<'a>) -> Self {
        match line.0 {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}
