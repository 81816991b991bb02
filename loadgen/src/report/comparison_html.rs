//! A comparison's report as one HTML page that needs nothing else: the percentile curves of both
//! sides and how far each figure moved, with its interval.
//!
//! Above: `report` writes it. Below: `compare::Comparison` has the figures, `html` the parts of a
//! page. Absent: statistics; scripts; colours. Each side's curve is of all its runs' messages
//! together; the figures below it are of single runs.

use std::fmt::Write;

use crate::compare::{Comparison, Figure, Runs};
use crate::histogram::Latencies;
use crate::measurement::Measurement;
use crate::report::html;
use crate::report::svg::{Series, escape, nines};
use crate::statistics;
use crate::verdict::Level;

/// Width of a drawn interval, in its own units, from one end of the axis to the other.
const WIDTH: f64 = 240.0;

/// The page; `document` goes along for machines.
pub(crate) fn page(comparison: &Comparison, runs: &Runs, document: &str) -> String {
    let mut out = String::with_capacity(32 << 10);
    html::begin(&mut out, "loadgen compare");
    html::title(&mut out, "Comparison", comparison.level);
    let [a, b] = &comparison.addresses;
    let sides = format!("A {a} · B {b} · {} pairs of runs, in turn", comparison.pairs);
    if let Some(run) = runs[0].first() {
        html::lead(&mut out, run, &sides);
    }
    let first = runs[0].first().map_or(&[][..], |run| &run.plan.workload.classes);
    for (at, class) in first.iter().enumerate() {
        class_section(&mut out, comparison, runs, at, &class.name);
    }
    reasons(&mut out, runs);
    html::embed_text(&mut out, document);
    html::end(&mut out);
    out
}

fn class_section(out: &mut String, comparison: &Comparison, runs: &Runs, at: usize, name: &str) {
    let note = format!(
        "Response time over all runs of a side; below it how far B is from A, from run to run. \
         Equal sides are taken for different in at most {:.0} of 100 such comparisons.",
        comparison.error_max * 100.0
    );
    html::open_section(out, &escape(name), &note);
    html::legend(out, &[("k0", "A"), ("k1", "B")]);
    let mut most = 10;
    let mut series = Vec::new();
    for (side, class) in runs.iter().zip(["k0", "k1"]) {
        let (merged, unanswered) = merged(side, at);
        most = most.max(merged.count() + unanswered);
        let curve = statistics::curve(&merged, unanswered);
        let points = curve.into_iter().map(|(share, ns)| (nines(share), ns as f64)).collect();
        series.push(Series { class, points });
    }
    let end = (most as f64).log10();
    html::draw_both(
        out,
        &html::percentile_chart(
            format!("Percentile curves of the response time of A and B: {name}"),
            end,
            series,
            Vec::new(),
        ),
    );
    let figures: Vec<&Figure> = comparison.figures.iter().filter(|f| f.class == name).collect();
    table(out, &figures);
    out.push_str("</section>\n");
}

/// The messages of a class in all runs of a side, and how many were never answered.
fn merged(side: &[Measurement], at: usize) -> (Latencies, u64) {
    let mut merged = Latencies::new();
    let mut unanswered = 0;
    for books in side.iter().filter_map(|run| run.books.classes.get(at)) {
        merged.merge(&books.response);
        unanswered += books.account.messages.unanswered();
    }
    (merged, unanswered)
}

fn table(out: &mut String, figures: &[&Figure]) {
    out.push_str("<div class=\"scroll\"><table><thead><tr><th></th>");
    for title in ["A", "B", "B against A", "interval", ""] {
        let _ = write!(out, "<th scope=\"col\">{title}</th>");
    }
    out.push_str("</tr></thead><tbody>");
    let ends = figures.iter().flat_map(|figure| [figure.low, figure.high]);
    let reach = ends.flatten().fold(0.01, |reach: f64, end| reach.max(end.abs())).min(2.0);
    for figure in figures {
        let [a, b] = figure.shown_medians();
        let (change, said) = (figure.shown_change(), figure.said());
        let interval = figure.shown_interval();
        let _ = write!(out, "<tr><th scope=\"row\">{}</th><td>{a}</td><td>{b}</td>", figure.figure);
        let _ = write!(out, "<td>{change}<small>{said}</small></td><td>{interval}</td><td>");
        drawn_interval(out, figure, reach);
        out.push_str("</td></tr>");
    }
    out.push_str("</tbody></table></div>\n");
}

/// The interval on an axis from -`reach` to `reach`, around a line at no change.
fn drawn_interval(out: &mut String, figure: &Figure, reach: f64) {
    let (Some(change), Some(low), Some(high)) = (figure.change, figure.low, figure.high) else {
        return;
    };
    let x = |value: f64| WIDTH * (0.5 + value.clamp(-reach, reach) / reach * 0.48);
    // Even an interval without any width can be seen.
    let (at, low, high) = (x(change), x(low) - 1.0, x(high) + 1.0);
    let class = if figure.shown { "tail" } else { "median" };
    let _ = write!(
        out,
        "<svg class=\"change\" viewBox=\"0 0 {WIDTH} 20\" role=\"img\" aria-label=\"{}\">\
         <path class=\"axis\" d=\"M{} 1V19\"/>\
         <path class=\"line {class}\" d=\"M{low:.1} 10L{high:.1} 10\"/>\
         <circle class=\"mark {class}\" cx=\"{at:.1}\" cy=\"10\" r=\"4\"/></svg>",
        figure.shown_interval(),
        WIDTH / 2.0
    );
}

/// Why a run is not VALID.
fn reasons(out: &mut String, runs: &Runs) {
    let bad = |run: &&Measurement| run.verdict.level > Level::Valid;
    if !runs.iter().flatten().any(|run| bad(&run)) {
        return;
    }
    html::open_section(out, "Runs to doubt", "What was not as it should be.");
    out.push_str("<dl>");
    for (name, side) in ["A", "B"].iter().zip(runs) {
        for (number, run) in side.iter().enumerate() {
            for reason in run.verdict.reasons.iter().filter(|r| r.level > Level::Valid) {
                let text = escape(&reason.text);
                let _ = write!(out, "<dt>{name}, run {}</dt><dd>{text}</dd>", number + 1);
            }
        }
    }
    out.push_str("</dl>\n</section>\n");
}
