//! Saved results side by side, as text; `again_html` draws the same.
//!
//! Above: `conduct`. Below: `saved`. Absent: any figure that was not saved: nothing is averaged or
//! judged anew. Bound: as many rows as there are runs and classes.

use std::fmt::Write;
use std::io::stdout;

use anyhow::Result;

use super::saved::{Class, Latency, Saved, read};
use super::{again_html, check, print, write_file};
use crate::arguments::ReportArguments;
use crate::ledger::Ledger;
use crate::quantity::{count_shown, line_shown, rate_shown, time_shown};
use crate::verdict::Level;

/// Width of a figure's column.
const FIGURE: usize = 12;
/// Percentiles that are shown.
pub(super) const SHOWN: [(f64, &str); 4] =
    [(50.0, "p50"), (90.0, "p90"), (99.0, "p99"), (99.9, "p99.9")];

/// `loadgen report`: reads, prints, writes the page.
///
/// # Errors
/// If a file cannot be read, is no result, or cannot be written.
pub(crate) fn again(arguments: &ReportArguments) -> Result<()> {
    check(std::iter::once(arguments.html.as_deref()))?;
    let runs = read(&arguments.results)?;
    let mut text = table(&runs);
    if let Some(path) = &arguments.html {
        write_file(path, again_html::page(&runs).as_bytes())?;
        let _ = writeln!(text, "\nreport   {}", path.display());
    }
    print(stdout(), &text)
}

/// The figures of the response time: SHOWN and the longest.
pub(super) fn figures(latency: &Latency) -> Vec<String> {
    let shown = |ns: Option<u64>| ns.map_or_else(|| "n/a".to_owned(), time_shown);
    let percentiles = SHOWN.map(|(percentile, _)| latency.at(percentile).and_then(|p| p.value_ns));
    percentiles.into_iter().chain([latency.max_ns]).map(shown).collect()
}

/// Titles of `figures` and `counts`.
pub(super) fn titles() -> impl Iterator<Item = &'static str> {
    SHOWN.into_iter().map(|(_, name)| name).chain(["max", "scheduled", "missed", "expired"])
}

/// Scheduled messages, and shares of them.
pub(super) fn counts(ledger: &Ledger) -> [String; 3] {
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    [
        count_shown(ledger.scheduled),
        percent(ledger.missed_share()),
        percent(ledger.share(ledger.expired)),
    ]
}

/// The rates of a run in words.
pub(super) fn rates(run: &Saved) -> String {
    let (sent, answered) = (rate_shown(run.rates.sent_per_s), rate_shown(run.rates.answered_per_s));
    match run.rates.asked_per_s {
        Some(asked) => format!("asked {}, sent {sent}, answered {answered}", rate_shown(asked)),
        None => format!("answered {answered}"),
    }
}

/// The run in words: what was asked of whom.
pub(super) fn asked(run: &Saved) -> String {
    let manifest = &run.manifest;
    format!(
        "{} arrivals to {} · {} connections · {} after {} warm-up · seed {}",
        line_shown(&manifest.arrival),
        line_shown(&run.server.address),
        count_shown(manifest.connections.into()),
        time_shown(manifest.measured_ns),
        time_shown(manifest.warmup_ns),
        manifest.seed
    )
}

/// The classes of a run, if they are more than one.
pub(super) fn classes(run: &Saved) -> &[Class] {
    if run.classes.len() > 1 { &run.classes } else { &[] }
}

fn table(runs: &[Saved]) -> String {
    let mut out = String::new();
    let longest = runs.iter().map(|run| run.name.chars().count()).max().unwrap_or(0);
    let width = longest.clamp(16, 40) + 2;
    let _ = write!(out, "{:width$}", "response time");
    for title in titles() {
        let _ = write!(out, "{title:>FIGURE$}");
    }
    out.push('\n');
    for run in runs {
        let Some(response) = run.response() else { continue };
        row(&mut out, &run.name, width, response, &run.ledger.measured.messages);
        let _ = writeln!(out, "  {}", run.verdict.level.name());
        for class in classes(run) {
            let name = format!("  {}", line_shown(&class.name));
            row(&mut out, &name, width, &class.latency[0], &class.ledger.messages);
            out.push('\n');
        }
    }
    for run in runs {
        let _ = writeln!(out, "\n{}\n  {}\n  {}", run.name, asked(run), rates(run));
        for reason in run.verdict.reasons.iter().filter(|reason| reason.level > Level::Valid) {
            let _ = writeln!(out, "  - {}", line_shown(&reason.text));
        }
    }
    out
}

fn row(out: &mut String, name: &str, width: usize, latency: &Latency, ledger: &Ledger) {
    let _ = write!(out, "{name:width$}");
    for figure in figures(latency).into_iter().chain(counts(ledger)) {
        let _ = write!(out, "{figure:>FIGURE$}");
    }
}
