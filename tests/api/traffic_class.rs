//! Niceness on the wire: the DSCP code points of captured packets (draft §2.2, Niceness).

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use postring::{Carrier, Engine, Error, Message, Unframed};

use crate::capture::{Capture, Protocol};
use crate::support::*;

#[test]
fn replies_of_a_responder_are_marked_and_without_a_table_nothing_is() {
    on_both(60, |driver| {
        let place = Ipv4Addr::new(127, 0, 0, 5);
        let Some(capture) = Capture::of_packets_from(place, Protocol::Tcp) else { return };
        for (marked, wanted) in [(true, 34), (false, 0)] {
            let builder = one(driver);
            let builder = if marked { builder.traffic_classes([(0, 34)]) } else { builder };
            let builder =
                builder.respond_with(&format!("tcp://{place}:0"), frames(), |message, reply| {
                    reply.send(message)
                });
            let engine = builder.start().unwrap();
            let mut peer = connect(&engine);
            let mine = peer.local_addr().unwrap().port();
            wants_back(&mut peer, b"marked?");
            assert_eq!(capture.code_point_to(mine), wanted);
            end(engine);
        }
    });
}

#[test]
fn a_stack_without_packets_is_left_alone_and_ipv6_is_not() {
    on_both(60, |driver| {
        let engine = one(driver).traffic_classes([(0, 46)]).start().unwrap();
        let Ok(listener) = TcpListener::bind("[::1]:0") else {
            println!("SKIP: this host has no IPv6 loopback");
            return end(engine);
        };
        let SocketAddr::V6(address) = listener.local_addr().unwrap() else { unreachable!() };
        let carrier = engine.initiate_with(&format!("tcp://{address}"), frames());
        carrier.send("x").wait().unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        assert_eq!(read_frame(&mut peer).unwrap(), b"x");
        let (near, mut far) = (std::env::temp_dir(), [0; 5]);
        let path = near.join(format!("postring-class-{driver:?}-{}", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let carrier = engine.initiate_with(&format!("unix://{}", path.display()), frames());
        assert!(!carrier.supports().wait().unwrap().traffic_class);
        carrier.send("y").wait().unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.read_exact(&mut far).unwrap();
        std::fs::remove_file(path).unwrap();
        end(engine);
    });
}

#[test]
fn a_table_that_cannot_be_is_refused_at_the_start() {
    for table in [vec![(0, 64)], vec![(1, 2), (1, 3)], vec![(0, 0); 100]] {
        match Engine::builder().unpinned(1).traffic_classes(table).start() {
            Err(Error::Configuration(why)) => assert!(why.contains("traffic_classes"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

/// What the peer of each kind of way out sees, in the order of sending.
fn classes_seen(carrier: &Carrier<Unframed>, peer: &Carrier<Unframed>) -> Vec<u8> {
    let sent = [Some(8), None, Some(0), Some(1), Some(8), None];
    let mut seen = Vec::new();
    for niceness in sent {
        let message = Message::from("x");
        let message = match niceness {
            Some(niceness) => message.niceness(niceness),
            None => message,
        };
        carrier.send(message).wait().unwrap();
        let came = peer.receive().wait().unwrap();
        seen.push(came.marking().expect("a datagram has one").traffic_class());
    }
    seen
}

#[test]
fn each_datagram_carries_the_code_point_of_its_own_class() {
    for ip in ["127.0.0.1", "[::1]", "[::]"] {
        on_both(60, move |driver| {
            let marks = || one(driver).traffic_classes([(0, 46), (1, 18), (8, 1)]);
            let listener = marks().listen_with(&format!("udp://{ip}:0"), Unframed).unwrap();
            let place = listener.local_addresses().remove(0).replace("[::]", "127.0.0.1");
            let engine = marks().start().unwrap();
            let client = engine.initiate_with(&place, Unframed);
            client.send("hello").wait().unwrap();
            let served = listener.accept().wait().unwrap();
            served.receive().wait().unwrap();
            assert!(served.supports().wait().unwrap().traffic_class);
            let wanted = [1, 46, 46, 18, 1, 46];
            assert_eq!(classes_seen(&client, &served), wanted, "from a connected socket");
            assert_eq!(classes_seen(&served, &client), wanted, "from a Listener's");
            end(engine);
        });
    }
}

#[test]
fn answers_of_a_datagram_responder_are_marked_and_without_a_table_they_are_not() {
    on_both(60, |driver| {
        for (table, wanted) in [(Some((0, 46)), 46), (None, 0)] {
            let builder = one(driver);
            let builder = match table {
                Some(entry) => builder.traffic_classes([entry]),
                None => builder,
            };
            let place = "udp://127.0.0.1:0";
            let builder =
                builder.respond_with(place, Unframed, |message, reply| reply.send(message));
            let engine = builder.start().unwrap();
            let client = engine.initiate_with(&engine.local_addresses().remove(0), Unframed);
            client.send("hello").wait().unwrap();
            let answer = client.receive().wait().unwrap();
            assert_eq!(answer.marking().unwrap().traffic_class(), wanted);
            end(engine);
        }
    });
}
