//! Carries a run out: starts the engines, watches the generators, gathers what they have counted.
//!
//! Above: `command`, and what makes series of runs: `scenario`, `compare`, `search`. Below: `plan`,
//! `server`, `worker`, `measurement`. Absent: numbers, reports.
//! Bound: every wait ends: connecting after `CONNECT_MAX`, the run after its own length and an
//! overtime.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::environment::{self, CpuSnapshot, Environment};
use crate::live::Live;
use crate::measurement::{CpuSpan, Measurement, Observed};
use crate::pace::Share;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::server::{self, Generators};
use crate::tcp_counters::TcpWatch;
use crate::worker::{Control, Event, OVERTIME, Orders, Outcome};
use crate::workload::Arrival;

/// How long making all connections may take.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(15);
/// Time between two drawings of the progress line.
const TICK: Duration = Duration::from_millis(200);
/// From the last connection to the start, so that all generators see it coming.
const START_DELAY: Duration = Duration::from_millis(20);
/// Messages in flight on each connection while the capacity is measured.
const CAPACITY_DEPTH: u32 = 16;
/// Before it is measured.
const CAPACITY_WARMUP: Duration = Duration::from_millis(500);
/// How long it is measured.
const CAPACITY_DURATION: Duration = Duration::from_secs(2);
/// One line on standard error.
pub(crate) fn announce(line: &str) {
    // Without standard error there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "loadgen: {line}");
}

/// One run against `address`, judged.
///
/// # Errors
/// If it cannot be carried out.
pub(crate) fn measurement(
    plan: Plan,
    environment: &Environment,
    address: &str,
    stop: &Arc<AtomicBool>,
    quiet: bool,
) -> Result<Measurement> {
    let observed = measure(&plan, address, stop.clone(), quiet)?;
    Ok(Measurement::new(plan, environment.clone(), address.to_owned(), observed))
}

/// A run of a series, or `None` if the user ended it before it gave anything: what was measured
/// before it is not lost.
///
/// # Errors
/// Those of the run, if it failed by itself.
pub(crate) fn unless_stopped<T>(run: Result<T>, stop: &AtomicBool) -> Result<Option<T>> {
    match run {
        Err(_) if stop.load(Ordering::Relaxed) => Ok(None),
        run => run.map(Some),
    }
}

/// Where the rate is a part of the capacity: measures this in a closed loop and sets the rate.
///
/// # Errors
/// If it cannot be measured.
pub(crate) fn at_load(
    plan: &mut Plan,
    address: &str,
    stop: &Arc<AtomicBool>,
    quiet: bool,
) -> Result<()> {
    let Some(load) = plan.load else { return Ok(()) };
    let closed = Plan {
        arrival: Arrival::Closed,
        depth: CAPACITY_DEPTH,
        warmup: CAPACITY_WARMUP,
        duration: CAPACITY_DURATION,
        churn_per_s: None,
        ..plan.clone()
    };
    let observed = measure(&closed, address, stop.clone(), quiet)?;
    if stop.load(Ordering::Relaxed) {
        bail!("interrupted before the run began");
    }
    let received = |outcome: &Outcome| -> u64 {
        outcome.books.classes.iter().map(|class| class.account.messages.received()).sum()
    };
    let answered: u64 = observed.outcomes.iter().map(received).sum();
    let capacity_per_s = answered as f64 / CAPACITY_DURATION.as_secs_f64();
    if capacity_per_s < 1.0 {
        bail!("--load: the server answered nothing while its capacity was measured");
    }
    plan.rate_per_s = (capacity_per_s * load).max(1.0);
    Ok(())
}

/// Starts the generators, runs them to the end and ends them.
///
/// # Errors
/// If it cannot be carried out.
pub(crate) fn measure(
    plan: &Plan,
    address: &str,
    stop: Arc<AtomicBool>,
    quiet: bool,
) -> Result<Observed> {
    measure_from(plan, address, stop, quiet, || Ok(Instant::now() + START_DELAY))
}

/// As `measure`; once all connections are made, `begin` says when the run starts.
///
/// # Errors
/// If it cannot be carried out, or those of `begin`.
pub(crate) fn measure_from(
    plan: &Plan,
    address: &str,
    stop: Arc<AtomicBool>,
    quiet: bool,
    begin: impl FnOnce() -> Result<Instant>,
) -> Result<Observed> {
    let (events, inbox) = channel();
    let live = plan.generator_cores.iter().map(|_| Live::new(plan.workload.classes.len()));
    let control = Arc::new(Control { stop, live: live.collect(), ..Control::default() });
    let generators = Generators::start(plan, orders(plan, address, &control, &events))?;
    drop(events);
    // This thread only waits, but when it wakes it must not take a generator's CPU.
    environment::stay_on(&plan.server_cores);
    let mut watch = Watch {
        plan,
        address,
        control: &control,
        inbox,
        progress: Progress::new(plan, quiet),
        tcp: TcpWatch::new(plan.duration.as_nanos() as u64),
    };
    let result = watch.connected(begin).and_then(|()| watch.finished());
    watch.progress.clear();
    // Generators that still wait for the start must not wait for ever.
    control.stop.fetch_or(result.is_err(), Ordering::Relaxed);
    let (driver, driver_reason) = generators.driver();
    let ended = generators.end();
    let (outcomes, cpus) = result?;
    ended?;
    let tcp = watch.tcp.span();
    Ok(Observed { outcomes, cpus, driver, driver_reason, tcp })
}

/// One order for each generator.
fn orders(
    plan: &Plan,
    address: &str,
    control: &Arc<Control>,
    events: &Sender<Event>,
) -> impl Iterator<Item = Orders> {
    let workers = plan.generator_cores.len() as u32;
    (0..workers).map(move |worker| {
        let connections = plan.carriers_of(worker);
        let share = f64::from(connections) / f64::from(plan.connections * plan.carriers);
        // Without a schedule the parts have nothing in common, least of all their sizes.
        let of_part = if plan.open_loop() { 0 } else { u64::from(plan.part.number) << 32 };
        Orders {
            address: address.to_owned(),
            carriers: plan.carriers,
            churn_per_s: plan.churn_per_s.map(|per_s| per_s * share),
            bounds: plan.bounds(plan.part.connections(connections)),
            share: Share {
                worker,
                workers,
                rate_per_s: plan.rate_per_s,
                connections,
                part: plan.part,
                end_ns: plan.end_ns(),
                seed: plan.seed.wrapping_add(of_part),
            },
            gaps: plan.gaps(),
            queue_max: server::queue_max(plan),
            control: control.clone(),
            events: events.clone(),
        }
    })
}

/// The thread that waits for the generators.
struct Watch<'r> {
    plan: &'r Plan,
    address: &'r str,
    control: &'r Control,
    inbox: Receiver<Event>,
    progress: Progress,
    tcp: TcpWatch,
}

impl Watch<'_> {
    /// Waits until all generators have their connections, then gives the common start.
    fn connected(&mut self, begin: impl FnOnce() -> Result<Instant>) -> Result<()> {
        let until = Instant::now() + CONNECT_MAX;
        let mut ready = 0;
        while ready < self.plan.generator_cores.len() {
            if self.control.stop.load(Ordering::Relaxed) {
                bail!("interrupted before the run began");
            }
            match self.next_before(until.min(Instant::now() + TICK))? {
                Some(Event::Ready) => ready += 1,
                Some(Event::Failed(error)) => return Err(error.into()),
                Some(Event::Done(_)) => bail!("a generator ended before the run began"),
                None if Instant::now() < until => {}
                None => bail!(
                    "{} did not accept {} connections within {} s; is a server listening there?",
                    self.address,
                    self.plan.own_connections(),
                    CONNECT_MAX.as_secs()
                ),
            }
        }
        let start = begin()?;
        self.control.start.get_or_init(|| start);
        Ok(())
    }

    /// Waits until all generators are done, drawing the progress meanwhile.
    fn finished(&mut self) -> Result<(Vec<Outcome>, CpuSpan)> {
        let start = *self.control.start.get().context("the run was started")?;
        let (begin, end) =
            (start + self.plan.warmup, start + self.plan.warmup + self.plan.duration);
        let (mut before, mut after) = (None, None);
        let mut outcomes = Vec::new();
        while outcomes.len() < self.plan.generator_cores.len() {
            let now = Instant::now();
            let due = [(begin, &mut before), (end, &mut after)];
            for (at, snapshot) in due {
                if now >= at && snapshot.is_none() {
                    *snapshot = Some(CpuSnapshot::read());
                }
            }
            if now > end + OVERTIME {
                bail!("a generator did not end; this is a bug of loadgen, please report it");
            }
            let next = [begin, end, now + TICK];
            let next = next.into_iter().filter(|at| *at > now).min().unwrap_or(now + TICK);
            match self.next_before(next)? {
                Some(Event::Done(outcome)) => outcomes.push(*outcome),
                Some(Event::Failed(error)) => return Err(error.into()),
                Some(Event::Ready) | None => {
                    let elapsed = Instant::now().saturating_duration_since(start);
                    self.progress.draw(elapsed, &self.control.live);
                }
            }
            self.look_at_tcp(start + self.plan.warmup);
        }
        let after = after.unwrap_or_else(CpuSnapshot::read);
        Ok((outcomes, (before.unwrap_or_default(), after)))
    }

    /// Looks at what TCP has sent since the measured part began, in the generators' namespace.
    fn look_at_tcp(&mut self, begin: Instant) {
        let over_tcp = self.address.starts_with("tcp://");
        let live = self.control.live.first().filter(|_| over_tcp && Instant::now() >= begin);
        if let Some(live) = live {
            let at_ns = begin.elapsed().as_nanos() as u64;
            self.tcp.look(at_ns, live.thread.load(Ordering::Relaxed));
        }
    }

    /// The next event, or `None` when the time is over.
    fn next_before(&self, until: Instant) -> Result<Option<Event>> {
        let left = until.saturating_duration_since(Instant::now());
        match self.inbox.recv_timeout(left) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) if self.control.stop.load(Ordering::Relaxed) => {
                bail!("interrupted before the run began")
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("a generator's core ended unexpectedly; the log above has the reason")
            }
        }
    }
}
