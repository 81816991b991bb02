//! Ledger: what became of every Message, in messages and bytes, so that the sums close.
//!
//! Above: `Scheduler` writes it; no metric reads it yet, tests hold its sums. Below:
//! nothing. Absent: single Messages.

use crate::message::Expiry;

/// Messages and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// How many.
    pub(crate) messages: u64,
    /// The sum of their lengths, however much of it was handed over.
    pub(crate) bytes: u64,
}

impl Tally {
    pub(super) const fn count(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }
}

/// What a scheduler has done since it was made. `submitted` is always the sum of the outcomes
/// and of what is still queued.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// Accepted by `submit`.
    pub(crate) submitted: Tally,
    /// Outcome: finished.
    pub(crate) sent: Tally,
    /// Outcome: expired at its deadline.
    pub(crate) expired_deadline: Tally,
    /// Outcome: expired because it could not have arrived in time.
    pub(crate) expired_hopeless: Tally,
    /// Outcome: expired because an antecedent failed.
    pub(crate) expired_antecedent: Tally,
    /// Outcome: withdrawn by the owner.
    pub(crate) withdrawn: Tally,
    /// Outcome: left when the owner drained the queue.
    pub(crate) drained: Tally,
    /// Refused by `submit`; no part of `submitted`.
    pub(crate) refused: u64,
    /// Bytes handed over.
    pub(crate) handed_bytes: u64,
    /// Bytes handed over in vain: of messages that were begun and did not end as sent, and of
    /// messages that were still being handed over at their deadline.
    pub(crate) wasted_bytes: u64,
}

impl Ledger {
    pub(super) const fn hand_over(&mut self, bytes: usize) {
        self.handed_bytes = self.handed_bytes.saturating_add(bytes as u64);
    }

    pub(super) const fn waste(&mut self, bytes: usize) {
        self.wasted_bytes = self.wasted_bytes.saturating_add(bytes as u64);
    }

    pub(super) const fn expiry(&mut self, why: Expiry) -> &mut Tally {
        match why {
            Expiry::Deadline => &mut self.expired_deadline,
            Expiry::Hopeless => &mut self.expired_hopeless,
            Expiry::Antecedent(_) => &mut self.expired_antecedent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Tally {
        const fn plus(self, other: Self) -> Self {
            let bytes = self.bytes.saturating_add(other.bytes);
            Self { messages: self.messages + other.messages, bytes }
        }
    }

    impl Ledger {
        /// All that expired, whatever the reason.
        pub(in super::super) const fn expired(&self) -> Tally {
            self.expired_deadline.plus(self.expired_hopeless).plus(self.expired_antecedent)
        }

        /// All that have their outcome.
        pub(in super::super) const fn settled(&self) -> Tally {
            self.sent.plus(self.expired()).plus(self.withdrawn).plus(self.drained)
        }
    }
}
