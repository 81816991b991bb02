//! Network: what the way between two ends of a simulated connection is like.
//!
//! Above: tests choose, `link` and `post` obey. Below: nothing. Absent: congestion control (a line
//! has one rate), headers; a bottleneck that several connections share.

use std::time::Duration;

use crate::engine::operation::DATAGRAM_BYTES_MAX;

/// Bytes that one simulated packet carries at most.
pub(crate) const PACKET_BYTES: usize = 1448;
/// The longest delay or jitter of a way.
const DELAY_MAX: Duration = Duration::from_secs(3600);
/// The largest share of lost packets: TCP gives up long before everything is lost.
const LOSS_MAX: f64 = 0.9;
/// The largest socket buffer.
const BUFFER_BYTES_MAX: usize = 1 << 30;

/// What every connection of a simulated world goes through, each direction by itself.
///
/// The default is a way without delay, loss or limit of rate. Connections behave like TCP: bytes
/// are neither lost nor reordered, so loss and jitter show as time. Datagrams (`udp://`) are lost,
/// doubled, and overtake each other by their jitter. There is no congestion control: a line has one
/// rate, and a packet of 1 448 bytes keeps it busy for as long as that takes.
///
/// ```
/// use std::time::Duration;
/// use postring::testing::Network;
/// let mobile = Network {
///     delay: Duration::from_millis(40),
///     jitter: Duration::from_millis(15),
///     rate_bytes_per_s: Some(250_000),
///     loss: 0.01,
///     ..Network::default()
/// };
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Network {
    /// From one end to the other, 0 (default) to 1 h. A round trip takes twice as long, and so
    /// does a connect.
    pub delay: Duration,
    /// Added to the delay of each packet, evenly from 0 to this; 0 (default) to 1 h. Packets of a
    /// connection wait for those before them, datagrams do not.
    pub jitter: Duration,
    /// Bytes of payload per second, at least 1; `None` (default) is no limit.
    pub rate_bytes_per_s: Option<u64>,
    /// The share of packets that are lost, 0.0 (default) to 0.9. Those of a connection are sent
    /// again after a round trip (at least 1 ms, twice as long each further time); what came after
    /// them waits for them.
    pub loss: f64,
    /// The share of datagrams that come twice, 0.0 (default) to 1.0.
    pub duplication: f64,
    /// The longest datagram, 1 to 65 507 bytes (default). A longer one is an error.
    pub datagram_bytes_max: usize,
    /// Bytes that the sender's socket holds at most beside the receiver's; at most 1 GiB. Default
    /// 256 KiB.
    pub send_buffer_bytes: usize,
    /// Bytes under way or unread at most, 1 byte to 1 GiB: the window. Default 256 KiB. Datagrams
    /// that find no room are dropped.
    pub receive_buffer_bytes: usize,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            rate_bytes_per_s: None,
            loss: 0.0,
            duplication: 0.0,
            datagram_bytes_max: DATAGRAM_BYTES_MAX as usize,
            send_buffer_bytes: 256 << 10,
            receive_buffer_bytes: 256 << 10,
        }
    }
}

impl Network {
    /// Checks every field.
    ///
    /// # Errors
    /// The field that is out of its range, and the range.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let rules = [
            (self.delay <= DELAY_MAX, "Network::delay must be at most 1 h"),
            (self.jitter <= DELAY_MAX, "Network::jitter must be at most 1 h"),
            (self.rate_bytes_per_s != Some(0), "Network::rate_bytes_per_s must be at least 1"),
            ((0.0..=LOSS_MAX).contains(&self.loss), "Network::loss must be 0.0 to 0.9"),
            ((0.0..=1.0).contains(&self.duplication), "Network::duplication must be 0.0 to 1.0"),
            (
                (1..=DATAGRAM_BYTES_MAX as usize).contains(&self.datagram_bytes_max),
                "Network::datagram_bytes_max must be 1 to 65 507 bytes",
            ),
            (
                self.send_buffer_bytes <= BUFFER_BYTES_MAX,
                "Network::send_buffer_bytes must be at most 1 GiB",
            ),
            (
                (1..=BUFFER_BYTES_MAX).contains(&self.receive_buffer_bytes),
                "Network::receive_buffer_bytes must be 1 byte to 1 GiB",
            ),
        ];
        rules.iter().find(|(kept, _)| !kept).map_or(Ok(()), |(_, rule)| Err(rule))
    }

    /// There and back, without jitter and queues.
    pub(crate) fn round_trip(&self) -> Duration {
        self.delay.saturating_mul(2)
    }

    /// How long the line is busy with this many bytes.
    pub(super) fn busy_for(&self, bytes: usize) -> Duration {
        let Some(rate) = self.rate_bytes_per_s else { return Duration::ZERO };
        let ns = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(rate.max(1)));
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }

    /// Bytes that leave at once: without a rate, a delay or a loss packets make no difference.
    pub(super) fn packet_bytes(&self) -> usize {
        let instant = self.rate_bytes_per_s.is_none() && self.delay.is_zero();
        let smooth = self.jitter.is_zero() && self.loss == 0.0;
        if instant && smooth { usize::MAX } else { PACKET_BYTES }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_network_can_be_is_named() {
        assert_eq!(Network::default().check(), Ok(()));
        for (wrong, field) in [
            (Network { delay: Duration::MAX, ..Network::default() }, "delay"),
            (Network { jitter: Duration::MAX, ..Network::default() }, "jitter"),
            (Network { rate_bytes_per_s: Some(0), ..Network::default() }, "rate_bytes_per_s"),
            (Network { loss: 1.0, ..Network::default() }, "loss"),
            (Network { duplication: 1.1, ..Network::default() }, "duplication"),
            (Network { datagram_bytes_max: 0, ..Network::default() }, "datagram_bytes_max"),
            (Network { datagram_bytes_max: 65_508, ..Network::default() }, "datagram_bytes_max"),
            (Network { loss: f64::NAN, ..Network::default() }, "loss"),
            (Network { send_buffer_bytes: usize::MAX, ..Network::default() }, "send_buffer"),
            (Network { receive_buffer_bytes: 0, ..Network::default() }, "receive_buffer_bytes"),
        ] {
            let why = wrong.check().unwrap_err();
            assert!(why.contains(field), "{field}: {why}");
        }
    }

    #[test]
    fn a_rate_keeps_the_line_busy() {
        let slow = Network { rate_bytes_per_s: Some(1000), ..Network::default() };
        assert_eq!(slow.busy_for(1500), Duration::from_millis(1500));
        assert_eq!(Network::default().busy_for(usize::MAX), Duration::ZERO);
        let crawling = Network { rate_bytes_per_s: Some(1), ..Network::default() };
        assert!(crawling.busy_for(usize::MAX) > Duration::from_secs(1 << 30));
    }
}
