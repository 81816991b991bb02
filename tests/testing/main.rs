//! Simulated worlds as users have them: handlers under test, time, faults, limits and seeds.
//!
//! Below: the crate's public face with the feature `testing`. Absent: sockets, threads, real
//! waiting; what the simulated links promise by themselves stands beside their code.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a skipped test says why")]

mod datagrams;
mod network;
mod worlds;

use std::time::{Duration, Instant};

use postring::testing::World;
use postring::{CarrierState, Error, LengthPrefixed, Message, Timeouts};

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
    assert_eq!(state, CarrierState::Dormant, "it connects again when there is something to do");
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
