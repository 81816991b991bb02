//! What the network of a simulated world does to messages: time, never loss or another order.
//!
//! Below: as `main`. Absent: single links; their tests stand beside their code.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use postring::testing::{Network, World};
use postring::{CloseReason, Error, Limits, Message, Outcome, Timeouts, TrySendError, Unframed};
use proptest::prelude::*;

use super::{ECHO, SECOND, STEP, echoing, frames, ms};

#[test]
fn a_delay_is_there_and_back_again() {
    let world = echoing(World::new(5));
    world.set_network(Network { delay: ms(20), ..Network::default() }).unwrap();
    let carrier = world.initiate_with(ECHO, frames());
    world.run_until(carrier.activate()).unwrap();
    assert_eq!(world.now(), ms(40), "a connect is a round trip");
    world.run_until(carrier.send("hi")).unwrap();
    assert_eq!(world.now(), ms(40), "to be accepted needs no time");
    world.run_until(carrier.receive()).unwrap();
    assert_eq!(world.now(), ms(80));
    let slow = Network { delay: SECOND, ..Network::default() };
    world.set_network_to("memory://far", slow).unwrap();
    world.run_until(carrier.send("not that one")).unwrap();
    world.run_until(carrier.receive()).unwrap();
    assert_eq!(world.now(), ms(120));
}

#[test]
fn associations_remember_what_the_network_is_like() {
    let world = echoing(World::new(5));
    let rate = Some(1_000_000);
    let network = Network { delay: ms(20), rate_bytes_per_s: rate, ..Network::default() };
    world.set_network(network).unwrap();
    let carrier = world.initiate_with(ECHO, frames());
    let association = world.run_until(carrier.association()).unwrap();
    assert_eq!(association.remote().unwrap().to_string(), ECHO);
    assert!(world.run_until(carrier.transients()).unwrap().is_empty());
    world.run_until(carrier.activate()).unwrap();
    world.advance(SECOND);
    let transients = world.run_until(carrier.transients()).unwrap();
    assert_eq!(transients[0].age(), SECOND);
    let [path] = transients[0].paths() else { panic!("{transients:?}") };
    assert_eq!((path.round_trip(), path.one_way_delay()), (Some(ms(40)), Some(ms(20))));
    assert_eq!((path.rate_bytes_per_s(), path.peer_address()), (rate, None));
    carrier.abort();
    drop(carrier);
    world.advance(SECOND * 3600);
    let [path] = world.run_until(association.paths()).unwrap()[..] else { panic!("forgotten") };
    assert!(path.age() >= SECOND * 3600 - STEP, "{path:?}");
    assert_eq!(path.round_trip_min(), Some(ms(40)));
    let again = association.initiate().unwrap();
    world.run_until(again.activate()).unwrap();
    assert_eq!(world.run_until(association.carriers()).unwrap().len(), 1);
}

#[test]
fn bytes_leave_at_the_rate_of_the_line() {
    let world = World::new(6);
    let network = Network { rate_bytes_per_s: Some(100_000), ..Network::default() };
    world.set_network(network).unwrap();
    let got = Rc::new(RefCell::new(0));
    let count = Rc::clone(&got);
    let handler = move |message: Message<'_>, _: postring::Reply<'_, Unframed>| {
        *count.borrow_mut() += message.len();
    };
    world.respond_with("memory://sink", Unframed, handler).unwrap();
    let carrier = world.initiate_with("memory://sink", Unframed);
    world.run_until(carrier.send(vec![7; 1_000_000])).unwrap();
    for second in 1..=10 {
        world.advance(SECOND);
        let expected = second * 100_000;
        let got = *got.borrow();
        assert!((expected - 3000..=expected).contains(&got), "{got} bytes after {second} s");
    }
    assert_eq!(*got.borrow(), 1_000_000);
}

#[test]
fn a_partition_holds_back_and_loses_nothing() {
    let world = echoing(World::new(7));
    world.set_network(Network { delay: ms(10), ..Network::default() }).unwrap();
    let carrier = world.initiate_with(ECHO, frames());
    world.run_until(carrier.activate()).unwrap();
    world.run_until(carrier.send("one")).unwrap();
    world.advance(ms(5));
    world.partition();
    world.run_until(carrier.send("two")).unwrap();
    assert!(world.run_within(10 * SECOND, carrier.receive()).is_none());
    world.heal();
    let healed = world.now();
    assert_eq!(world.run_until(carrier.receive()).unwrap().text(), Ok("one"));
    assert_eq!(world.now(), healed + ms(15), "it goes on where it was");
    assert_eq!(world.run_until(carrier.receive()).unwrap().text(), Ok("two"));
}

#[test]
fn a_partition_from_one_address_leaves_the_others() {
    let world = echoing(World::new(8));
    world.respond_with("memory://other", frames(), |message, reply| reply.send(message)).unwrap();
    world.partition_from(ECHO).unwrap();
    let other = world.initiate_with("memory://other", frames());
    world.run_until(other.send("hi")).unwrap();
    world.run_until(other.receive()).unwrap();
    let cut = world.initiate_with(ECHO, frames());
    let connected = world.run_until(cut.activate());
    assert!(matches!(connected, Err(Error::Connect { .. })), "{connected:?}");
    let waited = world.now();
    let connect = Timeouts::default().connect;
    assert!((connect..=connect + STEP).contains(&waited), "{waited:?}");
    world.heal();
    let mended = world.initiate_with(ECHO, frames());
    world.run_until(mended.activate()).unwrap();
}

#[test]
fn a_reset_is_seen_at_both_ends() {
    let mut timeouts = Timeouts::default();
    // Otherwise the one that was initiated would be connected again.
    timeouts.dormant = Duration::ZERO;
    let world = World::builder(9).timeouts(timeouts).build().unwrap();
    let listener = world.listen_with("memory://both", frames()).unwrap();
    assert_eq!(listener.local_addresses(), ["memory://both"]);
    let carrier = world.initiate_with("memory://both", frames());
    assert!(world.reset(&carrier).unwrap_err().to_string().contains("without a connection"));
    world.run_until(carrier.send("hi")).unwrap();
    let accepted = world.run_until(listener.accept()).unwrap();
    assert_eq!(world.run_until(accepted.receive()).unwrap().text(), Ok("hi"));
    world.reset(&accepted).unwrap();
    for end in [&carrier, &accepted] {
        let received = world.run_until(end.receive());
        assert!(matches!(received, Err(Error::Closed(CloseReason::Reset))), "{received:?}");
    }
}

#[test]
fn a_peer_that_does_not_read_fills_bounded_queues() {
    let small =
        Network { send_buffer_bytes: 10_000, receive_buffer_bytes: 5_000, ..Network::default() };
    let mut limits = Limits::default();
    limits.send_queue_bytes = 20_000;
    limits.receive_queue_messages = 2;
    let world = World::builder(10).network(small).limits(limits).build().unwrap();
    let listener = world.listen_with("memory://lazy", frames()).unwrap();
    let carrier = world.initiate_with("memory://lazy", frames());
    let (mut held, mut refused) = (0, 0);
    // Whatever the sockets take makes room in the queue, until nothing moves any more.
    while refused < 3 {
        match carrier.try_send(vec![b'x'; 1000]) {
            Ok(()) => (held, refused) = (held + 1, 0),
            Err(TrySendError::Full(message)) => {
                assert_eq!(message.len(), 1000, "the message comes back");
                refused += 1;
                world.advance(SECOND);
            }
            Err(TrySendError::Failed(error)) => panic!("{error}"),
        }
        assert!(held < 200, "nothing holds the sender back");
    }
    assert!((30..80).contains(&held), "{held} messages in all queues");
    let accepted = world.run_until(listener.accept()).unwrap();
    for _ in 0..held {
        assert_eq!(world.run_until(accepted.receive()).unwrap().len(), 1000);
    }
    world.run_until(carrier.send("there is room")).unwrap();
    assert_eq!(world.run_until(accepted.receive()).unwrap().text(), Ok("there is room"));
}

/// What happens to a lively conversation, with its times.
fn trace(seed: u64) -> Vec<(Duration, String)> {
    let rough = Network { delay: ms(10), jitter: ms(30), loss: 0.2, ..Network::default() };
    let world = World::builder(seed).network(rough).faults(true).cores(2).build().unwrap();
    let world = echoing(world);
    let carriers: Vec<_> = (0..4).map(|_| world.initiate_with(ECHO, frames())).collect();
    let trace = Rc::new(RefCell::new(Vec::new()));
    for (name, carrier) in carriers.iter().enumerate() {
        let carrier = **carrier;
        let trace = Rc::clone(&trace);
        postring::spawn(async move {
            for number in 0..5 {
                carrier.send(format!("{name}.{number}")).await.unwrap();
                let echo = carrier.receive().await.unwrap();
                trace.borrow_mut().push(echo.text().unwrap().to_owned());
            }
        })
        .unwrap();
    }
    let mut told = Vec::new();
    while told.len() < 20 {
        world.advance(ms(10));
        told.extend(trace.borrow_mut().drain(..).map(|what| (world.now(), what)));
        assert!(world.now() < 600 * SECOND, "{told:?}");
    }
    told
}

#[test]
fn the_same_seed_does_the_same_and_another_seed_does_not() {
    assert_eq!(trace(11), trace(11));
    assert_ne!(trace(11), trace(12));
}

/// A way of 100 kB/s on which a second of unimportant bytes waits already.
fn busy_way() -> (World, postring::Carrier<postring::LengthPrefixed>) {
    let world = World::new(31);
    let slow = Network { delay: ms(5), rate_bytes_per_s: Some(100_000), ..Network::default() };
    world.set_network(slow).unwrap();
    world.respond_with("memory://sink", frames(), |_, _| ()).unwrap();
    let carrier = world.initiate_with("memory://sink", frames());
    world.run_until(carrier.activate()).unwrap();
    for _ in 0..100 {
        let bulk = Message::new(vec![b'b'; 1000]).niceness(5);
        drop(world.run_until(carrier.send(bulk)).unwrap());
    }
    (world, carrier)
}

#[test]
fn an_urgent_message_overtakes_what_waits() {
    let (world, carrier) = busy_way();
    let begun = world.now();
    let urgent = Message::new("urgent").niceness(0);
    let receipt = world.run_until(carrier.send(urgent)).unwrap();
    assert_eq!(world.run_until(receipt.acked()), Outcome::Acked);
    let took = world.now() - begun;
    assert!(took < ms(400), "{took:?} behind a second of bulk");
}

#[test]
fn a_message_that_would_be_late_expires() {
    let (world, carrier) = busy_way();
    let begun = world.now();
    let late = Message::new("late").niceness(9).lifetime(ms(300));
    let receipt = world.run_until(carrier.send(late)).unwrap();
    let outcome = world.run_until(receipt.sent());
    assert!(matches!(outcome, Outcome::Expired(_)), "{outcome:?}");
    assert!(world.now() - begun <= ms(300) + STEP);
}

fn network() -> impl Strategy<Value = Network> {
    let rate = prop_oneof![Just(None), (1_000_u64..10_000_000).prop_map(Some)];
    let (delay, jitter) = (0..200_u64, 0..200_u64);
    let loss = prop_oneof![Just(0.0), 0.0..0.5];
    let buffers = (0..20_000_usize, 100..20_000_usize);
    (delay, jitter, rate, loss, buffers).prop_map(|(delay, jitter, rate, loss, buffers)| Network {
        delay: ms(delay),
        jitter: ms(jitter),
        rate_bytes_per_s: rate,
        loss,
        send_buffer_bytes: buffers.0,
        receive_buffer_bytes: buffers.1,
        ..Network::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..Default::default()
    })]
    #[test]
    fn bytes_arrive_whole_and_in_order_whatever_the_network_is_like(
        seed: u64,
        network in network(),
        faults: bool,
        cuts in prop::collection::vec(0..20_000_u64, 0..3),
        lengths in prop::collection::vec(0..10_000_usize, 1..6),
    ) {
        let never = Duration::MAX;
        let mut timeouts = Timeouts::default();
        (timeouts.idle, timeouts.message, timeouts.handshake) = (never, never, never);
        (timeouts.unread_send, timeouts.connect) = (never, never);
        let world = World::builder(seed).network(network).faults(faults).timeouts(timeouts);
        let world = echoing(world.patience(86_400 * SECOND).build().unwrap());
        let carrier = world.initiate_with(ECHO, frames());
        let messages: Vec<Vec<u8>> = lengths
            .iter()
            .enumerate()
            .map(|(number, &len)| (0..len).map(|at| (at * 7 + number) as u8).collect())
            .collect();
        let sent = messages.clone();
        let sender = *carrier;
        postring::spawn(async move {
            for message in sent {
                sender.send(message).await.expect("the way is long but open");
            }
        })
        .unwrap();
        for cut in cuts {
            world.advance(ms(cut));
            world.partition();
            world.advance(ms(cut / 2));
            world.heal();
        }
        for message in messages {
            let got = world.run_until(carrier.receive()).unwrap();
            prop_assert_eq!(got.bytes(), &message[..]);
        }
        world.run_until(carrier.close()).unwrap();
    }
}
