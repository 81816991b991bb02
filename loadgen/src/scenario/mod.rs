//! Scenarios: named series of runs over one narrow link, with the same messages each time.
//!
//! Above: `command`. Below: `definition` (classes that are run), `homa`, `blocks`, `fan_in` and
//! `theory` (scenarios with figures of their own, shown as an `exhibit`), `ground` (the link),
//! `conduct`'s runs; `report` shows what came. Absent: measuring.
//! Bound: loads times variants runs, each as long as `--duration` and its warm-up.

pub(crate) mod blocks;
mod definition;
pub(crate) mod fan_in;
mod ground;
pub(crate) mod homa;
pub(crate) mod theory;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;

pub(crate) use self::definition::{BULK_VS_CLASS0, DEADLINE, FRONT_PAGE, RRUL, Scenario, Told};
use self::ground::Ground;
use crate::arguments::{ScenarioArguments, Stack};
use crate::conduct;
use crate::environment::Environment;
use crate::measurement::Measurement;
use crate::plan::Plan;
use crate::report::{self, Cell, Series};
use crate::verdict::Level;
use crate::workload::trace::Line;
use crate::workload::{Arrival, Workload};

/// Bytes that wait at most in the connection's send queue, per class: more than an overload of
/// some seconds piles up, so that what comes first can go first.
const QUEUE_BYTES: usize = 64 << 20;
/// Messages that may be open on it.
const DEPTH: u32 = 1 << 17;
/// Share of the capacity at which the most urgent class is measured alone.
const ALONE_LOAD: f64 = 0.02;
/// Longest warm-up: a short run has a short one.
const WARMUP_MAX: Duration = Duration::from_secs(1);
/// What a frame adds to a message.
const HEADER_BYTES: f64 = crate::server::HEADER_BYTES as f64;
/// What Ethernet, IP and UDP add to a datagram.
const PACKET_HEADER_BYTES: f64 = 42.0;

/// Runs a scenario and publishes it.
///
/// # Errors
/// If the link or a run cannot be made; if a report cannot be written.
pub(crate) fn run(
    scenario: &'static Scenario,
    arguments: &ScenarioArguments,
    stop: &Arc<AtomicBool>,
) -> Result<Level> {
    report::check_scenario_writable(arguments)?;
    let environment = Environment::read();
    let mut base = base(scenario.workload()?, arguments, &environment)?;
    base.connections = scenario.connections;
    let site = Site { narrow_back: scenario.narrow_back, environment, stop };
    let (link, (alone, cells)) =
        site.with_runs(arguments, &base, |runs| all(runs, scenario, arguments, &base))?;
    let series = Series {
        scenario: scenario.name,
        question: scenario.question,
        note: scenario.note,
        link_bytes_per_s: arguments.link,
        link,
        alone,
        cells,
    };
    report::publish_scenario(&series, arguments)?;
    Ok(series.level())
}

/// What all runs have in common.
fn base(
    workload: Workload,
    arguments: &ScenarioArguments,
    environment: &Environment,
) -> Result<Plan> {
    let mut plan = Plan::new(&arguments.traffic(), &environment.cpus_allowed, &|path| {
        Err(format!("a scenario reads no files: {path}"))
    })?;
    plan.workload = Arc::new(workload);
    plan.judged_by_arrival = true;
    (plan.queue_bytes, plan.depth) = (Some(QUEUE_BYTES), DEPTH);
    plan.warmup = WARMUP_MAX.min(arguments.duration);
    Ok(plan)
}

fn all(
    runs: &Runs<'_>,
    scenario: &Scenario,
    arguments: &ScenarioArguments,
    base: &Plan,
) -> Result<(Measurement, Vec<Cell>)> {
    let loads = arguments.loads(scenario.loads);
    let count = 1 + loads.len() * scenario.told.len();
    let mut first = base.workload.as_ref().clone();
    first.classes.truncate(1);
    first.classes[0].share = 1.0;
    runs.announce(1, count, &format!("{} alone", first.classes[0].name));
    let alone = runs.at_load(base, first, ALONE_LOAD)?;
    let mut cells = Vec::with_capacity(count);
    for &load in &loads {
        for &told in scenario.told {
            if runs.stopped() {
                return Ok((alone, cells));
            }
            let what = format!("{:.0} % load, {}", load * 100.0, told.name());
            runs.announce(cells.len() + 2, count, &what);
            let workload = base.workload.as_ref().clone().told(told.variant());
            let run = runs.at_load(base, workload, load);
            let Some(measurement) = runs.unless_stopped(run)? else { return Ok((alone, cells)) };
            cells.push(Cell { load, told: told.name(), measurement });
        }
    }
    Ok((alone, cells))
}

/// Where a scenario takes place.
struct Site<'s> {
    narrow_back: bool,
    environment: Environment,
    stop: &'s Arc<AtomicBool>,
}

impl Site<'_> {
    /// Makes the link, has `work` do its runs on it, and takes it down: what the link was, and
    /// what came of the work.
    fn with_runs<T>(
        self,
        arguments: &ScenarioArguments,
        base: &Plan,
        work: impl FnOnce(&Runs<'_>) -> Result<T>,
    ) -> Result<(String, T)> {
        let ground = Ground::prepare(arguments, base, self.narrow_back)?;
        self.on(ground, arguments, work)
    }

    /// As `with_runs`, on a link that is there.
    fn on<T>(
        self,
        ground: Ground,
        arguments: &ScenarioArguments,
        work: impl FnOnce(&Runs<'_>) -> Result<T>,
    ) -> Result<(String, T)> {
        let runs = Runs {
            address: ground.address(),
            link_bytes_per_s: arguments.link,
            header_bytes: match arguments.over {
                Stack::Tcp => HEADER_BYTES,
                Stack::Udp => HEADER_BYTES + PACKET_HEADER_BYTES,
            },
            quiet: arguments.quiet,
            environment: self.environment,
            stop: self.stop,
        };
        let result = work(&runs);
        let link = ground.name();
        // The runs' own error says more than what follows from it.
        let ended = ground.end();
        let value = result?;
        ended?;
        Ok((link, value))
    }
}

/// The runs of a scenario, all to one server over one link.
struct Runs<'r> {
    environment: Environment,
    address: String,
    link_bytes_per_s: f64,
    /// What the link carries beside each message, as far as it counts for the load.
    header_bytes: f64,
    stop: &'r Arc<AtomicBool>,
    quiet: bool,
}

impl Runs<'_> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn unless_stopped(&self, run: Result<Measurement>) -> Result<Option<Measurement>> {
        conduct::unless_stopped(run, self.stop)
    }

    fn announce(&self, number: usize, count: usize, what: &str) {
        if !self.quiet {
            conduct::announce(&format!("run {number} of {count}: {what}"));
        }
    }

    /// One run that offers `load` times what the link carries, headers included: those of frames
    /// and, of datagrams, those of their packets.
    fn at_load(&self, base: &Plan, workload: Workload, load: f64) -> Result<Measurement> {
        let on_link_bytes = workload.mean_bytes() + self.header_bytes;
        let rate_per_s = load * self.link_bytes_per_s / on_link_bytes;
        self.one(Plan {
            workload: Arc::new(workload),
            rate_per_s,
            overload: load >= 1.0,
            arrival: Arrival::Poisson,
            ..base.clone()
        })
    }

    /// One run of messages at these times.
    fn play(&self, base: &Plan, workload: Workload, lines: Vec<Line>) -> Result<Measurement> {
        self.one(Plan {
            workload: Arc::new(workload),
            rate_per_s: lines.len() as f64 / base.duration.as_secs_f64(),
            trace: lines.into(),
            arrival: Arrival::Trace(String::new()),
            ..base.clone()
        })
    }

    fn one(&self, plan: Plan) -> Result<Measurement> {
        let plan = Plan { address: Some(self.address.clone()), ..plan };
        conduct::measurement(plan, &self.environment, &self.address, self.stop, self.quiet)
    }
}
