//! Target: datagrams of any lengths to any peers. Property: every datagram leaves once, whole, in
//! order and to its peer; a train is what a kernel can segment; a second batch behind a first one
//! makes no difference to what leaves.
//!
//! Above: `TARGETS`. Below: `postring::bench::Datagrams`. Absent: sockets.

use postring::bench::{Datagrams, TrainShown};

/// The kernel's bounds of a train.
const DATAGRAMS_MAX: usize = 64;
const BYTES_MAX: usize = 65_507;
/// Datagrams of one input.
const ALL_MAX: usize = 300;

/// Byte 0: how many datagrams are of the first batch. Then three bytes each: the length (16 bits,
/// big-endian, 14 of them used) and the port; the top bits of the length repeat the datagram.
///
/// # Panics
/// If the property does not hold.
pub fn trains(input: &[u8]) {
    let Some((&first, rest)) = input.split_first() else { return };
    let mut wanted: Vec<(usize, u16)> = Vec::new();
    for &[high, low, port] in rest.as_chunks().0 {
        let len = usize::from(u16::from_be_bytes([high & 0x3f, low]));
        let times = [1, 2, 17, 70][usize::from(high >> 6)];
        wanted.extend(std::iter::repeat_n((len, u16::from(port & 3) + 1), times));
    }
    wanted.truncate(ALL_MAX);
    let (mut all, mut behind) = (Datagrams::default(), Datagrams::default());
    let content = vec![0; 1 << 14];
    for (at, (len, port)) in wanted.iter().enumerate() {
        let batch = if at < usize::from(first) { &mut all } else { &mut behind };
        batch.put(&content[..*len], *port);
    }
    all.append(behind);
    let mut left = Vec::new();
    let mut at = 0;
    for train in all.trains() {
        can_be_segmented(&train);
        for range in &train.datagrams {
            assert_eq!(range.start, at, "a gap or an overlap");
            at = range.end;
            left.push((range.len(), train.port));
        }
    }
    assert_eq!(left, wanted);
    let bytes: usize = wanted.iter().map(|(len, _)| len).sum();
    assert_eq!(all.split(), (wanted.len(), bytes));
    assert_eq!(all.trains(), []);
}

fn can_be_segmented(train: &TrainShown) {
    let lens: Vec<_> = train.datagrams.iter().map(ExactSizeIterator::len).collect();
    let Some((last, whole)) = lens.split_last() else { panic!("a train of nothing") };
    assert_eq!(train.segment.is_some(), !whole.is_empty(), "one datagram is no train");
    if let Some(segment) = train.segment.map(usize::from) {
        assert!(lens.len() <= DATAGRAMS_MAX && lens.iter().sum::<usize>() <= BYTES_MAX);
        assert!(whole.iter().all(|len| *len == segment));
        assert!((1..=segment).contains(last));
    }
}
