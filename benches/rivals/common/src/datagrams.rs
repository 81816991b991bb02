//! Datagrams: a UDP socket's system calls that the standard library lacks: a train in one call
//! (GSO, GRO) and many datagrams in one call.
//!
//! Above: the UDP servers and the client. Below: libc.
//! Absent: no waiting but the kernel's and no echo.
//! Bounds: [`MANY`] datagrams a call; [`DATAGRAM_MAX`] bytes a datagram or train.

use crate::listening;
use anyhow::{Context as _, Result};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::{mem, ptr};

/// Bytes of the longest datagram, and of a train of them.
pub const DATAGRAM_MAX: usize = 65_536;
/// Datagrams that [`Many`] takes or gives in one system call.
pub const MANY: usize = 64;
/// Bytes for the control messages of a train.
pub const CONTROL: usize = 64;
/// Bytes of the one that says how long a train's datagrams are.
pub const SEGMENT_CONTROL: usize = 24;

const WORD: usize = size_of::<usize>();
const HEADER: usize = size_of::<libc::cmsghdr>();

/// Where a datagram came from, as the kernel writes it.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    place: libc::sockaddr_in6,
    len: libc::socklen_t,
}

impl Name {
    /// Bytes of the longest.
    pub const MAX: usize = size_of::<libc::sockaddr_in6>();

    fn empty() -> Self {
        // SAFETY: a socket address is plain numbers, for which zero is a value.
        let place = unsafe { mem::zeroed() };
        Self { place, len: Self::MAX as libc::socklen_t }
    }
}

/// What one receive brought: datagrams of one peer, in a row.
#[derive(Clone, Copy)]
pub struct Train {
    /// From whom.
    pub from: Name,
    /// Bytes of all of them.
    pub len: usize,
    /// Bytes of each but the last; `None`: it is one datagram.
    pub segment: Option<u16>,
}

/// Control messages, aligned as the kernel wants them.
#[derive(Clone, Copy)]
#[repr(align(8))]
pub struct Control(pub [u8; CONTROL]);

impl Control {
    /// Says that a train's datagrams have this many bytes; how many bytes that takes.
    pub fn say_segment(&mut self, segment: u16) -> usize {
        let bytes = &mut self.0;
        bytes[..WORD].copy_from_slice(&(HEADER + 2).to_ne_bytes());
        bytes[WORD..WORD + 4].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
        bytes[WORD + 4..HEADER].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
        bytes[HEADER..HEADER + 2].copy_from_slice(&segment.to_ne_bytes());
        SEGMENT_CONTROL
    }
}

/// The length of a train's datagrams, if `control` tells one.
#[must_use]
pub fn segment_in(mut control: &[u8]) -> Option<u16> {
    loop {
        let len = usize::from_ne_bytes(*control.first_chunk()?);
        let message = control.get(HEADER..len)?;
        let level = i32::from_ne_bytes(*control[WORD..].first_chunk()?);
        let kind = i32::from_ne_bytes(*control[WORD + 4..].first_chunk()?);
        if (level, kind) == (libc::SOL_UDP, libc::UDP_GRO) {
            return i32::from_ne_bytes(*message.first_chunk()?).try_into().ok();
        }
        control = control.get(len.next_multiple_of(WORD)..)?;
    }
}

/// A blocking socket at `address`, which says so by being bound.
///
/// # Errors
/// The address is in use or not of this machine.
pub fn bound_socket(address: SocketAddr) -> Result<UdpSocket> {
    listening::raise_descriptor_limit()?;
    UdpSocket::bind(address).with_context(|| format!("cannot bind udp {address}"))
}

/// Has the kernel hand datagrams of one peer and one length over as a train.
///
/// # Errors
/// A kernel before 5.0.
pub fn receive_in_trains(socket: &UdpSocket) -> Result<()> {
    set_number(socket, libc::SOL_UDP, libc::UDP_GRO, 1).context("cannot switch UDP_GRO on")
}

/// Asks for this much room for what was received and not read, in bytes; the kernel may give less.
///
/// # Errors
/// The kernel refuses to hear of it.
pub fn ask_for_room(socket: &UdpSocket, bytes: i32) -> io::Result<()> {
    set_number(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes)
}

fn set_number(socket: &UdpSocket, level: i32, option: i32, value: i32) -> io::Result<()> {
    let len = size_of::<i32>() as libc::socklen_t;
    let value = ptr::from_ref(&value).cast();
    // SAFETY: the value is one number that lives until the call returns, and its size is given.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Receives a train (or one datagram) into `buffer`.
///
/// # Errors
/// Those of recvmsg, `WouldBlock` if `flags` or the socket say not to wait.
pub fn receive_train(socket: &UdpSocket, buffer: &mut [u8], flags: i32) -> io::Result<Train> {
    let mut from = Name::empty();
    let mut control = Control([0; CONTROL]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut header = empty_header();
    header.msg_name = ptr::from_mut(&mut from.place).cast();
    header.msg_namelen = from.len;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL as _;
    // SAFETY: all that the header points at lives, unaliased, until the call returns.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    from.len = header.msg_namelen;
    let segment = segment_in(&control.0[..CONTROL.min(header.msg_controllen)]);
    Ok(Train { from, len, segment: segment.filter(|segment| usize::from(*segment) < len) })
}

/// Sends `bytes` in datagrams of `segment` bytes (`None`: in one) to `to`, or to whom the socket
/// is connected.
///
/// # Errors
/// Those of sendmsg; none of the datagrams has left then.
pub fn send_train(
    socket: &UdpSocket,
    bytes: &[u8],
    segment: Option<u16>,
    to: Option<&Name>,
    flags: i32,
) -> io::Result<()> {
    let mut control = Control([0; CONTROL]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut header = empty_header();
    if let Some(to) = to {
        header.msg_name = ptr::from_ref(&to.place).cast_mut().cast();
        header.msg_namelen = to.len;
    }
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    if let Some(segment) = segment {
        header.msg_controllen = control.say_segment(segment);
        header.msg_control = control.0.as_mut_ptr().cast();
    }
    // SAFETY: sendmsg only reads what the header points at, which lives until the call returns.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A message header that names nothing.
#[must_use]
pub fn empty_header() -> libc::msghdr {
    // SAFETY: a header is null pointers and zero lengths when all its bytes are zero.
    unsafe { mem::zeroed() }
}

/// Room for [`MANY`] datagrams, received or to be sent in one system call.
///
/// The headers are written once; a call only touches the lengths of what it moved.
pub struct Many {
    /// What the headers and parts point into: never resized, reached through them only.
    _bytes: Vec<u8>,
    names: Vec<libc::sockaddr_in6>,
    parts: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    stride: usize,
}

impl Many {
    /// Datagrams of up to `stride` bytes (what is longer is cut); `named`: each with its peer.
    #[must_use]
    pub fn new(stride: usize, named: bool) -> Self {
        let mut bytes = vec![0; MANY * stride];
        let mut names = vec![Name::empty().place; MANY];
        let part =
            |place: &mut [u8]| libc::iovec { iov_base: place.as_mut_ptr().cast(), iov_len: stride };
        let mut parts: Vec<_> = bytes.chunks_exact_mut(stride).map(part).collect();
        let header = |(part, name): (&mut libc::iovec, &mut libc::sockaddr_in6)| {
            let mut header = empty_header();
            header.msg_iov = part;
            header.msg_iovlen = 1;
            if named {
                header.msg_name = ptr::from_mut(name).cast();
                header.msg_namelen = Name::MAX as libc::socklen_t;
            }
            libc::mmsghdr { msg_hdr: header, msg_len: 0 }
        };
        let headers = parts.iter_mut().zip(&mut names).map(header).collect();
        Self { _bytes: bytes, names, parts, headers, stride }
    }

    /// Receives what is there, one at least unless `flags` say not to wait; how many.
    ///
    /// # Errors
    /// Those of recvmmsg.
    pub fn receive(&mut self, socket: &UdpSocket, flags: i32) -> io::Result<usize> {
        let (first, flags) = (self.headers.as_mut_ptr(), flags | libc::MSG_WAITFORONE);
        let (socket, no_time) = (socket.as_raw_fd(), ptr::null_mut());
        // SAFETY: there are MANY headers; they point into vectors of `self` that are never
        // resized, and nothing else refers to them during the call.
        let count = unsafe { libc::recvmmsg(socket, first, MANY as u32, flags, no_time) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (header, part) in self.headers[..count].iter().zip(&mut self.parts) {
            part.iov_len = header.msg_len as usize;
        }
        Ok(count)
    }

    /// Sends these datagrams, to whom each came from or, without names, to whom the socket is
    /// connected; how many left.
    ///
    /// # Errors
    /// Those of sendmmsg for the first one.
    pub fn send(
        &mut self,
        socket: &UdpSocket,
        range: std::ops::Range<usize>,
        flags: i32,
    ) -> io::Result<usize> {
        let headers = &mut self.headers[range];
        let (first, count) = (headers.as_mut_ptr(), headers.len() as u32);
        // SAFETY: as in `receive`; the kernel writes only the headers' lengths.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), first, count, flags) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Makes the first `count` places as they were, for the next receive.
    pub fn clear(&mut self, count: usize) {
        for (header, part) in self.headers[..count].iter_mut().zip(&mut self.parts) {
            part.iov_len = self.stride;
            if !header.msg_hdr.msg_name.is_null() {
                header.msg_hdr.msg_namelen = Name::MAX as libc::socklen_t;
            }
        }
    }

    /// One of the datagrams that were received or placed.
    #[must_use]
    pub fn datagram(&self, at: usize) -> &[u8] {
        let part = &self.parts[at];
        // SAFETY: the part is the beginning of its place among our bytes; no call is under way.
        unsafe { std::slice::from_raw_parts(part.iov_base.cast(), part.iov_len) }
    }

    /// The place of a datagram of `len` bytes that is to be sent.
    ///
    /// # Panics
    /// If `len` is more than the stride.
    pub fn place(&mut self, at: usize, len: usize) -> &mut [u8] {
        assert!(len <= self.stride, "{len} bytes, there is room for {}", self.stride);
        let part = &mut self.parts[at];
        part.iov_len = len;
        // SAFETY: as above; `&mut self` keeps every other slice away.
        unsafe { std::slice::from_raw_parts_mut(part.iov_base.cast(), len) }
    }

    /// How many there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (UdpSocket, UdpSocket) {
        let (one, other) = ("127.0.0.1:0", "127.0.0.1:0");
        let (one, other) = (UdpSocket::bind(one).unwrap(), UdpSocket::bind(other).unwrap());
        one.connect(other.local_addr().unwrap()).unwrap();
        (one, other)
    }

    #[test]
    fn a_train_arrives_as_one_and_goes_back() {
        let (one, other) = pair();
        receive_in_trains(&one).unwrap();
        receive_in_trains(&other).unwrap();
        let sent: Vec<u8> = (0..250).collect();
        send_train(&one, &sent, Some(100), None, 0).unwrap();
        let mut buffer = vec![0; DATAGRAM_MAX];
        let train = receive_train(&other, &mut buffer, 0).unwrap();
        assert_eq!((train.len, train.segment), (250, Some(100)));
        send_train(&other, &buffer[..train.len], train.segment, Some(&train.from), 0).unwrap();
        let train = receive_train(&one, &mut buffer, 0).unwrap();
        assert_eq!((&buffer[..train.len], train.segment), (&sent[..], Some(100)));
        send_train(&one, &sent, None, None, 0).unwrap();
        assert_eq!(receive_train(&other, &mut buffer, 0).unwrap().segment, None);
    }

    #[test]
    fn many_arrive_and_go_back_in_order() {
        let (one, other) = pair();
        let (mut mine, mut theirs) = (Many::new(10, false), Many::new(10, true));
        for round in 0..3 {
            (0..5).for_each(|at| mine.place(at, at).fill(at as u8 + round));
            assert_eq!(mine.send(&one, 0..5, 0).unwrap(), 5);
            let count = theirs.receive(&other, 0).unwrap();
            assert_eq!((count, theirs.send(&other, 0..count, 0).unwrap()), (5, 5));
            theirs.clear(count);
            mine.clear(5);
            assert_eq!(mine.receive(&one, 0).unwrap(), 5);
            assert!((0..5).all(|at| mine.datagram(at) == vec![at as u8 + round; at]));
        }
    }

    #[test]
    fn control_messages_that_lie_are_not_followed() {
        let mut control = Control([0; CONTROL]);
        assert_eq!(segment_in(&control.0), None);
        let len = control.say_segment(7);
        assert_eq!(segment_in(&control.0[..len]), None, "that of a send is no GRO");
        control.0.fill(0xff);
        assert_eq!(segment_in(&control.0), None);
    }
}
