//! The soak: random operations on several connections against a model of their byte streams.

use super::bench::{Bench, in_segments, pattern};
use super::{Peer, PeerRead, Subject};
use crate::engine::operation::{Operation, ReceiveEnd, Token};
use crate::engine::plan::Patience;

const CONNECTIONS: usize = 5;
const STEPS: usize = 1000;
/// Most bytes per direction of one connection.
const STREAM_LEN: usize = 30_000;

/// What must come true for one connection.
struct Model<P> {
    token: Token,
    peer: P,
    /// What the peer writes, and how far it has.
    there: Vec<u8>,
    written: usize,
    ended: bool,
    /// What the driver sends, and how far it was asked to.
    back: Vec<u8>,
    asked: usize,
    read: Vec<u8>,
}

fn connection<S: Subject>(bench: &mut Bench<S>) -> Model<S::Peer> {
    let (token, peer) = bench.pair();
    Model {
        token,
        peer,
        there: pattern(bench.random.number(), STREAM_LEN),
        written: 0,
        ended: false,
        back: pattern(bench.random.number(), STREAM_LEN),
        asked: 0,
        read: Vec::new(),
    }
}

impl<P: Peer> Model<P> {
    fn write(&mut self, max: usize) {
        if !self.ended {
            let end = self.there.len().min(self.written + max);
            self.written += self.peer.write(&self.there[self.written..end]);
        }
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.peer.end();
        }
    }

    fn send<S: Subject<Peer = P>>(&mut self, bench: &mut Bench<S>) {
        if bench.sends(self.token) || self.asked == self.back.len() {
            return;
        }
        let len = 1 + bench.random.below(30_000);
        let end = self.back.len().min(self.asked + len);
        let output = in_segments(&mut bench.random, &self.back[self.asked..end]);
        self.asked = end;
        bench.send(self.token, output);
    }

    fn receive<S: Subject<Peer = P>>(&self, bench: &mut Bench<S>) {
        let token = self.token;
        if bench.receives(token) {
            return;
        }
        let len = 1 + bench.random.below(5000);
        if bench.random.chance(30) {
            let (buffer, whole) = (Vec::with_capacity(len), bench.random.chance(50));
            bench.submit(Operation::ReceiveExact { token, buffer, whole });
        } else {
            bench.keep_receiving(token, len);
        }
    }

    /// What has arrived at either end is the beginning of what was sent at the other.
    fn check<S: Subject<Peer = P>>(&self, bench: &mut Bench<S>) {
        let received = &bench.seen(self.token).bytes;
        assert!(self.there.starts_with(received), "{} bytes received", received.len());
        assert!(received.len() <= self.written);
        assert!(self.back.starts_with(&self.read), "{} bytes read by the peer", self.read.len());
        assert!(self.read.len() <= self.asked);
        let failure = bench.seen(self.token).send_failure;
        assert!(failure.is_none() || bench.is_closing(self.token), "{failure:?}");
    }
}

fn step<S: Subject>(bench: &mut Bench<S>, models: &mut [Model<S::Peer>]) {
    let index = bench.random.below(models.len());
    let model = &mut models[index];
    match bench.random.below(100) {
        0..20 => model.write(1 + bench.random.below(5000)),
        20..40 => {
            model.peer.read(&mut model.read, 1 + bench.random.below(20_000));
        }
        40..60 => model.receive(bench),
        60..75 => model.send(bench),
        75..80 => bench.submit(Operation::StopReceive { token: model.token }),
        80 => model.end(),
        81 => {
            let reset = bench.random.chance(30);
            bench.close(model.token, reset);
            model.check(bench);
            *model = connection(bench);
        }
        82..97 => _ = bench.turn(Patience::None),
        _ => _ = bench.turn(Patience::Sleep(std::time::Duration::from_millis(1))),
    }
    models[index].check(bench);
}

pub(super) fn anything_at_any_time_keeps_the_streams_whole<S: Subject>(bench: &mut Bench<S>) {
    let mut models: Vec<Model<S::Peer>> = (0..CONNECTIONS).map(|_| connection(bench)).collect();
    for _ in 0..STEPS {
        step(bench, &mut models);
    }
    for model in &mut models {
        // A whole exact receive would wait for bytes that never come.
        bench.submit(Operation::StopReceive { token: model.token });
        let token = model.token;
        bench.until("everything whole", |bench| {
            model.end();
            bench.keep_receiving(token, 5000);
            while model.peer.read(&mut model.read, 10_000) == PeerRead::Bytes {}
            let seen = bench.seen(token);
            seen.last_end() == Some(ReceiveEnd::EndOfInput)
                && seen.bytes.len() == model.written
                && model.read.len() == model.asked
        });
        model.check(bench);
    }
}
