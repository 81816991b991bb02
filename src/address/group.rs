//! Group: a multicast address with what can be said of it: `udp://239.1.2.3:5000?interface=eth0`.
//!
//! Above: `address` parses it, the engine joins it or sends to it. Below: nothing. Absent: sockets;
//! whether the interface exists. Bounds: an interface's name has 1 to 15 bytes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

const INTERFACE_BYTES_MAX: usize = 15;

/// A multicast group and a port (draft §3.1.4), and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Group {
    pub(crate) address: SocketAddr,
    /// Only what this host sends is received (source-specific multicast).
    pub(crate) source: Option<IpAddr>,
    /// The name or the number of the interface by which it is joined and sent to.
    pub(crate) interface: Option<String>,
    /// Routers that its datagrams may pass, plus one.
    pub(crate) hops: Option<u8>,
    /// Whether this host hears what it sends.
    pub(crate) loopback: Option<bool>,
}

impl Group {
    /// The group at `address`, with `options` as they stand behind the question mark.
    ///
    /// # Errors
    /// What is wrong with them, and what would be right.
    pub(super) fn parse(address: SocketAddr, options: Option<&str>) -> Result<Self, String> {
        let mut group = Self { address, source: None, interface: None, hops: None, loopback: None };
        for option in options.into_iter().flat_map(|options| options.split('&')) {
            let Some((key, value)) = option.split_once('=') else {
                return Err(format!("{option:?} is no option: write KEY=VALUE; {OPTIONS}"));
            };
            group.set(key, value)?;
        }
        Ok(group)
    }

    /// # Errors
    /// If it is a group of one link (RFC 4291, 2.7) and nothing says of which one.
    pub(super) fn check_link(&self) -> Result<(), String> {
        const SCOPE: u16 = 0xff0f;
        let SocketAddr::V6(v6) = self.address else { return Ok(()) };
        let is_local = matches!(v6.ip().segments()[0] & SCOPE, 0xff01 | 0xff02);
        if is_local && v6.scope_id() == 0 && self.interface.is_none() {
            return Err(format!(
                "{} is a group of one link: name its interface, as in ?interface=eth0",
                v6.ip()
            ));
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let once = match key {
            "source" => self.source.replace(self.source_in(value)?).is_none(),
            "interface" => self.interface.replace(interface(value)?).is_none(),
            "hops" => self.hops.replace(hops(value)?).is_none(),
            "loopback" => self.loopback.replace(switch(value)?).is_none(),
            _ => return Err(format!("unknown option {key:?}; {OPTIONS}")),
        };
        if once { Ok(()) } else { Err(format!("the option {key} stands there twice")) }
    }

    fn source_in(&self, text: &str) -> Result<IpAddr, String> {
        match text.parse::<IpAddr>() {
            Ok(ip) if ip.is_ipv4() == self.address.is_ipv4() && !ip.is_multicast() => Ok(ip),
            Ok(ip) => Err(format!("{ip} cannot send to this group: no host of its family")),
            Err(_) => Err(format!("source={text:?} is no IP address, such as source=192.0.2.7")),
        }
    }
}

const OPTIONS: &str = "a multicast group takes source=IP, interface=NAME, hops=1..255 and \
                       loopback=on|off, with & between them";

fn interface(text: &str) -> Result<String, String> {
    let fits = (1..=INTERFACE_BYTES_MAX).contains(&text.len());
    let good = |c: char| c.is_ascii_graphic() && !"/&=?".contains(c);
    if fits && text.chars().all(good) {
        Ok(text.to_owned())
    } else {
        Err(format!("interface={text:?} is no name of an interface, such as eth0, and no number"))
    }
}

fn hops(text: &str) -> Result<u8, String> {
    let number = text.parse().ok().filter(|hops| *hops > 0);
    number.ok_or_else(|| format!("hops={text:?} is no number from 1 to 255"))
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("loopback={text:?} is neither on nor off")),
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, source, interface, hops, loopback } = self;
        let switch = |on: bool| if on { "on" } else { "off" };
        let options = [
            source.map(|source| format!("source={source}")),
            interface.as_ref().map(|name| format!("interface={name}")),
            hops.map(|hops| format!("hops={hops}")),
            loopback.map(|on| format!("loopback={}", switch(on))),
        ];
        write!(f, "udp://{address}")?;
        for (at, option) in options.into_iter().flatten().enumerate() {
            write!(f, "{}{option}", if at == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::address::Address;

    #[test]
    fn groups_have_one_written_form() {
        for (text, written) in [
            ("udp://239.1.2.3:5000", "udp://239.1.2.3:5000"),
            ("udp://[ff02::1%2]:5000", "udp://[ff02::1%2]:5000"),
            (
                "udp://232.1.2.3:5000?hops=4&loopback=off&interface=eth0&source=192.0.2.7",
                "udp://232.1.2.3:5000?source=192.0.2.7&interface=eth0&hops=4&loopback=off",
            ),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), written);
            assert_eq!(written.parse::<Address>().unwrap(), address);
        }
    }

    #[test]
    fn bad_options_say_what_would_be_right() {
        for (options, hint) in [
            ("hops", "KEY=VALUE"),
            ("ttl=4", "hops=1..255"),
            ("hops=0", "1 to 255"),
            ("hops=256", "1 to 255"),
            ("hops=1&hops=2", "twice"),
            ("loopback=yes", "neither on nor off"),
            ("source=::1", "family"),
            ("source=239.1.1.1", "family"),
            ("source=me", "192.0.2.7"),
            ("interface=", "eth0"),
            ("interface=an/interface", "eth0"),
            ("interface=sixteen-letters-", "eth0"),
        ] {
            let text = format!("udp://239.1.2.3:5000?{options}");
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(hint), "{options}: {error}");
        }
        let error = "udp://[ff02::1]:5000?hops=1".parse::<Address>().unwrap_err().to_string();
        assert!(error.contains("?interface=eth0"), "{error}");
        let error = "udp://192.0.2.1:5000?hops=1".parse::<Address>().unwrap_err().to_string();
        assert!(error.contains("multicast"), "{error}");
        let error = "tcp://192.0.2.1:5000?hops=1".parse::<Address>().unwrap_err().to_string();
        assert!(error.contains("0 to 65535"), "{error}");
    }
}
