//! Target: Messages in parts. Property: parts keep their bounds, and joined they are the Messages
//! that come whole; an end within a Message is an error.
//!
//! Below: `postring::{LengthPrefixed, Unframed}`.

use postring::{FrameError, Framer, LengthPrefixed, Message, Unframed, Width};

use crate::cuts::decode_in_pieces;

/// Byte 0: framer (bit 0), width (bit 1), limit (bits 2-3). Byte 1: length of a piece. Bytes 2 and
/// 3: least and greatest length of a part. The wire bytes follow.
///
/// # Panics
/// If the property does not hold.
pub fn parts(input: &[u8]) {
    let Some((&[options, piece, min, max], wire)) = input.split_first_chunk() else { return };
    let wanted = Wanted { piece: piece.into(), min: min.into(), max: max.into() };
    if options & 1 == 1 {
        return of_a_stream(wire, &wanted);
    }
    let width = if options & 2 == 0 { Width::One } else { Width::Four };
    let len_max = [3, 20, 1400, usize::MAX][usize::from(options >> 2 & 3)];
    of_frames(LengthPrefixed::default().width(width).len_max(len_max), wire, &wanted);
}

struct Wanted {
    piece: usize,
    min: usize,
    max: usize,
}

/// Parts of `wire`: content and whether the Message is complete; how many bytes were left over.
type Parts = (Vec<(Vec<u8>, bool)>, Result<usize, FrameError>);

fn decode_parts<F>(framer: &mut F, wire: &[u8], wanted: &Wanted) -> Parts
where
    F: for<'a> Framer<In<'a> = Message<'a>>,
{
    let &Wanted { piece, min, max } = wanted;
    let (least, most) = (min.clamp(1, max.max(1)), max.max(1));
    let mut parts = Vec::new();
    let (mut taken, mut arrived) = (0, 0);
    while arrived < wire.len() {
        arrived = wire.len().min(arrived + piece.max(1));
        loop {
            let input = &wire[taken..arrived];
            let needs = framer.needs_part(input, min, max);
            match framer.decode_part(input, min, max) {
                Ok(Some((len, part))) => {
                    assert!(0 < len && len <= input.len(), "took {len} of {}", input.len());
                    assert!(needs.is_some_and(|needs| needs <= len), "fewer than it needs");
                    assert!(part.len() <= most, "too much");
                    assert!(part.is_complete() || part.len() >= least, "too little");
                    parts.push((part.bytes().to_vec(), part.is_complete()));
                    taken += len;
                }
                Ok(None) => {
                    assert!(needs.is_none_or(|needs| needs > input.len()), "it was there");
                    break;
                }
                Err(error) => return (parts, Err(error)),
            }
        }
    }
    (parts, Ok(wire.len() - taken))
}

fn of_frames(framer: LengthPrefixed, wire: &[u8], wanted: &Wanted) {
    let whole = decode_in_pieces(&mut framer.clone(), wire, wire.len());
    let mut in_parts = framer.clone();
    let (parts, end) = decode_parts(&mut in_parts, wire, wanted);
    let mut joined = vec![Vec::new()];
    for (content, is_complete) in parts {
        joined.last_mut().expect("never empty").extend(content);
        if is_complete {
            joined.push(Vec::new());
        }
    }
    let begun = joined.pop().expect("never empty");
    assert!(joined.iter().map(Vec::as_slice).eq(whole.got.iter().map(Message::bytes)));
    match (end, whole.end) {
        (Ok(left), Ok(_)) => {
            let end = in_parts.end(left);
            assert_eq!(end.is_err(), left > 0 || !begun.is_empty(), "a cut frame must not pass");
        }
        (end, whole) => assert_eq!(end.err(), whole.err()),
    }
}

fn of_a_stream(wire: &[u8], wanted: &Wanted) {
    let (parts, end) = decode_parts(&mut Unframed, wire, wanted);
    let left = end.expect("a stream has no rules to break");
    assert!(parts.iter().all(|(_, is_complete)| !is_complete), "its end has not come");
    let joined: Vec<u8> = parts.into_iter().flat_map(|(content, _)| content).collect();
    assert_eq!(joined, wire[..wire.len() - left]);
}
