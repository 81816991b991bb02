//! Outcome: what became of a Message that was sent (draft §2.2, §3.2: sent, acked, expired).
//!
//! Above: Receipts and callbacks report it. Below: scheduler and stack decide it. Absent: how it
//! is waited for.

use crate::error::CloseReason;

/// What became of a sent Message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// All its bytes were handed to the stack for transmission (draft: `Sent`).
    Sent,
    /// The peer has it, in the sense that [`Supports::acked`](crate::Supports::acked) names.
    Acked,
    /// It expired, and why; none of its bytes were sent unless the stack could cut it short.
    Expired(Expiry),
    /// The Carrier ended before it left.
    Failed(CloseReason),
    /// The connection was lost when it had left in part or in whole: nobody here can know.
    MayHaveArrived,
    /// The stack cannot tell.
    Unsupported,
}

/// Why a Message expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expiry {
    /// Its lifetime was over before it could be begun.
    Deadline,
    /// It could not have arrived in time any more: what was ahead of it, the path's rate and its
    /// delay exceed what was left of its lifetime.
    Hopeless,
    /// A Message it was to follow expired or failed: its number.
    Antecedent(u64),
}

impl Outcome {
    /// True if the Message left this host, as far as is known.
    #[must_use]
    pub const fn has_left(self) -> bool {
        matches!(self, Self::Sent | Self::Acked)
    }
}
