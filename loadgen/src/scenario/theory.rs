//! `theory`: mean waits of datagrams on a narrow link, against what queueing theory says.
//!
//! Above: `command`. Below: `queueing`; the runs and the link of `scenario`; shown as an `exhibit`.
//! Absent: streams: TCP keeps the queue where it is not to be seen from outside.
//! Bound: two runs of the idle link, then loads times `ROUNDS` times two.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};

use super::exhibit::{Curves, Exhibit, Panel};
use super::ground::Ground;
use super::{HEADER_BYTES, PACKET_HEADER_BYTES, Runs, Site, base};
use crate::arguments::{Ground as Asked, ScenarioArguments, Stack};
use crate::difference::Difference;
use crate::environment::Environment;
use crate::histogram::Latencies;
use crate::measurement::Measurement;
use crate::pace::{self, Gaps, Part, Share};
use crate::plan::Plan;
use crate::quantity::{count_shown, time_shown};
use crate::queueing::{self, Link, Waits};
use crate::report;
use crate::verdict::{Level, Reason, Verdict};
use crate::workload::{Arrival, Workload};

/// A packet as the link counts it.
const WIRE_BYTES: f64 = 1500.0;
/// One message after the other leaves, so that the more urgent one has its chance each time.
const TWO_CLASSES: [&str; 2] =
    ["name=urgent,share=50%,immediate", "name=other,share=50%,niceness=1,immediate"];
/// Parts of the link's capacity that are offered, unless others are asked for.
const LOADS: [f64; 1] = [0.8];
/// The same for the idle link: message by message, or in pairs.
const IDLE_LOAD: f64 = 0.1;
/// Runs of each kind, with random numbers of their own.
const ROUNDS: u64 = 5;
/// How surely the noise holds what is chance.
const CONFIDENCE: f64 = 0.95;
/// More noise than this part of the wait tells nothing.
const NOISE_SHARE_MAX: f64 = 0.2;
/// The kernel takes two datagrams of a Carrier with niceness ahead of time, and a third waits to
/// be taken: `Limits::paced_unsent_bytes` are two packets as the kernel counts them.
const COMMITTED: usize = 3;
/// The credit of the link: what it lets pass early after it was idle. It makes up for timers that
/// wake late; one packet's worth is the most that would leave something to wait for.
const CREDIT_MAX_US: f64 = 100.0;

const QUESTION: &str = "Whether messages wait for a narrow link as long as queueing theory says, \
                        in one class and in two: what holds for a generator, a network and a \
                        queue with priorities that do what they say.";

/// Runs it and publishes it.
///
/// # Errors
/// If there is no lab, a load leaves no steady state, a run cannot be made or a report cannot be
/// written.
pub(crate) fn run(arguments: &ScenarioArguments, stop: &Arc<AtomicBool>) -> Result<Level> {
    if arguments.over != Stack::Udp {
        bail!("theory sends datagrams: a stream keeps its queue where nobody sees it");
    }
    if arguments.on == Asked::Loopback {
        bail!("theory needs a lab, as root: a relay in user space does not carry datagrams");
    }
    if let Some(name) = &arguments.congestion {
        bail!("--congestion {name}: theory sends datagrams, which have none");
    }
    if let Some(load) = arguments.loads(&LOADS).into_iter().find(|load| *load >= 1.0) {
        bail!("--loads {:.0}%: from 100% on the wait has no mean", load * 100.0);
    }
    report::check_scenario_writable(arguments)?;
    let environment = Environment::read();
    let base = base(one_class()?, arguments, &environment)?;
    let width = Width::of(arguments.link);
    let ground = Ground::of_datagrams(arguments.link * 8.0, width.burst_bytes, false, &base)?;
    let site = Site { narrow_back: false, environment, stop };
    let work = |runs: &Runs<'_>| all(runs, arguments, &width, &base);
    let (link, mut found) = site.on(ground, arguments, work)?;
    found.judge();
    let exhibit = found.exhibit(link, arguments.link);
    report::publish_exhibit(&exhibit, arguments)?;
    Ok(exhibit.level())
}

/// The link, as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Width {
    burst_bytes: u32,
    service_ns: f64,
    credit_ns: f64,
}

impl Width {
    /// Of so many bytes on the wire per second. `tc` cuts the time of a burst to microseconds, the
    /// kernel to its ticks of 64 ns.
    fn of(bytes_per_s: f64) -> Self {
        const TICK_NS: f64 = 64.0;
        let service_us = WIRE_BYTES / bytes_per_s * 1e6;
        let burst_us = (service_us + CREDIT_MAX_US.min(service_us / 2.0)).ceil();
        let burst_ns = (burst_us * 1e3 / TICK_NS).floor() * TICK_NS;
        Self {
            burst_bytes: (burst_us * bytes_per_s / 1e6).ceil() as u32,
            service_ns: service_us * 1e3,
            credit_ns: burst_ns - service_us * 1e3,
        }
    }

    fn link(&self, kind: Kind) -> Link {
        let committed = if kind == Kind::TwoClasses { COMMITTED } else { 0 };
        Link { service_ns: self.service_ns, credit_ns: self.credit_ns, committed }
    }
}

/// What the queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    OneClass,
    TwoClasses,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::OneClass => "one class",
            Self::TwoClasses => "two classes",
        }
    }

    fn workload(self) -> Result<Workload> {
        match self {
            Self::OneClass => one_class(),
            Self::TwoClasses => of_flags(&TWO_CLASSES),
        }
    }

    /// The mean waits by the book.
    fn formula_ns(self, load: f64, service_ns: f64) -> Vec<f64> {
        match self {
            Self::OneClass => vec![queueing::one_class_ns(load, service_ns)],
            Self::TwoClasses => queueing::two_classes_ns(load, service_ns).to_vec(),
        }
    }
}

fn one_class() -> Result<Workload> {
    of_flags(&["name=all"])
}

fn of_flags(classes: &[&str]) -> Result<Workload> {
    let bytes = WIRE_BYTES - PACKET_HEADER_BYTES - HEADER_BYTES;
    let flags: Vec<String> = classes.iter().map(|class| format!("{class},size={bytes}")).collect();
    Workload::of_flags(&flags, &|path| Err(format!("no file {path}"))).map_err(|why| anyhow!(why))
}

/// One run, and what its arrivals wait in theory.
struct Round {
    expected: Vec<Waits>,
    measurement: Measurement,
}

/// All rounds of one kind at one load.
struct Case {
    load: f64,
    kind: Kind,
    rounds: Vec<Round>,
}

/// Everything that was measured.
struct Found {
    width: Width,
    alone: Measurement,
    pairs: Measurement,
    cases: Vec<Case>,
}

fn all(
    runs: &Runs<'_>,
    arguments: &ScenarioArguments,
    width: &Width,
    base: &Plan,
) -> Result<Found> {
    let loads = arguments.loads(&LOADS);
    let count = 2 + loads.len() * 2 * ROUNDS as usize;
    let full_per_s = 1e9 / width.service_ns;
    let idle =
        |arrival| runs.one(Plan { rate_per_s: IDLE_LOAD * full_per_s, arrival, ..base.clone() });
    runs.announce(1, count, "the idle link, message by message");
    let alone = idle(Arrival::Constant)?;
    runs.announce(2, count, "the idle link, in pairs");
    let pairs = idle(Arrival::Burst { count: 2, every: None })?;
    let mut found = Found { width: *width, alone, pairs, cases: Vec::new() };
    let mut number = 2;
    for &load in &loads {
        for kind in [Kind::OneClass, Kind::TwoClasses] {
            found.cases.push(Case { load, kind, rounds: Vec::new() });
        }
        // In turn, so that both kinds see the same machine.
        for round in 0..ROUNDS {
            let from = found.cases.len() - 2;
            for case in &mut found.cases[from..] {
                number += 1;
                let what = format!("{:.0} % load, {}", load * 100.0, case.kind.name());
                runs.announce(number, count, &what);
                let plan = Plan {
                    workload: Arc::new(case.kind.workload()?),
                    rate_per_s: load * full_per_s,
                    arrival: Arrival::Poisson,
                    seed: base.seed.wrapping_add(round),
                    ..base.clone()
                };
                let expected = expected(&plan, &width.link(case.kind));
                let Some(measurement) = runs.unless_stopped(runs.one(plan))? else {
                    return Ok(found);
                };
                // A run that was cut short did not send the arrivals that were replayed.
                if runs.stopped() {
                    return Ok(found);
                }
                case.rounds.push(Round { expected, measurement });
            }
        }
    }
    Ok(found)
}

/// What the measured arrivals of a plan wait on an ideal link.
fn expected(plan: &Plan, link: &Link) -> Vec<Waits> {
    let share = Share {
        worker: 0,
        workers: 1,
        rate_per_s: plan.rate_per_s,
        connections: plan.connections,
        part: Part::WHOLE,
        end_ns: plan.end_ns(),
        seed: plan.seed,
    };
    let arrivals = pace::arrivals(Gaps::Exponential, share, Arc::clone(&plan.workload));
    queueing::replay(link, plan.workload.classes.len(), plan.warmup_ns(), arrivals)
}

/// What theory and measurement say of one class of a case.
struct Line {
    load: f64,
    kind: Kind,
    class: String,
    messages: u64,
    formula_ns: f64,
    expected_ns: f64,
    measured_ns: f64,
    /// What may lie between the last two; `None` of a single round.
    noise_ns: Option<f64>,
}

impl Line {
    fn off_ns(&self) -> f64 {
        self.measured_ns - self.expected_ns
    }

    /// Whether it is as in theory; `None` if that is not to be told through so much noise.
    fn agrees(&self) -> Option<bool> {
        let tells = |noise_ns: &f64| *noise_ns <= NOISE_SHARE_MAX * self.expected_ns;
        let is_off = |noise_ns: f64| self.off_ns().abs() > noise_ns;
        self.noise_ns.filter(tells).map(|noise_ns| !is_off(noise_ns))
    }

    /// What is not as in theory, or cannot be told.
    fn reason(&self) -> Option<Reason> {
        let level = match self.agrees() {
            Some(true) => return None,
            Some(false) => Level::Invalid,
            None => Level::Suspect,
        };
        let noise = self.noise_ns.map_or_else(|| "unknown".to_owned(), signed);
        let text = format!(
            "{}: a mean wait of {} where theory says {}; the noise is {noise}",
            self.name(),
            signed(self.measured_ns),
            signed(self.expected_ns),
        );
        Some(Reason { level, code: "theory".into(), text })
    }

    fn name(&self) -> String {
        match self.kind {
            Kind::OneClass => self.kind.name().to_owned(),
            Kind::TwoClasses => format!("two: {}", self.class),
        }
    }
}

impl Found {
    /// The response time of an idle link: the median, as a stray pause of the machine is no part of
    /// it.
    fn idle_ns(&self) -> f64 {
        quantile_ns(&self.alone.overall.response, 0.5)
    }

    /// How late the link's timers are: how much longer the second of a pair waits than it should.
    fn late_ns(&self) -> f64 {
        let second_ns = quantile_ns(&self.pairs.overall.response, 0.75) - self.idle_ns();
        (second_ns - (self.width.service_ns - self.width.credit_ns)).max(0.0)
    }

    fn lines(&self) -> Vec<Line> {
        self.cases.iter().flat_map(|case| self.lines_of(case)).collect()
    }

    fn lines_of(&self, case: &Case) -> Vec<Line> {
        let Some(first) = case.rounds.first() else { return Vec::new() };
        let idle_ns = self.idle_ns();
        let formulas = case.kind.formula_ns(case.load, self.width.service_ns);
        let classes = first.measurement.plan.workload.classes.iter().zip(formulas).enumerate();
        let line = |(at, (class, formula_ns)): (usize, (&crate::workload::Class, f64))| {
            let books = |round: &Round| round.measurement.books.classes[at].response.clone();
            let measured_ns = |round: &Round| books(round).mean_ns().unwrap_or(0.0) - idle_ns;
            let expected_ns = |round: &Round| round.expected[at].mean_ns();
            let off = |round: &Round| measured_ns(round) - expected_ns(round);
            let offs: Vec<f64> = case.rounds.iter().map(off).collect();
            let noise = Difference::of(&offs, CONFIDENCE);
            Line {
                load: case.load,
                kind: case.kind,
                class: class.name.clone(),
                messages: case.rounds.iter().map(|round| books(round).count()).sum(),
                formula_ns,
                expected_ns: mean(case.rounds.iter().map(expected_ns)),
                measured_ns: mean(case.rounds.iter().map(measured_ns)),
                noise_ns: noise.map(|off| off.interval.1 - off.mean + self.late_ns()),
            }
        };
        classes.map(line).collect()
    }

    /// Says of the last run of a case whose waits are others than in theory that it is not to be
    /// believed, and if they cannot be told, that.
    fn judge(&mut self) {
        for at in 0..self.cases.len() {
            let lines = self.lines_of(&self.cases[at]);
            let Some(last) = self.cases[at].rounds.last_mut() else { continue };
            let verdict = &mut last.measurement.verdict;
            let mut reasons = std::mem::take(&mut verdict.reasons);
            reasons.extend(lines.iter().filter_map(Line::reason));
            *verdict = Verdict::of(reasons);
        }
    }

    fn exhibit(&self, link: String, link_bytes_per_s: f64) -> Exhibit<'_> {
        let lines = self.lines();
        let mut runs =
            vec![("idle".to_owned(), &self.alone), ("idle, in pairs".to_owned(), &self.pairs)];
        for case in &self.cases {
            let name = |at| format!("{:.0} %, {}, {}", case.load * 100.0, case.kind.name(), at + 1);
            let named = case.rounds.iter().enumerate();
            runs.extend(named.map(|(at, round)| (name(at), &round.measurement)));
        }
        let loads = lines.chunk_by(|one, next| one.load == next.load);
        Exhibit {
            name: "theory",
            question: QUESTION,
            note: self.note(),
            link,
            link_bytes_per_s,
            panels: loads.map(|lines| self.panel(lines)).collect(),
            figures: lines.iter().map(figure).collect(),
            runs,
        }
    }

    fn note(&self) -> String {
        format!(
            "Datagrams of {WIRE_BYTES} B on the wire at random times (Poisson) for a link that \
             takes {} for each. Formula: the mean wait after Pollaczek and Khinchine (M/D/1), and \
             after Cobham for two classes of which the first always goes first. These arrivals: \
             what the very arrivals of the runs wait on an ideal link that, as this one, lets {} \
             pass early after it was idle and, with two classes, has taken {COMMITTED} messages \
             ahead of time that nothing overtakes. Measured: the mean response time less that of \
             the idle link ({}). Noise: the 95 % interval of the difference over {ROUNDS} runs of \
             different arrivals, and how late the link's timers were ({}); beyond a fifth of the \
             wait it tells nothing (n/a).",
            time_shown(self.width.service_ns as u64),
            time_shown(self.width.credit_ns.max(0.0) as u64),
            time_shown(self.idle_ns() as u64),
            time_shown(self.late_ns() as u64),
        )
    }

    fn panel(&self, lines: &[Line]) -> Panel {
        let titles = [
            "queue",
            "messages",
            "formula",
            "these arrivals",
            "measured",
            "ratio",
            "noise",
            "as in theory",
        ];
        let load = lines.first().map_or(0.0, |line| line.load);
        Panel {
            title: format!("Load {:.0} %: mean wait for the link", load * 100.0),
            note: "Measured response times of all runs together.",
            columns: titles.map(ToOwned::to_owned).to_vec(),
            rows: lines.iter().map(row).collect(),
            curves: Some(self.curves(load)),
        }
    }

    fn curves(&self, load: f64) -> Curves {
        let mut lines = Vec::new();
        for case in self.cases.iter().filter(|case| case.load == load) {
            for (at, line) in self.lines_of(case).iter().enumerate() {
                let mut times = Latencies::new();
                let mut unanswered = 0;
                for round in &case.rounds {
                    let books = &round.measurement.books.classes[at];
                    times.merge(&books.response);
                    unanswered += books.account.messages.unanswered();
                }
                lines.push((line.name(), times, unanswered));
            }
        }
        Curves::of_percentiles("Percentiles of the response times", lines)
    }
}

fn row(line: &Line) -> Vec<String> {
    let agrees = match line.agrees() {
        Some(true) => "yes",
        Some(false) => "no",
        None => "n/a",
    };
    vec![
        line.name(),
        count_shown(line.messages),
        signed(line.formula_ns),
        signed(line.expected_ns),
        signed(line.measured_ns),
        format!("{:.3}", line.measured_ns / line.expected_ns),
        line.noise_ns.map_or_else(|| "n/a".to_owned(), |noise_ns| format!("±{}", signed(noise_ns))),
        agrees.to_owned(),
    ]
}

fn figure(line: &Line) -> Value {
    json!({
        "load": line.load,
        "told": if line.kind == Kind::OneClass { "FIFO" } else { "niceness" },
        "class": line.class,
        "messages": line.messages,
        "formula_ns": line.formula_ns,
        "expected_ns": line.expected_ns,
        "measured_ns": line.measured_ns,
        "noise_ns": line.noise_ns,
        "agrees": line.agrees(),
    })
}

/// A time that a broken measurement can make negative.
fn signed(time_ns: f64) -> String {
    let text = time_shown(time_ns.abs().round() as u64);
    if time_ns < 0.0 { format!("-{text}") } else { text }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

fn quantile_ns(latencies: &Latencies, share: f64) -> f64 {
    let rank = (latencies.count() as f64 * share).ceil().max(1.0) as u64;
    latencies.at_ranks(&[rank])[0].unwrap_or(0) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_as_the_kernel_takes_it() {
        let fast = Width::of(12.5e6);
        assert_eq!((fast.burst_bytes, fast.service_ns), (2_250, 120_000.0));
        assert!((fast.credit_ns - 60_000.0).abs() < 64.0, "{}", fast.credit_ns);
        let slow = Width::of(1.25e6);
        assert_eq!((slow.burst_bytes, slow.service_ns), (1_625, 1_200_000.0));
        assert!((slow.credit_ns - 100_000.0).abs() < 64.0, "{}", slow.credit_ns);
    }

    #[test]
    fn messages_fill_packets_of_the_size_that_is_told() {
        for kind in [Kind::OneClass, Kind::TwoClasses] {
            let workload = kind.workload().expect("classes");
            let on_wire = workload.mean_bytes() + HEADER_BYTES + PACKET_HEADER_BYTES;
            assert!((on_wire - WIRE_BYTES).abs() < 1e-6, "{on_wire}");
            assert_eq!(workload.is_watched(), kind == Kind::TwoClasses);
        }
    }

    #[test]
    fn off_by_more_than_the_noise_is_not_as_in_theory() {
        let line = |measured_ns: f64, noise_ns: Option<f64>| Line {
            load: 0.8,
            kind: Kind::OneClass,
            class: "all".to_owned(),
            messages: 1,
            formula_ns: 240.0,
            expected_ns: 200.0,
            measured_ns,
            noise_ns,
        };
        assert_eq!(line(210.0, Some(10.0)).agrees(), Some(true));
        assert_eq!(line(189.0, Some(10.0)).agrees(), Some(false));
        let unknown = [None, Some(41.0)].map(|noise_ns| line(189.0, noise_ns).agrees());
        assert_eq!(unknown, [None, None], "noise of over a fifth hides what there is");
        assert_eq!(row(&line(-1_500.0, None))[4..], ["-1.50 µs", "-7.500", "n/a", "n/a"]);
        let level = |line: Line| line.reason().map(|reason| reason.level);
        assert_eq!(level(line(210.0, Some(10.0))), None);
        assert_eq!(level(line(250.0, None)), Some(Level::Suspect));
        let reason = line(1_500.0, Some(10.0)).reason().expect("far off");
        assert_eq!(reason.level, Level::Invalid);
        assert!(reason.text.contains("1.50 µs where theory says 200 ns"), "{}", reason.text);
    }
}
