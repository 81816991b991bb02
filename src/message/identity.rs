//! Identity: which Message is meant, without holding it (draft §4.2: a sent Message is known by a
//! number).
//!
//! Above: Receipts carry it, antecedents name it. Absent: content, outcome.

/// One Message that a Carrier has accepted: small, `Copy`, usable on any thread. Made by sending:
/// [`Receipt::message`](crate::Receipt::message).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageId {
    pub(crate) unit: u32,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    pub(crate) number: u64,
}

impl MessageId {
    /// The Message's number on its Carrier, in the order of sending, from 1.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.number
    }

    pub(crate) const fn is_of(self, unit: u32, slot: u32, generation: u32) -> bool {
        self.unit == unit && self.slot == slot && self.generation == generation
    }
}
