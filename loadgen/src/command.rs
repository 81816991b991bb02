//! Commands: what was asked for, done, with its exit code.
//!
//! Above: `main`. Below: `conduct` for a single run; `scenario`, `compare`, `search` for series of
//! them; `agents`; `server`; `report`. Absent: measuring.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};

use crate::arguments::{Command, DeadlineArguments, RunArguments, ScenarioArguments};
use crate::conduct::{announce, at_load, measure};
use crate::environment::Environment;
use crate::measurement::Measurement;
use crate::plan::Plan;
use crate::scenario::{self, Scenario};
use crate::server::{self, EchoServer};
use crate::verdict::Level;
use crate::{agents, compare, mark, report, search, workload};

/// Exit code of a run whose figures must not be quoted.
const EXIT_INVALID: u8 = 3;

/// Does what was asked for.
pub(crate) fn carry_out(command: Command) -> Result<ExitCode> {
    // Times of arrival count from here, so no run begins before it.
    mark::epoch();
    match command {
        Command::Run(arguments) => run(&arguments),
        Command::FrontPage(arguments) => series(&scenario::FRONT_PAGE, &arguments),
        Command::BulkVsClass0(arguments) => series(&scenario::BULK_VS_CLASS0, &arguments),
        Command::Deadline(arguments) => deadline(&arguments),
        Command::Homa(arguments) => stoppable(|stop| scenario::homa::run(&arguments, stop)),
        Command::Blocks(arguments) => stoppable(|stop| scenario::blocks::run(&arguments, stop)),
        Command::Rrul(arguments) => series(&scenario::RRUL, &arguments),
        Command::Theory(arguments) => stoppable(|stop| scenario::theory::run(&arguments, stop)),
        Command::Compare(arguments) => stoppable(|stop| compare::run(&arguments, stop)),
        Command::Sweep(arguments) => stoppable(|stop| search::sweep(&arguments, stop)),
        Command::Knee(arguments) => stoppable(|stop| search::knee(&arguments, stop)),
        Command::Report(arguments) => report::again(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Coordinate(arguments) => stoppable(|stop| agents::coordinate(&arguments, stop)),
        Command::Agent(arguments) => {
            agents::serve(&arguments)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Serve(arguments) => {
            server::serve(&arguments, announce)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Sends the library's log to standard error; RUST_LOG asks for more. A run stays silent but for
/// errors: what a warning would tell of it is in its verdict.
pub(crate) fn logging(command: &Command) {
    use tracing_subscriber::EnvFilter;
    let level = if matches!(command, Command::Serve(_)) { "warn" } else { "error" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// One line about what went wrong.
pub(crate) fn complain(error: &anyhow::Error) {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Many errors already say their cause.
        if !line.contains(&cause) {
            line += if line.is_empty() { "" } else { ": " };
            line += &cause;
        }
    }
    announce(&line);
}

fn run(arguments: &RunArguments) -> Result<ExitCode> {
    let environment = Environment::read();
    let quiet = arguments.traffic.quiet;
    let mut plan = Plan::new(&arguments.traffic, &environment.cpus_allowed, &workload::read)?;
    report::check_writable(&arguments.reports)?;
    let stop = Arc::new(AtomicBool::new(false));
    end_on_signals(&stop)?;
    let server = match &plan.address {
        None => Some(EchoServer::embedded(&plan)?),
        Some(_) => None,
    };
    let own = server.as_ref().map(|server| server.address.clone());
    let address = own.or_else(|| plan.address.clone()).context("a run has a server")?;
    let measured = at_load(&mut plan, &address, &stop, quiet)
        .and_then(|()| measure(&plan, &address, stop, quiet));
    // The run's own error says more than what follows from it.
    let ended = server.map_or(Ok(()), EchoServer::end);
    let observed = measured?;
    ended?;
    let measurement = Measurement::new(plan, environment, address, observed);
    report::publish(&measurement, arguments)?;
    Ok(exit_code(measurement.verdict.level))
}

/// Runs a scenario.
fn series(scenario: &'static Scenario, arguments: &ScenarioArguments) -> Result<ExitCode> {
    stoppable(|stop| scenario::run(scenario, arguments, stop))
}

/// Deadlines on one connection, or against the number of senders.
fn deadline(arguments: &DeadlineArguments) -> Result<ExitCode> {
    let Some(fan_in) = &arguments.fan_in else {
        return series(&scenario::DEADLINE, &arguments.scenario);
    };
    stoppable(|stop| scenario::fan_in::run(&arguments.scenario, &fan_in.0, stop))
}

/// Does `work`, which ends early once a signal came.
fn stoppable(work: impl FnOnce(&Arc<AtomicBool>) -> Result<Level>) -> Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    end_on_signals(&stop)?;
    Ok(exit_code(work(&stop)?))
}

fn exit_code(level: Level) -> ExitCode {
    if level == Level::Invalid { ExitCode::from(EXIT_INVALID) } else { ExitCode::SUCCESS }
}

/// The first SIGINT or SIGTERM ends the run early, the second ends the process.
fn end_on_signals(stop: &Arc<AtomicBool>) -> Result<()> {
    #[cfg(unix)]
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, stop.clone())?;
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let _ = stop;
    Ok(())
}
