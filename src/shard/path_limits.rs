//! Path limits: how long a datagram to whom may be, where a socket has no one peer that the kernel
//! could be asked about.
//!
//! Above: whoever packs a datagram that some path may be too narrow for. Below: a function that
//! asks the kernel for the limit towards one address. Absent: sockets; connected Carriers, which
//! ask their own, and come here before they refuse a Message that their path was too narrow for.
//! Bounds: `KNOWN_MAX` addresses, each for `KNOWN_FOR_MS`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::engine::operation::DATAGRAM_BYTES_MAX;

/// What every path carries: IPv6 promises 1280 bytes a packet, and no path of IPv4 in use has less.
const ANYWHERE_BYTES: usize = 1280 - 40 - 8;
const KNOWN_MAX: usize = 1024;
/// The kernel learns of narrower paths by itself; so often it is asked again.
const KNOWN_FOR_MS: u64 = 10_000;

/// The limit of the path to an address, if the system knows it.
pub(crate) type Measure = fn(SocketAddr) -> Option<u32>;

/// The limits of one core.
#[derive(Default)]
pub(crate) struct PathLimits {
    measure: Option<Measure>,
    known: HashMap<IpAddr, Known>,
}

#[derive(Clone, Copy)]
struct Known {
    bytes_max: u32,
    until_ms: u64,
}

impl PathLimits {
    pub(crate) fn measured_by(measure: Measure) -> Self {
        Self { measure: Some(measure), known: HashMap::new() }
    }

    /// The longest datagram to `remote`, for one of `len` bytes.
    pub(crate) fn bytes_max(&mut self, remote: SocketAddr, len: usize, now_ms: u64) -> u32 {
        let Some(measure) = self.measure.filter(|_| len > ANYWHERE_BYTES) else {
            return DATAGRAM_BYTES_MAX;
        };
        if let Some(known) = self.known(remote.ip(), now_ms) {
            return known;
        }
        let bytes_max = measure(remote).unwrap_or(DATAGRAM_BYTES_MAX);
        self.learn(remote.ip(), bytes_max, now_ms);
        bytes_max
    }

    fn known(&self, ip: IpAddr, now_ms: u64) -> Option<u32> {
        let known = self.known.get(&ip.to_canonical())?;
        (now_ms < known.until_ms).then_some(known.bytes_max)
    }

    /// The limit towards `remote`, which was `before` when it was asked for last.
    pub(crate) fn again(&mut self, remote: SocketAddr, before: u32, now_ms: u64) -> u32 {
        if let Some(known) = self.known(remote.ip(), now_ms) {
            return known;
        }
        let Some(bytes_max) = self.measure.and_then(|measure| measure(remote)) else {
            return before;
        };
        self.learn(remote.ip(), bytes_max, now_ms);
        bytes_max
    }

    /// Somebody said what the path to `ip` carries.
    pub(crate) fn learn(&mut self, ip: IpAddr, bytes_max: u32, now_ms: u64) {
        let ip = ip.to_canonical();
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(&ip) {
            self.known.clear();
        }
        self.known.insert(ip, Known { bytes_max, until_ms: now_ms + KNOWN_FOR_MS });
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static ASKED: Cell<u32> = const { Cell::new(0) };
    }

    fn measured(remote: SocketAddr) -> Option<u32> {
        ASKED.set(ASKED.get() + 1);
        (remote.ip() != IpAddr::from([192, 0, 2, 9])).then_some(1472)
    }

    fn remote(last: u8) -> SocketAddr {
        ([192, 0, 2, last], 7).into()
    }

    #[test]
    fn a_path_is_measured_once_in_a_while_and_only_for_long_datagrams() {
        let mut limits = PathLimits::measured_by(measured);
        assert_eq!(limits.bytes_max(remote(1), 1232, 0), DATAGRAM_BYTES_MAX);
        assert_eq!(ASKED.get(), 0);
        assert_eq!(limits.bytes_max(remote(1), 1233, 0), 1472);
        assert_eq!(limits.bytes_max(remote(1), 60_000, KNOWN_FOR_MS - 1), 1472);
        assert_eq!(ASKED.get(), 1);
        assert_eq!(limits.bytes_max(remote(1), 1233, KNOWN_FOR_MS), 1472);
        assert_eq!(ASKED.get(), 2);
        assert_eq!(limits.bytes_max(remote(9), 2000, 0), DATAGRAM_BYTES_MAX, "nobody knows");
    }

    #[test]
    fn what_was_learnt_wins_and_the_table_is_bounded() {
        let mut limits = PathLimits::measured_by(measured);
        limits.learn(remote(1).ip(), 1272, 5);
        assert_eq!(limits.bytes_max(remote(1), 1400, 6), 1272);
        for at in 0..100_000_u32 {
            limits.bytes_max((at.to_be_bytes(), 7).into(), 1400, 6);
        }
        assert!(limits.known.len() <= KNOWN_MAX);
    }

    #[test]
    fn a_path_is_measured_again_by_and_by() {
        let mut limits = PathLimits::measured_by(measured);
        limits.learn(remote(1).ip(), 1272, 0);
        assert_eq!(limits.again(remote(1), 1300, 1), 1272);
        assert_eq!(limits.again(remote(1), 1300, KNOWN_FOR_MS), 1472);
        assert_eq!(limits.again(remote(9), 1300, 1), 1300, "nobody knows");
        assert_eq!(PathLimits::default().again(remote(1), 1300, 1), 1300);
    }

    #[test]
    fn without_a_measure_everything_fits() {
        let fits = PathLimits::default().bytes_max(remote(1), 60_000, 0);
        assert_eq!(fits, DATAGRAM_BYTES_MAX);
    }
}
