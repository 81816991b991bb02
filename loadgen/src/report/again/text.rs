//! Saved results side by side as text.
//!
//! Above: `again`. Below: `words`. Absent: colours. Bound: as many rows as there are runs and
//! classes.

use std::fmt::Write;

use super::words::{asked, classes, counts, figures, rates, titles};
use crate::ledger::Ledger;
use crate::quantity::line_shown;
use crate::report::saved::{Latency, Saved};
use crate::verdict::Level;

/// Width of a figure's column.
const FIGURE: usize = 12;

/// All of them in one table, and what was asked in each.
pub(super) fn table(runs: &[Saved]) -> String {
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
