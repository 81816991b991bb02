//! Saved results side by side as one HTML page that needs nothing else.
//!
//! Above: `again`. Below: `words`; `html` has the parts of a page, `svg` draws.
//! Absent: scripts, colours.
//! Bound: one curve for each run; their styles begin again after `CLASS_STYLES`.

use std::fmt::Write;

use super::words::{asked, classes, counts, figures, rates, titles};
use crate::ledger::Ledger;
use crate::quantity::time_shown;
use crate::report::html::{self, CLASS_STYLES};
use crate::report::saved::{Latency, Percentile, Saved, Stretch};
use crate::report::svg::{Chart, Mark, Series, escape, nines};
use crate::verdict::Level;

/// The page.
pub(super) fn page(runs: &[Saved]) -> String {
    let mut out = String::with_capacity(64 << 10);
    let level = runs.iter().map(|run| run.verdict.level).max().unwrap_or(Level::Invalid);
    html::begin(&mut out, "loadgen: saved results");
    html::title(&mut out, "Saved results", level);
    reasons(&mut out, runs, level);
    curves(&mut out, runs);
    table(&mut out, runs);
    timeline(&mut out, runs);
    manifests(&mut out, runs);
    html::end(&mut out);
    out
}

fn reasons(out: &mut String, runs: &[Saved], level: Level) {
    if level == Level::Valid {
        return;
    }
    let _ = write!(out, "<ul class=\"reasons {}\">", html::class(level));
    for run in runs {
        for reason in run.verdict.reasons.iter().filter(|reason| reason.level > Level::Valid) {
            let _ = write!(out, "<li>{}: {}</li>", escape(&run.name), escape(&reason.text));
        }
    }
    out.push_str("</ul>\n");
}

fn legend(out: &mut String, runs: &[Saved]) {
    let names: Vec<_> = runs.iter().map(|run| escape(&run.name)).collect();
    let styles = CLASS_STYLES.into_iter().cycle();
    html::legend(out, &styles.zip(names.iter().map(String::as_str)).collect::<Vec<_>>());
}

fn curves(out: &mut String, runs: &[Saved]) {
    html::open_section(
        out,
        "Percentiles",
        "Response time over all classes. Messages that were never answered count as slower than \
         all others.",
    );
    legend(out, runs);
    let mut most = 10;
    let mut description = "Percentile curves of the response time".to_owned();
    let mut series = Vec::new();
    for (run, class) in runs.iter().zip(CLASS_STYLES.into_iter().cycle()) {
        let Some(response) = run.response() else { continue };
        let unanswered = run.ledger.measured.messages.unanswered();
        most = most.max(response.count.min(1 << 53) + unanswered);
        let _ = write!(description, ", {} p50 {}", run.name, figures(response)[0]);
        let curve = response.curve(unanswered).into_iter();
        series.push(Series {
            class,
            points: curve.map(|(share, ns)| (nines(share), ns as f64)).collect(),
        });
    }
    let end = (most as f64).log10();
    let marks = if let [one] = runs { marks(one) } else { Vec::new() };
    html::draw_both(out, &html::percentile_chart(description, end, series, marks));
    out.push_str("</section>\n");
}

/// With one run there is room for its figures.
fn marks(run: &Saved) -> Vec<Mark> {
    let percentiles = run.response().into_iter().flat_map(|response| &response.percentiles);
    let mark = |p: &Percentile| {
        let value_ns = p.value_ns?;
        let interval = p.low_95_ns.zip(p.high_95_ns);
        Some(Mark {
            class: CLASS_STYLES[0],
            x: nines(p.percentile / 100.0),
            y: value_ns as f64,
            interval: interval.map(|(low, high)| (low as f64, high as f64)),
            text: time_shown(value_ns),
        })
    };
    percentiles.filter_map(mark).collect()
}

fn table(out: &mut String, runs: &[Saved]) {
    html::open_section(
        out,
        "Figures",
        "Response time and ledger of each run and its classes. Missed: not answered in time, of \
         what was scheduled; expired: discarded by the library.",
    );
    out.push_str("<div class=\"scroll\"><table><thead><tr><th></th>");
    for title in titles().chain(["verdict"]) {
        let _ = write!(out, "<th scope=\"col\">{title}</th>");
    }
    out.push_str("</tr></thead><tbody>");
    for run in runs {
        let Some(response) = run.response() else { continue };
        let level = run.verdict.level.name();
        row(out, &run.name, &rates(run), response, &run.ledger.measured.messages, level);
        for class in classes(run) {
            row(out, &class.name, "", &class.latency[0], &class.ledger.messages, "");
        }
    }
    out.push_str("</tbody></table></div>\n</section>\n");
}

fn row(out: &mut String, name: &str, note: &str, latency: &Latency, ledger: &Ledger, level: &str) {
    let (name, note) = (escape(name), escape(note));
    let _ = write!(out, "<tr><th scope=\"row\">{name}<small>{note}</small></th>");
    for figure in figures(latency).into_iter().chain(counts(ledger)) {
        let _ = write!(out, "<td>{figure}</td>");
    }
    let _ = write!(out, "<td>{level}</td></tr>");
}

fn timeline(out: &mut String, runs: &[Saved]) {
    html::open_section(
        out,
        "Over time",
        "Response time p99 by the time a message was meant to leave.",
    );
    legend(out, runs);
    let mut end_s = 0.1_f64;
    let series = runs.iter().zip(CLASS_STYLES.into_iter().cycle()).map(|(run, class)| {
        end_s = end_s.max(run.manifest.measured_ns as f64 / 1e9);
        let point = |stretch: &Stretch| {
            let at_s = stretch.start_ns as f64 / 1e9;
            (at_s, stretch.response_p99_ns.map_or(f64::NAN, |ns| ns as f64))
        };
        Series { class, points: run.timeline.iter().map(point).collect() }
    });
    let series = series.collect();
    html::draw_both(
        out,
        &Chart {
            description: "Response time p99 over the runs".to_owned(),
            x: (0.0, end_s),
            x_ticks: html::second_ticks(end_s),
            x_title: "seconds since the end of the warm-up",
            y_shown: time_shown,
            series,
            marks: Vec::new(),
        },
    );
    out.push_str("</section>\n");
}

fn manifests(out: &mut String, runs: &[Saved]) {
    html::open_section(out, "Manifests", "What is needed to repeat each run.");
    out.push_str("<dl>");
    for run in runs {
        let manifest = &run.manifest;
        let unknown = || "unknown".to_owned();
        let text = format!(
            "loadgen {} — {} — {}; loadgen {} ({}), kernel {}, CPU {}, {}",
            manifest.arguments.join(" "),
            manifest.started_at,
            asked(run),
            manifest.version,
            manifest.commit.clone().unwrap_or_else(unknown),
            manifest.kernel.clone().unwrap_or_else(unknown),
            manifest.cpu.clone().unwrap_or_else(unknown),
            manifest.driver,
        );
        let _ = write!(out, "<dt>{}</dt><dd>{}</dd>", escape(&run.name), escape(&text));
    }
    out.push_str("</dl>\n</section>\n");
}
