//! Multicast: joining a group, of any sender or of one.
//!
//! Above: `engine::socket` when it sets a socket up. Below: `setsockopt` through `libc`, by the
//! calls that know IPv4 and IPv6 alike (RFC 3678 §4). Absent: sending to a group.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::control::{NAME_BYTES, put_name};
use super::datagram::set;

const JOIN_GROUP: libc::c_int = 42;
const JOIN_SOURCE_GROUP: libc::c_int = 46;
const IP_MULTICAST_ALL: libc::c_int = 49;
const SO_BINDTOIFINDEX: libc::c_int = 62;
const STORAGE_BYTES: usize = size_of::<libc::sockaddr_storage>();

/// What the kernel calls `group_req` and, with a source, `group_source_req`.
#[repr(C, align(8))]
struct Request {
    interface: u32,
    padding: u32,
    group: [u8; STORAGE_BYTES],
    source: [u8; STORAGE_BYTES],
}

/// Joins `group` on the interface with this number, 0 for the one that a route leads to; with
/// `source`, only what that host sends is received. What others of this host have joined on other
/// interfaces does not come by this socket.
///
/// # Errors
/// What the system says: `ENODEV` if there is no such interface or no route.
pub(crate) fn join_group(
    socket: BorrowedFd<'_>,
    group: SocketAddr,
    source: Option<IpAddr>,
    interface: u32,
) -> io::Result<()> {
    let level = if group.is_ipv6() { libc::IPPROTO_IPV6 } else { libc::IPPROTO_IP };
    let source_storage = source.map_or([0; STORAGE_BYTES], |ip| storage((ip, 0).into()));
    let (option, len) = match source {
        None => (JOIN_GROUP, std::mem::offset_of!(Request, source)),
        Some(_) => (JOIN_SOURCE_GROUP, size_of::<Request>()),
    };
    let request = Request { interface, padding: 0, group: storage(group), source: source_storage };
    // SAFETY: [K8] the kernel reads `len` bytes of a structure of numbers at least that long.
    let joined = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const request).cast(),
            len as libc::socklen_t,
        )
    };
    if joined != 0 {
        return Err(io::Error::last_os_error());
    }
    let is_apart = match group {
        SocketAddr::V4(_) => set(socket, libc::IPPROTO_IP, IP_MULTICAST_ALL, 0),
        // IPv6 looks at the group alone; only what is bound to an interface hears no other.
        SocketAddr::V6(_) => {
            let number = interface.cast_signed();
            number == 0 || set(socket, libc::SOL_SOCKET, SO_BINDTOIFINDEX, number)
        }
    };
    if !is_apart {
        tracing::debug!(interface, "a group may be heard by other interfaces, too");
    }
    Ok(())
}

fn storage(address: SocketAddr) -> [u8; STORAGE_BYTES] {
    let mut name = [0; NAME_BYTES];
    put_name(address, &mut name);
    let mut storage = [0; STORAGE_BYTES];
    storage[..NAME_BYTES].copy_from_slice(&name);
    storage
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn groups_are_joined_on_the_loopback_and_nowhere_that_is_not() {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let group = "239.255.77.1:1".parse().unwrap();
        join_group(socket.as_fd(), group, None, 1).expect("the loopback has number 1");
        let specific = "232.77.0.1:1".parse().unwrap();
        join_group(socket.as_fd(), specific, Some([127, 0, 0, 1].into()), 1).unwrap();
        let again = join_group(socket.as_fd(), group, None, 1).unwrap_err();
        assert_eq!(again.raw_os_error(), Some(libc::EADDRINUSE), "once");
        let nowhere = join_group(socket.as_fd(), "239.255.77.2:1".parse().unwrap(), None, 9999);
        assert_eq!(nowhere.unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}
