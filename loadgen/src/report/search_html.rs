//! A search's report as one HTML page that needs nothing else: response time and answers against
//! the offered rate.
//!
//! Above: `report` writes it. Below: `html` has the parts of a page, `svg` draws. Absent: the
//! search; scripts; colours.

use std::fmt::Write;

use crate::measurement::Measurement;
use crate::quantity::{count_shown, rate_shown, time_shown};
use crate::report::html;
use crate::report::svg::{Chart, Mark, Series, escape};
use crate::search::percentile_ns;
use crate::verdict::Level;

/// What a page says of a search besides its runs.
pub(crate) struct Found<'f> {
    /// `sweep` or `knee`.
    pub(crate) search: &'static str,
    /// The outcome in words; empty for a sweep.
    pub(crate) outcome: &'f str,
    /// The verdict over all.
    pub(crate) level: Level,
}

/// The page; `document` goes along for machines.
pub(crate) fn page(found: &Found<'_>, points: &[Measurement], document: &str) -> String {
    let mut rising: Vec<&Measurement> = points.iter().collect();
    rising.sort_by(|one, other| one.plan.rate_per_s.total_cmp(&other.plan.rate_per_s));
    let mut out = String::with_capacity(32 << 10);
    html::begin(&mut out, &format!("loadgen {}", found.search));
    let title = if found.search == "knee" { "Knee" } else { "Sweep" };
    html::title(&mut out, title, found.level);
    if let (Some(first), Some(last)) = (rising.first(), rising.last()) {
        let ends = [first, last].map(|point| rate_shown(point.plan.rate_per_s));
        let more = format!("{} runs from {} to {}", rising.len(), ends[0], ends[1]);
        let outcome = if found.outcome.is_empty() { "" } else { " · " };
        html::lead(&mut out, first, &format!("{more}{outcome}{}", found.outcome));
    }
    latency_section(&mut out, &rising);
    rate_section(&mut out, &rising);
    table_section(&mut out, &rising);
    html::embed_text(&mut out, document);
    html::end(&mut out);
    out
}

fn latency_section(out: &mut String, points: &[&Measurement]) {
    html::open_section(
        out,
        "Response time",
        "Against the offered rate. A line ends where too few messages were answered for a figure.",
    );
    html::legend(out, &[("median", "p50"), ("tail", "p99")]);
    let line = |share: f64| {
        let value = |point: &Measurement| percentile_ns(point, share).map(|ns| ns as f64);
        along(points, value)
    };
    let marks = points.iter().filter_map(|point| {
        let value_ns = percentile_ns(point, 0.99)?;
        let rows = point.rows();
        let found = rows[0].percentiles.iter().find(|percentile| percentile.share == 0.99)?;
        let interval = found.interval_ns.map(|(low, high)| (low as f64, high as f64));
        let x = point.plan.rate_per_s.log10();
        let (y, text) = (value_ns as f64, time_shown(value_ns));
        Some(Mark { class: "tail", x, y, interval, text })
    });
    let series = vec![
        Series { class: "tail", points: line(0.99) },
        Series { class: "median", points: line(0.5) },
    ];
    let description = "Response time p50 and p99 against the offered rate".to_owned();
    draw(out, points, description, series, marks.collect(), time_shown);
}

fn rate_section(out: &mut String, points: &[&Measurement]) {
    html::open_section(
        out,
        "Answers in time",
        "Messages per second answered in time, against what was offered: where they leave the \
         dotted line, the server no longer keeps up.",
    );
    html::legend(out, &[("median", "answered in time"), ("lag", "offered")]);
    let in_time = |point: &Measurement| {
        let on_time = point.overall.account.messages.on_time as f64;
        Some(on_time / (point.measured_ns.max(1) as f64 / 1e9))
    };
    let series = vec![
        Series { class: "lag", points: along(points, |point| Some(point.plan.rate_per_s)) },
        Series { class: "median", points: along(points, in_time) },
    ];
    let description = "Messages answered in time against messages offered".to_owned();
    draw(out, points, description, series, Vec::new(), |rate| rate_label(rate as f64));
}

/// A value of each point over the logarithm of its rate.
fn along(points: &[&Measurement], value: impl Fn(&Measurement) -> Option<f64>) -> Vec<(f64, f64)> {
    let point =
        |point: &&Measurement| (point.plan.rate_per_s.log10(), value(point).unwrap_or(f64::NAN));
    points.iter().map(point).collect()
}

fn draw(
    out: &mut String,
    points: &[&Measurement],
    description: String,
    series: Vec<Series>,
    marks: Vec<Mark>,
    y_shown: fn(u64) -> String,
) {
    let rates = points.iter().map(|point| point.plan.rate_per_s);
    let ends = rates
        .clone()
        .fold((f64::INFINITY, 1.0_f64), |(low, high), rate| (low.min(rate), high.max(rate)));
    let x = (ends.0.min(ends.1).log10() - 0.05, ends.1.log10() + 0.05);
    let x_ticks = rates.map(|rate| (rate.log10(), rate_label(rate))).collect();
    let x_title = "messages per second offered";
    html::draw_both(out, &Chart { description, x, x_ticks, x_title, y_shown, series, marks });
    out.push_str("</section>\n");
}

/// A rate on an axis: `800`, `20 k`, `1.5 M`.
fn rate_label(rate_per_s: f64) -> String {
    let short = |value: f64| {
        let text = format!("{value:.1}");
        text.strip_suffix(".0").unwrap_or(&text).to_owned()
    };
    match rate_per_s {
        rate if rate < 999.95 => short(rate),
        rate if rate < 999.95e3 => format!("{} k", short(rate / 1e3)),
        rate => format!("{} M", short(rate / 1e6)),
    }
}

fn table_section(out: &mut String, points: &[&Measurement]) {
    html::open_section(out, "Figures", "Missed: not answered in time, of what was scheduled.");
    out.push_str("<div class=\"scroll\"><table><thead><tr>");
    for title in ["offered", "sent", "answered", "missed", "p50", "p99", "lost", "verdict"] {
        let _ = write!(out, "<th scope=\"col\">{title}</th>");
    }
    out.push_str("</tr></thead><tbody>");
    let shown = |ns: Option<u64>| ns.map_or_else(|| "n/a".to_owned(), time_shown);
    for point in points {
        let messages = &point.overall.account.messages;
        let cells = [
            rate_shown(point.sent_per_s()),
            rate_shown(point.answered_per_s()),
            format!("{:.2} %", messages.missed_share() * 100.0),
            shown(percentile_ns(point, 0.5)),
            shown(percentile_ns(point, 0.99)),
            count_shown(messages.lost),
            point.verdict.level.name().to_owned(),
        ];
        let rate = rate_shown(point.plan.rate_per_s).replace(' ', "&nbsp;");
        let _ = write!(out, "<tr><th scope=\"row\">{rate}</th>");
        for cell in cells {
            let _ = write!(out, "<td>{cell}</td>");
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>\n");
    reasons(out, points);
    out.push_str("</section>\n");
}

/// Why a run is not VALID.
fn reasons(out: &mut String, points: &[&Measurement]) {
    out.push_str("<dl>");
    for point in points {
        let reasons = point.verdict.reasons.iter().filter(|reason| reason.level > Level::Valid);
        for reason in reasons {
            let (rate, text) = (rate_shown(point.plan.rate_per_s), escape(&reason.text));
            let _ = write!(out, "<dt>{rate}</dt><dd>{text}</dd>");
        }
    }
    out.push_str("</dl>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_on_an_axis_are_short() {
        let labels = [12.5, 800.0, 20_000.0, 999_960.0, 1.5e6].map(rate_label);
        assert_eq!(labels, ["12.5", "800", "20 k", "1 M", "1.5 M"]);
    }
}
