//! Datagrams in simulated worlds: what a path may do to them happens to each by itself, everything
//! else is as between real sockets, and the same seed does the same.
//!
//! Below: as `main`. Absent: multicast, which worlds have not.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::UNIX_EPOCH;

use postring::testing::{Network, World};
use postring::{
    Carrier, CarrierState, CloseReason, Error, Limits, Message, Outcome, Timeouts, Unframed,
};

use super::{SECOND, STEP, frames, ms};

const PLACE: &str = "udp://192.0.2.1:7000";

fn echoing(world: World) -> World {
    world.respond_with(PLACE, Unframed, |message, reply| reply.send(message)).unwrap();
    world
}

fn rough(seed: u64) -> Network {
    Network {
        delay: ms(5),
        jitter: ms(seed % 4 * 10),
        loss: [0.0, 0.1, 0.4][seed as usize % 3],
        duplication: [0.0, 0.2][seed as usize % 2],
        ..Network::default()
    }
}

fn number_of(message: &Message<'_>) -> u32 {
    u32::from_be_bytes(message.bytes()[..4].try_into().unwrap())
}

/// All that has come, until nothing more comes.
fn numbers(world: &World, carrier: &Carrier<Unframed>) -> Vec<u32> {
    let mut all = Vec::new();
    while let Some(message) = world.run_within(SECOND, carrier.receive()) {
        all.push(number_of(&message.unwrap()));
    }
    all
}

#[test]
fn a_datagram_is_a_message_there_too() -> postring::Result<()> {
    let world = echoing(World::new(1));
    world.set_network(Network { delay: ms(20), ..Network::default() })?;
    let carrier = world.initiate_with(PLACE, Unframed);
    for message in ["", "hello", "to all of you"] {
        world.run_until(carrier.send(message))?;
        let answer = world.run_until(carrier.receive())?;
        assert!(answer.is_complete() && answer.text() == Ok(message));
    }
    assert_eq!(world.now(), ms(120), "no handshake, and three round trips");
    world.run_until(carrier.close())
}

#[test]
fn arrival_times_are_those_of_the_world() -> postring::Result<()> {
    for (asked, expected) in [(false, None), (true, Some(UNIX_EPOCH + ms(30)))] {
        let network = Network { delay: ms(15), ..Network::default() };
        let world = echoing(World::builder(1).network(network).arrival_times(asked).build()?);
        let carrier = world.initiate_with(PLACE, Unframed);
        world.run_until(carrier.send("hello"))?;
        world.run_within(SECOND, std::future::pending::<()>());
        let marking = world.run_until(carrier.receive())?.marking().expect("a datagram");
        assert_eq!(marking.arrived(), expected);
    }
    Ok(())
}

#[test]
fn what_no_path_carries_is_an_error_that_names_the_limit() {
    let world = echoing(World::new(1));
    world.set_network(Network { datagram_bytes_max: 1252, ..Network::default() }).unwrap();
    let carrier = world.initiate_with(PLACE, Unframed);
    world.run_until(carrier.activate()).unwrap();
    let error = world.run_until(carrier.send(vec![0; 1253])).unwrap_err().to_string();
    assert!(error.contains("1253 bytes") && error.contains("limit of 1252 bytes"), "{error}");
    world.run_until(carrier.send(vec![0; 1252])).unwrap();
    assert_eq!(world.run_until(carrier.receive()).unwrap().len(), 1252);
}

#[test]
fn addresses_that_no_world_has_are_refused_with_a_hint() {
    let world = World::new(1);
    for wrong in ["udp://*:7000", "udp://192.0.2.1:0", "udp://239.1.2.3:7000", "udp://name:7"] {
        let refused = world.respond_with(wrong, Unframed, |_, _| ()).unwrap_err();
        assert!(matches!(&refused, Error::Address { .. }), "{refused}");
        assert!(refused.to_string().contains("udp://IP:PORT"), "{refused}");
    }
    let world = echoing(world);
    let again = world.respond_with(PLACE, Unframed, |_, _| ()).unwrap_err();
    assert!(matches!(again, Error::Listen { .. }), "{again}");
}

#[test]
fn what_the_path_loses_doubles_and_swaps_is_all_that_is_different() {
    for seed in 0..60 {
        let world = World::builder(seed).faults(seed % 2 == 0).build().unwrap();
        let world = echoing(world);
        world.set_network(rough(seed)).unwrap();
        let carriers: Vec<_> = (0..4).map(|_| world.initiate_with(PLACE, Unframed)).collect();
        for number in 0..60_u32 {
            let carrier = &carriers[number as usize % carriers.len()];
            world.run_until(carrier.send(number.to_be_bytes().to_vec())).unwrap();
        }
        let lossless = rough(seed).loss == 0.0;
        let single = rough(seed).duplication == 0.0;
        let in_order = rough(seed).jitter.is_zero();
        let (mut came, mut swapped) = (BTreeMap::<u32, u32>::new(), false);
        for (at, carrier) in carriers.iter().enumerate() {
            let answers = numbers(&world, carrier);
            swapped |= !answers.is_sorted();
            for number in answers {
                assert_eq!(number as usize % carriers.len(), at, "seed {seed}: another's answer");
                *came.entry(number).or_default() += 1;
            }
        }
        let received = world.metrics().total().received_messages;
        let answers: u32 = came.values().sum();
        assert!(u64::from(answers) <= received, "seed {seed}");
        assert!(!lossless || came.len() == 60, "seed {seed}: {came:?}");
        assert!(!lossless || !single || came.values().all(|count| *count == 1), "seed {seed}");
        assert!(!in_order || !swapped || !single, "seed {seed}");
        assert_eq!(world.metrics().total().dropped_datagrams, 0, "seed {seed}");
    }
}

/// The books close: each request that arrived is answered once, and nothing arrives that was
/// neither sent nor doubled.
#[test]
fn a_responder_answers_exactly_what_arrives() {
    const REQUESTS: u64 = 48;
    for seed in 0..200 {
        let world = World::builder(seed).faults(seed % 2 == 0).build().unwrap();
        let network = rough(seed);
        world.set_network(network).unwrap();
        let arrived = Rc::new(Cell::new(0_u64));
        let counted = Rc::clone(&arrived);
        let answer = move |message: &Message<'_>| {
            counted.set(counted.get() + 1);
            Message::new(message.bytes().to_vec())
        };
        world
            .respond_with(PLACE, Unframed, move |message, reply| reply.send(answer(&message)))
            .unwrap();
        let clients: Vec<_> = (0..4).map(|_| world.initiate_with(PLACE, Unframed)).collect();
        for number in 0..REQUESTS {
            let client = &clients[number as usize % clients.len()];
            world.run_until(client.send((number as u32).to_be_bytes().to_vec())).unwrap();
        }
        let answers: u64 = clients.iter().map(|one| numbers(&world, one).len() as u64).sum();
        let total = world.metrics().total();
        let arrived = arrived.get();
        assert_eq!(total.sent_messages, REQUESTS + arrived, "seed {seed}: {total:?}");
        assert_eq!(total.received_messages, arrived + answers, "seed {seed}: {total:?}");
        assert!(arrived <= 2 * REQUESTS && answers <= 2 * arrived, "seed {seed}");
        assert!(network.duplication > 0.0 || arrived <= REQUESTS, "seed {seed}");
        assert!(network.duplication > 0.0 || answers <= arrived, "seed {seed}");
        assert!(network.loss > 0.0 || (arrived >= REQUESTS && answers >= arrived), "seed {seed}");
        for client in clients {
            world.run_until(client.close()).unwrap();
        }
        world.advance(SECOND);
        assert_eq!(world.metrics().total().open_connections, 0, "seed {seed}: a slot is left");
    }
}

#[test]
fn the_same_seed_does_the_same() {
    let story = |seed| {
        let world = echoing(World::builder(seed).faults(true).build().unwrap());
        world.set_network(rough(11)).unwrap();
        let carrier = world.initiate_with(PLACE, Unframed);
        for number in 0..40_u32 {
            world.run_until(carrier.send(number.to_be_bytes().to_vec())).unwrap();
        }
        (numbers(&world, &carrier), world.now())
    };
    assert_eq!(story(11), story(11));
    assert_ne!(story(11), story(12));
}

/// Remotes come, speak and fall silent; some Carriers are closed with answers still queued.
#[test]
fn carriers_of_a_listener_come_and_go_and_none_is_left() {
    for seed in 0..40 {
        let mut limits = Limits::default();
        limits.connections = 24;
        let mut timeouts = Timeouts::default();
        timeouts.idle = SECOND * 30;
        let world = World::builder(seed).limits(limits).timeouts(timeouts).faults(seed % 2 == 0);
        let world = world.build().unwrap();
        world.set_network(rough(seed)).unwrap();
        let listener = world.listen_with(PLACE, frames()).unwrap();
        let ended = Rc::new(Cell::new(0));
        let served = Rc::new(RefCell::new(0));
        let (counted, ends) = (Rc::clone(&served), Rc::clone(&ended));
        postring::spawn(async move {
            while let Ok(carrier) = listener.accept().await {
                *counted.borrow_mut() += 1;
                let ends = Rc::clone(&ends);
                let serve = async move {
                    let mut number = 0;
                    while let Ok(message) = carrier.receive().await {
                        number += 1;
                        for copy in 0..3_u32 {
                            let answer = Message::new([message.bytes(), &[copy as u8]].concat());
                            if carrier.send(answer.niceness(copy)).await.is_err() {
                                break;
                            }
                        }
                        if number == 5 {
                            let _ = carrier.close().await;
                        }
                    }
                    ends.set(ends.get() + 1);
                };
                postring::spawn(serve).unwrap();
            }
        })
        .unwrap();
        for round in 0..6_u32 {
            let clients: Vec<_> = (0..8).map(|_| world.initiate_with(PLACE, frames())).collect();
            for number in 0..8 {
                for client in &clients {
                    let message = Message::new((round * 8 + number).to_be_bytes().to_vec());
                    let _ = world.run_until(client.send(message));
                }
            }
            world.advance(SECOND);
            assert!(world.metrics().total().open_connections <= 24, "seed {seed}");
        }
        world.advance(SECOND * 90);
        let total = world.metrics().total();
        assert_eq!(total.open_connections, 0, "seed {seed}: {total:?}");
        assert_eq!(ended.get(), *served.borrow(), "seed {seed}: each task has ended");
        assert!(*served.borrow() >= 40 || rough(seed).loss > 0.0, "seed {seed}");
    }
}

#[test]
fn a_cut_path_loses_everything_and_tells_nobody() {
    let world = echoing(World::new(9));
    let carrier = world.initiate_with(PLACE, Unframed);
    world.run_until(carrier.send("before")).unwrap();
    world.run_until(carrier.receive()).unwrap();
    world.partition_from(PLACE).unwrap();
    let receipt = world.run_until(carrier.send(Message::from("lost").niceness(1))).unwrap();
    assert_eq!(world.run_until(receipt.sent()), Outcome::Sent);
    assert!(world.run_within(SECOND * 5, carrier.receive()).is_none());
    world.heal();
    world.run_until(carrier.send("after")).unwrap();
    assert_eq!(world.run_until(carrier.receive()).unwrap().text(), Ok("after"));
}

#[test]
fn where_nobody_listens_is_said_to_who_asked_and_to_no_other() {
    let world = World::new(3);
    let nobody = world.initiate_with("udp://192.0.2.9:9", Unframed);
    world.run_until(nobody.send("anybody?")).unwrap();
    let error = world.run_until(nobody.receive()).unwrap_err();
    assert!(matches!(error, Error::Closed(CloseReason::Lost(_))), "{error}");
    // A Listener's Carrier whose peer is gone ends, the others stay.
    let listener = world.listen_with(PLACE, Unframed).unwrap();
    let [stays, goes] = [0, 1].map(|_| world.initiate_with(PLACE, Unframed));
    let met = [&stays, &goes].map(|client| {
        world.run_until(client.send("hello")).unwrap();
        world.run_until(listener.accept()).unwrap()
    });
    goes.abort();
    drop(goes);
    world.advance(STEP);
    for carrier in &met {
        world.run_until(carrier.send("still there?")).unwrap();
    }
    world.advance(STEP);
    let states = met.each_ref().map(|carrier| world.run_until(carrier.state()).unwrap());
    assert_eq!(states[0], CarrierState::Active);
    assert!(matches!(states[1], CarrierState::Closed(CloseReason::Lost(_))), "{states:?}");
}

#[test]
fn word_that_nobody_listens_takes_its_time() {
    let world = World::builder(5).network(Network { delay: ms(40), ..Network::default() });
    let world = world.build().unwrap();
    let nobody = world.initiate_with("udp://192.0.2.9:9", Unframed);
    world.run_until(nobody.send("anybody?")).unwrap();
    assert_eq!(world.now(), ms(0));
    let error = world.run_until(nobody.receive()).unwrap_err();
    assert!(matches!(error, Error::Closed(CloseReason::Lost(_))), "{error}");
    assert_eq!(world.now(), ms(80), "there and back");
}

/// As in the draft's first example (§3.1.1): what was asked for before the close is waited for, but
/// no longer than a Carrier lingers, since no datagram may come.
#[test]
fn a_close_waits_for_the_answer_that_was_asked_for_and_no_longer() {
    let network = Network { delay: ms(20), ..Network::default() };
    let world = echoing(World::builder(6).network(network).build().unwrap());
    let carrier = world.initiate_with(PLACE, Unframed);
    world.run_until(carrier.send("hello")).unwrap();
    let answer = carrier.receive();
    let closed = carrier.close();
    assert_eq!(world.run_until(answer).unwrap().text(), Ok("hello"));
    world.run_until(closed).unwrap();
    assert_eq!(world.now(), ms(40), "with the answer all is said");
    // Of one that never comes.
    let carrier = world.initiate_with(PLACE, Unframed);
    world.run_until(carrier.activate()).unwrap();
    let answer = carrier.receive();
    let closed = carrier.close();
    assert!(world.run_within(Timeouts::default().linger - ms(50), answer).is_none());
    world.run_until(closed).unwrap();
    // Nothing is asked for: nothing is waited for.
    let carrier = world.initiate_with(PLACE, Unframed);
    world.run_until(carrier.send("hello")).unwrap();
    let before = world.now();
    world.run_until(carrier.close()).unwrap();
    assert_eq!(world.now(), before);
}

#[test]
fn what_finds_no_room_at_the_receiver_is_dropped_and_counted() {
    let world = World::new(4);
    let network = Network { receive_buffer_bytes: 10_000, delay: ms(5), ..Network::default() };
    world.set_network(network).unwrap();
    world.respond_with(PLACE, Unframed, |_, _| ()).unwrap();
    let carrier = world.initiate_with(PLACE, Unframed);
    world.run_until(carrier.activate()).unwrap();
    for _ in 0..30 {
        carrier.try_send(vec![1; 1000]).unwrap();
    }
    world.advance(SECOND);
    world.run_until(carrier.send("after that")).unwrap();
    world.advance(SECOND);
    let total = world.metrics().total();
    assert_eq!((total.received_messages, total.kernel_drops), (11, 20), "{total:?}");
}
