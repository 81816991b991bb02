//! Address: what a user writes to name a stack and a place, such as `tcp://[::]:7000`.
//!
//! Above: the verbs parse it from strings. Below: nothing; the engine takes `SocketAddress`
//! from here. Absent: sockets; name servers, except in `resolve_blocking`, which asks the
//! system's resolver and may take seconds, so it never runs on a core thread.
//! Bounds: host names up to 253 bytes, socket paths up to 107 bytes.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::Error;

/// Stacks that addresses may name in a later version.
const NOT_YET: [&str; 6] = ["post", "tls", "qmux", "quic", "sctp", "beep"];
const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
/// What fits into the kernel's address with its final zero.
const PATH_BYTES_MAX: usize = 107;
const WHAT_EXISTS: &str = "this version has tcp://HOST:PORT, udp://HOST:PORT and unix:///PATH";

/// Why a real engine refuses `memory://`.
pub(crate) const MEMORY_IS_SIMULATED: &str =
    "memory:// exists in a testing::World only (feature `testing`); this is a real engine";
/// Why a simulated world refuses everything else.
pub(crate) const SIMULATED_IS_MEMORY: &str = "a testing::World has no sockets: write memory://NAME";

/// A stack and a place on it: `tcp://HOST:PORT`, `udp://HOST:PORT` or `unix:///PATH`.
///
/// `HOST` is a name, an IPv4 address or an IPv6 address in brackets; `*` or nothing means any
/// address of this host, IPv4 and IPv6. An IPv4 address in IPv6 form, `[::ffff:192.0.2.1]`, is
/// taken as the IPv4 address it is. `PORT` is 0 to 65535; 0 takes a free port when listening.
/// `unix://@NAME` is an abstract socket of Linux. `memory://NAME` is a place in a simulated world
/// (`postring::testing`); its name has 1 to 253 letters, digits, `.`, `-` and `_`.
///
/// ```
/// let address: postring::Address = "tcp://[::1]:7000".parse()?;
/// assert_eq!(address.to_string(), "tcp://[::1]:7000");
/// # Ok::<(), postring::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address(Place);

/// Where the engine binds and connects: an address without names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SocketAddress {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    /// A path, or a zero byte and an abstract name.
    Unix(PathBuf),
    /// A place in a simulated world.
    Memory(String),
}

/// Where a datagram goes, or whence one came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) remote: SocketAddr,
    /// Which of this host's addresses it is sent from or came to, where there may be several.
    pub(crate) local: Option<IpAddr>,
}

/// What carries bytes between two IP addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    const fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    const fn at(self, address: SocketAddr) -> SocketAddress {
        match self {
            Self::Tcp => SocketAddress::Tcp(address),
            Self::Udp => SocketAddress::Udp(address),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    Ip(Transport, SocketAddr),
    Name {
        transport: Transport,
        host: String,
        port: u16,
    },
    /// An abstract name begins with a zero byte, as in the kernel's own form.
    Path(PathBuf),
    Memory(String),
}

impl Address {
    pub(crate) const fn is_unix(&self) -> bool {
        matches!(self.0, Place::Path(_))
    }

    /// True if what it names carries datagrams: each is a Message.
    pub(crate) const fn is_datagram(&self) -> bool {
        matches!(
            self.0,
            Place::Ip(Transport::Udp, _) | Place::Name { transport: Transport::Udp, .. }
        )
    }

    /// The socket address, if no name has to be resolved for it.
    pub(crate) fn literal(&self) -> Option<SocketAddress> {
        match &self.0 {
            Place::Ip(transport, ip) => Some(transport.at(*ip)),
            Place::Path(path) => Some(SocketAddress::Unix(path.clone())),
            Place::Memory(name) => Some(SocketAddress::Memory(name.clone())),
            Place::Name { .. } => None,
        }
    }

    /// Checks that it leads somewhere from here: in a simulated world to memory, else elsewhere.
    ///
    /// # Errors
    /// [`Error::Address`] with what to write instead.
    pub(crate) fn check(&self, is_simulated: bool) -> Result<(), Error> {
        let why = match (is_simulated, matches!(self.0, Place::Memory(_))) {
            (true, false) => SIMULATED_IS_MEMORY,
            (false, true) => MEMORY_IS_SIMULATED,
            _ => return Ok(()),
        };
        Err(Error::Address { address: self.to_string(), why: why.to_owned() })
    }

    /// All socket addresses it stands for, in the order of the system's resolver, at least one.
    /// Blocks the thread until the resolver answered.
    ///
    /// # Errors
    /// What the resolver says; `NotFound` if it knows the name but no address of it.
    pub(crate) fn resolve_blocking(&self) -> io::Result<Vec<SocketAddress>> {
        let Place::Name { transport, host, port } = &self.0 else {
            return Ok(self.literal().into_iter().collect());
        };
        let found = (host.as_str(), *port).to_socket_addrs()?;
        let mut found: Vec<_> = found.map(|address| transport.at(address)).collect();
        found.dedup();
        if found.is_empty() {
            let sentence = format!("the name {host} has no address");
            return Err(io::Error::new(io::ErrorKind::NotFound, sentence));
        }
        Ok(found)
    }
}

impl From<SocketAddress> for Address {
    fn from(address: SocketAddress) -> Self {
        match address {
            SocketAddress::Tcp(ip) => ip.into(),
            SocketAddress::Udp(ip) => Self(place_of(Transport::Udp, ip)),
            SocketAddress::Unix(path) => Self(Place::Path(path)),
            SocketAddress::Memory(name) => Self(Place::Memory(name)),
        }
    }
}

/// A TCP address; an IPv4 address in IPv6 form is taken as the IPv4 address it is.
impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self(place_of(Transport::Tcp, address))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Ip(transport, ip) => write!(f, "{}://{ip}", transport.scheme()),
            Place::Name { transport, host, port } => {
                write!(f, "{}://{host}:{port}", transport.scheme())
            }
            Place::Path(path) => write_path(path, f),
            Place::Memory(name) => write!(f, "memory://{name}"),
        }
    }
}

fn write_path(path: &Path, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let text = path.to_string_lossy();
    match text.strip_prefix('\0') {
        Some(name) => write!(f, "unix://@{name}"),
        None => write!(f, "unix://{text}"),
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(address: &str) -> Result<Self, Error> {
        parse(address).map(Self).map_err(|why| Error::Address { address: address.into(), why })
    }
}

fn parse(address: &str) -> Result<Place, String> {
    let Some((scheme, rest)) = address.split_once("://") else {
        return Err(without_scheme(address));
    };
    match scheme.to_ascii_lowercase().as_str() {
        "tcp" => host_and_port(Transport::Tcp, rest),
        "udp" => host_and_port(Transport::Udp, rest),
        "unix" => path(rest).map(Place::Path),
        "memory" => memory(rest).map(Place::Memory),
        known if NOT_YET.contains(&known) => Err(not_yet(&format!("{known}://"), rest)),
        _ => Err(format!("unknown scheme {scheme:?}; {WHAT_EXISTS}")),
    }
}

fn without_scheme(address: &str) -> String {
    if address.starts_with(['/', '@', '.']) {
        return format!("no scheme; for a unix socket write unix:// before it; {WHAT_EXISTS}");
    }
    match host_and_port(Transport::Tcp, address) {
        Ok(_) => not_yet("post://, the meaning of an address without a scheme,", address),
        Err(_) => format!("no scheme such as tcp:// in front; {WHAT_EXISTS}"),
    }
}

fn not_yet(scheme: &str, rest: &str) -> String {
    match host_and_port(Transport::Tcp, rest) {
        Ok(_) => format!("{scheme} is not in this version; write tcp://{rest} for plain TCP"),
        Err(_) => format!("{scheme} is not in this version; {WHAT_EXISTS}"),
    }
}

fn host_and_port(transport: Transport, text: &str) -> Result<Place, String> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err("no port; write HOST:PORT, for example 127.0.0.1:7000".into());
    };
    if host.contains(':') && !host.starts_with('[') {
        return Err("an IPv6 address needs brackets, for example [::1]:7000".into());
    }
    let port = port_number(port)?;
    if let Some(inside) = host.strip_prefix('[') {
        return ipv6(transport, inside, port);
    }
    match (host, host.parse::<Ipv4Addr>()) {
        ("" | "*", _) => Ok(Place::Ip(transport, (Ipv6Addr::UNSPECIFIED, port).into())),
        (_, Ok(ip)) => Ok(Place::Ip(transport, (IpAddr::V4(ip), port).into())),
        (_, Err(_)) => name(host).map(|host| Place::Name { transport, host, port }),
    }
}

fn port_number(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    // `parse` alone would take "+80".
    let port = if digits { text.parse().ok() } else { None };
    port.ok_or_else(|| format!("the port {text:?} is not a number from 0 to 65535"))
}

fn ipv6(transport: Transport, inside: &str, port: u16) -> Result<Place, String> {
    let wrong = || {
        format!(
            "[{inside} is not an IPv6 address in brackets, such as [::1] or, with the number of \
             an interface, [fe80::1%2]"
        )
    };
    let inner = inside.strip_suffix(']').ok_or_else(wrong)?;
    // The standard library reads the interface number only together with a port.
    let address = format!("[{inner}]:{port}").parse::<SocketAddrV6>().map_err(|_| wrong())?;
    Ok(place_of(transport, SocketAddr::V6(address)))
}

fn place_of(transport: Transport, address: SocketAddr) -> Place {
    Place::Ip(transport, plain(address))
}

/// An IPv4 address in IPv6 form as the IPv4 address it is: sockets of IPv6 alone refuse the form
/// without a reason.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(ip) => (ip, v6.port()).into(),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

fn name(host: &str) -> Result<String, String> {
    if let Some(odd) = host.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.".contains(*c)) {
        return Err(format!(
            "{odd:?} cannot be in a host name; write HOST:PORT and nothing more, names beyond \
             ASCII in their xn-- form"
        ));
    }
    if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(format!("{host} is not an IPv4 address, such as 127.0.0.1"));
    }
    let mut labels = host.strip_suffix('.').unwrap_or(host).split('.');
    if host.len() > HOST_BYTES_MAX || labels.any(|l| l.is_empty() || l.len() > LABEL_BYTES_MAX) {
        return Err(format!(
            "not a host name: at most {HOST_BYTES_MAX} bytes in parts of 1 to {LABEL_BYTES_MAX}"
        ));
    }
    Ok(host.to_ascii_lowercase())
}

fn memory(name: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if (1..=HOST_BYTES_MAX).contains(&name.len()) && name.chars().all(good) {
        return Ok(name.to_owned());
    }
    Err(format!(
        "a place in memory has a name of 1 to {HOST_BYTES_MAX} letters, digits, '.', '-' and '_', \
         for example memory://echo"
    ))
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.contains('\0') {
        return Err("a path cannot contain a zero byte".into());
    }
    if text.len() > PATH_BYTES_MAX {
        return Err(format!(
            "a socket path has at most {PATH_BYTES_MAX} bytes, this one {}; use a shorter one, \
             for example under /run",
            text.len()
        ));
    }
    match text.strip_prefix('@') {
        Some("") => Err("an abstract socket needs a name, for example unix://@server".into()),
        Some(name) => Ok(PathBuf::from(format!("\0{name}"))),
        None if !text.starts_with('/') => Err(format!(
            "the path must begin at the root, for example unix:///run/{}; an abstract name with @",
            if text.is_empty() { "server" } else { text }
        )),
        None if text.ends_with('/') => Err("this is a directory; name a file in it".into()),
        None => Ok(PathBuf::from(text)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn why(text: &str) -> String {
        match text.parse::<Address>() {
            Err(Error::Address { address, why }) => {
                assert_eq!(address, text, "the error names the address");
                why
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn good_addresses_have_one_written_form() {
        for (text, written) in [
            ("tcp://127.0.0.1:7000", "tcp://127.0.0.1:7000"),
            ("tcp://[::ffff:127.0.0.1]:7000", "tcp://127.0.0.1:7000"),
            ("TCP://Example.ORG:0", "tcp://example.org:0"),
            ("tcp://[::1]:65535", "tcp://[::1]:65535"),
            ("tcp://[fe80::1%2]:80", "tcp://[fe80::1%2]:80"),
            ("tcp://*:80", "tcp://[::]:80"),
            ("tcp://:80", "tcp://[::]:80"),
            ("udp://Example.org:53", "udp://example.org:53"),
            ("udp://[::1]:53", "udp://[::1]:53"),
            ("udp://239.1.2.3:5000", "udp://239.1.2.3:5000"),
            ("tcp://a_b-c.example.:80", "tcp://a_b-c.example.:80"),
            ("unix:///run/server.sock", "unix:///run/server.sock"),
            ("unix://@server", "unix://@server"),
            ("memory://Echo-1", "memory://Echo-1"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), written);
            assert_eq!(written.parse::<Address>().unwrap(), address);
        }
    }

    #[test]
    fn an_ipv4_address_in_ipv6_form_is_the_ipv4_address() {
        let form: SocketAddr = "[::ffff:192.0.2.1%3]:7".parse().unwrap();
        for address in [Address::from(form), Address::from(SocketAddress::Tcp(form))] {
            assert_eq!(address.to_string(), "tcp://192.0.2.1:7");
            assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        }
    }

    #[test]
    fn literals_need_no_resolver_and_names_do() {
        let literal = |text: &str| text.parse::<Address>().unwrap().literal();
        let any = SocketAddress::Tcp("[::]:7".parse().unwrap());
        assert_eq!(literal("tcp://*:7"), Some(any.clone()));
        assert_eq!(literal("unix://@x"), Some(SocketAddress::Unix("\0x".into())));
        assert_eq!(literal("tcp://localhost:7"), None);
        assert_eq!("tcp://:7".parse::<Address>().unwrap().resolve_blocking().unwrap(), [any]);
        let found = "tcp://localhost:7".parse::<Address>().unwrap().resolve_blocking().unwrap();
        let is_loopback = |address: &SocketAddress| match address {
            SocketAddress::Tcp(ip) => ip.ip().is_loopback() && ip.port() == 7,
            _ => false,
        };
        assert!(!found.is_empty() && found.iter().all(is_loopback), "{found:?}");
    }

    #[test]
    fn bad_addresses_say_what_would_be_right() {
        for (text, hint) in [
            ("example.org:7000", "write tcp://example.org:7000"),
            ("post://example.org:7000", "write tcp://example.org:7000"),
            ("QUIC://[::]:1", "quic:// is not in this version; write tcp://[::]:1"),
            ("memory://", "for example memory://echo"),
            ("memory://a/b", "for example memory://echo"),
            ("http://example.org", "unknown scheme \"http\"; this version has tcp://"),
            ("", "no scheme"),
            ("/run/server", "unix://"),
            ("tcp://127.0.0.1", "no port"),
            ("tcp://127.0.0.1:65536", "0 to 65535"),
            ("tcp://127.0.0.1:+80", "0 to 65535"),
            ("tcp://127.0.0.1:", "0 to 65535"),
            ("tcp://::1:80", "brackets"),
            ("tcp://[::1:80", "brackets"),
            ("tcp://[::1%eth0]:80", "number of an interface"),
            ("tcp://[127.0.0.1]:80", "IPv6"),
            ("tcp://1.2.3:80", "not an IPv4 address"),
            ("tcp://a..b:80", "not a host name"),
            ("tcp://user@host:80", "'@'"),
            ("tcp://b\u{fc}cher.example:80", "xn--"),
            ("tcp://host:80/path", "0 to 65535"),
            ("unix://server", "unix:///run/server"),
            ("unix://", "unix:///run/server"),
            ("unix://@", "needs a name"),
            ("unix:///run/", "directory"),
            ("unix:///a\0b", "zero byte"),
        ] {
            assert!(why(text).contains(hint), "{text:?}: {}", why(text));
        }
        assert!(why(&format!("unix:///{}", "x".repeat(107))).contains("at most 107"));
        assert!(why(&format!("tcp://{}:1", "x".repeat(64))).contains("not a host name"));
    }

    #[test]
    fn memory_is_for_simulated_worlds_and_nothing_else_is() {
        let check = |text: &str, simulated| text.parse::<Address>().unwrap().check(simulated);
        assert!(check("memory://x", true).is_ok() && check("tcp://:1", false).is_ok());
        let error = check("memory://x", false).unwrap_err().to_string();
        assert!(error.contains("testing::World only"), "{error}");
        let error = check("tcp://:1", true).unwrap_err().to_string();
        assert!(error.contains("write memory://NAME"), "{error}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<Address>();
            let _ = format!("tcp://{text}").parse::<Address>();
        }

        #[test]
        fn what_parses_survives_writing(
            scheme in "tcp://|udp://|unix://|unix:///|memory://",
            rest in "[a-zA-Z0-9.:%\\[\\]*@/_-]{0,24}",
            port in 0..70000u32,
        ) {
            for text in [format!("{scheme}{rest}"), format!("{scheme}{rest}:{port}")] {
                if let Ok(address) = text.parse::<Address>() {
                    prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
                }
            }
        }

        #[test]
        fn socket_addresses_survive_writing(address: SocketAddr) {
            // The flow label is no part of the written form.
            let address = match address {
                SocketAddr::V6(mut v6) => { v6.set_flowinfo(0); v6.into() }
                v4 => v4,
            };
            let written = Address::from(address).to_string();
            prop_assert_eq!(written.parse::<Address>().unwrap(), Address::from(address));
        }
    }
}
