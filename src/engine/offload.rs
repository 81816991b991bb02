//! Blocking work for handlers: a bounded pool of threads beside the cores.
//!
//! Above: applications call `offload` and await. Below: `topology`, so that helper threads do not
//! inherit the one CPU of the core that started them.
//! Absent: stopping work that has begun, priorities, results by callback.
//! Bounds: 4 threads per CPU (at least 4), 1024 jobs waiting; a thread without work ends after
//! 10 s.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use std::{mem, thread};

use super::{clock, topology};
use crate::error::{Error, Result};

const FULL: &str = "too much work is waiting already; try again later";
const NO_THREAD: &str = "the system gives no thread to do the work";
const PANICKED: &str = "the work panicked; the log has the text";
const LOST: &str = "the work was dropped before it ran";
const TAKEN: &str = "the result was taken already";

/// Does blocking or long work on a thread of its own kind, so that the core can go on.
///
/// The work is queued at once, not at the first poll, and the future resolves to what it
/// returned. It may be awaited on a core as well as in any other runtime.
///
/// # Errors
/// [`Error::Offload`] if 1024 jobs are waiting already (then the work is dropped without having
/// run), if the work panicked, or if the system gives no thread.
///
/// # Cancel safety
/// Dropping the future does not stop the work and takes nothing from the queue: it runs to its
/// end and its result is dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> postring::Result<()> {
/// let sum = postring::offload(|| (1..=1_000_u64).sum::<u64>()).await?;
/// assert_eq!(sum, 500_500);
/// # Ok(())
/// # }
/// ```
pub fn offload<T, W>(work: W) -> Offload<T>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    static POOL: OnceLock<Arc<Pool>> = OnceLock::new();
    if clock::is_simulated() {
        // A simulated world is repeatable: it has no other threads.
        let (job, answer) = prepare(work);
        job();
        return answer;
    }
    POOL.get_or_init(|| Pool::new(Limits::default())).offload(work)
}

/// The future of [`offload`]: what the work returned, or why it did not.
#[must_use = "the work runs anyway, but whether it panicked is known to this future only"]
pub struct Offload<T> {
    answer: Arc<Answer<T>>,
}

impl<T> std::fmt::Debug for Offload<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offload").finish_non_exhaustive()
    }
}

impl<T> Future for Offload<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let mut state = lock(&self.answer.state);
        match mem::replace(&mut *state, State::Taken) {
            State::Done(result) => Poll::Ready(result),
            State::Taken => Poll::Ready(Err(Error::Offload(TAKEN))),
            State::Waiting(old) => {
                let same = old.as_ref().is_some_and(|old| old.will_wake(context.waker()));
                let (kept, outdated) = if same { (old, None) } else { (None, old) };
                // A waker's clone and drop are foreign code, which must not run under the lock;
                // a clone of the new one is made before, the old one is dropped after.
                *state = State::Waiting(kept);
                drop(state);
                drop(outdated);
                if same { Poll::Pending } else { self.answer.wait_with(context.waker().clone()) }
            }
        }
    }
}

enum State<T> {
    Waiting(Option<Waker>),
    Done(Result<T>),
    Taken,
}

struct Answer<T> {
    state: Mutex<State<T>>,
}

impl<T> Answer<T> {
    fn new(state: State<T>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Leaves `waker`, unless the answer came in the meantime.
    fn wait_with(&self, waker: Waker) -> Poll<Result<T>> {
        let mut state = lock(&self.state);
        if let State::Waiting(place) = &mut *state {
            *place = Some(waker);
            return Poll::Pending;
        }
        match mem::replace(&mut *state, State::Taken) {
            State::Done(result) => Poll::Ready(result),
            _ => Poll::Ready(Err(Error::Offload(TAKEN))),
        }
    }

    fn give(&self, result: Result<T>) {
        let old = mem::replace(&mut *lock(&self.state), State::Done(result));
        if let State::Waiting(Some(waker)) = old {
            waker.wake();
        }
    }
}

/// Gives the answer also if the job is dropped without having run.
struct Promise<T> {
    answer: Option<Arc<Answer<T>>>,
}

impl<T> Promise<T> {
    fn keep(mut self, result: Result<T>) {
        if let Some(answer) = self.answer.take() {
            answer.give(result);
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            answer.give(Err(Error::Offload(LOST)));
        }
    }
}

/// How large a pool may get.
#[derive(Debug, Clone, Copy)]
struct Limits {
    threads: usize,
    waiting: usize,
    idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let threads = (4 * topology::cpu_count()).max(4);
        Self { threads, waiting: 1024, idle: Duration::from_secs(10) }
    }
}

type Job = Box<dyn FnOnce() + Send>;

struct Pool {
    limits: Limits,
    queue: Mutex<Queue>,
    /// A job came, for one of the idle threads.
    came: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    /// Threads that wait for a job, or are about to take one they were told of.
    idle: usize,
}

impl Pool {
    fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, queue: Mutex::default(), came: Condvar::new() })
    }

    fn offload<T, W>(self: &Arc<Self>, work: W) -> Offload<T>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let (job, offload) = prepare(work);
        match self.submit(Box::new(job)) {
            Ok(()) => offload,
            Err(why) => Offload { answer: Answer::new(State::Done(Err(Error::Offload(why)))) },
        }
    }

    fn submit(self: &Arc<Self>, job: Job) -> Result<(), &'static str> {
        let mut queue = lock(&self.queue);
        if queue.jobs.len() >= self.limits.waiting {
            // The lock is released first: dropping `job` drops what the user gave it.
            drop(queue);
            return Err(FULL);
        }
        // Each idle thread is spoken for by one of the jobs that wait.
        let more = queue.jobs.len() >= queue.idle && queue.threads < self.limits.threads;
        let started = if more { self.start_thread() } else { Ok(()) };
        if more && started.is_ok() {
            // It counts as idle from now on: it will take a job as soon as it runs.
            queue.threads += 1;
            queue.idle += 1;
        }
        let hopeless = queue.threads == 0;
        if !hopeless {
            queue.jobs.push_back(job);
        }
        drop(queue);
        if let Err(error) = started {
            tracing::error!(%error, "no further thread for offloaded work");
        }
        if hopeless {
            return Err(NO_THREAD);
        }
        self.came.notify_one();
        Ok(())
    }

    fn start_thread(self: &Arc<Self>) -> std::io::Result<()> {
        let pool = self.clone();
        let builder = thread::Builder::new().name("postring-offload".into());
        builder.spawn(move || pool.serve()).map(drop)
    }

    /// One thread's life: jobs until there was none for a while.
    fn serve(&self) {
        topology::unpin();
        while let Some(job) = self.next_job() {
            // Only the drop of a result nobody wants can still panic in here.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(job)) {
                tracing::error!(panic = text_of(&*panic), "dropping offloaded work panicked");
                drop_quietly(panic);
            }
            lock(&self.queue).idle += 1;
        }
    }

    /// Called by a thread that is counted as idle; afterwards it is not.
    fn next_job(&self) -> Option<Job> {
        let queue = lock(&self.queue);
        let none = |queue: &mut Queue| queue.jobs.is_empty();
        let waited = self.came.wait_timeout_while(queue, self.limits.idle, none);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.idle -= 1;
        let job = queue.jobs.pop_front();
        if job.is_none() {
            queue.threads -= 1;
        }
        job
    }
}

/// The work with its answer.
fn prepare<T, W>(work: W) -> (impl FnOnce() + Send + 'static, Offload<T>)
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    let answer = Answer::new(State::Waiting(None));
    let promise = Promise { answer: Some(answer.clone()) };
    let job = move || match catch_unwind(AssertUnwindSafe(work)) {
        Ok(value) => promise.keep(Ok(value)),
        Err(panic) => {
            tracing::error!(panic = text_of(&*panic), "offloaded work panicked");
            promise.keep(Err(Error::Offload(PANICKED)));
            drop_quietly(panic);
        }
    };
    (job, Offload { answer })
}

/// No foreign code runs under the locks of this file, so what they guard is always whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

/// A panic's value may panic when it is dropped; then it is leaked.
fn drop_quietly(panic: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        mem::forget(second);
    }
}

#[cfg(test)]
mod tests;
