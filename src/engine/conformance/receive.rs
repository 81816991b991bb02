//! Laws of receiving: bytes whole and in order, credits kept, ends told once and last.

use super::bench::{Bench, pattern};
use super::{Peer, Subject};
use crate::engine::operation::{Operation, ReceiveEnd, Token};
use crate::engine::plan::Patience;
use crate::simulation::world::errno;

pub(super) fn bytes_arrive_whole_and_in_order_with_any_credit<S: Subject>(bench: &mut Bench<S>) {
    for credit in [1, 100, 1024, 1025, 5000, usize::MAX] {
        let (token, mut peer) = bench.pair();
        let bytes = pattern(credit as u64, 12_000.min(credit.saturating_mul(200)));
        bench.receive_from(token, &mut peer, &bytes, bytes.len(), credit);
        assert_eq!(bench.seen(token).bytes, bytes, "credit {credit}");
    }
}

pub(super) fn nothing_is_received_until_asked_again<S: Subject>(bench: &mut Bench<S>) {
    let (token, mut peer) = bench.pair();
    let bytes = pattern(1, 12_000);
    let mut written = 0;
    bench.receive(token, 1000);
    bench.until("the credit's end", |bench| {
        written += peer.write(&bytes[written..]);
        !bench.receives(token)
    });
    assert_eq!(bench.seen(token).last_end(), Some(ReceiveEnd::Credit));
    for _ in 0..5 {
        written += peer.write(&bytes[written..]);
        assert_eq!(bench.turn(Patience::None), 0, "nothing was asked");
    }
    bench.receive_from(token, &mut peer, &bytes[written..], bytes.len(), 3000);
    assert_eq!(bench.seen(token).bytes, bytes);
}

pub(super) fn a_stop_amid_data_loses_no_byte<S: Subject>(bench: &mut Bench<S>) {
    let (token, mut peer) = bench.pair();
    let bytes = pattern(2, 20_000);
    let mut written = 0;
    let mut asked = 0;
    while bench.seen(token).bytes.len() < bytes.len() {
        let credit = 1 + bench.random.below(6000);
        bench.receive(token, credit);
        asked += 1;
        for _ in 0..bench.random.below(3) {
            let end = bytes.len().min(written + bench.random.below(3000));
            written += peer.write(&bytes[written..end]);
            bench.turn(Patience::None);
        }
        bench.submit(Operation::StopReceive { token });
        bench.until("the end of a stopped receive", |bench| !bench.receives(token));
        assert_eq!(bench.seen(token).receive_ends.len(), asked, "one end per receive");
        if asked > 2000 {
            let rest = &bytes[written..];
            bench.receive_from(token, &mut peer, rest, bytes.len(), usize::MAX);
        }
    }
    assert_eq!(bench.seen(token).bytes, bytes);
}

pub(super) fn a_stop_without_a_receive_does_nothing<S: Subject>(bench: &mut Bench<S>) {
    let (token, mut peer) = bench.pair();
    bench.submit(Operation::StopReceive { token });
    bench.submit(Operation::StopAccept { token });
    for _ in 0..3 {
        assert_eq!(bench.turn(Patience::None), 0);
    }
    // A stop of the past must not end a receive of the future.
    bench.submit(Operation::StopReceive { token });
    bench.receive_from(token, &mut peer, b"after the stop", 14, 100);
    let seen = bench.seen(token);
    assert_eq!(seen.bytes, b"after the stop");
    assert!(!seen.receive_ends.contains(&ReceiveEnd::Stopped));
    if bench.receives(token) {
        bench.submit(Operation::StopReceive { token });
        // Twice is once.
        bench.submit(Operation::StopReceive { token });
        bench.until("the end", |bench| !bench.receives(token));
    }
}

pub(super) fn the_end_comes_after_all_bytes<S: Subject>(bench: &mut Bench<S>) {
    for len in [0, 1, 5000] {
        let (token, mut peer) = bench.pair();
        let bytes = pattern(3, len);
        let mut unwritten = &bytes[..];
        let mut ended = false;
        bench.until("the end of input", |bench| {
            unwritten = &unwritten[peer.write(unwritten)..];
            if unwritten.is_empty() && !std::mem::replace(&mut ended, true) {
                peer.end();
            }
            bench.keep_receiving(token, 2000);
            bench.seen(token).last_end() == Some(ReceiveEnd::EndOfInput)
        });
        assert_eq!(bench.seen(token).bytes, bytes);
        // The other direction is still open.
        bench.send_bytes(token, b"still here");
        assert_eq!(bench.read_at(&mut peer, 10), b"still here");
    }
}

pub(super) fn a_reset_by_the_peer_is_a_failure<S: Subject>(bench: &mut Bench<S>) {
    if !S::RESETS {
        return println!("SKIP: the sockets of {} have no reset", S::name());
    }
    let (token, mut peer) = bench.pair();
    bench.receive_from(token, &mut peer, b"before", 6, 5000);
    peer.reset();
    bench.until("the failure", |bench| {
        bench.keep_receiving(token, 5000);
        !matches!(
            bench.seen(token).last_end(),
            None | Some(ReceiveEnd::Credit | ReceiveEnd::Stopped)
        )
    });
    assert_eq!(bench.seen(token).last_end(), Some(ReceiveEnd::Failed(errno::ECONNRESET)));
}

fn exact<S: Subject>(bench: &mut Bench<S>, token: Token, spare: usize, whole: bool) {
    // What lies in front stays as it is.
    let mut buffer = Vec::with_capacity(5 + spare);
    buffer.extend_from_slice(b"front");
    bench.submit(Operation::ReceiveExact { token, buffer, whole });
}

pub(super) fn an_exact_receive_fills_its_buffer<S: Subject>(bench: &mut Bench<S>) {
    let (token, mut peer) = bench.pair();
    let bytes = pattern(4, 30_000);
    let mut unwritten = &bytes[..];
    exact(bench, token, 29_000, true);
    bench.until("the whole buffer", |bench| {
        let next = unwritten.len().min(1 + bench.random.below(4000));
        unwritten = &unwritten[peer.write(&unwritten[..next])..];
        !bench.receives(token)
    });
    let (buffer, result) = &bench.seen(token).exact[0];
    assert_eq!(*result, Ok(buffer.len() - 5));
    assert_eq!(&buffer[..5], b"front");
    assert_eq!(buffer.len(), buffer.capacity(), "whole is whole");
    let expected = &bytes[..buffer.len() - 5];
    assert!(buffer[5..] == *expected);
    // What follows goes the ordinary way.
    bench.receive_from(token, &mut peer, unwritten, bytes.len(), 5000);
    assert!(bench.seen(token).bytes == bytes);
}

pub(super) fn an_exact_receive_takes_what_is_there_unless_whole<S: Subject>(bench: &mut Bench<S>) {
    let (token, mut peer) = bench.pair();
    let bytes = pattern(5, 50);
    let mut unwritten = &bytes[..];
    bench.until("all bytes", |bench| {
        unwritten = &unwritten[peer.write(unwritten)..];
        let seen = bench.seen(token);
        let all = seen.bytes.len() == bytes.len();
        assert!(seen.exact.iter().all(|(_, result)| matches!(result, Ok(1..=50))));
        if !all && !bench.receives(token) {
            exact(bench, token, 10_000, false);
        }
        all
    });
    assert_eq!(bench.seen(token).bytes, bytes);
}

pub(super) fn an_exact_receive_ends_short_when_the_peer_ends<S: Subject>(bench: &mut Bench<S>) {
    let (token, mut peer) = bench.pair();
    exact(bench, token, 1000, true);
    assert_eq!(peer.write(b"0123456789"), 10);
    peer.end();
    bench.until("the short answer", |bench| !bench.receives(token));
    assert_eq!(bench.seen(token).exact[0].1, Ok(10));
    assert_eq!(bench.seen(token).bytes, b"0123456789");
    for whole in [true, false] {
        exact(bench, token, 1000, whole);
        bench.until("the end", |bench| !bench.receives(token));
        let last = bench.seen(token).exact.pop();
        assert_eq!(last.map(|(_, result)| result), Some(Ok(0)), "no bytes: the peer ended");
    }
}

pub(super) fn a_stopped_exact_receive_answers_once_and_loses_no_byte<S: Subject>(
    bench: &mut Bench<S>,
) {
    let (token, mut peer) = bench.pair();
    let bytes = pattern(6, 3000);
    let mut written = 0;
    for round in 0..40 {
        exact(bench, token, 1000, true);
        // What fits: a cancelled receive leaves its bytes in the connection.
        written += peer.write(&bytes[written..bytes.len().min(60 * (round + 1))]);
        for _ in 0..bench.random.below(3) {
            bench.turn(Patience::None);
        }
        bench.submit(Operation::StopReceive { token });
        bench.until("the answer", |bench| !bench.receives(token));
        let seen = bench.seen(token);
        assert_eq!(seen.exact.len(), round + 1);
        let (_, result) = &seen.exact[round];
        let fine = matches!(result, Ok(1..) | Err(errno::ECANCELED));
        assert!(fine, "stopped with {result:?}: what came, or cancelled if nothing did");
    }
    bench.receive_from(token, &mut peer, &bytes[written..], bytes.len(), 5000);
    assert!(bench.seen(token).bytes == bytes);
}
