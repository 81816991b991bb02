//! World: byte-stream connections in memory, shared by script drivers and by a test's own hand.
//!
//! Above: `script` gives drivers their end of a connection, tests hold the other as a `Peer`.
//! Below: memory. Absent: kernel, clock, randomness; loss and reordering (streams have none).
//! Bounds: bytes under way per direction, connections that wait to be accepted. An endpoint's
//! slot is kept for the life of the world, its bytes are not.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::address::SocketAddress;
use crate::engine::operation::Errno;
use crate::engine::socket::Socket;

/// Linux's numbers of the errors a stream socket meets.
pub(crate) mod errno {
    use super::Errno;

    pub(crate) const EPIPE: Errno = Errno(32);
    pub(crate) const EADDRINUSE: Errno = Errno(98);
    pub(crate) const ECONNRESET: Errno = Errno(104);
    pub(crate) const ENOTCONN: Errno = Errno(107);
    pub(crate) const ECONNREFUSED: Errno = Errno(111);
    pub(crate) const ECANCELED: Errno = Errno(125);
}

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// This many bytes.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The other side sends no more.
    End,
    /// The connection failed.
    Failed(Errno),
}

#[derive(Default)]
struct Endpoint {
    /// The other end; `None` before a connect.
    other: Option<usize>,
    /// Bytes sent to this end.
    inbox: VecDeque<u8>,
    inbox_ended: bool,
    failure: Option<Errno>,
    closed: bool,
    listening: Option<Listening>,
}

struct Listening {
    address: SocketAddress,
    queue: VecDeque<usize>,
    queue_max: usize,
}

struct State {
    endpoints: Vec<Endpoint>,
    stream_bytes_max: usize,
}

/// A world of its own; clones are the same world.
#[derive(Clone)]
pub(crate) struct World(Arc<Mutex<State>>);

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("endpoints", &self.state().endpoints.len()).finish()
    }
}

impl World {
    /// A world whose connections hold at most `stream_bytes_max` bytes per direction.
    pub(crate) fn new(stream_bytes_max: usize) -> Self {
        assert!(stream_bytes_max > 0, "a stream without room moves nothing");
        Self(Arc::new(Mutex::new(State { endpoints: Vec::new(), stream_bytes_max })))
    }

    /// A connection: one end for a driver, one for a test's hand.
    pub(crate) fn pair(&self) -> (Socket, Peer) {
        let (socket, number) = self.state().connect();
        (Socket::Script(number_of(socket)), Peer { world: self.clone(), number })
    }

    /// A connection between two drivers.
    pub(crate) fn sockets(&self) -> (Socket, Socket) {
        let (one, two) = self.state().connect();
        (Socket::Script(number_of(one)), Socket::Script(number_of(two)))
    }

    /// A listening socket.
    ///
    /// # Errors
    /// EADDRINUSE if somebody listens there.
    pub(crate) fn listen(&self, at: &SocketAddress, queue_max: usize) -> Result<Socket, Errno> {
        let mut state = self.state();
        if state.listener(at).is_some() {
            return Err(errno::EADDRINUSE);
        }
        let listening =
            Listening { address: at.clone(), queue: VecDeque::new(), queue_max: queue_max.max(1) };
        let number = state.add(Endpoint { listening: Some(listening), ..Endpoint::default() });
        Ok(Socket::Script(number_of(number)))
    }

    /// A socket that is not connected yet.
    pub(crate) fn connecting(&self) -> Socket {
        Socket::Script(number_of(self.state().add(Endpoint::default())))
    }

    /// Connects by hand.
    ///
    /// # Errors
    /// ECONNREFUSED if nobody listens there or the queue is full.
    pub(crate) fn connect(&self, to: &SocketAddress) -> Result<Peer, Errno> {
        let number = self.state().add(Endpoint::default());
        self.connect_endpoint(number, to)?;
        Ok(Peer { world: self.clone(), number })
    }

    /// Accepts by hand from a socket of `listen`.
    pub(crate) fn accept(&self, listener: &Socket) -> Option<Peer> {
        let number = self.accept_endpoint(endpoint_of(listener))?;
        Some(Peer { world: self.clone(), number })
    }

    pub(super) fn connect_endpoint(&self, from: usize, to: &SocketAddress) -> Result<(), Errno> {
        let mut state = self.state();
        let listener = state.listener(to).ok_or(errno::ECONNREFUSED)?;
        let accepted = state.endpoints.len();
        let listening = state.endpoints[listener].listening.as_mut();
        let listening = listening.expect("a listener has its queue until it is closed");
        if listening.queue.len() >= listening.queue_max {
            return Err(errno::ECONNREFUSED);
        }
        listening.queue.push_back(accepted);
        state.add(Endpoint { other: Some(from), ..Endpoint::default() });
        state.endpoints[from].other = Some(accepted);
        Ok(())
    }

    pub(super) fn accept_endpoint(&self, listener: usize) -> Option<usize> {
        self.state().endpoints[listener].listening.as_mut()?.queue.pop_front()
    }

    /// Reads at most `into.len()` bytes; bytes that arrived come before a failure or the end.
    pub(super) fn read(&self, number: usize, into: &mut [u8]) -> Read {
        let mut state = self.state();
        let endpoint = &mut state.endpoints[number];
        if endpoint.inbox.is_empty() {
            return match endpoint.failure {
                Some(errno) => Read::Failed(errno),
                None if endpoint.inbox_ended => Read::End,
                None if endpoint.other.is_none() => Read::Failed(errno::ENOTCONN),
                None => Read::Nothing,
            };
        }
        let len = into.len().min(endpoint.inbox.len());
        for (place, byte) in into.iter_mut().zip(endpoint.inbox.drain(..len)) {
            *place = byte;
        }
        Read::Bytes(len)
    }

    /// Writes what fits: 0 if nothing does.
    pub(super) fn write(&self, number: usize, bytes: &[u8]) -> Result<usize, Errno> {
        let mut state = self.state();
        let max = state.stream_bytes_max;
        let endpoint = &state.endpoints[number];
        if let Some(errno) = endpoint.failure {
            return Err(errno);
        }
        let other = endpoint.other.ok_or(errno::ENOTCONN)?;
        let other = &mut state.endpoints[other];
        if other.closed || other.inbox_ended {
            return Err(errno::EPIPE);
        }
        let len = bytes.len().min(max - other.inbox.len());
        other.inbox.extend(&bytes[..len]);
        Ok(len)
    }

    /// Ends the direction away from `number`.
    pub(super) fn end(&self, number: usize) {
        let mut state = self.state();
        if let Some(other) = state.endpoints[number].other {
            state.endpoints[other].inbox_ended = true;
        }
    }

    /// Closes an endpoint. Unread bytes make it a reset, as in real stacks; connections that
    /// nobody accepted are reset too.
    pub(super) fn close(&self, number: usize, reset: bool) {
        let mut state = self.state();
        let endpoint = &mut state.endpoints[number];
        if std::mem::replace(&mut endpoint.closed, true) {
            return;
        }
        let unread = !std::mem::take(&mut endpoint.inbox).is_empty();
        let unaccepted = endpoint.listening.take().map_or_else(VecDeque::new, |l| l.queue);
        if let Some(other) = endpoint.other {
            let other = &mut state.endpoints[other];
            other.inbox_ended = true;
            if (reset || unread) && !other.closed {
                other.failure = Some(errno::ECONNRESET);
            }
        }
        drop(state);
        for number in unaccepted {
            self.close(number, true);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, endpoint: Endpoint) -> usize {
        self.endpoints.push(endpoint);
        self.endpoints.len() - 1
    }

    fn connect(&mut self) -> (usize, usize) {
        let one = self.endpoints.len();
        self.add(Endpoint { other: Some(one + 1), ..Endpoint::default() });
        self.add(Endpoint { other: Some(one), ..Endpoint::default() });
        (one, one + 1)
    }

    fn listener(&self, at: &SocketAddress) -> Option<usize> {
        self.endpoints.iter().position(|endpoint| {
            endpoint.listening.as_ref().is_some_and(|listening| listening.address == *at)
        })
    }
}

/// The endpoint of a script socket.
pub(super) fn endpoint_of(socket: &Socket) -> usize {
    match socket {
        Socket::Script(number) => *number as usize,
        #[allow(unreachable_patterns, reason = "the only kind where there is no kernel driver")]
        _ => panic!("a socket of the kernel in a scripted world"),
    }
}

pub(super) fn number_of(endpoint: usize) -> u32 {
    u32::try_from(endpoint).expect("a simulated world has fewer than 2^32 endpoints")
}

/// A test's own end of a connection. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Peer {
    world: World,
    number: usize,
}

impl Peer {
    /// Writes what fits and says how much that was.
    ///
    /// # Errors
    /// The connection failed.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        self.world.write(self.number, bytes)
    }

    /// Reads at most `max` bytes into `into`.
    pub(crate) fn read(&self, into: &mut Vec<u8>, max: usize) -> Read {
        let mut bytes = vec![0; max];
        let read = self.world.read(self.number, &mut bytes);
        if let Read::Bytes(len) = read {
            into.extend_from_slice(&bytes[..len]);
        }
        read
    }

    /// Sends no more.
    pub(crate) fn end(&self) {
        self.world.end(self.number);
    }

    /// Closes it with a reset.
    pub(crate) fn reset(self) {
        self.world.close(self.number, true);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.world.close(self.number, false);
    }
}
