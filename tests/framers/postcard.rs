//! `Postcard`.

use postring::{Endianness, FrameError, Framer, LengthPrefixed, Postcard, Value, Width};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::support::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Event {
    Started,
    Measured { sensor: u16, values: Vec<i64> },
    Said(String),
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Started),
        (any::<u16>(), vec(any::<i64>(), 0..20))
            .prop_map(|(sensor, values)| Event::Measured { sensor, values }),
        "\\PC{0,40}".prop_map(Event::Said),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_comes_back_from_any_fragments(
        sent in vec(events(), 0..6),
        cuts in vec(1..60_usize, 1..8),
        width in prop_oneof![Just(Width::Two), Just(Width::Four), Just(Width::Eight)],
        endianness in prop_oneof![Just(Endianness::Big), Just(Endianness::Little)],
    ) {
        let frames = LengthPrefixed::default().width(width).endianness(endianness);
        let mut framer = Postcard::<Event>::framed_by(frames.clone());
        let mut foreign = frames;
        let mut wire = Vec::new();
        for event in &sent {
            let bytes = encoded(&mut framer, event.clone().into()).expect("an event is postcard");
            let (taken, frame) = foreign.decode(&bytes).expect("a frame").expect("a whole one");
            prop_assert_eq!(taken, bytes.len());
            prop_assert_eq!(::postcard::from_bytes::<Event>(frame.bytes()), Ok(event.clone()));
            wire.extend(bytes);
        }
        let (arrived, got, left) = received(&framer, fragments(&wire, &cuts));
        prop_assert_eq!((arrived, left), (Ok(()), 0));
        prop_assert_eq!(got, sent);
    }

    #[test]
    fn garbage_in_a_frame_is_a_value_or_refused(garbage in vec(any::<u8>(), 0..60)) {
        let mut wire = (garbage.len() as u32).to_be_bytes().to_vec();
        wire.extend(&garbage);
        match Postcard::<Event>::default().decode(&wire) {
            Ok(found) => prop_assert_eq!(found.map(|(taken, _)| taken), Some(wire.len())),
            Err(error) => prop_assert!(matches!(error, FrameError::Malformed(_))),
        }
    }
}

#[test]
fn the_wire_is_a_length_and_the_value() {
    let mut framer = Postcard::<(u8, &'static str), (u8, String)>::default();
    let wire = encoded(&mut framer, Value((7, "hi"))).expect("postcard");
    assert_eq!(wire, b"\0\0\0\x04\x07\x02hi");
    comes_back_from_every_cut(&framer, &wire, &[(7, "hi".to_owned())]);
    assert_eq!(framer.needs(&wire[..4]), Some(8));
    assert_eq!(framer.needs_part(&wire[..4], 1, 2), Some(8), "a value comes whole");
}

#[test]
fn a_frame_that_is_not_exactly_a_value_is_refused() {
    for (wire, wrong) in [
        (&b"\0\0\0\x02\x07\x00"[..], "1 bytes too many"),
        (b"\0\0\0\x00", "end"),
        (b"\0\0\0\x02\x80\x80", "u16"),
    ] {
        let refused = Postcard::<u16>::default().decode(wire).expect_err("no number");
        assert!(refused.to_string().contains(wrong), "{refused}");
    }
    // A length inside the value that the frame cannot hold costs no memory.
    let wire = b"\0\0\0\x06\xff\xff\xff\xff\x0f\x00";
    assert!(Postcard::<Vec<u64>>::default().decode(wire).is_err());
}

#[test]
fn the_limit_holds_both_ways() {
    let too_long = FrameError::TooLong { len: 6, len_max: 5 };
    let mut framer =
        Postcard::<&'static str, String>::framed_by(LengthPrefixed::default().len_max(5));
    assert!(encoded(&mut framer, "abcd".into()).is_ok());
    assert_eq!(encoded(&mut framer, "abcde".into()), Err(too_long.clone()));
    assert_eq!(framer.decode(b"\0\0\0\x06\x05abcde"), Err(too_long));
    // The field is a limit, too.
    let narrow = LengthPrefixed::default().width(Width::One);
    let mut framer = Postcard::<String>::framed_by(narrow);
    assert!(encoded(&mut framer, "x".repeat(253).into()).is_ok());
    let refused = encoded(&mut framer, "x".repeat(254).into());
    assert_eq!(refused, Err(FrameError::TooLong { len: 256, len_max: 255 }));
    let refused = Postcard::<u8>::default().decode(&(1_u32 << 21).to_be_bytes());
    assert!(matches!(refused, Err(FrameError::TooLong { len_max: 1_048_576, .. })));
}

#[test]
fn what_cannot_be_postcard_is_not_sent() {
    struct Endless;
    impl Serialize for Endless {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let sequence = serializer.serialize_seq(None)?;
            serde::ser::SerializeSeq::end(sequence)
        }
    }
    let refused = encoded(&mut Postcard::<Endless, ()>::default(), Value(Endless));
    let told = refused.expect_err("no length").to_string();
    assert!(told.contains("Endless") && told.contains("length"), "{told}");
}

#[test]
fn an_end_within_a_value_is_an_error() {
    let mut framer = Postcard::<u8>::default().clone();
    assert!(format!("{framer:?}").contains("LengthPrefixed"));
    assert_eq!(framer.end(0), Ok(None));
    assert_eq!(framer.end(3), Err(FrameError::Truncated { len: 3 }));
    assert_eq!(Postcard::<u8>::lend(7).into_inner(), 7);
    const { assert!(Postcard::<u8>::RESTARTABLE && Postcard::<u8>::STANDS_ALONE) };
}

/// Every shape that serde knows, so that each step of the way through a value is taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Shapes {
    plain: (bool, char, i8, i16, i32, i64, i128),
    unsigned: (u8, u16, u32, u64, u128, f32, f64),
    nothing: Option<()>,
    something: Option<Box<Self>>,
    unit: Unit,
    wrapped: Wrapped,
    pair: Pair,
    map: std::collections::BTreeMap<String, Vec<u8>>,
    variants: Vec<Variant>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Wrapped(String);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pair(u8, [u16; 3]);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Variant {
    Unit,
    Newtype(u32),
    Tuple(u8, u8),
    Struct { name: String },
}

#[test]
fn values_of_every_shape_come_back() {
    let variants = vec![
        Variant::Unit,
        Variant::Newtype(1 << 30),
        Variant::Tuple(1, 2),
        Variant::Struct { name: "n".into() },
    ];
    let inner = Shapes {
        plain: (true, 'é', -1, -2, -3, -4, -5),
        unsigned: (1, 2, 3, 4, 5, 1.5, -2.5),
        nothing: None,
        something: None,
        unit: Unit,
        wrapped: Wrapped("w".into()),
        pair: Pair(9, [1, 2, 3]),
        map: [("key".to_owned(), vec![1, 2])].into(),
        variants,
    };
    let outer = Shapes { something: Some(Box::new(inner.clone())), nothing: Some(()), ..inner };
    let mut framer = Postcard::<Shapes>::default();
    let wire = encoded(&mut framer, outer.clone().into()).expect("postcard");
    comes_back_from_every_cut(&framer, &wire, &[outer]);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Tree(Vec<Self>);

/// `depth` trees, each the only one in the one around it.
fn nested(depth: usize) -> Vec<u8> {
    let mut wire = u32::try_from(depth).expect("short").to_be_bytes().to_vec();
    wire.resize(4 + depth - 1, 1);
    wire.push(0);
    wire
}

#[test]
fn a_value_is_not_nested_deeper_than_the_stack_bears() {
    let mut framer = Postcard::<Tree>::default();
    // A tree is a newtype around a sequence: two levels each.
    let (taken, _) = framer.decode(&nested(64)).expect("not too deep").expect("a whole one");
    assert_eq!(taken, 68);
    for depth in [66, 1000, 400_000] {
        let error = framer.decode(&nested(depth)).expect_err("too deep").to_string();
        assert!(error.contains("deeper than 128 levels"), "{error}");
    }
}
