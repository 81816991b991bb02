//! What was typed, as it is meant: every default filled in, every impossibility refused.
//!
//! Above: `conduct` carries a plan out. Below: `arguments`. Absent: I/O; which CPUs there are is
//! an argument. Bound: `OPEN_MAX` messages open at once over all connections.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::arguments::{Arrival, Driver, RunArguments};
use crate::quantity::{cores_shown, count_shown};

/// Messages that may be open at once over all connections: bounds the generator's memory
/// (24 bytes each).
const OPEN_MAX: u64 = 4 << 20;
/// Open messages per connection in an open loop, if the connections are not too many.
const DEPTH_DEFAULT_MAX: u64 = 1024;

/// A run as it is meant.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The server; `None`: one of our own.
    pub(crate) address: Option<String>,
    /// Asked messages per second; ignored in a closed loop.
    pub(crate) rate_per_s: f64,
    /// Connections over all generators.
    pub(crate) connections: u32,
    /// Payload bytes.
    pub(crate) size: usize,
    /// Measured part.
    pub(crate) duration: Duration,
    /// Part before it.
    pub(crate) warmup: Duration,
    /// Open messages per connection.
    pub(crate) depth: u32,
    /// When messages leave.
    pub(crate) arrival: Arrival,
    /// Start of the random numbers.
    pub(crate) seed: u64,
    /// CPUs of the generators, one each; at least one.
    pub(crate) generator_cores: Vec<usize>,
    /// CPUs of the embedded server; empty without one.
    pub(crate) server_cores: Vec<usize>,
    /// How the kernel is asked for I/O.
    pub(crate) driver: Driver,
}

impl Plan {
    /// Fills in what was left open, for a process that may use the CPUs `allowed`.
    ///
    /// # Errors
    /// If CPUs are asked for that the process may not use, or the bounds are exceeded.
    pub(crate) fn new(arguments: &RunArguments, allowed: &[usize]) -> Result<Self> {
        let embedded = arguments.address.is_none();
        let asked = arguments.cores.as_ref().map(|list| list.0.clone());
        let generator_cores = generator_cores(asked, allowed, arguments.connections)?;
        Ok(Self {
            server_cores: if embedded { rest(allowed, &generator_cores) } else { Vec::new() },
            generator_cores,
            address: arguments.address.clone(),
            rate_per_s: arguments.rate,
            connections: arguments.connections,
            size: arguments.size,
            duration: arguments.duration,
            warmup: arguments.warmup,
            depth: depth(arguments)?,
            arrival: arguments.arrival,
            seed: arguments.seed,
            driver: arguments.driver,
        })
    }

    /// True if messages leave by a schedule, whatever the server does.
    pub(crate) fn open_loop(&self) -> bool {
        self.arrival != Arrival::Closed
    }

    /// True if the embedded server has no CPU of its own.
    pub(crate) fn shares_cpu(&self) -> bool {
        self.server_cores.iter().any(|core| self.generator_cores.contains(core))
    }

    /// End of the warm-up, in nanoseconds since the start of the run.
    pub(crate) const fn warmup_ns(&self) -> u64 {
        self.warmup.as_nanos() as u64
    }

    /// End of the measured part, in nanoseconds since the start of the run.
    pub(crate) const fn end_ns(&self) -> u64 {
        (self.warmup.as_nanos() + self.duration.as_nanos()) as u64
    }

    /// How many connections generator number `worker` has; they differ by at most one.
    pub(crate) fn connections_of(&self, worker: u32) -> u32 {
        let workers = self.generator_cores.len() as u32;
        self.connections / workers + u32::from(worker < self.connections % workers)
    }
}

fn generator_cores(
    asked: Option<Vec<usize>>,
    allowed: &[usize],
    connections: u32,
) -> Result<Vec<usize>> {
    if let Some(asked) = &asked
        && let Some(core) = asked.iter().find(|core| !allowed.contains(core))
    {
        bail!("--cores: this process may not use CPU {core}, only {}", cores_shown(allowed));
    }
    let mut cores = asked.unwrap_or_else(|| match allowed.len() {
        0 => vec![0],
        1 => allowed.to_vec(),
        // A generator spins, so it leaves half of the CPUs alone: a server may be on this host
        // without being ours. The upper half: CPU 0 takes most of the interrupts.
        count => allowed[count - count / 2..].to_vec(),
    });
    cores.truncate(connections as usize);
    Ok(cores)
}

/// The CPUs left for the server; all of them if none is left.
fn rest(allowed: &[usize], taken: &[usize]) -> Vec<usize> {
    let free: Vec<usize> = allowed.iter().copied().filter(|core| !taken.contains(core)).collect();
    if free.is_empty() { taken.to_vec() } else { free }
}

fn depth(arguments: &RunArguments) -> Result<u32> {
    let connections = u64::from(arguments.connections);
    let Some(depth) = arguments.depth else {
        return Ok(match arguments.arrival {
            Arrival::Closed => 1,
            _ => (OPEN_MAX / connections).clamp(1, DEPTH_DEFAULT_MAX) as u32,
        });
    };
    if u64::from(depth) * connections > OPEN_MAX {
        bail!(
            "--depth {depth} x --connections {connections} exceeds {} open messages; \
             lower one of them",
            count_shown(OPEN_MAX)
        );
    }
    Ok(depth)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArguments,
    }

    fn plan(line: &str, allowed: &[usize]) -> Result<Plan> {
        let words = std::iter::once("loadgen").chain(line.split_whitespace());
        Plan::new(&Line::try_parse_from(words)?.run, allowed)
    }

    fn cores(line: &str, allowed: &[usize]) -> (Vec<usize>, Vec<usize>, bool) {
        let plan = plan(line, allowed).expect("a possible plan");
        let shares = plan.shares_cpu();
        (plan.generator_cores, plan.server_cores, shares)
    }

    #[test]
    fn generator_and_embedded_server_have_cpus_of_their_own() {
        assert_eq!(cores("", &[0, 1]), (vec![1], vec![0], false));
        assert_eq!(cores("", &[0, 1, 2, 3]), (vec![2, 3], vec![0, 1], false));
        assert_eq!(cores("--cores 0", &[0, 1, 2]), (vec![0], vec![1, 2], false));
        assert_eq!(cores("-c 1", &[0, 1, 2, 3]), (vec![2], vec![0, 1, 3], false));
        assert_eq!(cores("tcp://h:1", &[0, 1]), (vec![1], vec![], false));
    }

    #[test]
    fn one_cpu_is_shared_and_that_is_known() {
        assert_eq!(cores("", &[5]), (vec![5], vec![5], true));
        assert_eq!(cores("--cores 0,1", &[0, 1]), (vec![0, 1], vec![0, 1], true));
        assert_eq!(cores("tcp://h:1", &[5]), (vec![5], vec![], false));
    }

    #[test]
    fn impossible_plans_are_refused_with_the_remedy() {
        let refused = |line: &str| plan(line, &[0, 1]).expect_err(line).to_string();
        assert!(refused("--cores 7").contains("may not use CPU 7, only 0-1"));
        assert!(refused("--depth 1000000 -c 100").contains("lower one of them"));
    }

    #[test]
    fn depth_follows_the_arrivals_and_the_connections() {
        let depth = |line: &str| plan(line, &[0, 1]).expect("a possible plan").depth;
        assert_eq!((depth(""), depth("-c 100000"), depth("--arrival closed")), (1024, 41, 1));
        assert_eq!(depth("--depth 7"), 7);
    }

    #[test]
    fn connections_are_dealt_evenly() {
        let plan = plan("tcp://h:1 -c 10 --cores 0-2", &[0, 1, 2]).expect("a possible plan");
        assert_eq!((0..3).map(|w| plan.connections_of(w)).collect::<Vec<_>>(), [4, 3, 3]);
    }
}
