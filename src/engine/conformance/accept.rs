//! Laws of accepting and connecting: everyone is accepted once, every connect is answered.

use super::bench::Bench;
use super::{Door, Peer, Subject};
use crate::engine::operation::{Operation, Token};
use crate::engine::plan::Patience;

/// Asks for more unless an accept is under way: `ended` of them have ended so far.
fn keep_accepting<S: Subject>(bench: &mut Bench<S>, token: Token, asked: &mut usize) {
    if bench.seen(token).accept_ends.len() == *asked {
        bench.submit(Operation::Accept { token });
        *asked += 1;
    }
}

pub(super) fn many_connections_are_accepted_once_each<S: Subject>(bench: &mut Bench<S>) {
    const MANY: usize = 60;
    let (socket, mut door) = bench.subject.listening();
    let listener = bench.attach(socket);
    let mut peers = Vec::new();
    let mut asked = 0;
    bench.until("all accepted", |bench| {
        keep_accepting(bench, listener, &mut asked);
        for _ in 0..3 {
            if peers.len() < MANY {
                let mut peer = door.connect();
                assert_eq!(peer.write(&[peers.len() as u8]), 1);
                peers.push(peer);
            }
        }
        bench.seen(listener).accepted.len() == MANY
    });
    let sockets = std::mem::take(&mut bench.seen(listener).accepted);
    let tokens: Vec<Token> = sockets.into_iter().map(|socket| bench.attach(socket)).collect();
    bench.until("a byte from each", |bench| {
        for &token in &tokens {
            bench.keep_receiving(token, 100);
        }
        tokens.iter().all(|&token| bench.seen(token).bytes.len() == 1)
    });
    let mut bytes: Vec<u8> = tokens.iter().map(|&token| bench.seen(token).bytes[0]).collect();
    bytes.sort_unstable();
    assert_eq!(bytes, (0..MANY as u8).collect::<Vec<_>>());
}

pub(super) fn a_stopped_accept_takes_what_is_queued<S: Subject>(bench: &mut Bench<S>) {
    for turns in 0..3 {
        let (socket, mut door) = bench.subject.listening();
        let token = bench.attach(socket);
        let mut peers: Vec<S::Peer> = (0..20).map(|_| door.connect()).collect();
        bench.submit(Operation::Accept { token });
        for _ in 0..turns {
            bench.turn(Patience::None);
        }
        bench.submit(Operation::StopAccept { token });
        bench.until("the end", |bench| !bench.seen(token).accept_ends.is_empty());
        assert_eq!(bench.seen(token).accept_ends, [None]);
        assert_eq!(bench.seen(token).accepted.len(), peers.len());
        // Who comes now waits until somebody accepts again.
        peers.push(door.connect());
        for _ in 0..3 {
            assert_eq!(bench.turn(Patience::None), 0, "nothing was asked");
        }
        bench.submit(Operation::Accept { token });
        bench.until("one more", |bench| bench.seen(token).accepted.len() == peers.len());
    }
}

pub(super) fn closing_a_listener_ends_its_accept<S: Subject>(bench: &mut Bench<S>) {
    for turns in 0..2 {
        let (socket, mut door) = bench.subject.listening();
        let token = bench.attach(socket);
        bench.submit(Operation::Accept { token });
        for _ in 0..turns {
            bench.turn(Patience::None);
        }
        let _peer = door.connect();
        bench.close(token, false);
        bench.until("Closed", |bench| bench.seen(token).closed);
        assert_eq!(bench.seen(token).accept_ends, [None]);
    }
}

pub(super) fn a_connect_that_is_accepted_succeeds<S: Subject>(bench: &mut Bench<S>) {
    let (socket, mut door) = bench.subject.far_door();
    let token = bench.attach(socket);
    bench.submit(Operation::Connect { token, address: door.address() });
    bench.until("Connected", |bench| !bench.seen(token).connected.is_empty());
    assert_eq!(bench.seen(token).connected, [Ok(())]);
    let mut peer = None;
    bench.until("the far side", |_| {
        peer = peer.take().or_else(|| door.accept());
        peer.is_some()
    });
    let mut peer = peer.expect("the loop above waited for it");
    bench.send_bytes(token, b"hello");
    assert_eq!(bench.read_at(&mut peer, 5), b"hello");
    bench.receive_from(token, &mut peer, b"and back", 8, 100);
    assert_eq!(bench.seen(token).bytes, b"and back");
}

pub(super) fn a_connect_that_nobody_takes_fails<S: Subject>(bench: &mut Bench<S>) {
    let (address, socket) = bench.subject.nobody();
    let token = bench.attach(socket);
    bench.submit(Operation::Connect { token, address });
    bench.until("Connected", |bench| !bench.seen(token).connected.is_empty());
    let result = bench.seen(token).connected[0];
    let number = result.expect_err("nobody listens there").0;
    assert!(S::REFUSALS.contains(&number), "{result:?}");
}

pub(super) fn closing_answers_a_connect<S: Subject>(bench: &mut Bench<S>) {
    for turns in 0..2 {
        let (socket, door) = bench.subject.far_door();
        let token = bench.attach(socket);
        bench.submit(Operation::Connect { token, address: door.address() });
        for _ in 0..turns {
            bench.turn(Patience::None);
        }
        bench.close(token, false);
        bench.until("Closed", |bench| bench.seen(token).closed);
        assert_eq!(bench.seen(token).connected.len(), 1);
    }
}
