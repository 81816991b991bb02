//! Socket on systems without a driver: a name for the types, never a value outside tests.
//!
//! Above and below: as `socket`. Absent: everything.

use std::io;

use crate::address::{Group, SocketAddress};

/// A socket of the script driver.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Only a number.
    #[cfg(any(test, feature = "testing"))]
    Script(u32),
    /// The same, of datagrams.
    #[cfg(any(test, feature = "testing"))]
    ScriptDatagrams(u32),
}

impl Socket {
    pub(crate) fn connecting(_address: &SocketAddress) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn joining(_group: &Group) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn is_datagram(&self) -> bool {
        #[cfg(any(test, feature = "testing"))]
        if let Self::ScriptDatagrams(_) = self {
            return true;
        }
        false
    }

    pub(crate) fn local_address(&self) -> io::Result<SocketAddress> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn peer_address(&self) -> io::Result<SocketAddress> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// What to do about a failed listen or accept.
pub(crate) fn listen_hint(_error: &io::Error) -> &'static str {
    ""
}

/// What to do about a failed connect.
pub(crate) fn connect_hint(_error: &io::Error) -> &'static str {
    ""
}
