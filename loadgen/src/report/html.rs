//! The report as one HTML page that needs nothing else: no network, no script.
//!
//! Above: `report` writes it. Below: `svg` draws, `text` words, `json` gives the data the page
//! carries along for machines. Absent: colours (in `style.css`, light and dark by preference).

use std::fmt::Write;

use crate::measurement::{Measurement, Row};
use crate::quantity::{cores_shown, count_shown, rate_shown, time_shown};
use crate::report::svg::{Chart, Mark, Series, escape, nines};
use crate::report::{json, text};
use crate::statistics::{self, Percentile};
use crate::verdict::Level;

/// Where it is drawn that no message waits: a logarithmic axis has no zero.
const WAITED_NONE_NS: u64 = 1_000;

const STYLE: &str = include_str!("style.css");

/// The page.
pub(crate) fn page(measurement: &Measurement) -> String {
    let mut out = String::with_capacity(64 << 10);
    let rows = measurement.rows();
    begin(&mut out, &format!("loadgen: {}", measurement.verdict.level.name()));
    header(&mut out, measurement);
    headlines(&mut out, measurement, &rows[0]);
    percentile_section(&mut out, measurement, &rows);
    table_section(&mut out, &rows);
    class_section(&mut out, measurement);
    timeline_section(&mut out, measurement);
    waiting_section(&mut out, measurement);
    ledger_section(&mut out, measurement);
    manifest_section(&mut out, measurement);
    if let Ok(document) = json::summary(measurement) {
        embed_text(&mut out, &document);
    }
    end(&mut out);
    out
}

/// The start of a page, up to its content.
pub(super) fn begin(out: &mut String, title: &str) {
    out.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    let title = escape(title);
    let _ = writeln!(out, "<title>{title}</title>");
    let _ = writeln!(out, "<style>\n{STYLE}</style>\n</head>\n<body>\n<main>");
}

/// Its end.
pub(super) fn end(out: &mut String) {
    out.push_str("</main>\n</body>\n</html>\n");
}

/// The result for machines; `<` is spelled so that nothing in it can end the element.
pub(super) fn embed_text(out: &mut String, document: &str) {
    let document = document.trim_end().replace('<', "\\u003c");
    let _ = writeln!(out, "<script type=\"application/json\">{document}</script>");
}

/// The heading with the verdict.
pub(super) fn title(out: &mut String, title: &str, level: Level) {
    let (title, class, name) = (escape(title), class(level), level.name());
    let badge = format!("<span class=\"badge {class}\">{name}</span>");
    let _ = writeln!(out, "<header><h1>{title}</h1>{badge}</header>");
}

/// The style of a verdict.
pub(super) const fn class(level: Level) -> &'static str {
    match level {
        Level::Valid => "valid",
        Level::Suspect => "suspect",
        Level::Invalid => "invalid",
    }
}

/// What was asked of whom, and one thing more.
pub(super) fn lead(out: &mut String, measurement: &Measurement, more: &str) {
    let (workload, places) = (text::workload(measurement), text::places(measurement));
    let lines = [more, &workload, &places];
    let lines = lines.iter().filter(|line| !line.is_empty()).map(|line| escape(line));
    let _ = writeln!(out, "<p class=\"lead\">{}</p>", lines.collect::<Vec<_>>().join("<br>"));
}

fn header(out: &mut String, measurement: &Measurement) {
    let verdict = &measurement.verdict;
    let class = class(verdict.level);
    title(out, "Message latency", verdict.level);
    lead(out, measurement, "");
    if !verdict.reasons.is_empty() {
        let _ = write!(out, "<ul class=\"reasons {class}\">");
        for reason in &verdict.reasons {
            let _ = write!(out, "<li>{}</li>", escape(&reason.text));
        }
        out.push_str("</ul>\n");
    }
}

fn headlines(out: &mut String, measurement: &Measurement, response: &Row<'_>) {
    let share = |share: f64| {
        let found = response.percentiles.iter().find(|percentile| percentile.share == share);
        found.map_or_else(|| "n/a".to_owned(), text::figure)
    };
    let heads = [
        (share(0.5), "response time p50"),
        (share(0.99), "response time p99"),
        (share(0.999), "response time p99.9"),
        (rate_shown(measurement.answered_per_s()), "messages answered"),
    ];
    out.push_str("<div class=\"heads\">");
    for (value, name) in heads {
        let _ = write!(out, "<div class=\"head\"><b>{value}</b><span>{name}</span></div>");
    }
    out.push_str("</div>\n");
}

/// A section with its heading and a note.
pub(super) fn open_section(out: &mut String, title: &str, note: &str) {
    let _ = writeln!(out, "<section>\n<h2>{title}</h2>\n<p class=\"soft\">{note}</p>");
}

/// What the lines of a chart are.
pub(super) fn legend(out: &mut String, entries: &[(&str, &str)]) {
    out.push_str("<div class=\"legend\">");
    for (class, name) in entries {
        let _ = write!(out, "<span><i class=\"{class}\"></i>{name}</span>");
    }
    out.push_str("</div>\n");
}

/// A chart, once for wide and once for narrow screens.
pub(super) fn draw_both(out: &mut String, chart: &Chart) {
    let wide = chart.draw("wide", 960.0, 400.0);
    if wide.is_empty() {
        out.push_str("<p class=\"soft\">Nothing was measured.</p>\n");
        return;
    }
    // Scaled down to a phone, a wide chart's letters could not be read: it gets its own.
    let _ = writeln!(out, "{wide}\n{}", chart.draw("narrow", 400.0, 360.0));
}

fn percentile_section(out: &mut String, measurement: &Measurement, rows: &[Row<'_>]) {
    open_section(
        out,
        "Percentiles",
        "How long all but the slowest messages took. Each step to the right leaves a tenth of \
         the messages before it. The bands on the marks are 95&nbsp;% confidence intervals.",
    );
    let classes = ["response", "service", "lag"];
    let names = ["response time, from the intended send", "service time"];
    let shown = classes.iter().zip(rows);
    let entries: Vec<_> = classes.into_iter().zip(names).collect();
    legend(out, &entries);
    let unanswered = measurement.overall.account.messages.unanswered();
    let series: Vec<Series> = shown
        .take(names.len())
        .map(|(class, row)| {
            let curve = statistics::curve(row.latencies, unanswered);
            let points = curve.into_iter().map(|(share, ns)| (nines(share), ns as f64)).collect();
            Series { class, points }
        })
        .rev()
        .collect();
    let n = (measurement.overall.account.messages.received() + unanswered).max(10) as f64;
    let end = n.log10();
    draw_both(
        out,
        &percentile_chart(
            described(&rows[0]),
            end,
            series,
            rows[0].percentiles.iter().filter_map(mark).collect(),
        ),
    );
    out.push_str("</section>\n");
}

/// The curve in words, for readers who cannot see it.
fn described(row: &Row<'_>) -> String {
    let mut text = format!("Percentile curve of the {}", row.name);
    for percentile in &row.percentiles {
        let _ = write!(text, ", p{} {}", percentile.share * 100.0, text::figure(percentile));
    }
    text
}

fn mark(percentile: &Percentile) -> Option<Mark> {
    let value_ns = percentile.value_ns?;
    Some(Mark {
        class: "response",
        x: nines(percentile.share),
        y: value_ns as f64,
        interval: percentile.interval_ns.map(|(low, high)| (low as f64, high as f64)),
        text: time_shown(value_ns),
    })
}

/// A chart of times by percentile, up to that of `end` nines.
pub(super) fn percentile_chart(
    description: String,
    end: f64,
    series: Vec<Series>,
    marks: Vec<Mark>,
) -> Chart {
    Chart {
        description,
        x: (0.0, end),
        x_ticks: percentile_ticks(end),
        x_title: "percentile",
        y_shown: time_shown,
        series,
        marks,
    }
}

/// The marks of the axis of percentiles.
pub(super) fn percentile_ticks(end: f64) -> Vec<(f64, String)> {
    let ticks = [
        (nines(0.5), "50 %"),
        (1.0, "90 %"),
        (2.0, "99 %"),
        (3.0, "99.9 %"),
        (4.0, "99.99 %"),
        (5.0, "99.999 %"),
        (6.0, "99.9999 %"),
        (7.0, "99.99999 %"),
    ];
    ticks.into_iter().filter(|(at, _)| *at <= end).map(|(at, t)| (at, t.to_owned())).collect()
}

fn table_section(out: &mut String, rows: &[Row<'_>]) {
    open_section(out, "Figures", "Below each: its 95&nbsp;% interval and how many were slower.");
    out.push_str("<div class=\"scroll\"><table><thead><tr><th></th>");
    for title in ["p50", "p90", "p99", "p99.9", "max"] {
        let _ = write!(out, "<th scope=\"col\">{title}</th>");
    }
    out.push_str("</tr></thead><tbody>");
    for row in rows {
        let _ = write!(out, "<tr><th scope=\"row\">{}", row.name);
        let _ = write!(out, "<small>{}</small></th>", row.meaning);
        for percentile in &row.percentiles {
            cell(out, percentile);
        }
        let max = row.max_ns.map_or_else(|| "n/a".to_owned(), time_shown);
        let of = count_shown(row.latencies.count());
        let _ = write!(out, "<td>{max}<small>of {of}</small></td></tr>");
    }
    out.push_str("</tbody></table></div>\n</section>\n");
}

/// One curve and one row for each class.
fn class_section(out: &mut String, measurement: &Measurement) {
    if !measurement.plan.workload.is_watched() {
        return;
    }
    open_section(
        out,
        "Classes",
        "Response time by class. What the engine discarded because it would be late is in the \
         table, not in the curves; what was refused or never answered counts as slower than all.",
    );
    let names: Vec<_> = measurement.classes().map(|(class, _)| escape(&class.name)).collect();
    let styles = CLASS_STYLES.into_iter().cycle();
    let entries: Vec<_> = styles.clone().zip(names.iter().map(String::as_str)).collect();
    legend(out, &entries);
    let mut most = 10;
    let series = measurement.classes().zip(styles).map(|((_, books), style)| {
        let unanswered = books.account.messages.unanswered();
        most = most.max(books.response.count() + unanswered);
        let curve = statistics::curve(&books.response, unanswered);
        let points = curve.into_iter().map(|(share, ns)| (nines(share), ns as f64)).collect();
        Series { class: style, points }
    });
    let series: Vec<Series> = series.collect();
    let end = (most as f64).log10();
    draw_both(
        out,
        &percentile_chart(
            format!("Percentile curves of the response time: {}", names.join(", ")),
            end,
            series,
            Vec::new(),
        ),
    );
    class_table(out, measurement);
    out.push_str("</section>\n");
}

/// Colour and stroke of each class's curve, in `style.css`; more classes begin again.
pub(super) const CLASS_STYLES: [&str; 6] = ["k0", "k1", "k2", "k3", "k4", "k5"];

fn class_table(out: &mut String, measurement: &Measurement) {
    out.push_str("<div class=\"scroll tight\"><table><thead><tr><th></th>");
    for title in ["p50", "p99", "p99.9"].iter().chain(&text::CELLS) {
        let _ = write!(out, "<th scope=\"col\">{title}</th>");
    }
    out.push_str("</tr></thead><tbody>");
    for (class, books) in measurement.classes() {
        let (name, asks) = (escape(&class.name), escape(&text::asks(class)));
        let _ = write!(out, "<tr><th scope=\"row\">{name}<small>{asks}</small></th>");
        let rows = measurement.rows_of(books);
        for percentile in rows[0].percentiles.iter().filter(|p| p.share != 0.9) {
            cell(out, percentile);
        }
        for value in text::cells(books) {
            let _ = write!(out, "<td>{value}</td>");
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>\n");
}

fn cell(out: &mut String, percentile: &Percentile) {
    let _ = write!(out, "<td>{}", text::figure(percentile));
    if let Some((low, high)) = percentile.interval_ns {
        let _ = write!(out, "<small>{} – {}</small>", time_shown(low), time_shown(high));
    }
    let _ = write!(out, "<small>{} above</small></td>", count_shown(percentile.above));
}

fn timeline_section(out: &mut String, measurement: &Measurement) {
    let timeline = &measurement.books.timeline;
    let note = format!(
        "Response time in stretches of {}, by the time a message was meant to leave.",
        time_shown(timeline.interval_ns())
    );
    open_section(out, "Over time", &note);
    let mut entries = vec![("median", "p50"), ("tail", "p99")];
    let points = |value: &dyn Fn(&crate::histogram::Interval) -> Option<f64>| -> Vec<(f64, f64)> {
        let middle = |number: usize| (number as f64 + 0.5) * timeline.interval_ns() as f64 / 1e9;
        let intervals = timeline.intervals().iter().enumerate();
        intervals.map(|(n, interval)| (middle(n), value(interval).unwrap_or(f64::NAN))).collect()
    };
    let mut series = Vec::new();
    if measurement.plan.open_loop() {
        entries.push(("lag", "mean send lag of the generator"));
        series.push(Series { class: "lag", points: points(&|i| i.lag_mean_ns()) });
    }
    let at = |share: f64| points(&|interval| interval.response_ns(share).map(|ns| ns as f64));
    series.push(Series { class: "tail", points: at(0.99) });
    series.push(Series { class: "median", points: at(0.5) });
    legend(out, &entries);
    let end_s = measurement.plan.duration.as_secs_f64();
    draw_both(
        out,
        &Chart {
            description: "Response time p50 and p99 over the run".to_owned(),
            x: (0.0, end_s),
            x_ticks: second_ticks(end_s),
            x_title: "seconds since the end of the warm-up",
            y_shown: time_shown,
            series,
            marks: Vec::new(),
        },
    );
    out.push_str("</section>\n");
}

/// The age of the oldest message of each class that the kernel did not have yet.
fn waiting_section(out: &mut String, measurement: &Measurement) {
    let timeline = &measurement.books.timeline;
    let longest_ns =
        (0..measurement.books.classes.len()).filter_map(|c| timeline.longest_wait_ns(c));
    if longest_ns.max().unwrap_or(0) == 0 {
        return;
    }
    let note = "How long the oldest message of each class had waited to be sent, by a look every \
                50&nbsp;ms; also of those that were discarded later. None waiting is drawn as \
                1&nbsp;µs.";
    open_section(out, "Oldest waiting", note);
    let names: Vec<_> = measurement.classes().map(|(class, _)| escape(&class.name)).collect();
    let styles = CLASS_STYLES.into_iter().cycle();
    legend(out, &styles.clone().zip(names.iter().map(String::as_str)).collect::<Vec<_>>());
    let middle = |number: usize| (number as f64 + 0.5) * timeline.interval_ns() as f64 / 1e9;
    let series = styles.zip(0..names.len()).map(|(style, class)| {
        let age = |waited_ns: &[u64]| {
            waited_ns.get(class).map_or(f64::NAN, |ns| (*ns).max(WAITED_NONE_NS) as f64)
        };
        let intervals = timeline.intervals().iter().enumerate();
        let points = intervals.map(|(at, i)| (middle(at), age(&i.waited_ns))).collect();
        Series { class: style, points }
    });
    let end_s = measurement.plan.duration.as_secs_f64();
    draw_both(
        out,
        &Chart {
            description: format!("Age of the oldest waiting message: {}", names.join(", ")),
            x: (0.0, end_s),
            x_ticks: second_ticks(end_s),
            x_title: "seconds since the end of the warm-up",
            y_shown: time_shown,
            series: series.collect(),
            marks: Vec::new(),
        },
    );
    out.push_str("</section>\n");
}

/// At most six round numbers of seconds.
pub(super) fn second_ticks(end_s: f64) -> Vec<(f64, String)> {
    let rough = end_s / 5.0;
    let decade = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade);
    let step = steps.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(rough);
    let digits = if step < 1.0 { (-step.log10().floor()) as usize } else { 0 };
    let ticks = (0..=5).map(|n| f64::from(n) * step).filter(|at| *at <= end_s * 1.001);
    ticks.map(|at| (at, format!("{at:.digits$}"))).collect()
}

fn ledger_section(out: &mut String, measurement: &Measurement) {
    let ledger = &measurement.overall.account.messages;
    open_section(out, "Ledger", "Where every scheduled message went. All sums close exactly.");
    let parts = [
        ("received", "answered in time", ledger.on_time),
        ("late", "answered late", ledger.late),
        ("expired", "expired before they were sent", ledger.expired),
        ("open", "refused, lost or open at the end", ledger.unanswered()),
        ("skipped", "skipped", ledger.skipped.total()),
    ];
    out.push_str("<div class=\"bar\" aria-hidden=\"true\">");
    for (class, _, count) in parts.iter().filter(|(_, _, count)| *count > 0) {
        let _ = write!(out, "<span class=\"{class}\" style=\"flex-grow:{count}\"></span>");
    }
    out.push_str("</div>\n<div class=\"legend\">");
    for (class, name, count) in parts {
        let count = count_shown(count);
        let _ = write!(out, "<span><span class=\"dot {class}\"></span>{count} {name}</span>");
    }
    out.push_str("</div>\n<dl>");
    for (name, sum) in ["Scheduled", "Submitted", "Sent"].iter().zip(text::ledger(measurement)) {
        let _ = write!(out, "<dt>{name}</dt><dd>{sum}</dd>");
    }
    out.push_str("</dl>\n</section>\n");
}

fn manifest_section(out: &mut String, measurement: &Measurement) {
    let (environment, plan) = (&measurement.environment, &measurement.plan);
    open_section(out, "Manifest", "What is needed to repeat this run.");
    let unknown = || "unknown".to_owned();
    let or_unknown = |value: &Option<String>| value.clone().unwrap_or_else(unknown);
    let commit = environment.commit.unwrap_or("unknown commit");
    let virtual_machine = match environment.virtual_machine {
        Some(true) => " (virtual machine)",
        _ => "",
    };
    let cpus = cores_shown(&environment.cpus_allowed);
    let arguments = ["loadgen".to_owned()].into_iter().chain(environment.arguments.clone());
    let entries = [
        ("Command", arguments.collect::<Vec<_>>().join(" ")),
        ("Started", environment.started_at.clone()),
        ("Rates", text::rates(measurement)),
        ("CPU time", text::cpu(measurement)),
        match text::datagrams(measurement) {
            Some(text) => ("Datagrams", text),
            None => ("TCP", text::tcp(measurement).unwrap_or_else(unknown)),
        },
        ("Longest standstill", time_shown(measurement.facts.longest_gap_ns)),
        ("Depth and seed", format!("{} · {}", plan.depth, plan.seed)),
        ("Driver", format!("{} (asked: {})", measurement.driver, plan.driver.name())),
        ("loadgen", format!("{} ({commit})", environment.version)),
        ("Kernel", or_unknown(&environment.kernel)),
        ("CPU", format!("{}{virtual_machine}, CPUs {cpus}", or_unknown(&environment.cpu))),
        ("Clock source", or_unknown(&environment.clock)),
        ("Governor", or_unknown(&environment.governor)),
    ];
    out.push_str("<dl>");
    for (name, value) in entries {
        let _ = write!(out, "<dt>{name}</dt><dd>{}</dd>", escape(&value));
    }
    out.push_str("</dl>\n</section>\n");
}
