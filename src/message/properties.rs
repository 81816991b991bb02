//! Properties: what a sender asks for one Message beyond its content (draft §2.2).
//!
//! Above: the application sets them on a Message, or beside a typed one. Below: the scheduler
//! orders by niceness, lifetime and antecedents; a stack honours what it can
//! ([`Supports`](crate::Supports) says what that is). Absent: when and how it is sent.
//! Bounds: [`ANTECEDENTS_MAX`] antecedents, [`SPECIFICS_MAX`] protocol-specific properties.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;

use super::identity::MessageId;

/// The most antecedents of one Message.
pub const ANTECEDENTS_MAX: usize = 16;
/// The most protocol-specific properties of one Message.
pub const SPECIFICS_MAX: usize = 32;

/// What a sender asks for one Message. The default: most urgent class, no deadline, no
/// antecedents, reliable, in order (draft §3).
///
/// ```
/// use postring::Properties;
/// use std::time::Duration;
/// let properties = Properties::new().niceness(2).lifetime(Duration::from_millis(200));
/// assert_eq!(properties.niceness_or_default(), 2);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Properties {
    pub(crate) niceness: u32,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) antecedents: Vec<MessageId>,
    pub(crate) flags: Asked,
    pub(crate) specifics: Vec<(Cow<'static, str>, Bytes)>,
    pub(crate) total_len: Option<u64>,
}

/// The yes-or-no properties.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) idempotent: bool,
    pub(crate) immediate: bool,
    pub(crate) unreliable: bool,
    pub(crate) unordered: bool,
}

impl Properties {
    /// The default properties.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The class, 0 being the most urgent: a Message of class n yields to every ready one of
    /// class n - 1 on the same Carrier (draft §2.2, Niceness). The default is 0.
    #[doc(alias = "msgPriority")]
    #[must_use]
    pub fn niceness(self, niceness: u32) -> Self {
        Self { niceness, ..self }
    }

    /// How long the Message is of use, from now until the remote application has it; it is
    /// discarded as soon as that cannot be met (draft §2.2, Lifetime). Earlier deadlines go first
    /// within a class. Zero expires at once; lifetimes beyond 100 years are no limit.
    #[doc(alias = "msgLifetime")]
    #[must_use]
    pub fn lifetime(self, lifetime: Duration) -> Self {
        Self { lifetime: Some(lifetime), ..self }
    }

    /// Messages that must be delivered before this one; if one of them expires, so does this one
    /// (draft §2.2, Antecedents; §4.2). At most [`ANTECEDENTS_MAX`]; more fail the send.
    #[must_use]
    pub fn after<M: Into<MessageId>>(mut self, antecedents: impl IntoIterator<Item = M>) -> Self {
        // One beyond the limit is kept, so that the send can say so; an endless iterator ends.
        let room = (ANTECEDENTS_MAX + 1).saturating_sub(self.antecedents.len());
        self.antecedents.extend(antecedents.into_iter().take(room).map(Into::into));
        self
    }

    /// The Message may arrive more than once: it may be sent again on a new connection and in
    /// 0-RTT data (draft §2.2, Idempotence).
    #[doc(alias = "safelyReplayable")]
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.flags.idempotent = true;
        self
    }

    /// The Message is not held back to share a packet with others (draft §2.2, Immediacy).
    #[must_use]
    pub fn immediate(mut self) -> Self {
        self.flags.immediate = true;
        self
    }

    /// The Message need not be sent again when it is lost. A reliable stack may deliver it anyhow.
    #[doc(alias = "msgReliable")]
    #[must_use]
    pub fn unreliable(mut self) -> Self {
        self.flags.unreliable = true;
        self
    }

    /// The Message need not arrive in order. An ordered stack delivers it in order anyhow.
    #[doc(alias = "msgOrdered")]
    #[must_use]
    pub fn unordered(mut self) -> Self {
        self.flags.unordered = true;
        self
    }

    /// A protocol-specific property; a framer or stack that knows `key` acts on it, others do not
    /// see it. At most [`SPECIFICS_MAX`]; further ones fail the send.
    #[must_use]
    pub fn with(mut self, key: impl Into<Cow<'static, str>>, value: impl Into<Bytes>) -> Self {
        if self.specifics.len() <= SPECIFICS_MAX {
            self.specifics.push((key.into(), value.into()));
        }
        self
    }

    /// The length in bytes of the whole Message that this part begins; see
    /// [`Message::partial_of`](crate::Message::partial_of).
    #[must_use]
    pub fn total_len(self, total_len: u64) -> Self {
        Self { total_len: Some(total_len), ..self }
    }

    /// The class; 0 if none was set.
    #[must_use]
    pub const fn niceness_or_default(&self) -> u32 {
        self.niceness
    }

    /// The lifetime, if one was set.
    #[must_use]
    pub const fn lifetime_if_set(&self) -> Option<Duration> {
        self.lifetime
    }

    /// The antecedents.
    #[must_use]
    pub fn antecedents(&self) -> &[MessageId] {
        &self.antecedents
    }

    /// Whether it may arrive more than once.
    #[must_use]
    pub const fn is_idempotent(&self) -> bool {
        self.flags.idempotent
    }

    /// Whether it shall not be held back.
    #[must_use]
    pub const fn is_immediate(&self) -> bool {
        self.flags.immediate
    }

    /// Whether it need not be sent again when lost.
    #[must_use]
    pub const fn is_unreliable(&self) -> bool {
        self.flags.unreliable
    }

    /// Whether it may arrive out of order.
    #[must_use]
    pub const fn is_unordered(&self) -> bool {
        self.flags.unordered
    }

    /// The length in bytes of the whole Message, if it was stated with its first part.
    #[must_use]
    pub const fn total_len_if_set(&self) -> Option<u64> {
        self.total_len
    }

    /// The protocol-specific property named `key`, if it was set or received.
    #[must_use]
    pub fn specific(&self, key: &str) -> Option<&Bytes> {
        self.specifics.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// All protocol-specific properties, in the order they were set.
    pub fn specifics(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.specifics.iter().map(|(key, value)| (key.as_ref(), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_what_the_draft_says() {
        let properties = Properties::new();
        assert_eq!(properties.niceness_or_default(), 0);
        assert_eq!(properties.lifetime_if_set(), None);
        assert!(properties.antecedents().is_empty());
        assert_eq!(properties.flags, Asked::default());
    }

    #[test]
    fn specifics_are_found_by_key_and_end_at_their_limit() {
        let many = (0..100).fold(Properties::new(), |properties, at| {
            properties.with(format!("key-{at}"), vec![at as u8])
        });
        assert_eq!(many.specific("key-3"), Some(&Bytes::from(vec![3])));
        assert_eq!(many.specifics().count(), SPECIFICS_MAX + 1);
    }
}
