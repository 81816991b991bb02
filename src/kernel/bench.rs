//! Private: the buffer pool and the control messages as benchmarks and fuzz targets reach them
//! (feature `__bench`).
//!
//! Above: `crate::bench`. Below: `memory`, `control`. Absent: rings; nothing here is posted to
//! a kernel.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::{control, memory};
use crate::engine::bell::EventBell;
use crate::lending::Lender;

/// A pool of receive buffers without a ring.
pub struct Pool(Rc<memory::Pool>);

impl Pool {
    /// Buffers of this many bytes, up to 64 MiB of them.
    ///
    /// # Errors
    /// If no descriptor is free.
    pub fn new(buffer_len: usize) -> io::Result<Self> {
        let bell = EventBell::new()?;
        Ok(Self(memory::Pool::new(buffer_len, 64 << 20, 16, bell, Arc::default())))
    }

    /// A spare buffer.
    #[must_use]
    pub fn take(&self) -> Option<u16> {
        self.0.take()
    }

    /// Gives a held buffer back.
    pub fn give(&self, index: u16) {
        self.0.give(index);
    }

    /// Owned bytes in a held buffer, which is given back by its owner.
    #[must_use]
    pub fn lease(&self, index: u16, len: usize) -> Option<Bytes> {
        self.0.lease(u32::from(index), len)
    }

    /// Takes back what was leased.
    pub fn collect(&self) {
        self.0.collect();
    }
}

/// What [`read_control`] found beside a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// From whom it came, if the name is one of IP.
    pub from: Option<SocketAddr>,
    /// The address it came to and may be answered from.
    pub local: Option<IpAddr>,
    /// Bytes of each datagram of a train but the last one.
    pub segment: Option<u16>,
    /// The traffic class; the lower two bits tell of congestion.
    pub traffic_class: u8,
    /// Datagrams the kernel dropped on the socket so far.
    pub dropped: u32,
    /// It was longer than the buffer.
    pub truncated: bool,
}

/// Reads a name and control messages as those of a receive; `flags` are the kernel's.
#[must_use]
pub fn read_control(name: &[u8], messages: &[u8], flags: i32) -> Beside {
    let arrival = control::read(name, messages, flags);
    Beside {
        from: arrival.from.map(|route| route.remote),
        local: arrival.from.and_then(|route| route.local),
        segment: arrival.segment,
        traffic_class: arrival.traffic_class,
        dropped: arrival.dropped,
        truncated: arrival.truncated,
    }
}

/// Reads a name and control messages as those of the error queue: to whom the datagram went that
/// came to grief, the system's error number, and the longest one its path carries, if that is said.
#[must_use]
pub fn read_peer_error(name: &[u8], messages: &[u8]) -> Option<(SocketAddr, i32, Option<u32>)> {
    let error = control::read_error(name, messages)?;
    Some((error.remote, error.errno.0, error.bytes_max))
}

/// Control messages of a train that leaves, written over and over.
pub struct Sayings(control::Control);

impl Default for Sayings {
    fn default() -> Self {
        Self(control::Control::empty())
    }
}

impl Sayings {
    /// Says where a train goes from and how long each of its datagrams is; the bytes of it.
    pub fn say(
        &mut self,
        local: Option<IpAddr>,
        remote_is_v6: bool,
        segment: Option<u16>,
    ) -> &[u8] {
        self.0.say(local, remote_is_v6, segment, None);
        self.0.bytes()
    }
}

/// A socket address as the kernel reads it.
#[must_use]
pub fn name_of(address: SocketAddr) -> Vec<u8> {
    let mut name = [0; control::NAME_BYTES];
    let len = control::put_name(address, &mut name);
    name[..len].to_vec()
}
