//! Marking: what the path wrote on the packet that a received Message came in (RFC 2474, RFC 3168),
//! and when this host got it.
//!
//! Above: handlers ask a received Message for it. Below: drivers read it beside a datagram.
//! Absent: what to do about congestion; byte streams, where no Message has a packet of its own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
// Packed, so that a Message does not grow by more than it holds.
#[repr(Rust, packed)]
pub struct Marking {
    octet: u8,
    is_timed: bool,
    /// Nanoseconds since the Unix epoch.
    arrived_ns: u64,
}

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
        Self { octet, is_timed: false, arrived_ns: 0 }
    }

    /// The same of a packet that came so long after the Unix epoch, if that is known.
    pub(crate) const fn at(self, arrived_ns: Option<u64>) -> Self {
        match arrived_ns {
            Some(arrived_ns) => Self { is_timed: true, arrived_ns, ..self },
            None => self,
        }
    }

    /// The DSCP code point, 0 to 63 (RFC 2474 §3).
    #[must_use]
    pub const fn traffic_class(self) -> u8 {
        self.octet >> 2
    }

    /// The congestion signal.
    #[must_use]
    pub const fn ecn(self) -> Ecn {
        match self.octet & 0b11 {
            0b00 => Ecn::NotCapable,
            0b01 => Ecn::CapableL4s,
            0b10 => Ecn::Capable,
            _ => Ecn::CongestionExperienced,
        }
    }

    /// When this host's kernel took the packet from its device, by the host's clock of the time of
    /// day, which may be set; `None` unless the engine asks for it
    /// ([`EngineBuilder::arrival_times`](crate::EngineBuilder::arrival_times)). Datagrams that the
    /// kernel handed over as one train (GRO) have the time of one of them.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// # use postring::Message;
    /// /// How long a Message waited in this host before its handler was called.
    /// fn waited(message: &Message<'_>) -> Option<Duration> {
    ///     SystemTime::now().duration_since(message.marking()?.arrived()?).ok()
    /// }
    /// # assert_eq!(waited(&Message::from("made here")), None);
    /// ```
    #[must_use]
    pub fn arrived(self) -> Option<SystemTime> {
        self.is_timed.then(|| UNIX_EPOCH + Duration::from_nanos(self.arrived_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_octet_is_a_code_point_and_a_signal() {
        let read = |octet| {
            let marking = Marking::from_octet(octet);
            (marking.traffic_class(), marking.ecn())
        };
        assert_eq!(read(0), (0, Ecn::NotCapable));
        assert_eq!(read(46 << 2 | 1), (46, Ecn::CapableL4s));
        assert_eq!(read(8 << 2 | 2), (8, Ecn::Capable));
        assert_eq!(read(0xff), (63, Ecn::CongestionExperienced));
    }

    #[test]
    fn a_time_is_one_only_if_it_is_known() {
        let marking = Marking::from_octet(9);
        assert_eq!((marking.arrived(), marking.at(None).arrived()), (None, None));
        assert_eq!(marking.at(Some(0)).arrived(), Some(UNIX_EPOCH));
        let latest = marking.at(Some(u64::MAX));
        assert_eq!(latest.arrived(), Some(UNIX_EPOCH + Duration::from_nanos(u64::MAX)));
        assert_eq!((latest.traffic_class(), latest.ecn()), (2, Ecn::CapableL4s));
    }

    #[test]
    fn it_is_small_beside_what_it_marks() {
        assert_eq!(size_of::<Option<Marking>>(), 10);
        assert!(size_of::<crate::Message<'_>>() <= 56);
    }
}
