//! The coordinator: gives each agent its part of one schedule and makes one result of what comes.
//!
//! Above: `conduct`. Below: `wire`, `order`, `findings`, `report`. Absent: measuring of its own.
//! Bound: every answer has a time; an agent that is lost once the run goes on costs its part, not
//! the result, which is INVALID then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use super::AGENTS_MAX;
use super::findings::{self, Findings};
use super::order::Order;
use super::wire::{self, Event, Heard, PROTOCOL, Said, Wire};
use crate::arguments::CoordinateArguments;
use crate::conduct::{self, CONNECT_MAX};
use crate::environment::Environment;
use crate::plan::Plan;
use crate::quantity::line_shown;
use crate::report;
use crate::verdict::Level;
use crate::worker::OVERTIME;
use crate::workload;

/// How long an agent may take to answer a word at once.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// From the last agent's readiness to the start, besides the way there.
const START_DELAY: Duration = Duration::from_millis(200);
/// Time between two looks at whether the user wants an end.
const TICK: Duration = Duration::from_millis(50);

/// Measures and reports; the verdict.
///
/// # Errors
/// If an agent cannot be reached, refuses or fails before the run, or no figures came.
pub(crate) fn coordinate(arguments: &CoordinateArguments, stop: &Arc<AtomicBool>) -> Result<Level> {
    let environment = Environment::read();
    let run = &arguments.run;
    let (mut plan, address) = checked(arguments, &environment)?;
    report::check_writable(&run.reports)?;
    let engine = wire::engine().signals(false).start()?;
    let (ear, heard) = wire::ear();
    let mut company = Company { agents: Vec::new(), heard, stop };
    for (number, address) in arguments.agents.iter().enumerate() {
        let wire = Wire::to(&engine, address, number, &ear);
        let wire = wire.map_err(|error| error.context(format!("agent {address}")))?;
        company.agents.push((address.clone(), wire));
    }
    let generators = company.greet()?;
    let count = company.agents.len() as u32;
    let generators = generators.min(plan.connections / count);
    if generators == 0 {
        bail!("--connections: {count} agents need at least one connection each");
    }
    let began = company.begin(&plan, &address, generators)?;
    let told = company.findings(began + plan.warmup + plan.duration, run.traffic.quiet);
    drop(engine);
    // It has no generators itself.
    plan.generator_cores = Vec::new();
    let measurement = findings::merged(plan, environment, address, told)?;
    report::publish(&measurement, run)?;
    Ok(measurement.verdict.level)
}

/// The plan of all and the server's address.
fn checked(arguments: &CoordinateArguments, environment: &Environment) -> Result<(Plan, String)> {
    let traffic = &arguments.run.traffic;
    let Some(address) = traffic.address.clone() else {
        bail!(
            "agents need the address of a server that all of them reach; start one: loadgen serve"
        )
    };
    if arguments.agents.len() > AGENTS_MAX {
        bail!("--agent: at most {AGENTS_MAX}");
    }
    if traffic.load.is_some() {
        bail!("--load: agents do not measure the capacity; give a --rate");
    }
    if traffic.churn.is_some() || traffic.carriers > 1 {
        bail!("--churn and --carriers are not for agents; use `loadgen run`");
    }
    if traffic.cores.is_some() {
        bail!("--cores: each agent has its own; give it to `loadgen agent`");
    }
    Ok((Plan::new(traffic, &environment.cpus_allowed, &workload::read)?, address))
}

/// All agents of a measurement.
struct Company<'c> {
    /// Address and wire of each.
    agents: Vec<(String, Wire)>,
    heard: Receiver<Heard>,
    stop: &'c AtomicBool,
}

/// What agents have said, so far.
type Answers<T> = Vec<Option<Result<T, String>>>;

impl Company<'_> {
    /// The least number of generators that any agent can start.
    fn greet(&self) -> Result<u32> {
        self.all_say(|_| Said::Hello { protocol: PROTOCOL, version: wire::version() })?;
        let offers = self.each("did not answer", ANSWER_MAX, |said| match said {
            Said::Welcome { protocol: PROTOCOL, generators, .. } => Ok(generators),
            Said::Welcome { protocol, version, .. } => Err(format!(
                "it speaks protocol {protocol} (loadgen {}) and not {PROTOCOL} (loadgen {}); use \
                 the same loadgen on all hosts",
                line_shown(&version),
                wire::version()
            )),
            other => Err(unexpected(other)),
        })?;
        Ok(offers.into_iter().min().unwrap_or(0))
    }

    /// Has all make their connections and start at one moment, which is returned. The word takes
    /// half a round trip; what agents differ by in this is what their starts differ by.
    fn begin(&self, plan: &Plan, address: &str, generators: u32) -> Result<Instant> {
        let count = self.agents.len() as u32;
        self.all_say(|number| {
            let agent = (number as u32, count);
            Said::Order(Box::new(Order::of(plan, address, agent, generators)))
        })?;
        let patience = CONNECT_MAX + ANSWER_MAX;
        self.each("did not connect to the server", patience, |said| match said {
            Said::Ready => Ok(()),
            other => Err(unexpected(other)),
        })?;
        let start = Instant::now() + START_DELAY;
        self.all_say(|_| {
            let left = start.saturating_duration_since(Instant::now());
            Said::Start { after_us: left.as_micros() as u64 }
        })?;
        Ok(start)
    }

    fn all_say(&self, what: impl Fn(usize) -> Said) -> Result<()> {
        for (number, (address, wire)) in self.agents.iter().enumerate() {
            let said = wire.say(&what(number));
            said.map_err(|error| error.context(format!("agent {address}")))?;
        }
        Ok(())
    }

    /// One answer of each; the first that is none ends it.
    fn each<T>(
        &self,
        silence: &str,
        patience: Duration,
        mut take: impl FnMut(Said) -> Result<T, String>,
    ) -> Result<Vec<T>> {
        let until = Instant::now() + patience;
        let mut answers: Answers<T> = self.agents.iter().map(|_| None).collect();
        while answers.iter().any(Option::is_none) {
            if self.stop.load(Ordering::Relaxed) {
                bail!("interrupted before the run began");
            }
            if Instant::now() > until {
                let silent = answers.iter().position(Option::is_none).unwrap_or(0);
                let (address, seconds) = (&self.agents[silent].0, patience.as_secs());
                bail!("agent {address}: it {silence} within {seconds} s");
            }
            if let Some((number, answer)) = self.hear(&mut take) {
                let answer =
                    answer.map_err(|why| anyhow!("agent {}: {why}", self.agents[number].0))?;
                answers[number] = Some(Ok(answer));
            }
        }
        Ok(answers.into_iter().flatten().filter_map(Result::ok).collect())
    }

    /// The findings of each, or why there are none; the run is meant to end at `end`.
    fn findings(&self, end: Instant, quiet: bool) -> Vec<(String, Result<Box<Findings>, String>)> {
        let mut until = end + OVERTIME + ANSWER_MAX;
        let mut stopped = false;
        let mut answers: Answers<Box<Findings>> = self.agents.iter().map(|_| None).collect();
        if !quiet {
            let names: Vec<_> = self.agents.iter().map(|(address, _)| address.as_str()).collect();
            conduct::announce(&format!("begun on {}", names.join(", ")));
        }
        while answers.iter().any(Option::is_none) && Instant::now() < until {
            if self.stop.load(Ordering::Relaxed) && !stopped {
                stopped = true;
                until = until.min(Instant::now() + OVERTIME + ANSWER_MAX);
                // One that is gone is heard of.
                self.agents.iter().for_each(|(_, wire)| drop(wire.say(&Said::Stop)));
            }
            let heard = self.hear(|said| match said {
                Said::Findings(findings) => Ok(findings),
                other => Err(unexpected(other)),
            });
            if let Some((number, answer)) = heard {
                // After its findings an agent goes away, which is no news.
                answers[number].get_or_insert(answer);
            }
        }
        let silent = || Err("it did not tell its findings in time".to_owned());
        let told = answers.into_iter().map(|answer| answer.unwrap_or_else(silent));
        self.agents.iter().map(|(address, _)| address.clone()).zip(told).collect()
    }

    /// What the next one says, within a tick.
    fn hear<T>(
        &self,
        take: impl FnOnce(Said) -> Result<T, String>,
    ) -> Option<(usize, Result<T, String>)> {
        match self.heard.recv_timeout(TICK) {
            Ok((number, Event::Said(said))) => Some((number, take(said))),
            Ok((number, Event::Lost(why))) => Some((number, Err(line_shown(&why)))),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }
}

/// Why an agent's word is not what was waited for.
fn unexpected(said: Said) -> String {
    match said {
        Said::Refusal(why) => line_shown(&why),
        _ => "it said what nobody asked for; use the same loadgen on all hosts".to_owned(),
    }
}
