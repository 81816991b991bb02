//! Launch: the threads of an engine, from its builder to its end.
//!
//! Above: `respond`, `listen`, `initiate` and programs that build an engine themselves. Below:
//! shards, one per thread. Absent: what a shard does; message types beyond passing them on.

mod background;
mod builder;
mod listener;
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
mod signals;
mod start;
mod verbs;

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

pub use self::builder::EngineBuilder;
pub use self::listener::Listener;
pub use self::verbs::{
    associate, associate_with, initiate, initiate_sink, initiate_sink_with, initiate_source,
    initiate_source_with, initiate_with, listen, listen_with, respond, respond_async,
    respond_per_core, respond_with,
};

use crate::carrier::{self, Association, Carrier};
use crate::engine::metrics::{CoreMetrics, Metrics};
use crate::error::{Error, Result};
use crate::framer::Framer;
use crate::shard::core::Core;
use crate::shard::mail::{self, CoreHandle, Mail};

/// A running engine: one thread per core, each with its own driver, connections and tasks.
///
/// Dropping it begins a graceful shutdown and does not wait for it; [`Engine::wait`] does.
pub struct Engine {
    cores: Vec<RunningCore>,
    addresses: Vec<String>,
    driver: &'static str,
    driver_reason: Option<String>,
    /// Its end was asked for.
    ending: AtomicBool,
    #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
    listeners: Copies,
    /// Removed when the engine and its cores have ended.
    #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
    files: Arc<crate::engine::socket_file::SocketFiles>,
}

/// Copies of the listening sockets, for a successor. They go as soon as the end begins: a socket
/// that somebody holds still takes connections, which nobody would ever accept.
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
type Copies = Arc<Mutex<Vec<crate::engine::socket::Socket>>>;

struct RunningCore {
    handle: Arc<CoreHandle>,
    cpu: Option<usize>,
    metrics: Arc<CoreMetrics>,
    thread: Mutex<Option<JoinHandle<std::io::Result<()>>>>,
}

impl Engine {
    /// Starts to describe an engine.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// The addresses it listens on, in the order they were added, with ports resolved.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    /// The CPU each core thread is pinned to; `None` where it is not pinned.
    #[must_use]
    pub fn cores(&self) -> Vec<Option<usize>> {
        self.cores.iter().map(|core| core.cpu).collect()
    }

    /// What the cores have counted so far.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let cores = self.cores.iter().map(|core| core.metrics.snapshot()).collect();
        Metrics { driver: self.driver, driver_reason: self.driver_reason.clone(), cores }
    }

    /// Runs a future on one core; `new` is called there, so the future may hold `Rc`s.
    ///
    /// # Errors
    /// [`Error::Configuration`] if there is no such core, [`Error::EngineEnded`],
    /// [`Error::MailboxFull`].
    pub fn spawn_on<N, U>(&self, core_index: usize, new: N) -> Result<()>
    where
        N: FnOnce() -> U + Send + 'static,
        U: Future<Output = ()> + 'static,
    {
        let core = self.cores.get(core_index).ok_or_else(|| {
            let cores = self.cores.len();
            Error::Configuration(format!("core {core_index} of an engine with {cores} cores"))
        })?;
        let errand = move |core: &std::rc::Rc<Core>| {
            if !core.executor.spawn(core, new()) {
                tracing::warn!("a task was not started: Limits::tasks run on this core already");
            }
        };
        match core.handle.post(Mail::Errand(Box::new(errand))) {
            Ok(()) => Ok(()),
            Err(_) if core.handle.has_ended() => Err(Error::EngineEnded),
            Err(_) => Err(Error::MailboxFull),
        }
    }

    /// A Carrier on this engine's least loaded core; opens nothing yet.
    pub fn initiate_with<F: Framer>(&self, address: &str, framer: F) -> Carrier<F> {
        carrier::initiate_there(self.least_loaded(), address, framer)
    }

    /// The Association with `address` on this engine's least loaded core, without a Carrier and
    /// without traffic (draft, Figure 5: `NewAssociation`).
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn associate_with<F: Framer>(&self, address: &str, framer: F) -> Result<Association<F>> {
        carrier::associate(self.least_loaded().unit, address, framer)
    }

    fn least_loaded(&self) -> &Arc<CoreHandle> {
        let load = |core: &&RunningCore| core.handle.load.load(Ordering::Relaxed);
        let least = self.cores.iter().min_by_key(load).expect("an engine has at least one core");
        &least.handle
    }

    /// Begins a graceful shutdown: no more accepts, what was received is answered, what is queued
    /// is flushed, connections end; after [`Timeouts::drain`](crate::Timeouts) the rest is
    /// aborted. Called again, it aborts at once.
    pub fn shutdown(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.drop_copies();
        for core in &self.cores {
            mail::post_patiently(core.handle.unit, Mail::Shutdown { at_once: false });
        }
    }

    /// No more accepts; it ends with its last connection.
    pub(crate) fn retire(&self) {
        if !self.ending.swap(true, Ordering::SeqCst) {
            self.drop_copies();
            for core in &self.cores {
                mail::post_patiently(core.handle.unit, Mail::Retire);
            }
        }
    }

    fn drop_copies(&self) {
        #[cfg(all(target_os = "linux", not(postring_no_kernel)))]
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits until all cores have ended.
    ///
    /// # Errors
    /// [`Error::Engine`] if a core ended because its driver failed; [`Error::WaitOnCore`] on a
    /// core thread.
    pub fn wait(self) -> Result<()> {
        self.join()
    }

    fn join(&self) -> Result<()> {
        if Core::current().is_some() {
            return Err(Error::WaitOnCore);
        }
        let mut result = Ok(());
        for core in &self.cores {
            let thread = core.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(thread) = thread else { continue };
            let what = || "a core ended".to_owned();
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(source)) => result = Err(Error::Engine { what: what(), source }),
                Err(panic) => {
                    let text = crate::shard::panic_text(&*panic).to_owned();
                    let source = std::io::Error::other(text);
                    result = Err(Error::Engine { what: what(), source });
                }
            }
        }
        result
    }
}

#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
impl Engine {
    /// Starts `command` as a successor that inherits the listening sockets: while both run, both
    /// accept from the same queues, so that no connection is lost. Shut this engine down when the
    /// successor is ready.
    ///
    /// # Errors
    /// [`Error::Engine`] with what the system said; [`Error::EngineEnded`] after a shutdown has
    /// begun, when there is nothing left to inherit.
    pub fn start_successor(
        &self,
        command: &mut std::process::Command,
    ) -> Result<std::process::Child> {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ending.load(Ordering::SeqCst) {
            return Err(Error::EngineEnded);
        }
        let handover = crate::engine::inherited::Handover::prepare(&listeners);
        let started = handover
            .and_then(|handover| handover.spawn(command))
            .map_err(|source| Error::Engine { what: "starting a successor".into(), source })?;
        self.files.hand_on();
        Ok(started)
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("cores", &self.cores.len())
            .field("addresses", &self.addresses)
            .field("driver", &self.driver)
            .finish_non_exhaustive()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Asked twice it would be aborted.
        if !self.ending.load(Ordering::SeqCst) {
            self.shutdown();
        }
    }
}
