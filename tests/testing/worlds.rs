//! Worlds themselves: what they refuse, how they fail, and that they do not meet.
//!
//! Below: as `main`. Absent: networks.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use postring::testing::{Network, World};
use postring::{CloseReason, Error, LengthPrefixed, Limits, Message};

use super::{ECHO, SECOND, echoing, frames, ms};

/// Where worlds work and engines do not.
const NO_ENGINE: &str = "only Linux has a driver";

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
    assert!(engine.contains("testing::World") || engine.contains(NO_ENGINE), "{engine}");
    let carrier = world.initiate_with(ECHO, frames());
    assert!(matches!(carrier.send("x").wait(), Err(Error::WaitOnCore)), "nobody would answer");
}

#[test]
fn real_engines_refuse_memory() {
    let builder = postring::Engine::builder().unpinned(1);
    let listened = builder.respond_with(ECHO, frames(), |_, _| ()).start();
    let why = listened.unwrap_err().to_string();
    if why.contains(NO_ENGINE) {
        return println!("SKIP: {why}");
    }
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
    failing.args(["--exact", "worlds::the_one_that_fails"]).env("POSTRING_TEST_FAILS", "1");
    let output = failing.output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(told.contains("seed 123456 and was 1s old"), "{told}");
}
