//! The table on the terminal.
//!
//! Above: `report` prints it. Below: `measurement`, `quantity`. Absent: the terminal itself;
//! colour is an argument. Bound: 100 columns, except for a long reason.

use std::fmt::Write;
use std::path::Path;

use crate::class_books::ClassBooks;
use crate::measurement::{Measurement, Row};
use crate::quantity::{bytes_shown, cores_shown, count_shown, rate_shown, size_shown, time_shown};
use crate::recorder::Strays;
use crate::statistics::{Percentile, SAMPLES_ABOVE_MIN};
use crate::verdict::Level;
use crate::workload::{Class, Workload};

/// Width of the first column.
const NAME: usize = 15;
/// Width of a figure's column.
const FIGURE: usize = 15;
/// Width of a column of the classes' ledgers.
const CELL: usize = 12;

/// The whole table; `html` is the report to point at.
pub(crate) fn table(measurement: &Measurement, html: Option<&Path>, colours: bool) -> String {
    let mut out = String::new();
    head(&mut out, measurement);
    figures(&mut out, measurement);
    classes(&mut out, measurement);
    sums(&mut out, measurement);
    verdict(&mut out, measurement, colours);
    if let Some(path) = html {
        line(&mut out, "report", &path.display().to_string());
    }
    out
}

/// The verdict and its reasons alone.
pub(crate) fn reasons(measurement: &Measurement) -> String {
    let mut out = String::new();
    verdict(&mut out, measurement, false);
    out
}

/// The run in words: what was asked of whom.
pub(crate) fn workload(measurement: &Measurement) -> String {
    let plan = &measurement.plan;
    let arrival = if plan.open_loop() {
        let load = plan.load.map(|load| format!(" ({:.0} % of the capacity)", load * 100.0));
        let (arrival, rate) = (plan.arrival.shown(), rate_shown(plan.rate_per_s));
        format!("open loop, {arrival} arrivals, {rate}{}", load.unwrap_or_default())
    } else {
        format!("closed loop, {} in flight per connection", plan.depth)
    };
    let mut connections =
        if plan.connections == 1 { "connection" } else { "connections" }.to_owned();
    if plan.carriers > 1 {
        let _ = write!(connections, " of {} Carriers", plan.carriers);
    }
    if let Some(per_s) = plan.churn_per_s {
        let _ = write!(connections, ", {} made anew", rate_shown(per_s));
    }
    format!(
        "{arrival} · {} {connections} · {} · {} measured after {} warm-up",
        count_shown(plan.connections.into()),
        sizes(&plan.workload),
        time_shown(measurement.measured_ns),
        time_shown(plan.warmup_ns()),
    )
}

/// How long the messages are.
fn sizes(workload: &Workload) -> String {
    match workload.classes.as_slice() {
        [one] => one.sizes.shown(),
        some => {
            let mean = workload.mean_bytes().round() as usize;
            format!("{} classes, {} on average", some.len(), size_shown(mean))
        }
    }
}

/// What a class asks for, in a few words.
pub(crate) fn asks(class: &Class) -> String {
    let mut text = format!("{:.1} %, {}", class.share * 100.0, class.sizes.shown());
    if class.niceness > 0 {
        let _ = write!(text, ", niceness {}", class.niceness);
        text += if class.tells_niceness { "" } else { " (not told)" };
    }
    if let Some(deadline) = class.deadline {
        let name = if class.tells_lifetime { "lifetime" } else { "deadline" };
        let _ = write!(text, ", {name} {}", time_shown(deadline.as_nanos() as u64));
    }
    if let Some(length) = class.chain {
        let _ = write!(text, ", chains of {length}");
    }
    text
}

/// Who answered and who asked.
pub(crate) fn places(measurement: &Measurement) -> String {
    let plan = &measurement.plan;
    let (address, driver) = (&measurement.address, &measurement.driver);
    if !measurement.agents.is_empty() {
        let agents: Vec<_> = measurement.agents.iter().map(|agent| &*agent.address).collect();
        return format!("{address} · {} agents: {}, {driver}", agents.len(), agents.join(", "));
    }
    let generator = cores_shown(&plan.generator_cores);
    let generator = format!("generator on CPU {generator}, {driver}");
    if plan.address.is_some() {
        return format!("{address} · {generator}");
    }
    format!("{address} embedded on CPU {} · {generator}", cores_shown(&plan.server_cores))
}

/// Asked, sent and answered rate.
pub(crate) fn rates(measurement: &Measurement) -> String {
    let answered = rate_shown(measurement.answered_per_s());
    if !measurement.plan.open_loop() {
        return format!("answered {answered}");
    }
    format!(
        "asked {} · sent {} · answered {answered} · {} in time",
        rate_shown(measurement.plan.rate_per_s),
        rate_shown(measurement.sent_per_s()),
        bytes_shown(measurement.goodput_bytes_per_s(&measurement.overall)) + "/s",
    )
}

/// How busy both sides were.
pub(crate) fn cpu(measurement: &Measurement) -> String {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let generator = percent(measurement.facts.busy_share);
    let generator = format!("generator at work {generator} of its time (it spins for the rest)");
    match measurement.server_busy_share {
        Some(share) => format!("server's CPUs busy {} · {generator}", percent(share)),
        None => format!("server's CPUs unknown · {generator}"),
    }
}

/// What the path did to datagrams, where messages are some.
pub(crate) fn datagrams(measurement: &Measurement) -> Option<String> {
    if !measurement.facts.datagrams {
        return None;
    }
    let ledger = &measurement.overall.account.messages;
    let unanswered = ledger.lost + ledger.in_flight;
    let share = unanswered as f64 / ledger.sent.max(1) as f64;
    let Strays { duplicated, reordered, .. } = measurement.facts.strays;
    Some(format!(
        "{} of {} or their answers were lost ({:.3} %), {} answers came out of turn, {} twice",
        count_shown(unanswered),
        count_shown(ledger.sent),
        share * 100.0,
        count_shown(reordered),
        count_shown(duplicated)
    ))
}

/// What TCP had to send again, if that is known.
pub(crate) fn tcp(measurement: &Measurement) -> Option<String> {
    let total = measurement.tcp.as_ref().filter(|_| !measurement.facts.datagrams)?.total;
    Some(format!(
        "{} segments sent again, beside {} (all connections of this network namespace)",
        count_shown(total.segments_retransmitted),
        count_shown(total.segments_sent)
    ))
}

/// How long the oldest message of a watched class was seen waiting, and how often less urgent
/// ones overtook it.
pub(crate) fn waited(measurement: &Measurement, number: usize) -> Option<String> {
    let oldest_ns = measurement.books.timeline.longest_wait_ns(number)?;
    let inversions = measurement.books.classes[number].inversions;
    let (oldest, inversions) = (time_shown(oldest_ns), count_shown(inversions));
    Some(format!("oldest waiting {oldest}, inversions {inversions}"))
}

/// The three sums of the ledger, over all classes.
pub(crate) fn ledger(measurement: &Measurement) -> [String; 3] {
    let ledger = &measurement.overall.account.messages;
    let n = count_shown;
    [
        format!(
            "scheduled {} = submitted {} + skipped {}",
            n(ledger.scheduled),
            n(ledger.submitted),
            n(ledger.skipped.total())
        ),
        format!(
            "submitted {} = sent {} + expired {} + refused {} + unsent {}",
            n(ledger.submitted),
            n(ledger.sent),
            n(ledger.expired),
            n(ledger.refused),
            n(ledger.unsent)
        ),
        format!(
            "sent {} = on time {} + late {} + lost {} + in flight {}",
            n(ledger.sent),
            n(ledger.on_time),
            n(ledger.late),
            n(ledger.lost),
            n(ledger.in_flight)
        ),
    ]
}

/// Titles of `cells`.
pub(crate) const CELLS: [&str; 7] =
    ["scheduled", "on time", "late", "expired", "other", "missed", "wasted"];

/// A class's ledger as the cells of a row. Other: refused, lost, skipped or open at the end;
/// wasted: bytes that were late, of those sent.
pub(crate) fn cells(class: &ClassBooks) -> [String; 7] {
    let ledger = &class.account.messages;
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let wasted = class.account.bytes.late as f64 / class.account.bytes.sent.max(1) as f64;
    [
        count_shown(ledger.scheduled),
        count_shown(ledger.on_time),
        count_shown(ledger.late),
        count_shown(ledger.expired),
        count_shown(ledger.unanswered() + ledger.skipped.total()),
        percent(ledger.missed_share()),
        percent(wasted),
    ]
}

/// A percentile's value, or why there is none.
pub(crate) fn figure(percentile: &Percentile) -> String {
    percentile.value_ns.map_or_else(|| "n/a".to_owned(), time_shown)
}

/// A text in lines of at most 96 columns.
pub(super) fn wrapped(text: &str) -> String {
    const WIDTH: usize = 96;
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            out.push('\n');
            column = 0;
        }
        if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    if column > 0 { out + "\n" } else { out }
}

fn head(out: &mut String, measurement: &Measurement) {
    let environment = &measurement.environment;
    let commit = environment.commit.map(|commit| format!(" ({commit})")).unwrap_or_default();
    let _ = writeln!(out, "loadgen {}{commit}", environment.version);
    line(out, "workload", &workload(measurement));
    line(out, "server", &places(measurement));
    out.push('\n');
}

fn figures(out: &mut String, measurement: &Measurement) {
    let rows = measurement.rows();
    let _ = write!(out, "{:NAME$}", "");
    for title in ["p50", "p90", "p99", "p99.9", "max"] {
        let _ = write!(out, "{title:>FIGURE$}");
    }
    out.push('\n');
    for (number, row) in rows.iter().enumerate() {
        let _ = write!(out, "{:NAME$}", row.name);
        for percentile in &row.percentiles {
            let _ = write!(out, "{:>FIGURE$}", figure(percentile));
        }
        let max = row.max_ns.map_or_else(|| "n/a".to_owned(), time_shown);
        let _ = writeln!(out, "{max:>FIGURE$}");
        if number == 0 {
            certainty(out, row);
        }
    }
    samples(out, &rows[0]);
    out.push('\n');
}

/// Response time and ledger of each class.
fn classes(out: &mut String, measurement: &Measurement) {
    if !measurement.plan.workload.is_watched() {
        return;
    }
    let _ = writeln!(out, "{:NAME$}of the response time, by class", "");
    for (number, (class, books)) in measurement.classes().enumerate() {
        let _ = write!(out, "{:NAME$}", class.name);
        let rows = measurement.rows_of(books);
        for percentile in &rows[0].percentiles {
            let _ = write!(out, "{:>FIGURE$}", figure(percentile));
        }
        let max = rows[0].max_ns.map_or_else(|| "n/a".to_owned(), time_shown);
        let _ = writeln!(out, "{max:>FIGURE$}");
        let waited = waited(measurement, number).map(|text| format!("; {text}"));
        let _ = writeln!(out, "  {}{}", asks(class), waited.unwrap_or_default());
    }
    let _ = write!(out, "\n{:NAME$}", "");
    for title in CELLS {
        let _ = write!(out, "{title:>CELL$}");
    }
    for (class, books) in measurement.classes() {
        let _ = write!(out, "\n{:NAME$}", class.name);
        for cell in cells(books) {
            let _ = write!(out, "{cell:>CELL$}");
        }
    }
    out.push_str("\n\n");
}

/// The confidence interval of a row's figures.
fn certainty(out: &mut String, row: &Row<'_>) {
    let _ = write!(out, "{:NAME$}", "  95 % from");
    for percentile in &row.percentiles {
        let low = percentile.interval_ns.map_or_else(String::new, |(low, _)| time_shown(low));
        let _ = write!(out, "{low:>FIGURE$}");
    }
    let _ = write!(out, "\n{:NAME$}", "         to");
    for percentile in &row.percentiles {
        let high = percentile.interval_ns.map_or_else(String::new, |(_, high)| time_shown(high));
        let _ = write!(out, "{high:>FIGURE$}");
    }
    out.push('\n');
}

/// How many samples the figures stand on.
fn samples(out: &mut String, row: &Row<'_>) {
    let _ = write!(out, "{:NAME$}", "samples above");
    for percentile in &row.percentiles {
        let _ = write!(out, "{:>FIGURE$}", count_shown(percentile.above));
    }
    let _ = writeln!(out, "{:>FIGURE$}", format!("of {}", count_shown(row.latencies.count())));
    if row.percentiles.iter().any(|percentile| percentile.value_ns.is_none()) {
        let _ = writeln!(
            out,
            "{:NAME$}n/a: fewer than {SAMPLES_ABOVE_MIN} samples above, or never answered",
            ""
        );
    }
}

fn sums(out: &mut String, measurement: &Measurement) {
    line(out, "rate", &rates(measurement));
    line(out, "CPU", &cpu(measurement));
    if let Some(text) = tcp(measurement) {
        line(out, "TCP", &text);
    }
    if let Some(text) = datagrams(measurement) {
        line(out, "datagrams", &text);
    }
    for (number, sum) in ledger(measurement).iter().enumerate() {
        line(out, if number == 0 { "ledger" } else { "" }, sum);
    }
    out.push('\n');
}

fn verdict(out: &mut String, measurement: &Measurement, colours: bool) {
    let verdict = &measurement.verdict;
    let colour = match verdict.level {
        Level::Valid => "\x1b[1;32m",
        Level::Suspect => "\x1b[1;33m",
        Level::Invalid => "\x1b[1;31m",
    };
    let name = verdict.level.name();
    let name = if colours { format!("{colour}{name}\x1b[0m") } else { name.to_owned() };
    line(out, "verdict", &name);
    for reason in &verdict.reasons {
        line(out, "", &format!("- {}", reason.text));
    }
}

fn line(out: &mut String, name: &str, text: &str) {
    let _ = writeln!(out, "{name:NAME$}{text}");
}

/// The mark of a run that is not to be believed without a look at its reasons.
pub(super) const fn mark(level: Level) -> &'static str {
    match level {
        Level::Valid => "",
        Level::Suspect => " ?",
        Level::Invalid => " !",
    }
}
