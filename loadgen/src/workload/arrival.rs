//! Arrivals: when Messages are meant to leave.
//!
//! Above: `arguments` parses one, `plan` gives it a rate, `pace` draws from it. Below: `quantity`.
//! Absent: times of single Messages; the trace itself (`trace`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::quantity;

/// What there is, for messages about a mistyped one.
const FORMS: &str = "poisson, constant, burst:64 (so many at once), burst:64@1ms, \
                     ramp:10k-50k (rising rate), trace:FILE, closed";

/// Most Messages of one burst.
const BURST_MAX: u32 = 1_000_000;

/// When Messages are meant to leave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Arrival {
    /// Open loop, independent arrivals: exponential gaps.
    Poisson,
    /// Open loop, equal gaps.
    Constant,
    /// Open loop, `count` at once.
    Burst {
        /// Messages at once, over all connections.
        count: u32,
        /// From one burst to the next; `None`: as the rate says.
        every: Option<Duration>,
    },
    /// Open loop, independent arrivals at a rate that changes evenly over the measured part.
    Ramp {
        /// Messages per second in the warm-up and at the start of the measured part.
        from_per_s: f64,
        /// At its end.
        to_per_s: f64,
    },
    /// Open loop, as the file of this name says.
    Trace(String),
    /// Closed loop: the next Message leaves when a reply has come.
    Closed,
}

impl Arrival {
    /// Parses one of `FORMS`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let unknown = || format!("there are {FORMS}");
        match text.split_once(':') {
            None => match text {
                "poisson" => Ok(Self::Poisson),
                "constant" => Ok(Self::Constant),
                "closed" => Ok(Self::Closed),
                _ => Err(unknown()),
            },
            Some(("burst", burst)) => {
                let (count, every) = match burst.split_once('@') {
                    Some((count, every)) => (count, Some(quantity::span(every)?)),
                    None => (burst, None),
                };
                let count = count.parse().ok().filter(|count| (1..=BURST_MAX).contains(count));
                let count = count.ok_or("a burst has 1 to 1000000 messages, as in burst:64")?;
                Ok(Self::Burst { count, every })
            }
            Some(("ramp", ramp)) => {
                let (from, to) = ramp.split_once('-').ok_or("write a ramp as ramp:10k-50k")?;
                Ok(Self::Ramp { from_per_s: quantity::rate(from)?, to_per_s: quantity::rate(to)? })
            }
            Some(("trace", path)) if !path.is_empty() => Ok(Self::Trace(path.to_owned())),
            _ => Err(unknown()),
        }
    }

    /// The kind, in one word.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Poisson => "poisson",
            Self::Constant => "constant",
            Self::Burst { .. } => "burst",
            Self::Ramp { .. } => "ramp",
            Self::Trace(_) => "trace",
            Self::Closed => "closed",
        }
    }

    /// The mean rate it sets itself, in messages per second; `None`: it takes any.
    pub(crate) fn own_rate_per_s(&self) -> Option<f64> {
        match self {
            Self::Burst { count, every: Some(every) } => {
                Some(f64::from(*count) / every.as_secs_f64())
            }
            Self::Ramp { from_per_s, to_per_s } => Some(f64::midpoint(*from_per_s, *to_per_s)),
            _ => None,
        }
    }

    /// The arrivals for people: `poisson`, `burst:64`.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Burst { count, .. } => format!("burst:{count}"),
            Self::Ramp { from_per_s, to_per_s } => {
                let shown = quantity::rate_shown;
                format!("ramp from {} to {}", shown(*from_per_s), shown(*to_per_s))
            }
            _ => self.kind().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_parsed_with_their_rate() {
        let rate = |text: &str| Arrival::parse(text).expect(text).own_rate_per_s();
        assert_eq!((rate("poisson"), rate("constant"), rate("closed")), (None, None, None));
        assert_eq!((rate("burst:64"), rate("burst:64@1ms")), (None, Some(64_000.0)));
        assert_eq!((rate("ramp:10k-50k"), rate("trace:f")), (Some(30_000.0), None));
        for wrong in ["burst", "burst:0", "burst:5@1", "ramp:5", "ramp:a-b", "trace:", "often"] {
            let fault = Arrival::parse(wrong).expect_err(wrong);
            assert!(!fault.contains('\n'), "{wrong}: {fault}");
        }
    }
}
