//! Inspection: what can be seen of connections only with the driver at hand: their Paths, their own
//! ends and, by those, to which Association an accepted one belongs.
//!
//! Above: the accessors of Carriers and Associations ask by a letter to their own core, so that an
//! inspection never takes place inside a call. Below: the driver's measurements, the core's table.
//! Absent: what messages need; a server whose connections nobody asks about pays nothing for it.

use std::any::TypeId;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Shard;
use super::connection::{Connection, Peer, Phase};
use super::core::{CallError, Core, Id, TICKET_SLOT};
use super::mail::Mail;
use crate::association::{Key, Measurement, Path};
use crate::engine::driver::Driver;
use crate::engine::operation::{PathSample, Token};

/// What waits for an inspection; `None`: there is none, the mailbox is full.
pub(crate) type Inspector = Box<dyn FnOnce(Option<&Inspection<'_>>) + Send>;

/// A look at a core and its driver.
pub(crate) struct Inspection<'a> {
    pub(crate) core: &'a Rc<Core>,
    driver: &'a Driver,
}

impl Core {
    /// Has `inspector` called as soon as the core reads its mail.
    pub(crate) fn inspect(&self, inspector: Inspector) {
        if let Err(Mail::Inspect(inspector)) = self.handle.post(Mail::Inspect(inspector)) {
            inspector(None);
        }
    }

    /// A connection just allocated belongs to the Association with `key`.
    pub(crate) fn associate(&self, id: Id, key: Arc<Key>) {
        let key = self.state.borrow_mut().associations.enter(key);
        let associated = self.change(id, |connection| {
            connection.rare().association = Some(key);
        });
        debug_assert!(associated.is_ok(), "a slot just allocated");
    }
}

impl Inspection<'_> {
    /// How long the connection of a Carrier has been there, and its Path as of now; `None` while
    /// it has none.
    pub(crate) fn path(&self, id: Id) -> Option<(Duration, Path)> {
        let id = self.core.resolve(id);
        let now = self.core.now_ms();
        let look = |connection: &Connection| {
            let since_ms = now.wrapping_sub(connection.clocks.opened);
            let is_there = connection.phase == Phase::Open && !connection.is_lost();
            is_there.then_some((since_ms, connection.peer))
        };
        let (since_ms, peer) = self.core.look(id, look).ok()??;
        let path = Path::fresh(self.measure(id, peer));
        Some((Duration::from_millis(since_ms.into()), path))
    }

    fn measure(&self, id: Id, peer: Peer) -> Measurement {
        let sample = self.driver.path(token(id)).unwrap_or_default();
        let Peer::Ip(remote) = peer else { return measurement(&sample, None, None) };
        let look = |connection: &Connection| {
            let has_hub = connection.hub().is_some();
            (self.local_address(id, connection), connection.flags.datagrams, has_hub)
        };
        let (local, is_datagrams, has_hub) = self.core.look(id, look).unwrap_or_default();
        let mut measured = measurement(&sample, local, Some(remote));
        if is_datagrams {
            measured.payload_bytes_max = match has_hub {
                true => Some(self.core.datagram_bytes_max(remote, usize::MAX)),
                false => self.driver.datagram_bytes_max(token(id)),
            };
        }
        measured
    }

    /// Its own end: that of its Listener's socket if it has none, with the address that its peer
    /// sends to, where that socket has several.
    fn local_address(&self, id: Id, connection: &Connection) -> Option<SocketAddr> {
        let mut local = self.driver.local_address(token(connection.hub().unwrap_or(id)))?;
        let asked = connection.rare.as_ref().and_then(|rare| rare.to?.local);
        if let Some(ip) = asked {
            local.set_ip(ip);
        }
        Some(local)
    }

    /// The Association of a Carrier; `None` if it was to be initiated to no address at all.
    ///
    /// # Errors
    /// Gone, also where an accepted one ended before anybody asked.
    pub(crate) fn association(&self, id: Id) -> Result<Option<Arc<Key>>, CallError> {
        let id = self.core.resolve(id);
        let (known, accepted, reason) = self.core.look(id, |connection| {
            let known = connection.association().cloned();
            (known, connection.flags.accepted, connection.reason)
        })?;
        if known.is_some() || !accepted {
            return Ok(known);
        }
        let Some(key) = self.core.look(id, |connection| self.key_of(id, connection))? else {
            return Err(CallError::Gone(reason.unwrap_or(crate::CloseReason::Finished)));
        };
        self.core.associate(id, key.into());
        self.core.look(id, |connection| connection.association().cloned())
    }

    /// The key of an accepted connection.
    fn key_of(&self, id: Id, connection: &Connection) -> Option<Key> {
        let framer = framer_of(connection)?;
        match connection.peer {
            _ if !connection.attached && connection.hub().is_none() => None,
            Peer::Ip(peer) => {
                let local = self.local_address(id, connection);
                Some(Key::accepted(peer.ip(), local, framer))
            }
            Peer::Unix | Peer::Anybody | Peer::Unknown => {
                Some(Key::nameless(id.slot, id.generation, framer))
            }
        }
    }

    /// True if the connection belongs to the Association with `key`.
    fn belongs(&self, id: Id, connection: &Connection, key: &Key) -> bool {
        if let Some(known) = connection.association() {
            return **known == *key;
        }
        // Asked of the driver only where all else fits.
        let Peer::Ip(peer) = connection.peer else { return false };
        let fits = |framer| key.is_host(peer.ip(), framer);
        connection.flags.accepted
            && framer_of(connection).is_some_and(fits)
            && self.key_of(id, connection).as_ref() == Some(key)
    }

    /// The Carriers of an Association that have a connection, under the names they are known by.
    pub(crate) fn connected(&self, key: &Key) -> Vec<Id> {
        let state = self.core.state.borrow();
        let open = state.slots.iter().enumerate().filter(|(_, slot)| slot.phase == Phase::Open);
        let ids = open.filter_map(|(at, slot)| {
            let id = self.core.id(at as u32, slot.generation);
            let ticket = slot.rare.as_ref().map_or(0, |rare| rare.ticket);
            let name = Id { slot: TICKET_SLOT, generation: ticket, ..id };
            self.belongs(id, slot, key).then_some(if ticket == 0 { id } else { name })
        });
        ids.collect()
    }

    /// The Paths that an Association remembers, those in use measured anew.
    pub(crate) fn paths(&self, key: &Key) -> Vec<Path> {
        for id in self.connected(key) {
            self.note(self.core.resolve(id), key);
        }
        self.core.state.borrow().associations.paths(key, self.core.now_tick())
    }

    fn note(&self, id: Id, key: &Key) {
        let Ok(peer) = self.core.look(id, |connection| connection.peer) else { return };
        let measured = self.measure(id, peer);
        let now_ms = self.core.now_tick();
        self.core.state.borrow_mut().associations.note(key, measured, now_ms);
    }

    /// The Association that shall hear of the Path of a connection that is about to close.
    fn heir(&self, id: Id) -> Option<Arc<Key>> {
        let has_accepted = self.core.state.borrow().associations.has_accepted();
        let look = |connection: &Connection| {
            let known = connection.association().cloned();
            let asked_about = known.is_none() && connection.flags.accepted && has_accepted;
            known.or_else(|| asked_about.then(|| self.key_of(id, connection).map(Arc::new))?)
        };
        self.core.look(id, look).ok()?
    }
}

impl Shard {
    fn inspection(&self) -> Inspection<'_> {
        Inspection { core: &self.core, driver: &self.driver }
    }

    pub(super) fn inspect(&self, inspector: Inspector) {
        self.core.guard(|| inspector(Some(&self.inspection())));
    }

    /// What is known of the Path of a connection is known only as long as the socket is there.
    pub(super) fn note_path(&self, id: Id) {
        let inspection = self.inspection();
        if let Some(key) = inspection.heir(id) {
            inspection.note(id, &key);
        }
    }
}

fn token(id: Id) -> Token {
    Token { slot: id.slot, generation: id.generation }
}

fn framer_of(connection: &Connection) -> Option<TypeId> {
    connection.protocol.as_ref().map(|protocol| protocol.framer())
}

fn measurement(
    sample: &PathSample,
    local: Option<SocketAddr>,
    peer: Option<SocketAddr>,
) -> Measurement {
    // The kernel says 0, or all ones, of what it has not measured.
    let measured = |us: u32| (us > 0 && us < u32::MAX).then_some(us);
    let is_known = sample.payload_bytes_max > 0;
    Measurement {
        local,
        peer,
        round_trip_us: measured(sample.rtt_us),
        round_trip_min_us: measured(sample.rtt_min_us),
        loss_ppm: is_known.then_some(sample.loss_ppm),
        rate_bytes_per_s: sample.rate_bytes_per_s,
        payload_bytes_max: is_known.then_some(sample.payload_bytes_max),
    }
}
