//! Target: `Codec` on foreign bytes. Property: cuts make no difference, and a foreign codec of the
//! same wire format gives what our own framer gives.
//!
//! Below: `postring::Codec` with codecs of `tokio_util`.

use bytes::Bytes;
use postring::{Codec, Framer, LengthPrefixed, Message};
use tokio_util::codec::{LengthDelimitedCodec, LinesCodec};

use crate::cuts::decode_both_ways;

const LEN_MAX: usize = 1400;

/// Byte 0: which codec (bit 0). Byte 1: length of a piece. The wire bytes follow.
///
/// # Panics
/// If the property does not hold.
pub fn codec(input: &[u8]) {
    let Some((&[options, piece], wire)) = input.split_first_chunk() else { return };
    if options & 1 == 0 {
        let foreign = LengthDelimitedCodec::builder().max_frame_length(LEN_MAX).new_codec();
        let foreign = Codec::<_, Bytes>::new(foreign);
        let own = LengthPrefixed::default().len_max(LEN_MAX);
        let came = decode_both_ways(&foreign, wire, piece.into());
        let expected = decode_both_ways(&own, wire, piece.into());
        assert_eq!(came.end.is_ok(), expected.end.is_ok());
        let came = came.got.into_iter().map(|frame| Message::from(frame.freeze()));
        assert!(came.eq(expected.got));
    } else {
        // A codec may know of a line that is too long only when it sees its end: with its limit
        // cuts would make a difference.
        let foreign = Codec::<_, String>::new(LinesCodec::new());
        let came = decode_both_ways(&foreign, wire, piece.into());
        if let Ok(left) = came.end {
            let mut foreign = foreign.clone();
            assert!(foreign.end(left).is_err() || left == 0, "these bytes it has never seen");
        }
    }
}
