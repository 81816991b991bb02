//! Targets: typed framers on foreign bytes. Property: cuts make no difference; every value that
//! came is sent again and comes back the same.
//!
//! Below: `postring::{Json, Postcard}` over a type with something of everything.

use postring::{FrameError, Framer, Json, LengthPrefixed, Postcard, Width};
use serde::{Deserialize, Serialize};

use crate::cuts::{decode_both_ways, decode_in_pieces, encode_all};

/// Something of everything that a value can be made of, but floating point, which is not always
/// equal to itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Thing {
    Nothing,
    Flag(bool),
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
    Pair(Option<Box<Thing>>, char),
    Things { name: String, things: Vec<Thing> },
}

/// Byte 0: limit (bits 0-1). Byte 1: length of a piece. The wire bytes follow.
///
/// # Panics
/// If the property does not hold.
pub fn json(input: &[u8]) {
    let Some((&[options, piece], wire)) = input.split_first_chunk() else { return };
    let len_max = [7, 40, 1 << 20, usize::MAX][usize::from(options & 3)];
    let framer = Json::<Thing>::default().len_max(len_max);
    comes_again(&framer, wire, piece.into(), Json::default().len_max(usize::MAX));
}

/// Byte 0: limit (bits 0-1) and width of the length (bits 2-3). Byte 1: length of a piece. The wire
/// bytes follow.
///
/// # Panics
/// If the property does not hold.
pub fn postcard(input: &[u8]) {
    let Some((&[options, piece], wire)) = input.split_first_chunk() else { return };
    let len_max = [7, 40, 1 << 20, usize::MAX][usize::from(options & 3)];
    let width = [Width::One, Width::Two, Width::Four, Width::Eight][usize::from(options >> 2 & 3)];
    let frames = LengthPrefixed::default().width(width).len_max(len_max);
    let framer = Postcard::<Thing>::framed_by(frames);
    comes_again(&framer, wire, piece.into(), Postcard::default());
}

/// What `framer` makes of `wire` goes out and comes in again by `wide`: an encoding of the peer's
/// may be shorter than ours, so the limit may not hold for it.
fn comes_again<F>(framer: &F, wire: &[u8], piece: usize, mut wide: F)
where
    F: Framer<Got = Thing>,
    F::Out<'static>: From<Thing>,
{
    let came = decode_both_ways(framer, wire, piece);
    match came.end {
        Ok(left) => assert_eq!(framer.clone().end(left).is_err(), left > 0),
        Err(error) => {
            assert!(matches!(error, FrameError::TooLong { .. } | FrameError::Malformed(_)));
        }
    }
    let wire = encode_all(&mut wide, came.got.iter().cloned().map(Into::into));
    let again = decode_in_pieces(&mut wide, &wire, piece);
    assert_eq!((again.got, again.end), (came.got, Ok(0)));
}
