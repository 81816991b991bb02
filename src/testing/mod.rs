//! Testing: your handlers in a simulated world, with their types and without sockets or waiting.
//!
//! Above: tests of applications. Below: the real shards and Carriers on the script driver of
//! `simulation`, stepped by `run`. Absent: threads, the kernel, real time, entropy.
//! Bounds: those of `Limits` and `Network`; `run` bounds what a test may wait for.
//!
//! A [`World`] has places called `memory://NAME` for connections and `udp://IP:PORT` for datagrams
//! (whatever IP address the test likes), a clock of its own and a network between the two ends of
//! every connection. Everything above the sockets is what a real engine runs: framers,
//! handlers, queues, limits, timeouts. A handler's test needs five lines:
//!
//! ```
//! use postring::{LengthPrefixed, testing::World};
//!
//! let (world, frames) = (World::new(7), LengthPrefixed::default());
//! world.respond_with("memory://echo", frames.clone(), |message, reply| reply.send(message))?;
//! let carrier = world.initiate_with("memory://echo", frames);
//! world.run_until(carrier.send("hi"))?;
//! assert_eq!(world.run_until(carrier.receive())?.text(), Ok("hi"));
//! # Ok::<(), postring::Error>(())
//! ```
//!
//! # Time
//!
//! Nothing sleeps. Time stands still while there is something to do and jumps to the next event
//! when there is not: [`World::advance`] lets an idle timeout of ten minutes pass in microseconds.
//! All timeouts and [`sleep`](crate::sleep) obey it; they have steps of 1 ms and are never early,
//! so advance a little more than a timeout. `std::time` and other libraries' timers do not.
//!
//! ```
//! use std::time::Duration;
//! use postring::{LengthPrefixed, testing::World};
//!
//! let (world, frames) = (World::new(7), LengthPrefixed::default());
//! world.respond_async("memory://slow", frames.clone(), async |message, carrier| {
//!     postring::sleep(Duration::from_secs(30)).await;
//!     carrier.send(message).await
//! })?;
//! let carrier = world.initiate_with("memory://slow", frames);
//! world.run_until(carrier.send("wake me"))?;
//! assert!(world.run_within(Duration::from_secs(29), carrier.receive()).is_none());
//! world.run_until(carrier.receive())?;
//! assert_eq!(world.now(), Duration::from_secs(30));
//! # Ok::<(), postring::Error>(())
//! ```
//!
//! # Faults
//!
//! [`World::set_network`] gives the ways delay, jitter, a rate, loss and small socket buffers;
//! [`World::partition`] cuts them, [`World::reset`] breaks one connection, and
//! [`WorldBuilder::faults`] has sends go short and receives come in pieces, as kernels do.
//! A Carrier that loses its connection connects again when it has something to do:
//!
//! ```
//! use postring::{LengthPrefixed, testing::World};
//!
//! let (world, frames) = (World::new(7), LengthPrefixed::default());
//! world.respond_with("memory://echo", frames.clone(), |message, reply| reply.send(message))?;
//! let carrier = world.initiate_with("memory://echo", frames);
//! world.run_until(carrier.activate())?;
//! world.reset(&carrier)?;
//! world.run_until(carrier.send("still there?"))?;
//! assert_eq!(world.run_until(carrier.receive())?.text(), Ok("still there?"));
//! # Ok::<(), postring::Error>(())
//! ```
//!
//! # Chance
//!
//! Whatever is left to chance (who goes first, jitter, loss, faults) follows from the seed. The
//! same test with the same seed does the same, and a test that panics says its seed. To look for
//! trouble, run a test in a loop over seeds.
//!
//! # What it cannot show
//!
//! Threads: all cores of a world take turns on the test's thread, where
//! [`offload`](crate::offload) works at once. Verbs of other threads arrive, but when is their
//! luck. Speed: time passes only while a world waits. `wait` on a world's thread is
//! [`Error::WaitOnCore`]: nobody would turn the world meanwhile; take [`World::run_until`].

mod builder;
mod run;

use std::cell::{RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use self::builder::WorldBuilder;
pub use crate::simulation::network::Network;

use crate::address::{Address, SIMULATED_IS_MEMORY, SocketAddress};
use crate::carrier::accept::{ListenerService, Queue};
use crate::carrier::responder::{Answer, Reply, ResponderService};
use crate::carrier::{self, Carrier, CarrierRef};
use crate::engine::clock;
use crate::engine::metrics::Metrics;
use crate::error::{Error, Result};
use crate::framer::Framer;
use crate::launch::Listener;
use crate::limits::Limits;
use crate::shard::core::Core;
use crate::shard::protocol::Service;
use crate::shard::{Listening, Shard, mail};
use crate::simulation::world;

/// A simulated world: cores, connections and time, all in the hands of one test.
///
/// It belongs to the thread that made it, and while it lives that thread is its first core: verbs
/// act at once, [`sleep`](crate::sleep) and [`spawn`](crate::spawn) work. Dropping it ends all its
/// Carriers with [`CloseReason::Shutdown`](crate::CloseReason); if the test panicked, it says the
/// seed on standard error.
pub struct World {
    seed: u64,
    wires: world::World,
    cores: Vec<Rc<Core>>,
    shards: RefCell<Vec<Shard>>,
    patience: Duration,
}

impl World {
    /// A world of one core, with default limits and a network without delay.
    ///
    /// # Panics
    /// On a core thread of a real engine.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let built = Self::builder(seed).build();
        built.expect("a world is made on a thread that is no core of an engine")
    }

    /// Describes a world with other choices.
    pub const fn builder(seed: u64) -> WorldBuilder {
        WorldBuilder::new(seed)
    }

    /// What its chances follow from.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The simulated time since it was made.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.wires.now()
    }

    /// Answers every Message at `address` by a handler, like
    /// [`respond_with`](crate::respond_with), from now on. Each core has its own clone.
    ///
    /// # Errors
    /// [`Error::Address`] unless it is `memory://NAME` or `udp://IP:PORT`, [`Error::Listen`] if
    /// somebody listens there.
    ///
    /// # Panics
    /// From inside a handler: listening is for the test.
    pub fn respond_with<F, H, R>(&self, address: &str, framer: F, handler: H) -> Result<()>
    where
        F: Framer,
        R: Answer + 'static,
        H: FnMut(F::In<'_>, Reply<'_, F>) -> R + Clone + 'static,
    {
        self.serve(address, || Rc::new(ResponderService::inline(framer.clone(), handler.clone())))
    }

    /// The same with a factory that is called once for each core, like
    /// [`respond_per_core`](crate::respond_per_core).
    ///
    /// # Errors
    /// As [`World::respond_with`].
    ///
    /// # Panics
    /// As [`World::respond_with`].
    pub fn respond_per_core<F, N, H, R>(&self, address: &str, framer: F, new: N) -> Result<()>
    where
        F: Framer,
        R: Answer + 'static,
        N: Fn() -> H,
        H: FnMut(F::In<'_>, Reply<'_, F>) -> R + 'static,
    {
        self.serve(address, || Rc::new(ResponderService::inline(framer.clone(), new())))
    }

    /// The same with an async handler on owned Messages, like
    /// [`respond_async`](crate::respond_async).
    ///
    /// # Errors
    /// As [`World::respond_with`].
    ///
    /// # Panics
    /// As [`World::respond_with`].
    pub fn respond_async<F, H, R>(&self, address: &str, framer: F, handler: H) -> Result<()>
    where
        F: Framer,
        R: Answer + 'static,
        H: AsyncFn(F::Got, CarrierRef<F>) -> R + Clone + 'static,
    {
        self.serve(address, || {
            Rc::new(ResponderService::asynchronous(framer.clone(), handler.clone()))
        })
    }

    /// Listens at `address`, like [`listen_with`](crate::listen_with). A Listener that is dropped
    /// accepts no more, but its name stays taken.
    ///
    /// # Errors
    /// As [`World::respond_with`].
    ///
    /// # Panics
    /// As [`World::respond_with`].
    pub fn listen_with<F: Framer>(&self, address: &str, framer: F) -> Result<Listener<F>> {
        let queue = Queue::new(self.limits().accept_queue);
        self.serve(address, || Rc::new(ListenerService::new(framer.clone(), Arc::clone(&queue))))?;
        Ok(Listener::simulated(queue, address.to_owned()))
    }

    /// A Carrier to `address`, like [`initiate_with`](crate::initiate_with), which in a world does
    /// the same: it opens nothing yet, and an address that is wrong is said by its first verb.
    pub fn initiate_with<F: Framer>(&self, address: &str, framer: F) -> Carrier<F> {
        self.enter();
        carrier::initiate_here(&self.cores[0], address, framer)
    }

    /// From now on every connection goes through `network`, except those to an address that has a
    /// network of its own. Packets under way keep the time at which they arrive.
    ///
    /// # Errors
    /// [`Error::Configuration`] that names the field which is out of its range.
    pub fn set_network(&self, network: Network) -> Result<()> {
        network.check().map_err(|why| Error::Configuration(why.to_owned()))?;
        self.wires.set_network(None, network);
        Ok(())
    }

    /// The same for all connections to one address, whether anybody listens there or not.
    ///
    /// # Errors
    /// As [`World::set_network`]; [`Error::Address`] unless it is `memory://NAME` or
    /// `udp://IP:PORT`.
    pub fn set_network_to(&self, address: &str, network: Network) -> Result<()> {
        network.check().map_err(|why| Error::Configuration(why.to_owned()))?;
        self.wires.set_network(Some(&place_of(address)?), network);
        Ok(())
    }

    /// Cuts all ways: nothing arrives any more, connects hang, nobody is told. What is under way
    /// goes on after [`World::heal`] where it was.
    pub fn partition(&self) {
        self.wires.cut(None, true);
    }

    /// Cuts the way of all connections to one address, now and later.
    ///
    /// # Errors
    /// [`Error::Address`] unless it is `memory://NAME` or `udp://IP:PORT`.
    pub fn partition_from(&self, address: &str) -> Result<()> {
        self.wires.cut(Some(&place_of(address)?), true);
        Ok(())
    }

    /// Mends every way.
    pub fn heal(&self) {
        self.wires.mend_all();
    }

    /// Breaks a Carrier's connection: both ends see a reset, bytes under way are lost.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if it has no connection, or none in this world.
    ///
    /// # Panics
    /// From inside a handler; there is [`CarrierRef::abort`].
    pub fn reset<F: Framer>(&self, carrier: &CarrierRef<F>) -> Result<()> {
        let id = carrier.id();
        let shards = self.shards();
        let shard = shards.iter().find(|shard| shard.core.unit == id.unit);
        let endpoint = shard.and_then(|shard| shard.endpoint(id)).ok_or_else(|| {
            Error::Unsupported("reset of a Carrier without a connection in this world".into())
        })?;
        self.wires.break_connection(endpoint);
        Ok(())
    }

    /// What its cores have counted so far.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let cores = self.cores.iter().map(|core| core.metrics.snapshot()).collect();
        Metrics { driver: "simulated", driver_reason: None, cores }
    }

    fn limits(&self) -> &Limits {
        &self.cores[0].limits
    }

    /// Makes this thread the world's first core, at the world's time.
    fn enter(&self) {
        clock::simulated::set(Some(BEGAN_BEFORE + self.now()));
        self.cores[0].enter();
    }

    /// The shards, for the test alone.
    fn shards(&self) -> RefMut<'_, Vec<Shard>> {
        let shards = self.shards.try_borrow_mut();
        shards.expect("a world is turned and changed by its test, not from inside a handler")
    }

    fn serve<S: Service + 'static>(&self, address: &str, new: impl Fn() -> Rc<S>) -> Result<()> {
        let at = place_of(address)?;
        let socket = match at {
            SocketAddress::Udp(local) => self.wires.bind_datagrams(local),
            at => self.wires.listen(&at, self.limits().backlog as usize),
        };
        let socket = socket.map_err(|errno| Error::Listen {
            address: address.to_owned(),
            source: errno.to_io(),
            hint: "; this world has a listener there already",
        })?;
        let mut shards = self.shards();
        let mut service = 0;
        for shard in shards.iter_mut() {
            shard.core.enter();
            service = shard.core.state.borrow().services.len();
            shard.add_service(new());
        }
        self.enter();
        // The first core accepts for all and deals out.
        shards[0].listen(Listening { socket, service, shared_out: false });
        Ok(())
    }
}

/// A world's clock begins that long before its first moment, so that its first tick is 1.
const BEGAN_BEFORE: Duration = Duration::from_millis(1);

fn place_of(address: &str) -> Result<SocketAddress> {
    let wrong = |why: &str| Error::Address { address: address.to_owned(), why: why.to_owned() };
    match address.parse::<Address>()?.literal() {
        Some(at @ SocketAddress::Memory(_)) => Ok(at),
        Some(SocketAddress::Udp(at)) if at.ip().is_unspecified() || at.port() == 0 => {
            Err(wrong("a testing::World needs one address and a port: write udp://IP:PORT"))
        }
        Some(at @ SocketAddress::Udp(_)) => Ok(at),
        _ => Err(wrong(SIMULATED_IS_MEMORY)),
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.seed)
            .field("now", &self.now())
            .field("cores", &self.cores.len())
            .finish_non_exhaustive()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.say_seed();
        }
        let ours = |core: &Rc<Core>| self.cores.iter().any(|our| our.unit == core.unit);
        let before = Core::current().filter(|core| !ours(core));
        self.enter();
        for shard in std::mem::take(self.shards.get_mut()) {
            let unit = shard.core.unit;
            shard.core.enter();
            shard.end();
            mail::unregister(unit);
        }
        Core::leave();
        match before {
            // Another world of this thread; its time is set with its next step.
            Some(core) => core.enter(),
            None => clock::simulated::set(None),
        }
    }
}

impl World {
    #[allow(clippy::print_stderr, reason = "a failing test shows what its process printed")]
    fn say_seed(&self) {
        let (seed, now) = (self.seed, self.now());
        eprintln!("the world of this test had the seed {seed} and was {now:?} old");
    }
}
