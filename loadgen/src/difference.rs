//! What a row of paired measurements says about a difference, and how surely.
//!
//! Above: `compare`. Below: nothing. Absent: latencies; single messages, whose number says nothing
//! about how much one start of the processes differs from the next. The interval is Student's, of
//! the mean of the pairs' differences.

/// A mean of differences with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Difference {
    /// The mean.
    pub(crate) mean: f64,
    /// Ends of the interval.
    pub(crate) interval: (f64, f64),
}

impl Difference {
    /// Of at least two differences, so that the interval holds the truth with `confidence` (0 to
    /// 1); `None` of fewer, or if one is no number.
    pub(crate) fn of(differences: &[f64], confidence: f64) -> Option<Self> {
        let freedom = differences.len().saturating_sub(1).max(1) as f64;
        Self::within(differences, student_quantile(f64::midpoint(1.0, confidence), freedom))
    }

    /// With an interval of so many standard errors to each side.
    fn within(differences: &[f64], errors: f64) -> Option<Self> {
        let n = differences.len() as f64;
        if differences.len() < 2 || differences.iter().any(|d| !d.is_finite()) {
            return None;
        }
        let mean = differences.iter().sum::<f64>() / n;
        let squares: f64 = differences.iter().map(|d| (d - mean).powi(2)).sum();
        let error = (squares / (n - 1.0) / n).sqrt();
        let reach = errors * error;
        Some(Self { mean, interval: (mean - reach, mean + reach) })
    }

    /// The same on another scale, that rises with this one.
    pub(crate) fn each(self, scale: impl Fn(f64) -> f64) -> Self {
        let (low, high) = self.interval;
        Self { mean: scale(self.mean), interval: (scale(low), scale(high)) }
    }

    /// True if no difference at all is outside of the interval.
    pub(crate) fn is_shown(&self) -> bool {
        self.interval.0 > 0.0 || self.interval.1 < 0.0
    }
}

/// The value that Student's distribution with `freedom` degrees exceeds with a chance of 1 -
/// `share`; `share` lies between 0.5 and 1.
fn student_quantile(share: f64, freedom: f64) -> f64 {
    // The area is a chance once it is divided by the area of one half.
    let half = area(f64::INFINITY, freedom);
    let (mut low, mut high) = (0.0_f64, 1.0);
    let exceeds = |t: f64| 0.5 + area(t, freedom) / half / 2.0 > share;
    while !exceeds(high) && high < 1e6 {
        high *= 2.0;
    }
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if exceeds(middle) { high = middle } else { low = middle }
    }
    high
}

/// Area under (1 + t²/freedom)^(-(freedom+1)/2) from 0 to `t`, with t = √freedom · tan(angle):
/// then the integrand is the cosine to the power freedom - 1, which Simpson's rule takes well.
fn area(t: f64, freedom: f64) -> f64 {
    const STEPS: u32 = 512;
    let end = (t / freedom.sqrt()).atan();
    let height = |angle: f64| angle.cos().max(0.0).powf(freedom - 1.0);
    let width = end / f64::from(STEPS);
    let at = |step: u32| height(f64::from(step) * width);
    let inner: f64 = (1..STEPS).map(|step| at(step) * f64::from(2 + 2 * (step % 2))).sum();
    (at(0) + inner + at(STEPS)) * width / 3.0
}

#[cfg(test)]
mod tests {
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        let table = [
            (0.975, 1.0, 12.706),
            (0.975, 5.0, 2.571),
            (0.995, 5.0, 4.032),
            (0.975, 9.0, 2.262),
            (0.9995, 9.0, 4.781),
            (0.975, 100.0, 1.984),
        ];
        for (share, freedom, want) in table {
            let found = student_quantile(share, freedom);
            assert!((found / want - 1.0).abs() < 5e-4, "{found} for {want}");
        }
    }

    #[test]
    fn equal_pairs_show_nothing_and_a_constant_shift_does() {
        let none = Difference::of(&[0.0; 6], 0.95).expect("six");
        assert!(!none.is_shown() && none.interval == (0.0, 0.0));
        assert!(Difference::of(&[0.1; 6], 0.95).expect("six").is_shown());
        assert_eq!(Difference::of(&[0.1], 0.95), None);
        assert_eq!(Difference::of(&[0.1, f64::NAN], 0.95), None);
    }

    /// Runs differ from one another by more than their messages say; still two equal sides are
    /// taken for different in at most 5 of 100 comparisons, over all figures together.
    #[test]
    fn equal_sides_are_told_apart_in_at_most_5_of_100_comparisons() {
        const FIGURES: usize = 6;
        const TRIES: u32 = 2_000;
        let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
        let errors = student_quantile(1.0 - 0.025 / FIGURES as f64, 5.0);
        let mut apart = 0;
        for _ in 0..TRIES {
            let mut shown = false;
            for _ in 0..FIGURES {
                // Nearly normal: the sum of twelve uniform numbers, less six.
                let mut noise = || (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
                let pairs: Vec<f64> = (0..6).map(|_| noise() - noise()).collect();
                shown |= Difference::within(&pairs, errors).is_some_and(|d| d.is_shown());
            }
            apart += u32::from(shown);
        }
        assert!(apart <= TRIES * 6 / 100, "{apart} of {TRIES}");
    }
}
