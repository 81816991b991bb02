//! Tests of the pool: answers, panics, bounds, threads that come and go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::Wake;
use std::time::Instant;

use super::*;

/// Long enough for any schedule of the machine.
const SOON: Duration = Duration::from_secs(20);

struct Unpark(thread::Thread, AtomicUsize);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.unpark();
    }
}

/// The smallest of runtimes.
fn wait<F: Future + Unpin>(mut future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current(), AtomicUsize::new(0))));
    let deadline = Instant::now() + SOON;
    loop {
        match Pin::new(&mut future).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park_timeout(SOON),
        }
        assert!(Instant::now() < deadline, "no answer and no wake");
    }
}

fn pool(threads: usize, waiting: usize) -> Arc<Pool> {
    Pool::new(Limits { threads, waiting, idle: Duration::from_secs(5) })
}

fn why<T>(result: Result<T>) -> &'static str {
    match result {
        Err(Error::Offload(why)) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it worked"),
    }
}

/// Work that begins, says so, and ends when it is let go.
fn held(pool: &Arc<Pool>) -> (Offload<()>, mpsc::Sender<()>) {
    let (begin, begun) = mpsc::channel();
    let (go, gone) = mpsc::channel();
    let work = pool.offload(move || {
        begin.send(()).unwrap();
        let _ = gone.recv_timeout(SOON);
    });
    begun.recv_timeout(SOON).expect("the work begins");
    (work, go)
}

#[test]
fn the_answer_comes_from_another_thread() {
    let here = thread::current().id();
    let there = wait(offload(move || thread::current().id())).unwrap();
    assert_ne!(here, there);
}

#[test]
fn any_runtime_can_await_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let sum = runtime.block_on(async {
        let (one, two) = (offload(|| 20), offload(|| 22));
        one.await.unwrap() + two.await.unwrap()
    });
    assert_eq!(sum, 42);
}

#[test]
fn a_panic_is_an_error_and_the_thread_lives_on() {
    let pool = pool(1, 8);
    let id = wait(pool.offload(|| thread::current().id())).unwrap();
    assert_eq!(why(wait(pool.offload(|| panic!("on purpose")))), PANICKED);
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose, in a drop");
        }
    }
    assert_eq!(why(wait(pool.offload(|| std::panic::panic_any(Bomb)))), PANICKED);
    drop(pool.offload(|| Bomb));
    assert_eq!(wait(pool.offload(|| thread::current().id())).unwrap(), id);
    assert_eq!(lock(&pool.queue).threads, 1);
}

#[test]
fn a_full_queue_refuses_and_drops_the_work() {
    let pool = pool(1, 2);
    let (first, go) = held(&pool);
    let waiting = [pool.offload(|| 1), pool.offload(|| 2)];
    let owned = Arc::new(());
    let moved = owned.clone();
    let refused = pool.offload(move || drop(moved));
    assert_eq!(Arc::strong_count(&owned), 1, "dropped at once");
    assert_eq!(why(wait(refused)), FULL);
    go.send(()).unwrap();
    wait(first).unwrap();
    assert_eq!(waiting.map(|work| wait(work).unwrap()), [1, 2]);
}

#[test]
fn dropping_the_future_does_not_stop_the_work() {
    let pool = pool(1, 8);
    let (first, go) = held(&pool);
    let (done, seen) = mpsc::channel();
    drop(pool.offload(move || done.send(7).unwrap()));
    drop(first);
    go.send(()).unwrap();
    assert_eq!(seen.recv_timeout(SOON), Ok(7));
}

#[test]
fn threads_are_made_when_needed_and_never_too_many() {
    let pool = pool(3, 100);
    for _ in 0..5 {
        wait(pool.offload(|| {})).unwrap();
        // The answer comes a moment before its thread is idle again.
        let deadline = Instant::now() + SOON;
        while lock(&pool.queue).idle == 0 {
            assert!(Instant::now() < deadline, "the thread never comes back");
            thread::yield_now();
        }
        assert_eq!(lock(&pool.queue).threads, 1);
    }
    let held: Vec<_> = (0..3).map(|_| held(&pool)).collect();
    let more: Vec<_> = (0..20).map(|n| pool.offload(move || n)).collect();
    assert_eq!(lock(&pool.queue).threads, 3);
    assert_eq!(lock(&pool.queue).jobs.len(), 20);
    drop(held);
    let sum: i32 = more.into_iter().map(|work| wait(work).unwrap()).sum();
    assert_eq!(sum, 190);
    assert_eq!(lock(&pool.queue).threads, 3);
}

#[test]
fn idle_threads_end_and_new_ones_are_made() {
    let pool = Pool::new(Limits { threads: 4, waiting: 8, idle: Duration::from_millis(20) });
    for _ in 0..3 {
        let work: Vec<_> = (0..4).map(|n| pool.offload(move || n)).collect();
        work.into_iter().for_each(|work| assert!(wait(work).is_ok()));
        let deadline = Instant::now() + SOON;
        while lock(&pool.queue).threads > 0 {
            assert!(Instant::now() < deadline, "idle threads stay");
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(lock(&pool.queue).idle, 0);
    }
}

#[test]
fn many_threads_share_a_pool_that_comes_and_goes() {
    let pool = Pool::new(Limits { threads: 3, waiting: 1000, idle: Duration::from_micros(50) });
    thread::scope(|scope| {
        for name in 0..4_u64 {
            let pool = &pool;
            scope.spawn(move || {
                for n in 0..500 {
                    let work = [pool.offload(move || name), pool.offload(move || n)];
                    assert_eq!(work.map(|work| wait(work).unwrap()), [name, n]);
                }
            });
        }
    });
    let queue = lock(&pool.queue);
    assert!(queue.jobs.is_empty() && queue.idle <= queue.threads && queue.threads <= 3);
}

#[test]
fn the_last_waker_is_woken_and_only_that() {
    let pool = pool(1, 8);
    let (mut work, go) = held(&pool);
    let wakers = [0, 1].map(|_| Arc::new(Unpark(thread::current(), AtomicUsize::new(0))));
    for waker in [0, 1, 1].map(|nth: usize| Waker::from(wakers[nth].clone())) {
        let polled = Pin::new(&mut work).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
    }
    assert_eq!(Arc::strong_count(&wakers[0]), 1, "the outdated waker is dropped");
    go.send(()).unwrap();
    wait(pool.offload(|| {})).unwrap();
    assert_eq!(wakers.map(|waker| waker.1.load(Ordering::SeqCst)), [0, 1]);
    wait(&mut work).unwrap();
    assert_eq!(why(wait(&mut work)), TAKEN);
}

#[test]
fn work_dropped_unrun_still_answers() {
    let answer = Answer::<()>::new(State::Waiting(None));
    drop(Promise { answer: Some(answer.clone()) });
    assert_eq!(why(wait(Offload { answer })), LOST);
}

#[cfg(target_os = "linux")]
#[test]
fn work_of_a_pinned_core_may_run_on_every_cpu() {
    use rustix::thread::sched_getaffinity;

    let allowed = topology::plan(None, "/nowhere".as_ref()).unwrap().cpus;
    let count = thread::spawn(move || {
        assert!(topology::pin(allowed[0].expect("Linux names the allowed CPUs")));
        let count = pool(1, 8).offload(|| sched_getaffinity(None).unwrap().count() as usize);
        assert_eq!(wait(count).unwrap(), allowed.len());
    });
    count.join().unwrap();
}
