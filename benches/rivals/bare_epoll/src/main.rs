//! Bare epoll: an edge-triggered echo server with one receive buffer for all connections.
//!
//! Above: the client. Below: rustix (system calls without libc).
//! Absent: no timeouts, no limits beyond the frame's: a measure, not a product.
//! Bounds: one read is [`SHARED_BUFFER`] bytes; a connection reads no more while it owes bytes.

use anyhow::{Context as _, Result};
use common::options::ServerOptions;
use common::{frames, listening};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::{Errno, read};
use rustix::net::{SendFlags, SocketFlags, accept_with, send};
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, OwnedFd};

const SHARED_BUFFER: usize = 256 * 1024;
const EVENTS: usize = 1024;
const LISTENER: u64 = u64::MAX;

/// A connection ended, by the peer or by an error: forget it.
struct Ended;

struct Connection {
    socket: OwnedFd,
    /// The beginning of a frame that has not arrived whole.
    partial: Vec<u8>,
    /// Echoes the socket did not take; reading pauses until it does.
    owed: Vec<u8>,
    sent: usize,
}

impl Connection {
    fn new(socket: OwnedFd) -> Self {
        Self { socket, partial: Vec::new(), owed: Vec::new(), sent: 0 }
    }

    /// Writes what is owed; true once nothing is.
    fn flush(&mut self) -> Result<bool, Ended> {
        while self.sent < self.owed.len() {
            match send(&self.socket, &self.owed[self.sent..], SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(_) => return Err(Ended),
            }
        }
        self.owed.clear();
        self.sent = 0;
        Ok(true)
    }

    /// Reads until the socket is empty, echoing as it goes; `hung_up`: its end is to be read too.
    fn turn(&mut self, buffer: &mut [u8], hung_up: bool) -> Result<(), Ended> {
        loop {
            if !self.owed.is_empty() && !self.flush()? {
                return Ok(());
            }
            let count = match read(&self.socket, &mut *buffer) {
                Ok(0) => return Err(Ended),
                Ok(count) => count,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(_) => return Err(Ended),
            };
            self.echo(&buffer[..count])?;
            // A short read has emptied the socket: bytes that come later raise a new edge, but an
            // end that had come before this one raises none.
            if count < buffer.len() && !hung_up {
                return Ok(());
            }
        }
    }

    fn echo(&mut self, received: &[u8]) -> Result<(), Ended> {
        if self.partial.is_empty() {
            let found = frames::scan(received).map_err(|_| Ended)?;
            self.write(&received[..found.whole])?;
            let rest = &received[found.whole..];
            if !rest.is_empty() {
                self.partial.reserve_exact(found.wanted.max(rest.len()));
                self.partial.extend_from_slice(rest);
            }
            return Ok(());
        }
        self.partial.extend_from_slice(received);
        let found = frames::scan(&self.partial).map_err(|_| Ended)?;
        if found.whole > 0 {
            let mut gathered = std::mem::take(&mut self.partial);
            self.write(&gathered[..found.whole])?;
            gathered.drain(..found.whole);
            if !gathered.is_empty() {
                self.partial = gathered;
            }
        }
        self.partial.reserve(found.wanted.saturating_sub(self.partial.len()));
        Ok(())
    }

    /// Sends whole frames at once; what the socket does not take is owed.
    fn write(&mut self, mut whole: &[u8]) -> Result<(), Ended> {
        while self.owed.is_empty() && !whole.is_empty() {
            match send(&self.socket, whole, SendFlags::NOSIGNAL) {
                Ok(count) => whole = &whole[count..],
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return Err(Ended),
            }
        }
        self.owed.extend_from_slice(whole);
        Ok(())
    }
}

/// Accepts all that wait; the descriptor's number is the connection's place in the table.
fn accept_all(
    listener: &TcpListener,
    epoll: &OwnedFd,
    table: &mut Vec<Option<Connection>>,
) -> Result<()> {
    let edges = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
    loop {
        match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => {
                let place = usize::try_from(socket.as_raw_fd())?;
                if table.len() <= place {
                    table.resize_with(place + 1, || None);
                }
                epoll::add(epoll, &socket, EventData::new_u64(place as u64), edges)?;
                table[place] = Some(Connection::new(socket));
            }
            Err(Errno::AGAIN) => return Ok(()),
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => return Err(error).context("cannot accept"),
        }
    }
}

fn main() -> Result<()> {
    let options = ServerOptions::from_command_line()?;
    let listener = listening::listening_socket(options.address)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut table: Vec<Option<Connection>> = Vec::new();
    let mut buffer = vec![0; SHARED_BUFFER];
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for events"),
        }
        for event in &events {
            let data = event.data.u64();
            if data == LISTENER {
                accept_all(&listener, &epoll, &mut table)?;
                continue;
            }
            let place = usize::try_from(data)?;
            let Some(connection) = table.get_mut(place).and_then(Option::as_mut) else { continue };
            let flags = event.flags;
            let hung_up = flags.intersects(EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP);
            let idle = !hung_up && !flags.contains(EventFlags::IN) && connection.owed.is_empty();
            if !idle && connection.turn(&mut buffer, hung_up).is_err() {
                table[place] = None;
            }
        }
    }
}
