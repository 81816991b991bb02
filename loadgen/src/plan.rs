//! What was typed, as it is meant: every default filled in, every impossibility refused.
//!
//! Above: `conduct` carries a plan out. Below: `arguments`, `workload`. Absent: I/O; which CPUs
//! there are is an argument, and so is the reading of files.
//! Bound: `OPEN_MAX` messages open at once over all connections.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::arguments::{self, Driver};
use crate::mark;
use crate::pace::{Gaps, Part};
use crate::quantity::{self, cores_shown, count_shown};
use crate::recorder::Bounds;
use crate::slowdown::Scale;
use crate::workload::trace::{self, Line};
use crate::workload::{self, Arrival, Read, Sizes, Workload};

/// Messages that may be open at once over all connections: bounds the generator's memory
/// (some 80 bytes each).
pub(crate) const OPEN_MAX: u64 = 4 << 20;
/// Open messages per connection in an open loop, if the connections are not too many.
const DEPTH_DEFAULT_MAX: u64 = 1024;
/// Messages per second, if nobody says how many.
const RATE_DEFAULT_PER_S: f64 = 20_000.0;
/// A datagram that was not answered for so long is lost.
pub(crate) const PATIENCE_NS: u64 = 1_000_000_000;
/// Payload bytes, if nobody says how many.
const SIZE_DEFAULT: u32 = 64;

/// A run as it is meant.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The server; `None`: one of our own.
    pub(crate) address: Option<String>,
    /// The server is in this process and says when messages arrive: deadlines are judged by that.
    pub(crate) judged_by_arrival: bool,
    /// Asked messages per second, on average; ignored in a closed loop.
    pub(crate) rate_per_s: f64,
    /// The rate is to be this part of the capacity, which is to be measured first.
    pub(crate) load: Option<f64>,
    /// Connections over all generators.
    pub(crate) connections: u32,
    /// Carriers of each connection.
    pub(crate) carriers: u32,
    /// Connections that are closed and made anew per second, over all generators.
    pub(crate) churn_per_s: Option<f64>,
    /// More is asked than the path can bear, on purpose.
    pub(crate) overload: bool,
    /// Which messages there are.
    pub(crate) workload: Arc<Workload>,
    /// Measured part.
    pub(crate) duration: Duration,
    /// Part before it.
    pub(crate) warmup: Duration,
    /// Open messages per connection.
    pub(crate) depth: u32,
    /// When messages leave.
    pub(crate) arrival: Arrival,
    /// The messages of a trace; empty without one.
    pub(crate) trace: Arc<[Line]>,
    /// Bytes of a class that a connection's send queue holds; `None`: the default.
    pub(crate) queue_bytes: Option<usize>,
    /// What each size takes alone, if slowdowns are counted.
    pub(crate) scale: Option<Arc<Scale>>,
    /// Start of the random numbers.
    pub(crate) seed: u64,
    /// CPUs of the generators, one each; at least one.
    pub(crate) generator_cores: Vec<usize>,
    /// CPUs of the embedded server; empty without one.
    pub(crate) server_cores: Vec<usize>,
    /// How the kernel is asked for I/O.
    pub(crate) driver: Driver,
    /// Which part of the schedule this process sends.
    pub(crate) part: Part,
}

impl Plan {
    /// Fills in what was left open, for a process that may use the CPUs `allowed`; `read` gives
    /// the text of files.
    ///
    /// # Errors
    /// If CPUs are asked for that the process may not use, a file cannot be understood, or the
    /// bounds are exceeded.
    pub(crate) fn new(
        arguments: &arguments::Traffic,
        allowed: &[usize],
        read: Read<'_>,
    ) -> Result<Self> {
        let embedded = arguments.address.is_none();
        let to_datagrams = is_of_datagrams(arguments.address.as_deref());
        let asked = arguments.cores.as_ref().map(|list| list.0.clone());
        let connections = arguments.fan_in.unwrap_or(arguments.connections);
        let generator_cores = generator_cores(asked, allowed, connections)?;
        let Traffic { workload, arrival, trace, rate_per_s } = traffic(arguments, read)?;
        Ok(Self {
            server_cores: if embedded { rest(allowed, &generator_cores) } else { Vec::new() },
            generator_cores,
            address: arguments.address.clone(),
            judged_by_arrival: embedded,
            rate_per_s,
            load: arguments.load,
            overload: arguments.load.is_some_and(|load| load >= 1.0),
            connections,
            carriers: arguments.carriers,
            churn_per_s: arguments.churn,
            workload: Arc::new(workload.told(arguments.tell.variant()).numbered_if(to_datagrams)),
            duration: arguments.duration,
            warmup: arguments.warmup,
            depth: depth(arguments, connections, &arrival)?,
            arrival,
            trace,
            queue_bytes: arguments.queue,
            scale: None,
            seed: arguments.seed,
            driver: arguments.driver,
            part: Part::WHOLE,
        })
    }

    /// The gaps of the schedule; `None` in a closed loop.
    pub(crate) fn gaps(&self) -> Option<Gaps> {
        match self.arrival {
            Arrival::Poisson => Some(Gaps::Exponential),
            Arrival::Constant => Some(Gaps::Equal),
            Arrival::Burst { count, .. } => Some(Gaps::Burst(count)),
            Arrival::Ramp { from_per_s, to_per_s } => {
                Some(Gaps::Ramp { from_per_s, to_per_s, warmup_ns: self.warmup_ns() })
            }
            Arrival::Trace(_) => Some(Gaps::Trace(self.trace.clone(), self.warmup_ns())),
            Arrival::Closed => None,
        }
    }

    /// What the books of a generator with so many connections have to know.
    pub(crate) fn bounds(&self, connections: u32) -> Bounds {
        Bounds {
            connections,
            depth: self.depth,
            workload: self.workload.clone(),
            warmup_ns: self.warmup_ns(),
            end_ns: self.end_ns(),
            closed_loop: !self.open_loop(),
            patience_ns: self.to_datagrams().then_some(PATIENCE_NS),
            scale: self.scale.clone(),
        }
    }

    /// True if messages leave by a schedule, whatever the server does.
    pub(crate) fn open_loop(&self) -> bool {
        self.arrival != Arrival::Closed
    }

    /// True if each message is a datagram.
    pub(crate) fn to_datagrams(&self) -> bool {
        is_of_datagrams(self.address.as_deref())
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

    /// How many Carriers all generators of this process have.
    pub(crate) fn own_connections(&self) -> u32 {
        let workers = 0..self.generator_cores.len() as u32;
        workers.map(|worker| self.part.connections(self.carriers_of(worker))).sum()
    }

    /// How many Carriers generator number `worker` has, over all parts.
    pub(crate) fn carriers_of(&self, worker: u32) -> u32 {
        self.connections_of(worker) * self.carriers
    }

    /// How many connections generator number `worker` has, over all parts; they differ by at most
    /// one.
    pub(crate) fn connections_of(&self, worker: u32) -> u32 {
        let workers = self.generator_cores.len() as u32;
        self.connections / workers + u32::from(worker < self.connections % workers)
    }
}

/// Which messages are sent when.
struct Traffic {
    workload: Workload,
    arrival: Arrival,
    trace: Arc<[Line]>,
    rate_per_s: f64,
}

/// True if each message to the server at `address` is a datagram.
fn is_of_datagrams(address: Option<&str>) -> bool {
    let scheme = address.and_then(|address| address.split_once("://"));
    scheme.is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("udp"))
}

fn traffic(arguments: &arguments::Traffic, read: Read<'_>) -> Result<Traffic> {
    let (mut rate, mut arrival) = (arguments.rate, arguments.arrival.clone());
    let said = |why: String| anyhow!(why);
    let mut workload = if let Some(path) = &arguments.workload {
        let text = read(path).map_err(said)?;
        let file = Workload::of_file(&text, read).map_err(said).context(path.clone())?;
        if rate.is_none() && arguments.load.is_none() {
            rate = file.rate.map(|text| quantity::rate(&text)).transpose().map_err(said)?;
        }
        if arrival.is_none() {
            arrival = file.arrival.map(|text| Arrival::parse(&text)).transpose().map_err(said)?;
        }
        file.workload
    } else if arguments.class.is_empty() {
        let sizes = arguments.size.clone();
        Workload::plain(sizes.unwrap_or_else(|| Sizes::fixed(SIZE_DEFAULT)))
    } else {
        Workload::of_flags(&arguments.class, read).map_err(said)?
    };
    let fan_in = arguments.fan_in.map(|count| Arrival::Burst { count, every: None });
    let arrival = fan_in.or(arrival).unwrap_or(Arrival::Poisson);
    let mut lines = Vec::new();
    if let Arrival::Trace(path) = &arrival {
        let text = read(path).map_err(said)?;
        lines = trace::parse(&text, &workload).map_err(said).context(path.clone())?;
        workload.take_lifetimes(&mut lines);
        let duration_ns = arguments.duration.as_nanos() as u64;
        lines.truncate(lines.partition_point(|line| line.at_ns < duration_ns));
        rate = Some(lines.len().max(1) as f64 / arguments.duration.as_secs_f64());
    }
    let set = arrival.own_rate_per_s();
    if arguments.load.is_some() && (set.is_some() || !lines.is_empty()) {
        bail!("--load: {} arrivals set their rate themselves", arrival.kind());
    }
    let short = |class: &workload::Class| (class.sizes.at(0.0) as usize) < mark::STAMP_BYTES;
    let short_line = |line: &Line| (line.bytes as usize) < mark::STAMP_BYTES;
    let numbered = workload.is_watched()
        || !(workload.classes.iter().any(short) || lines.iter().any(short_line));
    if arguments.churn.is_some() && !numbered {
        bail!("--churn: messages need at least {} bytes, to tell their echoes", mark::STAMP_BYTES);
    }
    let rate_per_s = set.or(rate).unwrap_or(RATE_DEFAULT_PER_S);
    Ok(Traffic { workload, arrival, trace: lines.into(), rate_per_s })
}

/// The CPUs of the generators: `asked`, or a part of those `allowed`; not more than connections.
///
/// # Errors
/// If the process may not use one of them.
pub(crate) fn generator_cores(
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

fn depth(arguments: &arguments::Traffic, connections: u32, arrival: &Arrival) -> Result<u32> {
    let connections = u64::from(connections) * u64::from(arguments.carriers);
    let Some(depth) = arguments.depth else {
        return Ok(match arrival {
            Arrival::Closed => 1,
            _ => (OPEN_MAX / connections).clamp(1, DEPTH_DEFAULT_MAX) as u32,
        });
    };
    if u64::from(depth) * connections > OPEN_MAX {
        bail!(
            "--depth {depth} x {connections} connections exceeds {} open messages; \
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
    struct Words {
        #[command(flatten)]
        run: arguments::Traffic,
    }

    fn plan(line: &str, allowed: &[usize]) -> Result<Plan> {
        let words = std::iter::once("loadgen").chain(line.split_whitespace());
        let read = |path: &str| match path {
            "mix.toml" => Ok("rate = 900\narrival = \"constant\"\n[[class]]\n".to_owned()),
            "trace" => Ok("0,64\n1.5,64\n99,64\n".to_owned()),
            _ => Err(format!("cannot read {path}")),
        };
        Plan::new(&Words::try_parse_from(words)?.run, allowed, &read)
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
    fn a_scheme_is_known_however_it_is_written() {
        let datagrams = |line: &str| plan(line, &[0]).expect("a possible plan").to_datagrams();
        assert!(datagrams("udp://h:1") && datagrams("UDP://h:1"));
        assert!(!datagrams("tcp://h:1") && !datagrams(""));
    }

    #[test]
    fn connections_are_dealt_evenly() {
        let plan = plan("tcp://h:1 -c 10 --cores 0-2", &[0, 1, 2]).expect("a possible plan");
        assert_eq!((0..3).map(|w| plan.connections_of(w)).collect::<Vec<_>>(), [4, 3, 3]);
    }

    #[test]
    fn flags_go_before_the_workload_file() {
        let plan = |line: &str| plan(line, &[0, 1]).expect("a possible plan");
        let file = plan("--workload mix.toml");
        assert_eq!((file.rate_per_s, file.arrival), (900.0, Arrival::Constant));
        let flags = plan("--workload mix.toml -r 5k --arrival poisson");
        assert_eq!((flags.rate_per_s, flags.arrival), (5_000.0, Arrival::Poisson));
        assert_eq!((plan("").rate_per_s, plan("").workload.longest_bytes()), (20_000.0, 64));
    }

    #[test]
    fn arrivals_with_a_rate_of_their_own_keep_it() {
        let rate = |line: &str| plan(line, &[0, 1]).expect("a possible plan").rate_per_s;
        assert_eq!(rate("--arrival burst:64@1ms -r 5"), 64_000.0);
        assert_eq!(rate("--arrival burst:64 -r 5k"), 5_000.0);
        assert_eq!(rate("--arrival trace:trace -d 4s"), 0.5, "one of three is after the end");
        let refused = plan("--arrival ramp:1k-2k --load 80%", &[0, 1]).expect_err("two rates");
        assert!(refused.to_string().contains("ramp arrivals set their rate"), "{refused}");
    }
}
