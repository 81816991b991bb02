//! What all tests of framers need: what a connection does with bytes, without one.
//!
//! Absent: sockets.

use postring::{Detach, FrameError, Framer, Output};

/// What a connection does with arriving bytes: keeps what is unfinished, takes what is whole.
/// Checks on the way that `needs` and `decode` say the same.
pub(crate) struct Receiver<F: Framer> {
    pub(crate) framer: F,
    pub(crate) waiting: Vec<u8>,
    pub(crate) got: Vec<F::Got>,
}

impl<F: Framer> Receiver<F> {
    pub(crate) fn new(framer: F) -> Self {
        Self { framer, waiting: Vec::new(), got: Vec::new() }
    }

    /// The fragment arrives; fails as soon as the framer says that the bytes are no Message.
    pub(crate) fn arrive(&mut self, fragment: &[u8]) -> Result<(), FrameError> {
        self.waiting.extend_from_slice(fragment);
        let mut taken = 0;
        loop {
            let input = &self.waiting[taken..];
            let needs = self.framer.needs(input);
            let Some((len, message)) = self.framer.decode(input)? else {
                assert!(needs.is_none_or(|needs| needs > input.len()), "it was all there");
                break;
            };
            assert!(0 < len && len <= input.len(), "took {len} of {} bytes", input.len());
            assert!(needs.is_none_or(|needs| needs == len), "needs {needs:?}, took {len}");
            self.got.push(message.detach());
            taken += len;
        }
        self.waiting.drain(..taken);
        Ok(())
    }
}

pub(crate) fn encoded<'m, F: Framer>(
    framer: &mut F,
    message: F::Out<'m>,
) -> Result<Vec<u8>, FrameError> {
    let mut output = Output::default();
    framer.encode(message, &mut output)?;
    let bytes = output.to_vec();
    assert_eq!(output.len(), bytes.len());
    Ok(bytes)
}

/// Cuts `bytes` in fragments of these lengths, over and over.
pub(crate) fn fragments<'a>(bytes: &'a [u8], lens: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut fragments = Vec::new();
    for &len in lens.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (fragment, after) = rest.split_at(len.min(rest.len()));
        fragments.push(fragment);
        rest = after;
    }
    fragments
}

/// What comes of `wire` when it arrives in `fragments`, and what is left over.
pub(crate) fn received<'w, F: Framer>(
    framer: &F,
    fragments: impl IntoIterator<Item = &'w [u8]>,
) -> (Result<(), FrameError>, Vec<F::Got>, usize) {
    let mut receiver = Receiver::new(framer.clone());
    let arrived = fragments.into_iter().try_for_each(|fragment| receiver.arrive(fragment));
    (arrived, receiver.got, receiver.waiting.len())
}

/// Asserts that `wire` gives `expected` at once, byte by byte and in any two pieces.
pub(crate) fn comes_back_from_every_cut<F: Framer>(framer: &F, wire: &[u8], expected: &[F::Got])
where
    F::Got: PartialEq + std::fmt::Debug,
{
    let check = |fragments: &mut dyn Iterator<Item = &[u8]>, how: &str| {
        let (arrived, got, left) = received(framer, fragments);
        assert_eq!(arrived, Ok(()), "{how}");
        assert_eq!(got, expected, "{how}");
        assert_eq!(left, 0, "{how}");
    };
    check(&mut wire.chunks(1), "byte by byte");
    for cut in 0..=wire.len() {
        check(&mut [&wire[..cut], &wire[cut..]].into_iter(), &format!("cut at {cut}"));
    }
}
