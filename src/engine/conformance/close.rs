//! Laws of closing: every operation answers, Closed is the last word, and nothing comes later.

use super::bench::{Bench, in_segments, pattern};
use super::{Peer, PeerRead, Subject};
use crate::engine::operation::{Operation, Token};
use crate::engine::plan::Patience;

fn until_closed<S: Subject>(bench: &mut Bench<S>, token: Token) {
    bench.until("Closed", |bench| bench.seen(token).closed);
}

pub(super) fn closing_answers_everything_and_comes_last<S: Subject>(bench: &mut Bench<S>) {
    for reset in [false, true] {
        let (token, peer) = bench.pair();
        bench.receive(token, 5000);
        let output = in_segments(&mut bench.random, &pattern(1, S::BULK));
        bench.send(token, output);
        for _ in 0..bench.random.below(6) {
            bench.turn(Patience::None);
        }
        bench.close(token, reset);
        until_closed(bench, token);
        assert!(!bench.receives(token) && !bench.sends(token));
        drop(peer);
    }
    // An exact receive and a receive that never reached the system answer too.
    for turns in [0, 1] {
        let (one, _peer) = bench.pair();
        let (two, _peer) = bench.pair();
        bench.receive(one, 100);
        let buffer = Vec::with_capacity(100);
        bench.submit(Operation::ReceiveExact { token: two, buffer, whole: true });
        for _ in 0..turns {
            bench.turn(Patience::None);
        }
        bench.close(one, false);
        bench.close(two, false);
        until_closed(bench, one);
        until_closed(bench, two);
        assert!(bench.seen(two).exact[0].1.is_err(), "nothing came");
    }
}

pub(super) fn closing_an_idle_socket_answers_closed<S: Subject>(bench: &mut Bench<S>) {
    for reset in [false, true] {
        let (token, mut peer) = bench.pair();
        bench.close(token, reset);
        until_closed(bench, token);
        let mut nothing = Vec::new();
        bench.until("the end at the peer", |_| {
            matches!(peer.read(&mut nothing, 10), PeerRead::End | PeerRead::Failed)
        });
    }
}

pub(super) fn closing_amid_data_answers_everything<S: Subject>(bench: &mut Bench<S>) {
    for round in 0..20 {
        let (token, mut peer) = bench.pair();
        let credit = 1 + bench.random.below(5000);
        bench.receive(token, credit);
        let bytes = pattern(round, 3000);
        let mut written = peer.write(&bytes);
        for _ in 0..bench.random.below(3) {
            bench.turn(Patience::None);
            written += peer.write(&bytes[written..]);
        }
        if bench.random.chance(50) {
            bench.submit(Operation::StopReceive { token });
        }
        bench.close(token, false);
        peer.write(&bytes[written..]);
        until_closed(bench, token);
        let received = &bench.seen(token).bytes;
        assert_eq!(*received, bytes[..received.len()]);
    }
}

pub(super) fn closing_twice_is_answered_once<S: Subject>(bench: &mut Bench<S>) {
    let (token, _peer) = bench.pair();
    bench.receive(token, 100);
    bench.close(token, false);
    bench.close(token, true);
    until_closed(bench, token);
    bench.close(token, false);
    bench.submit(Operation::StopReceive { token });
    bench.submit(Operation::ShutdownWrite { token });
    for _ in 0..3 {
        assert_eq!(bench.turn(Patience::None), 0, "Closed was the last word");
    }
}

pub(super) fn a_close_with_reset_fails_the_peer<S: Subject>(bench: &mut Bench<S>) {
    let (token, mut peer) = bench.pair();
    bench.receive(token, 100);
    bench.turn(Patience::None);
    bench.close(token, true);
    let mut nothing = Vec::new();
    let mut last = PeerRead::Nothing;
    bench.until("what the peer sees", |_| {
        last = peer.read(&mut nothing, 10);
        last != PeerRead::Nothing
    });
    let expected = if S::RESETS { PeerRead::Failed } else { PeerRead::End };
    assert_eq!(last, expected);
}

pub(super) fn a_close_without_reset_ends_the_peer_after_all_bytes<S: Subject>(
    bench: &mut Bench<S>,
) {
    let (token, mut peer) = bench.pair();
    let bytes = pattern(2, 40);
    bench.send_bytes(token, &bytes);
    bench.until("the answer", |bench| bench.seen(token).whole_sends == 1);
    bench.close(token, false);
    let mut read = Vec::new();
    bench.until("the end at the peer", |_| match peer.read(&mut read, 1000) {
        PeerRead::Failed => panic!("a reset after {} bytes", read.len()),
        over => over == PeerRead::End,
    });
    assert_eq!(read, bytes);
}

pub(super) fn a_slot_used_again_hears_nothing_of_its_past<S: Subject>(bench: &mut Bench<S>) {
    let slot = 1000;
    for generation in 1..30 {
        let token = Token { slot, generation };
        let (socket, mut peer) = bench.subject.pair();
        bench.submit(Operation::Attach { token, socket });
        let bytes = pattern(generation.into(), 2000);
        bench.receive_from(token, &mut peer, &bytes, 500, 700);
        assert_eq!(bench.seen(token).bytes[..500], bytes[..500], "its own bytes only");
        bench.keep_receiving(token, 100);
        bench.send_bytes(token, &bytes);
        if bench.random.chance(50) {
            bench.turn(Patience::None);
        }
        bench.close(token, generation.is_multiple_of(3));
        until_closed(bench, token);
    }
}
