//! Saved results, read again: what `json`, `series` and the searches wrote.
//!
//! Above: `again`. Below: `histogram`, `ledger`, the forms of the documents. Absent: judging again:
//! the verdict is the one that was written. Bound: `RUNS_MAX` runs; a document that is foreign,
//! malformed or does not add up is one fault with the file's name.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::json;
use crate::histogram::Latencies;
use crate::ledger::Account;
use crate::quantity::{line_shown, rate_shown};
use crate::statistics;
use crate::verdict::Verdict;
use crate::workload;

/// Most runs in one report.
const RUNS_MAX: usize = 64;

/// One run as it was saved.
#[derive(Debug, Deserialize)]
pub(super) struct Saved {
    /// What it is called here: its file and, of several in one, which.
    #[serde(skip)]
    pub(super) name: String,
    pub(super) verdict: Verdict,
    pub(super) manifest: Manifest,
    pub(super) rates: Rates,
    pub(super) ledger: Ledgers,
    pub(super) latency: Vec<Latency>,
    pub(super) classes: Vec<Class>,
    pub(super) timeline: Vec<Stretch>,
    pub(super) server: Server,
}

/// How a run came about.
#[derive(Debug, Deserialize)]
pub(super) struct Manifest {
    pub(super) version: String,
    pub(super) commit: Option<String>,
    pub(super) started_at: String,
    pub(super) kernel: Option<String>,
    pub(super) cpu: Option<String>,
    pub(super) arguments: Vec<String>,
    pub(super) arrival: String,
    pub(super) connections: u32,
    pub(super) seed: u64,
    pub(super) warmup_ns: u64,
    pub(super) measured_ns: u64,
    pub(super) driver: String,
}

/// Messages per second.
#[derive(Debug, Deserialize)]
pub(super) struct Rates {
    pub(super) asked_per_s: Option<f64>,
    pub(super) sent_per_s: f64,
    pub(super) answered_per_s: f64,
}

/// The measured part alone is shown.
#[derive(Debug, Deserialize)]
pub(super) struct Ledgers {
    pub(super) measured: Account,
}

/// One kind of time.
#[derive(Debug, Deserialize)]
pub(super) struct Latency {
    pub(super) kind: String,
    pub(super) count: u64,
    pub(super) max_ns: Option<u64>,
    pub(super) percentiles: Vec<Percentile>,
    #[serde(default)]
    buckets: Vec<(u64, u64)>,
}

/// One percentile, such as 99.9.
#[derive(Debug, Deserialize)]
pub(super) struct Percentile {
    pub(super) percentile: f64,
    pub(super) value_ns: Option<u64>,
    pub(super) low_95_ns: Option<u64>,
    pub(super) high_95_ns: Option<u64>,
}

/// One class.
#[derive(Debug, Deserialize)]
pub(super) struct Class {
    pub(super) name: String,
    pub(super) ledger: Account,
    pub(super) latency: Vec<Latency>,
}

/// A stretch of the timeline.
#[derive(Debug, Deserialize)]
pub(super) struct Stretch {
    pub(super) start_ns: u64,
    pub(super) response_p99_ns: Option<u64>,
}

/// Who answered.
#[derive(Debug, Deserialize)]
pub(super) struct Server {
    pub(super) address: String,
}

impl Saved {
    /// The rows of the response time: over all, which every run has.
    pub(super) fn response(&self) -> Option<&Latency> {
        self.latency.iter().find(|latency| latency.kind == "response")
    }

    fn check(&self) -> Result<()> {
        let accounts = self.classes.iter().map(|class| &class.ledger);
        let sound = |account: &Account| {
            account.messages.is_plausible() && account.bytes.is_plausible() && account.closes()
        };
        if !accounts.chain([&self.ledger.measured]).all(sound) {
            bail!("its ledger does not add up");
        }
        if self.response().is_none() || self.classes.iter().any(|class| class.latency.is_empty()) {
            bail!("it has no response times");
        }
        Ok(())
    }
}

impl Latency {
    /// Points of the curve (share, nanoseconds): from the buckets if they were saved, else the
    /// percentiles alone.
    pub(super) fn curve(&self, unanswered: u64) -> Vec<(f64, u64)> {
        if self.buckets.is_empty() {
            let percentiles = self.percentiles.iter();
            let point = |p: &Percentile| Some((p.percentile / 100.0, p.value_ns?));
            return percentiles.filter_map(point).collect();
        }
        statistics::curve(&Latencies::from(self.buckets.clone()), unanswered)
    }

    /// The percentile that is called so.
    pub(super) fn at(&self, percentile: f64) -> Option<&Percentile> {
        self.percentiles.iter().find(|p| (p.percentile - percentile).abs() < 1e-6)
    }
}

/// A scenario's document, as far as it is shown.
#[derive(Deserialize)]
struct Series {
    alone: Saved,
    runs: Vec<Cell>,
}

#[derive(Deserialize)]
struct Cell {
    load: f64,
    told: String,
    result: Saved,
}

/// A sweep's or a search's document.
#[derive(Deserialize)]
struct Search {
    runs: Vec<Saved>,
}

/// All runs in these files.
///
/// # Errors
/// One line that names the file.
pub(super) fn read(paths: &[String]) -> Result<Vec<Saved>> {
    let mut runs = Vec::new();
    for path in paths {
        let text = workload::read(path).map_err(|why| anyhow!(why))?;
        let found = parse(&text, &stem(path)).with_context(|| path.clone())?;
        for mut run in found {
            run.check().with_context(|| path.clone())?;
            run.name = distinct(run.name, &runs);
            runs.push(run);
        }
    }
    if runs.len() > RUNS_MAX {
        bail!("{} runs are too many for one report; at most {RUNS_MAX}", runs.len());
    }
    Ok(runs)
}

/// A name that no run before has: files in two folders may be called alike.
fn distinct(name: String, before: &[Saved]) -> String {
    let mut candidates = (1..).map(|number| match number {
        1 => name.clone(),
        _ => format!("{name} ({number})"),
    });
    let free = |candidate: &String| before.iter().all(|run| run.name != *candidate);
    candidates.find(free).unwrap_or_default()
}

/// What is left of a path without folders and ending.
fn stem(path: &str) -> String {
    let stem = Path::new(path).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    line_shown(&stem.unwrap_or_else(|| path.to_owned()))
}

fn parse(text: &str, stem: &str) -> Result<Vec<Saved>> {
    let value: Value = serde_json::from_str(text).context("it is no JSON")?;
    match value.get("schema").and_then(Value::as_str) {
        Some(json::SCHEMA) => {
            let run = of::<Saved>(value)?;
            Ok(vec![Saved { name: stem.to_owned(), ..run }])
        }
        Some("postring-loadgen-series/1") => {
            let series = of::<Series>(value)?;
            let alone = Saved { name: format!("{stem} alone"), ..series.alone };
            let cells = series.runs.into_iter().map(|cell| {
                let told = line_shown(&cell.told);
                let name = format!("{stem} {:.0} % {told}", cell.load * 100.0);
                Saved { name, ..cell.result }
            });
            Ok(std::iter::once(alone).chain(cells).collect())
        }
        Some("postring-loadgen-search/1") => {
            let runs = of::<Search>(value)?.runs.into_iter();
            Ok(runs.map(|run| named_by_rate(run, stem)).collect())
        }
        Some("postring-loadgen-comparison/1") => {
            bail!("a comparison holds no single runs; save the runs themselves with run --json")
        }
        Some(other) if other.starts_with("postring-loadgen") => bail!(
            "it is of the form {:?}, which this version does not read; it reads {:?}",
            line_shown(other),
            json::SCHEMA
        ),
        _ => bail!("it is no result of loadgen"),
    }
}

fn named_by_rate(run: Saved, stem: &str) -> Saved {
    let rate = run.rates.asked_per_s.map_or_else(|| "closed loop".to_owned(), rate_shown);
    Saved { name: format!("{stem} {rate}"), ..run }
}

fn of<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).context("it is not whole")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_result_is_said_in_one_line() {
        let faults = [
            ("", "it is no JSON"),
            ("{\"schema\":", "it is no JSON"),
            ("[1, 2]", "it is no result of loadgen"),
            ("{\"schema\": 5}", "it is no result of loadgen"),
            ("{\"schema\": \"other/1\"}", "it is no result of loadgen"),
            ("{\"schema\": \"postring-loadgen/1\"}", "does not read"),
            ("{\"schema\": \"postring-loadgen/2\"}", "it is not whole: missing field"),
            ("{\"schema\": \"postring-loadgen-series/1\"}", "it is not whole"),
            ("{\"schema\": \"postring-loadgen-comparison/1\"}", "no single runs"),
        ];
        for (text, hint) in faults {
            let fault = format!("{:#}", parse(text, "f").expect_err(text));
            assert!(fault.contains(hint) && !fault.contains('\n'), "{text}: {fault}");
        }
    }
}
