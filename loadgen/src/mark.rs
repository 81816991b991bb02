//! The mark: what a message carries, so that its echo can be told from others.
//!
//! Above: `recorder` stamps and reads its own; the embedded server reads the niceness, so that an
//! answer goes back in the class of its question. Below: nothing. Absent: trust: whatever bytes
//! come, they are a number or none. Layout, little-endian: number (8), intended time (8), and if
//! messages are watched: niceness (4), `MARK` (4). A server in this very process, which has the
//! same clock, answers with the time of arrival in place of the intended one, and `ARRIVED`.

use std::sync::OnceLock;
use std::time::Instant;

/// From this payload size on, a message carries its number and its intended time.
pub(crate) const STAMP_BYTES: usize = 16;
/// Says that a niceness stands before it.
const MARK: [u8; 4] = *b"PrLg";
/// Says that a time of arrival stands at the place of the intended one.
const ARRIVED: [u8; 4] = *b"PrLa";

/// The moment from which this process counts times of arrival.
pub(crate) fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// Notes in a marked payload that it arrived now.
pub(crate) fn arrive(payload: &mut [u8]) {
    let arrived_ns = epoch().elapsed().as_nanos() as u64;
    if let Some(head) = payload.first_chunk_mut::<24>() {
        head[8..16].copy_from_slice(&arrived_ns.to_le_bytes());
        head[20..].copy_from_slice(&ARRIVED);
    }
}

/// When a payload arrived at the server, in nanoseconds since `epoch`, if it says so.
pub(crate) fn arrived_ns(payload: &[u8]) -> Option<u64> {
    let head = payload.first_chunk::<24>().filter(|head| head[20..] == ARRIVED)?;
    head[8..].first_chunk().map(|time| u64::from_le_bytes(*time))
}

/// Writes what fits into the payload.
pub(crate) fn stamp(payload: &mut [u8], number: u64, intended_ns: u64, niceness: Option<u32>) {
    let Some((head, rest)) = payload.split_first_chunk_mut::<STAMP_BYTES>() else { return };
    head[..8].copy_from_slice(&number.to_le_bytes());
    head[8..].copy_from_slice(&intended_ns.to_le_bytes());
    if let (Some(niceness), Some(tail)) = (niceness, rest.first_chunk_mut::<8>()) {
        tail[..4].copy_from_slice(&niceness.to_le_bytes());
        tail[4..].copy_from_slice(&MARK);
    }
}

/// The number a payload carries; `None` if it is too short for one.
pub(crate) fn number(payload: &[u8]) -> Option<u64> {
    let stamp = payload.first_chunk::<STAMP_BYTES>()?;
    stamp.first_chunk().map(|number| u64::from_le_bytes(*number))
}

/// The niceness a payload carries; `None` without a mark.
pub(crate) fn niceness(payload: &[u8]) -> Option<u32> {
    let tail = payload.get(STAMP_BYTES..STAMP_BYTES + 8);
    let marked = tail.filter(|tail| tail[4..] == MARK).and_then(|tail| tail.first_chunk());
    marked.map(|niceness| u32::from_le_bytes(*niceness))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stamped_is_read_again() {
        let mut payload = [7; 30];
        stamp(&mut payload, 5, 9, Some(3));
        assert_eq!((number(&payload), niceness(&payload), payload[24]), (Some(5), Some(3), 7));
        stamp(&mut payload[..23], 6, 9, Some(2));
        assert_eq!((number(&payload[..23]), niceness(&payload[..23])), (Some(6), None));
    }

    #[test]
    fn an_arrival_takes_the_place_of_the_intended_time() {
        let mut payload = [7; 24];
        stamp(&mut payload, 5, 9, Some(3));
        assert_eq!(arrived_ns(&payload), None);
        let before_ns = epoch().elapsed().as_nanos() as u64;
        arrive(&mut payload);
        let arrived_ns = arrived_ns(&payload).expect("it arrived");
        assert!((before_ns..before_ns + 5_000_000_000).contains(&arrived_ns));
        assert_eq!((number(&payload), niceness(&payload)), (Some(5), None));
    }

    #[test]
    fn foreign_bytes_carry_no_class() {
        let mut short = [1; 15];
        stamp(&mut short, 5, 9, Some(3));
        assert_eq!((short, number(&short), niceness(&short)), ([1; 15], None, None));
        assert_eq!((number(&[1; 64]), niceness(&[1; 64])), (Some(0x0101_0101_0101_0101), None));
        let mut plain = [0; 64];
        stamp(&mut plain, 5, 9, None);
        assert_eq!((niceness(&plain), arrived_ns(&plain)), (None, None));
    }
}
