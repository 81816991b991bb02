//! Run: how a simulated world turns, and when its time moves.
//!
//! Above: tests wait for futures or let time pass. Below: every shard takes its turn; when all of
//! them rest, the time jumps to the next event. Absent: real time; threads.
//! Bounds: simulated time per `run_until`; turns without any rest.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::{BEGAN_BEFORE, World};
use crate::shard::Shard;

/// Worlds grow no older than this.
const AGE_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);
/// After so many turns without rest every further one takes 1 ms, as it would on a real machine:
/// a task that yields until it is late must be able to be late.
const RESTLESS_FREE: u32 = 5_000;
/// So many turns without rest are a loop without end.
const RESTLESS_MAX: u32 = 50_000;

/// Notes that its future wants to be asked again.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A future, asked only when it was woken.
struct Asked<'a, U: Future> {
    future: Pin<&'a mut U>,
    woken: Arc<Woken>,
}

impl<'a, U: Future> Asked<'a, U> {
    fn new(future: Pin<&'a mut U>) -> Self {
        Self { future, woken: Arc::new(Woken(AtomicBool::new(true))) }
    }

    fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::SeqCst)
    }

    fn poll(&mut self) -> Poll<U::Output> {
        self.woken.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.woken));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

/// Why a run ended.
enum End<T> {
    Ready(T),
    /// The time has come.
    Late,
    /// Nothing will ever happen by itself, though the time has not come.
    Stuck,
}

impl World {
    /// Runs the world until `future` is ready, as a task of its first core would be. Time moves as
    /// far as that needs and no further.
    ///
    /// # Panics
    /// If the future can never be ready, because nothing is left that could happen; if it is not
    /// ready after [`WorldBuilder::patience`](super::WorldBuilder::patience) of simulated time; if
    /// something never rests; from inside a handler. The text has the seed.
    #[track_caller]
    pub fn run_until<T>(&self, future: impl Future<Output = T>) -> T {
        let patience = self.patience;
        let (seed, began) = (self.seed(), self.now());
        match self.run(patience, pin!(future), true) {
            End::Ready(output) => output,
            End::Late => panic!(
                "the future is not ready after {patience:?} of simulated time (WorldBuilder::\
                 patience); the run began at {began:?}, the seed is {seed}"
            ),
            End::Stuck => panic!(
                "the future can never be ready: nothing is under way, no timer runs; is the other \
                 side asked to send, or the way cut? It is {:?}, the seed is {seed}",
                self.now()
            ),
        }
    }

    /// Runs the world until `future` is ready, for at most `duration` of simulated time; `None` if
    /// it was not. The future is dropped then, which its documentation calls cancelling.
    ///
    /// # Panics
    /// If something never rests; from inside a handler.
    #[track_caller]
    pub fn run_within<T>(&self, duration: Duration, future: impl Future<Output = T>) -> Option<T> {
        match self.run(duration, pin!(future), false) {
            End::Ready(output) => Some(output),
            End::Late | End::Stuck => None,
        }
    }

    /// Lets this much time pass, with everything that happens in it; `Duration::ZERO` does what can
    /// be done at this instant.
    ///
    /// # Panics
    /// If something never rests; from inside a handler.
    #[track_caller]
    pub fn advance(&self, duration: Duration) {
        let never = self.run_within(duration, std::future::pending::<()>());
        debug_assert!(never.is_none(), "nothing is pending for ever");
    }

    #[track_caller]
    fn run<U: Future>(
        &self,
        longest: Duration,
        future: Pin<&mut U>,
        ends_when_stuck: bool,
    ) -> End<U::Output> {
        let until = self.now().saturating_add(longest).min(AGE_MAX);
        let mut asked = Asked::new(future);
        let mut restless = 0;
        loop {
            self.enter();
            let poll = asked.is_woken().then(|| asked.poll());
            if let Some(Poll::Ready(output)) = poll {
                return End::Ready(output);
            }
            if !self.turn() || poll.is_some() || asked.is_woken() {
                restless += 1;
                if !self.may_go_on(restless, until) {
                    return End::Late;
                }
                continue;
            }
            restless = 0;
            let now = self.now();
            match self.next_event() {
                None if ends_when_stuck => return End::Stuck,
                Some(at) if at <= until => self.move_to(at.max(now + Duration::from_nanos(1))),
                _ if now >= until => return End::Late,
                _ => self.move_to(until),
            }
        }
    }

    /// After too many turns without rest time passes; false if there is none left.
    #[track_caller]
    fn may_go_on(&self, restless: u32, until: Duration) -> bool {
        assert!(
            restless < RESTLESS_MAX,
            "something never rests: {RESTLESS_MAX} turns at {:?}; a task that yields or wakes \
             itself without end? The seed is {}",
            self.now(),
            self.seed()
        );
        if restless < RESTLESS_FREE {
            return true;
        }
        let now = self.now();
        self.move_to(until.min(now + Duration::from_millis(1)));
        now < until
    }

    /// One turn of every core; true if all of them rest now.
    fn turn(&self) -> bool {
        let mut shards = self.shards();
        let before = self.wires.happened();
        for shard in shards.iter_mut() {
            shard.core.enter();
            let now = shard.core.read_clock();
            let gone = shard.go_round(now);
            debug_assert!(matches!(gone, Ok(Some(_))), "nobody shuts a simulated core down");
        }
        self.cores[0].enter();
        before == self.wires.happened() && shards.iter().all(Shard::rests)
    }

    /// When something happens next, if nobody does anything until then.
    fn next_event(&self) -> Option<Duration> {
        let shards = self.shards();
        let ticks = shards.iter().filter_map(Shard::next_tick);
        let timers = ticks.map(|tick| Duration::from_millis(tick).saturating_sub(BEGAN_BEFORE));
        timers.chain(self.wires.next_event()).min()
    }

    fn move_to(&self, at: Duration) {
        self.wires.advance_to(at);
        self.enter();
        for core in &self.cores {
            core.read_clock();
        }
    }
}
