//! A series: a scenario that was run, load by load and variant by variant.
//!
//! Above: `scenario` fills one in; `forms` and `page` show it. Below: `measurement`. Absent:
//! layout.

pub(super) mod forms;
pub(super) mod page;

use crate::measurement::Measurement;
use crate::verdict::Level;

/// One run.
pub(crate) struct Cell {
    /// Part of the link's capacity that was offered.
    pub(crate) load: f64,
    /// What the library was told.
    pub(crate) told: &'static str,
    /// What came out.
    pub(crate) measurement: Measurement,
}

/// A scenario that was run.
pub(crate) struct Series {
    /// Which one, as typed.
    pub(crate) scenario: &'static str,
    /// What it shows, in one sentence.
    pub(crate) question: &'static str,
    /// What must be known to read its figures.
    pub(crate) note: &'static str,
    /// What the link carries, in payload bytes per second.
    pub(crate) link_bytes_per_s: f64,
    /// What the link is.
    pub(crate) link: String,
    /// The most urgent class alone on an idle link.
    pub(crate) alone: Measurement,
    /// The runs, by load, then by what was told.
    pub(crate) cells: Vec<Cell>,
}

impl Series {
    /// The worst verdict of all runs.
    pub(crate) fn level(&self) -> Level {
        let levels = self.cells.iter().map(|cell| cell.measurement.verdict.level);
        levels.chain([self.alone.verdict.level]).max().unwrap_or(Level::Valid)
    }
}
