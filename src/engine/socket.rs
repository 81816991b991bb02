//! Socket: one owned socket, of a stream or of datagrams, and what is set up on it before a
//! driver takes it.
//!
//! Above: the engine listens, the shard connects and hands Sockets to a driver. Below: plain
//! system calls through rustix. Absent: reading, writing, accepting and waiting (the driver's),
//! resolution of names (`address`), and what a connection means.
//! Bounds: every call returns at once; nothing here waits for a peer.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    self, AddressFamily, Shutdown, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};

use super::errno::Errno;
use super::socket_option::SocketOption;
use crate::address::{Group, SocketAddress};

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// How to listen.
#[derive(Debug, Clone)]
pub(crate) struct ListenOptions {
    /// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
    pub(crate) backlog: u32,
    /// Several sockets share the address and the kernel spreads connections over them (TCP only,
    /// ignored for unix sockets).
    pub(crate) reuse_port: bool,
    /// The CPU whose connections this socket prefers among those that share the address.
    pub(crate) incoming_cpu: Option<usize>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: 4096, reuse_port: false, incoming_cpu: None }
    }
}

/// An owned socket, non-blocking and closed on exec.
#[derive(Debug)]
pub(crate) enum Socket {
    /// A socket of the kernel.
    Kernel(OwnedFd),
    /// A socket of the script driver: only a number.
    #[cfg(any(test, feature = "testing"))]
    Script(u32),
    /// The same, of datagrams.
    #[cfg(any(test, feature = "testing"))]
    ScriptDatagrams(u32),
}

impl Socket {
    /// A socket that listens on `address`.
    ///
    /// The unspecified IPv6 address takes IPv4 connections too, and falls back to 0.0.0.0 on a
    /// host without IPv6. Accepted sockets inherit TCP_NODELAY. A unix socket file that nobody
    /// listens on is replaced; one that a server has just bound and not yet listened on looks
    /// the same, so two servers must not be started on one path in the same instant.
    ///
    /// # Errors
    /// What the system says; [`listen_hint`] has the remedy for the usual ones.
    pub(crate) fn listen(address: &SocketAddress, options: &ListenOptions) -> io::Result<Self> {
        let backlog = i32::try_from(options.backlog).unwrap_or(i32::MAX);
        let descriptor = match address {
            SocketAddress::Tcp(ip) => bind_ip_or_ipv4(*ip, SocketType::STREAM, options)?,
            SocketAddress::Udp(ip) => {
                return bind_ip_or_ipv4(*ip, SocketType::DGRAM, options).and_then(set_up_datagrams);
            }
            SocketAddress::Group(group) => return Self::joining(group),
            SocketAddress::Unix(path) => bind_unix(path)?,
            SocketAddress::Memory(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        net::listen(&descriptor, backlog)?;
        Ok(Self::Kernel(descriptor))
    }

    /// A socket that receives what is sent to a group, and nothing else: several of a host may.
    ///
    /// # Errors
    /// What the system says: that there is no such interface, or no route to the group.
    pub(crate) fn joining(group: &Group) -> io::Result<Self> {
        let descriptor = net::socket_with(family(group.address), SocketType::DGRAM, FLAGS, None)?;
        sockopt::set_socket_reuseaddr(&descriptor, true)?;
        let interface = interface_number(&descriptor, group)?;
        let mut bound = group.address;
        if let SocketAddr::V6(v6) = &mut bound {
            // Groups of one link are bound to with the number of their link only.
            v6.set_scope_id(interface);
        }
        net::bind(&descriptor, &bound)?;
        crate::kernel::join_group(descriptor.as_fd(), group.address, group.source, interface)?;
        send_as_said(&descriptor, group)?;
        set_up_datagrams(descriptor)
    }

    /// An unconnected socket with its options set, for a connect to `address`.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn connecting(address: &SocketAddress) -> io::Result<Self> {
        let (family, kind) = match address {
            SocketAddress::Tcp(ip) => (family(*ip), SocketType::STREAM),
            SocketAddress::Udp(ip) => (family(*ip), SocketType::DGRAM),
            SocketAddress::Group(group) => (family(group.address), SocketType::DGRAM),
            SocketAddress::Unix(_) => (AddressFamily::UNIX, SocketType::STREAM),
            SocketAddress::Memory(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        let descriptor = net::socket_with(family, kind, FLAGS, None)?;
        match address {
            SocketAddress::Tcp(_) => sockopt::set_tcp_nodelay(&descriptor, true)?,
            SocketAddress::Udp(_) => return set_up_datagrams(descriptor),
            SocketAddress::Group(group) => {
                send_as_said(&descriptor, group)?;
                return set_up_datagrams(descriptor);
            }
            _ => {}
        }
        Ok(Self::Kernel(descriptor))
    }

    /// A datagram socket that somebody else has bound, set up as one of `listen`.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn of_datagrams(descriptor: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        set_up_datagrams(descriptor)
    }

    /// The descriptor, owned; a socket of the script driver has none.
    pub(crate) fn into_descriptor(self) -> Option<OwnedFd> {
        match self {
            Self::Kernel(descriptor) => Some(descriptor),
            #[cfg(any(test, feature = "testing"))]
            Self::Script(_) | Self::ScriptDatagrams(_) => None,
        }
    }

    /// The descriptor, for a driver.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Kernel(descriptor) => descriptor.as_fd(),
            #[cfg(any(test, feature = "testing"))]
            Self::Script(number) | Self::ScriptDatagrams(number) => {
                panic!("script socket {number} has no descriptor")
            }
        }
    }

    /// True if it carries datagrams.
    pub(crate) fn is_datagram(&self) -> bool {
        match self {
            Self::Kernel(descriptor) => is_datagram(descriptor.as_fd()),
            #[cfg(any(test, feature = "testing"))]
            Self::Script(_) => false,
            #[cfg(any(test, feature = "testing"))]
            Self::ScriptDatagrams(_) => true,
        }
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// What the system says; `NotConnected` in a simulated world, where the driver knows.
    pub(crate) fn local_address(&self) -> io::Result<SocketAddress> {
        #[cfg(any(test, feature = "testing"))]
        if let Self::Script(_) | Self::ScriptDatagrams(_) = self {
            return Err(io::ErrorKind::NotConnected.into());
        }
        local_address(self.as_fd())
    }

    /// The address it is connected to.
    ///
    /// # Errors
    /// `NotConnected` if it is not, else what the system says.
    pub(crate) fn peer_address(&self) -> io::Result<SocketAddress> {
        #[cfg(any(test, feature = "testing"))]
        if let Self::Script(_) | Self::ScriptDatagrams(_) = self {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let address = net::getpeername(self.as_fd())?;
        // Only a peer without a name has none: a unix socket that never bound.
        let is_datagram = self.is_datagram();
        let nameless = || Ok(SocketAddress::Unix(PathBuf::new()));
        address.map_or_else(nameless, |address| from_system(address, is_datagram))
    }

    /// Sets `option`; stacks that do not have it ignore it.
    pub(crate) fn tune(&self, option: SocketOption) {
        tune(self.as_fd(), option);
    }

    /// From now on a close discards what is unsent and the peer sees a reset (TCP only).
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn send_reset_on_close(&self) -> io::Result<()> {
        Ok(sockopt::set_socket_linger(self.as_fd(), Some(Duration::ZERO))?)
    }

    /// Sends the end of the stream.
    ///
    /// # Errors
    /// What the system says, `NotConnected` above all.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        Ok(net::shutdown(self.as_fd(), Shutdown::Write)?)
    }

    /// Ends both directions: whoever waits on the socket wakes. A listening socket stops
    /// listening.
    ///
    /// # Errors
    /// What the system says, `NotConnected` above all.
    #[cfg(test)]
    pub(crate) fn shutdown_both(&self) -> io::Result<()> {
        Ok(net::shutdown(self.as_fd(), Shutdown::Both)?)
    }

    /// Takes the error that waits on the socket, if there is one.
    pub(crate) fn take_error(&self) -> Option<Errno> {
        let outcome = sockopt::socket_error(self.as_fd()).and_then(|pending| pending);
        outcome.err().map(Errno::from)
    }

    /// A second descriptor of the same socket, closed on exec.
    ///
    /// # Errors
    /// What the system says: above all that no descriptor is free.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.as_fd().try_clone_to_owned().map(Self::Kernel)
    }
}

impl From<OwnedFd> for Socket {
    fn from(descriptor: OwnedFd) -> Self {
        Self::Kernel(descriptor)
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(number: rustix::io::Errno) -> Self {
        Self(number.raw_os_error())
    }
}

/// The longest datagram that the path to `remote` carries whole, as far as the kernel knows.
pub(crate) fn datagram_bytes_max_to(remote: SocketAddr) -> Option<u32> {
    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    let probe = net::socket_with(family(remote), SocketType::DGRAM, FLAGS, None).ok()?;
    net::connect(&probe, &remote).ok()?;
    crate::kernel::datagram_bytes_max(probe.as_fd())
}

const NO_INTERFACE: &str = "; no interface has this name, or no route leads to the group: name one \
                            that this host has, as in ?interface=eth0";

/// What to do when no connection came about for `error`: a clause to put behind it, or nothing.
pub(crate) fn connect_hint(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::NODEV) => NO_INTERFACE,
        _ => "",
    }
}

/// What to do when listening failed with `error`: a clause to put behind it, or nothing.
pub(crate) fn listen_hint(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::ADDRINUSE) => {
            "; another socket has this address: end that server, or choose another port (0 \
             takes a free one) or path"
        }
        Some(rustix::io::Errno::ACCESS) => {
            "; choose a port from 1024 on or grant CAP_NET_BIND_SERVICE; for a unix socket, make \
             its directory writable"
        }
        Some(rustix::io::Errno::MFILE) => {
            "; this process is out of file descriptors: raise the limit (ulimit -n)"
        }
        Some(rustix::io::Errno::NFILE) => {
            "; the host is out of file descriptors: raise the limit (sysctl fs.file-max)"
        }
        Some(rustix::io::Errno::ADDRNOTAVAIL) => {
            "; no interface of this host has this address: use one of its own, or * for all"
        }
        Some(rustix::io::Errno::NODEV) => NO_INTERFACE,
        Some(rustix::io::Errno::NOENT) => "; create the directory of the socket file first",
        _ => "",
    }
}

/// Calls `act` with the address in the system's form.
///
/// # Errors
/// `InvalidInput` or `NameTooLong` for a path that no socket can have, else those of `act`.
pub(crate) fn with_system_address<T>(
    address: &SocketAddress,
    act: impl FnOnce(&SocketAddrAny) -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    match address {
        SocketAddress::Tcp(ip) | SocketAddress::Udp(ip) => act(&SocketAddrAny::from(*ip)),
        SocketAddress::Group(group) => act(&SocketAddrAny::from(group.address)),
        SocketAddress::Unix(path) => act(&SocketAddrAny::from(unix_address(path)?)),
        SocketAddress::Memory(_) => Err(rustix::io::Errno::AFNOSUPPORT),
    }
}

/// A path that begins with a zero byte is an abstract name, as in the kernel's own form.
pub(crate) fn unix_address(path: &Path) -> rustix::io::Result<SocketAddrUnix> {
    match path.as_os_str().as_bytes() {
        [] => Err(rustix::io::Errno::INVAL),
        [0, name @ ..] => SocketAddrUnix::new_abstract_name(name),
        _ => SocketAddrUnix::new(path),
    }
}

/// The address that `socket` is bound to.
///
/// # Errors
/// What the system says.
pub(crate) fn local_address(socket: BorrowedFd<'_>) -> io::Result<SocketAddress> {
    from_system(net::getsockname(socket)?, is_datagram(socket))
}

fn is_datagram(socket: BorrowedFd<'_>) -> bool {
    sockopt::socket_type(socket).is_ok_and(|kind| kind == SocketType::DGRAM)
}

/// How datagrams to a group leave.
fn send_as_said(descriptor: &OwnedFd, group: &Group) -> io::Result<()> {
    let interface = interface_number(descriptor, group)?;
    let is_v6 = group.address.is_ipv6();
    if interface != 0 && is_v6 {
        sockopt::set_ipv6_multicast_if(descriptor, interface)?;
    } else if interface != 0 {
        let any = Ipv4Addr::UNSPECIFIED;
        sockopt::set_ip_multicast_if_with_ifindex(descriptor, &any, &any, interface)?;
    }
    if let Some(hops) = group.hops {
        let hops = u32::from(hops);
        if is_v6 {
            sockopt::set_ipv6_multicast_hops(descriptor, hops)?;
        } else {
            sockopt::set_ip_multicast_ttl(descriptor, hops)?;
        }
    }
    match group.loopback {
        Some(on) if is_v6 => sockopt::set_ipv6_multicast_loop(descriptor, on)?,
        Some(on) => sockopt::set_ip_multicast_loop(descriptor, on)?,
        None => {}
    }
    Ok(())
}

/// The number of a group's interface, 0 if it names none.
fn interface_number(descriptor: &OwnedFd, group: &Group) -> io::Result<u32> {
    match (&group.interface, group.address) {
        (Some(name), _) => match name.parse() {
            Ok(number) => Ok(number),
            Err(_) => Ok(net::netdevice::name_to_index(descriptor, name)?),
        },
        (None, SocketAddr::V6(v6)) => Ok(v6.scope_id()),
        (None, SocketAddr::V4(_)) => Ok(0),
    }
}

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET }
}

/// A datagram socket says where each datagram came from, how a train is cut, how it was marked, and
/// how many were dropped; where it has every address of this host, also to which of them it came.
/// It never sends fragments.
fn set_up_datagrams(descriptor: OwnedFd) -> io::Result<Socket> {
    quinn_udp::UdpSocketState::new((&descriptor).into())?;
    let local = SocketAddr::try_from(net::getsockname(&descriptor)?)?;
    // One that is not bound yet will be connected, so that only one address is left.
    let at_any = local.ip().is_unspecified() && local.port() != 0;
    crate::kernel::say_what_matters(descriptor.as_fd(), at_any);
    Ok(Socket::Kernel(descriptor))
}

fn from_system(address: SocketAddrAny, is_datagram: bool) -> io::Result<SocketAddress> {
    if address.address_family() != AddressFamily::UNIX {
        let address = SocketAddr::try_from(address)?;
        return Ok(match is_datagram {
            true => SocketAddress::Udp(address),
            false => SocketAddress::Tcp(address),
        });
    }
    let unix = SocketAddrUnix::try_from(address)?;
    let bytes = match (unix.path_bytes(), unix.abstract_name()) {
        (Some(path), _) => path.to_vec(),
        (None, Some(name)) => [b"\0", name].concat(),
        (None, None) => Vec::new(),
    };
    Ok(SocketAddress::Unix(PathBuf::from(std::ffi::OsString::from_vec(bytes))))
}

/// "Any address" must work on a host without IPv6 too.
fn bind_ip_or_ipv4(
    address: SocketAddr,
    kind: SocketType,
    options: &ListenOptions,
) -> io::Result<OwnedFd> {
    use rustix::io::Errno;
    match bind_ip(address, kind, options) {
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)
            if address.is_ipv6() && address.ip().is_unspecified() =>
        {
            tracing::warn!(%address, "no IPv6 on this host; listening on IPv4 only");
            let ipv4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            Ok(bind_ip(ipv4, kind, options)?)
        }
        outcome => Ok(outcome?),
    }
}

fn bind_ip(
    address: SocketAddr,
    kind: SocketType,
    options: &ListenOptions,
) -> rustix::io::Result<OwnedFd> {
    let descriptor = net::socket_with(family(address), kind, FLAGS, None)?;
    let is_stream = kind == SocketType::STREAM;
    if is_stream {
        // Two datagram sockets with it would share a port by accident.
        sockopt::set_socket_reuseaddr(&descriptor, true)?;
    }
    if options.reuse_port {
        sockopt::set_socket_reuseport(&descriptor, true)?;
    }
    if let Some(cpu) = options.incoming_cpu.and_then(|cpu| u32::try_from(cpu).ok()) {
        sockopt::set_socket_incoming_cpu(&descriptor, cpu)?;
    }
    if address.is_ipv6() {
        // The default is a sysctl; the promise of dual stack must not depend on it.
        sockopt::set_ipv6_v6only(&descriptor, !address.ip().is_unspecified())?;
    }
    if is_stream {
        sockopt::set_tcp_nodelay(&descriptor, true)?;
    }
    net::bind(&descriptor, &address)?;
    Ok(descriptor)
}

fn bind_unix(path: &Path) -> io::Result<OwnedFd> {
    let address = unix_address(path)?;
    let descriptor = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    match net::bind(&descriptor, &address) {
        Err(rustix::io::Errno::ADDRINUSE) if is_stale(path, &address) => {
            tracing::info!(path = %path.display(), "replacing a socket file nobody listens on");
            std::fs::remove_file(path)?;
            net::bind(&descriptor, &address)?;
        }
        outcome => outcome?,
    }
    Ok(descriptor)
}

/// True for a socket file whose server is gone. A file of another kind is never taken for one.
fn is_stale(path: &Path, address: &SocketAddrUnix) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket
        && net::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)
            .and_then(|probe| net::connect(&probe, address))
            .is_err_and(|error| error == rustix::io::Errno::CONNREFUSED)
}

/// Sets `option` on a connected socket; stacks that do not have it ignore it.
pub(crate) fn tune(socket: BorrowedFd<'_>, option: SocketOption) {
    let set = match option {
        SocketOption::UnsentLimit(bytes) if is_datagram(socket) => {
            // Of a datagram socket the kernel counts all that has not left the device.
            sockopt::set_socket_send_buffer_size(socket, bytes as usize).is_ok()
        }
        SocketOption::UnsentLimit(bytes) => crate::kernel::limit_unsent(socket, bytes),
        SocketOption::TrafficClass(class) => {
            // The two lower bits belong to congestion notification.
            let byte = class << 2;
            sockopt::set_ip_tos(socket, byte).is_ok()
                | sockopt::set_ipv6_tclass(socket, u32::from(byte)).is_ok()
        }
        SocketOption::PeerErrors => crate::kernel::keep_peer_errors(socket),
        SocketOption::ArrivalTimes => crate::kernel::say_arrival_times(socket),
    };
    if !set {
        tracing::trace!(?option, "this stack has no such option");
    }
}

#[cfg(test)]
mod tests;
