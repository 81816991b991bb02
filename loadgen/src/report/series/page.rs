//! A scenario's report as one HTML page that needs nothing else.
//!
//! Above: `report` writes it. Below: `forms` has the figures, `html` the parts of a page.
//! Absent: scripts, colours.

use std::fmt::Write;

use super::forms::{self, TITLES};
use super::{Cell, Series};
use crate::quantity::time_shown;
use crate::report::html::{self, CLASS_STYLES};
use crate::report::svg::{Series as Line, escape, nines};
use crate::report::text;
use crate::statistics;
use crate::verdict::Level;

/// The page.
pub(in crate::report) fn page(series: &Series) -> String {
    let mut out = String::with_capacity(128 << 10);
    let level = series.level();
    html::begin(&mut out, &format!("loadgen {}", series.scenario));
    html::title(&mut out, series.scenario, level);
    let _ = writeln!(
        out,
        "<p class=\"lead\">{}<br>{}<br>{}</p>",
        escape(series.question),
        escape(&forms::heading(series)),
        escape(&forms::alone(series))
    );
    if !series.note.is_empty() {
        let _ = writeln!(out, "<p class=\"soft\">{}</p>", escape(series.note));
    }
    reasons(&mut out, series, level);
    for cells in forms::by_load(series) {
        block(&mut out, series, cells);
    }
    if let Ok(document) = forms::document(series, false) {
        html::embed_text(&mut out, &document);
    }
    html::end(&mut out);
    out
}

fn reasons(out: &mut String, series: &Series, level: Level) {
    if level == Level::Valid {
        return;
    }
    let _ = write!(out, "<ul class=\"reasons {}\">", html::class(level));
    for (name, measurement) in forms::runs(series) {
        let reasons = measurement.verdict.reasons.iter();
        for reason in reasons.filter(|reason| reason.level > Level::Valid) {
            let _ = write!(out, "<li>{}: {}</li>", escape(&name), escape(&reason.text));
        }
    }
    out.push_str("</ul>\n");
}

/// One load: the curves of the most urgent class by variant, and the table of all classes.
fn block(out: &mut String, series: &Series, cells: &[Cell]) {
    let Some(first) = cells.first() else { return };
    let classes = &first.measurement.plan.workload.classes;
    let urgent = escape(&classes[0].name);
    let note = format!(
        "Response time of {urgent}; below it all classes. Missed: not answered in time, of what \
         was scheduled; expired: discarded by the library; wasted: bytes sent that came late."
    );
    html::open_section(out, &format!("Load {:.0}&nbsp;%", first.load * 100.0), &note);
    let names = cells.iter().map(|cell| cell.told);
    html::legend(out, &CLASS_STYLES.into_iter().zip(names).collect::<Vec<_>>());
    curves(out, &urgent, cells);
    out.push_str("<div class=\"scroll\"><table><thead><tr><th></th><th></th>");
    for title in TITLES {
        let _ = write!(out, "<th scope=\"col\">{title}</th>");
    }
    out.push_str("</tr></thead><tbody>");
    for (number, class) in classes.iter().enumerate() {
        for (at, cell) in cells.iter().enumerate() {
            let name = if at == 0 { escape(&class.name) } else { String::new() };
            let mark = text::mark(cell.measurement.verdict.level);
            let told = cell.told;
            let _ = write!(out, "<tr><th scope=\"row\">{name}</th><td>{told}{mark}</td>");
            let books = &cell.measurement.books.classes[number];
            for figure in forms::figures(&cell.measurement, books) {
                let _ = write!(out, "<td>{figure}</td>");
            }
            out.push_str("</tr>");
        }
    }
    out.push_str("</tbody></table></div>\n<dl>");
    for cell in cells {
        let useful = forms::useful_share(series, cell) * 100.0;
        let [_, submitted, sent] = text::ledger(&cell.measurement);
        let told = cell.told;
        let _ = write!(
            out,
            "<dt>{told}</dt><dd>{useful:.1} % of the link in time; {submitted}; {sent}</dd>"
        );
    }
    out.push_str("</dl>\n</section>\n");
}

fn curves(out: &mut String, urgent: &str, cells: &[Cell]) {
    let mut most = 10;
    let mut description = format!("Percentile curves of the response time of {urgent}");
    let mut lines = Vec::new();
    for (cell, class) in cells.iter().zip(CLASS_STYLES) {
        let books = &cell.measurement.books.classes[0];
        let unanswered = books.account.messages.unanswered();
        most = most.max(books.response.count() + unanswered);
        let curve = statistics::curve(&books.response, unanswered);
        if let Some(median) = curve.iter().find(|(share, _)| *share >= 0.5) {
            let _ = write!(description, ", {} p50 {}", cell.told, time_shown(median.1));
        }
        let points = curve.into_iter().map(|(share, ns)| (nines(share), ns as f64)).collect();
        lines.push(Line { class, points });
    }
    let end = (most as f64).log10();
    html::draw_both(out, &html::percentile_chart(description, end, lines, Vec::new()));
}
