//! Tables: distributions of sizes given by points of their cumulative curve.
//!
//! Above: `size`. Below: nothing. Absent: reading files (the text is an argument).
//! Bound: `POINTS_MAX` points.

use super::SIZE_MAX;

/// Most points of one table.
const POINTS_MAX: usize = 100_000;
/// Cumulative shares of the published quantiles of the Homa workloads.
const HOMA_SHARES: [f64; 10] = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0];
/// Points drawn between two published quantiles.
const HOMA_STEPS: u32 = 64;

/// Quantiles of the five workloads of the Homa papers (SIGCOMM 2018, ATC 2021), and their mean:
/// what is between the quantiles is filled in, so that the mean comes out.
const HOMA: [(&str, [f64; 10], f64); 5] = [
    ("homa-w1", [8., 8., 8., 27., 203., 503., 804., 1_876., 4_924., 100_000.], 189.),
    ("homa-w2", [8., 8., 43., 269., 394., 512., 931., 3_151., 21_845., 3_529_904.], 442.),
    (
        "homa-w3",
        [36., 36., 85., 268., 469., 1_755., 5_521., 31_013., 356_516., 15_158_197.],
        2_928.,
    ),
    ("homa-w4", [315., 315., 463., 662., 42_493., 120_373., 273_075., 3.43e6, 1e7, 1e7], 127_797.),
    (
        "homa-w5",
        [5_720., 5_720., 23_520., 72_030., 1.47e6, 4.9e6, 1.96e7, 2.74e7, 2.94e7, 2.94e7],
        2_564_690.,
    ),
];

/// Points (size in bytes, cumulative share), both rising, the last share 1; straight between.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Table {
    points: Vec<(f64, f64)>,
    /// Only the sizes of the points occur, none between.
    steps: bool,
}

impl Table {
    /// Parses lines of `size cumulative` (a fraction or per cent, rising to 1 or 100) or of
    /// `size weight`. A first line of one number, `#` and empty lines are passed over.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut points: Vec<(f64, f64)> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let words: Vec<&str> = line.split([' ', '\t', ',']).filter(|w| !w.is_empty()).collect();
            let fault = |what: &str| format!("line {}: {what}", at + 1);
            let number = |word: &str| {
                let number = word.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
                number.ok_or_else(|| fault(&format!("{word:?} is no number from 0 up")))
            };
            match words.as_slice() {
                [] => continue,
                [mean] if points.is_empty() => number(mean).map(|_| ())?,
                [size, share] => {
                    let (size, share) = (number(size)?, number(share)?);
                    if size > f64::from(SIZE_MAX) {
                        return Err(fault("a message has at most 16MiB"));
                    }
                    if points.last().is_some_and(|(before, _)| *before > size) {
                        return Err(fault("the sizes must rise"));
                    }
                    points.push((size, share));
                }
                _ => return Err(fault("write a size and its cumulative share or weight")),
            }
            if points.len() > POINTS_MAX {
                return Err(fault("a table has at most 100 000 points"));
            }
        }
        Self::of(points)
    }

    fn of(mut points: Vec<(f64, f64)>) -> Result<Self, String> {
        let Some(&(_, last)) = points.last() else { return Err("no points in it".to_owned()) };
        let whole = [1.0, 100.0].into_iter().find(|whole| (last / whole - 1.0).abs() < 1e-6);
        let rises = points.is_sorted_by(|one, next| one.1 <= next.1);
        let steps = !(rises && whole.is_some() && points.len() > 1);
        let sum = if steps { points.iter().map(|point| point.1).sum() } else { last };
        if sum <= 0.0 {
            return Err("all its weights are 0".to_owned());
        }
        let mut before = 0.0;
        for (_, share) in &mut points {
            before = if steps { before + *share / sum } else { *share / sum };
            *share = before;
        }
        if let Some((_, share)) = points.last_mut() {
            *share = 1.0;
        }
        Ok(Self { points, steps })
    }

    /// A lognormal distribution: its logarithm is normal around that of `median`.
    pub(crate) fn lognormal(median: f64, sigma: f64) -> Self {
        const STEP: f64 = 1.0 / 128.0;
        const REACH: i32 = 6 * 128;
        let density = |z: f64| (-z * z / 2.0).exp();
        let mut sum = 0.0;
        let mut points = Vec::new();
        for number in -REACH..=REACH {
            let z = f64::from(number) * STEP;
            points.push(((median * (sigma * z).exp()).min(f64::from(SIZE_MAX)), sum));
            // Simpson's rule, to the next point.
            sum += density(z) + 4.0 * density(z + STEP / 2.0) + density(z + STEP);
        }
        let whole = points.last().map_or(1.0, |(_, share)| *share);
        points.iter_mut().for_each(|(_, share)| *share /= whole);
        Self { points, steps: false }
    }

    /// One of the presets, by its name.
    pub(crate) fn homa(name: &str) -> Option<Self> {
        let (_, sizes, mean) = HOMA.iter().find(|(known, ..)| *known == name)?;
        // The mean falls as the bend grows: halve the interval of its logarithm.
        let (mut low, mut high) = (-4.0_f64, 4.0_f64);
        for _ in 0..40 {
            let middle = f64::midpoint(low, high);
            let table = Self::bent(sizes, middle.exp());
            if table.mean() > *mean { low = middle } else { high = middle }
        }
        Some(Self::bent(sizes, high.exp()))
    }

    /// The quantiles with logarithmic curves between them, bent down by a power.
    fn bent(sizes: &[f64; 10], power: f64) -> Self {
        let mut points = vec![(sizes[0], 0.0)];
        for at in 1..sizes.len() {
            let (from, to) = (sizes[at - 1], sizes[at]);
            let (low, high) = (HOMA_SHARES[at - 1], HOMA_SHARES[at]);
            points.extend((1..=HOMA_STEPS).map(|step| {
                let part = f64::from(step) / f64::from(HOMA_STEPS);
                let size = from * (to / from).powf(part.powf(power));
                (size.min(f64::from(SIZE_MAX)), low + (high - low) * part)
            }));
        }
        Self { points, steps: false }
    }

    /// The mean in bytes.
    fn mean(&self) -> f64 {
        let pairs = self.points.windows(2);
        pairs.map(|pair| f64::midpoint(pair[0].0, pair[1].0) * (pair[1].1 - pair[0].1)).sum()
    }

    /// The size at a cumulative share, in bytes.
    pub(crate) fn at(&self, share: f64) -> f64 {
        let next = self.points.partition_point(|point| point.1 < share);
        let last = self.points.len() - 1;
        let (size, reached) = self.points[next.min(last)];
        if self.steps || next == 0 {
            return size;
        }
        let (before, low) = self.points[next.min(last) - 1];
        let part = if reached > low { (share - low) / (reached - low) } else { 1.0 };
        before + (size - before) * part.min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_and_per_cent_are_the_same_and_are_straight_between() {
        let fraction = Table::parse("0 0\n100 0.5\n300 1.0\n").expect("a table");
        assert_eq!(fraction, Table::parse("# sizes\n0,0\n100\t50\n\n300 100\n").expect("a table"));
        assert_eq!([0.25, 0.5, 0.75, 1.0].map(|share| fraction.at(share)), [50., 100., 200., 300.]);
        let with_mean = Table::parse("133\n0 0\n100 0.5\n300 1.0\n").expect("a table");
        assert_eq!(with_mean, fraction);
    }

    #[test]
    fn weights_are_steps() {
        let weights = Table::parse("10 3\n20 1\n").expect("a table");
        assert_eq!([0.0, 0.74, 0.76, 1.0].map(|share| weights.at(share)), [10., 10., 20., 20.]);
        let one = Table::parse("64 1\n").expect("a table of one size");
        assert_eq!([0.0, 0.5, 1.0].map(|share| one.at(share)), [64., 64., 64.]);
    }

    #[test]
    fn a_malformed_table_is_said_with_its_line() {
        let faults = [
            ("", "no points"),
            ("1 0.5\nx 1\n", "line 2: \"x\""),
            ("1 0.5\n2\n", "line 2: write a size"),
            ("9 0.5\n2 1\n", "line 2: the sizes must rise"),
            ("1 -1\n", "line 1: \"-1\""),
            ("99999999 1\n", "line 1: a message"),
            ("1 0\n2 0\n", "weights are 0"),
            ("1 nan\n", "line 1: \"nan\""),
        ];
        for (text, hint) in faults {
            let fault = Table::parse(text).expect_err(text);
            assert!(fault.contains(hint), "{text:?}: {fault}");
        }
    }

    #[test]
    fn the_presets_keep_the_published_quantiles() {
        for (name, sizes, _) in HOMA {
            let table = Table::homa(name).expect("a preset");
            for (share, size) in HOMA_SHARES.into_iter().zip(sizes).skip(1) {
                let (at, want) = (table.at(share), size.min(f64::from(SIZE_MAX)));
                assert!((at / want - 1.0).abs() < 1e-6, "{name} {share}: {at} for {want}");
            }
        }
        assert!(Table::homa("homa-w6").is_none());
    }
}
