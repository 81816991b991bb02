//! Associations: what stays between a Local and a Remote when Carriers come and go (draft §2.3).
//!
//! Above: a core keeps one `Table`; `carrier` gives applications their handle. Below: plain data.
//! Pure: times are arguments. Absent: connections, who the Carriers are, traffic.
//! Bounds: `Limits::associations` of them without Carriers, `PATHS_MAX` paths each.

mod path;
mod table;

use std::any::TypeId;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

pub(crate) use self::path::Measurement;
pub use self::path::Path;
pub(crate) use self::table::Table;

use crate::address::Address;

/// What tells Associations apart: who the Remote is, where the Local is attached, and what the
/// Configuration says of Messages, which is the framer. The rest of the Configuration is the
/// engine's and the same for all of one core.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    remote: Remote,
    /// Where the peer was accepted; `None` where the system chooses on connecting.
    local: Option<SocketAddr>,
    framer: TypeId,
}

/// Who the Remote is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Remote {
    /// The place that Carriers are initiated to, as it was written.
    Place(Address),
    /// A host that connected from here. Its port says nothing: every connection has another.
    Host(IpAddr),
    /// Somebody whom nothing identifies, so each is a Remote of its own: its slot and generation.
    Nameless(u32, u32),
}

impl Key {
    /// That of Carriers initiated to `remote`.
    pub(crate) const fn initiated(remote: Address, framer: TypeId) -> Self {
        Self { remote: Remote::Place(remote), local: None, framer }
    }

    /// That of Carriers which `peer` opened at `local`.
    pub(crate) fn accepted(peer: IpAddr, local: Option<SocketAddr>, framer: TypeId) -> Self {
        Self { remote: Remote::Host(peer.to_canonical()), local, framer }
    }

    /// That of the Carrier in this slot alone.
    pub(crate) const fn nameless(slot: u32, generation: u32, framer: TypeId) -> Self {
        Self { remote: Remote::Nameless(slot, generation), local: None, framer }
    }

    /// The place that further Carriers can be initiated to, if there is one.
    pub(crate) const fn remote(&self) -> Option<&Address> {
        match &self.remote {
            Remote::Place(address) => Some(address),
            Remote::Host(_) | Remote::Nameless(..) => None,
        }
    }

    /// True if `peer` with `framer` can belong to it.
    pub(crate) fn is_host(&self, peer: IpAddr, framer: TypeId) -> bool {
        self.framer == framer && self.remote == Remote::Host(peer.to_canonical())
    }

    const fn is_accepted(&self) -> bool {
        !matches!(self.remote, Remote::Place(_))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.remote {
            Remote::Place(address) => address.fmt(f),
            Remote::Host(host) => host.fmt(f),
            Remote::Nameless(..) => f.write_str("a peer without a name"),
        }?;
        self.local.map_or(Ok(()), |local| write!(f, " at {local}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMER: TypeId = TypeId::of::<u8>();

    fn to(address: &str) -> Key {
        Key::initiated(address.parse().unwrap(), FRAMER)
    }

    #[test]
    fn the_remote_the_attachment_and_the_framer_tell_associations_apart() {
        assert_eq!(to("tcp://Example.org:7"), to("tcp://example.org:7"));
        assert_ne!(to("tcp://example.org:7"), to("tcp://example.org:8"));
        let other_framer =
            Key::initiated("tcp://example.org:7".parse().unwrap(), TypeId::of::<u16>());
        assert_ne!(to("tcp://example.org:7"), other_framer);
        let peer = |text: &str| text.parse::<IpAddr>().unwrap();
        let at = |text: &str| Some(text.parse().unwrap());
        let accepted = Key::accepted(peer("10.0.0.7"), at("10.0.0.1:7"), FRAMER);
        assert_eq!(accepted, Key::accepted(peer("::ffff:10.0.0.7"), at("10.0.0.1:7"), FRAMER));
        assert_ne!(accepted, Key::accepted(peer("10.0.0.7"), at("10.0.0.1:8"), FRAMER));
        assert_ne!(Key::nameless(1, 1, FRAMER), Key::nameless(1, 2, FRAMER));
    }

    #[test]
    fn only_what_was_initiated_can_be_initiated_again() {
        assert_eq!(to("unix://@a").remote().map(ToString::to_string).unwrap(), "unix://@a");
        let accepted = Key::accepted([10, 0, 0, 7].into(), None, FRAMER);
        assert_eq!(accepted.remote(), None);
        assert_eq!(accepted.to_string(), "10.0.0.7");
        assert_eq!(Key::nameless(1, 1, FRAMER).remote(), None);
    }
}
