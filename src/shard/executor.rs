//! Executor: async code on its core.
//!
//! Above: `carrier` spawns handlers, applications spawn tasks. Below: the shard runs what is
//! runnable once per turn. Absent: timers, I/O. Bound: `Limits::tasks`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use async_task::{Runnable, Task};
use crossbeam::queue::SegQueue;

use super::core::Core;
use super::mail::CoreHandle;

/// The tasks of one core.
pub(crate) struct Executor {
    runnable: RefCell<VecDeque<Runnable>>,
    /// Woken by other threads. Unbounded by type, bounded in fact: a task is in it at most once.
    woken: Arc<SegQueue<Runnable>>,
    tasks: RefCell<Vec<Option<Task<()>>>>,
    free: RefCell<Vec<usize>>,
    running: Cell<usize>,
    tasks_max: usize,
}

impl Executor {
    pub(crate) fn new(tasks_max: usize) -> Self {
        Self {
            runnable: RefCell::default(),
            woken: Arc::new(SegQueue::new()),
            tasks: RefCell::default(),
            free: RefCell::default(),
            running: Cell::new(0),
            tasks_max,
        }
    }

    /// Starts `future` with the next turn; false if too many tasks run already.
    pub(crate) fn spawn(&self, core: &Core, future: impl Future<Output = ()> + 'static) -> bool {
        if !self.has_room() {
            return false;
        }
        let place = self.free.borrow_mut().pop().unwrap_or_else(|| {
            self.tasks.borrow_mut().push(None);
            self.tasks.borrow().len() - 1
        });
        let schedule = scheduler(Arc::clone(&core.handle), Arc::clone(&self.woken));
        let (runnable, task) = async_task::spawn_local(finishing(place, future), schedule);
        self.tasks.borrow_mut()[place] = Some(task);
        self.running.set(self.running.get() + 1);
        core.metrics.tasks_spawned.add(1);
        runnable.schedule();
        true
    }

    /// Takes note of the tasks that other threads have woken. Letters posted before a wake are read
    /// between this and `run`, so that no task overtakes the letter it depends on.
    #[inline]
    pub(crate) fn collect(&self) {
        // Looking first spares an empty queue the fence inside of its pop.
        if !self.woken.is_empty() {
            self.collect_woken();
        }
    }

    #[cold]
    fn collect_woken(&self) {
        while let Some(runnable) = self.woken.pop() {
            self.runnable.borrow_mut().push_back(runnable);
        }
    }

    /// Runs every task that is runnable now, once. True if it ran any.
    #[inline]
    pub(crate) fn run(&self) -> bool {
        let now = self.runnable.borrow().len();
        if now > 0 {
            self.run_first(now);
        }
        now > 0
    }

    fn run_first(&self, now: usize) {
        for _ in 0..now {
            let Some(runnable) = self.runnable.borrow_mut().pop_front() else { break };
            runnable.run();
        }
    }

    /// True if one more task may be spawned.
    pub(crate) fn has_room(&self) -> bool {
        self.running.get() < self.tasks_max
    }

    #[inline]
    pub(crate) fn has_runnable(&self) -> bool {
        !self.runnable.borrow().is_empty() || !self.woken.is_empty()
    }

    pub(crate) fn running(&self) -> usize {
        self.running.get()
    }

    /// Ends every task; their futures are dropped here, on their own thread.
    pub(crate) fn end(&self) {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
        for _ in 0..1000 {
            self.collect();
            if !self.run() {
                break;
            }
        }
    }

    fn finished(&self, place: usize) {
        let task = self.tasks.borrow_mut().get_mut(place).and_then(Option::take);
        if let Some(task) = task {
            task.detach();
            self.free.borrow_mut().push(place);
        }
        self.running.set(self.running.get().saturating_sub(1));
    }
}

/// Runs `future` so that a panic in it ends only it, and gives its place back.
async fn finishing(place: usize, future: impl Future<Output = ()>) {
    let mut future = std::pin::pin!(future);
    let outcome = std::future::poll_fn(|context| {
        let poll = std::panic::AssertUnwindSafe(|| future.as_mut().poll(context));
        match std::panic::catch_unwind(poll) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => std::task::Poll::Ready(Err(panic)),
        }
    })
    .await;
    let Some(core) = Core::current() else { return };
    if let Err(payload) = outcome {
        core.metrics.panics.add(1);
        tracing::error!(panic = super::panic_text(&*payload), "a task panicked; it has ended");
        super::call::discard(payload);
    }
    core.executor.finished(place);
}

fn scheduler(
    handle: Arc<CoreHandle>,
    woken: Arc<SegQueue<Runnable>>,
) -> impl Fn(Runnable) + Send + Sync + 'static {
    move |runnable| match Core::current() {
        Some(core) if core.unit == handle.unit => {
            core.executor.runnable.borrow_mut().push_back(runnable);
        }
        _ => {
            woken.push(runnable);
            handle.wake();
        }
    }
}
