//! Mail: what reaches a core from other threads, and where to send it.
//!
//! Above: typed verbs of `carrier` post errands; `launch` posts shutdown. Below: the engine's
//! mailbox. Absent: what an errand does. Bound: `Limits::mailbox` per core.

use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use super::core::{Core, Id};
use super::inspection::Inspector;
use crate::address::SocketAddress;
use crate::engine::mailbox::{Bell, Lane, Postbox};
use crate::engine::metrics::CoreMetrics;
use crate::engine::socket::Socket;
use crate::error::Error;

/// A letter to a core.
pub(crate) enum Mail {
    /// Something to do there.
    Errand(Box<dyn Errand>),
    /// A connection accepted elsewhere, for the service with this number.
    Adopt { socket: Socket, service: usize },
    /// Names were resolved for the connection with this ticket.
    Resolved { slot: u32, generation: u32, result: io::Result<Vec<SocketAddress>> },
    /// Something to look at with the driver at hand.
    Inspect(Inspector),
    /// Listen no more, and end with the last connection.
    Retire,
    /// End: in order, or at once.
    Shutdown { at_once: bool },
}

/// Work for a core that can be taken back when the mailbox is full.
pub(crate) trait Errand: Send {
    fn run(self: Box<Self>, core: &Rc<Core>);
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<F: FnOnce(&Rc<Core>) + Send + 'static> Errand for F {
    fn run(self: Box<Self>, core: &Rc<Core>) {
        self(core);
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl Core {
    /// Posts a letter that must arrive, now or in a later turn, in order.
    pub(crate) fn post_later(&self, handle: Arc<CoreHandle>, mail: Mail) {
        self.letters.borrow_mut().push_back((handle, mail));
        self.post_letters();
    }

    /// Tries again what did not find room; true if some still wait.
    #[inline]
    pub(crate) fn post_letters(&self) -> bool {
        self.has_letters() && self.post_all_letters()
    }

    #[cold]
    fn post_all_letters(&self) -> bool {
        let waiting = self.letters.borrow().len();
        for _ in 0..waiting {
            let next = self.letters.borrow_mut().pop_front();
            let Some((handle, mail)) = next else { break };
            if let Err(mail) = handle.post(mail)
                && !handle.has_ended()
            {
                self.letters.borrow_mut().push_back((handle, mail));
            }
        }
        !self.letters.borrow().is_empty()
    }

    #[inline]
    pub(crate) fn has_letters(&self) -> bool {
        !self.letters.borrow().is_empty()
    }
}

/// A core, as other threads know it.
pub(crate) struct CoreHandle {
    /// Process-unique number of the core.
    pub(crate) unit: u32,
    pub(crate) postbox: Postbox<Mail>,
    /// Wakes the core when it sleeps.
    pub(crate) bell: Arc<dyn Bell>,
    /// Connections it has, for those that look for the least loaded core.
    pub(crate) load: AtomicU32,
    metrics: Arc<CoreMetrics>,
    /// The next ticket of a connection initiated from another thread.
    tickets: AtomicU32,
    ended: AtomicBool,
    /// Connections for whose queue senders wait, and the most urgent class of what they wait
    /// with: for other threads that want to send.
    full: RwLock<HashMap<(u32, u32), u32>>,
}

impl CoreHandle {
    pub(crate) fn new(
        postbox: Postbox<Mail>,
        bell: Arc<dyn Bell>,
        metrics: Arc<CoreMetrics>,
    ) -> Arc<Self> {
        static UNITS: AtomicU32 = AtomicU32::new(1);
        Arc::new(Self {
            unit: UNITS.fetch_add(1, Ordering::Relaxed),
            postbox,
            bell,
            metrics,
            load: AtomicU32::new(0),
            tickets: AtomicU32::new(1),
            ended: AtomicBool::new(false),
            full: RwLock::default(),
        })
    }

    /// Posts, unless the core has ended or its mailbox is full.
    pub(crate) fn post(&self, mail: Mail) -> Result<(), Mail> {
        if self.has_ended() {
            return Err(mail);
        }
        self.postbox.post(mail).inspect_err(|_| self.metrics.mailbox_full.add_shared(1))
    }

    pub(crate) fn wake(&self) {
        self.postbox.wake();
    }

    pub(crate) fn ticket(&self) -> u32 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// If senders wait for room on the connection: the most urgent class of their Messages. One
    /// that is more urgent stands behind none of them.
    pub(crate) fn full_for(&self, id: Id) -> Option<u32> {
        let full = self.full.read().unwrap_or_else(PoisonError::into_inner);
        full.get(&(id.slot, id.generation)).copied()
    }

    pub(crate) fn set_full(&self, id: Id, niceness: Option<u32>) {
        let mut full = self.full.write().unwrap_or_else(PoisonError::into_inner);
        match niceness {
            Some(niceness) => full.insert((id.slot, id.generation), niceness),
            None => full.remove(&(id.slot, id.generation)),
        };
    }

    pub(crate) fn has_ended(&self) -> bool {
        // A core whose thread panicked did not say so, but its mailbox is closed.
        self.ended.load(Ordering::SeqCst) || self.postbox.is_closed()
    }

    pub(crate) fn set_ended(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}

/// Another core of the same engine, as this core knows it.
pub(crate) struct Sibling {
    pub(crate) handle: Arc<CoreHandle>,
    /// The way in that only this core uses; `None` to itself.
    pub(crate) lane: Option<Lane<Mail>>,
}

static CORES: RwLock<Vec<Arc<CoreHandle>>> = RwLock::new(Vec::new());

/// Makes a core known to the verbs of all threads.
pub(crate) fn register(handle: &Arc<CoreHandle>) {
    let mut cores = CORES.write().unwrap_or_else(PoisonError::into_inner);
    cores.push(Arc::clone(handle));
}

/// Forgets a core that has ended.
pub(crate) fn unregister(unit: u32) {
    let mut cores = CORES.write().unwrap_or_else(PoisonError::into_inner);
    cores.retain(|handle| handle.unit != unit);
}

/// The core with this number, if it runs.
pub(crate) fn find(unit: u32) -> Option<Arc<CoreHandle>> {
    let cores = CORES.read().unwrap_or_else(PoisonError::into_inner);
    cores.iter().find(|handle| handle.unit == unit).cloned()
}

/// The number of a core that could not begin.
pub(crate) const NO_UNIT: u32 = 0;

/// Why no core could begin for those who have none; said once.
static UNBEGUN: OnceLock<&'static Error> = OnceLock::new();

/// What the verbs of Carriers on `NO_UNIT` answer from now on.
pub(crate) fn never_began(why: &'static Error) {
    // The background core is tried once per process: whoever comes later says the same.
    let _ = UNBEGUN.set(why);
}

/// What a verb answers whose core was not found.
#[cold]
pub(crate) fn absent(unit: u32) -> Error {
    match UNBEGUN.get() {
        Some(why) if unit == NO_UNIT => why.retold(),
        _ => Error::EngineEnded,
    }
}

/// Posts something that must arrive, waiting for room in the mailbox; a core empties it every
/// turn. Without a core there is nobody it could matter to.
pub(crate) fn post_patiently(unit: u32, mail: Mail) {
    let Some(handle) = find(unit) else { return };
    if let Some(core) = Core::current() {
        // A core never waits for another one, which may wait for it: the letter leaves by turns.
        return core.post_later(handle, mail);
    }
    let mut mail = mail;
    let mut tries = 0;
    while let Err(back) = handle.post(mail) {
        if handle.has_ended() {
            return;
        }
        tries += 1;
        if tries % 64 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        } else {
            std::thread::yield_now();
        }
        mail = back;
    }
}
