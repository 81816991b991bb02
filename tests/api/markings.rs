//! Markings: what a datagram's packet says of its class and of congestion reaches whoever takes
//! the Message, on both drivers, from IPv4 and IPv6 peers.

use std::net::UdpSocket;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

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

#[test]
fn the_time_of_arrival_is_told_to_who_asked_for_it() {
    on_both(60, |driver| {
        for ip in ["127.0.0.1", "[::1]"] {
            let (seen, all_seen) = mpsc::channel();
            let builder = one(driver).arrival_times(true);
            // Any address of this host: the most is said beside each datagram.
            let engine = builder
                .respond_with("udp://[::]:0", Unframed, move |message, _| {
                    let came = message.marking().and_then(|marking| marking.arrived());
                    seen.send((came.expect("asked for"), SystemTime::now())).unwrap();
                    // Those behind wait as long, as far as the kernel has them.
                    std::thread::sleep(Duration::from_millis(5));
                })
                .start()
                .unwrap();
            let port = engine.local_addresses().remove(0).rsplit_once(':').unwrap().1.to_owned();
            let sender = one(driver).start().unwrap();
            let carrier = sender.initiate_with(&format!("udp://{ip}:{port}"), Unframed);
            for _ in 0..20 {
                carrier.send(vec![7; 900]).wait().unwrap();
            }
            let times = (0..20).map(|_| all_seen.recv_timeout(SOON).unwrap());
            let waits: Vec<Duration> =
                times.map(|(came, now)| now.duration_since(came).unwrap_or_default()).collect();
            assert!(waits.iter().all(|wait| *wait < SOON), "{waits:?}");
            assert!(waits.last() > Some(&Duration::from_millis(20)), "the last waited: {waits:?}");
            let total = engine.metrics().total();
            assert_eq!((total.truncated_datagrams, total.dropped_datagrams), (0, 0));
            end(sender);
            end(engine);
        }
    });
}

#[test]
fn the_time_of_arrival_is_not_told_unasked() {
    on_both(60, |driver| {
        let (seen, all_seen) = mpsc::channel();
        let builder = one(driver).respond_with("udp://127.0.0.1:0", Unframed, move |message, _| {
            seen.send(message.marking().expect("a datagram").arrived()).unwrap();
        });
        let engine = builder.start().unwrap();
        let place = engine.local_addresses().remove(0).replace("udp://", "");
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"when?", place).unwrap();
        assert_eq!(all_seen.recv_timeout(SOON).unwrap(), None);
        end(engine);
    });
}

#[test]
fn a_carrier_is_told_the_time_as_well() {
    on_both(60, |driver| {
        let engine = one(driver).arrival_times(true).start().unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let place = format!("udp://{}", peer.local_addr().unwrap());
        let carrier = engine.initiate_with(&place, Unframed);
        carrier.send("hello").wait().unwrap();
        let (_, from) = peer.recv_from(&mut [0; 16]).unwrap();
        let before = SystemTime::now();
        peer.send_to(b"hello", from).unwrap();
        let marking = carrier.receive().wait().unwrap().marking().unwrap();
        let came = marking.arrived().expect("asked for");
        // The two may differ by a tick of the clock.
        let early = before.duration_since(came).unwrap_or_default();
        assert!(early < Duration::from_millis(20), "{early:?} before it was sent");
        end(engine);
    });
}
