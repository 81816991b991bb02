//! Items 21, 22 and 28: Messages in parts, and what rides on them beside their content.

use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Waker};

use postring::{
    Error, FrameError, Framer, Message, Output, Part, Properties, Reply, SPECIFICS_MAX,
};

use crate::pairs::*;
use crate::support::*;

#[test]
fn item_021_one_handle_stands_for_all_parts_of_a_message() {
    on_both(60, |driver| {
        let (_listener, engine, here, there) = both(driver);
        let content = pattern(60_000);
        let mut message = here.begin(Properties::new().total_len(60_000));
        for part in content.chunks(20_000) {
            assert!(!message.is_complete());
            message.send(part, false).wait().unwrap();
        }
        message.send("", true).wait().unwrap();
        assert!(message.is_complete());
        here.send("next").wait().unwrap();
        let (mut received, mut complete) = (Vec::new(), false);
        while !complete {
            let part = there.receive_partial(1, 7000).wait().unwrap();
            assert_eq!(part.handle(), 1);
            received.extend_from_slice(part.bytes());
            complete = part.is_complete();
            assert_eq!(complete, received.len() == content.len());
        }
        assert!(received == content);
        let next = there.receive_partial(1, 7000).wait().unwrap();
        assert_eq!((next.handle(), next.bytes(), next.is_complete()), (2, &b"next"[..], true));
        end(engine);
    });
}

#[test]
fn item_022_parts_have_a_least_and_a_greatest_length() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        let mut first = carrier.receive_partial(1000, 4096);
        let is_pending = |first: &mut postring::ReceivingPart<_>| {
            Pin::new(first).poll(&mut Context::from_waker(Waker::noop())).is_pending()
        };
        assert!(is_pending(&mut first));
        let bytes = [frame(&pattern(9000)), frame(b"short")].concat();
        peer.write_all(&bytes[..4 + 999]).unwrap();
        until("it came", || engine.metrics().total().received_bytes == 1003);
        assert!(is_pending(&mut first), "999 bytes are too few");
        peer.write_all(&bytes[1003..]).unwrap();
        let first = first.wait().unwrap();
        let mut received = first.bytes().to_vec();
        let mut last: Part<Message<'_>> = first;
        while !last.is_complete() {
            assert!((1000..=4096).contains(&last.len()), "{} bytes", last.len());
            last = carrier.receive_partial(1000, 4096).wait().unwrap();
            received.extend_from_slice(last.bytes());
        }
        assert!(last.len() <= 4096 && received == pattern(9000));
        let short = carrier.receive_partial(1000, 4096).wait().unwrap();
        assert_eq!((short.bytes(), short.is_complete()), (&b"short"[..], true));
        end(engine);
    });
}

/// A protocol whose header has a field that is no content: a length, a colour, the payload.
#[derive(Clone)]
struct Coloured;

impl Framer for Coloured {
    type Got = Message<'static>;
    type In<'a> = Message<'a>;
    type Out<'a> = Message<'a>;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(usize, Message<'a>)>, FrameError> {
        let [len, colour, rest @ ..] = input else { return Ok(None) };
        let Some(payload) = rest.get(..usize::from(*len)) else { return Ok(None) };
        let colour = Properties::new().with("colour", vec![*colour]);
        Ok(Some((2 + payload.len(), Message::lent(payload).with_properties(colour))))
    }

    fn lend(message: Message<'static>) -> Message<'static> {
        message
    }

    fn properties<'a>(message: &'a Message<'_>) -> Option<&'a Properties> {
        message.properties()
    }

    fn encode(&mut self, message: Message<'_>, into: &mut Output) -> Result<(), FrameError> {
        let colour = colour_of(&message).unwrap_or(0);
        into.put(&[message.len() as u8, colour]);
        into.put_message(&message);
        Ok(())
    }
}

fn colour_of(message: &Message<'_>) -> Option<u8> {
    message.properties()?.specific("colour")?.first().copied()
}

#[test]
fn item_028_specific_properties_ride_on_a_message_in_both_directions() {
    on_both(60, |driver| {
        let (told, seen) = mpsc::channel();
        let engine = one(driver)
            .respond_with(
                "tcp://127.0.0.1:0",
                Coloured,
                move |message: Message<'_>, reply: Reply<'_, Coloured>| {
                    told.send(colour_of(&message)).unwrap();
                    let answer = Properties::new().with("colour", vec![9]);
                    reply.send(Message::from("painted").with_properties(answer))
                },
            )
            .start()
            .unwrap();
        let carrier = engine.initiate_with(&engine.local_addresses()[0], Coloured);
        let asked = Properties::new().with("colour", vec![7]);
        carrier.send(Message::from("paint").with_properties(asked)).wait().unwrap();
        let answer = carrier.receive().wait().unwrap();
        assert_eq!((text(&answer).as_str(), colour_of(&answer)), ("painted", Some(9)));
        assert_eq!(seen.recv_timeout(SOON), Ok(Some(7)));
        let too_many = (0..=SPECIFICS_MAX)
            .fold(Properties::new(), |all, number| all.with(number.to_string(), vec![0]));
        let refused = carrier.send(Message::from("x").with_properties(too_many)).wait();
        assert!(matches!(refused, Err(Error::Message(_))), "{refused:?}");
        end(engine);
    });
}
