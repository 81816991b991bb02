//! Scenarios: named series of runs over one narrow link, with the same messages each time.
//!
//! Above: `conduct`. Below: `definition` (what is run), `ground` (the link), `conduct`'s runs;
//! `report` shows what came. Absent: measuring.
//! Bound: loads times variants runs, each as long as `--duration` and its warm-up.

mod definition;
mod ground;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;

pub(crate) use self::definition::{BULK_VS_CLASS0, DEADLINE, FRONT_PAGE, Scenario, Told};
use self::ground::Ground;
use crate::arguments::ScenarioArguments;
use crate::conduct;
use crate::environment::Environment;
use crate::measurement::Measurement;
use crate::plan::Plan;
use crate::report;
use crate::verdict::Level;
use crate::workload::{Arrival, Workload};

/// Bytes that wait at most in the connection's send queue, per class: more than an overload of
/// some seconds piles up, so that what comes first can go first.
const QUEUE_BYTES: usize = 64 << 20;
/// Messages that may be open on it.
const DEPTH: u32 = 1 << 17;
/// Share of the capacity at which the most urgent class is measured alone.
const ALONE_LOAD: f64 = 0.02;

/// One run of a scenario.
pub(crate) struct Cell {
    /// Part of the link's capacity that was offered.
    pub(crate) load: f64,
    /// What the library was told.
    pub(crate) told: Told,
    /// What came out.
    pub(crate) measurement: Measurement,
}

/// A scenario that was run.
pub(crate) struct Series {
    /// Which one.
    pub(crate) scenario: &'static Scenario,
    /// What the link carries, in payload bytes per second.
    pub(crate) link_bytes_per_s: f64,
    /// What the link is.
    pub(crate) link: &'static str,
    /// The most urgent class alone on an idle link.
    pub(crate) alone: Measurement,
    /// The runs, by load, then by what was told.
    pub(crate) cells: Vec<Cell>,
}

impl Series {
    /// The worst verdict of all runs.
    pub(crate) fn level(&self) -> Level {
        let levels = self.cells.iter().map(|cell| cell.measurement.verdict.level);
        levels.chain([self.alone.verdict.level]).max().unwrap_or(Level::Valid)
    }
}

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
    let base = base(scenario, arguments, &environment)?;
    let ground = Ground::prepare(arguments, &base)?;
    let address = ground.address();
    let runs = Runs { environment, address, stop, quiet: arguments.quiet };
    let result = runs.all(scenario, arguments, &base);
    let link = ground.name();
    // The runs' own error says more than what follows from it.
    let ended = ground.end();
    let (alone, cells) = result?;
    ended?;
    let series = Series { scenario, link_bytes_per_s: arguments.link, link, alone, cells };
    report::publish_scenario(&series, arguments)?;
    Ok(series.level())
}

/// What all runs have in common.
fn base(
    scenario: &Scenario,
    arguments: &ScenarioArguments,
    environment: &Environment,
) -> Result<Plan> {
    let mut plan = Plan::new(&arguments.traffic(), &environment.cpus_allowed, &|path| {
        Err(format!("a scenario reads no files: {path}"))
    })?;
    plan.workload = Arc::new(scenario.workload()?);
    plan.judged_by_arrival = true;
    (plan.queue_bytes, plan.depth) = (Some(QUEUE_BYTES), DEPTH);
    plan.warmup = Duration::from_secs(1);
    Ok(plan)
}

struct Runs<'r> {
    environment: Environment,
    address: String,
    stop: &'r Arc<AtomicBool>,
    quiet: bool,
}

impl Runs<'_> {
    fn all(
        &self,
        scenario: &Scenario,
        arguments: &ScenarioArguments,
        base: &Plan,
    ) -> Result<(Measurement, Vec<Cell>)> {
        let count = 1 + arguments.loads.0.len() * scenario.told.len();
        let mut first = base.workload.as_ref().clone();
        first.classes.truncate(1);
        first.classes[0].share = 1.0;
        self.announce(1, count, &format!("{} alone", first.classes[0].name));
        let alone = self.one(base, first, ALONE_LOAD, arguments.link)?;
        let mut cells = Vec::with_capacity(count);
        for &load in &arguments.loads.0 {
            for &told in scenario.told {
                if self.stop.load(Ordering::Relaxed) {
                    return Ok((alone, cells));
                }
                let what = format!("{:.0} % load, {}", load * 100.0, told.name());
                self.announce(cells.len() + 2, count, &what);
                let workload = base.workload.as_ref().clone().told(told.variant());
                let measurement = self.one(base, workload, load, arguments.link)?;
                cells.push(Cell { load, told, measurement });
            }
        }
        Ok((alone, cells))
    }

    fn announce(&self, number: usize, count: usize, what: &str) {
        if !self.quiet {
            conduct::announce(&format!("run {number} of {count}: {what}"));
        }
    }

    /// One run that offers `load` times what the link carries, in payload and frame headers.
    fn one(
        &self,
        base: &Plan,
        workload: Workload,
        load: f64,
        link_bytes_per_s: f64,
    ) -> Result<Measurement> {
        const HEADER_BYTES: f64 = 4.0;
        let rate_per_s = load * link_bytes_per_s / (workload.mean_bytes() + HEADER_BYTES);
        let plan = Plan {
            workload: Arc::new(workload),
            rate_per_s,
            overload: load >= 1.0,
            arrival: Arrival::Poisson,
            address: Some(self.address.clone()),
            ..base.clone()
        };
        conduct::measurement(plan, &self.environment, &self.address, self.stop, self.quiet)
    }
}
