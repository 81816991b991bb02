//! Messages in parts, both ways (draft §2.2, Partial Messages).

use postring::{Endianness, FrameError, Framer, LengthPrefixed, Lines, Message, Unframed, Width};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::*;

/// What a connection does for a receiver that wants parts.
fn parts_of<F>(
    framer: &mut F,
    fragments: &[&[u8]],
    min: usize,
    max: usize,
) -> Result<Vec<(Vec<u8>, bool)>, FrameError>
where
    F: for<'a> Framer<In<'a> = Message<'a>, Got = Message<'static>>,
{
    let mut waiting = Vec::new();
    let mut parts = Vec::new();
    for fragment in fragments {
        waiting.extend_from_slice(fragment);
        loop {
            let needs = framer.needs_part(&waiting, min, max);
            let Some((taken, part)) = framer.decode_part(&waiting, min, max)? else {
                assert!(needs.is_none_or(|needs| needs > waiting.len()), "{needs:?} were there");
                break;
            };
            assert!(taken > 0 && needs.is_some_and(|needs| needs <= taken));
            parts.push((part.bytes().to_vec(), part.is_complete()));
            waiting.drain(..taken);
        }
    }
    assert!(framer.decode_part(&[], min, max)?.is_none());
    while let Some((taken, part)) = framer.decode_part(&waiting, 1, max)? {
        parts.push((part.bytes().to_vec(), part.is_complete()));
        waiting.drain(..taken);
    }
    let end = framer.end(waiting.len())?;
    parts.extend(end.map(|part| (part.bytes().to_vec(), part.is_complete())));
    Ok(parts)
}

fn frames() -> LengthPrefixed {
    LengthPrefixed::default()
}

proptest! {
    #[test]
    fn parts_keep_their_bounds_and_make_the_same_messages(
        payloads in vec(vec(any::<u8>(), 0..60), 0..6),
        min in 0..40_usize,
        max in 0..40_usize,
        cuts in vec(1..30_usize, 1..6),
        width in prop_oneof![Just(Width::One), Just(Width::Four), Just(Width::Eight)],
    ) {
        let mut framer = frames().width(width).endianness(Endianness::Little);
        let mut wire = Vec::new();
        for payload in &payloads {
            wire.extend(encoded(&mut framer, Message::from(&payload[..])).expect("short"));
        }
        let parts = parts_of(&mut framer, &fragments(&wire, &cuts), min, max).expect("own bytes");
        let most = max.max(1);
        let mut whole = vec![Vec::new()];
        for (part, is_complete) in parts {
            prop_assert!(part.len() <= most);
            prop_assert!(is_complete || part.len() >= min.clamp(1, most));
            whole.last_mut().expect("never empty").extend(part);
            if is_complete {
                whole.push(Vec::new());
            }
        }
        prop_assert_eq!(whole.pop(), Some(Vec::new()), "nothing is left begun");
        prop_assert_eq!(whole, payloads);
    }

    #[test]
    fn parts_of_a_byte_stream_keep_their_bounds(
        bytes in vec(any::<u8>(), 0..200),
        min in 0..40_usize,
        max in 0..40_usize,
        cuts in vec(1..30_usize, 1..6),
    ) {
        let parts = parts_of(&mut Unframed, &fragments(&bytes, &cuts), min, max).expect("bytes");
        let most = max.max(1);
        let (last, before) = parts.split_last().expect("the end is a part");
        prop_assert_eq!(last, &(Vec::new(), true));
        prop_assert!(before.iter().all(|(part, is_complete)| !is_complete && part.len() <= most));
        let joined: Vec<u8> = before.iter().flat_map(|(part, _)| part.clone()).collect();
        prop_assert_eq!(&joined, &bytes);
        // Only what the end has left over is below the minimum.
        let below = before.iter().filter(|(part, _)| part.len() < min.clamp(1, most)).count();
        prop_assert!(below <= min.clamp(1, most));
        let over = before.iter().rev().skip_while(|(part, _)| part.len() < min.clamp(1, most));
        prop_assert!(over.clone().all(|(part, _)| part.len() >= min.clamp(1, most)));
    }

    #[test]
    fn parts_that_are_sent_are_one_message(
        payload in vec(any::<u8>(), 0..300),
        cuts in vec(1..60_usize, 1..6),
        ends_empty in any::<bool>(),
    ) {
        let mut framer = frames();
        let mut wire = Vec::new();
        let mut pieces = fragments(&payload, &cuts);
        if ends_empty || pieces.len() < 2 {
            pieces.push(&[]);
        }
        let last = pieces.len() - 1;
        for (at, piece) in pieces.iter().enumerate() {
            let part = Message::from(*piece);
            let part = match at {
                0 if at < last => part.partial_of(payload.len() as u64),
                _ if at < last => part.partial(),
                _ => part,
            };
            wire.extend(encoded(&mut framer, part).expect("as stated"));
            prop_assert_eq!(framer.is_within_message(), at < last);
        }
        let whole = encoded(&mut frames(), Message::from(&payload[..])).expect("short");
        prop_assert_eq!(wire, whole);
    }
}

#[test]
fn a_shorter_message_comes_below_the_minimum() {
    let mut framer = frames();
    let found = framer.decode_part(b"\0\0\0\x02hi\0\0\0\x09", 100, 200);
    assert_eq!(found, Ok(Some((6, Message::from("hi")))));
    let found = framer.decode_part(b"\0\0\0\0", 100, 200);
    assert_eq!(found, Ok(Some((4, Message::from("")))), "an empty one, too");
}

#[test]
fn a_part_waits_for_its_minimum_and_stops_at_its_maximum() {
    let mut framer = frames();
    let wire = b"\0\0\0\x0aabcdefghij";
    assert_eq!(framer.decode_part(&wire[..6], 3, 5), Ok(None));
    assert_eq!(framer.needs_part(&wire[..4], 3, 5), Some(7));
    let part = Message::from("abc").partial();
    assert_eq!(framer.decode_part(&wire[..7], 3, 5), Ok(Some((7, part))));
    let part = Message::from("defgh").partial();
    assert_eq!(framer.decode_part(&wire[7..], 3, 5), Ok(Some((5, part))));
    assert_eq!(framer.needs_part(b"", 3, 5), Some(2), "there are no more");
    assert_eq!(framer.decode_part(b"i", 3, 5), Ok(None));
    assert_eq!(framer.decode_part(b"ij", 3, 5), Ok(Some((2, Message::from("ij")))));
    assert_eq!(framer.needs_part(b"", 3, 5), None, "the next one's length is not known");
}

#[test]
fn what_follows_a_part_without_parts_is_the_rest() {
    let mut framer = frames();
    let wire = b"\0\0\0\x06Hello!\0\0\0\x02hi";
    assert!(framer.decode_part(wire, 1, 3).is_ok_and(|part| part.is_some()));
    assert_eq!(framer.needs(b"lo"), Some(3));
    assert_eq!(framer.decode(b"lo"), Ok(None));
    assert_eq!(framer.decode(&wire[7..]), Ok(Some((3, Message::from("lo!")))));
    assert_eq!(framer.decode(&wire[10..]), Ok(Some((6, Message::from("hi")))));
}

#[test]
fn an_end_within_a_message_in_parts_is_an_error() {
    let mut framer = frames();
    assert!(framer.decode_part(b"\0\0\0\x06Hel", 1, 3).is_ok_and(|part| part.is_some()));
    assert_eq!(framer.end(0), Err(FrameError::Truncated { len: 3 }));
    assert_eq!(framer.end(2), Err(FrameError::Truncated { len: 5 }));
    assert!(framer.decode_part(b"lo!", 1, 3).is_ok_and(|part| part.is_some()));
    assert_eq!(framer.end(0), Ok(None));
}

#[test]
fn a_message_too_long_is_refused_in_parts_too() {
    let mut framer = frames().len_max(5);
    let refused = FrameError::TooLong { len: 6, len_max: 5 };
    assert_eq!(framer.decode_part(b"\0\0\0\x06He", 1, 2), Err(refused.clone()));
    assert_eq!(framer.needs_part(b"\0\0\0\x06He", 1, 2), None);
    assert_eq!(encoded(&mut framer, Message::from("He").partial_of(6)), Err(refused));
    assert!(!framer.is_within_message(), "it has not begun");
    let mut narrow = frames().width(Width::One);
    let refused = FrameError::TooLong { len: 256, len_max: 255 };
    assert_eq!(encoded(&mut narrow, Message::from("He").partial_of(256)), Err(refused));
}

#[test]
fn parts_that_break_their_promise_are_refused_and_the_message_can_go_on() {
    let mut framer = frames();
    let told =
        |refused: Result<Vec<u8>, FrameError>| refused.expect_err("a broken promise").to_string();
    assert!(told(encoded(&mut framer, Message::from("He").partial())).contains("partial_of"));
    let beyond = Message::from("Hello").partial_of(4);
    assert!(told(encoded(&mut framer, beyond)).contains("goes beyond"));
    assert!(!framer.is_within_message());
    let begun = encoded(&mut framer, Message::from("He").partial_of(6));
    assert_eq!(begun.as_deref(), Ok(&b"\0\0\0\x06He"[..]));
    let other = Message::from("a").partial_of(3);
    assert!(told(encoded(&mut framer, other)).contains("another message"));
    assert!(told(encoded(&mut framer, Message::from("lo"))).contains("ends before the 4"));
    assert!(told(encoded(&mut framer, Message::from("llo!!").partial())).contains("goes beyond"));
    assert_eq!(encoded(&mut framer, Message::from("llo!")).as_deref(), Ok(&b"llo!"[..]));
    assert!(!framer.is_within_message());
    assert_eq!(encoded(&mut framer, Message::from("!")).as_deref(), Ok(&b"\0\0\0\x01!"[..]));
}

#[test]
fn unframed_writes_parts_as_they_are() {
    assert_eq!(encoded(&mut Unframed, Message::from("He").partial()).as_deref(), Ok(&b"He"[..]));
    assert_eq!(encoded(&mut Unframed, Message::from("y")).as_deref(), Ok(&b"y"[..]));
    assert!(!Unframed.is_within_message());
    assert_eq!(Unframed.needs_part(b"", 7, 9), Some(7));
    assert_eq!(Unframed.needs_part(b"", 7, 3), Some(3));
    assert_eq!(Unframed.needs_part(b"", 0, 0), Some(1));
}

#[test]
fn a_framer_that_cuts_nothing_says_so_and_gives_whole_messages() {
    const { assert!(Unframed::PARTS && LengthPrefixed::PARTS && !Lines::PARTS) };
    let mut lines = Lines::default();
    let line = lines.decode_part(b"Hello!\n", 1, 2).expect("a line").expect("a whole one");
    assert_eq!((line.0, &*line.1), (7, "Hello!"));
    assert_eq!(lines.needs_part(b"Hel", 1, 2), None);
    assert!(!lines.is_within_message());
}
