//! Errno: an error number of the system, and what follows from which.
//!
//! Above: completions carry one, `socket` makes them of what plain calls say. Absent: words for
//! users (`error`).

/// An error number of the system, as drivers report it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

/// Where the numbers of the system are Linux's; others have those of the BSDs.
const IS_LINUX: bool = cfg!(all(target_os = "linux", not(postring_no_kernel)));

impl Errno {
    /// A write after the peer has gone (EPIPE).
    pub(crate) const BROKEN_PIPE: Self = Self(32);
    /// Nobody listens on the port (ECONNREFUSED).
    pub(crate) const CONNECTION_REFUSED: Self = Self(if IS_LINUX { 111 } else { 61 });
    /// The operation was cancelled (ECANCELED).
    pub(crate) const CANCELLED: Self = Self(if IS_LINUX { 125 } else { 89 });
    /// The peer reset the connection (ECONNRESET).
    pub(crate) const CONNECTION_RESET: Self = Self(if IS_LINUX { 104 } else { 54 });
    /// Nothing leads to the host, or its name leads to no address (EHOSTUNREACH).
    pub(crate) const HOST_UNREACHABLE: Self = Self(if IS_LINUX { 113 } else { 65 });
    /// No answer in time (ETIMEDOUT).
    pub(crate) const TIMED_OUT: Self = Self(if IS_LINUX { 110 } else { 60 });

    /// True if it tells of what was sent rather than of the path: too long for it (EMSGSIZE), no
    /// room just now (ENOBUFS, ENOMEM), not let through by this host's own rules (EPERM).
    pub(crate) const fn is_of_one_datagram(self) -> bool {
        matches!(self.0, 90 | 105 | 12 | 1)
    }

    /// True if a host or a router may have said it (ICMP) of a datagram that was sent to one of
    /// many (EACCES, EPROTO, ENOPROTOOPT, EMSGSIZE, EOPNOTSUPP, ENETUNREACH, ECONNREFUSED,
    /// EHOSTDOWN, EHOSTUNREACH): the socket that it is said to has lost nothing.
    pub(crate) const fn is_of_one_peer(self) -> bool {
        matches!(self.0, 13 | 71 | 90 | 92 | 95 | 101 | 111 | 112 | 113)
    }

    pub(crate) fn to_io(self) -> std::io::Error {
        std::io::Error::from_raw_os_error(self.0)
    }
}
