//! `theory`: mean waits of datagrams on a narrow link, against what queueing theory says.
//!
//! Above: `command`. Below: `queueing`; the runs and the link of `scenario`; `lines` hold both
//! against each other and show them as an `exhibit`.
//! Absent: streams: TCP keeps the queue where it is not to be seen from outside.
//! Bound: loads times `ROUNDS` times two runs.

mod lines;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, anyhow, bail};

use super::ground::Ground;
use super::{HEADER_BYTES, PACKET_HEADER_BYTES, Runs, Site, base};
use crate::arguments::{Ground as Asked, ScenarioArguments, Stack};
use crate::environment::Environment;
use crate::measurement::Measurement;
use crate::pace::{self, Gaps, Part, Share};
use crate::plan::Plan;
use crate::queueing::{self, Link, Waits};
use crate::report;
use crate::verdict::Level;
use crate::workload::{Arrival, Workload};

/// A packet as the link counts it.
const WIRE_BYTES: f64 = 1500.0;
/// One message after the other leaves, so that the more urgent one has its chance each time.
const TWO_CLASSES: [&str; 2] =
    ["name=urgent,share=50%,immediate", "name=other,share=50%,niceness=1,immediate"];
/// Parts of the link's capacity that are offered, unless others are asked for.
const LOADS: [f64; 1] = [0.8];
/// Runs of each kind, with random numbers of their own.
const ROUNDS: u64 = 5;
/// The kernel takes two datagrams of a Carrier with niceness ahead of time, and a third waits to
/// be taken: `Limits::paced_unsent_bytes` are two packets as the kernel counts them.
const COMMITTED: usize = 3;
/// The credit of the link: what it lets pass early after it was idle. It makes up for timers that
/// wake late; one packet's worth is the most that would leave something to wait for.
const CREDIT_MAX_US: f64 = 100.0;

/// Runs it and publishes it.
///
/// # Errors
/// If there is no lab, a load leaves no steady state, a run cannot be made or a report cannot be
/// written.
pub(crate) fn run(arguments: &ScenarioArguments, stop: &Arc<AtomicBool>) -> Result<Level> {
    if arguments.over != Stack::Udp {
        bail!("theory sends datagrams (leave --over out): streams hide their queues");
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
    cases: Vec<Case>,
}

fn all(
    runs: &Runs<'_>,
    arguments: &ScenarioArguments,
    width: &Width,
    base: &Plan,
) -> Result<Found> {
    let loads = arguments.loads(&LOADS);
    let count = loads.len() * 2 * ROUNDS as usize;
    let full_per_s = 1e9 / width.service_ns;
    let mut found = Found { width: *width, cases: Vec::new() };
    let mut number = 0;
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
}
