//! Simulated worlds as users have them: handlers under test, time, faults, limits and seeds.
//!
//! Below: the crate's public face with the feature `testing`. Absent: sockets, threads, real
//! waiting; what the simulated links promise by themselves stands beside their code.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a skipped test says why")]

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use postring::testing::{Network, World};
use postring::{
    CarrierState, CloseReason, Error, LengthPrefixed, Limits, Message, Timeouts, TrySendError,
    Unframed,
};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
/// The clock of timeouts has steps of 1 ms and is never early.
const STEP: Duration = Duration::from_millis(2);
const ECHO: &str = "memory://echo";

fn frames() -> LengthPrefixed {
    LengthPrefixed::default()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A world with an echo Responder.
fn echoing(world: World) -> World {
    world.respond_with(ECHO, frames(), |message, reply| reply.send(message)).unwrap();
    world
}

#[test]
fn a_handler_is_tested_in_five_lines() -> postring::Result<()> {
    let world = World::new(1);
    world.respond_with(ECHO, frames(), |message, reply| reply.send(message))?;
    let carrier = world.initiate_with(ECHO, frames());
    world.run_until(carrier.send("hi"))?;
    assert_eq!(world.run_until(carrier.receive())?.text(), Ok("hi"));
    assert_eq!(world.now(), Duration::ZERO, "no time was needed");
    world.run_until(carrier.close())
}

#[test]
fn a_handler_with_state_meets_many_carriers() {
    let world = World::new(2);
    let factory = || {
        let mut seen = 0_u32;
        move |_: Message<'_>, reply: postring::Reply<'_, LengthPrefixed>| {
            seen += 1;
            reply.send(seen.to_string())
        }
    };
    world.respond_per_core("memory://count", frames(), factory).unwrap();
    let carriers: Vec<_> =
        (0..20).map(|_| world.initiate_with("memory://count", frames())).collect();
    let mut counts = Vec::new();
    for carrier in &carriers {
        world.run_until(carrier.send("next")).unwrap();
        let count = world.run_until(carrier.receive()).unwrap();
        counts.push(count.text().unwrap().parse::<u32>().unwrap());
    }
    assert_eq!(counts, (1..=20).collect::<Vec<_>>());
}

#[test]
fn timeouts_pass_by_advancing() {
    let started = Instant::now();
    let world = echoing(World::new(3));
    let carrier = world.initiate_with(ECHO, frames());
    world.run_until(carrier.send("hi")).unwrap();
    world.run_until(carrier.receive()).unwrap();
    let idle = Timeouts::default().idle;
    world.advance(idle - ms(1));
    assert_eq!(world.run_until(carrier.state()).unwrap(), CarrierState::Active);
    world.advance(ms(1) + STEP);
    let state = world.run_until(carrier.state()).unwrap();
    assert!(matches!(state, CarrierState::Closed(_)), "{state:?}");
    assert_eq!(world.metrics().total().idle_timeouts, 2, "both ends are in this world");
    assert_eq!(world.now(), idle + STEP);
    assert!(started.elapsed() < 5 * SECOND, "ten minutes of simulated time take no real ones");
}

#[test]
fn a_century_passes_at_once() {
    let world = echoing(World::new(3));
    let carrier = world.initiate_with(ECHO, frames());
    world.run_until(carrier.activate()).unwrap();
    world.advance(Duration::MAX);
    assert_eq!(world.now(), Duration::from_secs(100 * 365 * 86_400));
    world.advance(Duration::MAX);
    assert!(matches!(world.run_until(carrier.send("late")), Err(Error::Closed(_))));
}

#[test]
fn handlers_and_tests_sleep_in_simulated_time() {
    let world = World::new(4);
    world
        .respond_async("memory://slow", frames(), async |message, carrier| {
            postring::sleep(ms(1500)).await;
            carrier.send(message).await
        })
        .unwrap();
    let carrier = world.initiate_with("memory://slow", frames());
    let waited = world.run_until(async {
        carrier.send("wake me").await?;
        postring::sleep(ms(500)).await;
        carrier.receive().await
    });
    assert_eq!(waited.unwrap().text(), Ok("wake me"));
    assert_eq!(world.now(), ms(1500));
    postring::spawn(async { postring::sleep(SECOND).await }).unwrap();
    world.advance(SECOND);
    assert_eq!(world.now(), ms(2500));
}

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
    let world = World::new(9);
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
    let mut taken = 0;
    loop {
        match carrier.try_send(vec![b'x'; 1000]) {
            Ok(()) => taken += 1,
            Err(TrySendError::Full(message)) => {
                assert_eq!(message.len(), 1000, "the message comes back");
                // What the sockets take makes room in the queue.
                world.advance(ms(1));
                if world.run_until(carrier.queued()).unwrap() >= 20_000 {
                    break;
                }
            }
            Err(TrySendError::Failed(error)) => panic!("{error}"),
        }
        assert!(taken < 200, "nothing holds the sender back");
    }
    let held = taken;
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

#[test]
fn worlds_of_one_thread_do_not_meet() {
    let (one, two) = (echoing(World::new(13)), echoing(World::new(14)));
    let mine = one.initiate_with(ECHO, frames());
    let yours = two.initiate_with(ECHO, frames());
    two.advance(SECOND);
    one.run_until(mine.send("mine")).unwrap();
    two.run_until(yours.send("yours")).unwrap();
    assert_eq!(one.run_until(mine.receive()).unwrap().text(), Ok("mine"));
    assert_eq!(two.run_until(yours.receive()).unwrap().text(), Ok("yours"));
    assert_eq!((one.now(), two.now()), (Duration::ZERO, SECOND));
    drop(two);
    assert!(matches!(one.run_until(yours.send("gone")), Err(Error::EngineEnded)));
    one.run_until(mine.send("still here")).unwrap();
    one.run_until(mine.receive()).unwrap();
}

#[test]
fn what_cannot_be_is_said() {
    let world = echoing(World::new(15));
    let taken = world.respond_with(ECHO, frames(), |_, _| ()).unwrap_err().to_string();
    assert!(taken.contains("listener there already"), "{taken}");
    let wrong = world.respond_with("tcp://[::]:7000", frames(), |_, _| ()).unwrap_err();
    assert!(wrong.to_string().contains("write memory://NAME"), "{wrong}");
    let tcp = world.initiate_with("tcp://localhost:7000", frames());
    let wrong = world.run_until(tcp.send("hi")).unwrap_err();
    assert!(wrong.to_string().contains("write memory://NAME"), "{wrong}");
    let nobody = world.initiate_with("memory://nobody", frames());
    let refused = world.run_until(nobody.activate()).unwrap_err();
    assert!(refused.to_string().contains("memory://nobody"), "{refused}");
    let network = Network { loss: 1.5, ..Network::default() };
    assert!(world.set_network(network).unwrap_err().to_string().contains("loss"));
    assert!(World::builder(1).cores(0).build().unwrap_err().to_string().contains("1 to 64"));
    let engine = postring::Engine::builder().unpinned(1).start().unwrap_err().to_string();
    assert!(engine.contains("testing::World"), "{engine}");
    let carrier = world.initiate_with(ECHO, frames());
    assert!(matches!(carrier.send("x").wait(), Err(Error::WaitOnCore)), "nobody would answer");
}

#[test]
fn real_engines_refuse_memory() {
    let builder = postring::Engine::builder().unpinned(1);
    let listened = builder.respond_with(ECHO, frames(), |_, _| ()).start();
    let why = listened.unwrap_err().to_string();
    assert!(why.contains("testing::World only"), "{why}");
    let carrier = postring::initiate_with(ECHO, frames());
    match carrier.send("hi").wait() {
        Err(Error::Address { why, .. }) => assert!(why.contains("testing::World only"), "{why}"),
        // Where no engine can run there is none to refuse.
        other => assert!(matches!(other, Err(Error::EngineEnded)), "{other:?}"),
    }
}

fn panic_text(act: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(act)).expect_err("it must panic");
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn a_future_that_can_never_be_ready_is_a_failure_with_the_seed() {
    let world = World::new(4711);
    let text = panic_text(|| world.run_until(std::future::pending()));
    assert!(text.contains("can never be ready") && text.contains("4711"), "{text}");
    let world = echoing(World::builder(17).patience(SECOND).build().unwrap());
    let carrier = world.initiate_with(ECHO, frames());
    world.run_until(carrier.activate()).unwrap();
    let text = panic_text(|| drop(world.run_until(carrier.receive())));
    assert!(text.contains("not ready after 1s") && text.contains("17"), "{text}");
}

#[test]
fn a_task_without_rest_does_not_hang_the_test() {
    let world = World::new(18);
    let late = world.run_until(async {
        // Whoever yields until it is late gets there.
        let begun = world.now();
        while world.now() < begun + ms(5) {
            postring::yield_now().await;
        }
        world.now() - begun
    });
    assert_eq!(late, ms(5));
    let text = panic_text(|| {
        world.run_until(async {
            loop {
                postring::yield_now().await;
            }
        });
    });
    assert!(text.contains("never rests"), "{text}");
}

#[test]
fn a_handler_that_panics_ends_its_carrier_alone() {
    let world = World::new(19);
    world
        .respond_with(ECHO, frames(), |message: Message<'_>, reply| {
            assert_ne!(message.text(), Ok("bad"), "on purpose");
            reply.send(message)
        })
        .unwrap();
    let (bad, good) = (world.initiate_with(ECHO, frames()), world.initiate_with(ECHO, frames()));
    world.run_until(bad.send("bad")).unwrap();
    assert!(world.run_until(bad.receive()).is_err());
    assert_eq!(world.metrics().total().panics, 1);
    world.run_until(good.send("good")).unwrap();
    world.run_until(good.receive()).unwrap();
}

#[test]
fn a_handler_cannot_turn_its_own_world() {
    let world = Rc::new(World::new(20));
    let inside = Rc::downgrade(&world);
    let handler = move |_: Message<'_>, _: postring::Reply<'_, LengthPrefixed>| {
        inside.upgrade().unwrap().advance(SECOND);
    };
    world.respond_with(ECHO, frames(), handler).unwrap();
    let carrier = world.initiate_with(ECHO, frames());
    world.run_until(carrier.send("hi")).unwrap();
    assert!(world.run_until(carrier.receive()).is_err());
    assert_eq!(world.metrics().total().panics, 1, "the handler panicked, the world lives on");
    world.advance(SECOND);
}

#[test]
fn cores_share_connections() {
    let world = echoing(World::builder(21).cores(3).build().unwrap());
    let carriers: Vec<_> = (0..30).map(|_| world.initiate_with(ECHO, frames())).collect();
    for carrier in &carriers {
        world.run_until(carrier.send("hi")).unwrap();
        world.run_until(carrier.receive()).unwrap();
    }
    let metrics = world.metrics();
    let received: Vec<u64> = metrics.cores.iter().map(|core| core.received_messages).collect();
    assert!(received.iter().all(|&messages| messages > 0), "{received:?}");
}

#[test]
fn a_limit_on_connections_holds() {
    let mut limits = Limits::default();
    limits.connections = 4;
    let world = echoing(World::builder(22).limits(limits).build().unwrap());
    let carriers: Vec<_> = (0..5).map(|_| world.initiate_with(ECHO, frames())).collect();
    let mut ended = 0;
    for carrier in &carriers {
        let echoed = world.run_until(async {
            carrier.send("hi").await?;
            carrier.receive().await
        });
        ended += usize::from(echoed.is_err());
    }
    assert!(ended >= 3, "each connection has two ends on the one core: {ended} ended");
    assert!(world.metrics().total().refused_limit > 0);
}

#[test]
fn offloaded_work_is_done_at_once() {
    let world = World::new(23);
    let here = std::thread::current().id();
    let there = world.run_until(postring::offload(|| std::thread::current().id())).unwrap();
    assert_eq!(here, there);
}

#[test]
fn carriers_outlive_their_world() {
    let world = echoing(World::new(24));
    let carrier = world.initiate_with(ECHO, frames());
    world.run_until(carrier.send("hi")).unwrap();
    let closed = Rc::new(RefCell::new(None));
    let (said, hears) = std::sync::mpsc::channel();
    carrier.on_closed(move |reason| said.send(reason).unwrap()).unwrap();
    drop(world);
    closed.borrow_mut().replace(hears.try_recv().unwrap());
    assert_eq!(*closed.borrow(), Some(CloseReason::Shutdown));
    assert!(matches!(carrier.send("late").wait(), Err(Error::EngineEnded)));
}

/// Panics with a world in hand if it was asked to, in a process of its own.
#[test]
fn the_one_that_fails() {
    if std::env::var_os("POSTRING_TEST_FAILS").is_some() {
        let world = World::new(123_456);
        world.advance(SECOND);
        panic!("on purpose");
    }
}

#[test]
fn a_failing_test_says_its_seed() {
    let this = std::env::current_exe().unwrap();
    let mut failing = std::process::Command::new(this);
    failing.args(["--exact", "the_one_that_fails"]).env("POSTRING_TEST_FAILS", "1");
    let output = failing.output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(told.contains("seed 123456 and was 1s old"), "{told}");
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
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]
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
