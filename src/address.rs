//! Address: what a user writes to name a stack and a place, such as `tcp://[::]:7000`.
//!
//! Above: the verbs parse it from strings. Below: nothing; the engine takes `SocketAddress`
//! from here. Absent: sockets; name servers, except in `resolve_blocking`, which asks the
//! system's resolver and may take seconds, so it never runs on a core thread.
//! Bounds: host names up to 253 bytes, socket paths up to 107 bytes.

mod group;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub(crate) use self::group::Group;
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
pub(crate) const SIMULATED_IS_MEMORY: &str = "a testing::World has no sockets: write \
    memory://NAME, or udp://IP:PORT for datagrams";

/// A stack and a place on it: `tcp://HOST:PORT`, `udp://HOST:PORT` or `unix:///PATH`.
///
/// `HOST` is a name, an IPv4 address or an IPv6 address in brackets; `*` or nothing means any
/// address of this host, IPv4 and IPv6. An IPv4 address in IPv6 form, `[::ffff:192.0.2.1]`, is
/// taken as the IPv4 address it is. `PORT` is 0 to 65535; 0 takes a free port when listening.
///
/// Over `udp://` each datagram is a Message. Where `HOST` is a multicast group, options may follow:
/// `udp://239.1.2.3:5000?interface=eth0&source=192.0.2.7&hops=4&loopback=off`. A Sink joins the
/// group on that interface (a name or a number), of any sender or of that source alone; a Source
/// sends by that interface, over so many hops; `loopback` says whether this host hears it.
///
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
    /// Datagrams to or from a multicast group.
    Group(Group),
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
    Group(Group),
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
            Place::Ip(Transport::Udp, _)
                | Place::Name { transport: Transport::Udp, .. }
                | Place::Group(_)
        )
    }

    /// The multicast group that it names, if it is one.
    pub(crate) const fn group(&self) -> Option<SocketAddr> {
        match &self.0 {
            Place::Group(group) => Some(group.address),
            _ => None,
        }
    }

    /// The socket address, if no name has to be resolved for it.
    pub(crate) fn literal(&self) -> Option<SocketAddress> {
        match &self.0 {
            Place::Ip(transport, ip) => Some(transport.at(*ip)),
            Place::Group(group) => Some(SocketAddress::Group(group.clone())),
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
        let why = match (is_simulated, &self.0) {
            (true, Place::Memory(_) | Place::Ip(Transport::Udp, _)) => return Ok(()),
            (true, _) => SIMULATED_IS_MEMORY,
            (false, Place::Memory(_)) => MEMORY_IS_SIMULATED,
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
            SocketAddress::Group(group) => Self(Place::Group(group)),
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
            Place::Group(group) => write!(f, "{group}"),
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
        "udp" => datagrams(rest),
        "unix" => path(rest).map(Place::Path),
        "memory" => memory(rest).map(Place::Memory),
        known if NOT_YET.contains(&known) => Err(not_yet(&format!("{known}://"), rest)),
        _ => Err(format!("unknown scheme {scheme:?}; {WHAT_EXISTS}")),
    }
}

/// A multicast group may have options behind a question mark.
fn datagrams(rest: &str) -> Result<Place, String> {
    let (place, options) = match rest.split_once('?') {
        Some((place, options)) => (place, Some(options)),
        None => (rest, None),
    };
    match host_and_port(Transport::Udp, place)? {
        Place::Ip(_, ip) if ip.ip().is_multicast() => group(ip, options),
        Place::Group(Group { address, .. }) => group(address, options),
        _ if options.is_some() => Err("only a multicast group has options behind a '?'".into()),
        place => Ok(place),
    }
}

fn group(address: SocketAddr, options: Option<&str>) -> Result<Place, String> {
    let group = Group::parse(address, options)?;
    group.check_link()?;
    Ok(Place::Group(group))
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
    let address = plain(address);
    match transport {
        Transport::Udp if address.ip().is_multicast() => {
            Place::Group(Group::parse(address, None).expect("without options"))
        }
        _ => Place::Ip(transport, address),
    }
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
mod tests;
