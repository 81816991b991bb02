//! The two engines of a process: the echo server and the generators.
//!
//! Above: `command`, `conduct`. Below: postring's public API. Absent: measuring.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use postring::{
    DriverChoice, Engine, EngineBuilder, LengthPrefixed, Limits, Message, Reply, Timeouts, Wait,
};

use crate::arguments::{Driver, ServeArguments};
use crate::mark;
use crate::plan::{PATIENCE_NS, Plan};
use crate::quantity::cores_shown;
use crate::worker::{self, Orders};

/// Where the embedded server listens: any free port.
const EMBEDDED: &str = "tcp://127.0.0.1:0";
/// What a frame adds to a message.
pub(crate) const HEADER_BYTES: u32 = 4;

/// A running echo server and the address it listens on.
pub(crate) struct EchoServer {
    engine: Engine,
    /// With the port it got.
    pub(crate) address: String,
}

impl EchoServer {
    /// Starts the embedded server on the CPUs the plan leaves to it, on any free port.
    pub(crate) fn embedded(plan: &Plan) -> Result<Self> {
        Self::at(EMBEDDED, plan)
    }

    /// As `embedded`, at an address.
    pub(crate) fn at(address: &str, plan: &Plan) -> Result<Self> {
        let builder = Self::builder(Some(&plan.server_cores), plan.driver).signals(false);
        Self::start(builder.respond_with(address, LengthPrefixed::default(), echo_here))
            .context("cannot start the embedded server")
    }

    /// Where a plain socket reaches it.
    pub(crate) fn socket_address(&self) -> Result<SocketAddr> {
        let place = self.address.trim_start_matches("tcp://");
        place.parse().with_context(|| format!("{} is no TCP address", self.address))
    }

    /// Ends it, open connections included.
    pub(crate) fn end(self) -> Result<()> {
        self.engine.shutdown();
        self.engine.wait().context("the embedded server")
    }

    fn builder(cores: Option<&[usize]>, driver: Driver) -> EngineBuilder {
        let builder = Engine::builder().driver(choice(driver)).limits(limits()).timeouts(patient());
        match cores {
            Some(cores) => builder.cores(cores.iter().copied()),
            None => builder,
        }
    }

    fn start(builder: EngineBuilder) -> Result<Self> {
        let engine = builder.start()?;
        let address = engine.local_addresses().into_iter().next();
        Ok(Self { engine, address: address.context("the server has no address")? })
    }
}

/// Sends back what came, in the class of the question if it says one (`mark`).
fn echo(message: Message<'_>, reply: Reply<'_, LengthPrefixed>) -> postring::Result<()> {
    match mark::niceness(message.bytes()) {
        Some(niceness) if niceness > 0 => reply.send(message.niceness(niceness)),
        _ => reply.send(message),
    }
}

thread_local! {
    /// An answer with its time of arrival.
    static ANSWER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// As `echo`, and says when a marked message arrived: this process has one clock.
fn echo_here(message: Message<'_>, reply: Reply<'_, LengthPrefixed>) -> postring::Result<()> {
    let Some(niceness) = mark::niceness(message.bytes()) else { return reply.send(message) };
    let mut answer = ANSWER.take();
    answer.clear();
    answer.extend_from_slice(message.bytes());
    mark::arrive(&mut answer);
    let message = Message::from(&answer[..]);
    let sent = reply.send(if niceness > 0 { message.niceness(niceness) } else { message });
    ANSWER.set(answer);
    sent
}

/// `loadgen serve`: the echo server alone, until SIGINT or SIGTERM. `announce` is told what
/// listens where.
pub(crate) fn serve(arguments: &ServeArguments, announce: impl FnOnce(&str)) -> Result<()> {
    let cores = arguments.cores.as_ref().map(|list| list.0.as_slice());
    let builder = EchoServer::builder(cores, arguments.driver).signals(true);
    let builder = builder.respond_with(&arguments.address, LengthPrefixed::default(), echo);
    let server = EchoServer::start(builder)?;
    let pinned: Vec<usize> = server.engine.cores().into_iter().flatten().collect();
    let on = if pinned.is_empty() { "any".to_owned() } else { cores_shown(&pinned) };
    announce(&format!("echo server on {}, CPU {on}; Ctrl-C ends it", server.address));
    server.engine.wait().context("the server")
}

/// The running generators.
pub(crate) struct Generators(Engine);

impl Generators {
    /// Starts one generator for each of `orders`, each on a spinning core of its own.
    pub(crate) fn start(plan: &Plan, orders: impl Iterator<Item = Orders>) -> Result<Self> {
        let engine = Engine::builder()
            .cores(plan.generator_cores.iter().copied())
            .wait(Wait::Spin)
            .driver(choice(plan.driver))
            .limits(limits_of(plan))
            .timeouts(timeouts_of(plan))
            .start()
            .context("cannot start the generator")?;
        for (core_index, orders) in orders.enumerate() {
            engine.spawn_on(core_index, move || worker::run(orders))?;
        }
        Ok(Self(engine))
    }

    /// The driver in use and, if it is not the preferred one, why.
    pub(crate) fn driver(&self) -> (&'static str, Option<String>) {
        let metrics = self.0.metrics();
        (metrics.driver, metrics.driver_reason)
    }

    /// Ends them.
    pub(crate) fn end(self) -> Result<()> {
        self.0.shutdown();
        self.0.wait().context("the generator")
    }
}

/// No server ends its side of datagrams: answers to a connection that was closed are waited for as
/// long as they may be under way, and at the end all are known that were to be.
fn timeouts_of(plan: &Plan) -> Timeouts {
    const PATIENCE: Duration = Duration::from_nanos(PATIENCE_NS);
    let mut timeouts = patient();
    if plan.to_datagrams() {
        timeouts.linger = if plan.churn_per_s.is_some() { PATIENCE } else { Duration::ZERO };
    }
    timeouts
}

/// The generators' limits: a send queue holds some messages even of the longest, and as many as
/// may be open. In a closed loop it holds all that are open: a Carrier does not read while its
/// queue is full, and a server that waits to answer would wait for ever.
fn limits_of(plan: &Plan) -> Limits {
    let mut limits = limits();
    let longest = plan.workload.longest_bytes() as usize;
    limits.send_queue_bytes = match queue_max(plan) {
        Some(bytes) => bytes + all_open(longest, 1),
        None if plan.open_loop() => queue_bytes(plan),
        None => queue_bytes(plan).max(all_open(longest, plan.depth)),
    };
    limits.scheduled_messages = limits.scheduled_messages.max(plan.depth as usize);
    limits
}

fn queue_bytes(plan: &Plan) -> usize {
    let longest = plan.workload.longest_bytes() as usize;
    let asked = plan.queue_bytes.unwrap_or_else(|| Limits::default().send_queue_bytes);
    asked.max(longest.saturating_mul(8)).max(1024)
}

/// Bytes in a connection's send queue from which a generator refuses a message itself: the engine's
/// limit lies above that, or its Carrier would not read any more. `None` if the queue cannot be
/// full, and for classes, for which the engine keeps a reserve.
pub(crate) fn queue_max(plan: &Plan) -> Option<usize> {
    let most = all_open(plan.workload.longest_bytes() as usize, plan.depth);
    let bytes = queue_bytes(plan);
    (plan.open_loop() && !plan.workload.is_watched() && most > bytes).then_some(bytes)
}

/// Bytes of `depth` frames of the longest message, and of one more: then it is never full.
fn all_open(longest: usize, depth: u32) -> usize {
    (longest + HEADER_BYTES as usize).saturating_mul(depth as usize + 1)
}

/// All connections of a measurement come from one host.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.connections_per_prefix = limits.connections;
    limits
}

/// At a low rate a connection may be silent for long; that is the plan, not a fault.
fn patient() -> Timeouts {
    let mut timeouts = Timeouts::default();
    timeouts.handshake = Duration::MAX;
    timeouts.idle = Duration::MAX;
    // A connection that ends is a finding, not to be made again behind the run's back.
    timeouts.dormant = Duration::ZERO;
    timeouts
}

const fn choice(driver: Driver) -> DriverChoice {
    match driver {
        Driver::Auto => DriverChoice::Auto,
        Driver::Uring => DriverChoice::Uring,
        Driver::Epoll => DriverChoice::Epoll,
    }
}
