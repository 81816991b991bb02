//! Listening sockets that outlive a process: taken from whoever started this one, and handed to
//! a successor.
//!
//! Above: the engine asks for inherited sockets before it makes new ones, and starts a successor.
//! Below: `listenfd`, which reads the environment and owns the one unsafe step (a number becomes
//! a descriptor); `Command` starts the successor. Absent: when to stop accepting (the engine's).
//! Bounds: at most 1024 sockets; taken once per process.
//!
//! The protocol is systemd's socket activation: LISTEN_FDS is their count, they are numbered from
//! 3 on, LISTEN_PID is whom they are meant for. A starter that is no service manager cannot know
//! the process number before it forks, and has 3 in use already. It leaves LISTEN_PID out, sets
//! POSTRING_INHERIT=1 instead and LISTEN_FDS_FIRST_FD to the first number; `Handover` does that.
//! From a shell: `LISTEN_FDS=1 POSTRING_INHERIT=1 server 3<&"$listening"`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};

use listenfd::ListenFd;
use rustix::io::FdFlags;
use rustix::net::{AddressFamily, sockopt};

use super::socket::Socket;
use crate::address::{Address, SocketAddress};

/// Says that sockets without LISTEN_PID are meant for this process.
const INHERIT: &str = "POSTRING_INHERIT";
const COUNT: &str = "LISTEN_FDS";
const FIRST: &str = "LISTEN_FDS_FIRST_FD";
const PROCESS: &str = "LISTEN_PID";
const NAMES: &str = "LISTEN_FDNAMES";
const SOCKETS_MAX: usize = 1024;
/// Where a row of free numbers for a successor is looked for first: beyond what most processes
/// have open.
const FIRST_MIN: RawFd = 256;
const ROWS_TRIED_MAX: usize = 16;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The listening sockets this process was started with and nobody has taken yet.
#[derive(Debug, Default)]
pub(crate) struct Inherited(Vec<(SocketAddress, Socket)>);

impl Inherited {
    /// All of them, at the first call in a process; none later. The variables leave the
    /// environment, so that no child takes them for its own: call it before other threads
    /// read or write the environment.
    pub(crate) fn take_once() -> Self {
        if TAKEN.swap(true, Ordering::Relaxed) {
            return Self::default();
        }
        match announced(variable) {
            Ok(0) => Self::default(),
            Ok(_) => Self(take_all(ListenFd::from_env())),
            Err(why) => {
                tracing::warn!("inherited sockets ignored: {why}");
                Self::default()
            }
        }
    }

    /// All sockets that listen on `address`: several share it, one per core. Two forms of "any
    /// address" (`0.0.0.0` and `[::]`) with one port are the same. Empty if there are none.
    pub(crate) fn take(&mut self, address: &SocketAddress) -> Vec<Socket> {
        let found = self.0.extract_if(.., |(local, _)| is_same(local, address));
        found.map(|(_, socket)| socket).collect()
    }

    /// Closes what nobody took, with a warning for each.
    pub(crate) fn close_unused(self) {
        for (address, _) in self.0 {
            let address = Address::from(address);
            tracing::warn!(%address, "inherited socket closed: nobody listens on its address");
        }
    }
}

/// How many sockets the environment announces for this process.
fn announced(variable: impl Fn(&str) -> Option<String>) -> Result<usize, String> {
    let Some(count) = variable(COUNT) else { return Ok(0) };
    let for_us = match variable(PROCESS) {
        Some(process) => process == std::process::id().to_string(),
        None => variable(INHERIT).as_deref() == Some("1"),
    };
    if !for_us {
        return Err(format!(
            "{PROCESS} does not name this process; a starter that cannot know its number leaves \
             {PROCESS} out and sets {INHERIT}=1"
        ));
    }
    match count.parse() {
        Ok(count) if count <= SOCKETS_MAX => Ok(count),
        _ => Err(format!("{COUNT}={count:?} is not a number from 0 to {SOCKETS_MAX}")),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn take_all(mut announced: ListenFd) -> Vec<(SocketAddress, Socket)> {
    let mut listeners = Vec::new();
    for index in 0..announced.len() {
        match take_one(&mut announced, index) {
            Ok(listener) => listeners.push(listener),
            Err(error) => tracing::warn!(index, %error, "inherited descriptor ignored"),
        }
    }
    listeners
}

fn take_one(announced: &mut ListenFd, index: usize) -> io::Result<(SocketAddress, Socket)> {
    let descriptor = if let Ok(Some(tcp)) = announced.take_tcp_listener(index) {
        OwnedFd::from(tcp)
    } else if let Ok(Some(unix)) = announced.take_unix_listener(index) {
        OwnedFd::from(unix)
    } else if let Ok(Some(udp)) = announced.take_udp_socket(index) {
        let socket = Socket::of_datagrams(OwnedFd::from(udp))?;
        return Ok((socket.local_address()?, socket));
    } else {
        // As an owner this closes the socket; what is no socket at all stays as it is.
        let _ = announced.take_unix_datagram(index);
        return Err(io::Error::other("no socket of TCP, UDP or a unix stream"));
    };
    if !sockopt::socket_acceptconn(&descriptor)? {
        return Err(io::Error::other("not listening"));
    }
    rustix::io::ioctl_fionbio(&descriptor, true)?;
    if sockopt::socket_domain(&descriptor)? != AddressFamily::UNIX {
        // Accepted sockets inherit it.
        sockopt::set_tcp_nodelay(&descriptor, true)?;
    }
    let socket = Socket::from(descriptor);
    Ok((socket.local_address()?, socket))
}

fn is_same(local: &SocketAddress, asked: &SocketAddress) -> bool {
    match (local, asked) {
        // A socket of a group is bound to it and has joined it.
        (SocketAddress::Udp(local), SocketAddress::Group(group)) => {
            (local.ip(), local.port()) == (group.address.ip(), group.address.port())
        }
        (SocketAddress::Tcp(local), SocketAddress::Tcp(asked))
        | (SocketAddress::Udp(local), SocketAddress::Udp(asked)) => {
            local == asked
                || (local.port() == asked.port()
                    && local.ip().is_unspecified()
                    && asked.ip().is_unspecified())
        }
        _ => local == asked,
    }
}

/// Copies of listening sockets for a successor, with numbers in a row.
///
/// The successor accepts from the same queues: connections that wait in them are served by
/// whoever asks first, so none is lost while both processes listen. So are datagrams: what a
/// process that ends has no Carrier for any more, it drops.
#[derive(Debug)]
pub(crate) struct Handover {
    copies: Vec<OwnedFd>,
}

impl Handover {
    /// Copies `listeners`.
    ///
    /// # Errors
    /// If no row of free descriptors is found (raise the limit, `ulimit -n`), or more than 1024
    /// sockets are given.
    pub(crate) fn prepare(listeners: &[Socket]) -> io::Result<Self> {
        if listeners.len() > SOCKETS_MAX {
            let sentence = format!("more than {SOCKETS_MAX} listening sockets");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let half = limit.and_then(|limit| RawFd::try_from(limit / 2).ok());
        let mut first = half.map_or(FIRST_MIN, |half| half.min(FIRST_MIN));
        for _ in 0..ROWS_TRIED_MAX {
            let copies = copy_above(listeners, first)?;
            match copies.iter().map(AsRawFd::as_raw_fd).max() {
                Some(last) if !is_row(&copies) => first = last + 1,
                _ => return Ok(Self { copies }),
            }
        }
        Err(io::Error::other("no row of free descriptors; raise the limit (ulimit -n)"))
    }

    /// Starts `command` with the sockets. Any other child that this process starts in the same
    /// instant inherits copies too, which it cannot know of: start none meanwhile.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn spawn(self, command: &mut Command) -> io::Result<Child> {
        self.announce(command)?;
        command.spawn()
    }

    fn announce(&self, command: &mut Command) -> io::Result<()> {
        for copy in &self.copies {
            rustix::io::fcntl_setfd(copy, FdFlags::empty())?;
        }
        command.env_remove(PROCESS).env_remove(NAMES);
        command.env(COUNT, self.copies.len().to_string()).env(INHERIT, "1");
        if let Some(first) = self.copies.first() {
            command.env(FIRST, first.as_raw_fd().to_string());
        }
        Ok(())
    }
}

fn copy_above(listeners: &[Socket], first: RawFd) -> io::Result<Vec<OwnedFd>> {
    let copy = |socket: &Socket| Ok(rustix::io::fcntl_dupfd_cloexec(socket.as_fd(), first)?);
    listeners.iter().map(copy).collect()
}

fn is_row(copies: &[OwnedFd]) -> bool {
    copies.windows(2).all(|pair| pair[1].as_raw_fd() == pair[0].as_raw_fd() + 1)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{SocketAddr, TcpStream, UdpSocket};
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::engine::socket::ListenOptions;

    const CHILD: &str = "POSTRING_TEST_SUCCESSOR_OF";

    fn path_of(address: SocketAddr) -> SocketAddress {
        SocketAddress::Unix(PathBuf::from(format!("\0postring-handover-{}", address.port())))
    }

    /// The half of the test that runs in the successor: 0 if it found what it should.
    fn succeed(address: SocketAddr) {
        let mut inherited = Inherited::take_once();
        assert!(Inherited::take_once().0.is_empty(), "only once");
        assert!(std::env::var_os(COUNT).is_none(), "its own children are not concerned");
        let any: SocketAddr = "[::]:1".parse().unwrap();
        assert!(inherited.take(&SocketAddress::Tcp(any)).is_empty());
        let tcp = inherited.take(&SocketAddress::Tcp(address));
        assert_eq!(tcp.len(), 2, "one per core");
        let any_udp = SocketAddress::Udp("0.0.0.0:1".parse().unwrap());
        assert!(inherited.take(&any_udp).is_empty());
        let mut addresses = inherited.0.iter().map(|(at, _)| at.clone());
        let at_udp = addresses.find(|at| matches!(at, SocketAddress::Udp(_))).unwrap();
        let [udp] = &inherited.take(&at_udp)[..] else { panic!("the socket of datagrams") };
        let mut bytes = [0; 100];
        let (len, _) = crate::kernel::receive_datagrams(udp.as_fd(), &mut bytes).unwrap();
        assert_eq!(&bytes[..len], b"waits");
        assert_eq!(inherited.0.len(), 1);
        assert_eq!(inherited.0[0].0, path_of(address));
        inherited.close_unused();
        for socket in &tcp {
            let flags = rustix::io::fcntl_getfd(socket.as_fd()).unwrap();
            assert!(flags.contains(FdFlags::CLOEXEC));
        }
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(5) {
            for socket in &tcp {
                if let Ok(accepted) = rustix::net::accept(socket.as_fd()) {
                    rustix::io::write(&accepted, b"served").unwrap();
                    return;
                }
            }
            std::thread::yield_now();
        }
        panic!("nothing to accept");
    }

    #[test]
    fn a_successor_serves_what_waits_in_the_queues() {
        if let Ok(address) = std::env::var(CHILD) {
            return succeed(address.parse().unwrap());
        }
        let shared = ListenOptions { reuse_port: true, ..ListenOptions::default() };
        let local = SocketAddress::Tcp("127.0.0.1:0".parse().unwrap());
        let first = Socket::listen(&local, &shared).unwrap();
        let SocketAddress::Tcp(address) = first.local_address().unwrap() else { panic!("unix") };
        let second = Socket::listen(&SocketAddress::Tcp(address), &shared).unwrap();
        let unix = Socket::listen(&path_of(address), &ListenOptions::default()).unwrap();
        let datagrams = Socket::from(OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap()));
        let to = datagrams.local_address().unwrap();
        let SocketAddress::Udp(to) = to else { panic!("{to:?}") };
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"waits", to).unwrap();
        let mut waiting = TcpStream::connect(address).unwrap();

        let handover = Handover::prepare(&[first, datagrams, unix, second]).unwrap();
        assert!(is_row(&handover.copies));
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = "engine::inherited::tests::a_successor_serves_what_waits_in_the_queues";
        command.args(["--exact", name, "--test-threads", "1"]);
        command.env(CHILD, address.to_string()).env(PROCESS, "1");
        command.stdout(std::process::Stdio::piped());
        let successor = handover.spawn(&mut command).unwrap();
        let output = successor.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let mut served = String::new();
        waiting.read_to_string(&mut served).unwrap();
        assert_eq!(served, "served");
    }

    #[test]
    fn only_what_is_meant_for_this_process_is_taken() {
        let own = std::process::id().to_string();
        let asked = |variables: &[(&str, &str)]| {
            announced(|name| {
                let found = variables.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| String::from(*value))
            })
        };
        assert_eq!(asked(&[]), Ok(0));
        assert_eq!(asked(&[(COUNT, "2"), (PROCESS, &own)]), Ok(2));
        assert_eq!(asked(&[(COUNT, "2"), (INHERIT, "1")]), Ok(2));
        assert!(asked(&[(COUNT, "2")]).unwrap_err().contains("POSTRING_INHERIT=1"));
        assert!(asked(&[(COUNT, "2"), (PROCESS, "1"), (INHERIT, "1")]).is_err());
        for count in ["-1", "1025", "99999999999999999999", "two"] {
            let why = asked(&[(COUNT, count), (INHERIT, "1")]).unwrap_err();
            assert!(why.contains("0 to 1024"), "{why}");
        }
    }

    #[test]
    fn any_address_is_any_address() {
        let ip = |text: &str| SocketAddress::Tcp(text.parse().unwrap());
        assert!(is_same(&ip("0.0.0.0:7"), &ip("[::]:7")));
        assert!(!is_same(&ip("0.0.0.0:7"), &ip("[::]:8")));
        assert!(!is_same(&ip("0.0.0.0:7"), &ip("127.0.0.1:7")));
        let udp = |text: &str| {
            let address: Address = format!("udp://{text}").parse().unwrap();
            address.literal().unwrap()
        };
        assert!(is_same(&udp("0.0.0.0:7"), &udp("[::]:7")));
        assert!(!is_same(&udp("0.0.0.0:7"), &ip("[::]:7")));
        let bound = SocketAddress::Udp("239.1.2.3:7".parse().unwrap());
        assert!(is_same(&bound, &udp("239.1.2.3:7?interface=lo")));
        assert!(!is_same(&bound, &udp("239.1.2.4:7")));
    }
}
