//! Operations and completions: what a shard may ask of a driver, and what it gets back. Values on
//! both sides, so that one conformance suite runs on every driver.
//!
//! Above: `shard` makes Operations and takes Completions. Below: `driver` carries them out.
//! Absent: file descriptors (a driver owns the sockets, operations name their Token) and pointers.

use std::net::SocketAddr;

use super::errno::Errno;
use super::socket::Socket;
use super::socket_option::SocketOption;
use crate::address::{Route, SocketAddress};
use crate::framer::Output;

/// From this many bytes on a send may be answered short, so that its progress is seen.
pub(crate) const SEND_BYTES_MAX: usize = 1 << 20;

/// The most that a datagram can carry, whatever its path: what IPv4's length field allows, less the
/// headers.
pub(crate) const DATAGRAM_BYTES_MAX: u32 = 65_507;

/// Who an operation is for: a slot of the shard and the generation of its use. A completion with
/// an old generation is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Token {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// What a driver is asked to do. At most one receive, one send and one connect are under way for
/// a Token at any time; the shard keeps to that, drivers assert it in debug builds.
#[derive(Debug)]
pub(crate) enum Operation {
    /// The driver owns `socket` from now on, until it reports `Closed`.
    Attach { token: Token, socket: Socket },
    /// Accepts connections until `AcceptEnded`, which comes without an error only after a stop or a
    /// close.
    Accept { token: Token },
    /// Ends an accept: what the kernel has queued is still reported, then `AcceptEnded`.
    StopAccept { token: Token },
    /// Connects; answered by `Connected`.
    Connect { token: Token, address: SocketAddress },
    /// Receives into buffers of the driver's pool until about `credit` bytes came (it may
    /// overshoot by one buffer), the peer ended or `StopReceive`; answered by `Received`s, then
    /// `ReceiveEnded`.
    Receive { token: Token, credit: usize },
    /// Ends a receive early; `ReceiveEnded` (or `ReceivedExact`) still comes, exactly once.
    StopReceive { token: Token },
    /// Receives datagrams into buffers of the driver's pool for them until `StopReceive`; answered
    /// by `Datagrams`, then `ReceiveEnded`.
    ReceiveDatagrams { token: Token },
    /// Receives into the spare capacity of `buffer`: until it is full if `whole`, else what is
    /// there. Answered by `ReceivedExact` with the same buffer.
    ReceiveExact { token: Token, buffer: Vec<u8>, whole: bool },
    /// Sends all of `output` from byte `sent` on; answered by `Sent`, possibly short. An output of
    /// datagrams goes whole, each train by itself; if one could not leave, the answer is its error.
    Send { token: Token, output: Box<Output>, sent: usize, manner: Manner },
    /// Sets an option of the socket; stacks that do not have it ignore it. No answer.
    Tune { token: Token, option: SocketOption },
    /// Sends the end of the stream (FIN); sends that were asked before go first. No answer.
    ShutdownWrite { token: Token },
    /// Cancels what is under way (each still answers), closes the socket, answers `Closed` last.
    /// With `reset`, the peer sees a reset instead of an end where the stack can do that.
    Close { token: Token, reset: bool },
}

impl Operation {
    /// Who it is for.
    pub(crate) const fn token(&self) -> Token {
        match self {
            Self::Attach { token, .. }
            | Self::Accept { token }
            | Self::StopAccept { token }
            | Self::Connect { token, .. }
            | Self::Receive { token, .. }
            | Self::ReceiveDatagrams { token }
            | Self::StopReceive { token }
            | Self::ReceiveExact { token, .. }
            | Self::Send { token, .. }
            | Self::Tune { token, .. }
            | Self::ShutdownWrite { token }
            | Self::Close { token, .. } => *token,
        }
    }
}

/// How a send goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Manner {
    /// At once, as far as the socket takes it.
    #[default]
    Plain,
    /// The kernel may read the bytes where they lie; the output that comes back has the same
    /// length, but its bytes are gone.
    ZeroCopy,
    /// Only once the socket is writable in the sense of `SocketOption::UnsentLimit`: what was
    /// decided to be sent next stays a decision of the sender until then. At most so many bytes
    /// leave with this operation, which is answered short.
    WhenWritable(u32),
}

/// What a driver knows of the path of one connection, as of now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PathSample {
    /// Bytes a second that were delivered of late, if any were.
    pub(crate) rate_bytes_per_s: Option<u64>,
    pub(crate) rtt_us: u32,
    pub(crate) rtt_var_us: u32,
    pub(crate) rtt_min_us: u32,
    pub(crate) loss_ppm: u32,
    /// The most payload of one packet.
    pub(crate) payload_bytes_max: u32,
    /// Bytes the kernel has that no packet carried yet.
    pub(crate) unsent_bytes: u32,
    /// Bytes the kernel has that the peer has not acknowledged, unsent ones included.
    pub(crate) unacknowledged_bytes: u32,
}

/// What a driver reports.
#[derive(Debug)]
pub(crate) enum Completion {
    Accepted {
        token: Token,
        socket: Socket,
    },
    AcceptEnded {
        token: Token,
        error: Option<Errno>,
    },
    Connected {
        token: Token,
        result: Result<(), Errno>,
    },
    /// `data` is lent by the driver: read it with `Driver::bytes`, then give it to
    /// `Driver::release`, before the next call of `Driver::next`.
    Received {
        token: Token,
        data: Data,
    },
    /// Datagrams of one sender; `data` is lent as above.
    Datagrams {
        token: Token,
        data: Data,
        arrival: Arrival,
    },
    /// Word of datagrams that were sent earlier; nothing under way ends with it.
    PeerFailed {
        token: Token,
        error: PeerError,
    },
    ReceiveEnded {
        token: Token,
        end: ReceiveEnd,
    },
    /// `Ok(0)` with spare capacity left means that the peer ended. The bytes are appended.
    ReceivedExact {
        token: Token,
        buffer: Vec<u8>,
        result: Result<usize, Errno>,
    },
    /// How many bytes of the output left with this operation; `Ok(0)` of some: none did, and
    /// nothing is wrong.
    Sent {
        token: Token,
        output: Box<Output>,
        result: Result<usize, Errno>,
    },
    /// The last word about a Token.
    Closed {
        token: Token,
    },
}

/// Received bytes that still lie with the driver.
#[derive(Debug)]
pub(crate) struct Data {
    /// The driver's index of the buffer.
    pub(crate) buffer: u32,
    /// Where in the buffer they begin.
    pub(crate) start: u32,
    pub(crate) len: usize,
    /// Whether the buffer can be leased to a message (`lending`).
    pub(crate) leasable: bool,
}

/// What came with datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Arrival {
    /// From whom, and to which address of this host.
    pub(crate) from: Option<Route>,
    /// Bytes of each of them but the last; `None`: it is one.
    pub(crate) segment: Option<u16>,
    /// The traffic class of its packet; the lower two bits tell of congestion.
    pub(crate) traffic_class: u8,
    /// When this host got it, in nanoseconds since the Unix epoch, if that was asked for.
    pub(crate) arrived_ns: Option<u64>,
    /// Datagrams that the kernel has dropped on this socket so far, for want of room.
    pub(crate) dropped: u32,
    /// It was longer than a buffer, or more came beside it than has room: something is missing.
    pub(crate) truncated: bool,
}

/// What came back of a datagram that was sent to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerError {
    /// To whom it went. Its port is 0 where this host itself could not send it.
    pub(crate) remote: SocketAddr,
    pub(crate) errno: Errno,
    /// The longest datagram that the path to it carries, if that was the matter.
    pub(crate) bytes_max: Option<u32>,
}

/// Why a receive ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReceiveEnd {
    /// The credit is used up; ask again when there is demand.
    Credit,
    /// It was stopped.
    Stopped,
    /// The peer sends no more.
    EndOfInput,
    /// The connection failed.
    Failed(Errno),
}
