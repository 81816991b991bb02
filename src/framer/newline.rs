//! Newline: where a line ends, found without looking at a byte twice.
//!
//! Above: `Lines` and `Json`. Absent: what a line means. Bound: the `len_max` of each call; at most
//! two bytes more are looked at.

use super::FrameError;

/// How far the line at the start of the input has been searched.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Newline {
    searched: usize,
}

impl Newline {
    /// The line at the start of `input`: how many bytes it takes with its ending (LF or CRLF), and
    /// its content of at most `len_max` bytes without.
    #[inline]
    pub(super) fn find<'a>(
        &mut self,
        input: &'a [u8],
        len_max: usize,
    ) -> Result<Option<(usize, &'a [u8])>, FrameError> {
        // Behind the longest content there is room for the longest ending.
        let window = &input[..input.len().min(len_max.saturating_add(2))];
        let searched = self.searched.min(window.len());
        let found = memchr::memchr(b'\n', &window[searched..]);
        let end = found.map_or(window.len(), |at| searched + at);
        let content = window[..end].strip_suffix(b"\r").unwrap_or(&window[..end]);
        if content.len() > len_max {
            return Err(FrameError::TooLong { len: content.len(), len_max });
        }
        if found.is_none() {
            self.searched = end;
            return Ok(None);
        }
        self.searched = 0;
        Ok(Some((end + 1, content)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_not_looked_at_twice() {
        let mut newline = Newline::default();
        let mut input = vec![b'x'; 100];
        assert_eq!(newline.find(&input, 1_000), Ok(None));
        assert_eq!(newline.searched, 100);
        input.extend(b"yz\r");
        assert_eq!(newline.find(&input, 1_000), Ok(None));
        assert_eq!(newline.searched, 103);
        // What was searched is not read again: a newline there would be overlooked.
        input[50] = b'\n';
        input.push(b'\n');
        assert_eq!(newline.find(&input, 1_000), Ok(Some((104, &input[..102]))));
        assert_eq!(newline.searched, 0, "the next line begins at its start");
    }

    #[test]
    fn the_limit_counts_the_content_alone() {
        let find = |input: &'static [u8]| Newline::default().find(input, 3);
        assert_eq!(find(b"abc\n"), Ok(Some((4, &b"abc"[..]))));
        assert_eq!(find(b"abc\r\nd"), Ok(Some((5, &b"abc"[..]))));
        assert_eq!(find(b"abc"), Ok(None));
        assert_eq!(find(b"abc\r"), Ok(None), "an ending may follow");
        let too_long = Err(FrameError::TooLong { len: 4, len_max: 3 });
        assert_eq!(find(b"abcd"), too_long);
        assert_eq!(find(b"abcd\n"), too_long);
        assert_eq!(find(b"abcd\r\n"), too_long);
        assert_eq!(find(b"abc\r\r\n"), too_long);
        assert_eq!(find(b"abc\rd"), Err(FrameError::TooLong { len: 5, len_max: 3 }));
        assert_eq!(Newline::default().find(b"\n", 0), Ok(Some((1, &b""[..]))));
        assert_eq!(Newline::default().find(b"x", usize::MAX), Ok(None), "no overflow");
    }
}
