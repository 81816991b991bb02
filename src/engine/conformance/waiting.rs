//! Laws of waiting: a turn waits as long as it may, sleeps instead of spinning, and wakes.

use std::time::Duration;

use super::bench::Bench;
use super::{Peer, Subject};
use crate::engine::plan::Patience;

const LONG: Duration = Duration::from_secs(20);
/// Far less than `LONG`, far more than a busy machine delays a thread.
const SOON: Duration = Duration::from_secs(5);

/// Sleeping turns with nothing to do take their time: few of them fill a while.
pub(super) fn turns_sleep<S: Subject>(bench: &mut Bench<S>) {
    let start = bench.subject.waited();
    let mut turns = 0;
    while bench.subject.waited() - start < Duration::from_millis(200) {
        let completions = bench.turn(Patience::Sleep(Duration::from_millis(50)));
        assert_eq!(completions, 0, "nothing happens");
        turns += 1;
        assert!(turns <= 20, "{turns} turns in 200 ms: it spins instead of sleeping");
    }
}

pub(super) fn an_impatient_turn_does_not_wait<S: Subject>(bench: &mut Bench<S>) {
    let (token, _peer) = bench.pair();
    bench.receive(token, 100);
    let start = bench.subject.waited();
    for _ in 0..100 {
        bench.turn(Patience::None);
    }
    assert!(bench.subject.waited() - start < Duration::from_secs(2));
}

pub(super) fn a_patient_turn_ends_in_time<S: Subject>(bench: &mut Bench<S>) {
    let (token, _peer) = bench.pair();
    bench.receive(token, 100);
    bench.turn(Patience::None);
    let short = Duration::from_millis(30);
    for patience in [Patience::Sleep(short), Patience::Spin(short)] {
        for _ in 0..3 {
            let start = bench.subject.waited();
            bench.turn(patience);
            let waited = bench.subject.waited() - start;
            assert!(waited < SOON, "{patience:?} took {waited:?}");
        }
    }
    if !bench.receives(token) {
        return;
    }
    turns_sleep(bench);
}

fn wakes_soon<S: Subject>(bench: &mut Bench<S>) {
    let start = bench.subject.waited();
    bench.turn(Patience::Sleep(LONG));
    let waited = bench.subject.waited() - start;
    assert!(waited < SOON, "a rung bell was not heard for {waited:?}");
}

pub(super) fn a_bell_ends_a_sleeping_turn<S: Subject>(bench: &mut Bench<S>) {
    let (token, _peer) = bench.pair();
    bench.receive(token, 100);
    bench.turn(Patience::None);
    for delay_ms in [0, 1, 30] {
        let ring = bench.subject.bell();
        let ringer = std::thread::spawn(move || {
            if S::REAL_TIME {
                std::thread::sleep(Duration::from_millis(delay_ms));
            }
            ring();
        });
        if S::REAL_TIME {
            wakes_soon(bench);
            ringer.join().expect("the ringer rings");
        } else {
            ringer.join().expect("the ringer rings");
            wakes_soon(bench);
        }
        // A turn may have ended before the bell; then this one hears it.
        bench.turn(Patience::None);
    }
}

pub(super) fn a_bell_rung_before_the_turn_is_heard<S: Subject>(bench: &mut Bench<S>) {
    for _ in 0..5 {
        (bench.subject.bell())();
        wakes_soon(bench);
    }
}

pub(super) fn a_bell_is_heard_once<S: Subject>(bench: &mut Bench<S>) {
    for _ in 0..3 {
        let ring = bench.subject.bell();
        for _ in 0..100 {
            ring();
        }
        wakes_soon(bench);
        turns_sleep(bench);
    }
}

pub(super) fn data_ends_a_sleeping_turn<S: Subject>(bench: &mut Bench<S>) {
    let (token, mut peer) = bench.pair();
    for len in 1..20 {
        bench.keep_receiving(token, 1000);
        bench.turn(Patience::None);
        assert_eq!(peer.write(b"x"), 1);
        let start = bench.subject.waited();
        while bench.seen(token).bytes.len() < len {
            bench.keep_receiving(token, 1000);
            bench.turn(Patience::Sleep(LONG));
            assert!(bench.subject.waited() - start < SOON, "data did not end the sleep");
        }
    }
}

/// However many receives were asked at once: none of them waits out another's sleep.
pub(super) fn data_for_any_of_many_receives_ends_a_sleep<S: Subject>(bench: &mut Bench<S>) {
    let mut pairs: Vec<_> = (0..40).map(|_| bench.pair()).collect();
    for (token, _) in &pairs {
        bench.receive(*token, 4096);
    }
    let (token, peer) = pairs.last_mut().expect("there are some");
    assert_eq!(peer.write(b"x"), 1);
    let start = bench.subject.waited();
    while bench.seen(*token).bytes.is_empty() {
        bench.keep_receiving(*token, 4096);
        bench.turn(Patience::Sleep(LONG));
        assert!(bench.subject.waited() - start < SOON, "a receive waited for others");
    }
}
