//! Echo on bare UDP, three ways: one datagram a system call, many a call, trains (GSO and GRO).
//!
//! Above: the client. Below: `common::datagrams`.
//! Absent: no framing: a datagram is a message; no peers that are remembered.
//! Bounds: one call's datagrams are in memory; what a full socket refuses is dropped, as UDP may.

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use common::datagrams::{self, DATAGRAM_MAX, MANY, Many};
use common::options::ServerOptions;
use std::io;
use std::net::UdpSocket;

/// How datagrams are received and sent.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    /// recvfrom and sendto
    Plain,
    /// recvmmsg and sendmmsg
    Mmsg,
    /// recvmsg with UDP_GRO and sendmsg with UDP_SEGMENT
    Gso,
}

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    server: ServerOptions,
    /// How datagrams are received and sent
    #[arg(long, value_enum)]
    mode: Mode,
}

fn main() -> Result<()> {
    let options = Options::parse();
    options.server.pin()?;
    let socket = datagrams::bound_socket(options.server.address)?;
    match options.mode {
        Mode::Plain => plain(&socket),
        Mode::Mmsg => mmsg(&socket),
        Mode::Gso => gso(&socket),
    }
}

fn plain(socket: &UdpSocket) -> Result<()> {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let Some((len, from)) = passes(socket.recv_from(&mut buffer))? else { continue };
        passes(socket.send_to(&buffer[..len], from))?;
    }
}

fn mmsg(socket: &UdpSocket) -> Result<()> {
    let mut many = Many::new(DATAGRAM_MAX, true);
    loop {
        let Some(count) = passes(many.receive(socket, 0))? else { continue };
        let mut sent = 0;
        while sent < count {
            // The one that is refused is skipped.
            sent += passes(many.send(socket, sent..count, 0))?.unwrap_or(1).max(1);
        }
        many.clear(count.min(MANY));
    }
}

fn gso(socket: &UdpSocket) -> Result<()> {
    datagrams::receive_in_trains(socket)?;
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let Some(train) = passes(datagrams::receive_train(socket, &mut buffer, 0))? else {
            continue;
        };
        let bytes = &buffer[..train.len];
        passes(datagrams::send_train(socket, bytes, train.segment, Some(&train.from), 0))?;
    }
}

/// `None`: this datagram failed, others may not.
fn passes<T>(result: io::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.raw_os_error() {
            Some(libc::EBADF | libc::EFAULT | libc::EINVAL | libc::ENOTSOCK) | None => {
                Err(error).context("the socket is no good")
            }
            Some(_) => Ok(None),
        },
    }
}
