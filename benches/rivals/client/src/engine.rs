//! Engine: moves the bytes of many peers without ever sleeping.
//!
//! Above: the load modes. Below: epoll or io_uring.
//! Absent: no schedule: it sends what peers have queued. Bound: the peers it was made with.

use crate::clock::Clock;
use crate::meter::Meter;
use crate::peer::Peer;
use anyhow::Result;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// Bytes that are read in one call.
pub(crate) const READ_MAX: usize = 256 * 1024;
const EVENTS: usize = 1024;

/// Moves bytes for peers that stay in their places.
pub(crate) trait Engine {
    /// Begins to send what a peer has queued.
    ///
    /// # Errors
    /// The engine broke; what goes wrong on a connection is counted in [`Engine::failures`].
    fn send(&mut self, index: usize, peer: &mut Peer) -> Result<()>;

    /// Takes what has arrived and goes on with sends; returns at once if nothing happened.
    ///
    /// # Errors
    /// The engine broke.
    fn pass(&mut self, peers: &mut [Peer], meters: &mut [Meter], clock: Clock) -> Result<()>;

    /// What went wrong on connections, each of which is left alone since.
    fn failures(&self) -> &Failures;
}

/// How many connections failed, and why the first did.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    pub(crate) count: u64,
    pub(crate) first: Option<String>,
}

impl Failures {
    /// Counts a connection that failed.
    pub(crate) fn add(&mut self, error: &anyhow::Error) {
        self.count += 1;
        self.first.get_or_insert_with(|| format!("{error:#}"));
    }

    /// Counts a failure of a peer, which takes part no more.
    pub(crate) fn check(&mut self, peer: &mut Peer, result: Result<()>) {
        if let Err(error) = result {
            peer.failed = true;
            self.add(&error);
        }
    }
}

/// An edge-triggered epoll instance and its events.
pub(crate) struct Events {
    epoll: OwnedFd,
    events: Vec<Event>,
}

/// What one socket reported.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) index: usize,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

impl Events {
    pub(crate) fn new() -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS) })
    }

    /// Watches a peer's socket until that is closed.
    pub(crate) fn add(&self, index: usize, peer: &Peer) -> Result<()> {
        let edges = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(&self.epoll, &peer.socket, EventData::new_u64(index as u64), edges)?;
        Ok(())
    }

    /// What happened since the last call; waits no longer than `timeout` for it.
    pub(crate) fn take(&mut self, timeout: Timespec) -> Result<impl Iterator<Item = Ready>> {
        self.events.clear();
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, spare, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let reading = EventFlags::IN | EventFlags::ERR | EventFlags::HUP;
        Ok(self.events.iter().map(move |&event| {
            let (flags, data) = (event.flags, event.data);
            Ready {
                index: data.u64() as usize,
                readable: flags.intersects(reading),
                writable: flags.contains(EventFlags::OUT),
            }
        }))
    }
}

/// Returns at once.
pub(crate) const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// The engine on epoll.
pub(crate) struct EpollEngine {
    events: Events,
    buffer: Vec<u8>,
    failures: Failures,
}

impl EpollEngine {
    pub(crate) fn new(peers: &[Peer]) -> Result<Self> {
        let events = Events::new()?;
        for (index, peer) in peers.iter().enumerate() {
            events.add(index, peer)?;
        }
        Ok(Self { events, buffer: vec![0; READ_MAX], failures: Failures::default() })
    }
}

impl Engine for EpollEngine {
    fn send(&mut self, _index: usize, peer: &mut Peer) -> Result<()> {
        if !peer.failed {
            let written = peer.write();
            self.failures.check(peer, written);
        }
        Ok(())
    }

    fn pass(&mut self, peers: &mut [Peer], meters: &mut [Meter], clock: Clock) -> Result<()> {
        for ready in self.events.take(NO_WAIT)? {
            let peer = &mut peers[ready.index];
            if peer.failed {
                continue;
            }
            let mut result = Ok(());
            if ready.readable {
                result = peer.read(&mut self.buffer, clock, &mut meters[peer.class]);
            }
            if ready.writable && result.is_ok() {
                result = peer.write();
            }
            self.failures.check(peer, result);
        }
        Ok(())
    }

    fn failures(&self) -> &Failures {
        &self.failures
    }
}
