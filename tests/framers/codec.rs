//! `Codec`: foreign codecs as framers.

use bytes::{Bytes, BytesMut};
use postring::{Codec, FrameError, Framer, LengthPrefixed, Message};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio_util::codec::{BytesCodec, Decoder, Encoder, LengthDelimitedCodec, LinesCodec};

use crate::support::*;

fn length_delimited() -> Codec<LengthDelimitedCodec, Bytes> {
    Codec::new(LengthDelimitedCodec::new())
}

fn lines() -> Codec<LinesCodec, String> {
    Codec::new(LinesCodec::new_with_max_length(50))
}

proptest! {
    #[test]
    fn the_length_delimited_codec_speaks_with_length_prefixed(
        sent in vec(vec(any::<u8>(), 0..100), 0..6),
        cuts in vec(1..60_usize, 1..8),
    ) {
        let (mut foreign, mut own) = (length_delimited(), LengthPrefixed::default());
        let mut wire = Vec::new();
        for payload in &sent {
            let bytes = encoded(&mut foreign, Bytes::from(payload.clone()).into()).expect("short");
            let own = encoded(&mut own, Message::from(&payload[..])).expect("short");
            prop_assert_eq!(&bytes, &own);
            wire.extend(bytes);
        }
        let (arrived, got, left) = received(&foreign, fragments(&wire, &cuts));
        prop_assert_eq!((arrived, left), (Ok(()), 0));
        prop_assert_eq!(got, sent);
    }

    #[test]
    fn the_lines_codec_gives_lines_from_any_fragments(
        sent in vec("[a-zä]{0,24}", 0..8),
        cuts in vec(1..20_usize, 1..8),
    ) {
        let mut framer = lines();
        let mut wire = Vec::new();
        for line in &sent {
            wire.extend(encoded(&mut framer, line.clone().into()).expect("a line"));
        }
        let (arrived, got, left) = received(&framer, fragments(&wire, &cuts));
        prop_assert_eq!((arrived, left), (Ok(()), 0));
        prop_assert_eq!(got, sent);
    }
}

#[test]
fn what_the_codec_takes_early_counts_with_its_item() {
    // This codec takes the header as soon as it is there, long before the item.
    let wire = b"\0\0\0\x03abc\0\0\0\0\0\0\0\x01d";
    let items = [&b"abc"[..], b"", b"d"].map(BytesMut::from);
    comes_back_from_every_cut(&length_delimited(), wire, &items);
    let mut framer = length_delimited();
    assert_eq!(framer.decode(b"\0\0\0\x03a"), Ok(None));
    let (taken, item) = framer.decode(b"\0\0\0\x03abc\0").expect("a frame").expect("whole");
    assert_eq!((taken, &item[..]), (7, &b"abc"[..]));
    assert_eq!(framer.decode(b"\0"), Ok(None), "the byte behind was seen already");
}

#[test]
fn the_codecs_errors_are_told() {
    let refused = length_delimited().decode(&[0xff; 4]).expect_err("too long for it");
    assert!(refused.to_string().contains("frame size too big"), "{refused}");
    let refused = lines().decode(b"\xff\n").expect_err("no text");
    assert!(refused.to_string().contains("UTF8"), "{refused}");
    let short = LengthDelimitedCodec::builder().max_frame_length(3).new_codec();
    let mut framer = Codec::<_, Bytes>::new(short);
    assert!(encoded(&mut framer, Bytes::from_static(b"long").into()).is_err());
    let wire = encoded(&mut framer, Bytes::from_static(b"abc").into());
    assert_eq!(wire.expect("short enough"), b"\0\0\0\x03abc", "nothing is left of the refused one");
}

#[test]
fn a_line_without_an_ending_comes_at_the_end() {
    let mut framer = lines();
    assert_eq!(framer.decode(b"last"), Ok(None));
    let last = framer.end(4).expect("the codec takes it").expect("it is an item");
    assert_eq!(*last, "last");
    assert_eq!(lines().end(0), Ok(None));
}

#[test]
fn an_end_within_an_item_is_an_error() {
    for cut in [&b"\0\0"[..], b"\0\0\0\x03", b"\0\0\0\x03ab"] {
        let mut framer = length_delimited();
        assert_eq!(framer.decode(cut), Ok(None));
        assert!(framer.end(cut.len()).is_err(), "{cut:?}");
    }
    assert_eq!(length_delimited().end(5), Err(FrameError::Truncated { len: 5 }), "never seen");
    let mut framer = Codec::<_, Bytes>::new(BytesCodec::new());
    let parts = framer.decode(b"abc").expect("bytes").expect("a part");
    assert_eq!((parts.0, &parts.1[..]), (3, &b"abc"[..]));
    assert_eq!(framer.end(0).map(|last| last.is_none()), Ok(true));
}

/// A codec that breaks the rules as its input says.
#[derive(Debug, Clone, Default)]
struct Unruly(u8);

impl Decoder for Unruly {
    type Item = u8;
    type Error = std::io::Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<u8>, Self::Error> {
        match bytes.first() {
            Some(b'+') => bytes.extend_from_slice(b"more"),
            Some(b'0') => return Ok(Some(0)),
            Some(b'2') => {
                bytes.clear();
                self.0 = 1;
                return Ok(Some(1));
            }
            _ => {}
        }
        Ok(std::mem::take(&mut self.0).checked_sub(1))
    }

    fn decode_eof(&mut self, bytes: &mut BytesMut) -> Result<Option<u8>, Self::Error> {
        match bytes.first() {
            Some(b'e') => Ok(Some(1)),
            _ => Ok(None),
        }
    }
}

impl Encoder<u8> for Unruly {
    type Error = std::io::Error;

    fn encode(&mut self, _: u8, into: &mut BytesMut) -> Result<(), Self::Error> {
        into.extend_from_slice(b"half");
        Err(std::io::Error::other("no more"))
    }
}

#[test]
fn a_codec_that_breaks_the_rules_ends_the_carrier() {
    let unruly = || Codec::<_, u8>::new(Unruly::default());
    let told = |result: Result<_, FrameError>| result.err().map(|error| error.to_string());
    let wrong = |input| told(unruly().decode(input)).unwrap_or_default();
    assert!(wrong(b"+").contains("added bytes"));
    assert!(wrong(b"0").contains("no bytes"));
    let mut twice = unruly();
    assert!(twice.decode(b"2").is_ok_and(|found| found.is_some_and(|(taken, _)| taken == 1)));
    assert!(twice.decode(b"").is_err(), "a second item must not get lost");
    let mut endless = unruly();
    assert_eq!(endless.decode(b"e"), Ok(None));
    assert!(endless.end(1).is_err_and(|error| error.to_string().contains("more than one")));
    let mut silent = unruly();
    assert_eq!(silent.decode(b"s"), Ok(None));
    assert_eq!(silent.end(1), Err(FrameError::Truncated { len: 1 }));
    assert_eq!(encoded(&mut unruly(), 1.into()), Err(FrameError::Malformed("no more".into())));
    assert!(format!("{:?}", unruly()).contains("Unruly"));
}

#[test]
fn only_a_codec_declared_independent_is_one() {
    fn says<F: Framer>(_: &F) -> (bool, bool) {
        (F::STANDS_ALONE, F::RESTARTABLE)
    }
    assert_eq!(says(&lines()), (false, false));
    let mut declared = lines().independent();
    assert_eq!(says(&declared), (true, true));
    assert_eq!(declared.decode(b"a\n").map(|found| found.map(|(taken, _)| taken)), Ok(Some(2)));
    let lent = Codec::<LinesCodec, String>::lend("text".to_owned());
    assert_eq!(lent.into_inner(), "text");
}

#[test]
fn a_clone_is_as_far_as_its_original() {
    let mut original = length_delimited();
    assert_eq!(original.decode(b"\0\0\0\x03a"), Ok(None));
    let mut clone = original.clone();
    let found = clone.decode(b"\0\0\0\x03abc").expect("a frame").map(|(taken, _)| taken);
    assert_eq!(found, Some(7));
}
