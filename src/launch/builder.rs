//! Builder: what an engine is to serve, and with what.
//!
//! Above: programs. Below: `start`. Absent: threads. Nothing happens before `start`.

use std::rc::Rc;
use std::sync::Arc;

use super::Listener;
use crate::carrier::CarrierRef;
use crate::carrier::accept::{ListenerService, Queue};
use crate::carrier::responder::{Answer, Reply, ResponderService};
use crate::engine::driver::DriverChoice;
use crate::error::Result;
use crate::framer::Framer;
use crate::limits::{Limits, Timeouts};
use crate::shard::Wait;
use crate::shard::protocol::Service;

/// Makes one core's service, on that core.
pub(super) type Make = Box<dyn FnOnce() -> Rc<dyn Service> + Send>;
/// Makes the makers for a number of cores.
type Deal = Box<dyn FnOnce(usize) -> Vec<Make>>;

/// One address and who answers there.
pub(super) struct Place {
    pub(super) address: String,
    pub(super) deal: Deal,
}

/// Describes an [`Engine`](crate::Engine).
///
/// ```no_run
/// use postring::{Engine, LengthPrefixed};
/// let engine = Engine::builder()
///     .cores([0, 1])
///     .respond_with("tcp://127.0.0.1:0", LengthPrefixed::default(), |message, reply| {
///         reply.send(message)
///     })
///     .start()?;
/// println!("{:?}", engine.local_addresses());
/// engine.wait()?;
/// # Ok::<(), postring::Error>(())
/// ```
#[derive(Default)]
#[must_use = "nothing runs before start()"]
pub struct EngineBuilder {
    pub(super) cores: Option<Vec<usize>>,
    pub(super) unpinned: Option<usize>,
    pub(super) wait: Wait,
    pub(super) driver: DriverChoice,
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
    pub(super) signals: bool,
    pub(super) traffic_classes: Option<Vec<(u32, u8)>>,
    pub(super) arrival_times: bool,
    pub(super) places: Vec<Place>,
    #[cfg(feature = "tokio")]
    pub(super) runtime: Option<tokio::runtime::Handle>,
}

impl std::fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let addresses: Vec<_> = self.places.iter().map(|place| &place.address).collect();
        f.debug_struct("EngineBuilder")
            .field("cores", &self.cores)
            .field("addresses", &addresses)
            .finish_non_exhaustive()
    }
}

impl EngineBuilder {
    /// One pinned thread for each of these CPUs. Default: every CPU this process may use, capped
    /// by the cgroup's CPU quota; under a quota threads are neither pinned nor do they spin.
    pub fn cores(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.cores = Some(cores.into_iter().collect());
        self
    }

    /// This many threads that are not pinned.
    pub fn unpinned(mut self, threads: usize) -> Self {
        self.unpinned = Some(threads);
        self
    }

    /// How a core waits when it has nothing to do; default [`Wait::Sleep`].
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// Which driver; default [`DriverChoice::Auto`].
    pub fn driver(mut self, driver: DriverChoice) -> Self {
        self.driver = driver;
        self
    }

    /// The bounds of each core.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// When to give up waiting.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Whether SIGTERM and SIGINT shut the engine down: the first in order, a second one at once.
    /// Default false.
    pub fn signals(mut self, signals: bool) -> Self {
        self.signals = signals;
        self
    }

    /// Packets carry a DSCP code point of the most urgent class in use on their connection, those
    /// of datagrams that of their own class (draft §2.2, Niceness): each entry is a niceness and
    /// the code point, 0 to 63, from there on. Messages without properties are of class 0.
    /// Default: packets are not marked.
    ///
    /// ```
    /// use postring::Engine;
    /// // Urgent: expedited forwarding; from 1: assured forwarding; bulk from 8: lower effort.
    /// let engine = Engine::builder().traffic_classes([(0, 46), (1, 18), (8, 1)]);
    /// ```
    ///
    /// [`EngineBuilder::start`] refuses code points above 63, more than 64 entries, and two for
    /// the same niceness.
    pub fn traffic_classes(mut self, entries: impl IntoIterator<Item = (u32, u8)>) -> Self {
        // One more than a table may have is kept, so that the start can say so.
        self.traffic_classes = Some(entries.into_iter().take(65).collect());
        self
    }

    /// Whether each datagram that is received says when this host's kernel got it
    /// ([`Marking::arrived`](crate::Marking::arrived)). Default false: the kernel then reads no
    /// clock for it.
    pub fn arrival_times(mut self, arrival_times: bool) -> Self {
        self.arrival_times = arrival_times;
        self
    }

    /// Core threads enter this runtime, so that tokio-based crates work in async handlers.
    #[cfg(feature = "tokio")]
    pub fn tokio(mut self, runtime: tokio::runtime::Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    fn place(mut self, address: &str, deal: impl FnOnce(usize) -> Vec<Make> + 'static) -> Self {
        self.places.push(Place { address: address.to_owned(), deal: Box::new(deal) });
        self
    }

    /// Answers every Message at `address` by a handler that is called inline on the completion,
    /// with a Message that still lies in its receive buffer. Each core has its own clone.
    pub fn respond_with<F, H, R>(self, address: &str, framer: F, handler: H) -> Self
    where
        F: Framer,
        R: Answer + 'static,
        H: FnMut(F::In<'_>, Reply<'_, F>) -> R + Clone + Send + 'static,
    {
        self.place(address, move |cores| {
            let clones = std::iter::repeat_n((framer, handler), cores);
            clones
                .map(|(framer, handler)| make(move || ResponderService::inline(framer, handler)))
                .collect()
        })
    }

    /// The same with a factory that is called on each core: state without locks.
    pub fn respond_per_core<F, N, H, R>(self, address: &str, framer: F, new: N) -> Self
    where
        F: Framer,
        R: Answer + 'static,
        N: Fn() -> H + Send + Sync + 'static,
        H: FnMut(F::In<'_>, Reply<'_, F>) -> R + 'static,
    {
        let new = Arc::new(new);
        self.place(address, move |cores| {
            let clones = std::iter::repeat_n((framer, new), cores);
            clones
                .map(|(framer, new)| make(move || ResponderService::inline(framer, new())))
                .collect()
        })
    }

    /// Answers by an async handler on owned Messages; replies go by the Carrier it is given. Over
    /// `udp://` each remote that sends has one, as with a Listener.
    pub fn respond_async<F, H, R>(self, address: &str, framer: F, handler: H) -> Self
    where
        F: Framer,
        R: Answer + 'static,
        H: AsyncFn(F::Got, CarrierRef<F>) -> R + Clone + Send + 'static,
    {
        self.place(address, move |cores| {
            let clones = std::iter::repeat_n((framer, handler), cores);
            clones
                .map(|(framer, handler)| {
                    make(move || ResponderService::asynchronous(framer, handler))
                })
                .collect()
        })
    }

    pub(super) fn listen_for<F: Framer>(
        self,
        address: &str,
        framer: F,
        queue: Arc<Queue<F>>,
    ) -> Self {
        self.place(address, move |cores| {
            let clones = std::iter::repeat_n((framer, queue), cores);
            clones
                .map(|(framer, queue)| make(move || ListenerService::new(framer, queue)))
                .collect()
        })
    }

    /// Starts the engine with a Listener at `address`.
    ///
    /// # Errors
    /// As [`EngineBuilder::start`].
    pub fn listen_with<F: Framer>(self, address: &str, framer: F) -> Result<Listener<F>> {
        let queue = Queue::new(self.limits.accept_queue);
        let engine = self.listen_for(address, framer, Arc::clone(&queue)).start()?;
        Ok(Listener::new(queue, Some(engine)))
    }
}

fn make<S: Service + 'static>(new: impl FnOnce() -> S + Send + 'static) -> Make {
    Box::new(move || Rc::new(new()) as Rc<dyn Service>)
}
