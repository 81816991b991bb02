//! Control messages: what travels beside a datagram, as bytes: where it came from and to, how long
//! the datagrams of a train are, its congestion mark, how many were dropped before it.
//!
//! Above: `datagram` for plain system calls, `uring` for entries. Below: byte slices as the kernel
//! lays them out; nothing here is unsafe. Absent: sockets. Bounds: what does not fit or make sense
//! is left out, never read beyond.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::address::Route;
use crate::engine::errno::Errno;
use crate::engine::operation::{Arrival, DATAGRAM_BYTES_MAX, PeerError};

/// Bytes of the longest name: an IPv6 socket address.
pub(super) const NAME_BYTES: usize = 28;
/// Bytes for all that may come beside a train: address, length, mark, time, drops.
pub(super) const CONTROL_IN_BYTES: usize = 256;
/// Bytes for all that is said of a train: its source, the length of its datagrams, its class.
const CONTROL_OUT_BYTES: usize = 112;

const IPV4_HEADERS: u32 = 20 + 8;
const IPV6_HEADERS: u32 = 40 + 8;

const HEADER_BYTES: usize = size_of::<libc::cmsghdr>();
const WORD: usize = size_of::<usize>();

/// The control messages of one train that leaves.
#[derive(Debug, Clone, Copy)]
#[repr(align(8))]
pub(super) struct Control {
    bytes: [u8; CONTROL_OUT_BYTES],
    len: usize,
}

impl Control {
    pub(super) const fn empty() -> Self {
        Self { bytes: [0; CONTROL_OUT_BYTES], len: 0 }
    }

    /// Says where a train goes from, how long each of its datagrams is, and the DSCP code point of
    /// its packets.
    pub(super) fn say(
        &mut self,
        local: Option<IpAddr>,
        remote_is_v6: bool,
        segment: Option<u16>,
        traffic_class: Option<u8>,
    ) {
        self.len = 0;
        if let Some(class) = traffic_class {
            let octet = i32::from(class) << 2;
            // Which of them counts is the packet's version; the other one is not looked at.
            self.put(libc::IPPROTO_IP, libc::IP_TOS, &octet.to_ne_bytes());
            self.put(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &octet.to_ne_bytes());
        }
        match local {
            Some(local) if remote_is_v6 => {
                let local = match local {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                let mut info = [0; 20];
                info[..16].copy_from_slice(&local.octets());
                self.put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            Some(IpAddr::V4(local)) => {
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&local.octets());
                self.put(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            _ => {}
        }
        if let Some(segment) = segment {
            self.put(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
    }

    fn put(&mut self, level: i32, kind: i32, data: &[u8]) {
        let len = HEADER_BYTES + data.len();
        let place = &mut self.bytes[self.len..self.len + aligned(len)];
        place[..WORD].copy_from_slice(&len.to_ne_bytes());
        place[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
        place[WORD + 4..WORD + 8].copy_from_slice(&kind.to_ne_bytes());
        place[HEADER_BYTES..len].copy_from_slice(data);
        self.len += aligned(len);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

const fn aligned(len: usize) -> usize {
    len.next_multiple_of(WORD)
}

/// Writes `address` as the kernel reads it; how many bytes that takes.
pub(super) fn put_name(address: SocketAddr, into: &mut [u8; NAME_BYTES]) -> usize {
    match address {
        SocketAddr::V4(v4) => {
            into[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            into[2..4].copy_from_slice(&v4.port().to_be_bytes());
            into[4..8].copy_from_slice(&v4.ip().octets());
            into[8..16].fill(0);
            16
        }
        SocketAddr::V6(v6) => {
            into[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            into[2..4].copy_from_slice(&v6.port().to_be_bytes());
            into[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
            into[8..24].copy_from_slice(&v6.ip().octets());
            into[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            NAME_BYTES
        }
    }
}

/// The address in `name`, if it is one of IP.
fn name_in(name: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(take(name, 2)?);
    match i32::from(u16::from_ne_bytes(take(name, 0)?)) {
        libc::AF_INET => Some((Ipv4Addr::from(take::<4>(name, 4)?), port).into()),
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(take::<16>(name, 8)?);
            let scope = u32::from_ne_bytes(take(name, 24)?);
            Some(SocketAddrV6::new(ip, port, 0, scope).into())
        }
        _ => None,
    }
}

fn take<const LEN: usize>(bytes: &[u8], from: usize) -> Option<[u8; LEN]> {
    bytes.get(from..from + LEN)?.try_into().ok()
}

/// What the kernel says of a train that came: from whom, and what lies in its control messages.
pub(super) fn read(name: &[u8], control: &[u8], flags: i32) -> Arrival {
    let mut arrival = Arrival {
        from: name_in(name).map(|remote| Route { remote, local: None }),
        // Without what came beside it, nobody knows where the datagrams of a train end.
        truncated: flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
        ..Arrival::default()
    };
    messages(control).for_each(|(level, kind, data)| note(&mut arrival, level, kind, data));
    arrival
}

/// What the kernel says of a datagram that was sent to `name` and came to grief.
pub(super) fn read_error(name: &[u8], control: &[u8]) -> Option<PeerError> {
    let remote = name_in(name)?;
    let is_error = |level, kind| {
        matches!(
            (level, kind),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        )
    };
    let (_, _, data) = messages(control).find(|(level, kind, _)| is_error(*level, *kind))?;
    // An error number, four small ones, and what is specific to it: the MTU of the path.
    let errno = i32::from_ne_bytes(take(data, 0)?);
    let mtu = u32::from_ne_bytes(take(data, 8)?);
    let is_v4 = remote.ip().to_canonical().is_ipv4();
    let bytes_max = (errno == libc::EMSGSIZE && mtu > 0).then(|| payload_of(mtu, is_v4));
    Some(PeerError { remote, errno: Errno(errno), bytes_max })
}

/// What is left of an MTU for the payload of a datagram.
pub(super) fn payload_of(mtu: u32, is_v4: bool) -> u32 {
    let headers = if is_v4 { IPV4_HEADERS } else { IPV6_HEADERS };
    mtu.saturating_sub(headers).min(DATAGRAM_BYTES_MAX)
}

/// Level, kind and content of each control message, up to the first that makes no sense.
fn messages(control: &[u8]) -> impl Iterator<Item = (i32, i32, &[u8])> {
    let mut rest = control;
    std::iter::from_fn(move || {
        let len = take(rest, 0).map(usize::from_ne_bytes)?;
        if !(HEADER_BYTES..=rest.len()).contains(&len) {
            return None;
        }
        let number = |at| take(rest, at).map(i32::from_ne_bytes);
        let message = (number(WORD)?, number(WORD + 4)?, &rest[HEADER_BYTES..len]);
        rest = rest.get(aligned(len)..).unwrap_or_default();
        Some(message)
    })
}

fn note(arrival: &mut Arrival, level: i32, kind: i32, data: &[u8]) {
    let number = || take(data, 0).map(u32::from_ne_bytes);
    match (level, kind) {
        (libc::SOL_UDP, libc::UDP_GRO) => {
            arrival.segment = number().and_then(|len| u16::try_from(len).ok());
        }
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            // The address to answer from, also where the datagram went to a group.
            set_local(arrival, take::<4>(data, 4).map(|ip| IpAddr::from(Ipv4Addr::from(ip))));
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            let ip = take::<16>(data, 0).map(Ipv6Addr::from);
            set_local(arrival, ip.map(|ip| IpAddr::from(ip).to_canonical()));
        }
        (libc::IPPROTO_IP, libc::IP_TOS) => {
            arrival.traffic_class = data.first().copied().unwrap_or_default();
        }
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
            arrival.traffic_class = number().map_or(0, |class| class as u8);
        }
        (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => arrival.dropped = number().unwrap_or_default(),
        (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => arrival.arrived_ns = time_in(data),
        _ => {}
    }
}

/// Nanoseconds since the Unix epoch, from seconds and the rest of them, each a word; `None` for
/// what is no such time.
fn time_in(data: &[u8]) -> Option<u64> {
    let word = |at| take::<WORD>(data, at).map(usize::from_ne_bytes);
    let (seconds, rest_ns) = (word(0)? as u64, word(WORD)? as u64);
    let whole_ns = seconds.checked_mul(1_000_000_000)?;
    whole_ns.checked_add(rest_ns).filter(|_| rest_ns < 1_000_000_000)
}

/// Nobody can send from the address of a group.
fn set_local(arrival: &mut Arrival, ip: Option<IpAddr>) {
    if let Some(from) = &mut arrival.from {
        from.local = ip.filter(|ip| !ip.is_multicast() && !ip.is_unspecified());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_said_of_a_train_can_be_read() {
        let mut control = Control::empty();
        control.say(Some([192, 0, 2, 1].into()), false, Some(1200), None);
        assert_eq!(control.bytes().len(), 32 + 24);
        let mut name = [0; NAME_BYTES];
        let remote: SocketAddr = "198.51.100.7:53".parse().unwrap();
        let len = put_name(remote, &mut name);
        let arrival = read(&name[..len], control.bytes(), 0);
        let local = Some([192, 0, 2, 1].into());
        assert_eq!(arrival.from, Some(Route { remote, local }));
        assert_eq!((arrival.segment, arrival.truncated), (None, false), "a length sent is no GRO");
        control.say(Some([192, 0, 2, 1].into()), true, Some(9), Some(46));
        assert_eq!(control.bytes().len(), CONTROL_OUT_BYTES, "the most that is ever said");
        assert_eq!(read(&[], control.bytes(), 0).traffic_class, 46 << 2);
        control.say(Some([192, 0, 2, 1].into()), true, None, None);
        let arrival = read(&name[..len], control.bytes(), libc::MSG_TRUNC);
        assert_eq!(arrival.from.unwrap().local, local, "in IPv6 form it is the same address");
        assert!(arrival.truncated);
        assert!(read(&name[..len], control.bytes(), libc::MSG_CTRUNC).truncated);
        control.say(None, true, None, None);
        assert!(control.bytes().is_empty());
    }

    #[test]
    fn every_kind_that_comes_is_read() {
        let mut control = Control::empty();
        control.put(libc::SOL_UDP, libc::UDP_GRO, &1200_i32.to_ne_bytes());
        control.put(libc::IPPROTO_IP, libc::IP_TOS, &[0xb9]);
        let arrival = read(&[], control.bytes(), 0);
        assert_eq!((arrival.segment, arrival.traffic_class), (Some(1200), 0xb9));
        let mut control = Control::empty();
        control.put(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &7_u32.to_ne_bytes());
        control.put(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &3_i32.to_ne_bytes());
        let arrival = read(&[], control.bytes(), 0);
        assert_eq!((arrival.dropped, arrival.traffic_class, arrival.from), (7, 3, None));
        assert_eq!(arrival.arrived_ns, None);
    }

    #[test]
    fn a_time_is_read_and_what_is_none_is_left_out() {
        let said = |seconds: usize, rest_ns: usize| {
            let mut control = Control::empty();
            let data = [seconds.to_ne_bytes(), rest_ns.to_ne_bytes()].concat();
            control.put(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &data);
            read(&[], control.bytes(), 0).arrived_ns
        };
        assert_eq!(said(3, 999_999_999), Some(3_999_999_999));
        assert_eq!((said(0, 0), said(3, 1_000_000_000)), (Some(0), None));
        assert_eq!((said(usize::MAX, 0), said(0, usize::MAX)), (None, None), "before the epoch");
        let mut control = Control::empty();
        control.put(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &[1; WORD]);
        assert_eq!(read(&[], control.bytes(), 0).arrived_ns, None);
    }

    #[test]
    fn an_error_names_its_peer_and_what_its_path_carries() {
        let mut name = [0; NAME_BYTES];
        let remote: SocketAddr = "198.51.100.7:53".parse().unwrap();
        let len = put_name(remote, &mut name);
        let said = |errno: i32, mtu: u32| {
            let mut control = Control::empty();
            control.put(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &7_u32.to_ne_bytes());
            let data = [&errno.to_ne_bytes()[..], &[2, 3, 4, 0], &mtu.to_ne_bytes()].concat();
            control.put(libc::IPPROTO_IP, libc::IP_RECVERR, &data);
            read_error(&name[..len], control.bytes())
        };
        let refused = Errno(libc::ECONNREFUSED);
        let error = PeerError { remote, errno: refused, bytes_max: None };
        assert_eq!(said(libc::ECONNREFUSED, 9), Some(error));
        let too_long = said(libc::EMSGSIZE, 1300).unwrap();
        assert_eq!((too_long.errno.0, too_long.bytes_max), (libc::EMSGSIZE, Some(1272)));
        assert_eq!(read_error(&name[..len], &[]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            name in prop::collection::vec(any::<u8>(), 0..40),
            control in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            read(&name, &control, 0);
            read_error(&name, &control);
        }

        #[test]
        fn lengths_that_lie_are_not_followed(
            len: usize,
            rest in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let control = [&len.to_ne_bytes()[..], &rest].concat();
            read(&[], &control, 0);
            read_error(&[2, 0, 1, 1, 1, 1, 1, 1], &control);
        }

        #[test]
        fn names_survive(address: SocketAddr) {
            let address = match address {
                SocketAddr::V6(mut v6) => { v6.set_flowinfo(0); v6.into() }
                v4 => v4,
            };
            let mut name = [0; NAME_BYTES];
            let len = put_name(address, &mut name);
            prop_assert_eq!(name_in(&name[..len]), Some(address));
        }
    }
}
