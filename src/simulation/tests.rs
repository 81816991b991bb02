//! Tests of the script driver's own promises: each fault strikes as named, and a seed repeats.

use std::time::Duration;

use super::faults::{Fault, Faults};
use super::network::Network;
use super::script::ScriptDriver;
use super::world::{Peer, Read, World, errno};
use crate::address::SocketAddress;
use crate::engine::errno::Errno;
use crate::engine::operation::{Completion, Manner, Operation, ReceiveEnd, Token};
use crate::engine::plan::{BufferPlan, Patience};
use crate::engine::socket_option::SocketOption;
use crate::framer::Output;

const PLAN: BufferPlan = BufferPlan {
    buffer_len: 100,
    posted: 2,
    pool_bytes_max: 200,
    datagram_pool_bytes: 4 << 20,
    credit: 100,
};
const ONE: Token = Token { slot: 0, generation: 1 };

fn kind_driver(world: &World) -> ScriptDriver {
    ScriptDriver::new(world, &PLAN, Faults::NONE, 1)
}

fn attached(world: &World, driver: &mut ScriptDriver, token: Token) -> Peer {
    let (socket, peer) = world.pair();
    driver.submit(Operation::Attach { token, socket });
    peer
}

/// The completions of one patient turn, as text; buffers are given back.
fn turn(driver: &mut ScriptDriver) -> Vec<String> {
    driver.turn(Patience::Sleep(Duration::from_millis(1))).unwrap();
    let mut told = Vec::new();
    while let Some(completion) = driver.next() {
        told.push(match completion {
            Completion::Received { token, data } => {
                let bytes = driver.bytes(&data).to_vec();
                driver.release(data);
                format!("{} received {bytes:?}", token.slot)
            }
            Completion::Sent { token, result, .. } => format!("{} sent {result:?}", token.slot),
            other => format!("{other:?}"),
        });
    }
    told
}

fn ended(end: ReceiveEnd) -> String {
    format!("{:?}", Completion::ReceiveEnded { token: ONE, end })
}

fn send(driver: &mut ScriptDriver, bytes: &[u8]) {
    let mut output = Box::new(Output::default());
    output.put(bytes);
    driver.submit(Operation::Send { token: ONE, output, sent: 0, manner: Manner::Plain });
}

#[test]
fn an_injected_fault_strikes_once_where_it_fits() {
    let world = World::new(1000);
    let mut driver = kind_driver(&world);
    let peer = attached(&world, &mut driver, ONE);
    for fault in [
        Fault::EndReceive,
        Fault::ShortSend(2),
        Fault::FailSend(errno::EPIPE),
        Fault::FailReceive(errno::ECONNRESET),
    ] {
        driver.inject(fault);
    }
    driver.submit(Operation::Receive { token: ONE, credit: 10 });
    assert_eq!(turn(&mut driver), [ended(ReceiveEnd::Credit)], "as after a lost F_MORE");
    send(&mut driver, b"abcde");
    assert_eq!(turn(&mut driver), ["0 sent Ok(2)"]);
    send(&mut driver, b"cde");
    assert_eq!(turn(&mut driver), [format!("0 sent {:?}", Err::<usize, _>(errno::EPIPE))]);
    driver.submit(Operation::Receive { token: ONE, credit: 10 });
    assert_eq!(turn(&mut driver), [ended(ReceiveEnd::Failed(errno::ECONNRESET))]);
    send(&mut driver, b"cde");
    assert_eq!(turn(&mut driver), ["0 sent Ok(3)"], "all faults have struck");
    let mut read = Vec::new();
    assert_eq!(peer.read(&mut read, 10), Read::Bytes(5));
    assert_eq!(read, b"abcde");
}

#[test]
fn accepts_and_connects_fail_when_told() {
    let world = World::new(1000);
    let address = SocketAddress::Unix("anywhere".into());
    let mut driver = kind_driver(&world);
    let socket = world.listen(&address, 1).unwrap();
    assert_eq!(world.listen(&address, 1).unwrap_err(), errno::EADDRINUSE);
    driver.submit(Operation::Attach { token: ONE, socket });
    driver.inject(Fault::EndAccept(Errno(24)));
    driver.submit(Operation::Accept { token: ONE });
    let _peer = world.connect(&address).unwrap();
    assert_eq!(world.connect(&address).unwrap_err(), errno::ECONNREFUSED, "the queue is full");
    assert!(turn(&mut driver)[0].contains("Some(Errno(24))"));
    driver.submit(Operation::Accept { token: ONE });
    assert!(turn(&mut driver)[0].starts_with("Accepted"), "the queue stayed");
    let two = Token { slot: 1, generation: 1 };
    driver.submit(Operation::Attach { token: two, socket: world.connecting() });
    driver.inject(Fault::FailConnect(Errno(110)));
    driver.submit(Operation::Connect { token: two, address });
    assert!(turn(&mut driver)[0].contains("Err(Errno(110))"));
}

#[test]
fn an_overflow_makes_completions_late_and_loses_none() {
    let world = World::new(1000);
    let mut driver = kind_driver(&world);
    let tokens = (0..10).map(|slot| Token { slot, generation: 1 });
    let peers: Vec<Peer> =
        tokens.clone().map(|token| attached(&world, &mut driver, token)).collect();
    drop(peers);
    tokens.for_each(|token| driver.submit(Operation::Receive { token, credit: 1 }));
    driver.inject(Fault::Overflow);
    let first = turn(&mut driver).len();
    assert!(first < 3, "{first} of 10 at once");
    assert_eq!(turn(&mut driver).len(), 10 - first);
}

#[test]
fn without_buffers_a_receive_starves_until_some_are_back() {
    let world = World::new(1000);
    let mut driver = kind_driver(&world);
    let peer = attached(&world, &mut driver, ONE);
    assert_eq!(peer.write(&[7; 500]), Ok(500));
    driver.submit(Operation::Receive { token: ONE, credit: 500 });
    driver.turn(Patience::None).unwrap();
    let mut held = Vec::new();
    while let Some(Completion::Received { data, .. }) = driver.next() {
        held.push(data);
    }
    assert_eq!(held.len(), 2, "every posted buffer");
    assert_eq!(driver.starvations(), 1);
    driver.turn(Patience::None).unwrap();
    assert!(driver.next().is_none());
    held.into_iter().for_each(|data| driver.release(data));
    assert_eq!(turn(&mut driver).len(), 2);
}

#[test]
fn two_drivers_talk_through_one_world() {
    let world = World::new(5);
    let (mut one, mut two) = (kind_driver(&world), kind_driver(&world));
    let (here, there) = world.sockets();
    one.submit(Operation::Attach { token: ONE, socket: here });
    two.submit(Operation::Attach { token: ONE, socket: there });
    send(&mut one, b"more than fits");
    two.submit(Operation::Receive { token: ONE, credit: 14 });
    let mut told = Vec::new();
    for _ in 0..5 {
        told.extend(turn(&mut one));
        told.extend(turn(&mut two));
    }
    assert_eq!(told.iter().filter(|told| told.contains("received")).count(), 3);
    assert!(told.contains(&"0 sent Ok(14)".to_string()), "{told:?}");
}

#[test]
fn a_close_with_unread_bytes_is_a_reset() {
    let world = World::new(100);
    let mut driver = kind_driver(&world);
    let peer = attached(&world, &mut driver, ONE);
    peer.write(b"unread").unwrap();
    driver.submit(Operation::Close { token: ONE, reset: false });
    assert_eq!(turn(&mut driver).len(), 1);
    assert_eq!(peer.read(&mut Vec::new(), 10), Read::Failed(errno::ECONNRESET));
    assert_eq!(peer.write(b"more"), Err(errno::ECONNRESET));
}

#[test]
fn only_vain_waiting_passes_time() {
    let world = World::new(100);
    let mut driver = kind_driver(&world);
    let second = Patience::Sleep(Duration::from_secs(1));
    driver.turn(Patience::None).unwrap();
    driver.bell().ring();
    driver.turn(second).unwrap();
    assert_eq!(driver.slept(), Duration::ZERO);
    driver.turn(second).unwrap();
    assert_eq!(driver.slept(), Duration::from_secs(1));
}

#[test]
fn a_send_that_waits_leaves_when_the_backlog_is_short() {
    let network = Network { rate_bytes_per_s: Some(100_000), ..Network::default() };
    let world = World::with_network(network, 1);
    let mut driver = kind_driver(&world);
    let _peer = attached(&world, &mut driver, ONE);
    let option = SocketOption::UnsentLimit(4000);
    driver.submit(Operation::Tune { token: ONE, option });
    driver.submit(Operation::Tune { token: ONE, option: SocketOption::TrafficClass(46) });
    send(&mut driver, &[7; 4000]);
    assert_eq!(turn(&mut driver), ["0 sent Ok(4000)"]);
    let unsent = |driver: &ScriptDriver| driver.path(ONE).unwrap().unsent_bytes;
    assert_eq!(unsent(&driver), 4000 - 1448);
    let mut output = Box::new(Output::default());
    output.put(b"urgent");
    let manner = Manner::WhenWritable(4);
    driver.submit(Operation::Send { token: ONE, output, sent: 0, manner });
    assert!(turn(&mut driver).is_empty(), "half of the limit is unsent");
    world.advance_to(world.next_event().unwrap());
    assert_eq!(turn(&mut driver), ["0 sent Ok(4)"], "no more than the manner says");
    let path = driver.path(ONE).unwrap();
    assert_eq!(path.rate_bytes_per_s, Some(100_000));
    assert!(path.unacknowledged_bytes > path.unsent_bytes);
    assert_eq!(driver.path(Token { slot: 1, generation: 1 }), None);
}

#[test]
fn a_connect_takes_a_round_trip_and_hangs_when_the_way_is_cut() {
    let delay = Duration::from_millis(30);
    let world = World::with_network(Network { delay, ..Network::default() }, 1);
    let (there, mut driver) = (SocketAddress::Memory("there".into()), kind_driver(&world));
    let listener = world.listen(&there, 10).unwrap();
    driver.submit(Operation::Attach { token: ONE, socket: world.connecting() });
    driver.submit(Operation::Connect { token: ONE, address: there.clone() });
    assert!(turn(&mut driver).is_empty());
    world.cut(Some(&there), true);
    world.advance_to(Duration::from_secs(1));
    assert!(turn(&mut driver).is_empty() && world.accept(&listener).is_none());
    world.mend_all();
    assert_eq!(world.next_event(), Some(Duration::from_secs(1) + 2 * delay));
    world.advance_to(world.next_event().unwrap());
    assert!(turn(&mut driver)[0].starts_with("Connected"));
    assert!(world.accept(&listener).is_some());
}

/// A busy little world, told as text.
fn story(seed: u64) -> Vec<String> {
    let world = World::new(64);
    let mut driver = ScriptDriver::new(&world, &PLAN, Faults::from_seed(4), seed);
    let tokens: Vec<Token> = (0..4).map(|slot| Token { slot, generation: 1 }).collect();
    let peers: Vec<Peer> =
        tokens.iter().map(|&token| attached(&world, &mut driver, token)).collect();
    let mut told = Vec::new();
    for (&token, peer) in tokens.iter().zip(&peers) {
        peer.write(&[token.slot as u8; 50]).unwrap();
        driver.submit(Operation::Receive { token, credit: 40 });
    }
    for _ in 0..50 {
        told.extend(turn(&mut driver));
    }
    told
}

#[test]
fn a_seed_tells_the_same_story_again_and_another_seed_another() {
    assert_eq!(story(1), story(1));
    assert_ne!(story(1), story(2));
}
