//! Prefixes: how many connections one peer has.
//!
//! Above: `lifecycle` counts connections in and out. Below: a table of the core. Absent: what a
//! refusal looks like. Bound: `Limits::connections_per_prefix` for each, an entry for each in use.

use super::Shard;
use super::connection::Peer;

impl Shard {
    /// Counts a peer's prefix; false if it has too many connections already.
    pub(super) fn count_prefix(&self, peer: Peer) -> bool {
        let Some(prefix) = prefix(peer) else { return true };
        let mut state = self.core.state.borrow_mut();
        let count = state.prefixes.entry(prefix).or_insert(0);
        if *count as usize >= self.core.limits.connections_per_prefix {
            return false;
        }
        *count += 1;
        true
    }

    pub(super) fn uncount_prefix(&self, peer: Peer) {
        let Some(prefix) = prefix(peer) else { return };
        let mut state = self.core.state.borrow_mut();
        if let Some(count) = state.prefixes.get_mut(&prefix) {
            *count -= 1;
            if *count == 0 {
                state.prefixes.remove(&prefix);
            }
        }
    }
}

/// The part of an address that counts as one peer: IPv4 /32, IPv6 /64.
fn prefix(peer: Peer) -> Option<u64> {
    let Peer::Ip(address) = peer else { return None };
    Some(match address.ip().to_canonical() {
        std::net::IpAddr::V4(v4) => u64::from(v4.to_bits()) | 1 << 63,
        std::net::IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64 & !(1 << 63),
    })
}
