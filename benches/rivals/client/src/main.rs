//! Client: the neutral client of the rivals. One pinned thread that never sleeps under load, no
//! async runtime, one line of JSON on standard output.
//!
//! Above: `benches/rivals/run`. Below: epoll or io_uring, /proc.
//! Absent: no comparison of servers and no statistics over runs; the runner does both.
//! Bounds: those of the modes. Exit status 1: the mode could not be run; failures of single
//! connections are counted in `errors`.

mod check;
mod clock;
mod connect;
mod datagrams;
mod engine;
mod idle;
mod lifecycle;
mod load;
mod meter;
mod peer;
mod process;
mod uring;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use common::listening;
use load::Pattern;
use serde::Serialize;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// Drives a server of length-prefixed echoes and prints one line of JSON.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Connections that each keep some messages in flight
    Closed {
        #[command(flatten)]
        load: LoadOptions,
        /// Messages in flight per connection
        #[arg(long, default_value_t = 1)]
        depth: usize,
    },
    /// Messages at random times; latency counts from when each should have been sent
    Open {
        #[command(flatten)]
        load: LoadOptions,
        /// Messages a second, over all connections
        #[arg(long)]
        rate: f64,
    },
    /// One flooding connection beside polite ones
    Flood {
        #[command(flatten)]
        load: LoadOptions,
        /// Messages a second of the polite connections, in all
        #[arg(long, default_value_t = 5000.0)]
        rate: f64,
        /// Messages a second of the flooding one; 0: as many as it gets through
        #[arg(long, default_value_t = 1e6)]
        flood_rate: f64,
    },
    /// Connect, a few requests, close, and again
    Churn {
        #[command(flatten)]
        target: TargetOptions,
        /// Connections at once
        #[arg(long, default_value_t = 256)]
        connections: usize,
        /// Requests on each, one after the other
        #[arg(long, default_value_t = 10)]
        requests: u64,
        /// Bytes of a payload
        #[arg(long, default_value_t = 64)]
        size: usize,
        /// Seconds before the window
        #[arg(long, default_value = "0.3")]
        warmup: Seconds,
        /// Seconds that are measured
        #[arg(long, default_value = "1")]
        seconds: Seconds,
    },
    /// Many connections within a short time, each of which must be echoed once
    Storm {
        #[command(flatten)]
        target: TargetOptions,
        /// Connections in all
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
        /// Bytes of a payload
        #[arg(long, default_value_t = 64)]
        size: usize,
        /// Seconds within which they are begun
        #[arg(long, default_value = "1")]
        within: Seconds,
        /// Seconds after which an echo counts as lost
        #[arg(long, default_value = "10")]
        deadline: Seconds,
    },
    /// Open connections: bytes of the server's memory per connection
    Idle {
        #[command(flatten)]
        target: TargetOptions,
        /// Connections in all
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
        /// Bytes of a payload
        #[arg(long, default_value_t = 64)]
        size: usize,
        /// Bytes of the server's memory that are not its connections'
        #[arg(long, default_value_t = 16 << 20)]
        base: u64,
        /// Seconds during which the idle server's CPU is watched
        #[arg(long, default_value = "1")]
        seconds: Seconds,
    },
    /// Datagrams over UDP, of which each socket keeps some under way
    Datagrams {
        #[command(flatten)]
        load: datagrams::DatagramOptions,
    },
    /// Correctness of a UDP server: lengths, trains, two peers
    CheckDatagrams {
        #[command(flatten)]
        target: TargetOptions,
    },
    /// Correctness: odd senders, large frames, pipelining
    Check {
        #[command(flatten)]
        target: TargetOptions,
        /// Seed of sizes and contents
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

/// Whom to talk to.
#[derive(Debug, Clone, Args)]
struct TargetOptions {
    /// The server, as HOST:PORT with a numeric host
    #[arg(long)]
    address: SocketAddr,
    /// The server's process, for its CPU time and memory
    #[arg(long)]
    server_pid: Option<u32>,
    /// CPU to run on; unpinned without it
    #[arg(long)]
    core: Option<usize>,
}

/// What all load has in common.
#[derive(Debug, Clone, Args)]
struct LoadOptions {
    #[command(flatten)]
    target: TargetOptions,
    /// Connections in all
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Bytes of a payload; below 8 the order of echoes is not checked
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Seconds before the window
    #[arg(long, default_value = "0.3")]
    warmup: Seconds,
    /// Seconds that are measured
    #[arg(long, default_value = "1")]
    seconds: Seconds,
    /// How the client does its I/O
    #[arg(long, value_enum, default_value_t = EngineChoice::Epoll)]
    engine: EngineChoice,
    /// Seed of the random times
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Compare every byte of every echo
    #[arg(long)]
    verify: bool,
}

/// How the client does its I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum EngineChoice {
    Epoll,
    Uring,
}

/// A duration, given in seconds with a fraction.
#[derive(Debug, Clone, Copy)]
struct Seconds(Duration);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
        let duration = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
        if duration > Duration::from_secs(3600) {
            return Err("at most 3600 seconds".to_owned());
        }
        Ok(Self(duration))
    }
}

impl From<Seconds> for Duration {
    fn from(seconds: Seconds) -> Self {
        seconds.0
    }
}

impl Mode {
    fn target(&self) -> &TargetOptions {
        match self {
            Self::Closed { load, .. } | Self::Open { load, .. } | Self::Flood { load, .. } => {
                &load.target
            }
            Self::Datagrams { load } => &load.target,
            Self::Churn { target, .. }
            | Self::Storm { target, .. }
            | Self::Idle { target, .. }
            | Self::CheckDatagrams { target }
            | Self::Check { target, .. } => target,
        }
    }
}

fn main() -> Result<()> {
    let mode = Options::parse().mode;
    listening::raise_descriptor_limit()?;
    mode.target().core.map_or(Ok(()), listening::pin)?;
    let line = match mode {
        Mode::Closed { load, depth } => load::run(&load, Pattern::Closed { depth })?,
        Mode::Open { load, rate } => load::run(&load, Pattern::Open { rate })?,
        Mode::Flood { load, rate, flood_rate: flood } => {
            load::run(&load, Pattern::Flood { rate, flood })?
        }
        Mode::Churn { target, connections: at_once, requests, size, warmup, seconds } => {
            let (warmup, seconds) = (warmup.into(), seconds.into());
            lifecycle::churn(
                &target,
                lifecycle::Churn { at_once, requests, size, warmup, seconds },
            )?
        }
        Mode::Storm { target, connections, size, within, deadline } => {
            let (within, deadline) = (within.into(), deadline.into());
            lifecycle::storm(&target, lifecycle::Storm { connections, size, within, deadline })?
        }
        Mode::Idle { target, connections, size, base, seconds } => {
            let seconds = seconds.into();
            idle::idle(&target, idle::Idle { connections, size, base, seconds })?
        }
        Mode::Datagrams { load } => datagrams::run(&load)?,
        Mode::CheckDatagrams { target } => datagrams::check(&target)?,
        Mode::Check { target, seed } => check::check(&target, seed)?,
    };
    println!("{line}");
    Ok(())
}
