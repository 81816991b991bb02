//! Builder: what a simulated world is to be like.
//!
//! Above: tests that want more than `World::new`. Below: cores and shards without threads.
//! Absent: what is served; pinning, waiting and signals, which a world has none of.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::World;
use crate::engine::clock;
use crate::engine::driver::Driver;
use crate::engine::mailbox::{Bell, Lane, Mailbox};
use crate::engine::metrics::CoreMetrics;
use crate::engine::plan::BufferPlan;
use crate::error::{Error, Result};
use crate::limits::{Limits, Timeouts};
use crate::shard::core::Core;
use crate::shard::mail::{self, CoreHandle, Mail, Sibling};
use crate::shard::{Shard, Wait};
use crate::simulation::faults::Faults;
use crate::simulation::network::Network;
use crate::simulation::script::ScriptDriver;
use crate::simulation::world;

/// Cores of one world at most.
const CORES_MAX: usize = 64;
/// Letters that may wait between two cores.
const LANE: usize = 1024;

/// Describes a [`World`].
///
/// ```
/// use postring::{Timeouts, testing::World};
/// let mut timeouts = Timeouts::default();
/// timeouts.idle = std::time::Duration::from_secs(60);
/// let world = World::builder(7).timeouts(timeouts).faults(true).build()?;
/// # Ok::<(), postring::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing exists before build()"]
pub struct WorldBuilder {
    seed: u64,
    cores: usize,
    limits: Option<Limits>,
    timeouts: Option<Timeouts>,
    network: Option<Network>,
    faults: bool,
    arrival_times: bool,
    patience: Duration,
}

/// Nobody sleeps, so nobody needs to be woken.
struct Silent;

impl Bell for Silent {
    fn ring(&self) {}
}

impl WorldBuilder {
    pub(super) const fn new(seed: u64) -> Self {
        let patience = Duration::from_secs(3600);
        Self {
            seed,
            cores: 1,
            limits: None,
            timeouts: None,
            network: None,
            faults: false,
            arrival_times: false,
            patience,
        }
    }

    /// This many cores, 1 (default) to 64, which take turns on the test's thread. The first one
    /// accepts and deals connections out to the least loaded one, as with unix sockets.
    pub const fn cores(mut self, cores: usize) -> Self {
        self.cores = cores;
        self
    }

    /// The bounds of each core.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// When to give up waiting, in simulated time.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = Some(timeouts);
        self
    }

    /// What all ways are like; [`World::set_network`] changes it later.
    pub fn network(mut self, network: Network) -> Self {
        self.network = Some(network);
        self
    }

    /// Whether the driver does what kernels do on bad days: short sends, receives in small pieces,
    /// no free buffers, late completions; which of them and how often follows from the seed. Bytes
    /// stay whole and in order. Default false.
    pub const fn faults(mut self, faults: bool) -> Self {
        self.faults = faults;
        self
    }

    /// As [`EngineBuilder::arrival_times`](crate::EngineBuilder::arrival_times); a world begins at
    /// the Unix epoch. Default false.
    pub const fn arrival_times(mut self, arrival_times: bool) -> Self {
        self.arrival_times = arrival_times;
        self
    }

    /// The simulated time after which [`World::run_until`] gives up. Default 1 h.
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Makes the world, on this thread.
    ///
    /// # Errors
    /// [`Error::Configuration`] for limits that contradict one another, a network that cannot be,
    /// a number of cores out of range, or on a core thread of a real engine.
    pub fn build(self) -> Result<World> {
        if Core::current().is_some() && !clock::is_simulated() {
            let why = "a testing::World on a core thread of an engine: make it on another one";
            return Err(Error::Configuration(why.into()));
        }
        if !(1..=CORES_MAX).contains(&self.cores) {
            return Err(Error::Configuration("a testing::World has 1 to 64 cores".into()));
        }
        let limits = self.limits.unwrap_or_default();
        limits.check()?;
        let network = self.network.unwrap_or_default();
        network.check().map_err(|why| Error::Configuration(why.to_owned()))?;
        let timeouts = self.timeouts.unwrap_or_default();
        let wires = world::World::with_network(network, self.seed);
        // The cores begin to count their time now.
        clock::simulated::set(Some(Duration::ZERO));
        let mut nodes: Vec<Node> =
            (0..self.cores).map(|_| Node::new(self.cores, &limits, &timeouts)).collect();
        let plan = plan_of(&limits);
        let mut shards = Vec::new();
        let siblings: Vec<Vec<Sibling>> =
            (0..self.cores).map(|index| introduce(index, &mut nodes)).collect();
        let cores = nodes.iter().map(|node| Rc::clone(&node.core)).collect();
        for ((index, node), siblings) in nodes.into_iter().enumerate().zip(siblings) {
            let seed = self.seed ^ (index as u64) << 56;
            let faults = if self.faults { faults_of(seed) } else { Faults::NONE };
            let driver = Box::new(ScriptDriver::new(&wires, &plan, faults, seed));
            let (driver, wait) = (Driver::Script(driver), Wait::Sleep);
            node.core.arrival_times.set(self.arrival_times);
            mail::register(&node.core.handle);
            shards.push(Shard::new(node.core, driver, node.mailbox, siblings, wait));
        }
        let (seed, patience) = (self.seed, self.patience);
        let world = World { seed, wires, cores, shards: RefCell::new(shards), patience };
        world.enter();
        Ok(world)
    }
}

/// A core before its shard exists.
struct Node {
    core: Rc<Core>,
    mailbox: Mailbox<Mail>,
    /// One way in for every core of the world; the one for itself is not used.
    lanes: Vec<Lane<Mail>>,
}

impl Node {
    fn new(cores: usize, limits: &Limits, timeouts: &Timeouts) -> Self {
        let metrics = Arc::<CoreMetrics>::default();
        let mut mailbox = Mailbox::new(limits.mailbox, Arc::new(Silent));
        let (postbox, counted) = (mailbox.postbox(), Arc::clone(&metrics));
        let handle = CoreHandle::new(postbox, Arc::new(Silent), counted);
        let lanes = (0..cores).map(|_| mailbox.add_lane(LANE)).collect();
        let core = Core::new(handle, limits.clone(), timeouts.clone(), metrics);
        Self { core, mailbox, lanes }
    }
}

/// What core `index` knows of all cores.
fn introduce(index: usize, nodes: &mut [Node]) -> Vec<Sibling> {
    let one = |(at, node): (usize, &mut Node)| {
        // The last lane of every core is for the next core to be introduced.
        let lane = node.lanes.pop().filter(|_| at != index);
        Sibling { handle: Arc::clone(&node.core.handle), lane }
    };
    nodes.iter_mut().enumerate().map(one).collect()
}

/// A mixture that comes to rest: receives that end by chance, without a byte, would go on for ever.
fn faults_of(seed: u64) -> Faults {
    Faults { early_end: 0, ..Faults::from_seed(seed) }
}

fn plan_of(limits: &Limits) -> BufferPlan {
    BufferPlan {
        buffer_len: limits.receive_buffer_bytes,
        posted: limits.receive_buffers_posted,
        pool_bytes_max: limits.receive_pool_bytes,
        datagram_pool_bytes: limits.datagram_pool_bytes,
        credit: limits.receive_credit_bytes,
    }
}
