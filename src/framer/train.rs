//! Trains: where the datagrams in an output end, and which of them leave in one system call.
//!
//! Above: `Output` on a stack of datagrams. Below: nothing. A train is a row of datagrams to one
//! peer, all of one length but the last, which may be shorter: what the kernel can segment (GSO).
//! Absent: sockets. Bounds: `TRAIN_DATAGRAMS_MAX` and `TRAIN_BYTES_MAX` a train.

use std::ops::Range;

use crate::address::Route;

/// Datagrams of one train; kernels before 6.9 segment no more.
pub(crate) const TRAIN_DATAGRAMS_MAX: usize = 64;
/// Bytes of one train: with its headers it must fit into an IP packet's length field.
pub(crate) const TRAIN_BYTES_MAX: usize = 65_000;

/// Datagrams in a row that leave together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Train {
    /// Where it begins and ends among the bytes of the output.
    from: usize,
    until: usize,
    /// Bytes of every datagram but the last one.
    segment: usize,
    datagrams: usize,
    /// Nowhere in particular: the socket is connected.
    to: Option<Route>,
    /// The DSCP code point of its packets, if it is not the socket's own.
    traffic_class: Option<u8>,
}

impl Train {
    /// One datagram.
    pub(super) const fn one(
        range: Range<usize>,
        to: Option<Route>,
        traffic_class: Option<u8>,
    ) -> Self {
        let (from, until) = (range.start, range.end);
        Self { from, until, segment: until - from, datagrams: 1, to, traffic_class }
    }

    /// Takes the datagram that follows in the output in; false if it has to leave apart.
    pub(super) fn takes(
        &mut self,
        until: usize,
        to: Option<Route>,
        traffic_class: Option<u8>,
    ) -> bool {
        let len = until - self.until;
        let is_whole = self.until - self.from == self.segment * self.datagrams;
        let alike = to == self.to && traffic_class == self.traffic_class;
        let fits = is_whole && len > 0 && len <= self.segment && alike;
        let room = self.datagrams < TRAIN_DATAGRAMS_MAX && until - self.from <= TRAIN_BYTES_MAX;
        if fits && room {
            self.until = until;
            self.datagrams += 1;
        }
        fits && room
    }

    /// The same train, `by` bytes later in the output.
    pub(super) const fn moved(self, by: usize) -> Self {
        Self { from: self.from + by, until: self.until + by, ..self }
    }

    /// Where its bytes lie in the output.
    pub(crate) const fn range(&self) -> Range<usize> {
        self.from..self.until
    }

    /// Bytes of every datagram but the last one; `None` if there is one only.
    pub(crate) fn segment(&self) -> Option<u16> {
        (self.datagrams > 1).then(|| u16::try_from(self.segment).unwrap_or(u16::MAX))
    }

    /// To whom, unless the socket is connected.
    pub(crate) const fn to(&self) -> Option<Route> {
        self.to
    }

    /// The DSCP code point of its packets, unless the socket's own is meant.
    pub(crate) const fn traffic_class(&self) -> Option<u8> {
        self.traffic_class
    }

    /// Its datagrams, each as a train of one.
    pub(crate) fn split(&self) -> impl Iterator<Item = Self> + use<> {
        let (to, traffic_class) = (self.to, self.traffic_class);
        self.datagrams().map(move |range| Self::one(range, to, traffic_class))
    }

    /// Where each of its datagrams lies in the output.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let Self { from, until, segment, datagrams, .. } = *self;
        (0..datagrams).map(move |at| from + at * segment..(from + (at + 1) * segment).min(until))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Output;
    use super::*;

    fn to(port: u16) -> Option<Route> {
        Some(Route { remote: ([127, 0, 0, 1], port).into(), local: None })
    }

    fn trains(lens: &[(usize, u16)]) -> Vec<(usize, Option<u16>, usize)> {
        let mut output = Output::default();
        for (len, port) in lens {
            output.put(&vec![7; *len]);
            output.end_datagram(to(*port), None);
        }
        let count = |train: &Train| train.datagrams().count();
        output
            .trains()
            .iter()
            .map(|train| (train.range().len(), train.segment(), count(train)))
            .collect()
    }

    #[test]
    fn datagrams_of_one_length_to_one_peer_leave_together() {
        assert_eq!(trains(&[(10, 1), (10, 1), (10, 1)]), [(30, Some(10), 3)]);
        assert_eq!(trains(&[(10, 1), (4, 1), (4, 1)]), [(14, Some(10), 2), (4, None, 1)]);
        assert_eq!(trains(&[(10, 1), (11, 1)]), [(10, None, 1), (11, None, 1)]);
        assert_eq!(trains(&[(10, 1), (10, 2)]), [(10, None, 1), (10, None, 1)]);
        assert_eq!(trains(&[(0, 1), (0, 1), (9, 1)]), [(0, None, 1), (0, None, 1), (9, None, 1)]);
        assert_eq!(trains(&[(9, 1), (0, 1)]), [(9, None, 1), (0, None, 1)]);
    }

    #[test]
    fn an_output_of_one_empty_datagram_is_not_empty() {
        let mut output = Output::default();
        output.end_datagram(None, None);
        assert_eq!((output.len(), output.is_empty()), (0, false));
        output.reset(0);
        assert!(output.is_empty());
    }

    proptest! {
        #[test]
        fn every_datagram_leaves_once_and_in_order(
            lens in prop::collection::vec((0..3000usize, 0..3u16), 0..200),
            split in 0..200usize,
        ) {
            let mut halves = [Output::default(), Output::default()];
            for (at, (len, port)) in lens.iter().enumerate() {
                let half = &mut halves[usize::from(at >= split)];
                half.put(&vec![at as u8; *len]);
                half.end_datagram(to(*port), None);
            }
            let [mut output, mut rest] = halves;
            output.append(&mut rest);
            prop_assert!(rest.is_empty() && rest.trains().is_empty());
            let bytes = output.to_vec();
            let mut left = Vec::new();
            for train in output.trains() {
                let lens: Vec<_> = train.datagrams().map(|range| range.len()).collect();
                prop_assert!(train.range().len() <= TRAIN_BYTES_MAX);
                prop_assert!(lens.len() <= TRAIN_DATAGRAMS_MAX);
                if let Some(segment) = train.segment() {
                    let (last, whole) = lens.split_last().unwrap();
                    prop_assert!(whole.iter().all(|len| *len == usize::from(segment)));
                    prop_assert!((1..=usize::from(segment)).contains(last));
                }
                for range in train.datagrams() {
                    prop_assert!(bytes[range.clone()].iter().all(|byte| *byte == left.len() as u8));
                    left.push((range.len(), train.to().unwrap().remote.port()));
                }
            }
            prop_assert_eq!(left, lens);
        }
    }
}
