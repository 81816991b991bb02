//! Items 18, 34 and 40: Messages and the packets that carry them, seen from outside.
//!
//! A machine without the right to capture packets skips these.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use postring::{DriverChoice, Engine, Message};

use crate::capture::{Capture, Protocol};
use crate::pairs::*;
use crate::support::*;

/// The lengths of the payloads in which `messages` leave that are given in one turn.
fn packets_of(
    driver: DriverChoice,
    (place, capture): (Ipv4Addr, &Capture),
    messages: impl FnOnce() -> Vec<Message<'static>> + Send + 'static,
) -> Vec<usize> {
    let engine: Engine = one(driver).start().unwrap();
    let listener = TcpListener::bind((place, 0)).unwrap();
    let carrier = engine.initiate_with(&address_of(&listener), frames());
    carrier.activate().wait().unwrap();
    let peer = accept(&listener);
    let carrier = carrier.keep();
    let (told, bytes) = std::sync::mpsc::channel();
    let send_all = move || async move {
        let all = messages();
        told.send(all.iter().map(|message| 4 + message.len()).sum()).unwrap();
        all.into_iter().for_each(|message| carrier.try_send(message).unwrap());
    };
    engine.spawn_on(0, send_all).unwrap();
    let bytes: usize = bytes.recv_timeout(SOON).unwrap();
    // The peer does not read: more than its first window does not come.
    let lens = capture.payloads_to(listener.local_addr().unwrap().port(), bytes.min(1000));
    drop(peer);
    end(engine);
    lens
}

#[test]
fn item_018_packets_are_not_messages() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        peer.write_all(&[frame(b"one"), frame(b"two"), frame(b"three")].concat()).unwrap();
        for wanted in ["one", "two", "three"] {
            assert_eq!(text(&carrier.receive().wait().unwrap()), wanted);
        }
        end(engine);
        let place = Ipv4Addr::new(127, 0, 0, 18);
        let Some(capture) = Capture::of_packets_to(place, Protocol::Tcp) else { return };
        let seen = (place, &capture);
        let small = packets_of(driver, seen, || {
            (0..10).map(|_| Message::new(vec![1; 10]).idempotent()).collect()
        });
        assert_eq!(small, [140], "ten small ones share a packet");
        let plain = packets_of(driver, seen, || vec![Message::from("x"); 10]);
        assert_eq!(plain, [50], "with and without properties");
        let large = packets_of(driver, seen, || vec![Message::new(vec![1; 200_000])]);
        assert!(large[0] < 200_000, "a large one has several");
    });
}

#[test]
fn item_040_an_immediate_message_has_a_packet_of_its_own() {
    on_both(60, |driver| {
        let place = Ipv4Addr::new(127, 0, 0, 40);
        let Some(capture) = Capture::of_packets_to(place, Protocol::Tcp) else { return };
        let packets = packets_of(driver, (place, &capture), || {
            let plain = || Message::new(vec![1; 10]).idempotent();
            vec![plain().immediate(), plain(), plain()]
        });
        assert_eq!(packets, [14, 28], "the others do not hold it up, nor share its packet");
    });
}

/// Sends Messages of several classes to `address`; `next` tells the mark of the next packet.
fn code_points(driver: DriverChoice, address: &str, next: &dyn Fn() -> u8) -> Vec<u8> {
    let engine = one(driver).traffic_classes([(0, 46), (2, 18), (8, 1)]).start().unwrap();
    let carrier = engine.initiate_with(address, frames());
    assert!(carrier.supports().wait().unwrap().traffic_class);
    let sent = [9, 3, 8, 0, 9].map(|niceness| {
        carrier.send(Message::from("x").niceness(niceness)).wait().unwrap();
        next()
    });
    let plain = engine.initiate_with(address, frames());
    plain.send("of class 0").wait().unwrap();
    assert_eq!(next(), 46, "{address}");
    end(engine);
    sent.into()
}

#[test]
fn item_034_packets_carry_the_code_point_of_the_most_urgent_class_in_use() {
    on_both(60, |driver| {
        let place = Ipv4Addr::new(127, 0, 0, 34);
        let Some(capture) = Capture::of_packets_to(place, Protocol::Tcp) else { return };
        let listener = TcpListener::bind((place, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = code_points(driver, &address_of(&listener), &|| capture.code_point_to(port));
        // It never falls back: packets of one connection must not overtake each other.
        assert_eq!(seen, [1, 18, 18, 46, 46]);
    });
}

#[test]
fn item_034_datagrams_carry_the_code_point_of_their_own_class() {
    on_both(60, |driver| {
        let place = Ipv4Addr::new(127, 0, 0, 34);
        let Some(capture) = Capture::of_packets_to(place, Protocol::Udp) else { return };
        let socket = UdpSocket::bind((place, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let address = format!("udp://{place}:{port}");
        let seen = code_points(driver, &address, &|| capture.code_point_to(port));
        assert_eq!(seen, [1, 18, 1, 46, 1]);
    });
}
