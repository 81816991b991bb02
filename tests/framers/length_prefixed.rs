//! `LengthPrefixed` and `Unframed`: whole Messages.

use postring::{Endianness, FrameError, Framer, LengthPrefixed, Message, Output, Unframed, Width};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::*;

/// The header as the draft of the format says it, written without the framer.
fn header(width: Width, endianness: Endianness, len: u64) -> Vec<u8> {
    let bytes = match width {
        Width::One => 1,
        Width::Two => 2,
        Width::Four => 4,
        Width::Eight => 8,
    };
    match endianness {
        Endianness::Big => len.to_be_bytes()[8 - bytes..].to_vec(),
        Endianness::Little => len.to_le_bytes()[..bytes].to_vec(),
    }
}

fn field_max(width: Width) -> u64 {
    match width {
        Width::One => u64::from(u8::MAX),
        Width::Two => u64::from(u16::MAX),
        Width::Four => u64::from(u32::MAX),
        Width::Eight => u64::MAX,
    }
}

fn length_prefixed(width: Width, endianness: Endianness, len_max: usize) -> LengthPrefixed {
    LengthPrefixed::default().width(width).endianness(endianness).len_max(len_max)
}

fn widths() -> impl Strategy<Value = Width> {
    prop_oneof![Just(Width::One), Just(Width::Two), Just(Width::Four), Just(Width::Eight)]
}

fn endiannesses() -> impl Strategy<Value = Endianness> {
    prop_oneof![Just(Endianness::Big), Just(Endianness::Little)]
}

fn limits() -> impl Strategy<Value = usize> {
    prop_oneof![0..300_usize, Just(65_535), Just(16 << 20), Just(usize::MAX)]
}

/// Payloads, mostly short, some on both sides of what an Output copies and what it shares.
fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let payload = prop_oneof![
        8 => vec(any::<u8>(), 0..64),
        1 => vec(any::<u8>(), 200..300),
        1 => vec(any::<u8>(), 8_190..8_200),
    ];
    vec(payload, 0..6)
}

proptest! {
    #[test]
    fn what_is_encoded_comes_back_from_any_fragments(
        width in widths(),
        endianness in endiannesses(),
        len_max in limits(),
        payloads in payloads(),
        cuts in vec(1..5_000_usize, 1..8),
    ) {
        let mut framer = length_prefixed(width, endianness, len_max);
        let mut wire = Vec::new();
        let mut accepted = Vec::new();
        for payload in payloads {
            let fits = payload.len() <= len_max && payload.len() as u64 <= field_max(width);
            // Lent and owned payloads take different ways through an Output.
            let owned = encoded(&mut framer, Message::from(payload.clone()));
            let lent = encoded(&mut framer, Message::from(&payload[..]));
            prop_assert_eq!(&owned, &lent);
            match owned {
                Ok(bytes) => {
                    prop_assert!(fits, "a payload of {} bytes", payload.len());
                    let mut expected = header(width, endianness, payload.len() as u64);
                    expected.extend_from_slice(&payload);
                    prop_assert_eq!(&bytes, &expected);
                    wire.extend(bytes);
                    accepted.push(Message::from(payload));
                }
                Err(FrameError::TooLong { len, len_max: told }) => {
                    prop_assert!(!fits && len == payload.len() && told < len);
                }
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
        let mut receiver = Receiver::new(framer.clone());
        for fragment in fragments(&wire, &cuts) {
            receiver.arrive(fragment).expect("the framer's own bytes");
        }
        prop_assert_eq!(receiver.got, accepted);
        prop_assert!(receiver.waiting.is_empty());
    }

    #[test]
    fn every_cut_in_two_gives_the_same(
        width in widths(),
        endianness in endiannesses(),
        first in vec(any::<u8>(), 0..40),
        second in vec(any::<u8>(), 0..40),
    ) {
        let mut framer = length_prefixed(width, endianness, 255);
        let sent = [Message::from(first), Message::from(second)];
        let mut wire = Vec::new();
        for message in &sent {
            wire.extend(encoded(&mut framer, message.clone()).expect("within the limit"));
        }
        for cut in 0..=wire.len() {
            let mut receiver = Receiver::new(framer.clone());
            for fragment in [&wire[..cut], &wire[cut..]] {
                receiver.arrive(fragment).expect("the framer's own bytes");
            }
            prop_assert_eq!(&receiver.got[..], &sent[..], "cut at {}", cut);
        }
    }

    #[test]
    fn garbage_is_refused_or_waited_for_but_never_panics(
        width in widths(),
        endianness in endiannesses(),
        len_max in limits(),
        garbage in vec(prop_oneof![Just(0_u8), Just(0xff), any::<u8>()], 0..600),
        cuts in vec(1..50_usize, 1..4),
    ) {
        let mut receiver = Receiver::new(length_prefixed(width, endianness, len_max));
        for fragment in fragments(&garbage, &cuts) {
            match receiver.arrive(fragment) {
                Ok(()) => {}
                Err(FrameError::TooLong { len, len_max: told }) => {
                    prop_assert!(told <= len_max && len > told);
                    return Ok(());
                }
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
        let longest = receiver.got.iter().map(Message::len).max();
        prop_assert!(longest.is_none_or(|len| len <= len_max));
    }

    #[test]
    fn too_long_is_refused_at_the_header(
        width in widths(),
        endianness in endiannesses(),
        len_max in 0..255_usize,
        above in any::<u64>(),
    ) {
        let least = len_max as u64 + 1;
        let len = least + above % (field_max(width) - len_max as u64);
        let mut framer = length_prefixed(width, endianness, len_max);
        let header = header(width, endianness, len);
        for known in 0..header.len() {
            prop_assert_eq!(framer.decode(&header[..known]), Ok(None));
            prop_assert_eq!(framer.needs(&header[..known]), None);
        }
        let told = usize::try_from(len).expect("tests run where usize has 64 bits");
        let refused = FrameError::TooLong { len: told, len_max };
        prop_assert_eq!(framer.decode(&header), Err(refused));
        prop_assert_eq!(framer.needs(&header), None, "no buffer is made for it");
    }

    #[test]
    fn needs_is_known_at_the_header(
        width in widths(),
        endianness in endiannesses(),
        payload in vec(any::<u8>(), 1..200),
    ) {
        let mut framer = length_prefixed(width, endianness, 255);
        let header = header(width, endianness, payload.len() as u64);
        let whole = header.len() + payload.len();
        prop_assert_eq!(framer.needs(&header), Some(whole));
        prop_assert_eq!(framer.decode(&header), Ok(None));
        let frame = [header, payload].concat();
        let taken = framer.decode(&frame).expect("within the limit").map(|(len, _)| len);
        prop_assert_eq!(taken, Some(whole));
    }

    #[test]
    fn unframed_hands_on_every_part_and_then_a_complete_end(
        bytes in vec(any::<u8>(), 0..2_000),
        cuts in vec(1..600_usize, 1..8),
    ) {
        let sent = encoded(&mut Unframed, Message::from(bytes.clone())).expect("never refused");
        prop_assert_eq!(&sent, &bytes, "nothing is added");
        let mut receiver = Receiver::new(Unframed);
        let parts = fragments(&bytes, &cuts);
        for part in &parts {
            receiver.arrive(part).expect("never refused");
        }
        prop_assert_eq!(receiver.got.len(), parts.len());
        prop_assert!(receiver.got.iter().all(|part| !part.is_complete()));
        let joined: Vec<u8> = receiver.got.iter().flat_map(|part| part.bytes().to_vec()).collect();
        prop_assert_eq!(joined, bytes);
        let end = Unframed.end(0).expect("never refused").expect("the end is a Message");
        prop_assert!(end.is_complete() && end.is_empty());
    }
}

#[test]
fn byte_by_byte_a_message_comes_with_its_last_byte() {
    let mut framer = LengthPrefixed::default();
    let wire = encoded(&mut framer, Message::from("Hello!")).expect("within the limit");
    let mut receiver = Receiver::new(framer.clone());
    let (last, before) = wire.split_last().expect("a frame has a header");
    for byte in before {
        receiver.arrive(&[*byte]).expect("the framer's own bytes");
        assert!(receiver.got.is_empty());
    }
    receiver.arrive(&[*last]).expect("the framer's own bytes");
    assert_eq!(receiver.got, [Message::from("Hello!")]);
}

#[test]
fn an_empty_message_is_a_message() {
    let mut framer = LengthPrefixed::default();
    assert_eq!(encoded(&mut framer, Message::from("")), Ok(vec![0; 4]));
    let mut receiver = Receiver::new(framer.clone());
    receiver.arrive(&[0; 8]).expect("two empty frames");
    assert_eq!(receiver.got, [Message::from(""), Message::from("")]);
    assert!(receiver.got.iter().all(Message::is_complete));
}

#[test]
fn the_default_is_four_bytes_big_endian_and_16_mib() {
    let mut framer = LengthPrefixed::default();
    let wire = encoded(&mut framer, Message::from("hi")).expect("within the limit");
    assert_eq!(wire, b"\0\0\0\x02hi");
    let len_max: u32 = 16 << 20;
    assert_eq!(framer.decode(&len_max.to_be_bytes()), Ok(None));
    let refused = framer.decode(&(len_max + 1).to_be_bytes()).expect_err("one above the limit");
    let told = refused.to_string();
    assert!(told.contains("16777217") && told.contains("16777216"), "{told}");
}

#[test]
fn the_longest_frame_of_all_does_not_overflow() {
    let mut framer = length_prefixed(Width::Eight, Endianness::Big, usize::MAX);
    for above in 0..16 {
        let header = (u64::MAX - above).to_be_bytes();
        let refused = framer.decode(&header).is_err();
        assert_eq!(framer.needs(&header).is_none(), refused, "u64::MAX - {above}");
        assert_eq!(refused, above < 8, "u64::MAX - {above}");
    }
}

#[test]
fn an_end_inside_a_frame_says_how_far_it_came() {
    assert_eq!(LengthPrefixed::default().end(0), Ok(None));
    let truncated = LengthPrefixed::default().end(3);
    assert_eq!(truncated, Err(FrameError::Truncated { len: 3 }));
}

#[test]
fn a_refused_message_leaves_the_output_as_it_was() {
    let mut output = Output::default();
    output.put(b"before");
    let mut framer = length_prefixed(Width::One, Endianness::Big, 1_000);
    let refused = framer.encode(Message::from(vec![7; 256]), &mut output);
    assert_eq!(refused, Err(FrameError::TooLong { len: 256, len_max: 255 }));
    assert_eq!(output.to_vec(), b"before");
}

#[test]
fn what_the_sender_asked_for_a_message_is_known() {
    let wished = Message::from("urgent").niceness(3);
    let niceness = |wish: &postring::Properties| wish.niceness_or_default();
    assert_eq!(LengthPrefixed::properties(&wished).map(niceness), Some(3));
    assert_eq!(Unframed::properties(&wished).map(niceness), Some(3));
    assert!(LengthPrefixed::properties(&Message::from("plain")).is_none());
    assert!(Unframed::properties(&Message::from("plain")).is_none());
}
