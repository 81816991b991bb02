//! World: connections in memory, shared by script drivers and by a test's own hand.
//!
//! Above: `script` gives drivers their end of a connection, tests hold the other as a `Peer`;
//! `place` has what belongs to all connections of a name. Below: `link`, one per direction.
//! Absent: kernel, clock (the time is set), bytes that are lost or reordered.
//! Bounds: bytes under way per direction, connections that wait to be accepted. An endpoint's
//! slot is kept for the life of the world, its bytes are not.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::link::Link;
use super::network::Network;
use super::place::Places;
use super::post::Posts;
use crate::address::SocketAddress;
use crate::engine::errno::Errno;
use crate::engine::socket::Socket;

/// The system's numbers of the errors a stream socket meets.
pub(crate) mod errno {
    use super::Errno;

    pub(crate) const EPIPE: Errno = Errno::BROKEN_PIPE;
    pub(crate) const EADDRINUSE: Errno = either(98, 48);
    pub(crate) const ECONNRESET: Errno = Errno::CONNECTION_RESET;
    pub(crate) const ENOTCONN: Errno = either(107, 57);
    pub(crate) const ECONNREFUSED: Errno = either(111, 61);
    pub(crate) const ECANCELED: Errno = Errno::CANCELLED;
    pub(crate) const EOPNOTSUPP: Errno = either(95, 45);
    pub(crate) const EMSGSIZE: Errno = either(90, 40);

    const fn either(linux: i32, bsd: i32) -> Errno {
        let is_linux = cfg!(all(target_os = "linux", not(postring_no_kernel)));
        Errno(if is_linux { linux } else { bsd })
    }
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

pub(super) struct Endpoint {
    /// The other end; `None` before a connect.
    pub(super) other: Option<usize>,
    /// What is on its way to this end.
    pub(super) link: Link,
    /// The name it was connected under.
    pub(super) at: Option<SocketAddress>,
    /// A connect has begun.
    asked: bool,
    pub(super) failure: Option<Errno>,
    pub(super) closed: bool,
    listening: Option<Listening>,
}

struct Listening {
    address: SocketAddress,
    queue: VecDeque<usize>,
    queue_max: usize,
}

pub(super) struct State {
    pub(super) now: Duration,
    pub(super) endpoints: Vec<Endpoint>,
    /// Endpoints with something on its way to them.
    busy: BTreeSet<usize>,
    pub(super) places: Places,
    pub(super) posts: Posts,
    seed: u64,
    /// Grows with everything that happens.
    pub(super) happened: u64,
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
    /// A world without delays whose connections hold at most `stream_bytes_max` bytes per
    /// direction.
    pub(crate) fn new(stream_bytes_max: usize) -> Self {
        assert!(stream_bytes_max > 0, "a stream without room moves nothing");
        let receive_buffer_bytes = stream_bytes_max;
        let network = Network { send_buffer_bytes: 0, receive_buffer_bytes, ..Network::default() };
        Self::with_network(network, 0)
    }

    /// A world whose connections all go through `network`; its chances follow from `seed`.
    pub(crate) fn with_network(network: Network, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            now: Duration::ZERO,
            endpoints: Vec::new(),
            busy: BTreeSet::new(),
            places: Places::new(network),
            posts: Posts::new(seed),
            seed,
            happened: 0,
        })))
    }

    /// The time since the world began.
    pub(crate) fn now(&self) -> Duration {
        self.state().now
    }

    /// Moves the time on; time never goes back.
    pub(crate) fn advance_to(&self, now: Duration) {
        let mut state = self.state();
        state.now = state.now.max(now);
        let busy: Vec<usize> = state.busy.iter().copied().collect();
        busy.into_iter().for_each(|number| state.advance(number));
        state.advance_posts();
    }

    /// When something arrives or leaves next; `None` if nothing is under way.
    pub(crate) fn next_event(&self) -> Option<Duration> {
        let state = self.state();
        let links = state.busy.iter().map(|&number| state.endpoints[number].link.next_event());
        links.chain([state.posts.next_event()]).flatten().min()
    }

    /// A number that changes when anything happens.
    pub(crate) fn happened(&self) -> u64 {
        self.state().happened
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
        let number = state.add(None, Some(at));
        state.endpoints[number].listening = Some(listening);
        Ok(Socket::Script(number_of(number)))
    }

    /// A socket that is not connected yet.
    pub(crate) fn connecting(&self) -> Socket {
        Socket::Script(number_of(self.state().add(None, None)))
    }

    /// Connects by hand, at once whatever the way is like.
    ///
    /// # Errors
    /// ECONNREFUSED if nobody listens there or the queue is full.
    pub(crate) fn connect(&self, to: &SocketAddress) -> Result<Peer, Errno> {
        let mut state = self.state();
        let number = state.add(None, Some(to));
        state.meet(number, to)?;
        Ok(Peer { world: self.clone(), number })
    }

    /// Accepts by hand from a socket of `listen`.
    pub(crate) fn accept(&self, listener: &Socket) -> Option<Peer> {
        let number = self.accept_endpoint(endpoint_of(listener))?;
        Some(Peer { world: self.clone(), number })
    }

    /// Begins to connect or looks how it goes; `None` as long as there is no answer.
    pub(super) fn connect_endpoint(
        &self,
        from: usize,
        to: &SocketAddress,
    ) -> Option<Result<(), Errno>> {
        let mut state = self.state();
        let (now, is_cut, network) =
            (state.now, state.places.is_cut(Some(to)), state.places.network(Some(to)));
        let endpoint = &mut state.endpoints[from];
        if !endpoint.asked {
            endpoint.asked = true;
            endpoint.at = Some(to.clone());
            endpoint.link.network = network;
            endpoint.link.freeze(now, is_cut);
            endpoint.link.ask(now);
        }
        state.advance(from);
        state.endpoints[from].link.answered.then(|| state.meet(from, to))
    }

    pub(super) fn accept_endpoint(&self, listener: usize) -> Option<usize> {
        let mut state = self.state();
        let accepted = state.endpoints[listener].listening.as_mut()?.queue.pop_front();
        state.happened += u64::from(accepted.is_some());
        accepted
    }

    /// Reads at most `into.len()` bytes; bytes that arrived come before a failure or the end.
    pub(super) fn read(&self, number: usize, into: &mut [u8]) -> Read {
        let mut state = self.state();
        let now = state.now;
        let len = state.endpoints[number].link.read(now, into);
        state.advance(number);
        let endpoint = &state.endpoints[number];
        if len > 0 {
            state.happened += 1;
            return Read::Bytes(len);
        }
        match endpoint.failure {
            // A reader of nothing learns nothing.
            _ if endpoint.link.arrived_len() > 0 => Read::Nothing,
            Some(errno) => Read::Failed(errno),
            None if endpoint.link.ended => Read::End,
            None if endpoint.other.is_none() => Read::Failed(errno::ENOTCONN),
            None => Read::Nothing,
        }
    }

    /// Writes what fits: 0 if nothing does.
    pub(super) fn write(&self, number: usize, bytes: &[u8]) -> Result<usize, Errno> {
        let mut state = self.state();
        state.advance(number);
        let endpoint = &state.endpoints[number];
        if let Some(errno) = endpoint.failure {
            return Err(errno);
        }
        let heard_the_end = endpoint.link.ended;
        let other = endpoint.other.ok_or(errno::ENOTCONN)?;
        let (now, there) = (state.now, &mut state.endpoints[other]);
        if there.link.is_ending {
            return Err(errno::EPIPE);
        }
        if there.closed {
            if heard_the_end {
                return Err(errno::EPIPE);
            }
            // Nobody reads it any more; the news of that is on its way.
            there.link.lose(bytes.len());
            return Ok(bytes.len());
        }
        let len = there.link.write(now, bytes);
        state.happened += u64::from(len > 0);
        state.advance(other);
        Ok(len)
    }

    /// True if a sender that waits for room should go on; also if a write would fail.
    pub(super) fn is_writable(&self, number: usize) -> bool {
        let mut state = self.state();
        state.advance(number);
        let endpoint = &state.endpoints[number];
        let other = endpoint.other.filter(|_| endpoint.failure.is_none());
        other.is_none_or(|other| {
            let there = &state.endpoints[other];
            there.closed || there.link.is_ending || there.link.is_writable()
        })
    }

    /// Ends the direction away from `number`.
    pub(super) fn end(&self, number: usize) {
        let mut state = self.state();
        if let Some(other) = state.endpoints[number].other {
            let now = state.now;
            state.endpoints[other].link.end(now);
            state.happened += 1;
            state.advance(other);
        }
    }

    /// Closes an endpoint. Unread bytes make it a reset, as in real stacks; connections that
    /// nobody accepted are reset too.
    pub(super) fn close(&self, number: usize, reset: bool) {
        let mut state = self.state();
        let now = state.now;
        let endpoint = &mut state.endpoints[number];
        if std::mem::replace(&mut endpoint.closed, true) {
            return;
        }
        let unread = endpoint.link.arrived_len() > 0;
        endpoint.link.abandon(now);
        let unaccepted = endpoint.listening.take().map_or_else(VecDeque::new, |l| l.queue);
        if let Some(other) = endpoint.other {
            let there = &mut state.endpoints[other];
            if !there.closed {
                if reset || unread {
                    there.link.reset(now);
                } else {
                    there.link.end(now);
                }
            }
            state.advance(other);
        }
        state.happened += 1;
        drop(state);
        for number in unaccepted {
            self.close(number, true);
        }
    }

    /// Breaks the connection at both of its ends at once.
    pub(crate) fn break_connection(&self, number: usize) {
        let mut state = self.state();
        let now = state.now;
        for end in [Some(number), state.endpoints[number].other].into_iter().flatten() {
            let endpoint = &mut state.endpoints[end];
            if !endpoint.closed {
                endpoint.failure = Some(errno::ECONNRESET);
                endpoint.link.abandon(now);
            }
        }
        state.happened += 1;
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, other: Option<usize>, at: Option<&SocketAddress>) -> usize {
        let number = self.endpoints.len();
        // Each link has a luck of its own, which other connections do not touch.
        let seed = self.seed.rotate_left(32) ^ number as u64;
        let mut link = Link::new(self.places.network(at), seed);
        link.freeze(self.now, self.places.is_cut(at));
        let at = at.cloned();
        let failure = None;
        let endpoint =
            Endpoint { other, link, at, asked: false, failure, closed: false, listening: None };
        self.endpoints.push(endpoint);
        number
    }

    fn connect(&mut self) -> (usize, usize) {
        let one = self.endpoints.len();
        (self.add(Some(one + 1), None), self.add(Some(one), None))
    }

    /// The answer to a connect has come: somebody listens and has room, or not.
    fn meet(&mut self, from: usize, to: &SocketAddress) -> Result<(), Errno> {
        self.happened += 1;
        let listener = self.listener(to).ok_or(errno::ECONNREFUSED)?;
        let accepted = self.endpoints.len();
        let listening = self.endpoints[listener].listening.as_mut();
        let listening = listening.expect("a listener has its queue until it is closed");
        if listening.queue.len() >= listening.queue_max {
            return Err(errno::ECONNREFUSED);
        }
        listening.queue.push_back(accepted);
        self.add(Some(from), Some(to));
        self.endpoints[from].other = Some(accepted);
        Ok(())
    }

    /// Brings what is on its way to `number` up to now.
    pub(super) fn advance(&mut self, number: usize) {
        let endpoint = &mut self.endpoints[number];
        let before = endpoint.link.arrived_len();
        endpoint.link.advance(self.now);
        let more = endpoint.link.arrived_len() != before;
        if endpoint.link.reset && !endpoint.closed {
            endpoint.failure.get_or_insert(errno::ECONNRESET);
        }
        if endpoint.link.is_idle() {
            self.busy.remove(&number);
        } else {
            self.busy.insert(number);
        }
        self.happened += u64::from(more);
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
        Socket::Script(number) | Socket::ScriptDatagrams(number) => *number as usize,
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
