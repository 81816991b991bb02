//! Lifecycle: connections that come and go (churn), and many that come at once (storm).
//!
//! Above: `main`. Below: epoll.
//! Absent: no latency of single messages; what is timed is a connection, from the moment it was
//! meant to begin. Bounds: [`Churn::at_once`] or all of the storm's connections are open.

use crate::TargetOptions;
use crate::clock::{Clock, Window, nanoseconds};
use crate::connect::{Connector, established};
use crate::engine::{Events, Failures, NO_WAIT, READ_MAX, Ready};
use crate::meter::Meter;
use crate::peer::Peer;
use crate::process::CpuMarks;
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;

/// How many connections are opened before events are looked at again.
const OPENINGS_PER_TURN: usize = 16;

/// Connect, some requests one after the other, close; at once again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Churn {
    pub(crate) at_once: usize,
    pub(crate) requests: u64,
    pub(crate) size: usize,
    pub(crate) warmup: Duration,
    pub(crate) seconds: Duration,
}

/// Connections that are begun at even distances and stay open until all are echoed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Storm {
    pub(crate) connections: usize,
    pub(crate) size: usize,
    pub(crate) within: Duration,
    pub(crate) deadline: Duration,
}

/// One connection, from its beginning to its last echo.
struct Life {
    peer: Peer,
    begun: u64,
    connecting: bool,
}

/// What the events of a connection came to.
enum Outcome {
    Going,
    /// As many echoes as were asked for.
    Done,
    Failed(anyhow::Error),
}

/// Moves lives forward; the echoes' own latencies go into `echoes`.
struct Field {
    connector: Connector,
    events: Events,
    lives: Vec<Life>,
    buffer: Vec<u8>,
    echoes: Meter,
    clock: Clock,
    requests: u64,
    size: usize,
}

impl Field {
    fn new(
        target: &TargetOptions,
        window: Window,
        clock: Clock,
        requests: u64,
        size: usize,
    ) -> Result<Self> {
        Ok(Self {
            connector: Connector::new(target.address),
            events: Events::new()?,
            lives: Vec::new(),
            buffer: vec![0; READ_MAX],
            echoes: Meter::new(window)?,
            clock,
            requests,
            size,
        })
    }

    /// Begins one more connection.
    fn begin(&mut self, begun: u64) -> Result<()> {
        let peer = Peer::new(self.connector.begin()?, self.size, 1, false)?;
        self.events.add(self.lives.len(), &peer)?;
        self.lives.push(Life { peer, begun, connecting: true });
        Ok(())
    }

    /// Closes the connection in a place and begins another there.
    fn begin_again(&mut self, index: usize) -> Result<()> {
        let socket = self.connector.begin()?;
        let life = &mut self.lives[index];
        life.peer.renew(socket);
        life.connecting = true;
        life.begun = self.clock.now();
        self.events.add(index, &life.peer)
    }

    fn ready(&mut self) -> Result<Vec<Ready>> {
        Ok(self.events.take(NO_WAIT)?.collect())
    }

    fn advance(&mut self, ready: Ready) -> Outcome {
        match self.step(ready) {
            Ok(true) => Outcome::Done,
            Ok(false) => Outcome::Going,
            Err(error) => Outcome::Failed(error),
        }
    }

    fn step(&mut self, ready: Ready) -> Result<bool> {
        let life = &mut self.lives[ready.index];
        if life.connecting {
            established(&life.peer.socket)?;
            if !ready.writable {
                return Ok(false);
            }
            life.connecting = false;
            life.peer.queue(self.clock.now());
            life.peer.write()?;
        }
        let before = life.peer.echoed();
        if ready.readable {
            life.peer.read(&mut self.buffer, self.clock, &mut self.echoes)?;
        }
        if life.peer.echoed() == self.requests {
            return Ok(life.peer.echoed() > before);
        }
        if life.peer.in_flight() == 0 {
            life.peer.queue(self.clock.now());
        }
        life.peer.write()?;
        Ok(false)
    }
}

/// Runs a churn.
///
/// # Errors
/// No descriptors or ports are left; what goes wrong on a connection is counted.
pub(crate) fn churn(target: &TargetOptions, churn: Churn) -> Result<Value> {
    ensure!(churn.at_once > 0 && churn.requests > 0, "a churn needs connections and requests");
    let clock = Clock::start();
    let window = Window::after(clock, churn.warmup, churn.seconds);
    let mut field = Field::new(target, window, clock, churn.requests, churn.size)?;
    let mut marks = CpuMarks::new(target.server_pid, window);
    let mut whole = Meter::new(window)?;
    let mut failures = Failures::default();
    for _ in 0..churn.at_once {
        field.begin(clock.now())?;
    }
    loop {
        let now = clock.now();
        marks.turn(now, clock)?;
        if now >= window.to {
            break;
        }
        for ready in field.ready()? {
            match field.advance(ready) {
                Outcome::Going => continue,
                Outcome::Done => whole.record(field.lives[ready.index].begun, clock.now()),
                Outcome::Failed(error) => failures.add(&error),
            }
            field.begin_again(ready.index)?;
        }
    }
    let (server_cpu, client_cpu) = marks.shares();
    Ok(json!({
        "mode": "churn",
        "at_once": churn.at_once,
        "requests": churn.requests,
        "size": churn.size,
        "seconds": churn.seconds.as_secs_f64(),
        "connections_per_second": whole.per_second(),
        "messages_per_second": field.echoes.per_second(),
        "connection": whole.latency(),
        "message": field.echoes.latency(),
        "server_cpu": server_cpu,
        "client_cpu": client_cpu,
        "errors": failures.count,
        "first_error": failures.first,
    }))
}

/// Runs a storm.
///
/// # Errors
/// No descriptors or ports are left; what goes wrong on a connection is counted.
pub(crate) fn storm(target: &TargetOptions, storm: Storm) -> Result<Value> {
    ensure!(storm.connections > 0, "a storm needs connections");
    let clock = Clock::start();
    let window = Window { from: 0, to: u64::MAX / 2 };
    let mut field = Field::new(target, window, clock, 1, storm.size)?;
    let mut whole = Meter::new(window)?;
    let mut failures = Failures::default();
    let begin = clock.now();
    let distance = nanoseconds(storm.within) / storm.connections as u64;
    let deadline = begin + nanoseconds(storm.within + storm.deadline);
    let (mut echoed, mut last_begun) = (0, begin);
    while echoed + failures.count < storm.connections as u64 && clock.now() < deadline {
        for _ in 0..OPENINGS_PER_TURN {
            let due = begin + distance * field.lives.len() as u64;
            if field.lives.len() == storm.connections || due > clock.now() {
                break;
            }
            field.begin(due)?;
            last_begun = clock.now();
        }
        for ready in field.ready()? {
            match field.advance(ready) {
                Outcome::Going => {}
                Outcome::Done => {
                    echoed += 1;
                    whole.record(field.lives[ready.index].begun, clock.now());
                }
                Outcome::Failed(error) => {
                    let peer = &mut field.lives[ready.index].peer;
                    if !peer.failed && peer.echoed() == 0 {
                        failures.check(peer, Err(error));
                    }
                }
            }
        }
    }
    Ok(json!({
        "mode": "storm",
        "connections": storm.connections,
        "size": storm.size,
        "begun_within_seconds": (last_begun - begin) as f64 / 1e9,
        "echoed": echoed,
        "lost": storm.connections as u64 - echoed,
        "done_within_seconds": (clock.now() - begin) as f64 / 1e9,
        "connection": whole.latency(),
        "errors": failures.count,
        "first_error": failures.first,
    }))
}
