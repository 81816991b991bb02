//! Connect: sockets to the server, from many source addresses if it is on loopback.
//!
//! Above: the modes. Below: rustix.
//! A closed connection keeps its source port for a minute; a churning client would run out of the
//! 28,000 of one address within seconds. 127.0.0.0/8 has enough addresses.
//! Absent: no retries. Bound: the limit of open descriptors.

use anyhow::{Context as _, Result};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

const SOURCES: u32 = 250;

/// Makes connections to one address.
#[derive(Debug)]
pub(crate) struct Connector {
    address: SocketAddr,
    count: u32,
}

impl Connector {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, count: 0 }
    }

    fn socket(&mut self) -> Result<TcpStream> {
        let family = match self.address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .context("no socket: is the limit of open descriptors too low?")?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        if let SocketAddr::V4(address) = self.address
            && address.ip().is_loopback()
        {
            self.count += 1;
            let [.., c, d] = (256 + self.count % SOURCES).to_be_bytes();
            let source = SocketAddr::from((Ipv4Addr::new(127, 9, c, d), 0));
            net::bind(&socket, &source).context("cannot bind a loopback source address")?;
        }
        Ok(TcpStream::from(socket))
    }

    /// An established, non-blocking connection.
    ///
    /// # Errors
    /// The server does not accept it.
    pub(crate) fn connect(&mut self) -> Result<TcpStream> {
        let socket = self.socket()?;
        net::connect(&socket, &self.address)
            .with_context(|| format!("cannot connect to {}", self.address))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// A connection under way: its socket becomes writable when it is established.
    ///
    /// # Errors
    /// No descriptor or no port is left, or the server refused at once.
    pub(crate) fn begin(&mut self) -> Result<TcpStream> {
        let socket = self.socket()?;
        socket.set_nonblocking(true)?;
        match net::connect(&socket, &self.address) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
            Err(error) => Err(error).with_context(|| format!("cannot connect to {}", self.address)),
        }
    }
}

/// Ends the attempt begun by [`Connector::begin`].
///
/// # Errors
/// The connection was refused, reset or timed out.
pub(crate) fn established(socket: &TcpStream) -> Result<()> {
    sockopt::socket_error(socket)?.context("cannot connect")
}
