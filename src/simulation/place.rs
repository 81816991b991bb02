//! Place: what holds for all connections to one name of a simulated world, and for all others.
//!
//! Above: tests cut and mend ways and change what they are like, at any time. Below: `world` has
//! the connections. Absent: one end of a connection treated unlike the other.
//! Bounds: one entry per name that was given a network or was cut.

use std::collections::BTreeMap;

use super::network::Network;
use super::world::{State, World};
use crate::address::SocketAddress;
use crate::engine::operation::PathSample;

/// The ways of a world.
pub(super) struct Places {
    network: Network,
    is_cut: bool,
    named: BTreeMap<String, Place>,
}

/// What is different at one name.
#[derive(Default)]
struct Place {
    network: Option<Network>,
    is_cut: bool,
}

impl Places {
    pub(super) fn new(network: Network) -> Self {
        Self { network, is_cut: false, named: BTreeMap::new() }
    }

    fn named(&self, at: Option<&SocketAddress>) -> Option<&Place> {
        self.named.get(&key_of(at?)?)
    }

    /// True if it has a network of its own.
    pub(super) fn has_own(&self, at: &SocketAddress) -> bool {
        self.named(Some(at)).is_some_and(|place| place.network.is_some())
    }

    pub(super) fn network(&self, at: Option<&SocketAddress>) -> Network {
        self.named(at).and_then(|place| place.network).unwrap_or(self.network)
    }

    pub(super) fn is_cut(&self, at: Option<&SocketAddress>) -> bool {
        self.is_cut || self.named(at).is_some_and(|place| place.is_cut)
    }

    fn place(&mut self, at: &SocketAddress) -> &mut Place {
        self.named.entry(key_of(at).unwrap_or_default()).or_default()
    }
}

/// What an address of a simulated world is found by.
fn key_of(at: &SocketAddress) -> Option<String> {
    match at {
        SocketAddress::Memory(name) => Some(name.clone()),
        // No name has a slash.
        SocketAddress::Udp(ip) => Some(format!("udp://{ip}")),
        _ => None,
    }
}

impl World {
    /// Changes the way of all connections to `at`, or of all that have no way of their own.
    pub(crate) fn set_network(&self, at: Option<&SocketAddress>, network: Network) {
        let mut state = self.state();
        match at {
            Some(at) => state.places.place(at).network = Some(network),
            None => state.places.network = network,
        }
        state.renew();
    }

    /// Cuts or mends the way to `at`, or all ways.
    pub(crate) fn cut(&self, at: Option<&SocketAddress>, is_cut: bool) {
        let mut state = self.state();
        match at {
            Some(at) => state.places.place(at).is_cut = is_cut,
            None => state.places.is_cut = is_cut,
        }
        state.renew();
    }

    /// Mends every way.
    pub(crate) fn mend_all(&self) {
        let mut state = self.state();
        state.places.is_cut = false;
        state.places.named.values_mut().for_each(|place| place.is_cut = false);
        state.renew();
    }

    /// The most bytes that the sender of `number` may have unsent.
    pub(super) fn limit_unsent(&self, number: usize, bytes: usize) {
        let mut state = self.state();
        if let Some(other) = state.endpoints[number].other {
            state.endpoints[other].link.limit_unsent(bytes);
        }
    }

    /// What the sender at `number` knows of its way; `None` if it is not connected.
    pub(super) fn path(&self, number: usize) -> Option<PathSample> {
        let mut state = self.state();
        let other = state.endpoints[number].other?;
        state.advance(other);
        let link = &state.endpoints[other].link;
        let rtt_us = in_u32(link.network.round_trip().as_micros());
        // On the mean half of the jitter each way.
        let jitter_us = in_u32(link.network.jitter.as_micros());
        Some(PathSample {
            rate_bytes_per_s: link.network.rate_bytes_per_s,
            rtt_us: rtt_us.saturating_add(jitter_us),
            rtt_var_us: jitter_us / 2,
            rtt_min_us: rtt_us,
            loss_ppm: (link.network.loss * 1e6) as u32,
            payload_bytes_max: super::network::PACKET_BYTES as u32,
            unsent_bytes: in_u32(link.unsent_len() as u128),
            unacknowledged_bytes: in_u32(link.unacknowledged_len() as u128),
        })
    }
}

impl State {
    /// Lets every connection know what its way is like now.
    fn renew(&mut self) {
        for number in 0..self.endpoints.len() {
            let endpoint = &mut self.endpoints[number];
            let at = endpoint.at.as_ref();
            endpoint.link.network = self.places.network(at);
            endpoint.link.freeze(self.now, self.places.is_cut(at));
            self.advance(number);
        }
    }
}

fn in_u32(number: u128) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
