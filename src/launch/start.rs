//! Start: listening sockets, core threads, and their meeting before the first turn.
//!
//! Above: the builder. Below: `engine` for sockets, topology and drivers, `shard` for the loops.
//! Absent: what is served. Every thread makes its own driver; only when all have one does any of
//! them begin, so that a failed start leaves nothing behind.

use super::{Engine, EngineBuilder};
use crate::error::Result;

impl EngineBuilder {
    /// Starts the threads, listens, and returns the running engine.
    ///
    /// # Errors
    /// [`Error`](crate::Error) for an address that cannot be listened on, limits that contradict
    /// one another, CPUs that this process may not use, or a driver that cannot be set up.
    pub fn start(self) -> Result<Engine> {
        start(self)
    }
}

#[cfg(not(all(target_os = "linux", not(postring_no_kernel))))]
fn start(builder: EngineBuilder) -> Result<Engine> {
    drop(builder);
    let what = "an engine on this system: only Linux has a driver so far";
    Err(crate::Error::Unsupported(what.into()))
}

#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
use linux::start;

#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
mod linux {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::sync::{Arc, Mutex};
    use std::thread::JoinHandle;
    use std::time::Duration;

    use super::super::builder::{EngineBuilder, Make, Place};
    use super::super::{Engine, RunningCore};
    use crate::address::{Address, SocketAddress};
    use crate::engine::bell::EventBell;
    use crate::engine::clock;
    use crate::engine::driver::Driver;
    use crate::engine::inherited::Inherited;
    use crate::engine::mailbox::{Lane, Mailbox};
    use crate::engine::metrics::CoreMetrics;
    use crate::engine::plan::BufferPlan;
    use crate::engine::selection::{Selected, select};
    use crate::engine::socket::{ListenOptions, Socket, datagram_bytes_max_to, listen_hint};
    use crate::engine::socket_file::SocketFiles;
    use crate::engine::topology::{self, Plan};
    use crate::error::{Error, Result};
    use crate::limits::{Limits, Timeouts};
    use crate::shard::core::Core;
    use crate::shard::mail::{self, CoreHandle, Mail, Sibling};
    use crate::shard::path_limits::PathLimits;
    use crate::shard::protocol::Service;
    use crate::shard::traffic_class::TrafficClasses;
    use crate::shard::{Listening, Shard, Wait};

    /// What one core thread is given.
    struct Duties {
        index: usize,
        cores: usize,
        cpu: Option<usize>,
        makes: Vec<Make>,
        listening: Vec<Listening>,
        limits: Limits,
        timeouts: Timeouts,
        wait: Wait,
        traffic_classes: Option<TrafficClasses>,
        arrival_times: bool,
        selected: Selected,
        metrics: Arc<CoreMetrics>,
        /// Removed with the last core and the engine.
        files: Arc<SocketFiles>,
        #[cfg(feature = "tokio")]
        runtime: Option<tokio::runtime::Handle>,
    }

    /// A core that is ready: how it is reached, by all and by each sibling.
    struct Ready {
        handle: Arc<CoreHandle>,
        bell: EventBell,
        /// One way in for every core of the engine; the one for itself is not used.
        lanes: Vec<Lane<Mail>>,
        ring: Option<OwnedFd>,
    }

    /// What a core learns of a sibling before its first turn.
    struct Acquaintance {
        sibling: Sibling,
        ring: Option<(OwnedFd, EventBell)>,
    }

    type Meeting = SyncSender<Result<Ready>>;
    type Siblings = Vec<Acquaintance>;

    /// How long an address in use is asked for again.
    const IN_USE_PATIENCE: Duration = Duration::from_millis(150);
    /// Letters that may wait between two cores.
    const LANE: usize = 1024;

    pub(super) fn start(mut builder: EngineBuilder) -> Result<Engine> {
        builder.limits.check()?;
        if clock::is_simulated() {
            let why = "an engine has threads and real time: not beside a testing::World's core";
            return Err(Error::Configuration(why.into()));
        }
        let traffic_classes =
            builder.traffic_classes.take().map(TrafficClasses::new).transpose()?;
        let plan = plan(&builder)?;
        let selected = select(builder.driver)?;
        let wait = if plan.may_spin { builder.wait } else { Wait::Sleep };
        let cores = plan.cpus.len();
        let mut places = std::mem::take(&mut builder.places);
        let mut sockets = listen_everywhere(&places, cores, &builder.limits)?;
        let copies = sockets.copies()?;
        let files = Arc::new(std::mem::take(&mut sockets.files));
        let mut makes: Vec<Vec<Make>> = std::iter::repeat_with(Vec::new).take(cores).collect();
        for place in places.drain(..) {
            for (core, make) in makes.iter_mut().zip((place.deal)(cores)) {
                core.push(make);
            }
        }
        let mut threads = Vec::new();
        let mut waiting = Vec::new();
        for ((index, cpu), makes) in plan.cpus.iter().copied().enumerate().zip(makes) {
            let duties = Duties {
                index,
                cores,
                cpu,
                makes,
                listening: std::mem::take(&mut sockets.per_core[index]),
                limits: builder.limits.clone(),
                timeouts: builder.timeouts.clone(),
                wait,
                traffic_classes: traffic_classes.clone(),
                arrival_times: builder.arrival_times,
                selected: selected.clone(),
                metrics: Arc::default(),
                files: Arc::clone(&files),
                #[cfg(feature = "tokio")]
                runtime: builder.runtime.clone(),
            };
            let (begun, go) = begin_thread(duties)?;
            threads.push(begun);
            waiting.push(go);
        }
        let mut engine = assemble(threads, waiting, &selected)?;
        engine.addresses = sockets.addresses;
        engine.listeners = Arc::new(Mutex::new(copies));
        engine.files = files;
        if builder.signals {
            super::super::signals::watch(&engine)?;
        }
        Ok(engine)
    }

    fn plan(builder: &EngineBuilder) -> Result<Plan> {
        let choice = builder.cores.as_deref();
        if let Some(threads) = builder.unpinned {
            let cpus = vec![None; threads.max(1)];
            return Ok(Plan { cpus, pinned: false, may_spin: true, quota_cores: None });
        }
        let plan = topology::plan(choice, std::path::Path::new("/"));
        plan.map_err(|error| Error::Configuration(error.to_string()))
    }

    /// A thread that has begun, and how it says that it is ready.
    struct Begun {
        thread: JoinHandle<io::Result<()>>,
        ready: Receiver<Result<Ready>>,
        metrics: Arc<CoreMetrics>,
        cpu: Option<usize>,
    }

    fn begin_thread(duties: Duties) -> Result<(Begun, SyncSender<Siblings>)> {
        let (said, ready) = sync_channel(1);
        let (go, gone) = sync_channel(1);
        let (metrics, cpu) = (Arc::clone(&duties.metrics), duties.cpu);
        let name = format!("postring-{}", duties.index);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let files = Arc::clone(&duties.files);
            let result = run(duties, &said, &gone);
            Core::leave();
            drop(files);
            result
        });
        let thread = thread
            .map_err(|source| Error::Engine { what: "starting a core thread".into(), source })?;
        Ok((Begun { thread, ready, metrics, cpu }, go))
    }

    /// Waits until every core is ready, then lets all of them go.
    fn assemble(
        threads: Vec<Begun>,
        waiting: Vec<SyncSender<Siblings>>,
        selected: &Selected,
    ) -> Result<Engine> {
        let mut cores = Vec::new();
        let mut met = Vec::new();
        for begun in threads {
            let ready = begun.ready.recv().unwrap_or_else(|_| {
                let source = io::Error::other("the thread ended before it was ready");
                Err(Error::Engine { what: "starting a core".into(), source })
            })?;
            let thread = Mutex::new(Some(begun.thread));
            let handle = Arc::clone(&ready.handle);
            met.push(ready);
            cores.push(RunningCore { handle, cpu: begun.cpu, metrics: begun.metrics, thread });
        }
        // All or none: a core that has begun would not hear of a failure of the next one.
        let introduced: Result<Vec<_>> =
            (0..waiting.len()).map(|index| introduce(index, &mut met)).collect();
        let introduced = introduced?;
        for core in &cores {
            mail::register(&core.handle);
        }
        for (go, siblings) in waiting.into_iter().zip(introduced) {
            // A core that ended meanwhile says why when it is joined.
            let _ = go.send(siblings);
        }
        Ok(Engine {
            cores,
            addresses: Vec::new(),
            driver: selected.name(),
            driver_reason: selected.reason.clone(),
            ending: std::sync::atomic::AtomicBool::new(false),
            listeners: Arc::default(),
            files: Arc::default(),
        })
    }

    /// What core `index` learns of all cores.
    fn introduce(index: usize, met: &mut [Ready]) -> Result<Siblings> {
        let failed = |source| Error::Engine { what: "introducing the cores".into(), source };
        let one = |(at, ready): (usize, &mut Ready)| {
            let itself = at == index;
            let ring = match &ready.ring {
                Some(ring) if !itself => {
                    Some((ring.try_clone().map_err(failed)?, ready.bell.clone()))
                }
                _ => None,
            };
            // The last lane of every core is for the next core to be introduced.
            let lane = ready.lanes.pop().filter(|_| !itself);
            let sibling = Sibling { handle: Arc::clone(&ready.handle), lane };
            Ok(Acquaintance { sibling, ring })
        };
        met.iter_mut().enumerate().map(one).collect()
    }

    /// A core thread's whole life.
    fn run(duties: Duties, said: &Meeting, gone: &Receiver<Siblings>) -> io::Result<()> {
        if let Some(cpu) = duties.cpu
            && !topology::pin(cpu)
        {
            tracing::warn!(cpu, "a core thread could not be pinned");
        }
        let plan = BufferPlan {
            buffer_len: duties.limits.receive_buffer_bytes,
            posted: duties.limits.receive_buffers_posted,
            pool_bytes_max: duties.limits.receive_pool_bytes,
            datagram_pool_bytes: duties.limits.datagram_pool_bytes,
            credit: duties.limits.receive_credit_bytes,
        };
        let spins = duties.wait != Wait::Sleep;
        let set_up = duties.selected.set_up(&plan, spins, &duties.metrics);
        let (mut driver, bell) = match set_up {
            Ok(set_up) => set_up,
            Err(source) => {
                let what = format!("setting up the {} driver", duties.selected.name());
                let copy = io::Error::new(source.kind(), source.to_string());
                // The starter waits for this.
                let _ = said.send(Err(Error::Engine { what, source }));
                return Err(copy);
            }
        };
        let mut mailbox = Mailbox::new(duties.limits.mailbox, Arc::new(bell.clone()));
        let metrics = Arc::clone(&duties.metrics);
        let handle = CoreHandle::new(mailbox.postbox(), Arc::new(bell.clone()), metrics);
        let (limits, timeouts) = (duties.limits, duties.timeouts);
        let core = Core::new(Arc::clone(&handle), limits, timeouts, duties.metrics);
        if let Some(classes) = duties.traffic_classes {
            let set = core.traffic_classes.set(classes);
            debug_assert!(set.is_ok(), "a new core has none");
        }
        core.arrival_times.set(duties.arrival_times);
        core.path_limits.replace(PathLimits::measured_by(datagram_bytes_max_to));
        core.enter();
        #[cfg(feature = "tokio")]
        let _entered = duties.runtime.as_ref().map(tokio::runtime::Handle::enter);
        let services = services(duties.makes);
        let services = match services {
            Ok(services) => services,
            Err(error) => {
                // The starter waits for this; it gives up only together with the process.
                let _ = said.send(Err(error));
                return Ok(());
            }
        };
        let lanes = (0..duties.cores).map(|_| mailbox.add_lane(LANE)).collect();
        let ring = driver.ring_descriptor();
        let ready = Ready { handle: Arc::clone(&handle), bell, lanes, ring };
        // The starter waits for this as well.
        let _ = said.send(Ok(ready));
        let Ok(met) = gone.recv() else { return Ok(()) };
        let siblings = get_acquainted(&mut driver, met);
        let unit = handle.unit;
        let mut shard = Shard::new(core, driver, mailbox, siblings, duties.wait);
        for service in services {
            shard.add_service(service);
        }
        for listening in duties.listening {
            shard.listen(listening);
        }
        let result = shard.run();
        mail::unregister(unit);
        result
    }

    fn get_acquainted(driver: &mut Driver, met: Siblings) -> Vec<Sibling> {
        let known = met.into_iter().enumerate().map(|(at, met)| {
            if let Some((ring, bell)) = met.ring {
                driver.know_sibling(at, ring, bell);
            }
            met.sibling
        });
        known.collect()
    }

    /// Calls the factories; a panic in one of them is the engine's failure to start.
    fn services(makes: Vec<Make>) -> Result<Vec<Rc<dyn Service>>> {
        let made = AssertUnwindSafe(|| makes.into_iter().map(|make| make()).collect());
        catch_unwind(made).map_err(|panic| {
            let panic = crate::shard::panic_text(&*panic);
            Error::Configuration(format!("a factory of handlers panicked: {panic}"))
        })
    }

    /// The listening sockets of all places, dealt to the cores.
    struct Sockets {
        per_core: Vec<Vec<Listening>>,
        addresses: Vec<String>,
        files: SocketFiles,
    }

    impl Sockets {
        /// Copies for a successor.
        fn copies(&self) -> Result<Vec<Socket>> {
            let all = self.per_core.iter().flatten();
            let copies: io::Result<Vec<_>> = all.map(|one| one.socket.try_clone()).collect();
            copies.map_err(|source| Error::Engine {
                what: "copying the listening sockets".into(),
                source,
            })
        }
    }

    fn listen_everywhere(places: &[Place], cores: usize, limits: &Limits) -> Result<Sockets> {
        let mut inherited = Inherited::take_once();
        let mut all = Sockets {
            per_core: std::iter::repeat_with(Vec::new).take(cores).collect(),
            addresses: Vec::new(),
            files: SocketFiles::default(),
        };
        for (service, place) in places.iter().enumerate() {
            let address: Address = place.address.parse()?;
            address.check(false)?;
            let resolved = address.resolve_blocking();
            let resolved = resolved.map_err(|error| failed(&address, error))?;
            let first = resolved.first().expect("a resolved address is at least one");
            let mut found = inherited.take(first);
            if found.is_empty() {
                found = listen_on(first, cores, limits).map_err(|error| failed(&address, error))?;
                if let SocketAddress::Unix(path) = first {
                    all.files.made(path);
                }
            }
            let local = found[0].local_address().map_err(|error| failed(&address, error))?;
            all.addresses.push(Address::from(local).to_string());
            let shared_out = found.len() >= cores;
            for (at, socket) in found.into_iter().enumerate() {
                all.per_core[at % cores].push(Listening { socket, service, shared_out });
            }
        }
        inherited.close_unused();
        Ok(all)
    }

    /// One socket per core where the kernel spreads connections over them, else one.
    fn listen_on(
        address: &SocketAddress,
        cores: usize,
        limits: &Limits,
    ) -> io::Result<Vec<Socket>> {
        let mut options = ListenOptions { backlog: limits.backlog, ..ListenOptions::default() };
        let (SocketAddress::Tcp(asked) | SocketAddress::Udp(asked)) = address else {
            return Ok(vec![listen_when_free(address, &options)?]);
        };
        // Alone first: sharing a port with a stranger by accident must be an error.
        let alone = listen_when_free(address, &options)?;
        if cores == 1 {
            return Ok(vec![alone]);
        }
        let mut asked = *asked;
        let local = alone.local_address()?;
        if let SocketAddress::Tcp(local) | SocketAddress::Udp(local) = local {
            asked.set_port(local.port());
        }
        drop(alone);
        options.reuse_port = true;
        let shared = match address {
            SocketAddress::Udp(_) => SocketAddress::Udp(asked),
            _ => SocketAddress::Tcp(asked),
        };
        (0..cores).map(|_| Socket::listen(&shared, &options)).collect()
    }

    /// A process that was killed leaves its listening sockets to a ring that the kernel takes down
    /// some milliseconds later: an address in use is asked for again for a moment.
    fn listen_when_free(address: &SocketAddress, options: &ListenOptions) -> io::Result<Socket> {
        let until = clock::now() + IN_USE_PATIENCE;
        loop {
            match Socket::listen(address, options) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && clock::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                listened => return listened,
            }
        }
    }

    fn failed(address: &Address, source: io::Error) -> Error {
        let hint = listen_hint(&source);
        Error::Listen { address: address.to_string(), source, hint }
    }
}
