//! Marking: what the path wrote on the packet that a received Message came in (RFC 2474, RFC 3168).
//!
//! Above: handlers ask a received Message for it. Below: drivers read it beside a datagram.
//! Absent: what to do about congestion; byte streams, where no Message has a packet of its own.

/// The traffic class and the congestion signal of one packet, as it arrived (RFC 9622 §9.3.3.1
/// counts the ECN among what is received with a Message).
///
/// ```
/// use postring::{Ecn, Message};
/// fn backs_off(message: &Message<'_>) -> bool {
///     message.marking().is_some_and(|marking| marking.ecn() == Ecn::CongestionExperienced)
/// }
/// assert!(!backs_off(&Message::from("made here, not received")));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Marking(u8);

/// What a packet says of congestion on its path (RFC 3168 §5, RFC 9331 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[doc(alias = "MessageECN")]
pub enum Ecn {
    /// Its sender does not react to marks, so nobody marks it (Not-ECT).
    NotCapable,
    /// Its sender reacts at once and a little to each mark, as L4S does (ECT(1)).
    CapableL4s,
    /// Its sender reacts to a mark as to a loss (ECT(0)).
    Capable,
    /// A queue on its path has begun to build up (CE).
    CongestionExperienced,
}

impl Marking {
    /// From the octet of the header: DSCP in the upper six bits, ECN in the lower two.
    pub(crate) const fn from_octet(octet: u8) -> Self {
        Self(octet)
    }

    /// The DSCP code point, 0 to 63 (RFC 2474 §3).
    #[must_use]
    pub const fn traffic_class(self) -> u8 {
        self.0 >> 2
    }

    /// The congestion signal.
    #[must_use]
    pub const fn ecn(self) -> Ecn {
        match self.0 & 0b11 {
            0b00 => Ecn::NotCapable,
            0b01 => Ecn::CapableL4s,
            0b10 => Ecn::Capable,
            _ => Ecn::CongestionExperienced,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_octet_is_a_code_point_and_a_signal() {
        let read = |octet| (Marking::from_octet(octet).traffic_class(), Marking(octet).ecn());
        assert_eq!(read(0), (0, Ecn::NotCapable));
        assert_eq!(read(46 << 2 | 1), (46, Ecn::CapableL4s));
        assert_eq!(read(8 << 2 | 2), (8, Ecn::Capable));
        assert_eq!(read(0xff), (63, Ecn::CongestionExperienced));
    }
}
