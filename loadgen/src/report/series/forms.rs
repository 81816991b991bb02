//! A scenario's reports: one table and one JSON document (`loadgen/schemas/series.json`) over all
//! its runs.
//!
//! Above: `report` publishes them; `page` draws the same. Below: the series, and `text` and `json`
//! for single runs. Absent: colours. Bound: 100 columns, except for reasons.

use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;

use super::{Cell, Series};
use crate::class_books::ClassBooks;
use crate::measurement::Measurement;
use crate::quantity::{bytes_shown, time_shown};
use crate::report::{json, text};
use crate::verdict::Level;
use crate::workload::Class;

/// Width of the columns of class and variant.
const NAME: usize = 16;
const TOLD: usize = 11;
/// Width of a figure's column.
const FIGURE: usize = 12;

/// Titles of `figures`.
pub(super) const TITLES: [&str; 6] = ["p50", "p99", "p99.9", "missed", "expired", "wasted"];

/// The figures of one class in one run: percentiles of the response time, and shares of what was
/// scheduled (of the bytes sent, for what was wasted).
pub(super) fn figures(measurement: &Measurement, books: &ClassBooks) -> [String; 6] {
    let rows = measurement.rows_of(books);
    let at = |share: f64| {
        let found = rows[0].percentiles.iter().find(|percentile| percentile.share == share);
        found.map_or_else(|| "n/a".to_owned(), text::figure)
    };
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let (messages, bytes) = (&books.account.messages, &books.account.bytes);
    [
        at(0.5),
        at(0.99),
        at(0.999),
        percent(messages.missed_share()),
        percent(messages.share(messages.expired)),
        percent(bytes.late as f64 / bytes.sent.max(1) as f64),
    ]
}

/// Bytes answered in time, of those the link could have carried in that time.
pub(super) fn useful_share(series: &Series, cell: &Cell) -> f64 {
    let measurement = &cell.measurement;
    measurement.goodput_bytes_per_s(&measurement.overall) / series.link_bytes_per_s
}

/// The scenario in one line.
pub(super) fn heading(series: &Series) -> String {
    let plan = &series.alone.plan;
    format!(
        "link {}/s ({}) · {} · poisson arrivals, {} each after {} warm-up, seed {}",
        bytes_shown(series.link_bytes_per_s),
        series.link,
        match plan.connections {
            1 => "one connection".to_owned(),
            count => format!("{count} connections"),
        },
        time_shown(plan.duration.as_nanos() as u64),
        time_shown(plan.warmup_ns()),
        plan.seed
    )
}

/// The most urgent class alone, in one line.
pub(super) fn alone(series: &Series) -> String {
    let Some((class, books)) = series.alone.classes().next() else { return String::new() };
    let [p50, p99, ..] = figures(&series.alone, books);
    format!("{} alone on the idle link: p50 {p50}, p99 {p99}", class.name)
}

/// The runs of each load, in order.
pub(super) fn by_load(series: &Series) -> impl Iterator<Item = &[Cell]> {
    series.cells.chunk_by(|one, next| one.load == next.load)
}

/// The whole table.
pub(in crate::report) fn table(series: &Series) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}\n{}\n{}", series.scenario, heading(series), alone(series));
    for (class, _) in series.cells.first().iter().flat_map(|cell| cell.measurement.classes()) {
        let _ = writeln!(out, "{:NAME$}{}", class.name, asks(class));
    }
    for cells in by_load(series) {
        block(&mut out, cells);
        for cell in cells {
            let useful = useful_share(series, cell) * 100.0;
            let told = cell.told;
            let _ = writeln!(out, "{:NAME$}{told:TOLD$}{useful:>10.1} % of the link in time", "");
        }
    }
    out.push('\n');
    if !series.note.is_empty() {
        out.push_str(&text::wrapped(series.note));
    }
    reasons(&mut out, series);
    out
}

/// What a class asks for where the library is told everything.
fn asks(class: &Class) -> String {
    let everything =
        Class { tells_niceness: true, tells_lifetime: class.deadline.is_some(), ..class.clone() };
    text::asks(&everything)
}

fn block(out: &mut String, cells: &[Cell]) {
    let Some(first) = cells.first() else { return };
    let load = format!("load {:.0} %", first.load * 100.0);
    let _ = write!(out, "\n{load:0$}", NAME + TOLD);
    for title in TITLES {
        let _ = write!(out, "{title:>FIGURE$}");
    }
    out.push('\n');
    for (number, class) in first.measurement.plan.workload.classes.iter().enumerate() {
        for (at, cell) in cells.iter().enumerate() {
            let name = if at == 0 { class.name.as_str() } else { "" };
            let told = format!("{}{}", cell.told, text::mark(cell.measurement.verdict.level));
            let _ = write!(out, "{name:NAME$}{told:TOLD$}");
            for figure in figures(&cell.measurement, &cell.measurement.books.classes[number]) {
                let _ = write!(out, "{figure:>FIGURE$}");
            }
            out.push('\n');
        }
    }
}

/// The overall verdict, and why of each run that is not VALID.
fn reasons(out: &mut String, series: &Series) {
    let _ = writeln!(out, "verdict  {}", series.level().name());
    for (name, measurement) in runs(series) {
        let verdict = &measurement.verdict;
        for reason in verdict.reasons.iter().filter(|reason| reason.level > Level::Valid) {
            let _ = writeln!(out, "- {name}{}: {}", text::mark(reason.level), reason.text);
        }
    }
}

/// All runs with their names.
pub(super) fn runs(series: &Series) -> impl Iterator<Item = (String, &Measurement)> {
    let name = |cell: &Cell| format!("{:.0} %, {}", cell.load * 100.0, cell.told);
    let cells = series.cells.iter().map(move |cell| (name(cell), &cell.measurement));
    std::iter::once(("alone".to_owned(), &series.alone)).chain(cells)
}

#[derive(Serialize)]
struct Document<'s> {
    schema: &'static str,
    scenario: &'static str,
    question: &'static str,
    note: &'static str,
    link: &'s str,
    link_bytes_per_s: f64,
    level: Level,
    alone: json::Document<'s>,
    runs: Vec<Run<'s>>,
}

#[derive(Serialize)]
struct Run<'s> {
    load: f64,
    told: &'static str,
    useful_share: f64,
    result: json::Document<'s>,
}

/// All results, each in the form of a single run.
///
/// # Errors
/// Only if the serializer fails.
pub(in crate::report) fn document(series: &Series, buckets: bool) -> Result<String> {
    let of = |measurement| if buckets { json::of(measurement) } else { json::brief(measurement) };
    let mut runs = Vec::with_capacity(series.cells.len());
    for cell in &series.cells {
        let useful_share = useful_share(series, cell);
        let result = of(&cell.measurement);
        runs.push(Run { load: cell.load, told: cell.told, useful_share, result });
    }
    let document = Document {
        schema: "postring-loadgen-series/1",
        scenario: series.scenario,
        question: series.question,
        note: series.note,
        link: &series.link,
        link_bytes_per_s: series.link_bytes_per_s,
        level: series.level(),
        alone: of(&series.alone),
        runs,
    };
    let mut text = serde_json::to_string(&document)?;
    text.push('\n');
    Ok(text)
}
