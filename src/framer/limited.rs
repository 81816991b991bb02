//! Limited: an Output that takes so many bytes and counts the others.
//!
//! Above: serialisers of `Json` and `Postcard` write to it. Absent: their formats. Bound:
//! `len_max`; what goes beyond is counted for the error and kept nowhere.

use super::{FrameError, Output};

/// The bytes of one Message as a serialiser writes them.
pub(super) struct Limited<'o> {
    into: &'o mut Output,
    len: usize,
    len_max: usize,
}

impl<'o> Limited<'o> {
    pub(super) const fn new(into: &'o mut Output, len_max: usize) -> Self {
        Self { into, len: 0, len_max }
    }

    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.len = self.len.saturating_add(bytes.len());
        if self.len <= self.len_max {
            self.into.put(bytes);
        }
    }

    /// How many bytes there were, if they were not too many.
    pub(super) const fn finish(self) -> Result<usize, FrameError> {
        if self.len > self.len_max {
            return Err(FrameError::TooLong { len: self.len, len_max: self.len_max });
        }
        Ok(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_beyond_is_counted_and_not_kept() {
        let mut output = Output::default();
        let mut limited = Limited::new(&mut output, 5);
        limited.put(b"abc");
        limited.put(b"de");
        assert_eq!(limited.finish(), Ok(5));
        let mut limited = Limited::new(&mut output, 5);
        limited.put(b"abc");
        limited.put(b"def");
        limited.put(b"g");
        assert_eq!(limited.finish(), Err(FrameError::TooLong { len: 7, len_max: 5 }));
        assert_eq!(output.to_vec(), b"abcdeabc");
    }
}
