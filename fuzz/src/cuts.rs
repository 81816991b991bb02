//! What all framers promise: the same Messages however the bytes are cut, and no overread.
//!
//! Above: the targets of single framers. Below: `postring::Framer`. Absent: sockets.

use postring::{Detach, FrameError, Framer, Output};

/// What came of some bytes: the Messages, and the end: how many bytes were left over, or what was
/// wrong.
pub(crate) struct Outcome<T> {
    pub(crate) got: Vec<T>,
    pub(crate) end: Result<usize, FrameError>,
}

/// Decodes `wire` as it would arrive in pieces of `piece` bytes.
///
/// # Panics
/// If the framer reads past its input or contradicts itself.
pub(crate) fn decode_in_pieces<F: Framer>(
    framer: &mut F,
    wire: &[u8],
    piece: usize,
) -> Outcome<F::Got> {
    let mut got = Vec::new();
    let (mut taken, mut arrived) = (0, 0);
    while arrived < wire.len() {
        arrived = wire.len().min(arrived + piece.max(1));
        loop {
            let input = &wire[taken..arrived];
            let needs = framer.needs(input);
            match framer.decode(input) {
                Ok(Some((len, message))) => {
                    assert!(0 < len && len <= input.len(), "took {len} of {}", input.len());
                    assert!(needs.is_none_or(|needs| needs == len), "needs and decode disagree");
                    got.push(message.detach());
                    taken += len;
                }
                Ok(None) => {
                    let missing = needs.is_none_or(|needs| needs > input.len());
                    assert!(missing, "it was all there");
                    break;
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    return Outcome { got, end: Err(error) };
                }
            }
        }
    }
    Outcome { got, end: Ok(wire.len() - taken) }
}

/// Decodes `wire` at once and in pieces, and says what came of it at once.
///
/// # Panics
/// If the pieces made a difference.
pub(crate) fn decode_both_ways<F: Framer>(framer: &F, wire: &[u8], piece: usize) -> Outcome<F::Got>
where
    F::Got: PartialEq + std::fmt::Debug,
{
    let whole = decode_in_pieces(&mut framer.clone(), wire, wire.len());
    let cut = decode_in_pieces(&mut framer.clone(), wire, piece);
    assert_eq!(cut.got, whole.got, "pieces of {piece} bytes make other messages");
    match (&whole.end, &cut.end) {
        (Ok(left), Ok(left_of_cut)) => assert_eq!(left, left_of_cut),
        // How much was there when it was noticed, the text may say.
        (Err(error), Err(of_cut)) => {
            assert_eq!(std::mem::discriminant(error), std::mem::discriminant(of_cut));
        }
        (whole, cut) => panic!("whole: {whole:?}, pieces of {piece} bytes: {cut:?}"),
    }
    whole
}

/// What `messages` are on the wire.
///
/// # Panics
/// If one is refused: what was received may be sent.
pub(crate) fn encode_all<F: Framer>(
    framer: &mut F,
    messages: impl IntoIterator<Item = F::Out<'static>>,
) -> Vec<u8> {
    let mut output = Output::default();
    for message in messages {
        framer.encode(message, &mut output).expect("what was received may be sent");
    }
    let bytes = output.to_vec();
    assert_eq!(bytes.len(), output.len());
    bytes
}
