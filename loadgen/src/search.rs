//! Searches over rates: a sweep of given ones, and the knee, the highest that a server bears.
//!
//! Above: `command`. Below: its runs. Absent: what bearing means beyond a limit of the response
//! time and of missed messages. A rate that the generator could not send says nothing about the
//! server: the search ends there and says so. Bound: `RUNS_MAX` runs.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::arguments::{KneeArguments, SweepArguments, Traffic};
use crate::conduct;
use crate::environment::Environment;
use crate::measurement::Measurement;
use crate::plan::Plan;
use crate::quantity::{rate_shown, time_shown};
use crate::report::{self, Found};
use crate::server::EchoServer;
use crate::verdict::Level;
use crate::workload;

/// Most runs of one search.
const RUNS_MAX: usize = 40;
/// From one rate to the next, until one is too high.
const STEP: f64 = 2.0;
/// Reasons of a verdict that mean: the generator did not send what was asked.
const GENERATOR: [&str; 6] = ["out_of_reach", "skipped", "rate", "lag", "lag_growth", "gap"];

/// Measures each of the given rates; the worst verdict.
///
/// # Errors
/// If a run cannot be made or the result not be written.
pub(crate) fn sweep(arguments: &SweepArguments, stop: &Arc<AtomicBool>) -> Result<Level> {
    report::check_pages(&arguments.json, &arguments.html)?;
    let points = with_bench(&arguments.traffic, stop, |bench| {
        let mut points = Vec::new();
        for &rate_per_s in &arguments.rates.0 {
            if bench.stopped() {
                break;
            }
            points.extend(conduct::unless_stopped(bench.run(rate_per_s), stop)?);
        }
        some(points)
    })?;
    let level = points.iter().map(|point| point.verdict.level).max().unwrap_or(Level::Invalid);
    let text = table(&points, |_| "");
    let found = Found { search: "sweep", outcome: "", level };
    publish(&text, &found, &points, None, (&arguments.json, &arguments.html))?;
    Ok(level)
}

/// Doubles the rate until the server does not bear it, then halves the interval.
///
/// # Errors
/// If a run cannot be made or the result not be written.
pub(crate) fn knee(arguments: &KneeArguments, stop: &Arc<AtomicBool>) -> Result<Level> {
    report::check_pages(&arguments.json, &arguments.html)?;
    let limits = Limits { p99_ns: arguments.until.as_nanos() as u64, missed_share: arguments.miss };
    let (points, bracket) = with_bench(&arguments.traffic, stop, |bench| {
        let mut points = Vec::new();
        let mut bracket = Bracket::new(bench.plan.rate_per_s, arguments.within);
        while let Some(rate_per_s) = bracket.next().filter(|_| points.len() < RUNS_MAX) {
            let point = conduct::unless_stopped(bench.run(rate_per_s), stop)?;
            let Some(point) = point.filter(|_| !bench.stopped()) else { break };
            bracket.note(rate_per_s, limits.judge(&point));
            points.push(point);
        }
        Ok((some(points)?, bracket))
    })?;
    let mut text = table(&points, |point| limits.judge(point).name());
    let before = text.len();
    let level = bracket.tell(&mut text, &limits);
    let outcome = text[before..].trim().lines().next().unwrap_or_default();
    let found = Found { search: "knee", outcome, level };
    publish(&text, &found, &points, Some(&bracket), (&arguments.json, &arguments.html))?;
    Ok(level)
}

/// A server, and how runs are made against it.
struct Bench<'b> {
    plan: Plan,
    address: String,
    environment: Environment,
    stop: &'b Arc<AtomicBool>,
    quiet: bool,
}

/// Gives `work` a bench and takes it down again.
fn with_bench<T>(
    traffic: &Traffic,
    stop: &Arc<AtomicBool>,
    work: impl FnOnce(&Bench<'_>) -> Result<T>,
) -> Result<T> {
    let environment = Environment::read();
    let plan = Plan::new(traffic, &environment.cpus_allowed, &workload::read)?;
    if !plan.open_loop() || plan.arrival.own_rate_per_s().is_some() || !plan.trace.is_empty() {
        bail!("--arrival: {} arrivals do not take any rate", plan.arrival.kind());
    }
    if plan.load.is_some() {
        bail!("--load: a search sets the rates itself");
    }
    let server = match &plan.address {
        None => Some(EchoServer::embedded(&plan)?),
        Some(_) => None,
    };
    let own = server.as_ref().map(|server| server.address.clone());
    let address = own.or_else(|| plan.address.clone()).context("a search has a server")?;
    let bench = Bench { plan, address, environment, stop, quiet: traffic.quiet };
    let result = work(&bench);
    let ended = server.map_or(Ok(()), EchoServer::end);
    let value = result?;
    ended?;
    Ok(value)
}

/// The runs, if the user let one end.
fn some(points: Vec<Measurement>) -> Result<Vec<Measurement>> {
    if points.is_empty() {
        bail!("interrupted before the first run ended");
    }
    Ok(points)
}

impl Bench<'_> {
    fn run(&self, rate_per_s: f64) -> Result<Measurement> {
        if !self.quiet {
            conduct::announce(&format!("{} …", rate_shown(rate_per_s)));
        }
        let plan = Plan { rate_per_s, ..self.plan.clone() };
        conduct::measurement(plan, &self.environment, &self.address, self.stop, self.quiet)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What a server must keep to.
struct Limits {
    p99_ns: u64,
    missed_share: f64,
}

/// Whether a server bore a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Borne {
    Yes,
    No,
    /// The generator did not send it.
    NotSent,
}

impl Borne {
    const fn name(self) -> &'static str {
        match self {
            Self::Yes => "borne",
            Self::No => "too much",
            Self::NotSent => "not sent",
        }
    }
}

impl Limits {
    fn judge(&self, point: &Measurement) -> Borne {
        let found = |code: &&str| {
            let invalid = point.verdict.reasons.iter().filter(|r| r.level == Level::Invalid);
            invalid.into_iter().any(|reason| reason.code == *code)
        };
        if GENERATOR.iter().any(found) {
            return Borne::NotSent;
        }
        let messages = &point.overall.account.messages;
        let p99_ns = percentile_ns(point, 0.99);
        let keeps = p99_ns.is_some_and(|p99_ns| p99_ns <= self.p99_ns)
            && messages.missed_share() <= self.missed_share;
        if keeps { Borne::Yes } else { Borne::No }
    }
}

/// A percentile of the response time over all classes.
pub(crate) fn percentile_ns(point: &Measurement, share: f64) -> Option<u64> {
    let rows = point.rows();
    let found = rows[0].percentiles.iter().find(|percentile| percentile.share == share)?;
    found.value_ns
}

/// The interval in which the knee lies, as far as it is known.
#[derive(Debug, Serialize)]
struct Bracket {
    /// Highest rate that was borne.
    borne_per_s: Option<f64>,
    /// Lowest rate that was not.
    too_much_per_s: Option<f64>,
    /// Lowest rate that the generator could not send.
    not_sent_per_s: Option<f64>,
    #[serde(skip)]
    begin_per_s: f64,
    #[serde(skip)]
    within: f64,
}

impl Bracket {
    const fn new(begin_per_s: f64, within: f64) -> Self {
        let (borne_per_s, too_much_per_s, not_sent_per_s) = (None, None, None);
        Self { borne_per_s, too_much_per_s, not_sent_per_s, begin_per_s, within }
    }

    /// The lowest rate that is known to be out of reach, for the server or for the generator.
    fn upper_per_s(&self) -> Option<f64> {
        let some = [self.too_much_per_s, self.not_sent_per_s];
        some.into_iter().flatten().min_by(f64::total_cmp)
    }

    /// The next rate to try; `None` if the knee is known closely enough.
    fn next(&self) -> Option<f64> {
        match (self.borne_per_s, self.upper_per_s()) {
            (None, None) => Some(self.begin_per_s),
            (Some(borne), None) => Some(borne * STEP).filter(|rate| *rate < 1e9),
            (None, Some(upper)) => Some(upper / STEP).filter(|rate| *rate >= 1.0),
            (Some(borne), Some(upper)) if upper > borne * (1.0 + self.within) => {
                Some((borne * upper).sqrt())
            }
            _ => None,
        }
    }

    fn note(&mut self, rate_per_s: f64, borne: Borne) {
        let lower = |known: Option<f64>| known.map_or(rate_per_s, |known| known.min(rate_per_s));
        match borne {
            Borne::Yes => self.borne_per_s = Some(rate_per_s),
            Borne::No => self.too_much_per_s = Some(lower(self.too_much_per_s)),
            Borne::NotSent => self.not_sent_per_s = Some(lower(self.not_sent_per_s)),
        }
    }

    /// The knee in words, and how far that can be believed.
    fn tell(&self, out: &mut String, limits: &Limits) -> Level {
        let kept = format!(
            "p99 at most {}, at most {:.2} % missed",
            time_shown(limits.p99_ns),
            limits.missed_share * 100.0
        );
        let (level, text) = match (self.borne_per_s, self.too_much_per_s, self.not_sent_per_s) {
            (None, ..) => (Level::Invalid, "no rate was borne".to_owned()),
            (Some(borne), Some(too_much), not_sent)
                if not_sent.is_none_or(|rate| rate >= too_much) =>
            {
                let (borne, too_much) = (rate_shown(borne), rate_shown(too_much));
                (Level::Valid, format!("between {borne} and {too_much}"))
            }
            (Some(borne), ..) => {
                let text = format!("at least {}; the generator sent no more", rate_shown(borne));
                (Level::Suspect, text)
            }
        };
        let _ = writeln!(out, "\nknee     {text} ({kept})\nverdict  {}", level.name());
        level
    }
}

fn table(points: &[Measurement], said: impl Fn(&Measurement) -> &'static str) -> String {
    let mut out = String::new();
    for title in ["offered", "sent", "answered", "missed", "p50", "p99"] {
        let _ = write!(out, "{title:>14}");
    }
    out.push('\n');
    let shown = |ns: Option<u64>| ns.map_or_else(|| "n/a".to_owned(), time_shown);
    for point in points {
        let cells = [
            rate_shown(point.plan.rate_per_s),
            rate_shown(point.sent_per_s()),
            rate_shown(point.answered_per_s()),
            format!("{:.2} %", point.overall.account.messages.missed_share() * 100.0),
            shown(percentile_ns(point, 0.5)),
            shown(percentile_ns(point, 0.99)),
        ];
        for cell in cells {
            let _ = write!(out, "{cell:>14}");
        }
        let _ = writeln!(out, "  {} {}", point.verdict.level.name(), said(point));
    }
    out
}

#[derive(Serialize)]
struct Document<'p> {
    schema: &'static str,
    search: &'static str,
    knee: Option<&'p Bracket>,
    runs: Vec<report::Document<'p>>,
}

fn publish(
    text: &str,
    found: &Found<'_>,
    points: &[Measurement],
    knee: Option<&Bracket>,
    (json, html): (&Option<PathBuf>, &Option<PathBuf>),
) -> Result<()> {
    let runs = points.iter().map(report::of).collect();
    let search = found.search;
    let document = Document { schema: "postring-loadgen-search/1", search, knee, runs };
    let mut document = serde_json::to_string(&document)?;
    document.push('\n');
    let page = |path| (path, report::search_page(found, points, &document));
    report::publish_text(text, &document, json, html.as_deref().map(page))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates a search tries, and where it ends, of a server that bears up to `knee_per_s` and
    /// a generator that sends up to `reach_per_s`.
    fn search(begin_per_s: f64, knee_per_s: f64, reach_per_s: f64) -> (usize, Bracket) {
        let mut bracket = Bracket::new(begin_per_s, 0.05);
        let mut runs = 0;
        while let Some(rate_per_s) = bracket.next().filter(|_| runs < RUNS_MAX) {
            runs += 1;
            let borne = match rate_per_s {
                rate if rate > reach_per_s => Borne::NotSent,
                rate if rate > knee_per_s => Borne::No,
                _ => Borne::Yes,
            };
            bracket.note(rate_per_s, borne);
        }
        (runs, bracket)
    }

    #[test]
    fn the_knee_is_found_from_below_and_from_above() {
        for (begin_per_s, knee_per_s) in [(20_000.0, 137_000.0), (20_000.0, 900.0), (5.0, 5.0)] {
            let (runs, bracket) = search(begin_per_s, knee_per_s, 1e9);
            let (borne, too_much) = (bracket.borne_per_s, bracket.too_much_per_s);
            assert!(borne.is_some_and(|rate| rate <= knee_per_s), "{bracket:?}");
            assert!(too_much.is_some_and(|rate| rate > knee_per_s), "{bracket:?}");
            assert!(too_much.zip(borne).is_some_and(|(high, low)| high <= low * 1.0501));
            assert!(runs < 15, "{runs} runs");
        }
    }

    #[test]
    fn a_generator_that_is_the_limit_is_told() {
        let limits = Limits { p99_ns: 1_000_000, missed_share: 0.01 };
        let (_, bracket) = search(20_000.0, 200_000.0, 50_000.0);
        let mut text = String::new();
        assert_eq!(bracket.tell(&mut text, &limits), Level::Suspect);
        assert!(text.contains("the generator sent no more"), "{text}");
        let (_, bracket) = search(20_000.0, 30_000.0, 100_000.0);
        assert_eq!(bracket.tell(&mut text, &limits), Level::Valid);
        let (_, bracket) = search(20_000.0, 0.0, 1e9);
        assert_eq!(bracket.tell(&mut text, &limits), Level::Invalid);
    }
}
