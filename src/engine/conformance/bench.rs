//! The bench: a driver under test, what it has answered so far, and patience with an end.
//!
//! Above: the laws. Below: a `Subject` and the `Ledger`, which checks each completion.
//! Absent: any particular driver.
//! Bounds: `IDLE_TURNS_MAX` turns in a row without a completion, `TURNS_MAX` turns in all.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::ledger::{Ledger, answered_token};
use super::{Driving, Peer, PeerRead, Subject};
use crate::engine::errno::Errno;
use crate::engine::operation::{
    Arrival, Completion, Manner, Operation, PeerError, ReceiveEnd, Token,
};
use crate::engine::plan::{BufferPlan, Patience};
use crate::engine::socket::Socket;
use crate::framer::Output;
use crate::simulation::random::Random;

const TURNS_MAX: usize = 1_000_000;
const TURN: Duration = Duration::from_millis(10);

/// What a driver has answered for one Token.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) bytes: Vec<u8>,
    pub(super) receive_ends: Vec<ReceiveEnd>,
    pub(super) peer_errors: Vec<PeerError>,
    pub(super) trains: Vec<(Vec<u8>, Arrival)>,
    pub(super) exact: Vec<(Vec<u8>, Result<usize, Errno>)>,
    /// Bytes that left, over all sends.
    pub(super) sent: usize,
    /// Sends that were answered as a whole, short answers continued.
    pub(super) whole_sends: usize,
    pub(super) send_failure: Option<Errno>,
    pub(super) accepted: Vec<Socket>,
    pub(super) accept_ends: Vec<Option<Errno>>,
    pub(super) connected: Vec<Result<(), Errno>>,
    pub(super) closed: bool,
}

impl Seen {
    pub(super) fn last_end(&self) -> Option<ReceiveEnd> {
        self.receive_ends.last().copied()
    }

    /// The receive may be asked again: the last one left the stream open.
    fn is_open(&self) -> bool {
        matches!(self.last_end(), None | Some(ReceiveEnd::Credit | ReceiveEnd::Stopped))
    }
}

pub(super) struct Bench<S: Subject> {
    pub(super) subject: S,
    pub(super) random: Random,
    /// Short sends are continued; off for laws about single answers.
    pub(super) continue_sends: bool,
    ledger: Ledger,
    seen: BTreeMap<(u32, u32), Seen>,
    sending: BTreeMap<(u32, u32), usize>,
    slots: u32,
    turns: usize,
}

impl<S: Subject> Bench<S> {
    pub(super) fn new(seed: u64, plan: &BufferPlan) -> Result<Self, String> {
        Ok(Self {
            subject: S::new(seed, plan)?,
            random: Random::new(seed),
            continue_sends: true,
            ledger: Ledger::new(plan.buffer_len),
            seen: BTreeMap::new(),
            sending: BTreeMap::new(),
            slots: 0,
            turns: 0,
        })
    }

    pub(super) fn seen(&mut self, token: Token) -> &mut Seen {
        self.seen.entry((token.slot, token.generation)).or_default()
    }

    pub(super) fn submit(&mut self, operation: Operation) {
        self.ledger.asked(&operation);
        self.subject.driver().submit(operation);
    }

    /// Gives the driver a socket under a fresh Token.
    pub(super) fn attach(&mut self, socket: Socket) -> Token {
        let token = Token { slot: self.slots, generation: 1 };
        self.slots += 1;
        self.submit(Operation::Attach { token, socket });
        token
    }

    /// A connection: the driver's end and the far one.
    pub(super) fn pair(&mut self) -> (Token, S::Peer) {
        let (socket, peer) = self.subject.pair();
        (self.attach(socket), peer)
    }

    pub(super) fn receive(&mut self, token: Token, credit: usize) {
        self.submit(Operation::Receive { token, credit });
    }

    /// Asks for more unless a receive is under way or the stream is over.
    pub(super) fn keep_receiving(&mut self, token: Token, credit: usize) {
        if !self.ledger.receives(token) && self.seen(token).is_open() {
            self.receive(token, credit);
        }
    }

    pub(super) fn receives(&self, token: Token) -> bool {
        self.ledger.receives(token)
    }

    pub(super) fn is_closing(&self, token: Token) -> bool {
        self.ledger.is_closing(token)
    }

    pub(super) fn sends(&self, token: Token) -> bool {
        self.ledger.sends(token)
    }

    pub(super) fn send(&mut self, token: Token, output: Box<Output>) {
        self.sending.insert((token.slot, token.generation), 0);
        self.submit(Operation::Send { token, output, sent: 0, manner: Manner::Plain });
    }

    /// Sends as much as the socket takes once it is writable, and no more.
    pub(super) fn send_paced(&mut self, token: Token, output: Box<Output>) {
        self.sending.insert((token.slot, token.generation), 0);
        let manner = Manner::WhenWritable(u32::MAX);
        self.submit(Operation::Send { token, output, sent: 0, manner });
    }

    pub(super) fn send_bytes(&mut self, token: Token, bytes: &[u8]) {
        let mut output = Box::new(Output::default());
        output.put(bytes);
        self.send(token, output);
    }

    pub(super) fn close(&mut self, token: Token, reset: bool) {
        self.submit(Operation::Close { token, reset });
    }

    /// One turn, and all completions after it. How many there were.
    pub(super) fn turn(&mut self, patience: Patience) -> usize {
        self.turns += 1;
        assert!(self.turns < TURNS_MAX, "the driver never comes to rest");
        self.subject.driver().turn(patience).expect("a turn succeeds");
        let mut count = 0;
        while let Some(completion) = self.subject.driver().next() {
            count += 1;
            self.ledger.answered(&completion);
            self.note(completion);
        }
        count
    }

    /// Turns until `done`, which may move the far ends on.
    pub(super) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let mut idle = 0;
        while !done(self) {
            idle = if self.turn(Patience::Sleep(TURN)) == 0 { idle + 1 } else { 0 };
            let owed = self.ledger.owed();
            assert!(
                idle < S::IDLE_TURNS_MAX,
                "nothing happens while waiting: {what}; owed: {owed:?}"
            );
        }
    }

    /// Receives with `credit` at a time until the driver's end has `len` bytes in all, while
    /// the far end writes what is left of `unwritten`.
    pub(super) fn receive_from(
        &mut self,
        token: Token,
        peer: &mut S::Peer,
        mut unwritten: &[u8],
        len: usize,
        credit: usize,
    ) {
        self.until("bytes from the peer", |bench| {
            unwritten = &unwritten[peer.write(unwritten)..];
            bench.keep_receiving(token, credit);
            bench.seen(token).bytes.len() >= len
        });
    }

    /// Reads at the far end until it has `len` bytes.
    pub(super) fn read_at(&mut self, peer: &mut S::Peer, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until("bytes at the peer", |_| {
            while bytes.len() < len {
                let before = bytes.len();
                match peer.read(&mut bytes, len - before) {
                    PeerRead::Bytes => {}
                    PeerRead::Nothing => break,
                    over => panic!("{over:?} after {before} of {len} bytes"),
                }
            }
            bytes.len() == len
        });
        bytes
    }

    /// Closes what is open and checks that every operation was answered.
    pub(super) fn finish(mut self) {
        for token in self.ledger.open() {
            self.close(token, false);
        }
        self.until("the last words", |bench| bench.ledger.owed().is_empty());
        for _ in 0..3 {
            let late = self.turn(Patience::None);
            assert_eq!(late, 0, "completions after everything was closed");
        }
    }

    fn note(&mut self, completion: Completion) {
        let token = answered_token(&completion);
        let key = (token.slot, token.generation);
        let seen = self.seen.entry(key).or_default();
        match completion {
            Completion::Accepted { socket, .. } => seen.accepted.push(socket),
            Completion::AcceptEnded { error, .. } => seen.accept_ends.push(error),
            Completion::Connected { result, .. } => seen.connected.push(result),
            Completion::Received { data, .. } => {
                let driver = self.subject.driver();
                seen.bytes.extend_from_slice(driver.bytes(&data));
                driver.release(data);
            }
            Completion::Datagrams { data, arrival, .. } => {
                let driver = self.subject.driver();
                seen.trains.push((driver.bytes(&data).to_vec(), arrival));
                driver.release(data);
            }
            Completion::PeerFailed { error, .. } => seen.peer_errors.push(error),
            Completion::ReceiveEnded { end, .. } => seen.receive_ends.push(end),
            Completion::ReceivedExact { buffer, result, .. } => {
                let got = result.unwrap_or(0);
                seen.bytes.extend_from_slice(&buffer[buffer.len() - got..]);
                seen.exact.push((buffer, result));
            }
            Completion::Closed { .. } => seen.closed = true,
            Completion::Sent { output, result: Err(errno), .. } => {
                drop(output);
                seen.send_failure = Some(errno);
            }
            Completion::Sent { output, result: Ok(len), .. } => {
                seen.sent += len;
                let sent = self.sending.get_mut(&key).expect("the ledger knows the send");
                *sent += len;
                let sent = *sent;
                if sent == output.len() {
                    seen.whole_sends += 1;
                } else if self.continue_sends && !self.ledger.is_closing(token) {
                    self.submit(Operation::Send { token, output, sent, manner: Manner::Plain });
                }
            }
        }
    }
}

/// Bytes that tell where they belong: no two places look alike for long.
pub(super) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed ^ 0x5eed);
    (0..len).map(|_| random.number() as u8).collect()
}

/// `bytes` as an output of many segments, some copied, some shared.
pub(super) fn in_segments(random: &mut Random, mut bytes: &[u8]) -> Box<Output> {
    let mut output = Box::new(Output::default());
    while !bytes.is_empty() {
        let max = if random.chance(50) { 100 } else { 20_000 };
        let (piece, rest) = bytes.split_at((1 + random.below(max)).min(bytes.len()));
        output.put_bytes(Bytes::copy_from_slice(piece));
        bytes = rest;
    }
    output
}
