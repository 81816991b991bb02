//! Sizes: how long Messages are, as a distribution.
//!
//! Above: `class` parses one for each class, `sampler` draws from it. Below: `table` for those
//! given by points. Absent: random numbers: a distribution is its quantile function, so a draw is
//! one uniform number, and the mean is an integral of the same function that is drawn from.
//! Bound: `SIZE_MAX` bytes, whatever the distribution would say.

use super::table::Table;
use super::{Read, SIZE_MAX};
use crate::quantity;

/// What there is, for messages about a mistyped one.
const FORMS: &str = "64, fixed:64, uniform:64:1KiB, exponential:1KiB, pareto:64:1.5 (least and \
                     shape), bimodal:64:1KiB:10% (share of the larger), lognormal:1KiB:1.2 \
                     (median and sigma), cdf:FILE, homa-w1 to homa-w5";

/// A distribution of sizes in bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sizes {
    /// As typed.
    name: String,
    form: Form,
}

#[derive(Debug, Clone, PartialEq)]
enum Form {
    Fixed(u32),
    Uniform(u32, u32),
    Exponential {
        mean: f64,
    },
    Pareto {
        least: f64,
        shape: f64,
    },
    Bimodal {
        small: u32,
        large: u32,
        large_share: f64,
    },
    Table(Table),
    /// Those of `of` between two cumulative shares.
    Part {
        of: Box<Sizes>,
        from: f64,
        to: f64,
    },
}

impl Sizes {
    /// All of one size.
    pub(crate) fn fixed(bytes: u32) -> Self {
        Self { name: bytes.to_string(), form: Form::Fixed(bytes) }
    }

    /// Parses `name:parameters`; `read` gives the text of a `cdf:` file.
    pub(crate) fn parse(text: &str, read: Read<'_>) -> Result<Self, String> {
        let mut words = text.trim().split(':');
        let name = words.next().unwrap_or_default();
        let rest: Vec<&str> = words.collect();
        let form = match (name, rest.as_slice()) {
            ("fixed", [bytes]) => Form::Fixed(size(bytes)?),
            ("uniform", [low, high]) => uniform(size(low)?, size(high)?)?,
            ("exponential", [mean]) => Form::Exponential { mean: f64::from(size(mean)?.max(1)) },
            ("pareto", [least, shape]) => {
                let least = f64::from(size(least)?.max(1));
                Form::Pareto { least, shape: positive(shape, "the shape of a pareto")? }
            }
            ("bimodal", [small, large, share]) => Form::Bimodal {
                small: size(small)?,
                large: size(large)?,
                large_share: quantity::share(share)?,
            },
            ("lognormal", [median, sigma]) => {
                let sigma = positive(sigma, "the sigma of a lognormal")?;
                Form::Table(Table::lognormal(f64::from(size(median)?.max(1)), sigma))
            }
            ("cdf", [_, ..]) => {
                let path = &text.trim()["cdf:".len()..];
                Form::Table(Table::parse(&read(path)?).map_err(|why| format!("{path}: {why}"))?)
            }
            (preset, []) if preset.starts_with("homa-") => {
                let table = Table::homa(preset);
                Form::Table(table.ok_or_else(|| format!("{preset:?}: homa-w1 to homa-w5"))?)
            }
            (bytes, []) if bytes.starts_with(|c: char| c.is_ascii_digit()) => {
                Form::Fixed(size(bytes)?)
            }
            _ => return Err(format!("{text:?} is no distribution of sizes; write {FORMS}")),
        };
        Ok(Self { name: text.trim().to_owned(), form })
    }

    /// The size that a share `u` (0 to 1) of all Messages does not exceed, in bytes.
    pub(crate) fn at(&self, u: f64) -> u32 {
        let u = u.clamp(0.0, 1.0);
        let bytes = match &self.form {
            Form::Fixed(bytes) => return *bytes,
            Form::Bimodal { small, large, large_share } => {
                return if u < 1.0 - large_share { *small } else { *large };
            }
            Form::Uniform(low, high) => {
                return low + ((f64::from(high - low) + 1.0) * u).min(f64::from(high - low)) as u32;
            }
            Form::Exponential { mean } => -mean * (1.0 - u).ln(),
            Form::Pareto { least, shape } => least / (1.0 - u).powf(1.0 / shape),
            Form::Table(table) => table.at(u),
            Form::Part { of, from, to } => return of.at(from + (to - from) * u),
        };
        // A float beyond the range saturates.
        (bytes.round() as u32).min(SIZE_MAX)
    }

    /// The only size there is; `None` if they differ.
    pub(crate) const fn only(&self) -> Option<u32> {
        match self.form {
            Form::Fixed(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The mean in bytes, of what is really drawn: at least `least`, at most `SIZE_MAX`.
    pub(crate) fn mean_bytes(&self, least: u32) -> f64 {
        self.pieces(least).map(|(_, bytes)| bytes).sum()
    }

    /// The distribution in small pieces: up to which share of all Messages each goes, and its part
    /// of the mean in bytes.
    pub(super) fn pieces(&self, least: u32) -> impl Iterator<Item = (f64, f64)> + '_ {
        /// Points of each decade; the tail of a heavy distribution has most of the bytes.
        const POINTS: u32 = 4_096;
        const DECADES: i32 = 9;
        (0..=DECADES).flat_map(move |decade| {
            let from = 1.0 - 10_f64.powi(-decade);
            let to = if decade == DECADES { 1.0 } else { 1.0 - 10_f64.powi(-decade - 1) };
            let width = (to - from) / f64::from(POINTS);
            (0..POINTS).map(move |point| {
                let middle = from + (f64::from(point) + 0.5) * width;
                let bytes = f64::from(self.at(middle).max(least));
                (from + f64::from(point + 1) * width, bytes * width)
            })
        })
    }

    /// The Messages between two shares of all, 0 to 1, the shortest first.
    pub(super) fn part(&self, from: f64, to: f64) -> Self {
        let shown = |share: f64| quantity::size_shown(self.at(share) as usize);
        let name = format!("{} to {}", shown(from), shown(to));
        Self { name, form: Form::Part { of: Box::new(self.clone()), from, to } }
    }

    /// The distribution for people; the presets are labelled as what they are.
    pub(crate) fn shown(&self) -> String {
        match &self.form {
            Form::Fixed(bytes) => quantity::size_shown(*bytes as usize),
            Form::Table(_) if self.name.starts_with("homa-") => {
                format!("{} (approximation)", self.name)
            }
            _ => self.name.clone(),
        }
    }
}

fn size(text: &str) -> Result<u32, String> {
    let bytes = quantity::size(text).map_err(|why| format!("{text:?}: {why}"))?;
    u32::try_from(bytes).map_err(|_| format!("{text:?} is too long"))
}

fn uniform(low: u32, high: u32) -> Result<Form, String> {
    if low > high {
        return Err(format!("uniform:{low}:{high} ends before it begins"));
    }
    Ok(Form::Uniform(low, high))
}

fn positive(text: &str, what: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| n.is_finite() && (0.05..=20.0).contains(n));
    number.ok_or_else(|| format!("{text:?}: {what} is a number from 0.05 to 20"))
}

#[cfg(test)]
mod tests {
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn sizes(text: &str) -> Sizes {
        let read = |_: &str| Ok("0 0\n1000 0.5\n3000 1\n".to_owned());
        Sizes::parse(text, &read).expect(text)
    }

    #[test]
    fn what_is_drawn_has_the_mean_that_is_stated() {
        let exact = [
            ("1500", 1_500.0),
            ("fixed:4KiB", 4_096.0),
            ("uniform:100:300", 200.0),
            ("exponential:1000", 1_000.0),
            ("pareto:100:3", 150.0),
            ("bimodal:100:1100:10%", 200.0),
            ("lognormal:1000:0.5", 1_000.0 * (0.125_f64).exp()),
            ("cdf:FILE", 0.5 * 500.0 + 0.5 * 2_000.0),
        ];
        for (text, want) in exact {
            let sizes = sizes(text);
            let stated = sizes.mean_bytes(0);
            assert!((stated / want - 1.0).abs() < 0.005, "{text}: {stated} for {want}");
            for seed in 1..4 {
                let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
                let n = 200_000;
                let sum: f64 = (0..n).map(|_| f64::from(sizes.at(random.random()))).sum();
                let drawn = sum / f64::from(n);
                assert!((drawn / want - 1.0).abs() < 0.02, "{text}, seed {seed}: {drawn}");
            }
        }
    }

    #[test]
    fn a_larger_share_never_has_a_smaller_size() {
        let all = ["uniform:1:9", "exponential:99", "pareto:8:0.5", "lognormal:99:3", "homa-w3"];
        for text in all.into_iter().chain(["bimodal:5:9:0.3", "cdf:FILE", "homa-w5"]) {
            let sizes = sizes(text);
            let drawn: Vec<u32> = (0..=10_000).map(|n| sizes.at(f64::from(n) / 1e4)).collect();
            assert!(drawn.is_sorted(), "{text}");
            assert!(drawn.iter().all(|bytes| *bytes <= SIZE_MAX), "{text}");
        }
    }

    #[test]
    fn the_presets_have_the_published_means_and_say_what_they_are() {
        let published = [("homa-w1", 189.0), ("homa-w2", 442.0), ("homa-w3", 2_928.0)];
        for (name, want) in published.into_iter().chain([("homa-w4", 127_797.0)]) {
            let mean = sizes(name).mean_bytes(0);
            assert!((mean / want - 1.0).abs() < 0.05, "{name}: {mean} for {want}");
        }
        assert_eq!(sizes("homa-w2").shown(), "homa-w2 (approximation)");
        assert_eq!(sizes("4KiB").shown(), "4 KiB");
    }

    #[test]
    fn the_least_size_counts_in_the_mean() {
        assert!((sizes("8").mean_bytes(24) - 24.0).abs() < 1e-6);
    }

    #[test]
    fn what_is_mistyped_is_said_with_the_remedy() {
        let read = |path: &str| Err(format!("cannot read {path}"));
        let faults = [
            ("", "uniform:64:1KiB"),
            ("gauss:5", "uniform:64:1KiB"),
            ("uniform:9:5", "ends before it begins"),
            ("uniform:9", "uniform:64:1KiB"),
            ("pareto:9:x", "the shape of a pareto"),
            ("lognormal:9:-1", "the sigma of a lognormal"),
            ("bimodal:1:2:200%", "0 % to 100 %"),
            ("4k", "4KiB"),
            ("fixed:17MiB", "16MiB"),
            ("homa-w9", "homa-w1 to homa-w5"),
            ("cdf:/no/such", "cannot read /no/such"),
        ];
        for (text, hint) in faults {
            let fault = Sizes::parse(text, &read).expect_err(text);
            assert!(fault.contains(hint) && !fault.contains('\n'), "{text}: {fault}");
        }
    }
}
