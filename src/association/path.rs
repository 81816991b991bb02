//! Path: what is known of one way through the network (draft §2.8).
//!
//! Above: Associations cache Paths, Transients name theirs. Below: numbers that a stack measured.
//! Absent: measuring. Bound: `PATHS_MAX` per Association; the one seen longest ago is forgotten.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Paths that one Association remembers.
const PATHS_MAX: usize = 16;

/// One path through the network, and what was last measured on it (draft §2.8). Every property
/// is optional: what the stack cannot tell, or has not measured yet, is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    measured: Measurement,
    age: Duration,
}

/// What was measured on a Path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Measurement {
    pub(crate) local: Option<SocketAddr>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) round_trip_us: Option<u32>,
    pub(crate) round_trip_min_us: Option<u32>,
    pub(crate) loss_ppm: Option<u32>,
    pub(crate) rate_bytes_per_s: Option<u64>,
    pub(crate) payload_bytes_max: Option<u32>,
}

impl Path {
    /// Measured just now.
    pub(crate) const fn fresh(measured: Measurement) -> Self {
        Self { measured, age: Duration::ZERO }
    }

    /// This end, with the port of the connection that used it last. `None` where the stack has no
    /// network addresses (unix sockets, memory).
    #[must_use]
    pub const fn local_address(&self) -> Option<SocketAddr> {
        self.measured.local
    }

    /// The peer's end; as [`Path::local_address`].
    #[must_use]
    pub const fn peer_address(&self) -> Option<SocketAddr> {
        self.measured.peer
    }

    /// The smoothed round trip (TCP: the kernel's estimate).
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.measured.round_trip_us.map(micros)
    }

    /// The shortest round trip seen on this path.
    #[must_use]
    pub fn round_trip_min(&self) -> Option<Duration> {
        self.measured.round_trip_min_us.map(micros)
    }

    /// The expected one-way delay (draft: "Latency Expectation"): half of [`Path::round_trip`],
    /// for nothing says how its two ways differ.
    #[must_use]
    pub fn one_way_delay(&self) -> Option<Duration> {
        self.round_trip().map(|round_trip| round_trip / 2)
    }

    /// The share of packets that were lost, 0 to 1 (draft: "Loss Probability Expectation"). TCP:
    /// of the last connection's packets, those that had to be sent again.
    #[must_use]
    pub fn loss(&self) -> Option<f64> {
        self.measured.loss_ppm.map(|ppm| f64::from(ppm) / 1e6)
    }

    /// Bytes a second that were delivered of late (draft: "Available Data Rate Expectation"): at
    /// least so much can be had, more where less was asked for.
    #[must_use]
    pub const fn rate_bytes_per_s(&self) -> Option<u64> {
        self.measured.rate_bytes_per_s
    }

    /// Bytes of a Message that fit into one packet beside its headers (draft: "Maximum
    /// Transmission Unit").
    #[doc(alias = "mtu")]
    #[must_use]
    pub const fn payload_bytes_max(&self) -> Option<u32> {
        self.measured.payload_bytes_max
    }

    /// How long ago it was last measured, to the millisecond; zero while a connection uses it.
    #[must_use]
    pub const fn age(&self) -> Duration {
        self.age
    }
}

fn micros(us: u32) -> Duration {
    Duration::from_micros(us.into())
}

/// The Paths of one Association, that seen longest ago first. Networks tell them apart, ports do
/// not: over TCP every connection has another one.
#[derive(Debug, Default)]
pub(super) struct Paths(Vec<(u64, Measurement)>);

impl Paths {
    /// Takes note of what was measured at `now_ms`; what was not measured stays as it was.
    pub(super) fn note(&mut self, measured: Measurement, now_ms: u64) {
        let known = self.0.iter().position(|(_, known)| ends(known) == ends(&measured));
        let known = known.map(|at| self.0.remove(at).1);
        if self.0.len() >= PATHS_MAX {
            self.0.remove(0);
        }
        self.0.push((now_ms, known.map_or(measured, |known| known.renewed(measured))));
    }

    /// All of them, the latest first.
    pub(super) fn list(&self, now_ms: u64) -> Vec<Path> {
        let age = |seen_ms| Duration::from_millis(now_ms.saturating_sub(seen_ms));
        let paths = self.0.iter().rev();
        paths.map(|&(seen_ms, measured)| Path { measured, age: age(seen_ms) }).collect()
    }
}

impl Measurement {
    fn renewed(self, by: Self) -> Self {
        let shortest = [self.round_trip_min_us, by.round_trip_min_us].into_iter().flatten().min();
        Self {
            local: by.local,
            peer: by.peer,
            round_trip_us: by.round_trip_us.or(self.round_trip_us),
            round_trip_min_us: shortest,
            loss_ppm: by.loss_ppm.or(self.loss_ppm),
            rate_bytes_per_s: by.rate_bytes_per_s.or(self.rate_bytes_per_s),
            payload_bytes_max: by.payload_bytes_max.or(self.payload_bytes_max),
        }
    }
}

fn ends(at: &Measurement) -> (Option<IpAddr>, Option<IpAddr>) {
    let ip = |end: Option<SocketAddr>| end.map(|end| end.ip().to_canonical());
    (ip(at.local), ip(at.peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(local: [u8; 4], peer: [u8; 4], port: u16) -> Measurement {
        let end = |ip: [u8; 4], port| Some(SocketAddr::from((ip, port)));
        Measurement { local: end(local, port), peer: end(peer, 7000), ..Measurement::default() }
    }

    const HERE: [u8; 4] = [10, 0, 0, 1];
    const THERE: [u8; 4] = [10, 0, 0, 2];

    #[test]
    fn connections_between_the_same_networks_are_one_path() {
        let mut paths = Paths::default();
        let first = Measurement {
            round_trip_us: Some(900),
            round_trip_min_us: Some(300),
            rate_bytes_per_s: Some(10_000),
            ..between(HERE, THERE, 1)
        };
        let second = Measurement {
            round_trip_us: Some(700),
            round_trip_min_us: Some(400),
            ..between(HERE, THERE, 2)
        };
        paths.note(first, 1000);
        paths.note(second, 3000);
        let [path] = paths.list(5500)[..] else { panic!("{paths:?}") };
        assert_eq!(path.local_address().unwrap().port(), 2, "the last connection's");
        assert_eq!(path.round_trip(), Some(Duration::from_micros(700)));
        assert_eq!(path.one_way_delay(), Some(Duration::from_micros(350)));
        assert_eq!(path.round_trip_min(), Some(Duration::from_micros(300)));
        assert_eq!(path.rate_bytes_per_s(), Some(10_000), "not measured again");
        assert_eq!(path.age(), Duration::from_millis(2500));
        assert_eq!((path.loss(), path.payload_bytes_max()), (None, None));
    }

    #[test]
    fn the_path_seen_longest_ago_is_forgotten() {
        let mut paths = Paths::default();
        for host in 0..=PATHS_MAX as u8 {
            paths.note(between(HERE, [10, 0, 1, host], 1), host.into());
            paths.note(between(HERE, THERE, 1), host.into());
        }
        let list = paths.list(100);
        assert_eq!(list.len(), PATHS_MAX);
        let last = |path: &Path| path.peer_address().unwrap().ip().to_string();
        assert_eq!(last(&list[0]), "10.0.0.2");
        assert_eq!(last(&list[1]), format!("10.0.1.{PATHS_MAX}"));
        assert!(!list.iter().any(|path| last(path) == "10.0.1.0"));
    }
}
