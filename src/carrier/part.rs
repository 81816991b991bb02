//! Part: a received Message, or a part of one that is received in parts (draft §2.2).
//!
//! Above: `receive_partial` and `ready_partial`. Below: the inbox numbers what the framer found.
//! Absent: bytes.

use std::ops::Deref;

/// A whole Message or one part of it, as [`receive_partial`](crate::CarrierRef::receive_partial)
/// gives it: the content, which Message it belongs to, and whether that is now complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<M> {
    pub(super) message: M,
    pub(super) handle: u64,
    pub(super) complete: bool,
}

impl<M> Part<M> {
    /// Which Message it is a part of: the same number for all parts of one, the next for the
    /// next, from 1 in the order of arrival on this Carrier.
    #[must_use]
    pub const fn handle(&self) -> u64 {
        self.handle
    }

    /// True if the Message is complete with this part.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// The content alone.
    #[must_use]
    pub fn into_message(self) -> M {
        self.message
    }
}

impl<M> Deref for Part<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.message
    }
}

/// What a receive asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// A Message as the framer delimits it.
    Whole,
    /// At least `min` bytes of content, unless a Message is complete with fewer; at most `max`.
    Part { min: usize, max: usize },
}
