//! A scenario with figures of its own, as a table, as JSON (`schemas/scenario.json`) and as a page.
//!
//! Above: `report` publishes them. Below: the exhibit, `html`, `text`, and `json` for
//! single runs. Absent: colours. Bound: 100 columns, as long as names and figures are short.

use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use super::{Curves, Exhibit, Panel};
use crate::quantity::{bytes_shown, time_shown};
use crate::report::html::{self, CLASS_STYLES};
use crate::report::svg::{Chart, Series as Line, escape};
use crate::report::{json, text};
use crate::verdict::{Level, Reason};

/// The link and the runs in one line.
fn heading(exhibit: &Exhibit<'_>) -> String {
    let link = format!("link {}/s ({})", bytes_shown(exhibit.link_bytes_per_s), exhibit.link);
    let Some((_, last)) = exhibit.runs.last() else { return link };
    let (plan, length) = (&last.plan, time_shown(last.plan.duration.as_nanos() as u64));
    format!("{link} · runs of {length}, seed {}", plan.seed)
}

/// All tables.
pub(in crate::report) fn table(exhibit: &Exhibit<'_>) -> String {
    let mut out = format!("{}\n{}\n", exhibit.name, heading(exhibit));
    for panel in &exhibit.panels {
        out.push('\n');
        out.push_str(&panel.title);
        out.push('\n');
        lines(&mut out, panel);
    }
    out.push('\n');
    out.push_str(&text::wrapped(&exhibit.note));
    let _ = writeln!(out, "verdict  {}", exhibit.level().name());
    for (name, reason) in reasons(exhibit) {
        let _ = writeln!(out, "- {name}{}: {}", text::mark(reason.level), reason.text);
    }
    out
}

/// Columns as wide as what is in them; names on the left, figures on the right.
fn lines(out: &mut String, panel: &Panel) {
    let rows = || std::iter::once(&panel.columns).chain(&panel.rows);
    let width = |at: usize| rows().filter_map(|row| Some(row.get(at)?.chars().count())).max();
    let widths: Vec<usize> = (0..panel.columns.len()).filter_map(width).collect();
    for row in rows() {
        let mut line = String::new();
        for (at, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let _ = match at {
                0 => write!(line, "{cell:width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

/// Why each run is not VALID.
fn reasons<'e>(exhibit: &'e Exhibit<'_>) -> impl Iterator<Item = (&'e str, &'e Reason)> {
    let of = |(name, measurement): &'e (String, &'e crate::measurement::Measurement)| {
        let reasons = measurement.verdict.reasons.iter();
        let bad = reasons.filter(|reason| reason.level > Level::Valid);
        bad.map(|reason| (name.as_str(), reason))
    };
    exhibit.runs.iter().flat_map(of)
}

#[derive(Serialize)]
struct Document<'e> {
    schema: &'static str,
    scenario: &'static str,
    question: &'static str,
    note: &'e str,
    link: &'e str,
    link_bytes_per_s: f64,
    level: Level,
    figures: &'e [Value],
    runs: Vec<Run<'e>>,
}

#[derive(Serialize)]
struct Run<'e> {
    name: &'e str,
    result: json::Document<'e>,
}

/// The figures, and each run in the form of a single one.
///
/// # Errors
/// Only if the serializer fails.
pub(in crate::report) fn document(exhibit: &Exhibit<'_>, buckets: bool) -> Result<String> {
    let mut runs = Vec::with_capacity(exhibit.runs.len());
    for (name, measurement) in &exhibit.runs {
        let result = if buckets { json::of(measurement) } else { json::brief(measurement) };
        runs.push(Run { name, result });
    }
    let document = Document {
        schema: "postring-loadgen-scenario/1",
        scenario: exhibit.name,
        question: exhibit.question,
        note: &exhibit.note,
        link: &exhibit.link,
        link_bytes_per_s: exhibit.link_bytes_per_s,
        level: exhibit.level(),
        figures: &exhibit.figures,
        runs,
    };
    let mut text = serde_json::to_string(&document)?;
    text.push('\n');
    Ok(text)
}

/// The page.
pub(in crate::report) fn page(exhibit: &Exhibit<'_>) -> String {
    let mut out = String::with_capacity(64 << 10);
    let level = exhibit.level();
    html::begin(&mut out, &format!("loadgen {}", exhibit.name));
    html::title(&mut out, exhibit.name, level);
    let (question, heading) = (escape(exhibit.question), escape(&heading(exhibit)));
    let _ = writeln!(out, "<p class=\"lead\">{question}<br>{heading}</p>");
    let mut listed = String::new();
    for (name, reason) in reasons(exhibit) {
        let _ = write!(listed, "<li>{}: {}</li>", escape(name), escape(&reason.text));
    }
    if !listed.is_empty() {
        let class = html::class(level);
        let _ = writeln!(out, "<ul class=\"reasons {class}\">{listed}</ul>");
    }
    for panel in &exhibit.panels {
        section(&mut out, panel);
    }
    let _ = writeln!(out, "<p class=\"soft\">{}</p>", escape(&exhibit.note));
    if let Ok(document) = document(exhibit, false) {
        html::embed_text(&mut out, &document);
    }
    html::end(&mut out);
    out
}

fn section(out: &mut String, panel: &Panel) {
    html::open_section(out, &escape(&panel.title), panel.note);
    if let Some(curves) = &panel.curves {
        draw(out, curves);
    }
    out.push_str("<div class=\"scroll\"><table><thead><tr>");
    for column in &panel.columns {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(column));
    }
    out.push_str("</tr></thead><tbody>");
    for row in &panel.rows {
        out.push_str("<tr>");
        for (at, cell) in row.iter().map(|cell| escape(cell)).enumerate() {
            let _ = match at {
                0 => write!(out, "<th scope=\"row\">{cell}</th>"),
                _ => write!(out, "<td>{cell}</td>"),
            };
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>\n</section>\n");
}

fn draw(out: &mut String, curves: &Curves) {
    let names: Vec<String> = curves.lines.iter().map(|(name, _)| escape(name)).collect();
    let entries = CLASS_STYLES.into_iter().zip(names.iter().map(String::as_str));
    html::legend(out, &entries.collect::<Vec<_>>());
    let lines = CLASS_STYLES.into_iter().zip(&curves.lines);
    html::draw_both(
        out,
        &Chart {
            description: curves.description.clone(),
            x: curves.x,
            x_ticks: curves.x_ticks.clone(),
            x_title: curves.x_title,
            y_shown: curves.y_shown,
            series: lines.map(|(class, (_, p))| Line { class, points: p.clone() }).collect(),
            marks: Vec::new(),
        },
    );
}
