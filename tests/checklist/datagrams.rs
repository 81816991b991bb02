//! The items that datagrams have another answer to than streams: `udp://`.
//!
//! At the other end stand sockets of the standard library, which see each datagram as it came.

use std::net::UdpSocket;
use std::sync::mpsc;
use std::time::Duration;

use postring::{
    Acceptor, Carrier, DriverChoice, Engine, Error, Expiry, Message, Outcome, Unframed,
};

use crate::support::*;

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

fn heard(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 70_000];
    let len = socket.recv(&mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

fn to(engine: &Engine, socket: &UdpSocket) -> Carrier<Unframed> {
    engine.initiate_with(&format!("udp://{}", socket.local_addr().unwrap()), Unframed)
}

fn echo(driver: DriverChoice) -> (Engine, String) {
    let place = "udp://127.0.0.1:0";
    let engine = one(driver).respond_with(place, Unframed, |message, reply| reply.send(message));
    let engine = engine.start().unwrap();
    let place = engine.local_addresses().remove(0).replace("udp://", "");
    (engine, place)
}

/// What leaves when all of `messages` are given in one turn.
fn in_one_turn(
    driver: DriverChoice,
    messages: impl FnOnce() -> Vec<Message<'static>> + Send + 'static,
) -> Vec<Vec<u8>> {
    let engine = one(driver).start().unwrap();
    let socket = socket();
    let carrier = to(&engine, &socket);
    carrier.activate().wait().unwrap();
    let carrier = carrier.keep();
    let (told, expected) = mpsc::channel();
    let send_all = move || async move {
        let all = messages();
        told.send(all.len()).unwrap();
        all.into_iter().for_each(|message| carrier.try_send(message).unwrap());
    };
    engine.spawn_on(0, send_all).unwrap();
    let expected = expected.recv_timeout(SOON).unwrap();
    let heard = (0..expected).map(|_| heard(&socket)).collect();
    end(engine);
    heard
}

#[test]
fn item_012_initiate_is_the_active_open_of_datagrams() {
    on_both(60, |driver| {
        let engine = one(driver).start().unwrap();
        let socket = socket();
        let carrier = to(&engine, &socket);
        assert!(carrier.peer_address().wait().unwrap().is_none(), "nothing is opened yet");
        carrier.send("the first one opens it").wait().unwrap();
        assert_eq!(heard(&socket), b"the first one opens it");
        // What was sent before that is as many datagrams as Messages, also without a byte.
        let early = to(&engine, &socket).keep();
        let send_all = move || async move {
            for text in ["", "two", "three"] {
                early.try_send(text).unwrap();
            }
        };
        engine.spawn_on(0, send_all).unwrap();
        for wanted in ["", "two", "three"] {
            assert_eq!(heard(&socket), wanted.as_bytes());
        }
        assert_eq!(carrier.peer_address().wait().unwrap(), socket.local_addr().ok());
        end(engine);
    });
}

#[test]
fn item_013_a_listener_of_datagrams_accepts_as_any_other() {
    fn first_from<A: Acceptor<Unframed>>(acceptor: &A) -> Carrier<Unframed> {
        acceptor.accept().wait().unwrap()
    }
    on_both(60, |driver| {
        let listener = one(driver).listen_with("udp://127.0.0.1:0", Unframed).unwrap();
        let place = listener.local_addresses().remove(0).replace("udp://", "");
        socket().send_to(b"hello", &place).unwrap();
        let carrier = first_from(&listener);
        assert_eq!(carrier.receive().wait().unwrap().text(), Ok("hello"));
    });
}

#[test]
fn item_016_a_responder_answers_each_source_on_one_object() {
    on_both(60, |driver| {
        let (engine, place) = echo(driver);
        let sources: Vec<_> = (0..20).map(|_| socket()).collect();
        for (at, source) in sources.iter().enumerate() {
            source.send_to(&[at as u8; 3], &place).unwrap();
        }
        for (at, source) in sources.iter().enumerate() {
            assert_eq!(heard(source), [at as u8; 3]);
        }
        assert_eq!(engine.metrics().total().open_connections, 0);
        end(engine);
    });
}

#[test]
fn item_017_to_020_a_message_is_one_datagram_whole_or_not_at_all() {
    on_both(60, |driver| {
        let (engine, place) = echo(driver);
        let (peer, there) = (socket(), one(driver).start().unwrap());
        let carrier = to(&there, &peer);
        for len in [0, 1, 1400, 65_507] {
            carrier.send(Message::new(pattern(len))).wait().unwrap();
            assert!(heard(&peer) == pattern(len), "{len}");
            peer.send_to(&pattern(len), &place).unwrap();
            assert!(heard(&peer) == pattern(len), "{len}, echoed");
        }
        let error = carrier.send(Message::new(pattern(65_508))).wait().unwrap_err();
        assert!(matches!(&error, Error::Message(why) if why.contains("65507")), "{error}");
        end(there);
        end(engine);
    });
}

#[test]
fn item_024_a_message_says_what_became_of_it_as_far_as_is_known() {
    on_both(60, |driver| {
        let engine = one(driver).start().unwrap();
        let socket = socket();
        let carrier = to(&engine, &socket);
        let receipt = carrier.send("watched").wait().unwrap();
        assert_eq!(receipt.sent().wait().unwrap(), Outcome::Sent);
        assert_eq!(receipt.acked().wait().unwrap(), Outcome::Unsupported);
        end(engine);
    });
}

#[test]
fn item_025_and_026_what_is_not_asked_for_waits_in_bounds() {
    on_both(60, |driver| {
        let engine = one(driver).start().unwrap();
        let socket = socket();
        let carrier = to(&engine, &socket);
        carrier.send("hello").wait().unwrap();
        let mut hello = [0; 9];
        let (_, from) = socket.recv_from(&mut hello).unwrap();
        for at in 0..5000_u32 {
            socket.send_to(&[&at.to_be_bytes()[..], &[7; 1000]].concat(), from).unwrap();
        }
        // Those that were kept are whole and in order; the others, the kernel has dropped.
        let mut last = None;
        for _ in 0..50 {
            let message = carrier.receive().wait().unwrap();
            let number: [u8; 4] = message.bytes()[..4].try_into().unwrap();
            let number = u32::from_be_bytes(number);
            assert!(last.is_none_or(|last| last < number));
            last = Some(number);
        }
        assert!(engine.metrics().total().received_messages < 5000, "some found no room");
        end(engine);
    });
}

#[test]
fn item_029_what_cannot_arrive_in_time_never_leaves() {
    on_both(60, |driver| {
        let engine = one(driver).start().unwrap();
        let socket = socket();
        let carrier = to(&engine, &socket);
        carrier.activate().wait().unwrap();
        let late = Message::from("too late").lifetime(Duration::from_nanos(1));
        let receipt = carrier.send(late).wait().unwrap();
        let outcome = receipt.sent().wait().unwrap();
        assert!(
            matches!(outcome, Outcome::Expired(Expiry::Deadline | Expiry::Hopeless)),
            "{outcome:?}"
        );
        carrier.send("in time").wait().unwrap();
        assert_eq!(heard(&socket), b"in time");
        end(engine);
    });
}

#[test]
fn item_031_and_033_urgent_datagrams_go_first_and_earlier_deadlines_before_later() {
    on_both(60, |driver| {
        let lifetime = |ms| Duration::from_millis(ms);
        let order = in_one_turn(driver, move || {
            vec![
                Message::from("bulk").niceness(2),
                Message::from("later").niceness(1).lifetime(lifetime(9000)),
                Message::from("sooner").niceness(1).lifetime(lifetime(5000)),
                Message::from("urgent").niceness(0).idempotent(),
            ]
        });
        assert_eq!(order, [&b"urgent"[..], b"sooner", b"later", b"bulk"]);
    });
}

#[test]
fn item_040_and_018_each_message_has_a_packet_of_its_own() {
    on_both(60, |driver| {
        let packets = in_one_turn(driver, || {
            let small = |byte| Message::new(vec![byte; 10]);
            vec![small(1), small(2).immediate(), small(3)]
        });
        // An immediate one may go before the others; it shares its packet with none.
        assert_eq!(packets.len(), 3);
        assert!(packets.iter().all(|packet| packet.len() == 10), "{packets:?}");
    });
}

#[test]
fn item_014_and_015_the_halves_of_a_datagram_carrier_have_one_direction_each() {
    on_both(60, |driver| {
        let engine = one(driver).start().unwrap();
        let socket = socket();
        let source = to(&engine, &socket).into_source();
        source.send("one way").wait().unwrap();
        let mut bytes = [0; 16];
        let (len, from) = socket.recv_from(&mut bytes).unwrap();
        assert_eq!(&bytes[..len], b"one way");
        // What is sent to a Source is nobody's: it waits for no one, and ends nothing.
        for _ in 0..50 {
            socket.send_to(b"the other way", from).unwrap();
        }
        source.send("still").wait().unwrap();
        assert_eq!(heard(&socket), b"still");
        let sink = to(&engine, &socket).into_sink();
        sink.activate().wait().unwrap();
        let path = sink.transients().wait().unwrap()[0].paths()[0];
        socket.send_to(b"for the sink", path.local_address().unwrap()).unwrap();
        assert_eq!(sink.receive().wait().unwrap().text(), Ok("for the sink"));
        drop((source, sink));
        end(engine);
    });
}

#[test]
fn item_072_and_074_a_path_has_two_ends_and_the_payload_of_one_packet() {
    on_both(60, |driver| {
        let listener = one(driver).listen_with("udp://127.0.0.1:0", Unframed).unwrap();
        let place = listener.local_addresses().remove(0);
        let engine = one(driver).start().unwrap();
        let here = engine.initiate_with(&place, Unframed);
        here.send("hello").wait().unwrap();
        let there = listener.accept().wait().unwrap();
        let path_of = |carrier: &Carrier<Unframed>| {
            let transients = carrier.transients().wait().unwrap();
            transients[0].paths()[0]
        };
        let (out, back) = (path_of(&here), path_of(&there));
        assert_eq!(format!("udp://{}", out.peer_address().unwrap()), place);
        assert_eq!(
            (out.local_address(), out.peer_address()),
            (back.peer_address(), back.local_address())
        );
        // What the MTU of the loopback, 65 536 bytes, leaves of IPv4's longest packet.
        assert_eq!(out.payload_bytes_max(), Some(65_507));
        assert_eq!(back.payload_bytes_max(), Some(65_507));
        assert_eq!((out.round_trip(), out.loss(), out.rate_bytes_per_s()), (None, None, None));
        // A Listener's Carriers have their Associations as any others.
        let association = there.association().wait().unwrap();
        assert_eq!(association.paths().wait().unwrap()[0].peer_address(), back.peer_address());
        assert_eq!(association.carriers().wait().unwrap().len(), 1);
        end(engine);
    });
}
