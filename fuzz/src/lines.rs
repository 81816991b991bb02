//! Target: `Lines` on foreign bytes. Property: cuts make no difference; every line is text of at
//! most the limit without a line feed, and sent again it comes back.
//!
//! Below: `postring::Lines`.

use postring::{Framer, Lines};

use crate::cuts::{decode_both_ways, decode_in_pieces, encode_all};

/// Byte 0: limit (bits 0-2) and whether CRLF is sent (bit 3). Byte 1: length of a piece. The wire
/// bytes follow.
///
/// # Panics
/// If the property does not hold.
pub fn lines(input: &[u8]) {
    let Some((&[options, piece], wire)) = input.split_first_chunk() else { return };
    let len_max = [0, 1, 2, 7, 80, 1400, 64 << 10, usize::MAX][usize::from(options & 7)];
    let framer = Lines::default().len_max(len_max);
    let framer = if options & 8 == 0 { framer } else { framer.crlf() };
    let came = decode_both_ways(&framer, wire, piece.into());
    assert!(came.got.iter().all(|line| line.len() <= len_max && !line.contains('\n')));
    if let Ok(left) = came.end {
        assert_eq!(framer.clone().end(left).is_err(), left > 0, "a cut line must not pass");
    }
    // One carriage return belongs to the ending; what has more cannot be sent.
    let mut sendable = came.got;
    sendable.retain(|line| !line.ends_with('\r'));
    let wire = encode_all(&mut framer.clone(), sendable.iter().cloned().map(Into::into));
    let again = decode_in_pieces(&mut framer.clone(), &wire, piece.into());
    assert_eq!((again.got, again.end), (sendable, Ok(0)));
}
