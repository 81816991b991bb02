//! `Lines`.

use postring::{Detach, FrameError, Framer, Line, Lines, Message, Output};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::*;

fn wire_of(lines: &mut Lines, texts: &[String]) -> Vec<u8> {
    let line = |text: &String| encoded(lines, Message::from(&text[..])).expect("one line of text");
    texts.iter().flat_map(line).collect()
}

/// Lines, with much that is close to an ending.
fn texts() -> impl Strategy<Value = Vec<String>> {
    let text = prop_oneof![
        "[a-z]{0,20}",
        "[\ra]{0,6}a",
        "\\PC{0,40}",
        vec(any::<char>().prop_filter("a line", |char| *char != '\n' && *char != '\r'), 0..30)
            .prop_map(|chars| chars.into_iter().collect()),
    ];
    vec(text, 0..8)
}

proptest! {
    #[test]
    fn what_is_encoded_comes_back_from_any_fragments(
        texts in texts(),
        crlf in any::<bool>(),
        cuts in vec(1..40_usize, 1..8),
    ) {
        let mut lines = if crlf { Lines::default().crlf() } else { Lines::default() };
        let wire = wire_of(&mut lines, &texts);
        let (arrived, got, left) = received(&lines, fragments(&wire, &cuts));
        prop_assert_eq!((arrived, left), (Ok(()), 0));
        prop_assert_eq!(got, texts);
    }

    #[test]
    fn garbage_gives_the_same_however_it_is_cut(
        garbage in vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'a'), any::<u8>()], 0..200),
        len_max in 0..20_usize,
        cuts in vec(1..30_usize, 1..4),
    ) {
        let lines = Lines::default().len_max(len_max);
        let whole = received(&lines, [&garbage[..]]);
        let cut = received(&lines, fragments(&garbage, &cuts));
        prop_assert_eq!(&cut.1, &whole.1);
        // How much of a line that is too long was there when it was noticed depends on the cuts.
        let kind = |error: &FrameError| std::mem::discriminant(error);
        prop_assert_eq!(
            cut.0.as_ref().map_err(kind),
            whole.0.as_ref().map_err(kind),
        );
        prop_assert!(whole.1.iter().all(|line| line.len() <= len_max));
    }
}

#[test]
fn both_endings_are_understood_from_every_cut() {
    let expected = ["one", "", "two\rhalves", "", "grün"].map(str::to_owned);
    let wire = "one\n\r\ntwo\rhalves\r\n\ngrün\r\n";
    comes_back_from_every_cut(&Lines::default(), wire.as_bytes(), &expected);
}

#[test]
fn lf_is_sent_unless_crlf_is_asked_for() {
    let line = || Message::from("Hello!");
    assert_eq!(encoded(&mut Lines::default(), line()), Ok(b"Hello!\n".to_vec()));
    assert_eq!(encoded(&mut Lines::default().crlf(), line()), Ok(b"Hello!\r\n".to_vec()));
}

#[test]
fn what_would_come_back_as_something_else_is_not_sent() {
    let mut lines = Lines::default().len_max(10);
    for (text, wrong) in [
        (&b"two\nlines"[..], "line feed"),
        (b"\n", "line feed"),
        (b"ends with\r", "carriage return"),
        (b"\xff", "UTF-8"),
    ] {
        let mut output = Output::default();
        let refused = lines.encode(Message::from(text), &mut output).expect_err("no line");
        assert!(refused.to_string().contains(wrong), "{refused}");
        assert!(output.is_empty());
    }
    let refused = lines.encode(Message::from("01234567890"), &mut Output::default());
    assert_eq!(refused, Err(FrameError::TooLong { len: 11, len_max: 10 }));
    assert!(lines.encode(Message::from("0123456789"), &mut Output::default()).is_ok());
    let part = Message::from("part").partial();
    assert!(lines.encode(part, &mut Output::default()).is_err());
}

#[test]
fn a_line_that_is_no_text_is_refused() {
    let refused = Lines::default().decode(b"\xc3\x28\nnext\n").expect_err("not UTF-8");
    assert!(refused.to_string().contains("UTF-8"), "{refused}");
    // A character that is cut by the arrival of its bytes is none the worse for it.
    comes_back_from_every_cut(&Lines::default(), "ü\n".as_bytes(), &["ü".to_owned()]);
}

#[test]
fn too_long_is_refused_before_the_ending_comes() {
    let mut lines = Lines::default();
    let longest = vec![b'x'; 64 << 10];
    assert_eq!(lines.decode(&longest), Ok(None), "the ending may still come");
    let too_long = [&longest[..], b"x"].concat();
    let refused = FrameError::TooLong { len: (64 << 10) + 1, len_max: 64 << 10 };
    assert_eq!(lines.decode(&too_long), Err(refused));
}

#[test]
fn an_end_within_a_line_is_an_error() {
    assert_eq!(Lines::default().end(0), Ok(None));
    assert_eq!(Lines::default().end(3), Err(FrameError::Truncated { len: 3 }));
    const { assert!(Lines::RESTARTABLE && Lines::STANDS_ALONE && !Lines::PARTS) };
}

/// 16 MiB in pieces of 16 bytes take a million calls: searched anew each time, that would be
/// hours, so this test would not end.
#[test]
fn a_line_that_trickles_in_is_searched_once() {
    let mut lines = Lines::default().len_max(usize::MAX);
    let mut wire = vec![b'x'; 16 << 20];
    wire.push(b'\n');
    for len in (0..wire.len()).step_by(16) {
        assert_eq!(lines.decode(&wire[..len]), Ok(None));
    }
    let line = lines.decode(&wire).expect("a good line").map(|(taken, line)| (taken, line.len()));
    assert_eq!(line, Some((wire.len(), wire.len() - 1)));
}

#[test]
fn a_line_is_text_and_goes_back_as_a_message() {
    let mut lines = Lines::default();
    let (_, line) = lines.decode(b"Hello!\n").expect("a good line").expect("a whole line");
    assert_eq!((line.to_string(), line.to_uppercase()), ("Hello!".into(), "HELLO!".into()));
    let owned: Line<'static> = Lines::lend(line.clone().detach());
    assert_eq!(owned, line);
    for line in [line, owned] {
        assert_eq!(encoded(&mut lines, line.into()), Ok(b"Hello!\n".to_vec()));
    }
    let wished = Message::from("urgent").niceness(3);
    assert_eq!(Lines::properties(&wished).map(|wish| wish.niceness_or_default()), Some(3));
}
