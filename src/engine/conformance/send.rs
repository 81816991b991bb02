//! Laws of sending: all bytes in order, however short the answers; waiting without haste.

use super::bench::{Bench, in_segments, pattern};
use super::{Peer, PeerRead, Subject};
use crate::engine::operation::Operation;
use crate::engine::plan::Patience;

pub(super) fn segments_arrive_whole_and_in_order<S: Subject>(bench: &mut Bench<S>) {
    let (token, mut peer) = bench.pair();
    for (round, len) in [1, 100, 9000, S::BULK].into_iter().enumerate() {
        let bytes = pattern(len as u64, len);
        let output = in_segments(&mut bench.random, &bytes);
        bench.send(token, output);
        assert!(bench.read_at(&mut peer, len) == bytes, "{len} bytes");
        bench.until("the answer", |bench| !bench.sends(token));
        assert_eq!(bench.seen(token).whole_sends, round + 1);
    }
}

pub(super) fn both_directions_move_at_once<S: Subject>(bench: &mut Bench<S>) {
    let (token, mut peer) = bench.pair();
    let (there, back) = (pattern(1, S::BULK), pattern(2, S::BULK));
    let output = in_segments(&mut bench.random, &there);
    bench.send(token, output);
    let (mut unwritten, mut read) = (&back[..], Vec::new());
    bench.until("both", |bench| {
        unwritten = &unwritten[peer.write(unwritten)..];
        let more = there.len() - read.len();
        if more > 0 {
            peer.read(&mut read, more.min(10_000));
        }
        bench.keep_receiving(token, 5000);
        read.len() == there.len() && bench.seen(token).bytes.len() == back.len()
    });
    assert!(read == there, "what was sent");
    assert!(bench.seen(token).bytes == back, "what was received");
}

pub(super) fn a_peer_that_does_not_read_makes_a_send_wait<S: Subject>(bench: &mut Bench<S>) {
    let (token, mut peer) = bench.pair();
    let bytes = pattern(3, S::BULK);
    let output = in_segments(&mut bench.random, &bytes);
    bench.send(token, output);
    let mut idle = 0;
    bench.until("a full connection", |bench| {
        idle = if bench.turn(Patience::None) == 0 { idle + 1 } else { 0 };
        idle == 20
    });
    assert!(bench.sends(token), "it waits");
    assert_eq!(bench.seen(token).whole_sends, 0);
    super::waiting::turns_sleep(bench);
    assert!(bench.read_at(&mut peer, bytes.len()) == bytes, "all of it, once there is room");
    bench.until("the answer", |bench| bench.seen(token).whole_sends == 1);
}

pub(super) fn a_paced_send_says_at_once_what_has_left<S: Subject>(bench: &mut Bench<S>) {
    bench.continue_sends = false;
    let (token, mut peer) = bench.pair();
    let bytes = pattern(5, S::BULK);
    let output = in_segments(&mut bench.random, &bytes);
    bench.send_paced(token, output);
    bench.until("an answer while the peer does not read", |bench| !bench.sends(token));
    let sent = bench.seen(token).sent;
    assert!((1..S::BULK).contains(&sent), "{sent} of {}", S::BULK);
    assert!(bench.read_at(&mut peer, sent) == bytes[..sent], "that much and no more");
}

pub(super) fn an_end_follows_what_was_sent<S: Subject>(bench: &mut Bench<S>) {
    bench.continue_sends = false;
    for len in [0, 1, 3000, S::BULK] {
        let (token, mut peer) = bench.pair();
        let bytes = pattern(4, len);
        if len > 0 {
            bench.send_bytes(token, &bytes);
        }
        bench.submit(Operation::ShutdownWrite { token });
        let mut read = Vec::new();
        bench.until("the end at the peer", |_| {
            loop {
                match peer.read(&mut read, 1000) {
                    PeerRead::Bytes => {}
                    over => return over == PeerRead::End,
                }
            }
        });
        bench.until("the answer", |bench| !bench.sends(token));
        assert_eq!(bench.seen(token).send_failure, None, "the send goes before the end");
        assert_eq!(read.len(), bench.seen(token).sent, "what left arrived");
        assert!(read == bytes[..read.len()]);
        bench.receive_from(token, &mut peer, b"the other way", 13, 100);
        assert_eq!(bench.seen(token).bytes, b"the other way");
    }
}

pub(super) fn sending_to_a_peer_that_is_gone_fails<S: Subject>(bench: &mut Bench<S>) {
    let (token, peer) = bench.pair();
    drop(peer);
    bench.until("a failed send", |bench| {
        if !bench.sends(token) && bench.seen(token).send_failure.is_none() {
            bench.send_bytes(token, &[1; 1000]);
        }
        bench.seen(token).send_failure.is_some()
    });
}
