//! A comparison: two sides measured in turn, and what differs by more than chance.
//!
//! Above: `command`. Below: its runs, `difference`. Absent: percentiles over several runs: each run
//! has its own, and the pairs' differences are looked at. Messages, seed and rate are the same on
//! both sides. Bound: `--pairs` times two runs.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::arguments::CompareArguments;
use crate::conduct;
use crate::difference::Difference;
use crate::environment::Environment;
use crate::measurement::Measurement;
use crate::plan::Plan;
use crate::quantity::time_shown;
use crate::report;
use crate::server::EchoServer;
use crate::verdict::Level;
use crate::workload;

/// Chance that equal sides are taken for different, over all figures together.
const ERROR_MAX: f64 = 0.05;
/// Percentiles that are compared.
const SHARES: [(f64, &str); 3] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99")];

/// Measures and tells; the worst verdict of all runs.
///
/// # Errors
/// If a run cannot be made or the result not be written.
pub(crate) fn run(arguments: &CompareArguments, stop: &Arc<AtomicBool>) -> Result<Level> {
    report::check_pages(&arguments.json, &arguments.html)?;
    let environment = Environment::read();
    let cpus = &environment.cpus_allowed;
    let mut plan_a = Plan::new(&arguments.traffic, cpus, &workload::read)?;
    let server = match &plan_a.address {
        None => Some(EchoServer::embedded(&plan_a)?),
        Some(_) => None,
    };
    let own = server.as_ref().map(|server| server.address.clone());
    let address_a = own.or_else(|| plan_a.address.clone()).context("A has an address")?;
    let address_b = arguments.other.clone().unwrap_or_else(|| address_a.clone());
    let quiet = arguments.traffic.quiet;
    let result = conduct::at_load(&mut plan_a, &address_a, stop, quiet).and_then(|()| {
        let mut plan_b = plan_a.clone();
        plan_b.judged_by_arrival &= address_b == address_a;
        if let Some(tell) = arguments.tell_b {
            let mut traffic = arguments.traffic.clone();
            traffic.tell = tell;
            plan_b.workload = Plan::new(&traffic, cpus, &workload::read)?.workload;
        }
        let sides = [(plan_a, address_a), (plan_b, address_b)];
        measure(arguments.pairs, &sides, &environment, stop, quiet)
    });
    let ended = server.map_or(Ok(()), EchoServer::end);
    let runs = result?;
    ended?;
    let comparison = Comparison::new(&runs);
    let mut document = serde_json::to_string(&comparison)?;
    document.push('\n');
    let page = |path| (path, report::comparison_page(&comparison, &runs, &document));
    let html = arguments.html.as_deref().map(page);
    report::publish_text(&table(&comparison, &runs), &document, &arguments.json, html)?;
    Ok(comparison.level)
}

/// The runs of both sides, A first.
pub(crate) type Runs = [Vec<Measurement>; 2];

fn measure(
    pairs: u32,
    sides: &[(Plan, String); 2],
    environment: &Environment,
    stop: &Arc<AtomicBool>,
    quiet: bool,
) -> Result<Runs> {
    let mut runs: Runs = [Vec::new(), Vec::new()];
    for pair in 0..pairs {
        // What drifts with time falls on both sides alike.
        let order = if pair.is_multiple_of(2) { [0, 1] } else { [1, 0] };
        for side in order {
            if !quiet {
                let name = ["A", "B"][side];
                conduct::announce(&format!("pair {} of {pairs}: {name}", pair + 1));
            }
            let (plan, address) = &sides[side];
            let run = conduct::measurement(plan.clone(), environment, address, stop, quiet);
            let run = conduct::unless_stopped(run, stop)?;
            let Some(run) = run.filter(|_| !stop.load(Ordering::Relaxed)) else {
                // The pair is not whole.
                runs[side].truncate(pair as usize);
                runs[1 - side].truncate(pair as usize);
                return Ok(runs);
            };
            runs[side].push(run);
        }
    }
    Ok(runs)
}

/// What came out.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) schema: &'static str,
    /// The addresses of A and B.
    pub(crate) addresses: [String; 2],
    pub(crate) pairs: usize,
    pub(crate) level: Level,
    /// Chance that equal sides are taken for different, over all figures together.
    pub(crate) error_max: f64,
    pub(crate) figures: Vec<Figure>,
}

/// One figure of one class.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) class: String,
    pub(crate) figure: &'static str,
    /// Medians over the runs, in nanoseconds; for `missed` shares.
    pub(crate) median: [Option<f64>; 2],
    /// B over A less 1; for `missed` B less A. Null where too few runs have the figure.
    pub(crate) change: Option<f64>,
    pub(crate) low: Option<f64>,
    pub(crate) high: Option<f64>,
    /// True if no change at all is outside of the interval.
    pub(crate) shown: bool,
}

impl Comparison {
    fn new(runs: &Runs) -> Self {
        let classes = runs[0].first().map_or(&[][..], |run| &run.plan.workload.classes);
        let figures = classes.len() * (SHARES.len() + 1);
        let confidence = 1.0 - ERROR_MAX / figures.max(1) as f64;
        let mut of = Vec::with_capacity(figures);
        for (at, class) in classes.iter().enumerate() {
            for (share, name) in SHARES {
                let value = |run: &Measurement| percentile_ns(run, at, share);
                of.push(Figure::ratio(&class.name, name, runs, value, confidence));
            }
            let missed =
                |run: &Measurement| Some(run.books.classes[at].account.messages.missed_share());
            of.push(Figure::less(&class.name, "missed", runs, missed, confidence));
        }
        let levels = runs.iter().flatten().map(|run| run.verdict.level);
        let address = |side: usize| {
            runs[side].first().map(|run: &Measurement| run.address.clone()).unwrap_or_default()
        };
        Self {
            schema: "postring-loadgen-comparison/1",
            addresses: [address(0), address(1)],
            pairs: runs[0].len(),
            level: levels.max().unwrap_or(Level::Invalid),
            error_max: ERROR_MAX,
            figures: of,
        }
    }
}

fn percentile_ns(run: &Measurement, class: usize, share: f64) -> Option<f64> {
    let rows = run.rows_of(&run.books.classes[class]);
    let found = rows[0].percentiles.iter().find(|percentile| percentile.share == share)?;
    found.value_ns.map(|ns| ns as f64)
}

impl Figure {
    fn ratio(
        class: &str,
        figure: &'static str,
        runs: &Runs,
        value: impl Fn(&Measurement) -> Option<f64>,
        confidence: f64,
    ) -> Self {
        let log = |run: &Measurement| value(run).map(f64::ln);
        let difference = difference(runs, log, confidence);
        Self::of(class, figure, runs, value, difference.map(|d| d.each(|log| log.exp() - 1.0)))
    }

    fn less(
        class: &str,
        figure: &'static str,
        runs: &Runs,
        value: impl Fn(&Measurement) -> Option<f64>,
        confidence: f64,
    ) -> Self {
        let difference = difference(runs, &value, confidence);
        Self::of(class, figure, runs, value, difference)
    }

    fn of(
        class: &str,
        figure: &'static str,
        runs: &Runs,
        value: impl Fn(&Measurement) -> Option<f64>,
        difference: Option<Difference>,
    ) -> Self {
        let median = |side: usize| {
            let mut values: Vec<f64> = runs[side].iter().filter_map(&value).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied()
        };
        Self {
            class: class.to_owned(),
            figure,
            median: [median(0), median(1)],
            change: difference.map(|d| d.mean),
            low: difference.map(|d| d.interval.0),
            high: difference.map(|d| d.interval.1),
            shown: difference.is_some_and(|d| d.is_shown()),
        }
    }
}

/// A change or an end of its interval.
fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "n/a".to_owned(), |share| format!("{:+.1} %", share * 100.0))
}

/// The figure in words.
impl Figure {
    /// The medians of A and B.
    pub(crate) fn shown_medians(&self) -> [String; 2] {
        let missed = self.figure == "missed";
        self.median.map(|value| match value {
            None => "n/a".to_owned(),
            Some(share) if missed => format!("{:.2} %", share * 100.0),
            Some(time_ns) => time_shown(time_ns as u64),
        })
    }

    /// B against A.
    pub(crate) fn shown_change(&self) -> String {
        percent(self.change)
    }

    /// The interval of the change.
    pub(crate) fn shown_interval(&self) -> String {
        format!("{} to {}", percent(self.low), percent(self.high))
    }

    /// What it comes to.
    pub(crate) const fn said(&self) -> &'static str {
        match (self.change, self.shown) {
            (None, _) => "too few samples",
            (_, false) => "no difference shown",
            (Some(change), true) if change < 0.0 => "B is lower",
            _ => "B is higher",
        }
    }
}

/// B less A over the pairs, if every pair has the figure.
fn difference(
    runs: &Runs,
    value: impl Fn(&Measurement) -> Option<f64>,
    confidence: f64,
) -> Option<Difference> {
    let pairs = runs[0].iter().zip(&runs[1]);
    let differences: Option<Vec<f64>> = pairs.map(|(a, b)| Some(value(b)? - value(a)?)).collect();
    Difference::of(&differences?, confidence)
}

fn table(comparison: &Comparison, runs: &Runs) -> String {
    let mut out = String::new();
    let [a, b] = &comparison.addresses;
    let _ = writeln!(out, "A  {a}\nB  {b}\n{} pairs of runs, in turn\n", comparison.pairs);
    let _ = writeln!(
        out,
        "{:16}{:8}{:>12}{:>12}{:>12}{:>22}",
        "", "", "A", "B", "B against A", "interval"
    );
    for figure in &comparison.figures {
        let [a, b] = figure.shown_medians();
        let (interval, said) = (figure.shown_interval(), figure.said());
        let (class, name, change) = (&figure.class, figure.figure, figure.shown_change());
        let _ = writeln!(out, "{class:16}{name:8}{a:>12}{b:>12}{change:>12}{interval:>22}  {said}");
    }
    let _ = writeln!(
        out,
        "\nEqual sides are taken for different in at most {:.0} of 100 such comparisons.",
        comparison.error_max * 100.0
    );
    let _ = writeln!(out, "verdict  {}", comparison.level.name());
    for (name, runs) in ["A", "B"].iter().zip(runs) {
        for (number, run) in runs.iter().enumerate() {
            let reasons = run.verdict.reasons.iter().filter(|r| r.level > Level::Valid);
            for reason in reasons {
                let _ = writeln!(out, "- {name}, run {}: {}", number + 1, reason.text);
            }
        }
    }
    out
}
