//! Markings: what a datagram's packet says of its class and of congestion reaches whoever takes
//! the Message, on both drivers, from IPv4 and IPv6 peers.

use std::net::UdpSocket;
use std::sync::mpsc;

use postring::{Ecn, LengthPrefixed, Marking, Message, Unframed};
use rustix::net::sockopt::{set_ip_tos, set_ipv6_tclass};

use crate::support::{SOON, end, frame, frames, on_both, one};

const SAID: [(u8, (u8, Ecn)); 4] = [
    (0, (0, Ecn::NotCapable)),
    (46 << 2 | 1, (46, Ecn::CapableL4s)),
    (18 << 2 | 2, (18, Ecn::Capable)),
    (8 << 2 | 3, (8, Ecn::CongestionExperienced)),
];

fn read(marking: Option<Marking>) -> (u8, Ecn) {
    let marking = marking.expect("a datagram has a marking");
    (marking.traffic_class(), marking.ecn())
}

#[test]
fn a_responder_sees_how_each_packet_was_marked() {
    for ip in ["127.0.0.1", "[::1]"] {
        on_both(60, move |driver| {
            let (seen, all_seen) = mpsc::channel();
            let place = format!("udp://{ip}:0");
            let builder = one(driver).respond_with(&place, frames(), move |message, _| {
                seen.send(message.marking()).unwrap();
            });
            let engine = builder.start().unwrap();
            let place = engine.local_addresses().remove(0).replace("udp://", "");
            let socket = UdpSocket::bind(format!("{ip}:0")).unwrap();
            for (octet, expected) in SAID {
                match ip.starts_with('[') {
                    true => set_ipv6_tclass(&socket, octet.into()).unwrap(),
                    false => set_ip_tos(&socket, octet).unwrap(),
                }
                socket.send_to(&frame(b"x"), &place).unwrap();
                assert_eq!(read(all_seen.recv_timeout(SOON).unwrap()), expected, "{octet:#x}");
            }
            end(engine);
        });
    }
}

#[test]
fn a_marking_stays_with_a_message_that_is_kept() {
    on_both(60, |driver| {
        let engine = one(driver).start().unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let place = format!("udp://{}", peer.local_addr().unwrap());
        let carrier = engine.initiate_with(&place, Unframed);
        carrier.send("hello").wait().unwrap();
        let (_, from) = peer.recv_from(&mut [0; 16]).unwrap();
        set_ip_tos(&peer, 0b11).unwrap();
        peer.send_to(&[7; 5000], from).unwrap();
        let kept = carrier.receive().wait().unwrap();
        assert_eq!(
            (kept.len(), read(kept.clone().marking())),
            (5000, (0, Ecn::CongestionExperienced))
        );
        end(engine);
    });
}

#[test]
fn what_came_by_a_stream_has_none() {
    on_both(60, |driver| {
        let builder = one(driver).respond_with("tcp://127.0.0.1:0", frames(), |message, reply| {
            assert_eq!(message.marking(), None);
            reply.send(message)
        });
        let engine = builder.start().unwrap();
        let place = engine.local_addresses().remove(0);
        let carrier = engine.initiate_with(&place, LengthPrefixed::default());
        carrier.send(Message::from("x")).wait().unwrap();
        assert_eq!(carrier.receive().wait().unwrap().marking(), None);
        end(engine);
    });
}
