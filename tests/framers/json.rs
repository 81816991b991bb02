//! `Json`.

use postring::{Decoded, Detach, FrameError, Framer, Json, Output, Value};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::support::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    name: String,
    count: u32,
    notes: Vec<Option<String>>,
}

fn orders() -> impl Strategy<Value = Order> {
    let text = "[\\PC\n\r\"\\\\]{0,20}";
    (text, any::<u32>(), vec(proptest::option::of(text), 0..4))
        .prop_map(|(name, count, notes)| Order { name, count, notes })
}

proptest! {
    #[test]
    fn what_is_encoded_comes_back_from_any_fragments(
        sent in vec(orders(), 0..6),
        cuts in vec(1..60_usize, 1..8),
    ) {
        let mut framer = Json::<Order>::default();
        let mut wire = Vec::new();
        for order in &sent {
            wire.extend(encoded(&mut framer, order.clone().into()).expect("an order is JSON"));
        }
        prop_assert_eq!(wire.iter().filter(|byte| **byte == b'\n').count(), sent.len());
        let (arrived, got, left) = received(&framer, fragments(&wire, &cuts));
        prop_assert_eq!((arrived, left), (Ok(()), 0));
        prop_assert_eq!(got, sent);
    }

    #[test]
    fn garbage_ends_or_waits(garbage in "[\\[\\]{}\"a0,: \n]{0,80}") {
        let framer = Json::<serde_json::Value>::default();
        let (arrived, _, left) = received(&framer, [garbage.as_bytes()]);
        let rest = &garbage.as_bytes()[garbage.len() - left..];
        prop_assert!(arrived.is_err() || !rest.contains(&b'\n'));
    }
}

#[test]
fn spaces_and_carriage_returns_around_a_value_do_not_matter() {
    let wire = b"1\n 2 \r\n\t3\n";
    comes_back_from_every_cut(&Json::<u32>::default(), wire, &[1, 2, 3]);
}

#[test]
fn both_directions_have_their_own_type() {
    let mut client = Json::<u32, String>::default();
    assert_eq!(encoded(&mut client, 42.into()), Ok(b"42\n".to_vec()));
    let (taken, text) = client.decode(b"\"forty-two\"\n").expect("JSON").expect("a whole line");
    assert_eq!((taken, text.as_str()), (12, "forty-two"));
    assert_eq!(Json::<u32, String>::lend(text.clone().detach()), text);
}

#[test]
fn what_is_no_value_of_the_type_is_refused_and_says_so() {
    for (line, part) in [
        (&b"\n"[..], "EOF"),
        (b"{\"name\":\n", "map"),
        (b"\"text\"\n", "u32"),
        (b"1 2\n", "trailing"),
        (b"-1\n", "-1"),
        (b"\xff\n", "u32"),
    ] {
        let refused = Json::<u32>::default().decode(line).expect_err("no number");
        assert!(matches!(refused, FrameError::Malformed(_)));
        assert!(refused.to_string().contains(part), "{refused}");
    }
    let deep = [vec![b'['; 100_000], b"\n".to_vec()].concat();
    let refused = Json::<serde_json::Value>::default().decode(&deep).expect_err("too deep");
    assert!(refused.to_string().contains("recursion limit"), "{refused}");
}

#[test]
fn what_is_no_json_is_not_sent() {
    let mut framer = Json::<std::collections::BTreeMap<Vec<u8>, u8>, ()>::default();
    let refused = encoded(&mut framer, Value([(vec![1], 1)].into()));
    let told = refused.expect_err("keys are strings").to_string();
    assert!(told.contains("BTreeMap") && told.contains("key must be a string"), "{told}");
}

#[test]
fn the_limit_holds_both_ways() {
    let mut framer = Json::<String>::default().len_max(5);
    assert_eq!(encoded(&mut framer, "abc".to_owned().into()), Ok(b"\"abc\"\n".to_vec()));
    let too_long = FrameError::TooLong { len: 6, len_max: 5 };
    assert_eq!(encoded(&mut framer, "abcd".to_owned().into()), Err(too_long.clone()));
    assert!(framer.decode(b"\"abc\"\r\n").is_ok_and(|found| found.is_some()));
    assert_eq!(framer.decode(b"\"abcd\"\n"), Err(too_long));
    let mut default = Json::<String>::default();
    let longest = "x".repeat((1 << 20) - 2);
    assert!(encoded(&mut default, longest.clone().into()).is_ok());
    assert!(encoded(&mut default, (longest + "x").into()).is_err());
}

#[test]
fn a_value_is_anything_and_an_answer_may_be_what_came() {
    let framer = Json::<String>::default().len_max(77).clone();
    assert!(format!("{framer:?}").contains("77"));
    assert!(Json::<u8>::properties(&Value(7)).is_none());
    assert_eq!(Json::<u8>::default().needs(b"7"), None);
    assert_eq!(Json::<u8>::default().needs_part(b"7", 1, 2), None);
    let decoded = Json::<String>::lend("echo".to_owned());
    let mut changed: Decoded<String> = decoded.clone();
    changed.push('!');
    assert_eq!((decoded.into_inner(), changed.len()), ("echo".to_owned(), 5));
    assert_eq!(Value::from(changed).detach(), Value("echo!".to_owned()));
    assert_eq!(Json::<String>::default().end(2), Err(FrameError::Truncated { len: 2 }));
    let mut output = Output::default();
    assert!(Json::<u8>::default().encode(7.into(), &mut output).is_ok());
    const { assert!(Json::<u8>::RESTARTABLE && Json::<u8>::STANDS_ALONE) };
}
