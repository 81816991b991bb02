//! Dormant Carriers: what is lost with a connection, what goes on with the next one, and when it
//! is over (draft §2.1).
//!
//! Absent: how a connection is made the first time; that stands in `carriers`.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use postring::{
    Carrier, CarrierRef, CarrierState, CloseReason, DriverChoice, Engine, Error, Expiry,
    LengthPrefixed, Message, Outcome, Timeouts, TrySendError,
};

use crate::support::*;

type Framed = Carrier<LengthPrefixed>;

/// A Carrier of an engine on `driver` with a connection to a foreign peer, and both ends of that.
struct Pair {
    engine: Engine,
    carrier: Framed,
    listener: TcpListener,
    peer: TcpStream,
}

fn pair(driver: DriverChoice, change: impl FnOnce(&mut Timeouts)) -> Pair {
    let engine = one(driver).timeouts(timeouts(change)).start().unwrap();
    pair_of(engine)
}

fn pair_of(engine: Engine) -> Pair {
    let (carrier, listener) = to_foreign(&engine);
    carrier.activate().wait().unwrap();
    let peer = accept(&listener);
    Pair { engine, carrier, listener, peer }
}

/// The peer is gone with its listener; what comes to its address is refused.
fn kill(listener: TcpListener, peer: TcpStream) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    drop(listener);
    reset(peer);
    address
}

fn state(carrier: &Framed) -> CarrierState {
    carrier.state().wait().unwrap()
}

fn until_dormant(carrier: &Framed) {
    until("it is dormant", || state(carrier) == CarrierState::Dormant);
}

/// It would not read from the next connection either, and its sender would never hear of it.
#[test]
fn a_peer_that_does_not_read_ends_the_carrier_for_good() {
    on_both(40, |driver| {
        let short = |timeouts: &mut Timeouts| timeouts.unread_send = Duration::from_millis(300);
        let Pair { engine, carrier, listener, peer } = pair(driver, short);
        carrier.send(pattern(30 << 20)).wait().unwrap();
        let ended = CarrierState::Closed(CloseReason::SendTimeout);
        until("it has ended", || state(&carrier) == ended);
        assert!(carrier.send("too late").wait().is_err());
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "it connects once more");
        drop(peer);
        end(engine);
    });
}

/// The Carrier lies dormant until there is something to do.
#[test]
fn a_reset_carrier_lies_dormant_and_the_next_message_revives_it() {
    on_both(30, |driver| {
        let Pair { engine, carrier, listener, mut peer } = pair(driver, |_| ());
        carrier.send("one").wait().unwrap();
        assert_eq!(read_frame(&mut peer).unwrap(), b"one");
        reset(peer);
        until_dormant(&carrier);
        std::thread::sleep(Duration::from_millis(50));
        assert!(listener.accept().is_err(), "it connects without need");
        carrier.send("two").wait().unwrap();
        let mut peer = accept(&listener);
        assert_eq!(read_frame(&mut peer).unwrap(), b"two");
        until("it is active", || state(&carrier) == CarrierState::Active);
        wants_to_hear(&carrier, &mut peer);
        let total = engine.metrics().total();
        assert_eq!((total.dormant, total.revived), (1, 1));
        end(engine);
    });
}

fn wants_to_hear(carrier: &Framed, peer: &mut TcpStream) {
    peer.write_all(&frame(b"hear")).unwrap();
    assert_eq!(carrier.receive().wait().unwrap().text().unwrap(), "hear");
}

/// The peer's process ends and starts anew on its port while a client sends.
#[test]
fn a_peer_that_is_started_again_gets_what_was_not_sent_yet() {
    on_both(40, |driver| {
        let Pair { engine, carrier, listener, peer } = pair(driver, |_| ());
        let address = kill(listener, peer);
        until_dormant(&carrier);
        let receipts: Vec<_> = (0..100_u32)
            .map(|at| carrier.send(at.to_be_bytes().to_vec()).wait().unwrap())
            .collect();
        std::thread::sleep(Duration::from_millis(200));
        let listener = TcpListener::bind(address).unwrap();
        let mut peer = accept(&listener);
        for at in 0..100_u32 {
            assert_eq!(read_frame(&mut peer).unwrap(), at.to_be_bytes());
        }
        for receipt in receipts {
            assert_eq!(receipt.sent().wait().unwrap(), Outcome::Sent);
        }
        end(engine);
    });
}

/// A process that ends in order has its connections ended, too; only what is sent to it after
/// that is refused.
#[test]
fn a_peer_that_ended_and_was_started_again_is_found_again() {
    on_both(40, |driver| {
        let Pair { engine, carrier, listener, peer } = pair(driver, |_| ());
        let address = listener.local_addr().unwrap();
        drop((listener, peer));
        let ended = carrier.receive().wait().unwrap_err();
        assert!(matches!(ended, Error::Closed(CloseReason::Finished)), "{ended:?}");
        // Nobody can know that it falls into the void; that is known when the next one is sent.
        carrier.send("lost").wait().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let listener = TcpListener::bind(address).unwrap();
        carrier.send("found").wait().unwrap();
        let mut peer = accept(&listener);
        assert_eq!(read_frame(&mut peer).unwrap(), b"found");
        wants_to_hear(&carrier, &mut peer);
        end(engine);
    });
}

#[test]
fn a_receive_that_waits_goes_on_waiting_over_a_revival() {
    on_both(30, |driver| {
        let Pair { engine, carrier, listener, mut peer } = pair(driver, |_| ());
        let (said, heard) = mpsc::channel();
        carrier.ready(move |message| said.send(message.bytes().to_vec()).unwrap()).unwrap();
        peer.write_all(&frame(b"before")).unwrap();
        assert_eq!(heard.recv_timeout(SOON).unwrap(), b"before");
        // Mid-message: nothing of it is delivered.
        peer.write_all(&frame(&pattern(100))[..50]).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        reset(peer);
        let mut peer = accept(&listener);
        peer.write_all(&frame(b"after")).unwrap();
        assert_eq!(heard.recv_timeout(SOON).unwrap(), b"after");
        // The same for a large one, which has a buffer of its own, and an end within a message.
        peer.write_all(&frame(&pattern(100_000))[..50_000]).unwrap();
        drop(peer);
        let mut peer = accept(&listener);
        peer.write_all(&frame(b"and again")).unwrap();
        assert_eq!(heard.recv_timeout(SOON).unwrap(), b"and again");
        carrier.activate().wait().unwrap();
        end(engine);
    });
}

/// A peer whose window is small, so that most of what is sent waits in the kernel.
fn narrow(driver: DriverChoice) -> Pair {
    let roomy = limits(|limits| {
        limits.send_queue_bytes = 8 << 20;
        limits.resend_bytes = 64 << 20;
    });
    let engine = one(driver).limits(roomy).start().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 8 << 10).unwrap();
    let carrier = engine.initiate_with(&address_of(&listener), frames());
    carrier.activate().wait().unwrap();
    let peer = accept(&listener);
    Pair { engine, carrier, listener, peer }
}

const MANY: u32 = 400;

fn numbered(at: u32) -> Vec<u8> {
    [&at.to_be_bytes()[..], &[7; 20_000]].concat()
}

/// Sends many messages to a peer that reads the first and then breaks off; what came on the next
/// connection, and what is known of each.
fn broken_off(
    pair: Pair,
    message: impl Fn(u32) -> Message<'static>,
) -> (Engine, Vec<u32>, Vec<Outcome>) {
    let Pair { engine, carrier, listener, mut peer } = pair;
    let receipts: Vec<_> = (0..MANY).map(|at| carrier.send(message(at)).wait().unwrap()).collect();
    let acks: Vec<_> = receipts.iter().map(postring::Receipt::acked).collect();
    assert_eq!(read_frame(&mut peer).unwrap(), numbered(0));
    until("the kernel has what it takes", || {
        let before = engine.metrics().total().sent_bytes;
        std::thread::sleep(Duration::from_millis(50));
        engine.metrics().total().sent_bytes == before && before > 100_000
    });
    reset(peer);
    carrier.send("the last").wait().unwrap();
    let mut peer = accept(&listener);
    let mut came = Vec::new();
    loop {
        let payload = read_frame(&mut peer).unwrap();
        if payload == b"the last" {
            break;
        }
        let at = u32::from_be_bytes(*payload.first_chunk().unwrap());
        assert!(payload == numbered(at), "message {at} is damaged");
        came.push(at);
    }
    (engine, came, acks.into_iter().map(|ack| ack.wait().unwrap()).collect())
}

#[test]
fn idempotent_messages_that_may_have_arrived_are_sent_again() {
    on_both(60, |driver| {
        let (engine, came, outcomes) =
            broken_off(narrow(driver), |at| Message::from(numbered(at)).idempotent());
        let first = came[0];
        assert!(came.iter().copied().eq(first..MANY), "not every one from {first}: {came:?}");
        assert!(first < MANY / 2, "most were in the kernel: {first}");
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Acked), "{outcomes:?}");
        end(engine);
    });
}

#[test]
fn other_messages_that_may_have_arrived_are_not_sent_again() {
    on_both(60, |driver| {
        let (engine, came, outcomes) = broken_off(narrow(driver), |at| numbered(at).into());
        let doubtful = outcomes.iter().filter(|outcome| **outcome == Outcome::MayHaveArrived);
        assert!(doubtful.count() > 1, "{outcomes:?}");
        for (at, outcome) in (0..MANY).zip(&outcomes) {
            match outcome {
                Outcome::MayHaveArrived => assert!(!came.contains(&at), "{at} went twice"),
                // By the first connection or by the second.
                Outcome::Acked => assert!(came.contains(&at) || at < came[0], "{at} vanished"),
                other => panic!("message {at}: {other:?}"),
            }
        }
        assert!(came.is_sorted() && came.windows(2).all(|two| two[0] < two[1]), "{came:?}");
        end(engine);
    });
}

/// The kernel took a part of a large message: the peer cannot have all of it, so it goes again.
#[test]
fn a_message_that_left_in_part_goes_again_from_its_beginning() {
    on_both(60, |driver| {
        let mut pair = narrow(driver);
        let large = pattern(30 << 20);
        let receipt = pair.carrier.send(large.clone()).wait().unwrap();
        std::io::Read::read_exact(&mut pair.peer, &mut [0; 100_000]).unwrap();
        reset(pair.peer);
        let mut peer = accept(&pair.listener);
        assert!(read_frame(&mut peer).unwrap() == large);
        assert_eq!(receipt.acked().wait().unwrap(), Outcome::Acked);
        end(pair.engine);
    });
}

#[test]
fn lifetimes_run_on_while_a_carrier_is_dormant() {
    on_both(30, |driver| {
        let Pair { engine, carrier, listener, peer } = pair(driver, |_| ());
        let address = kill(listener, peer);
        until_dormant(&carrier);
        let short = Message::from("too late").lifetime(Duration::from_millis(150));
        let long = Message::from("in time").lifetime(Duration::from_secs(60));
        let short = carrier.send(short).wait().unwrap();
        let long = carrier.send(long).wait().unwrap();
        let outcome = short.sent().wait().unwrap();
        assert_eq!(outcome, Outcome::Expired(Expiry::Deadline));
        let listener = TcpListener::bind(address).unwrap();
        let mut peer = accept(&listener);
        assert_eq!(read_frame(&mut peer).unwrap(), b"in time");
        assert_eq!(long.acked().wait().unwrap(), Outcome::Acked);
        end(engine);
    });
}

#[test]
fn the_time_for_tries_ends_and_says_of_every_message_what_became_of_it() {
    on_both(30, |driver| {
        let short = |timeouts: &mut Timeouts| timeouts.dormant = Duration::from_millis(500);
        let Pair { engine, carrier, listener, peer } = pair(driver, short);
        let (over, ended) = mpsc::channel();
        carrier.on_closed(move |reason| over.send(reason).unwrap()).unwrap();
        kill(listener, peer);
        until_dormant(&carrier);
        let started = Instant::now();
        let plain = carrier.send("plain").wait().unwrap();
        let nice = carrier.send(Message::from("nice").niceness(3)).wait().unwrap();
        let failed = Outcome::Failed(CloseReason::Reset);
        assert_eq!(nice.sent().wait().unwrap(), failed);
        assert_eq!(plain.sent().wait().unwrap(), failed);
        let receiving = carrier.receive().wait().unwrap_err();
        assert!(matches!(receiving, Error::Closed(CloseReason::Reset)), "{receiving:?}");
        assert_eq!(ended.recv_timeout(SOON).unwrap(), CloseReason::Reset);
        assert!(started.elapsed() >= Duration::from_millis(450), "{:?}", started.elapsed());
        assert_eq!(state(&carrier), CarrierState::Closed(CloseReason::Reset));
        let error = carrier.send("too late").wait().unwrap_err();
        assert!(matches!(error, Error::Closed(CloseReason::Reset)), "{error:?}");
        end(engine);
    });
}

/// A peer that takes every connection and breaks it off again is not tried for ever.
#[test]
fn connections_that_never_last_end_the_carrier_in_time() {
    on_both(30, |driver| {
        let short = |timeouts: &mut Timeouts| timeouts.dormant = Duration::from_secs(2);
        let Pair { engine, carrier, listener, peer } = pair(driver, short);
        reset(peer);
        let waiting: CarrierRef<_> = *carrier;
        let waiting = std::thread::spawn(move || waiting.receive().wait());
        let mut tries = 0;
        until("it gives up", || {
            if let Ok((peer, _)) = listener.accept() {
                tries += 1;
                reset(peer);
            }
            waiting.is_finished()
        });
        let error = waiting.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::Closed(CloseReason::Reset)), "{error:?}");
        assert!((2..30).contains(&tries), "{tries} tries");
        end(engine);
    });
}

#[test]
fn a_dormant_carrier_takes_messages_up_to_its_limit() {
    on_both(30, |driver| {
        let small = limits(|limits| limits.send_queue_bytes = 4096);
        let pair = pair_of(one(driver).limits(small).start().unwrap());
        let Pair { engine, carrier, listener, peer } = pair;
        let address = kill(listener, peer);
        until_dormant(&carrier);
        let mut taken = 0_u32;
        let back = loop {
            match carrier.try_send(numbered(taken)) {
                Ok(()) => taken += 1,
                Err(TrySendError::Full(back)) => break back,
                Err(TrySendError::Failed(error)) => panic!("{error}"),
            }
            assert!(taken < 1000, "the queue has no end");
            carrier.queued().wait().unwrap();
        };
        assert!(back.bytes() == numbered(taken));
        let waiting: CarrierRef<_> = *carrier;
        let waits = std::thread::spawn(move || waiting.send(back).wait());
        let listener = TcpListener::bind(address).unwrap();
        let mut peer = accept(&listener);
        for at in 0..=taken {
            assert!(read_frame(&mut peer).unwrap() == numbered(at), "message {at} of {taken}");
        }
        waits.join().unwrap().unwrap();
        end(engine);
    });
}

/// What expires makes room, although nothing leaves.
#[test]
fn who_waits_for_room_gets_that_of_messages_that_expire() {
    on_both(30, |driver| {
        let small = limits(|limits| limits.send_queue_bytes = 4096);
        let pair = pair_of(one(driver).limits(small).start().unwrap());
        let Pair { engine, carrier, listener, peer } = pair;
        let address = kill(listener, peer);
        until_dormant(&carrier);
        for _ in 0..2 {
            let short = Message::from(pattern(3000)).lifetime(Duration::from_millis(300));
            carrier.send(short).wait().unwrap();
        }
        let started = Instant::now();
        carrier.send("in their place").wait().unwrap();
        assert!(started.elapsed() >= Duration::from_millis(200), "{:?}", started.elapsed());
        let listener = TcpListener::bind(address).unwrap();
        assert_eq!(read_frame(&mut accept(&listener)).unwrap(), b"in their place");
        end(engine);
    });
}

#[test]
fn an_idle_timeout_is_no_end() {
    on_both(30, |driver| {
        let quick = |timeouts: &mut Timeouts| timeouts.idle = Duration::from_millis(200);
        let Pair { engine, carrier, listener, mut peer } = pair(driver, quick);
        until_dormant(&carrier);
        assert!(is_ended(&mut peer));
        carrier.send("awake").wait().unwrap();
        let mut peer = accept(&listener);
        assert_eq!(read_frame(&mut peer).unwrap(), b"awake");
        end(engine);
    });
}

#[test]
fn a_close_while_dormant_first_sends_what_was_given() {
    on_both(30, |driver| {
        let Pair { engine, carrier, listener, peer } = pair(driver, |_| ());
        let address = kill(listener, peer);
        until_dormant(&carrier);
        carrier.send("the last").wait().unwrap();
        let closing = carrier.close();
        assert_eq!(state(&carrier), CarrierState::Closing);
        let error = carrier.send("too late").wait().unwrap_err();
        assert!(matches!(error, Error::Closed(_)), "{error:?}");
        let listener = TcpListener::bind(address).unwrap();
        let mut peer = accept(&listener);
        assert_eq!(read_frame(&mut peer).unwrap(), b"the last");
        assert!(is_ended(&mut peer));
        drop(peer);
        closing.wait().unwrap();
        assert_eq!(state(&carrier), CarrierState::Closed(CloseReason::Local));
        end(engine);
    });
}

#[test]
fn a_dormant_carrier_without_work_closes_and_aborts_at_once() {
    on_both(30, |driver| {
        let Pair { engine, carrier, listener, peer } = pair(driver, |_| ());
        kill(listener, peer);
        until_dormant(&carrier);
        carrier.close().wait().unwrap();
        assert_eq!(state(&carrier), CarrierState::Closed(CloseReason::Local));

        let Pair { carrier, listener, peer, engine } = pair_of(engine);
        kill(listener, peer);
        until_dormant(&carrier);
        let receipt = carrier.send("never").wait().unwrap();
        carrier.abort();
        let aborted = CloseReason::Aborted;
        until("it is aborted", || state(&carrier) == CarrierState::Closed(aborted));
        assert_eq!(receipt.sent().wait().unwrap(), Outcome::Failed(aborted));

        let Pair { carrier, listener, peer, engine } = pair_of(engine);
        kill(listener, peer);
        until_dormant(&carrier);
        drop(carrier);
        until("its slot is free", || engine.metrics().total().open_connections <= 2);
        end(engine);
    });
}

#[test]
fn an_engine_ends_with_dormant_carriers() {
    on_both(30, |driver| {
        let Pair { engine, carrier, listener, peer } = pair(driver, |_| ());
        kill(listener, peer);
        until_dormant(&carrier);
        let receipt = carrier.send("never").wait().unwrap();
        let sent = receipt.sent();
        end(engine);
        let outcome = sent.wait().unwrap();
        assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    });
}
