//! Packets as they are on the wire: what a test says of them is seen from outside.
//!
//! Absent: anything of the crate. Needs the right to open raw sockets; says `SKIP` without it.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketType, ipproto};

use crate::support::SOON;

/// Sees every packet of one protocol to one address of this host, or from it. The address is of the
/// capture's test alone: what the tests beside it say to one another would flood it.
pub(crate) struct Capture {
    socket: OwnedFd,
    protocol: Protocol,
}

/// What the packets carry.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// One packet with a payload.
pub(crate) struct Packet {
    pub(crate) code_point: u8,
    pub(crate) payload_len: usize,
}

impl Capture {
    pub(crate) fn of_packets_to(place: Ipv4Addr, protocol: Protocol) -> Option<Self> {
        let capture = Self::begin(protocol)?;
        rustix::net::bind(&capture.socket, &SocketAddr::from((place, 0))).unwrap();
        Some(capture)
    }

    #[allow(dead_code, reason = "tests/api needs it")]
    pub(crate) fn of_packets_from(place: Ipv4Addr, protocol: Protocol) -> Option<Self> {
        let capture = Self::begin(protocol)?;
        rustix::net::connect(&capture.socket, &SocketAddr::from((place, 0))).unwrap();
        Some(capture)
    }

    fn begin(protocol: Protocol) -> Option<Self> {
        let number = match protocol {
            Protocol::Tcp => ipproto::TCP,
            Protocol::Udp => ipproto::UDP,
        };
        match rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(number)) {
            Ok(socket) => {
                let longest = Some(Duration::from_millis(100));
                sockopt::set_socket_timeout(&socket, Timeout::Recv, longest).unwrap();
                sockopt::set_socket_recv_buffer_size(&socket, 4 << 20).unwrap();
                Some(Self { socket, protocol })
            }
            Err(error) => {
                println!("SKIP: capturing packets needs CAP_NET_RAW: {error}");
                None
            }
        }
    }

    /// The next packet to `port`; of streams, the next with a payload.
    pub(crate) fn next_to(&self, port: u16) -> Packet {
        let started = Instant::now();
        let mut packet = vec![0; 65_536];
        while started.elapsed() < SOON {
            let Ok((_, len)) = rustix::net::recv(&self.socket, &mut packet, RecvFlags::empty())
            else {
                continue;
            };
            let ip_header = usize::from(packet[0] & 15) * 4;
            let segment = &packet[ip_header..len];
            let to = u16::from_be_bytes([segment[2], segment[3]]);
            let header = match self.protocol {
                Protocol::Tcp => usize::from(segment[12] >> 4) * 4,
                Protocol::Udp => 8,
            };
            let payload_len = segment.len() - header;
            if to == port && (payload_len > 0 || self.protocol == Protocol::Udp) {
                return Packet { code_point: packet[1] >> 2, payload_len };
            }
        }
        panic!("no packet to port {port}");
    }

    pub(crate) fn code_point_to(&self, port: u16) -> u8 {
        self.next_to(port).code_point
    }

    /// The lengths of the payloads to `port`, until they are `bytes` together.
    pub(crate) fn payloads_to(&self, port: u16, bytes: usize) -> Vec<usize> {
        let mut lens = Vec::new();
        while lens.iter().sum::<usize>() < bytes {
            lens.push(self.next_to(port).payload_len);
        }
        lens
    }
}
