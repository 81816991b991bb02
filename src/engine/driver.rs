//! Driver: one thread's door to the kernel. A closed enum over the io_uring driver (the real one),
//! the epoll driver (where io_uring is refused) and the script driver (tests).
//!
//! Above: a shard submits Operations, turns, and pulls Completions one at a time. Below: `kernel`
//! for io_uring, plain system calls for epoll. Absent: what a connection means; framers; handlers.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;

use super::operation::{Completion, Data, Operation, PathSample, Token};
use super::plan::Patience;
use super::socket::Socket;
use crate::address::SocketAddress;
use crate::lending::Lender;

/// Which driver a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DriverChoice {
    /// io_uring, or epoll where io_uring is refused. The environment variable `POSTRING_DRIVER`
    /// (`uring` or `epoll`) takes precedence over this choice.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// epoll.
    Epoll,
}

/// One thread's door to the kernel.
pub(crate) enum Driver {
    #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
    Uring(Box<crate::kernel::UringDriver>),
    #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
    Epoll(Box<super::epoll::EpollDriver>),
    #[cfg(any(test, feature = "testing"))]
    Script(Box<crate::simulation::script::ScriptDriver>),
    /// Systems without any of them; nobody can make one.
    #[cfg(not(all(target_os = "linux", not(postring_no_kernel))))]
    #[allow(dead_code, reason = "it keeps the enum inhabited by type only")]
    Absent(std::convert::Infallible),
}

/// Does the same with whichever driver it is.
macro_rules! each {
    ($driver:expr, $it:ident => $action:expr) => {
        match $driver {
            #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
            Driver::Uring($it) => $action,
            #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
            Driver::Epoll($it) => $action,
            #[cfg(any(test, feature = "testing"))]
            Driver::Script($it) => $action,
            #[cfg(not(all(target_os = "linux", not(postring_no_kernel))))]
            Driver::Absent(never) => match *never {},
        }
    };
}

impl Driver {
    /// Queues an operation; failures come as completions.
    pub(crate) fn submit(&mut self, operation: Operation) {
        each!(self, driver => driver.submit(operation));
    }

    /// Hands what is queued to the kernel and waits as `patience` says.
    ///
    /// # Errors
    /// If the driver itself is of no use any more.
    pub(crate) fn turn(&mut self, patience: Patience) -> io::Result<()> {
        each!(self, driver => driver.turn(patience))
    }

    /// The next completion of the turn.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Completion> {
        each!(self, driver => driver.next())
    }

    /// Received bytes, until they are released.
    #[inline]
    pub(crate) fn bytes(&self, data: &Data) -> &[u8] {
        each!(self, driver => driver.bytes(data))
    }

    /// The same with what stands before them in their buffer, for those who lease it.
    pub(crate) fn whole(&self, data: &Data) -> &[u8] {
        match self {
            #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
            Self::Uring(driver) => driver.whole(data),
            #[allow(unreachable_patterns, reason = "the only one on some systems")]
            _ => self.bytes(data),
        }
    }

    /// The longest datagram that the path of a connection carries, where that is known.
    pub(crate) fn datagram_bytes_max(&self, token: Token) -> Option<u32> {
        match self {
            #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
            Self::Uring(driver) => driver.datagram_bytes_max(token),
            #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
            Self::Epoll(driver) => driver.datagram_bytes_max(token),
            #[cfg(any(test, feature = "testing"))]
            Self::Script(driver) => driver.datagram_bytes_max(token),
            #[allow(unreachable_patterns, reason = "the only one on some systems")]
            _ => {
                let _ = token;
                None
            }
        }
    }

    /// Received bytes by reference count, where its buffers are not leased by number.
    #[inline]
    pub(crate) fn shared(&self, data: &Data) -> Option<Bytes> {
        match self {
            #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
            Self::Epoll(driver) => driver.shared(data),
            #[allow(unreachable_patterns, reason = "the only one on some systems")]
            _ => {
                let _ = data;
                None
            }
        }
    }

    /// The longest message that is best received into the driver's buffer, for messages too large
    /// for the pool; 0 if all these should get a buffer of their own.
    pub(crate) fn large_receive_bytes(&self) -> usize {
        match self {
            #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
            Self::Epoll(_) => super::epoll::LARGE_RECEIVE_BYTES,
            #[allow(unreachable_patterns, reason = "the only one on some systems")]
            _ => 0,
        }
    }

    /// Gives received bytes back.
    #[inline]
    pub(crate) fn release(&mut self, data: Data) {
        each!(self, driver => driver.release(data));
    }

    /// What is known of the path of a connection; `None` where the stack cannot tell.
    pub(crate) fn path(&self, token: Token) -> Option<PathSample> {
        each!(self, driver => driver.path(token))
    }

    /// The local IP address and port of a connection, where it has one.
    pub(crate) fn local_address(&self, token: Token) -> Option<SocketAddr> {
        match self {
            #[cfg(any(test, feature = "testing"))]
            Self::Script(driver) => driver.local_address(token),
            #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
            Self::Uring(driver) => driver.local_address(token).and_then(ip_of),
            #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
            Self::Epoll(driver) => driver.local_address(token).and_then(ip_of),
            #[cfg(not(all(target_os = "linux", not(postring_no_kernel))))]
            Self::Absent(never) => match *never {},
        }
    }

    /// A socket to connect to `address` with.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn connecting(&self, address: &SocketAddress) -> io::Result<Socket> {
        match self {
            #[cfg(any(test, feature = "testing"))]
            Self::Script(driver) => Ok(driver.connecting(address)),
            #[allow(unreachable_patterns, reason = "the only one on some systems")]
            _ => Socket::connecting(address),
        }
    }

    /// Closes a socket that no Token was ever given to.
    pub(crate) fn discard(&self, socket: Socket) {
        match self {
            #[cfg(any(test, feature = "testing"))]
            Self::Script(driver) => driver.discard(&socket),
            #[allow(unreachable_patterns, reason = "the only one on some systems")]
            _ => drop(socket),
        }
    }

    /// True if a send is carried out the moment it is submitted and one receive a turn is all that
    /// a connection gives: then its replies leave before the next connection is read, while the
    /// kernel's state of it is still in the cache.
    #[inline]
    pub(crate) fn sends_at_once(&self) -> bool {
        match self {
            #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
            Self::Epoll(_) => true,
            #[allow(unreachable_patterns, reason = "the only one on some systems")]
            _ => false,
        }
    }

    /// Who leases its buffers, if it has such.
    pub(crate) fn lender(&self) -> Option<Rc<dyn Lender>> {
        match self {
            #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
            Self::Uring(driver) => Some(driver.lender()),
            #[allow(unreachable_patterns, reason = "the only one on some systems")]
            _ => None,
        }
    }

    /// What another core needs to wake this one from its own ring.
    #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
    pub(crate) fn ring_descriptor(&self) -> Option<std::os::fd::OwnedFd> {
        match self {
            Self::Uring(driver) => driver.ring_descriptor().ok(),
            _ => None,
        }
    }

    /// Names the ring and the bell of a sibling core.
    #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
    pub(crate) fn know_sibling(
        &mut self,
        index: usize,
        ring: std::os::fd::OwnedFd,
        bell: super::bell::EventBell,
    ) {
        if let Self::Uring(driver) = self {
            driver.know_sibling(index, ring, bell);
        }
    }

    /// Wakes a sibling by its ring, with the next turn; false if this driver cannot.
    pub(crate) fn ring_sibling(&mut self, index: usize) -> bool {
        match self {
            #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
            Self::Uring(driver) => driver.ring_sibling(index),
            #[allow(unreachable_patterns, reason = "the only one on some systems")]
            _ => {
                let _ = index;
                false
            }
        }
    }
}

/// The address and port of IP, if it has one.
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
fn ip_of(address: SocketAddress) -> Option<SocketAddr> {
    match address {
        SocketAddress::Tcp(address) | SocketAddress::Udp(address) => Some(address),
        _ => None,
    }
}
