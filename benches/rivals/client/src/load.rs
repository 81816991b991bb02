//! Load: closed loop, open loop, and one flooding connection among polite ones.
//!
//! Above: `main`. Below: an engine.
//! Absent: no connecting and closing under load (that is `lifecycle`).
//! Bounds: a closed loop has connections x depth in flight; an open loop queues what is due; the
//! flood stops at [`FLOOD_WINDOW`] messages in flight.

use crate::LoadOptions;
use crate::clock::{Clock, Window, nanoseconds};
use crate::connect::Connector;
use crate::engine::{Engine, EpollEngine};
use crate::meter::Meter;
use crate::peer::Peer;
use crate::process::CpuMarks;
use crate::uring::{self, UringEngine};
use anyhow::{Result, ensure};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use std::time::Duration;

/// Messages that the flooding connection has in flight at most.
const FLOOD_WINDOW: usize = 16 * 1024;
/// How long echoes of an open loop are waited for after the window.
const DRAIN: Duration = Duration::from_secs(2);

const POLITE: usize = 0;
const FLOOD: usize = 1;

/// What is sent, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pattern {
    /// Each connection keeps `depth` messages in flight.
    Closed { depth: usize },
    /// Messages are due at random times, `rate` a second in all, on random connections.
    Open { rate: f64 },
    /// As `Open`, but the first connection sends `flood` messages a second (0: all it can).
    Flood { rate: f64, flood: f64 },
}

/// The times at which messages are due: a Poisson process.
struct Arrivals {
    random: SmallRng,
    next: f64,
    mean_ns: f64,
}

impl Arrivals {
    fn new(seed: u64, now: u64, rate: f64) -> Self {
        Self { random: SmallRng::seed_from_u64(seed), next: now as f64, mean_ns: 1e9 / rate }
    }

    /// The next due time up to `now`, and a number below `count`.
    fn due(&mut self, now: u64, count: usize) -> Option<(u64, usize)> {
        if self.next > now as f64 {
            return None;
        }
        let due = self.next as u64;
        // 1 - [0, 1) is never 0, whose logarithm would be infinite.
        let uniform: f64 = 1.0 - self.random.random::<f64>();
        self.next -= self.mean_ns * uniform.ln();
        Some((due, self.random.random_range(0..count)))
    }
}

/// The flooding connection's allowance.
struct Flood {
    begun: u64,
    rate: f64,
    queued: u64,
}

impl Flood {
    fn turn(&mut self, now: u64, peer: &mut Peer) {
        let elapsed = now.saturating_sub(self.begun) as f64 / 1e9;
        let allowed = if self.rate > 0.0 { (elapsed * self.rate) as u64 } else { u64::MAX };
        while self.queued < allowed && peer.in_flight() < FLOOD_WINDOW {
            peer.queue(now);
            self.queued += 1;
        }
    }
}

/// Runs one pattern and reports it.
///
/// # Errors
/// The server cannot be reached, or a number is out of range.
pub(crate) fn run(options: &LoadOptions, pattern: Pattern) -> Result<Value> {
    ensure!(options.connections > 0, "--connections must be at least 1");
    let mut connector = Connector::new(options.target.address);
    let burst = match pattern {
        Pattern::Closed { depth } => depth,
        Pattern::Open { rate } | Pattern::Flood { rate, .. } => {
            ensure!(rate > 0.0, "--rate must be above 0 messages a second");
            64
        }
    };
    let mut peers = Vec::with_capacity(options.connections);
    for _ in 0..options.connections {
        peers.push(Peer::new(connector.connect()?, options.size, burst, options.verify)?);
    }
    if let (Pattern::Flood { .. }, Some(first)) = (pattern, peers.first_mut()) {
        *first = Peer::new(connector.connect()?, options.size, FLOOD_WINDOW, options.verify)?;
        first.class = FLOOD;
    }
    if options.engine == crate::EngineChoice::Uring {
        let mut ring = uring::ring()?;
        let frame = options.size + common::frames::PREFIX;
        let engine = UringEngine::new(&mut ring, &peers, frame)?;
        return drive(engine, &mut peers, options, pattern);
    }
    let engine = EpollEngine::new(&peers)?;
    drive(engine, &mut peers, options, pattern)
}

/// Puts the fields of `more` into `line`.
pub(crate) fn merge(line: &mut Value, more: Value) {
    if let (Value::Object(line), Value::Object(more)) = (line, more) {
        line.extend(more);
    }
}

fn drive(
    mut engine: impl Engine,
    peers: &mut [Peer],
    options: &LoadOptions,
    pattern: Pattern,
) -> Result<Value> {
    let clock = Clock::start();
    let window = Window::after(clock, options.warmup.into(), options.seconds.into());
    let mut marks = CpuMarks::new(options.target.server_pid, window);
    let mut meters = [Meter::new(window)?, Meter::new(window)?];
    let rate = match pattern {
        Pattern::Closed { .. } => 1.0,
        Pattern::Open { rate } | Pattern::Flood { rate, .. } => rate,
    };
    let mut arrivals = Arrivals::new(options.seed, clock.now(), rate);
    let mut flood = Flood { begun: clock.now(), rate: 0.0, queued: 0 };
    let mut polite = 0;
    match pattern {
        Pattern::Closed { depth } => fill(&mut engine, peers, depth, clock)?,
        Pattern::Open { .. } => {}
        Pattern::Flood { flood: rate, .. } => {
            ensure!(peers.len() > 1, "a flood needs a polite connection beside it");
            flood.rate = rate;
            polite = 1;
        }
    }
    loop {
        let now = clock.now();
        marks.turn(now, clock)?;
        if now >= window.to {
            break;
        }
        if !matches!(pattern, Pattern::Closed { .. }) {
            while let Some((due, index)) = arrivals.due(now, peers.len() - polite) {
                let peer = &mut peers[polite + index];
                peer.queue(due);
                engine.send(polite + index, peer)?;
            }
            if polite > 0 {
                flood.turn(now, &mut peers[0]);
                engine.send(0, &mut peers[0])?;
            }
        }
        engine.pass(peers, &mut meters, clock)?;
    }
    if !matches!(pattern, Pattern::Closed { .. }) {
        drain(&mut engine, peers, polite, &mut meters, clock)?;
    }
    Ok(report(&engine, peers, options, pattern, &marks, &meters))
}

/// Starts a closed loop.
fn fill(engine: &mut impl Engine, peers: &mut [Peer], depth: usize, clock: Clock) -> Result<()> {
    ensure!(depth > 0, "--depth must be at least 1");
    for (index, peer) in peers.iter_mut().enumerate() {
        peer.refill = true;
        let now = clock.now();
        (0..depth).for_each(|_| peer.queue(now));
        engine.send(index, peer)?;
    }
    Ok(())
}

/// Waits for the echoes of messages that were due in the window, of all peers from `first` on.
fn drain(
    engine: &mut impl Engine,
    peers: &mut [Peer],
    first: usize,
    meters: &mut [Meter],
    clock: Clock,
) -> Result<()> {
    let end = clock.now() + nanoseconds(DRAIN);
    let waits = |peer: &Peer| !peer.failed && peer.in_flight() > 0;
    while clock.now() < end && peers[first..].iter().any(waits) {
        engine.pass(peers, meters, clock)?;
    }
    Ok(())
}

fn report(
    engine: &impl Engine,
    peers: &[Peer],
    options: &LoadOptions,
    pattern: Pattern,
    marks: &CpuMarks,
    meters: &[Meter],
) -> Value {
    let (server_cpu, client_cpu) = marks.shares();
    let unanswered: usize = peers.iter().map(Peer::in_flight).sum();
    let mut line = json!({
        "engine": options.engine,
        "connections": options.connections,
        "size": options.size,
        "seconds": Duration::from(options.seconds).as_secs_f64(),
        "messages_per_second": meters[POLITE].per_second(),
        "server_cpu": server_cpu,
        "client_cpu": client_cpu,
        "errors": engine.failures().count,
        "first_error": engine.failures().first,
    });
    merge(&mut line, json!(meters[POLITE].latency()));
    merge(
        &mut line,
        match pattern {
            Pattern::Closed { depth } => json!({"mode": "closed", "depth": depth}),
            Pattern::Open { rate } => json!({
                "mode": "open", "rate": rate, "seed": options.seed, "unanswered": unanswered
            }),
            Pattern::Flood { rate, flood } => json!({
                "mode": "flood",
                "rate": rate,
                "seed": options.seed,
                "flood_rate": flood,
                "flood_messages_per_second": meters[FLOOD].per_second(),
                "flood_latency": meters[FLOOD].latency(),
            }),
        },
    );
    line
}
