//! Random: numbers that look random and are the same for the same seed, on every machine.
//!
//! Above: the simulated world and tests. Below: nothing. Absent: entropy; anything secret.

/// A sequence of numbers that follows from its seed (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `end - 1`; 0 if `end` is 0.
    pub(crate) const fn below(&mut self, end: usize) -> usize {
        let number = self.number();
        // The bias of the remainder is far below what a test could notice.
        if end == 0 { 0 } else { (number % end as u64) as usize }
    }

    /// True in `percent` of 100 cases.
    pub(crate) const fn chance(&mut self, percent: u8) -> bool {
        self.below(100) < percent as usize
    }

    /// A share from 0.0 to less than 1.0.
    pub(crate) const fn share(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Puts `items` in another order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_in_bounds() {
        let (mut one, mut two) = (Random::new(7), Random::new(7));
        let mut hit = [false; 10];
        for _ in 0..200 {
            let number = one.below(10);
            assert_eq!(number, two.below(10));
            hit[number] = true;
        }
        assert!(hit.iter().all(|&hit| hit));
        assert_ne!(Random::new(8).number(), Random::new(7).number());
        assert_eq!(one.below(0), 0);
        assert!(!one.chance(0) && one.chance(100));
        let shares: Vec<f64> = (0..200).map(|_| one.share()).collect();
        assert!(shares.iter().all(|share| (0.0..1.0).contains(share)));
        assert!((90.0..110.0).contains(&shares.iter().sum::<f64>()));
    }

    #[test]
    fn shuffling_keeps_every_item() {
        let mut items: Vec<usize> = (0..50).collect();
        Random::new(1).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
