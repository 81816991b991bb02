//! Event: word of a Carrier's Messages and of its end, as a stream of values (draft §2.2, §3.2).
//!
//! Above: `Events` gives them to the application, one by one. Below: the core makes one of every
//! outcome. Absent: who listens; how they travel.

use super::identity::MessageId;
use super::outcome::{Expiry, Outcome};
use crate::error::CloseReason;

/// One thing that happened on a Carrier. The variants of one Message come in the order in which
/// they stand here, and at most one of the last three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// All bytes of the Message were handed to the stack (draft: `OnSent`).
    Sent(MessageId),
    /// The peer has it, in the sense that [`Supports::acked`](crate::Supports::acked) names
    /// (draft: `OnAcked`).
    Acked(MessageId),
    /// It expired, and why (draft: `OnExpired`).
    Expired(MessageId, Expiry),
    /// The Carrier ended before the Message left.
    Failed(MessageId, CloseReason),
    /// The connection was lost when it had left in part or in whole.
    MayHaveArrived(MessageId),
    /// A Message that [`try_send`](crate::CarrierRef::try_send) or
    /// [`send_msg`](crate::CarrierRef::send_msg) had taken on another thread, or from inside a
    /// call, was refused by its core and never sent. It has no number; the log has the reason.
    Refused,
    /// This many events found the queue of the stream full and are lost
    /// ([`Limits::events`](crate::Limits::events)). Those behind it are younger.
    Missed(u64),
    /// The Carrier has ended, and why; the last event (draft: `OnClosed`). As the first and only
    /// event, with [`CloseReason::Limit`], also: this stream is one too many
    /// ([`CarrierRef::events`](crate::CarrierRef::events)), and the Carrier lives on.
    Closed(CloseReason),
}

impl Event {
    /// The event that an outcome is; none where the stack cannot tell.
    pub(crate) const fn of(message: MessageId, outcome: Outcome) -> Option<Self> {
        match outcome {
            Outcome::Sent => Some(Self::Sent(message)),
            Outcome::Acked => Some(Self::Acked(message)),
            Outcome::Expired(why) => Some(Self::Expired(message, why)),
            Outcome::Failed(reason) => Some(Self::Failed(message, reason)),
            Outcome::MayHaveArrived => Some(Self::MayHaveArrived(message)),
            Outcome::Unsupported => None,
        }
    }

    /// The Message it is about, if it is about one.
    #[must_use]
    pub const fn message(&self) -> Option<MessageId> {
        match self {
            Self::Sent(message)
            | Self::Acked(message)
            | Self::Expired(message, _)
            | Self::Failed(message, _)
            | Self::MayHaveArrived(message) => Some(*message),
            Self::Refused | Self::Missed(_) | Self::Closed(_) => None,
        }
    }
}
