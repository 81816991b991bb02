//! Framers that lie or break in their rarer verbs: each ends its own Carrier, within its limits.
//! (`faults` has those that panic, lie or fail as they decode and encode.)

use std::io::Write;
use std::net::{Shutdown, TcpStream};

use postring::{CloseReason, Engine, Error, FrameError, Framer, Message, Output, Properties};

use crate::support::*;

/// Which verb does what it must not.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// Says that the Message is shorter than what is there, and never finds it.
    NeedsTooLittle,
    /// Says the length of a large Message and does not find it when it is there.
    NeedsInVain,
    NeedsPanics,
    EndPanics,
    TakesNothing,
    TakesTooMuch,
    /// Of what is sent as a `P`.
    PropertiesPanic,
}

/// Echoes single bytes, until a `!` brings out the fault.
#[derive(Clone)]
struct Faulty(Fault);

impl Framer for Faulty {
    type Got = Message<'static>;
    type In<'a> = Message<'a>;
    type Out<'a> = Message<'a>;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(usize, Message<'a>)>, FrameError> {
        let good = input.first().is_some_and(|first| *first != b'!');
        match self.0 {
            Fault::TakesNothing if !good => return Ok(Some((0, Message::lent(&[])))),
            Fault::TakesTooMuch if !good => return Ok(Some((input.len() + 1, Message::lent(&[])))),
            _ => {}
        }
        Ok(good.then(|| (1, Message::lent(&input[..1]))))
    }

    fn lend(message: Message<'static>) -> Message<'static> {
        message
    }

    fn properties<'a>(message: &'a Message<'_>) -> Option<&'a Properties> {
        assert!(message.bytes() != b"P", "a framer that panics as it is asked for properties");
        message.properties()
    }

    fn encode(&mut self, message: Message<'_>, into: &mut Output) -> Result<(), FrameError> {
        into.put_message(&message);
        Ok(())
    }

    fn needs(&self, input: &[u8]) -> Option<usize> {
        match self.0 {
            _ if input.first() != Some(&b'!') => None,
            Fault::NeedsTooLittle => Some(1),
            Fault::NeedsInVain => Some(40_000),
            Fault::NeedsPanics => panic!("a framer that panics as it is asked for a length"),
            _ => None,
        }
    }

    fn end(&mut self, _: usize) -> Result<Option<Message<'static>>, FrameError> {
        assert!(self.0 != Fault::EndPanics, "a framer that panics at the end");
        Ok(None)
    }
}

const UNMEASURED_BYTES: usize = 100_000;

/// Runs `provoke` with a peer of a framer with `fault`, while another one is served.
fn provoked(fault: Fault, provoke: impl Fn(&Engine, TcpStream) + Copy + Send + 'static) {
    on_both(30, move |driver| {
        let engine = one(driver)
            .limits(limits(|limits| limits.unmeasured_message_bytes = UNMEASURED_BYTES))
            .respond_with("tcp://127.0.0.1:0", Faulty(fault), |message, reply| reply.send(message))
            .start()
            .unwrap();
        let (mut other, mut peer) = (connect(&engine), connect(&engine));
        echoes(&mut other);
        echoes(&mut peer);
        provoke(&engine, peer);
        echoes(&mut other);
        end(engine);
    });
}

fn echoes(peer: &mut TcpStream) {
    peer.write_all(b"a").unwrap();
    let mut answer = [0];
    std::io::Read::read_exact(peer, &mut answer).unwrap();
    assert_eq!(&answer, b"a");
}

/// Sends without an end until the Carrier is ended, which must not take much.
fn is_limited(engine: &Engine, mut peer: TcpStream) {
    let piece = [b'!'; 10_000];
    let mut sent = 0;
    while peer.write_all(&piece).is_ok() {
        sent += piece.len();
        assert!(sent < 100 << 20, "{sent} bytes were taken");
    }
    until("it is counted", || engine.metrics().total().frame_errors == 1);
}

#[test]
fn a_framer_that_never_finds_what_it_said_was_there_is_limited() {
    provoked(Fault::NeedsTooLittle, is_limited);
    provoked(Fault::NeedsInVain, is_limited);
}

#[test]
fn a_framer_that_panics_as_it_is_asked_for_a_length_ends_its_carrier_alone() {
    provoked(Fault::NeedsPanics, |engine, mut peer| {
        peer.write_all(b"!").unwrap();
        assert!(is_ended(&mut peer));
        assert_eq!(engine.metrics().total().panics, 1);
    });
}

#[test]
fn a_framer_that_panics_at_the_end_ends_its_carrier_alone() {
    provoked(Fault::EndPanics, |engine, mut peer| {
        peer.shutdown(Shutdown::Write).unwrap();
        assert!(is_ended(&mut peer));
        until("it is counted", || engine.metrics().total().panics == 1);
    });
}

#[test]
fn what_a_framer_does_wrong_is_not_blamed_on_the_peer() {
    on_both(30, |driver| {
        for fault in [Fault::TakesNothing, Fault::TakesTooMuch] {
            let (engine, carrier, mut peer) = foreign_of(one(driver), Faulty(fault));
            peer.write_all(b"!").unwrap();
            let error = carrier.receive().wait().unwrap_err().to_string();
            assert!(error.contains("framer") && !error.contains("peer"), "{fault:?}: {error}");
            assert_eq!(engine.metrics().total().frame_errors, 1);
            end(engine);
        }
    });
}

#[test]
fn a_framer_that_panics_as_it_is_asked_for_properties_ends_its_carrier_and_says_so() {
    on_both(30, |driver| {
        let fault = Faulty(Fault::PropertiesPanic);
        let (engine, carrier, _peer) = foreign_of(one(driver), fault);
        let error = carrier.send(Message::from("P")).wait().unwrap_err();
        assert!(matches!(error, Error::Closed(CloseReason::Panicked)), "{error}");
        assert_eq!(engine.metrics().total().panics, 1);
        end(engine);
    });
}

#[test]
fn a_closing_handler_that_panics_does_not_silence_the_next() {
    on_both(30, |driver| {
        let (engine, carrier, _peer) = foreign(driver);
        carrier.on_closed(|_| panic!("a handler that panics at the end")).unwrap();
        let (over, ended) = std::sync::mpsc::channel();
        carrier.on_closed(move |reason| over.send(reason).unwrap()).unwrap();
        carrier.abort();
        assert_eq!(ended.recv_timeout(SOON), Ok(CloseReason::Aborted));
        until("it is counted", || engine.metrics().total().panics == 1);
        end(engine);
    });
}
