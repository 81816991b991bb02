//! What the scenarios are: their classes, loads and variants.
//!
//! Above: `scenario` runs them. Below: `workload`. Absent: everything that happens.

use anyhow::{Result, anyhow};

use crate::workload::{Variant, Workload};

/// A named series of runs.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// As typed.
    pub(crate) name: &'static str,
    /// What it shows, in one sentence.
    pub(crate) question: &'static str,
    /// Its classes, most urgent first, as `--class` flags.
    classes: &'static [&'static str],
    /// What the library is told, in turn.
    pub(crate) told: &'static [Told],
    /// Parts of the link's capacity that are offered, unless others are asked for.
    pub(crate) loads: &'static [f64],
    /// Connections that share the link.
    pub(crate) connections: u32,
    /// Whether the way back is as narrow as the way there.
    pub(crate) narrow_back: bool,
    /// What must be known to read its figures.
    pub(crate) note: &'static str,
}

/// What the library is told of the classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nothing: first in, first out.
    Fifo,
    /// Niceness alone.
    Niceness,
    /// Lifetimes alone.
    Lifetime,
    /// Niceness and lifetimes.
    Both,
}

impl Told {
    /// The name in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Fifo => "FIFO",
            Self::Niceness => "niceness",
            Self::Lifetime => "lifetime",
            Self::Both => "both",
        }
    }

    /// As the workload takes it.
    pub(crate) const fn variant(self) -> Variant {
        Variant {
            niceness: matches!(self, Self::Niceness | Self::Both),
            lifetime: matches!(self, Self::Lifetime | Self::Both),
        }
    }
}

/// Idle, busy, nearly full, overloaded.
const LOADS: &[f64] = &[0.5, 0.8, 0.95, 1.2];

/// Classes by load by what the library is told.
pub(crate) static FRONT_PAGE: Scenario = Scenario {
    name: "front-page",
    question: "How long each class takes, and what it misses, when the library is told of \
               niceness, of lifetimes, of both, or of nothing.",
    classes: &[
        "name=control,share=5%,size=100,lifetime=20ms",
        "name=stream,share=45%,size=1400,niceness=1,lifetime=100ms",
        "name=bulk,share=50%,size=1400,niceness=2,lifetime=500ms",
    ],
    told: &[Told::Fifo, Told::Niceness, Told::Lifetime, Told::Both],
    loads: LOADS,
    connections: 1,
    narrow_back: false,
    note: "",
};

/// One urgent class beside bulk.
pub(crate) static BULK_VS_CLASS0: Scenario = Scenario {
    name: "bulk-vs-class0",
    question: "How long an urgent message waits behind bulk on the same connection.",
    classes: &["name=class0,share=1%,size=100", "name=bulk,size=1400,niceness=2"],
    told: &[Told::Fifo, Told::Niceness],
    loads: LOADS,
    connections: 1,
    narrow_back: false,
    note: "",
};

/// Deadlines alone.
pub(crate) static DEADLINE: Scenario = Scenario {
    name: "deadline",
    question: "How many messages are in time, and how many bytes are sent in vain, with \
               deadlines that the library is told of or not.",
    classes: &["name=timed,size=1400,lifetime=100ms"],
    told: &[Told::Fifo, Told::Lifetime],
    loads: LOADS,
    connections: 1,
    narrow_back: false,
    note: "",
};

/// Bulk both ways beside a small urgent message.
pub(crate) static RRUL: Scenario = Scenario {
    name: "rrul",
    question: "How long a small urgent message takes when bulk fills the link in both directions.",
    classes: &["name=ping,share=1%,size=64", "name=bulk,size=1400,niceness=2"],
    told: &[Told::Fifo, Told::Niceness],
    loads: &[0.8, 1.2],
    connections: 4,
    narrow_back: true,
    note: "After Flent's RRUL test (realtime response under load), with differences: the echo of \
           the bulk is the bulk of the other direction, so both carry the same messages and the \
           way back is never busy without the way there; bulk is offered at a rate, not as fast \
           as TCP's windows let it, so above 100 % its queue grows for as long as the run lasts; \
           pings share the four connections with the bulk, where RRUL sends them beside; classes \
           are niceness in the library, not DSCP on the wire.",
};

impl Scenario {
    /// Its messages; the library is told everything.
    ///
    /// # Errors
    /// Never, as a test shows.
    pub(crate) fn workload(&self) -> Result<Workload> {
        let flags: Vec<String> = self.classes.iter().map(|flag| (*flag).to_owned()).collect();
        let none = |path: &str| Err(format!("no file {path}"));
        Workload::of_flags(&flags, &none).map_err(|why| anyhow!(why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_understood_and_watched() {
        for scenario in [&FRONT_PAGE, &BULK_VS_CLASS0, &DEADLINE, &RRUL] {
            let workload = scenario.workload().expect(scenario.name);
            assert!(workload.is_watched(), "{}", scenario.name);
            let niceness = workload.classes.iter().map(|class| class.niceness);
            assert!(niceness.is_sorted(), "{}: most urgent first", scenario.name);
        }
    }
}
