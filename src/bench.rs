//! Private: what `benches/` and `fuzz/` need to reach. Behind the feature `__bench`, no part of
//! the API, and gone or changed without notice.
//!
//! Above: `benches/{engine,datagrams,scheduler}.rs`, `fuzz/`. Below: the parts themselves, each
//! with the few calls a benchmark or a fuzz target makes. Absent: measuring; figures against other
//! engines (`benches/rivals`).

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address::Route;
use crate::carrier::responder::ResponderService;
use crate::engine::driver::Driver;
use crate::engine::mailbox::{Bell, Postbox};
use crate::engine::plan::BufferPlan;
use crate::framer::{LengthPrefixed, Output};
use crate::limits::{Limits, Timeouts};
use crate::scheduler::{Ask, Bounds, Number, Path, Scheduler};
use crate::shard::core::Core;
use crate::shard::mail::{CoreHandle, Mail};
use crate::shard::{Shard, Wait};
use crate::simulation::faults::Faults;
use crate::simulation::random::Random;
use crate::simulation::script::ScriptDriver;
use crate::simulation::world::{Peer, Read, World};

#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
pub use crate::kernel::bench::{Beside, Pool, Sayings, name_of, read_control, read_peer_error};

struct Silent;

impl Bell for Silent {
    fn ring(&self) {}
}

/// Bytes on their way out, as a connection keeps them.
#[derive(Debug, Default)]
pub struct Outbox(Output);

impl Outbox {
    /// Where framers write.
    pub fn output(&mut self) -> &mut Output {
        &mut self.0
    }

    /// Walks the segments as a driver does, empties the outbox as the shard does after the send,
    /// and says how many bytes there were.
    pub fn send(&mut self) -> usize {
        let sent = self.0.segments(0).map(<[u8]>::len).sum();
        self.0.reset(usize::MAX);
        sent
    }
}

/// A train as a driver sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainShown {
    /// Bytes of every datagram but the last one; `None`: it is one datagram.
    pub segment: Option<u16>,
    /// The port of the peer it goes to.
    pub port: u16,
    /// Where each datagram lies among the bytes that were put.
    pub datagrams: Vec<Range<usize>>,
}

/// Datagrams on their way out, as a socket keeps them: `put` groups them into trains.
#[derive(Debug, Default)]
pub struct Datagrams(Output);

impl Datagrams {
    /// One more, to a port of this host.
    pub fn put(&mut self, datagram: &[u8], port: u16) {
        self.0.put(datagram);
        let remote = ([127, 0, 0, 1], port).into();
        self.0.end_datagram(Some(Route { remote, local: None }), None);
    }

    /// Puts those of `other` behind, as the next batch of a turn is.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// What stands in line.
    #[must_use]
    pub fn trains(&self) -> Vec<TrainShown> {
        let shown = |train: &crate::framer::Train| TrainShown {
            segment: train.segment(),
            port: train.to().map_or(0, |route| route.remote.port()),
            datagrams: train.datagrams().collect(),
        };
        self.0.trains().iter().map(shown).collect()
    }

    /// Walks trains and datagrams as a driver does where the kernel segments nothing, and empties
    /// it; how many datagrams and bytes there were.
    pub fn split(&mut self) -> (usize, usize) {
        let (mut datagrams, mut bytes) = (0, 0);
        for train in self.0.trains().iter().flat_map(crate::framer::Train::split) {
            datagrams += 1;
            bytes += train.range().len();
        }
        self.0.reset(usize::MAX);
        (datagrams, bytes)
    }
}

/// A core's mailbox with numbers in it.
pub struct Mailbox {
    mailbox: crate::engine::mailbox::Mailbox<u64>,
    postbox: Postbox<u64>,
}

impl Mailbox {
    /// An empty one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let mailbox = crate::engine::mailbox::Mailbox::new(capacity, Arc::new(Silent));
        let postbox = mailbox.postbox();
        Self { mailbox, postbox }
    }

    /// Posts as any thread does; false if it is full.
    pub fn post(&self, value: u64) -> bool {
        self.postbox.post(value).is_ok()
    }

    /// What comes next.
    pub fn pop(&mut self) -> Option<u64> {
        self.mailbox.pop()
    }
}

/// How the Messages of [`Messages`] differ.
#[derive(Debug, Clone, Copy)]
pub enum Mixture {
    /// All alike, of one Carrier.
    Alike,
    /// Four classes, sixteen Carriers, every second with a deadline of its own.
    Mixed,
    /// Each has the one before it as its antecedent.
    Chained,
}

/// A scheduler with a queue that stays as long as it is.
pub struct Messages {
    scheduler: Scheduler<u64>,
    mixture: Mixture,
    random: Random,
    last: Option<Number>,
}

impl Messages {
    /// This many queued Messages.
    #[must_use]
    pub fn new(queued: usize, mixture: Mixture) -> Self {
        let bounds = Bounds { messages: usize::MAX, bytes: usize::MAX };
        let scheduler = Scheduler::new(bounds);
        let mut messages = Self { scheduler, mixture, random: Random::new(1), last: None };
        (0..queued).for_each(|_| messages.submit());
        messages
    }

    fn submit(&mut self) {
        let mut ask =
            Ask { carrier: 1, niceness: 0, deadline_us: None, antecedents: &[], bytes: 1400 };
        match self.mixture {
            Mixture::Alike => {}
            Mixture::Mixed => {
                let number = self.random.number();
                ask.niceness = number as u32 % 4;
                ask.carrier = (number >> 8) as u32 % 16;
                ask.deadline_us = (number >> 16 & 1 == 0).then_some(1_000_000 + (number >> 32));
            }
            Mixture::Chained => ask.antecedents = self.last.as_slice(),
        }
        let number = self.scheduler.submit(0, ask, 7);
        self.last = Some(number.expect("nothing is bounded and every antecedent is known"));
    }

    /// One Message in, one taken and finished; says which.
    pub fn turn(&mut self) -> u64 {
        self.submit();
        let taken = self.scheduler.take(0, &Path::default(), usize::MAX);
        let number = taken.expect("the earliest Message is ready").number;
        self.scheduler.finish(number).expect("all of it was taken");
        number
    }
}

/// An echo Responder's core on the script driver, and its peers.
pub struct Turns {
    shard: Shard,
    now: Instant,
    peers: Vec<Peer>,
    frame: Vec<u8>,
    answer: Vec<u8>,
}

impl Turns {
    /// This many peers, each with a frame of this many payload bytes to send.
    #[must_use]
    pub fn new(peers: usize, payload_len: u16) -> Self {
        let limits = Limits::default();
        let never = Duration::MAX;
        let timeouts = Timeouts { handshake: never, idle: never, ..Timeouts::default() };
        let plan = BufferPlan {
            buffer_len: limits.receive_buffer_bytes,
            posted: limits.receive_buffers_posted,
            pool_bytes_max: limits.receive_pool_bytes,
            datagram_pool_bytes: limits.datagram_pool_bytes,
            credit: limits.receive_credit_bytes,
        };
        let world = World::new(1 << 16);
        let driver = Driver::Script(Box::new(ScriptDriver::new(&world, &plan, Faults::NONE, 1)));
        let bell: Arc<dyn Bell> = Arc::new(Silent);
        let mailbox = crate::engine::mailbox::Mailbox::new(limits.mailbox, Arc::clone(&bell));
        let handle = CoreHandle::new(mailbox.postbox(), bell, Arc::default());
        let core = Core::new(Arc::clone(&handle), limits, timeouts, Arc::default());
        core.enter();
        let mut shard = Shard::new(core, driver, mailbox, Vec::new(), Wait::Spin);
        let frames = LengthPrefixed::default();
        let echo = ResponderService::inline(frames, |message, reply| reply.send(message));
        shard.add_service(Rc::new(echo));
        let adopt = |_| {
            let (socket, peer) = world.pair();
            let posted = handle.post(Mail::Adopt { socket, service: 0 });
            assert!(posted.is_ok(), "fewer peers than letters fit into a mailbox");
            peer
        };
        let peers = (0..peers).map(adopt).collect();
        let mut frame = u32::from(payload_len).to_be_bytes().to_vec();
        frame.resize(frame.len() + usize::from(payload_len), b'x');
        let now = shard.core.read_clock();
        Self { shard, now, peers, frame, answer: Vec::new() }
    }

    /// Every peer sends its frame; turns until each has it back. Says how many turns that took.
    pub fn round_trip(&mut self) -> usize {
        for peer in &self.peers {
            assert_eq!(peer.write(&self.frame), Ok(self.frame.len()), "a stream has room");
        }
        let mut missing = self.peers.len() * self.frame.len();
        let mut turns = 0;
        while missing > 0 {
            assert!(turns < 1000, "{missing} bytes of the echo are missing");
            turns += 1;
            let gone_on = self.shard.go_round(self.now).expect("the script driver never fails");
            self.now = gone_on.expect("nobody shut it down");
            for peer in &self.peers {
                if let Read::Bytes(len) = peer.read(&mut self.answer, self.frame.len()) {
                    missing -= len;
                }
            }
            self.answer.clear();
        }
        turns
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        Core::leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_has_its_echo_and_a_round_needs_few_turns() {
        let mut turns = Turns::new(200, 100);
        let first = turns.round_trip();
        let again = turns.round_trip();
        // Receive, send; the peers hear of it in the turn after.
        assert!(first <= 8 && again <= 4, "{first} turns, then {again}");
    }

    #[test]
    fn a_queue_of_messages_keeps_its_length_and_moves_on() {
        for mixture in [Mixture::Alike, Mixture::Mixed, Mixture::Chained] {
            let mut messages = Messages::new(100, mixture);
            let taken: std::collections::HashSet<u64> = (0..500).map(|_| messages.turn()).collect();
            assert_eq!((taken.len(), messages.scheduler.queued_messages()), (500, 100));
        }
    }

    #[test]
    fn datagrams_of_one_length_are_a_train_and_split_into_themselves() {
        let mut datagrams = Datagrams::default();
        [4, 4, 2].iter().for_each(|len| datagrams.put(&[7; 4][..*len], 9));
        let shown = TrainShown { segment: Some(4), port: 9, datagrams: vec![0..4, 4..8, 8..10] };
        assert_eq!(datagrams.trains(), [shown]);
        assert_eq!((datagrams.split(), datagrams.split()), ((3, 10), (0, 0)));
    }

    #[test]
    fn an_outbox_sends_what_was_put_in_and_is_empty_again() {
        let mut outbox = Outbox::default();
        outbox.output().put(b"one");
        outbox.output().put_bytes(vec![7; 10_000].into());
        assert_eq!((outbox.send(), outbox.send()), (10_003, 0));
    }
}
