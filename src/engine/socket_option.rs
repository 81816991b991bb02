//! Socket option: what can be set on a connected socket.
//!
//! Above: shards ask for it, in an operation. Below: `socket` sets it, the simulated world keeps
//! what it has of it. Absent: what is set before a driver has the socket.

/// What can be set on a connected socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketOption {
    /// The socket is writable only while fewer bytes than this wait unsent in the kernel.
    UnsentLimit(u32),
    /// The traffic class of its packets, a DSCP code point (0 to 63).
    TrafficClass(u8),
    /// What peers and paths say of its datagrams is reported for each of them (`PeerFailed`).
    PeerErrors,
    /// Its datagrams say when this host got them.
    ArrivalTimes,
}
