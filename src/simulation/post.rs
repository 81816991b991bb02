//! Post: datagrams in a simulated world: each for itself, so that one may be lost, come twice or
//! after a later one, as the network says.
//!
//! Above: `trains` gives drivers their sockets. Below: `network` and `place` say what a way is
//! like. Absent: streams, groups, sockets for any address of a host.
//! Bounds: `Network::receive_buffer_bytes` unread for each socket; what finds no room is dropped
//! and counted. What is under way is bounded by what was sent.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::network::Network;
use super::random::Random;
#[cfg(test)]
use super::world::endpoint_of;
use super::world::{State, World, errno, number_of};
use crate::address::SocketAddress;
use crate::engine::errno::Errno;
use crate::engine::socket::Socket;

/// Where sockets that were given no port begin to look for one.
const FIRST_PORT: u16 = 49_152;

/// What a socket is told of peers that take nothing, and has not heard yet.
const REFUSALS_MAX: usize = 16;

/// All sockets of datagrams.
pub(super) struct Posts {
    all: Vec<Post>,
    random: Random,
    /// Grows with each datagram, so that two with one time keep their order.
    number: u64,
}

/// A datagram and who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) from: SocketAddr,
    pub(super) bytes: Vec<u8>,
    /// When it did, if that is to be told.
    pub(super) arrived: Option<Duration>,
}

/// One socket.
#[derive(Default)]
struct Post {
    local: Option<SocketAddr>,
    /// The only one it talks with, once it is connected.
    remote: Option<SocketAddr>,
    under_way: BTreeMap<(Duration, u64), Letter>,
    arrived: VecDeque<Letter>,
    /// For want of room.
    dropped: u32,
    /// Those of its peers where nobody listened, as far as it is to be told.
    refused: VecDeque<SocketAddr>,
    /// The same, on their way back to it, by when they come.
    refusing: BTreeMap<(Duration, u64), SocketAddr>,
    keeps_errors: bool,
    tells_times: bool,
    /// Until then its line is busy with what it has sent.
    free_at: Duration,
    closed: bool,
}

impl Posts {
    pub(super) const fn new(seed: u64) -> Self {
        Self { all: Vec::new(), random: Random::new(seed ^ 0x9057), number: 0 }
    }

    /// Brings everything up to `now`; true if something arrived.
    pub(super) fn advance(&mut self, now: Duration, room: impl Fn(SocketAddr) -> usize) -> bool {
        let mut any = false;
        for post in self.all.iter_mut().filter(|post| !post.closed) {
            let Some(local) = post.local else { continue };
            any |= post.hear_refusals(now);
            while let Some(first) = post.under_way.first_entry()
                && first.key().0 <= now
            {
                let arrived = post.tells_times.then_some(first.key().0);
                let letter = Letter { arrived, ..first.remove() };
                any = true;
                let unread: usize = post.arrived.iter().map(|letter| letter.bytes.len()).sum();
                if unread + letter.bytes.len() > room(local) {
                    post.dropped += 1;
                } else {
                    post.arrived.push_back(letter);
                }
            }
        }
        any
    }

    /// When something arrives next.
    pub(super) fn next_event(&self) -> Option<Duration> {
        let open = self.all.iter().filter(|post| !post.closed);
        open.filter_map(Post::next_event).min()
    }

    fn is_taken(&self, local: SocketAddr) -> bool {
        self.all.iter().any(|post| !post.closed && post.local == Some(local))
    }

    /// An address of the host of `like` that nobody has.
    fn free_address(&self, like: SocketAddr) -> Option<SocketAddr> {
        let ports = FIRST_PORT..=u16::MAX;
        ports.map(|port| SocketAddr::new(like.ip(), port)).find(|local| !self.is_taken(*local))
    }

    /// Who hears at `to` what comes from `from`.
    fn listener(&mut self, to: SocketAddr, from: SocketAddr) -> Option<&mut Post> {
        let hears = |post: &&mut Post| {
            let is_for_it = post.remote.is_none_or(|remote| remote == from);
            !post.closed && post.local == Some(to) && is_for_it
        };
        self.all.iter_mut().find(hears)
    }
}

impl World {
    /// A socket of datagrams at `local`, which has one address; port 0 takes a free one.
    ///
    /// # Errors
    /// EADDRINUSE if somebody has it.
    pub(crate) fn bind_datagrams(&self, local: SocketAddr) -> Result<Socket, Errno> {
        let mut state = self.state();
        let free = match local.port() {
            0 => state.posts.free_address(local),
            _ => Some(local).filter(|local| !state.posts.is_taken(*local)),
        };
        let local = Some(free.ok_or(errno::EADDRINUSE)?);
        Ok(state.posts.add(Post { local, ..Post::default() }))
    }

    /// A socket of datagrams without an address yet.
    pub(crate) fn datagram_socket(&self) -> Socket {
        self.state().posts.add(Post::default())
    }

    /// From now on it talks with `remote` only.
    pub(super) fn connect_datagrams(&self, number: usize, remote: SocketAddr) -> Result<(), Errno> {
        let mut state = self.state();
        let free = state.posts.free_address(remote);
        let post = &mut state.posts.all[number];
        post.local = post.local.or(free);
        post.remote = Some(remote);
        post.local.map(drop).ok_or(errno::EADDRINUSE)
    }

    /// Whether it is told where nobody listened.
    pub(super) fn keep_datagram_errors(&self, number: usize) {
        self.state().posts.all[number].keeps_errors = true;
    }

    /// From now on its datagrams say when they came.
    pub(super) fn time_datagrams(&self, number: usize) {
        self.state().posts.all[number].tells_times = true;
    }

    /// Sends one datagram to `to`, or to whom it is connected.
    ///
    /// # Errors
    /// Too long for its way, nobody to send it to, or what an earlier one met with.
    pub(super) fn send_datagram(
        &self,
        number: usize,
        to: Option<SocketAddr>,
        bytes: Vec<u8>,
    ) -> Result<(), Errno> {
        let mut state = self.state();
        state.happened += 1;
        state.advance_posts();
        let (now, post) = (state.now, &mut state.posts.all[number]);
        if post.remote.is_some() && post.refused.pop_front().is_some() {
            return Err(errno::ECONNREFUSED);
        }
        let (Some(to), Some(from)) = (to.or(post.remote), post.local) else {
            return Err(errno::ENOTCONN);
        };
        let (network, is_cut) = state.way(to, from);
        if bytes.len() > network.datagram_bytes_max {
            return Err(errno::EMSGSIZE);
        }
        let post = &mut state.posts.all[number];
        let leaves_at = post.free_at.max(now) + network.busy_for(bytes.len());
        post.free_at = leaves_at;
        let is_heard = state.posts.listener(to, from).is_some();
        if !is_heard && !is_cut {
            // There and back.
            let at = (leaves_at + 2 * network.delay, state.posts.number);
            state.posts.all[number].refuse(to, at);
        }
        let Posts { random, number: sent, .. } = &mut state.posts;
        let copies = 1 + usize::from(random.share() < network.duplication);
        let mut arrivals = Vec::new();
        for _ in 0..copies {
            let is_lost = random.share() < network.loss || is_cut || !is_heard;
            let wait = network.jitter.mul_f64(random.share());
            *sent += 1;
            if !is_lost {
                arrivals.push((leaves_at + network.delay + wait, *sent));
            }
        }
        if let Some(there) = state.posts.listener(to, from) {
            let letter = |at| (at, Letter { from, bytes: bytes.clone(), arrived: None });
            there.under_way.extend(arrivals.into_iter().map(letter));
        }
        state.advance_posts();
        Ok(())
    }

    /// The next datagram that has arrived, and how many were dropped for want of room so far.
    pub(super) fn take_datagram(&self, number: usize) -> Option<(Letter, u32)> {
        let mut state = self.state();
        state.advance_posts();
        let post = &mut state.posts.all[number];
        let letter = post.arrived.pop_front()?;
        let dropped = post.dropped;
        state.happened += 1;
        Some((letter, dropped))
    }

    /// True if the next datagram is of `from` and at most `len_max` bytes long, but not empty.
    pub(super) fn goes_on(&self, number: usize, from: SocketAddr, len_max: usize) -> bool {
        let state = self.state();
        let next = state.posts.all[number].arrived.front();
        next.is_some_and(|next| next.from == from && (1..=len_max).contains(&next.bytes.len()))
    }

    /// The next peer that takes nothing, of those that are to be told.
    pub(super) fn take_refusal(&self, number: usize) -> Option<SocketAddr> {
        let mut state = self.state();
        state.advance_posts();
        state.posts.all[number].refused.pop_front()
    }

    /// True if it has one peer.
    pub(super) fn is_connected(&self, number: usize) -> bool {
        self.state().posts.all[number].remote.is_some()
    }

    /// Its own address, once it has one.
    pub(super) fn datagram_address(&self, number: usize) -> Option<SocketAddr> {
        self.state().posts.all[number].local
    }

    /// The longest datagram that its way carries, once it is connected.
    pub(super) fn datagram_bytes_max(&self, number: usize) -> Option<u32> {
        let state = self.state();
        let post = &state.posts.all[number];
        let (network, _) = state.way(post.remote?, post.local?);
        u32::try_from(network.datagram_bytes_max).ok()
    }

    pub(super) fn close_datagrams(&self, number: usize) {
        let mut state = self.state();
        state.posts.all[number] = Post { closed: true, ..Post::default() };
        state.happened += 1;
    }
}

impl Posts {
    fn add(&mut self, post: Post) -> Socket {
        self.all.push(post);
        Socket::ScriptDatagrams(number_of(self.all.len() - 1))
    }
}

impl Post {
    /// Nobody is there who takes what it sent: it is told if it has one peer, or asked for it, as
    /// soon as word of that can have come back.
    fn refuse(&mut self, to: SocketAddr, at: (Duration, u64)) {
        let is_told = self.remote.is_some() || self.keeps_errors;
        if is_told && self.refused.len() + self.refusing.len() < REFUSALS_MAX {
            self.refusing.insert(at, to);
        }
    }

    /// True if word of a peer that takes nothing has come by now.
    fn hear_refusals(&mut self, now: Duration) -> bool {
        let before = self.refused.len();
        while let Some(first) = self.refusing.first_entry()
            && first.key().0 <= now
        {
            self.refused.push_back(first.remove());
        }
        self.refused.len() > before
    }

    /// When something comes to it next.
    fn next_event(&self) -> Option<Duration> {
        let letter = self.under_way.first_key_value().map(|((at, _), _)| *at);
        let refusal = self.refusing.first_key_value().map(|((at, _), _)| *at);
        letter.into_iter().chain(refusal).min()
    }
}

impl State {
    /// What the way between two addresses is like: as that of the one that has its own.
    fn way(&self, to: SocketAddr, from: SocketAddr) -> (Network, bool) {
        let (to, from) = (SocketAddress::Udp(to), SocketAddress::Udp(from));
        let is_cut = self.places.is_cut(Some(&to)) || self.places.is_cut(Some(&from));
        let network = match self.places.has_own(&to) {
            true => self.places.network(Some(&to)),
            false => self.places.network(Some(&from)),
        };
        (network, is_cut)
    }

    /// Brings datagrams that are under way up to now.
    pub(super) fn advance_posts(&mut self) {
        let (now, places) = (self.now, &self.places);
        let room = |local| places.network(Some(&SocketAddress::Udp(local))).receive_buffer_bytes;
        if self.posts.advance(now, room) {
            self.happened += 1;
        }
    }
}

/// A socket of datagrams by hand. Dropped, it is closed.
#[cfg(test)]
pub(crate) struct Correspondent {
    world: World,
    number: usize,
}

#[cfg(test)]
impl Correspondent {
    pub(crate) fn connect(&self, to: SocketAddr) {
        self.world.connect_datagrams(self.number, to).expect("it has an address");
    }

    /// To `to`, or to whom it is connected.
    pub(crate) fn send(&self, datagram: &[u8], to: Option<SocketAddr>) -> Result<(), Errno> {
        self.world.send_datagram(self.number, to, datagram.to_vec())
    }

    pub(crate) fn receive(&self) -> Option<Vec<u8>> {
        self.world.take_datagram(self.number).map(|(letter, _)| letter.bytes)
    }
}

#[cfg(test)]
impl Drop for Correspondent {
    fn drop(&mut self) {
        self.world.close_datagrams(self.number);
    }
}

#[cfg(test)]
impl World {
    /// A socket of datagrams by hand, and its address.
    pub(crate) fn correspondent(&self, local: SocketAddr) -> (Correspondent, SocketAddr) {
        let socket = self.bind_datagrams(local).expect("a free address");
        let address = self.address_of(&socket);
        (Correspondent { world: self.clone(), number: endpoint_of(&socket) }, address)
    }

    pub(crate) fn connect_datagram_socket(&self, socket: &Socket, to: SocketAddr) {
        self.connect_datagrams(endpoint_of(socket), to).expect("it has an address");
    }

    pub(crate) fn address_of(&self, socket: &Socket) -> SocketAddr {
        self.datagram_address(endpoint_of(socket)).expect("it is bound")
    }
}
