//! An exhibit: what a scenario with figures of its own has to show, in whatever form.
//!
//! Above: `homa`, `blocks`, `fan_in` and `theory` fill one in; `forms` shows it. Below:
//! `statistics`, and the axis of percentiles. Absent: layout, colours.

pub(super) mod forms;

use serde_json::Value;

use super::html::percentile_ticks;
use super::svg::nines;
use crate::histogram::Latencies;
use crate::measurement::Measurement;
use crate::quantity::time_shown;
use crate::statistics;
use crate::verdict::Level;

/// A scenario that was run.
pub(crate) struct Exhibit<'m> {
    /// As typed.
    pub(crate) name: &'static str,
    /// What it shows, in one sentence.
    pub(crate) question: &'static str,
    /// What must be known to read its figures.
    pub(crate) note: String,
    /// What the link is.
    pub(crate) link: String,
    /// What it carries, in payload bytes per second.
    pub(crate) link_bytes_per_s: f64,
    /// The tables, in order.
    pub(crate) panels: Vec<Panel>,
    /// The same figures for machines: one object for each line of the tables.
    pub(crate) figures: Vec<Value>,
    /// All runs with their names.
    pub(crate) runs: Vec<(String, &'m Measurement)>,
}

impl Exhibit<'_> {
    /// The worst verdict of all runs.
    pub(crate) fn level(&self) -> Level {
        let levels = self.runs.iter().map(|(_, measurement)| measurement.verdict.level);
        levels.max().unwrap_or(Level::Invalid)
    }
}

/// One table, with its curves.
pub(crate) struct Panel {
    /// What it is of.
    pub(crate) title: String,
    /// What must be known to read its picture.
    pub(crate) note: &'static str,
    /// Headings; the first is that of the names of the lines.
    pub(crate) columns: Vec<String>,
    /// As many cells each as there are columns.
    pub(crate) rows: Vec<Vec<String>>,
    /// Its picture.
    pub(crate) curves: Option<Curves>,
}

/// Lines over a logarithmic vertical axis.
pub(crate) struct Curves {
    /// What is shown, for readers who cannot see it.
    pub(crate) description: String,
    /// What the horizontal axis is.
    pub(crate) x_title: &'static str,
    /// Its ends.
    pub(crate) x: (f64, f64),
    /// Positions and labels on it.
    pub(crate) x_ticks: Vec<(f64, String)>,
    /// A value of the vertical axis, from 1 up, in words.
    pub(crate) y_shown: fn(u64) -> String,
    /// Names and points, at most six.
    pub(crate) lines: Vec<(String, Vec<(f64, f64)>)>,
}

impl Curves {
    /// Percentile curves of times: names, times and how many were slower than all of them.
    pub(crate) fn of_percentiles(description: &str, lines: Vec<(String, Latencies, u64)>) -> Self {
        let counts = lines.iter().map(|(_, times, slower)| times.count() + slower);
        let end = (counts.max().unwrap_or(0).max(10) as f64).log10();
        let line = |(name, times, slower): (String, Latencies, u64)| {
            let points = statistics::curve(&times, slower).into_iter();
            (name, points.map(|(share, ns)| (nines(share), ns as f64)).collect())
        };
        Self {
            description: description.to_owned(),
            x_title: "percentile",
            x: (0.0, end),
            x_ticks: percentile_ticks(end),
            y_shown: time_shown,
            lines: lines.into_iter().map(line).collect(),
        }
    }
}
