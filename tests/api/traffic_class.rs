//! Niceness on the wire: the DSCP code points of captured packets (draft §2.2, Niceness).

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use postring::{Engine, Error, Message};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketType, ipproto};

use crate::support::*;

/// A loopback address of these tests alone: what all others say to one another could flood the
/// capture.
const OURS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);

/// Sees every TCP packet to [`OURS`] or from it; needs the right to open raw sockets.
struct Capture(OwnedFd);

impl Capture {
    fn of_packets_to_us() -> Option<Self> {
        let capture = Self::begin()?;
        rustix::net::bind(&capture.0, &SocketAddr::from((OURS, 0))).unwrap();
        Some(capture)
    }

    fn of_packets_from_us() -> Option<Self> {
        let capture = Self::begin()?;
        rustix::net::connect(&capture.0, &SocketAddr::from((OURS, 0))).unwrap();
        Some(capture)
    }

    fn begin() -> Option<Self> {
        let kind = SocketType::RAW;
        match rustix::net::socket(AddressFamily::INET, kind, Some(ipproto::TCP)) {
            Ok(socket) => {
                let longest = Some(Duration::from_millis(100));
                sockopt::set_socket_timeout(&socket, Timeout::Recv, longest).unwrap();
                sockopt::set_socket_recv_buffer_size(&socket, 4 << 20).unwrap();
                Some(Self(socket))
            }
            Err(error) => {
                println!("SKIP: capturing packets needs CAP_NET_RAW: {error}");
                None
            }
        }
    }

    /// The code point of the next packet with a payload to `port`.
    fn code_point_to(&self, port: u16) -> u8 {
        let started = Instant::now();
        let mut packet = [0; 65_536];
        while started.elapsed() < SOON {
            let Ok((_, len)) = rustix::net::recv(&self.0, &mut packet[..], RecvFlags::empty())
            else {
                continue;
            };
            let ip_header = usize::from(packet[0] & 15) * 4;
            let tcp = &packet[ip_header..len];
            let to = u16::from_be_bytes([tcp[2], tcp[3]]);
            let has_payload = tcp.len() > usize::from(tcp[12] >> 4) * 4;
            if to == port && has_payload {
                return packet[1] >> 2;
            }
        }
        panic!("no packet to port {port}");
    }
}

#[test]
fn packets_carry_the_code_point_of_the_most_urgent_class_in_use() {
    on_both(60, |driver| {
        let Some(capture) = Capture::of_packets_to_us() else { return };
        let table = [(0, 46), (2, 18), (8, 1)];
        let engine = one(driver).traffic_classes(table).start().unwrap();
        let listener = TcpListener::bind((OURS, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let carrier = engine.initiate_with(&format!("tcp://{address}"), frames());
        assert!(carrier.supports().wait().unwrap().traffic_class);
        // It never falls back: packets of one connection must not overtake each other.
        for (niceness, wanted) in [(9, 1), (3, 18), (8, 18), (0, 46), (9, 46)] {
            carrier.send(Message::from("x").niceness(niceness)).wait().unwrap();
            assert_eq!(capture.code_point_to(address.port()), wanted, "niceness {niceness}");
        }
        let plain = engine.initiate_with(&format!("tcp://{address}"), frames());
        plain.send("of class 0").wait().unwrap();
        assert_eq!(capture.code_point_to(address.port()), 46);
        end(engine);
    });
}

#[test]
fn replies_of_a_responder_are_marked_and_without_a_table_nothing_is() {
    on_both(60, |driver| {
        let Some(capture) = Capture::of_packets_from_us() else { return };
        for (marked, wanted) in [(true, 34), (false, 0)] {
            let builder = one(driver);
            let builder = if marked { builder.traffic_classes([(0, 34)]) } else { builder };
            let place = format!("tcp://{OURS}:0");
            let builder =
                builder.respond_with(&place, frames(), |message, reply| reply.send(message));
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
