//! Datagrams by plain system calls: one train received, one train sent, and what the kernel says
//! of a datagram socket.
//!
//! Above: the epoll driver, and `engine::socket` when it sets a socket up. Below: `recvmsg`,
//! `sendmsg` and `getsockopt` through `libc`; `control` codes what travels beside. Absent: waiting.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::control::{self, CONTROL_IN_BYTES, Control, NAME_BYTES};
use crate::engine::operation::{Arrival, Completion, Token};
use crate::framer::{Output, Train};

/// Segments of one train; each shared payload makes two.
const SEGMENTS_MAX: usize = 2 * crate::framer::TRAIN_DATAGRAMS_MAX + 1;

/// Errors of peers that are reported in one go.
const PEER_ERRORS: usize = 64;

/// Receives one train, if there is one: how long it is and what came with it.
///
/// # Errors
/// What the system says; `EAGAIN` if there is none.
pub(crate) fn receive_datagrams(
    socket: BorrowedFd<'_>,
    into: &mut [u8],
) -> rustix::io::Result<(usize, Arrival)> {
    let (len, arrival) = receive_message(socket, into, 0, control::read)?;
    Ok((len.min(into.len()), arrival))
}

/// Reports what peers and paths have said of datagrams that this socket has sent, if it was told to
/// keep that; true if there was something. If there is more, the socket's next call fails again.
pub(crate) fn report_peer_errors(
    socket: BorrowedFd<'_>,
    token: Token,
    into: &mut VecDeque<Completion>,
) -> bool {
    let read = |name: &[u8], control: &[u8], _| control::read_error(name, control);
    for at in 0..PEER_ERRORS {
        // What was sent comes along; nobody asks for it.
        let Ok((_, error)) = receive_message(socket, &mut [], libc::MSG_ERRQUEUE, read) else {
            return at > 0;
        };
        into.extend(error.map(|error| Completion::PeerFailed { token, error }));
    }
    true
}

/// One message with what came beside it, as `read` makes it of its name, its control messages and
/// its flags.
fn receive_message<T>(
    socket: BorrowedFd<'_>,
    into: &mut [u8],
    flags: libc::c_int,
    read: impl FnOnce(&[u8], &[u8], libc::c_int) -> T,
) -> rustix::io::Result<(usize, T)> {
    let mut name = [0; NAME_BYTES];
    let mut beside = Aligned([0; CONTROL_IN_BYTES]);
    let mut segment = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let mut header = blank_header();
    header.msg_name = name.as_mut_ptr().cast();
    header.msg_namelen = NAME_BYTES as u32;
    header.msg_iov = &raw mut segment;
    header.msg_iovlen = 1;
    header.msg_control = beside.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_IN_BYTES as _;
    let flags = flags | libc::MSG_DONTWAIT;
    // SAFETY: [K9] everything the header points at is borrowed for the whole call.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let len = usize::try_from(len).map_err(|_| last_error())?;
    let name = &name[..(header.msg_namelen as usize).min(NAME_BYTES)];
    let beside_len: usize = header.msg_controllen as _;
    let beside = &beside.0[..beside_len.min(CONTROL_IN_BYTES)];
    Ok((len, read(name, beside, header.msg_flags)))
}

#[repr(align(8))]
struct Aligned([u8; CONTROL_IN_BYTES]);

/// A message header that points at nothing.
pub(super) fn blank_header() -> libc::msghdr {
    // SAFETY: [K6] a message header of zeros is valid: no name, no segments, no control.
    unsafe { std::mem::zeroed() }
}

/// What a message header says of bytes that are sent from where they lie.
pub(super) fn segment_of(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

/// What leaves beside a train: to whom it goes, from where, and how it is cut.
pub(super) struct Label {
    name: [u8; NAME_BYTES],
    control: Control,
}

impl Label {
    pub(super) const fn empty() -> Self {
        Self { name: [0; NAME_BYTES], control: Control::empty() }
    }

    /// Has `header` point at what is to be said of `train`, and at its `segments`: as long as the
    /// header is used, both stay where they are.
    pub(super) fn point(
        &mut self,
        header: &mut libc::msghdr,
        train: &Train,
        segments: &mut [libc::iovec],
    ) {
        let to = train.to();
        let is_v6 = to.is_some_and(|to| to.remote.is_ipv6());
        let local = to.and_then(|to| to.local);
        self.control.say(local, is_v6, train.segment(), train.traffic_class());
        let name_len = to.map_or(0, |to| control::put_name(to.remote, &mut self.name));
        header.msg_name =
            if name_len > 0 { self.name.as_mut_ptr().cast() } else { std::ptr::null_mut() };
        header.msg_namelen = name_len as u32;
        header.msg_iov = segments.as_mut_ptr();
        header.msg_iovlen = segments.len() as _;
        let control = self.control.bytes();
        header.msg_control = control.as_ptr().cast_mut().cast();
        header.msg_controllen = control.len() as _;
    }
}

/// Sends one train of `output`.
///
/// # Errors
/// What the system says: `EAGAIN` if the socket takes no more now, `EIO` or `EINVAL` if the device
/// does not cut trains.
pub(crate) fn send_train(
    socket: BorrowedFd<'_>,
    output: &Output,
    train: &Train,
) -> rustix::io::Result<()> {
    let mut segments = [segment_of(&[]); SEGMENTS_MAX];
    let mut count = 0;
    for (segment, bytes) in segments.iter_mut().zip(output.pieces(train.range())) {
        *segment = segment_of(bytes);
        count += 1;
    }
    let (mut header, mut label) = (blank_header(), Label::empty());
    label.point(&mut header, train, &mut segments[..count]);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: [K9] everything the header points at is borrowed for the whole call, and only read.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) };
    if sent < 0 { Err(last_error()) } else { Ok(()) }
}

fn last_error() -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(rustix::io::Errno::IO)
}

/// The longest datagram that a connected socket's path carries whole, as far as the kernel knows.
pub(crate) fn datagram_bytes_max(socket: BorrowedFd<'_>) -> Option<u32> {
    let ask = |level, option| {
        let mut mtu: libc::c_int = 0;
        let mut len = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: [K8] the kernel writes at most one int.
        let asked = unsafe {
            libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut mtu).cast(), &raw mut len)
        };
        (asked == 0).then(|| u32::try_from(mtu).unwrap_or(0))
    };
    let peer = SocketAddr::try_from(rustix::net::getpeername(socket).ok()??).ok()?;
    let is_v4 = peer.ip().to_canonical().is_ipv4();
    // A socket of IPv6 may answer both, whomever it is connected to.
    let v4 = is_v4.then(|| ask(libc::IPPROTO_IP, libc::IP_MTU)).flatten();
    let mtu = v4.or_else(|| ask(libc::IPPROTO_IPV6, libc::IPV6_MTU));
    mtu.map(|mtu| control::payload_of(mtu, is_v4))
}

/// From now on the socket keeps what peers and paths say of datagrams it has sent, for
/// `report_peer_errors`; false if it takes neither option.
pub(crate) fn keep_peer_errors(socket: BorrowedFd<'_>) -> bool {
    let v4 = set(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1);
    set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1) | v4
}

/// From now on each datagram says when this host got it; false if the socket does not take that.
pub(crate) fn say_arrival_times(socket: BorrowedFd<'_>) -> bool {
    set(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)
}

/// Has each datagram say how many were dropped before it for want of room, and leaves out what
/// costs time and nobody has asked for: when it came and, unless `from_any`, to which address of
/// this host.
pub(crate) fn say_what_matters(socket: BorrowedFd<'_>, from_any: bool) {
    let mut options =
        vec![(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1), (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 0)];
    // On a socket of IPv6 as well: what came by IPv4 is answered from the address said with it,
    // which is one of this host even if the datagram was sent to all of a network.
    options.push((libc::IPPROTO_IP, libc::IP_PKTINFO, from_any.into()));
    if !from_any {
        options.push((libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 0));
    }
    for (level, option, value) in options {
        // Refused by sockets of the other family only.
        let set = set(socket, level, option, value);
        tracing::trace!(level, option, value, set, "an option of a datagram socket");
    }
}

/// Has a socket of IPv4 send without checksums, for which the kernel refuses to cut trains.
#[cfg(test)]
pub(crate) fn send_without_checksums(socket: BorrowedFd<'_>) -> io::Result<()> {
    let is_set = set(socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1);
    if is_set { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets an option that is an int; false if the socket does not take it.
pub(super) fn set(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> bool {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: [K8] the kernel reads one int.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), len)
    };
    set == 0
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;
    use crate::address::Route;

    fn socket() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        quinn_udp::UdpSocketState::new((&socket).into()).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[test]
    fn a_train_leaves_in_one_call_and_comes_in_one() {
        let ((near, from), (far, to)) = (socket(), socket());
        say_what_matters(far.as_fd(), true);
        let mut output = Output::default();
        for round in 0..16_u8 {
            output.put(&[round; 1200]);
            output.end_datagram(Some(Route { remote: to, local: None }), None);
        }
        let [train] = output.trains() else { panic!("{:?}", output.trains()) };
        send_train(near.as_fd(), &output, train).unwrap();
        let mut bytes = vec![0; 70_000];
        let (len, arrival) = receive_datagrams(far.as_fd(), &mut bytes).unwrap();
        assert_eq!(&bytes[..len], &output.to_vec());
        assert_eq!(arrival.segment, Some(1200));
        let local = Some(to.ip());
        assert_eq!(arrival.from, Some(Route { remote: from, local }));
        let none = receive_datagrams(far.as_fd(), &mut bytes);
        assert_eq!(none.unwrap_err(), rustix::io::Errno::AGAIN);
    }

    #[test]
    fn a_datagram_of_no_bytes_and_one_that_is_too_long() {
        let ((near, _), (far, to)) = (socket(), socket());
        near.connect(to).unwrap();
        assert_eq!(datagram_bytes_max(near.as_fd()), Some(65_507));
        let mut output = Output::default();
        output.end_datagram(None, None);
        send_train(near.as_fd(), &output, &output.trains()[0]).unwrap();
        let mut small = [0; 100];
        let (len, arrival) = receive_datagrams(far.as_fd(), &mut small).unwrap();
        assert_eq!((len, arrival.truncated), (0, false));
        let mut output = Output::default();
        output.put(&[1; 200]);
        output.end_datagram(None, None);
        send_train(near.as_fd(), &output, &output.trains()[0]).unwrap();
        let (len, arrival) = receive_datagrams(far.as_fd(), &mut small).unwrap();
        assert_eq!((len, arrival.truncated), (100, true));
        let mut output = Output::default();
        output.put(&[1; 65_508]);
        output.end_datagram(None, None);
        let error = send_train(near.as_fd(), &output, &output.trains()[0]).unwrap_err();
        assert_eq!(error, rustix::io::Errno::MSGSIZE);
    }
}
