//! Remotes: which Carrier belongs to whom on a socket of datagrams that serves each sender apart.
//!
//! Above: `datagrams` asks for every train that comes. Below: plain data. Absent: sockets, time.
//! Bounds: as many as its core may have connections; when there is no room for one more, the one
//! that was heard of least recently, as far as a few looks tell, makes way. Of those that did, no
//! more than the hub allows are remembered.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;

use super::core::Id;

/// Looks that are taken for one that makes way.
const LOOKS: usize = 8;
/// How long the application has to let go of one that made way before another does, in
/// milliseconds.
const HELD_MS: u32 = 1000;

/// The Carriers of one socket, by remote address.
#[derive(Default)]
pub(crate) struct Remotes {
    carriers: HashMap<SocketAddr, Id>,
    /// In the order in which they were looked at, with when they had been heard of by then.
    order: VecDeque<(SocketAddr, Id, u32)>,
    /// Those that had to make way and may still be held, the last one behind.
    evicted: Vec<Id>,
    /// When it did, or when they were found too many since.
    looked_ms: u32,
    /// Those that wait for room in the socket's queue.
    waiting: Vec<Id>,
    /// Those whose Messages lie in the socket's queue.
    aboard: Vec<Id>,
    /// Those whose Messages are in the send that is under way.
    leaving: Vec<Id>,
}

impl Remotes {
    pub(super) fn find(&self, remote: SocketAddr) -> Option<Id> {
        self.carriers.get(&remote).copied()
    }

    pub(super) fn add(&mut self, remote: SocketAddr, id: Id, now_ms: u32) {
        self.carriers.insert(remote, id);
        self.order.push_back((remote, id, now_ms));
    }

    /// Forgets the Carrier to `remote`, if it is this one.
    pub(super) fn remove(&mut self, remote: SocketAddr, id: Id) {
        if self.carriers.get(&remote) == Some(&id) {
            self.carriers.remove(&remote);
        }
        // What is left in `order` is found out to be gone, at the latest when half of it is.
        if self.order.len() > 64 && self.order.len() > 2 * self.carriers.len() {
            let carriers = &self.carriers;
            self.order.retain(|(remote, id, _)| carriers.get(remote) == Some(id));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.carriers.is_empty()
    }

    /// True if one more may have to make way: those before it were let go of, or the last one was
    /// not for a good while, and no more than `held_max` of them are still in use. When they are
    /// too many, they are counted only once in that while: forged addresses ask for every packet.
    pub(super) fn may_evict(
        &mut self,
        now_ms: u32,
        held_max: usize,
        in_use: impl Fn(Id) -> bool,
    ) -> bool {
        while self.evicted.pop_if(|last| !in_use(*last)).is_some() {}
        if self.evicted.is_empty() {
            return true;
        }
        if now_ms.wrapping_sub(self.looked_ms) < HELD_MS {
            return false;
        }
        self.evicted.retain(|id| in_use(*id));
        let may = self.evicted.len() < held_max;
        if !may {
            self.looked_ms = now_ms;
        }
        may
    }

    /// One that was heard of no more since it was looked at last: `heard` says when that was. It
    /// makes way at `now_ms`.
    pub(super) fn idlest(&mut self, now_ms: u32, heard: impl Fn(Id) -> Option<u32>) -> Option<Id> {
        for _ in 0..LOOKS {
            let (remote, id, before) = self.order.pop_front()?;
            match heard(id).filter(|_| self.carriers.get(&remote) == Some(&id)) {
                None => {}
                Some(now) if now == before => {
                    self.evicted.push(id);
                    self.looked_ms = now_ms;
                    return Some(id);
                }
                Some(now) => self.order.push_back((remote, id, now)),
            }
        }
        None
    }

    pub(super) fn wait(&mut self, id: Id) {
        // Those that are over are found when half of them may be.
        if self.waiting.len() > 64 && self.waiting.len() > 2 * self.carriers.len() {
            let living: HashSet<Id> = self.carriers.values().copied().collect();
            self.waiting.retain(|id| living.contains(id));
        }
        self.waiting.push(id);
    }

    pub(super) fn take_waiting(&mut self) -> Vec<Id> {
        std::mem::take(&mut self.waiting)
    }

    /// Messages of a Carrier have come into the socket's queue.
    pub(super) fn board(&mut self, id: Id) {
        self.aboard.push(id);
    }

    /// What lies in the socket's queue is being sent.
    pub(super) fn depart(&mut self) {
        std::mem::swap(&mut self.aboard, &mut self.leaving);
    }

    /// That send is over: whose Messages were in it.
    pub(super) fn take_leaving(&mut self) -> Vec<Id> {
        std::mem::take(&mut self.leaving)
    }

    /// Takes the memory of that list back, for the next one.
    pub(super) fn reuse(&mut self, mut list: Vec<Id>) {
        list.clear();
        if self.leaving.is_empty() {
            self.leaving = list;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: u32) -> Id {
        Id { unit: 1, slot, generation: 1 }
    }

    fn remote(port: u32) -> SocketAddr {
        ([127, 0, 0, 1], port as u16).into()
    }

    #[test]
    fn who_was_not_heard_of_makes_way() {
        let mut remotes = Remotes::default();
        (1..4).for_each(|slot| remotes.add(remote(slot), id(slot), 10));
        // The first one spoke since.
        let heard = |one: Id| Some(if one.slot == 1 { 20 } else { 10 });
        assert_eq!(remotes.idlest(50, heard), Some(id(2)));
        remotes.remove(remote(2), id(2));
        assert_eq!(remotes.find(remote(2)), None);
        assert_eq!(remotes.idlest(50, heard), Some(id(3)));
        remotes.remove(remote(3), id(3));
        assert_eq!(remotes.idlest(50, heard), Some(id(1)), "quiet since it was looked at");
        assert_eq!(remotes.idlest(50, heard), None);
    }

    #[test]
    fn who_is_held_on_to_makes_room_for_others_after_a_while() {
        let mut remotes = Remotes::default();
        (1..5).for_each(|slot| remotes.add(remote(slot), id(slot), 10));
        let heard = |_| Some(10);
        assert!(remotes.may_evict(5, 2, |_| true), "nobody has made way yet");
        assert_eq!(remotes.idlest(5000, heard), Some(id(1)));
        assert!(remotes.may_evict(5000, 2, |_| false), "it was let go of");
        assert_eq!(remotes.idlest(5000, heard), Some(id(2)));
        assert!(!remotes.may_evict(5999, 2, |_| true), "it may still be");
        assert!(remotes.may_evict(6000, 2, |_| true), "it was forgotten");
        assert_eq!(remotes.idlest(6000, heard), Some(id(3)));
        assert!(!remotes.may_evict(9000, 2, |_| true), "too many are held");
        let looks = std::cell::Cell::new(0);
        let all_held = |_| {
            looks.set(looks.get() + 1);
            true
        };
        assert!(!remotes.may_evict(9999, 2, all_held), "looked at just now");
        assert_eq!(looks.get(), 1, "only the last one again");
        assert!(remotes.may_evict(10_000, 2, |one| one == id(3)));
        assert_eq!(remotes.evicted, [id(3)]);
        remotes.evicted.insert(0, id(2));
        assert!(remotes.may_evict(11_000, 2, |one| one == id(2)), "the last one went");
        assert_eq!(remotes.evicted, [id(2)]);
    }

    #[test]
    fn a_million_that_come_and_go_leave_nothing() {
        let mut remotes = Remotes::default();
        for slot in 0..1_000_000_u32 {
            let address = SocketAddr::from(([127, 0, (slot >> 16) as u8, 1], slot as u16));
            remotes.add(address, id(slot), slot);
            remotes.wait(id(slot));
            remotes.remove(address, id(slot));
        }
        assert!(remotes.is_empty() && remotes.order.len() <= 64);
        assert!(remotes.waiting.len() <= 65, "nor do those that waited for room");
    }
}
