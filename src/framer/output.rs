//! Output: the bytes of Messages on their way to the kernel, large payloads by reference.
//!
//! Above: framers append to it, the shard keeps one per connection with bytes to send. Below: a
//! driver sends its segments. Absent: no I/O; a limit on its length is the caller's to keep.

use bytes::Bytes;

use super::train::Train;
use crate::address::Route;
use crate::lending;
use crate::message::Message;

/// Payloads below this many bytes are copied behind the bytes before them, larger ones sent from
/// where they lie (`manual::decisions`, D4).
const SHARE_BYTES_MIN: usize = 8192;

/// Where a [`Framer`](crate::Framer) writes the bytes of a Message.
#[derive(Default)]
pub struct Output {
    copied: Vec<u8>,
    shared: Vec<Shared>,
    /// Bytes of the shared payloads.
    shared_len: usize,
    /// Its datagrams, on a stack that has them.
    trains: Vec<Train>,
}

/// A payload that follows the first `after` copied bytes.
struct Shared {
    after: usize,
    bytes: Bytes,
}

/// A point to go back to when an encode fails half way.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    copied: usize,
    shared: usize,
    shared_len: usize,
}

impl Output {
    /// Appends a copy of `bytes`.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.copied.extend_from_slice(bytes);
    }

    /// Appends a length field and the content of `message`, as `put` and `put_message` do.
    #[inline]
    pub(super) fn put_framed(&mut self, field: [u8; 4], message: &Message<'_>) {
        let bytes = message.bytes();
        if bytes.len() < SHARE_BYTES_MIN {
            self.copied.reserve(field.len() + bytes.len());
            self.put(&field);
            return self.put(bytes);
        }
        self.put(&field);
        self.put_large(message);
    }

    /// Appends the content of `message`, without a copy if it is large and its buffer can be
    /// shared.
    #[inline]
    pub fn put_message(&mut self, message: &Message<'_>) {
        let bytes = message.bytes();
        if bytes.len() < SHARE_BYTES_MIN {
            return self.put(bytes);
        }
        self.put_large(message);
    }

    fn put_large(&mut self, message: &Message<'_>) {
        let bytes = message.bytes();
        match message.owned() {
            Some(owned) => self.put_shared(owned.clone()),
            None => match lending::share(bytes, SHARE_BYTES_MIN) {
                Some(shared) => self.put_shared(shared),
                None => self.put(bytes),
            },
        }
    }

    /// Appends `bytes`, by reference if they are many.
    pub fn put_bytes(&mut self, bytes: Bytes) {
        if bytes.len() < SHARE_BYTES_MIN { self.put(&bytes) } else { self.put_shared(bytes) }
    }

    /// Writes `bytes` over those that were put `back` bytes ago. Only copied bytes may lie between.
    #[cfg(feature = "postcard")]
    pub(super) fn put_over(&mut self, back: usize, bytes: &[u8]) {
        let from = self.copied.len() - back;
        self.copied[from..from + bytes.len()].copy_from_slice(bytes);
    }

    fn put_shared(&mut self, bytes: Bytes) {
        self.shared_len += bytes.len();
        self.shared.push(Shared { after: self.copied.len(), bytes });
    }

    /// What was put since the last datagram is one more, to `to`; its packet carries the DSCP code
    /// point `traffic_class`, or that of its socket.
    pub(crate) fn end_datagram(&mut self, to: Option<Route>, traffic_class: Option<u8>) {
        let until = self.len();
        let last = self.trains.last_mut();
        let taken = last.is_some_and(|train| train.takes(until, to, traffic_class));
        if !taken {
            self.trains.push(Train::one(self.datagram_begin()..until, to, traffic_class));
        }
    }

    /// What it takes up while it waits: its bytes, and what is kept of each train, so that
    /// datagrams of no bytes count, too.
    #[inline]
    pub(crate) fn held_bytes(&self) -> usize {
        self.len() + self.trains.len() * size_of::<Train>()
    }

    /// Where the datagram that is being put begins.
    pub(crate) fn datagram_begin(&self) -> usize {
        self.trains.last().map_or(0, |train| train.range().end)
    }

    /// Its datagrams, on a stack that has them.
    pub(crate) fn trains(&self) -> &[Train] {
        &self.trains
    }

    /// Moves the bytes of `other` behind those that are there; it is empty then.
    pub(crate) fn append(&mut self, other: &mut Self) {
        let so_far = self.len();
        for train in other.trains.drain(..) {
            let first = train.datagrams().next().map_or(0, |range| range.len());
            let is_one = train.segment().is_none();
            let until = so_far + train.range().start + first;
            let joins = is_one
                && self
                    .trains
                    .last_mut()
                    .is_some_and(|last| last.takes(until, train.to(), train.traffic_class()));
            if !joins {
                self.trains.push(train.moved(so_far));
            }
        }
        let before = self.copied.len();
        self.copied.append(&mut other.copied);
        let moved = other.shared.drain(..);
        self.shared.extend(moved.map(|shared| Shared { after: shared.after + before, ..shared }));
        self.shared_len += std::mem::take(&mut other.shared_len);
    }

    /// Appends the bytes of `range` to `into`; what is shared is shared again.
    pub(crate) fn copy_into(&self, range: std::ops::Range<usize>, into: &mut Self) {
        let mut at = 0;
        let mut from = 0;
        let mut within = |len: usize| {
            let start = range.start.clamp(at, at + len) - at;
            let end = range.end.clamp(at, at + len) - at;
            at += len;
            start..end.max(start)
        };
        for shared in &self.shared {
            let copied = &self.copied[from..shared.after];
            from = shared.after;
            into.put(&copied[within(copied.len())]);
            into.put_bytes(shared.bytes.slice(within(shared.bytes.len())));
        }
        let copied = &self.copied[from..];
        into.put(&copied[within(copied.len())]);
    }

    /// As long as an output whose bytes lie elsewhere.
    #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
    pub(crate) fn ghost(len: usize) -> Self {
        Self { shared_len: len, ..Self::default() }
    }

    /// How many bytes are in it.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.copied.len() + self.shared_len
    }

    /// True if nothing was put.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.trains.is_empty()
    }

    /// All the bytes in one piece, copied: what the peer will see. For the tests of a framer.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.segments(0).flatten().copied().collect()
    }

    pub(crate) fn mark(&self) -> Mark {
        let (copied, shared) = (self.copied.len(), self.shared.len());
        Mark { copied, shared, shared_len: self.shared_len }
    }

    /// Forgets everything put since `mark`.
    pub(crate) fn rewind(&mut self, mark: Mark) {
        self.copied.truncate(mark.copied);
        self.shared.truncate(mark.shared);
        self.shared_len = mark.shared_len;
    }

    /// Forgets a datagram that was begun and not ended.
    pub(crate) fn forget_begun(&mut self) {
        let until = self.datagram_begin();
        while self.len() > until {
            let behind_shared = self.shared.last().map_or(0, |shared| shared.after);
            if self.copied.len() > behind_shared {
                let more = (self.copied.len() - behind_shared).min(self.len() - until);
                self.copied.truncate(self.copied.len() - more);
            } else if let Some(shared) = self.shared.pop() {
                // No payload belongs to two datagrams.
                self.shared_len -= shared.bytes.len();
            }
        }
    }

    /// Empties it and gives back memory above `capacity_max` bytes; what remains is used again.
    pub(crate) fn reset(&mut self, capacity_max: usize) {
        self.copied.clear();
        if self.copied.capacity() > capacity_max {
            self.copied = Vec::new();
        }
        self.shared_len = 0;
        self.trains.clear();
        // Last: the drop of a shared payload is user code, which may panic.
        self.shared.clear();
    }

    /// True if all bytes are in one piece.
    #[inline]
    pub(crate) fn is_contiguous(&self) -> bool {
        self.shared.is_empty()
    }

    /// All bytes without the first `skip`, if they are in one piece.
    #[inline]
    pub(crate) fn contiguous(&self, skip: usize) -> Option<&[u8]> {
        self.shared.is_empty().then(|| self.copied.get(skip..).unwrap_or_default())
    }

    /// The pieces of `range` in order.
    pub(crate) fn pieces(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = &[u8]> {
        let mut left = range.len();
        self.segments(range.start).map_while(move |piece| {
            let piece = &piece[..piece.len().min(left)];
            left -= piece.len();
            (!piece.is_empty()).then_some(piece)
        })
    }

    /// The pieces in order, without the first `skip` bytes; empty pieces are left out.
    pub(crate) fn segments(&self, skip: usize) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        let copied_then_shared = self.shared.iter().flat_map(move |shared| {
            let before = &self.copied[from..shared.after];
            from = shared.after;
            [before, &shared.bytes[..]]
        });
        let last = self.shared.last().map_or(0, |shared| shared.after);
        let mut skip = skip;
        copied_then_shared.chain(std::iter::once(&self.copied[last..])).filter_map(move |piece| {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            let rest = &piece[skipped..];
            (!rest.is_empty()).then_some(rest)
        })
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(output: &Output, skip: usize) -> Vec<u8> {
        output.segments(skip).flatten().copied().collect()
    }

    struct Bomb([u8; SHARE_BYTES_MIN]);

    impl AsRef<[u8]> for Bomb {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    #[test]
    fn an_output_is_empty_after_a_payload_that_panicked() {
        let mut output = Output::default();
        output.put(b"before");
        output.put_bytes(Bytes::from_owner(Bomb([1; SHARE_BYTES_MIN])));
        let reset = std::panic::AssertUnwindSafe(|| output.reset(0));
        assert!(std::panic::catch_unwind(reset).is_err());
        assert_eq!((output.len(), output.is_contiguous()), (0, true));
    }

    #[test]
    fn what_was_begun_is_forgotten_and_nothing_else() {
        let mut output = Output::default();
        let large = Bytes::from(vec![7; SHARE_BYTES_MIN]);
        output.forget_begun();
        assert!(output.is_empty());
        for _ in 0..2 {
            output.put(b"head");
            output.put_bytes(large.clone());
            output.put(b"tail");
            output.end_datagram(None, None);
            let whole = output.to_vec();
            for pieces in 0..4 {
                [&b"a"[..], &large, b"b"].iter().take(pieces).for_each(|piece| {
                    output.put_bytes(Bytes::copy_from_slice(piece));
                });
                output.forget_begun();
                assert!(output.to_vec() == whole, "{pieces}");
                assert_eq!(output.len(), whole.len());
            }
        }
    }

    #[test]
    fn segments_are_the_bytes_in_order_from_any_point() {
        let large = Bytes::from(vec![7; SHARE_BYTES_MIN]);
        let mut output = Output::default();
        let mut expected = Vec::new();
        for round in 0..3u8 {
            output.put(&[round, 1, 2]);
            output.put_message(&Message::from(large.clone()));
            expected.extend([round, 1, 2]);
            expected.extend_from_slice(&large);
        }
        output.put(b"end");
        expected.extend_from_slice(b"end");
        assert_eq!(output.len(), expected.len());
        for skip in [0, 1, 2, 3, 4, 8000, 8195, 8196, expected.len() - 1, expected.len()] {
            assert_eq!(joined(&output, skip), expected[skip..], "skip {skip}");
        }
    }

    #[test]
    fn small_payloads_are_copied_and_large_ones_shared() {
        for (len, is_copied) in [(1, true), (SHARE_BYTES_MIN - 1, true), (SHARE_BYTES_MIN, false)] {
            let bytes = Bytes::from(vec![7; len]);
            let mut output = Output::default();
            output.put_message(&Message::from(bytes.clone()));
            assert_eq!(output.is_contiguous(), is_copied, "put_message of {len} bytes");
            let mut output = Output::default();
            output.put_bytes(bytes);
            assert_eq!(output.is_contiguous(), is_copied, "put_bytes of {len} bytes");
        }
    }

    #[test]
    fn an_emptied_output_keeps_memory_up_to_the_bound() {
        let mut output = Output::default();
        assert!(output.is_empty());
        output.put(&[7; 100]);
        output.put_bytes(Bytes::from(vec![7; SHARE_BYTES_MIN]));
        assert!(!output.is_empty() && format!("{output:?}").contains("8292"));
        let capacity = output.copied.capacity();
        output.reset(capacity);
        assert!(output.is_empty() && output.is_contiguous() && joined(&output, 0).is_empty());
        assert_eq!(output.copied.capacity(), capacity, "the bound itself is kept");
        output.reset(capacity - 1);
        assert_eq!(output.copied.capacity(), 0);
    }

    #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
    #[test]
    fn a_ghost_has_a_length_and_no_bytes() {
        let ghost = Output::ghost(9);
        assert_eq!((ghost.len(), ghost.is_empty(), joined(&ghost, 0).len()), (9, false, 0));
    }

    #[test]
    fn any_range_can_be_copied() {
        let large = Bytes::from((0..20_000_u32).map(|at| at as u8).collect::<Vec<_>>());
        let mut output = Output::default();
        output.put(b"head");
        output.put_bytes(large);
        output.put(b"tail");
        let whole = joined(&output, 0);
        for (from, to) in
            [(0, whole.len()), (2, 3), (3, 9000), (5000, usize::MAX), (20_006, 20_008)]
        {
            let mut copy = Output::default();
            output.copy_into(from..to, &mut copy);
            let expected = &whole[from..to.min(whole.len())];
            assert_eq!((joined(&copy, 0).as_slice(), copy.len()), (expected, expected.len()));
        }
        let mut copy = Output::default();
        output.copy_into(30_000..40_000, &mut copy);
        assert!(copy.is_empty());
    }

    #[test]
    fn a_failed_message_leaves_nothing_behind() {
        let mut output = Output::default();
        output.put(b"whole");
        let mark = output.mark();
        output.put(b"half");
        output.put_bytes(Bytes::from(vec![0; 2 * SHARE_BYTES_MIN]));
        output.rewind(mark);
        assert_eq!(joined(&output, 0), b"whole");
        assert_eq!(output.len(), 5);
    }
}
