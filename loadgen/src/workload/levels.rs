//! Levels: the Messages of one distribution as classes by size, the shorter the more urgent.
//!
//! Above: the scenario `homa`. Below: `size`. Absent: anything measured. All levels carry equally
//! many bytes, so the most urgent one has by far the most Messages.

use super::class::Draft;
use super::{Sizes, Workload};

impl Workload {
    /// As many levels, 1 to `CLASSES_MAX`; each has the niceness of its number.
    pub(crate) fn of_levels(sizes: &Sizes, levels: usize) -> Self {
        // Several classes are watched, so the mark is in each Message.
        let mean = sizes.mean_bytes(super::MARKED_BYTES);
        let mut cuts = vec![0.0];
        let mut bytes = 0.0;
        for (share, part) in sizes.pieces(super::MARKED_BYTES) {
            bytes += part;
            if cuts.len() < levels && bytes >= mean * cuts.len() as f64 / levels as f64 {
                cuts.push(share);
            }
        }
        cuts.push(1.0);
        let class = |(number, cut): (usize, &[f64])| {
            let mut class = Draft::default().finish(number, cut[1] - cut[0]);
            class.name = format!("level {number}");
            class.sizes = sizes.part(cut[0], cut[1]);
            class.niceness = number as u32;
            class
        };
        Self::of_classes(cuts.windows(2).enumerate().map(class).collect())
    }

    /// One class for each of these sizes in bytes, all different.
    pub(crate) fn of_sizes(sizes: &[u32]) -> Self {
        let class = |(number, bytes): (usize, &u32)| {
            let mut class = Draft::default().finish(number, 1.0 / sizes.len() as f64);
            class.name = format!("{bytes} B");
            class.sizes = Sizes::fixed(*bytes);
            class
        };
        Self::of_classes(sizes.iter().enumerate().map(class).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_carry_equal_bytes_and_are_cut_by_size() {
        let none = |_: &str| Err("no files".to_owned());
        for name in ["homa-w1", "homa-w3", "homa-w5", "exponential:1000", "1400"] {
            let sizes = Sizes::parse(name, &none).expect(name);
            let workload = Workload::of_levels(&sizes, 8);
            assert_eq!(workload.classes.len(), 8, "{name}");
            let whole = sizes.mean_bytes(super::super::MARKED_BYTES);
            assert!((workload.mean_bytes() / whole - 1.0).abs() < 0.01, "{name}");
            let shares: f64 = workload.classes.iter().map(|class| class.share).sum();
            assert!((shares - 1.0).abs() < 1e-9, "{name}: {shares}");
            for (number, class) in workload.classes.iter().enumerate() {
                let bytes = class.share * class.sizes.mean_bytes(super::super::MARKED_BYTES);
                let off = (bytes * 8.0 / whole - 1.0).abs();
                assert!(off < 0.05, "{name}, level {number}: {off}");
                assert_eq!(class.niceness as usize, number);
            }
            let edges = workload.classes.iter().flat_map(|c| [c.sizes.at(0.0), c.sizes.at(1.0)]);
            assert!(edges.is_sorted(), "{name}");
        }
    }

    #[test]
    fn single_sizes_are_classes_of_their_own() {
        let workload = Workload::of_sizes(&[24, 1_400]);
        let names: Vec<_> = workload.classes.iter().map(|class| class.name.as_str()).collect();
        assert_eq!(names, ["24 B", "1400 B"]);
        assert!((workload.mean_bytes() - 712.0).abs() < 1e-6);
    }
}
