//! Laws under shortage: receives wait for buffers, lose nothing and can be ended meanwhile.

use super::bench::{Bench, pattern};
use super::{Peer, Subject};
use crate::engine::operation::{Operation, Token};
use crate::engine::plan::Patience;

const MANY: usize = 20;
const LEN: usize = 3000;

struct Flood<P> {
    token: Token,
    peer: P,
    bytes: Vec<u8>,
    written: usize,
}

impl<P: Peer> Flood<P> {
    fn write(&mut self) {
        self.written += self.peer.write(&self.bytes[self.written..]);
    }
}

/// Connections with a receive each, and bytes that wait already or do not.
fn floods<S: Subject>(bench: &mut Bench<S>, begun: bool) -> Vec<Flood<S::Peer>> {
    let one = |index| {
        let (token, peer) = bench.pair();
        let mut flood = Flood { token, peer, bytes: pattern(index, LEN), written: 0 };
        if begun {
            flood.write();
        }
        bench.receive(token, 2048);
        flood
    };
    (0..MANY as u64).map(one).collect()
}

fn receive_all<S: Subject>(bench: &mut Bench<S>, floods: &mut [Flood<S::Peer>]) {
    bench.until("all bytes of all", |bench| {
        let mut done = true;
        for flood in &mut *floods {
            flood.write();
            bench.keep_receiving(flood.token, 2048);
            done &= bench.seen(flood.token).bytes.len() == LEN;
        }
        done
    });
    for flood in floods {
        assert!(bench.seen(flood.token).bytes == flood.bytes, "{:?}", flood.token);
    }
}

pub(super) fn few_buffers_serve_many_receives<S: Subject>(bench: &mut Bench<S>) {
    let mut floods = floods(bench, true);
    receive_all(bench, &mut floods);
}

pub(super) fn a_flood_after_the_receives_loses_nothing<S: Subject>(bench: &mut Bench<S>) {
    let mut floods = floods(bench, false);
    // Enough turns for a driver that begins few receives in each.
    for _ in 0..MANY {
        bench.turn(Patience::None);
    }
    for flood in &mut floods {
        flood.write();
    }
    receive_all(bench, &mut floods);
}

pub(super) fn starved_receives_can_be_stopped_and_closed<S: Subject>(bench: &mut Bench<S>) {
    for turns in 0..3 {
        let mut all = floods(bench, turns % 2 == 0);
        for _ in 0..turns * 5 {
            bench.turn(Patience::None);
        }
        all.iter_mut().for_each(Flood::write);
        let mut kept = all.split_off(MANY / 2);
        for flood in &all {
            if bench.random.chance(50) {
                bench.submit(Operation::StopReceive { token: flood.token });
            }
            bench.close(flood.token, false);
        }
        for flood in &kept {
            bench.submit(Operation::StopReceive { token: flood.token });
        }
        bench.until("the ends", |bench| {
            let closed = all.iter().all(|flood| bench.seen(flood.token).closed);
            closed && kept.iter().all(|flood| !bench.receives(flood.token))
        });
        receive_all(bench, &mut kept);
        for flood in &kept {
            bench.close(flood.token, false);
        }
    }
}
