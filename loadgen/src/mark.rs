//! The mark: what a message carries, so that its echo can be told from others.
//!
//! Above: `recorder` stamps and reads its own; the embedded server reads the niceness, so that an
//! answer goes back in the class of its question. Below: nothing. Absent: trust: whatever bytes
//! come, they are a number or none. Layout, little-endian: number (8), intended time (8), and if
//! messages are watched: niceness (4), `MARK` (4).

/// From this payload size on, a message carries its number and its intended time.
pub(crate) const STAMP_BYTES: usize = 16;
/// Says that a niceness stands before it.
const MARK: [u8; 4] = *b"PrLg";

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

/// The niceness a payload carries; 0 without a mark.
pub(crate) fn niceness(payload: &[u8]) -> u32 {
    let tail = payload.get(STAMP_BYTES..STAMP_BYTES + 8);
    let marked = tail.filter(|tail| tail[4..] == MARK).and_then(|tail| tail.first_chunk());
    marked.map_or(0, |niceness| u32::from_le_bytes(*niceness))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stamped_is_read_again() {
        let mut payload = [7; 30];
        stamp(&mut payload, 5, 9, Some(3));
        assert_eq!((number(&payload), niceness(&payload), payload[24]), (Some(5), 3, 7));
        stamp(&mut payload[..23], 6, 9, Some(2));
        assert_eq!((number(&payload[..23]), niceness(&payload[..23])), (Some(6), 0));
    }

    #[test]
    fn foreign_bytes_carry_no_class() {
        let mut short = [1; 15];
        stamp(&mut short, 5, 9, Some(3));
        assert_eq!((short, number(&short), niceness(&short)), ([1; 15], None, 0));
        assert_eq!((number(&[1; 64]), niceness(&[1; 64])), (Some(0x0101_0101_0101_0101), 0));
        let mut plain = [0; 64];
        stamp(&mut plain, 5, 9, None);
        assert_eq!(niceness(&plain), 0);
    }
}
