//! What is known of a saved run, in words.
//!
//! Above: `text` and `page` put them in their places. Below: `saved`. Absent: layout.

use crate::ledger::Ledger;
use crate::quantity::{count_shown, line_shown, rate_shown, time_shown};
use crate::report::saved::{Class, Latency, Saved};

/// Percentiles that are shown.
const SHOWN: [(f64, &str); 4] = [(50.0, "p50"), (90.0, "p90"), (99.0, "p99"), (99.9, "p99.9")];

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
