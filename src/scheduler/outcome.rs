//! Outcome: how Messages leave the scheduler, and what that does to those linked to them.
//!
//! Above: `Scheduler`'s verbs. Below: its parts. Absent: when a Message leaves. Nothing here
//! recurses: chains of antecedents are as long as the queue.

use super::slots::{KEPT_SLOTS, Slot, Stage};
use super::{Event, Expiry, Number, Scheduler, turn};

/// Why a Message leaves without being sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Loss {
    /// By itself: there is an event.
    Expired(Expiry),
    /// The owner asked for it and has the payload.
    Withdrawn,
}

impl<T> Scheduler<T> {
    /// Takes out a Message and all that wait for it, each after its antecedent. The payload comes
    /// back if it was withdrawn.
    pub(super) fn lose(&mut self, slot: Slot, loss: Loss) -> Option<T> {
        let mut withdrawn = None;
        self.leaving.push_back((slot, loss));
        while let Some((slot, loss)) = self.leaving.pop_front() {
            let entry = self.slots.at(slot);
            let (number, bytes, begun) = (entry.number, entry.bytes, entry.taken > 0);
            self.ledger.waste(entry.lost_bytes());
            self.doom_successors(slot, number);
            self.settled.fail(number);
            let payload = self.release(slot);
            match loss {
                Loss::Withdrawn => {
                    self.ledger.withdrawn.count(bytes);
                    withdrawn = Some(payload);
                }
                Loss::Expired(why) => {
                    self.ledger.expiry(why).count(bytes);
                    self.event_bytes += bytes;
                    self.events.push_back((bytes, Event::Expired { number, why, begun, payload }));
                }
            }
        }
        self.rank_anew();
        self.give_back();
        withdrawn
    }

    fn doom_successors(&mut self, slot: Slot, number: Number) {
        while let Some(successor) = self.links.pop(slot) {
            let entry = self.slots.at_mut(successor);
            entry.antecedents.retain(|&antecedent| antecedent != slot);
            if entry.stage != Stage::Doomed {
                entry.stage = Stage::Doomed;
                let loss = Loss::Expired(Expiry::Antecedent(number));
                self.leaving.push_back((successor, loss));
            }
        }
    }

    /// Frees the slot of a Message that nobody waits for any more. Those it waited for are
    /// to be ranked anew.
    pub(super) fn release(&mut self, slot: Slot) -> T {
        if self.begun == Some(slot) {
            self.begun = None;
        }
        let entry = self.slots.at(slot);
        // One wholly handed over is in neither.
        if entry.stage != Stage::InHand {
            self.ready.remove(&entry.turn());
            self.deadlines.remove(&entry.expiry());
        }
        for &antecedent in &entry.antecedents {
            self.links.remove(antecedent, entry.rank, slot);
            self.unranked.push((self.slots.at(antecedent).number, antecedent));
        }
        self.queued_bytes -= entry.bytes;
        self.fairness.leave(entry.carrier, &entry.own, entry.bytes, entry.taken);
        self.slots.remove(slot)
    }

    /// Brings ranks up to date, from the latest Message to the earliest: antecedents are earlier
    /// than those that wait for them, so each is looked at when all of these have their rank.
    pub(super) fn rank_anew(&mut self) {
        while let Some((number, slot)) = self.unranked.pop() {
            let entry = self.slots.at(slot);
            // It may have left since.
            if entry.number != number {
                continue;
            }
            let (own, old) = (entry.own, entry.rank);
            let rank = self.links.best(slot).map_or(own, |best| best.min(own));
            if rank == old {
                continue;
            }
            let entry = self.slots.at_mut(slot);
            entry.rank = rank;
            for &antecedent in &entry.antecedents {
                self.links.remove(antecedent, old, slot);
                self.links.insert(antecedent, rank, slot);
            }
            if self.ready.remove(&turn(&old, number)).is_some() {
                self.ready.insert(turn(&rank, number), slot);
            }
            for at in 0..self.slots.at(slot).antecedents.len() {
                let antecedent = self.slots.at(slot).antecedents[at];
                self.unranked.push((self.slots.at(antecedent).number, antecedent));
            }
        }
    }

    /// Takes out everything that is queued, in the order of submission: the end of the stack.
    /// Events stay. What is drained was not sent, for those who name it as an antecedent.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (Number, T)> + use<T> {
        // Latest first: so nobody is left to wait for one that leaves.
        let order = self.slots.latest_first();
        let mut left = Vec::with_capacity(order.len());
        for (number, slot) in order {
            let entry = self.slots.at(slot);
            self.ledger.waste(entry.lost_bytes());
            self.ledger.drained.count(entry.bytes);
            self.settled.fail(number);
            left.push((number, self.release(slot)));
        }
        self.unranked.clear();
        self.give_back();
        left.into_iter().rev()
    }

    /// Gives back the memory of a burst when the last Message has left.
    pub(super) fn give_back(&mut self) {
        if self.slots.shrink() {
            self.unranked.shrink_to(KEPT_SLOTS);
            self.leaving.shrink_to(KEPT_SLOTS);
        }
    }
}
