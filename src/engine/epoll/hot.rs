//! Hot: what the epoll driver receives into.
//!
//! Above: `entry` reads into it, the shard looks at what came. Below: plain memory. One buffer is
//! for all small messages and stays in the cache; large ones go into a block that a message can
//! share, so that an echo of them copies nothing. Absent: sockets.
//! Bounds: 256 KiB and 128 KiB; a block that messages still share is theirs, and a fresh one takes
//! its place.

use std::sync::Arc;

use bytes::Bytes;

use crate::engine::operation::Data;

const SMALL_BYTES: usize = 256 * 1024;
/// The longest receive into the block that messages can share.
pub(in crate::engine) const LARGE_RECEIVE_BYTES: usize = 128 * 1024;
/// A shorter payload would keep too much of a block from being used again.
const SHARE_BYTES_MIN: usize = LARGE_RECEIVE_BYTES / 4;
/// The numbers of the two in `Data`.
const SMALL: u32 = 0;
const LARGE: u32 = 1;

/// The receive buffers of one core.
pub(super) struct Hot {
    small: Box<[u8]>,
    /// Made when it is first needed.
    large: Arc<Vec<u8>>,
    receive_len_min: usize,
}

/// A block as far as it was filled.
struct Share {
    block: Arc<Vec<u8>>,
    len: usize,
}

impl AsRef<[u8]> for Share {
    fn as_ref(&self) -> &[u8] {
        &self.block[..self.len]
    }
}

impl Hot {
    /// Buffers that never receive less than `receive_len_min` bytes at once.
    pub(super) fn new(receive_len_min: usize) -> Self {
        let receive_len_min = receive_len_min.clamp(1, SMALL_BYTES);
        let small = vec![0; SMALL_BYTES].into_boxed_slice();
        Self { small, large: Arc::default(), receive_len_min }
    }

    /// Where to receive when `credit` bytes may come, and its number.
    #[inline]
    pub(super) fn room(&mut self, credit: usize) -> (&mut [u8], u32) {
        let len = credit.max(self.receive_len_min);
        if (SHARE_BYTES_MIN..=LARGE_RECEIVE_BYTES).contains(&len) {
            return (&mut self.large()[..len], LARGE);
        }
        (&mut self.small[..len.min(SMALL_BYTES)], SMALL)
    }

    /// Where to receive a train of datagrams of up to `len` bytes, and its number.
    pub(super) fn room_for_train(&mut self, len: usize) -> (&mut [u8], u32) {
        (&mut self.small[..len.min(SMALL_BYTES)], SMALL)
    }

    fn large(&mut self) -> &mut [u8] {
        if self.large.is_empty() || Arc::strong_count(&self.large) > 1 {
            self.large = Arc::new(vec![0; LARGE_RECEIVE_BYTES]);
        }
        Arc::get_mut(&mut self.large).expect("nobody else has it, and nobody watches it weakly")
    }

    /// What came when `len` bytes were received into buffer `number`.
    #[inline]
    pub(super) fn filled(number: u32, len: usize) -> Data {
        Data { buffer: number, start: 0, len, leasable: number == LARGE && len >= SHARE_BYTES_MIN }
    }

    #[inline]
    pub(super) fn bytes(&self, data: &Data) -> &[u8] {
        let buffer = if data.buffer == LARGE { &self.large[..] } else { &self.small[..] };
        &buffer[..data.len]
    }

    /// The same by reference count, of a large receive.
    pub(super) fn share(&self, data: &Data) -> Bytes {
        Bytes::from_owner(Share { block: Arc::clone(&self.large), len: data.len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_used_again_unless_a_message_keeps_it() {
        let mut hot = Hot::new(512);
        let (room, number) = hot.room(65_540);
        room.fill(1);
        let (place, data) = (room.as_ptr(), Hot::filled(number, 65_540));
        let kept = hot.share(&data);
        assert_eq!(kept.as_ptr(), place, "no copy");
        let (room, _) = hot.room(65_540);
        room.fill(2);
        assert_ne!(room.as_ptr(), place);
        assert!(kept.iter().all(|byte| *byte == 1), "what a message keeps is not overwritten");
        let place = room.as_ptr();
        drop(hot.share(&data));
        assert_eq!(hot.room(65_540).0.as_ptr(), place, "given back");
    }

    #[test]
    fn small_receives_share_nothing_and_every_credit_has_room() {
        let mut hot = Hot::new(4352);
        for (credit, len) in [(1, 4352), (16 << 10, 16 << 10), (usize::MAX, SMALL_BYTES)] {
            let (room, number) = hot.room(credit);
            assert_eq!(room.len(), len);
            assert!(!Hot::filled(number, len).leasable);
        }
        let (room, number) = hot.room(100_000);
        assert_eq!(room.len(), 100_000);
        assert!(!Hot::filled(number, 100).leasable, "a few bytes are not worth a block");
    }
}
