//! Cancelling: a receive that loses a race against a timer loses, doubles and reorders no Message.
//!
//! 100 000 races each by default; `POSTRING_RACES` sets another number.

use std::future::Future;
use std::io::Write;
use std::sync::mpsc;
use std::time::Duration;

use postring::{Carrier, Engine, LengthPrefixed};

use crate::support::*;

fn races() -> u32 {
    std::env::var("POSTRING_RACES").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

/// Time enough for them, with room to spare.
fn seconds() -> u64 {
    30 + u64::from(races()) / 10_000
}

/// A Carrier of the engine to a foreign peer that sends numbers for as long as they are wanted.
fn counting_peer(engine: &Engine) -> Carrier<LengthPrefixed> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for number in 0_u32.. {
            if stream.write_all(&frame(&number.to_be_bytes())).is_err() {
                return;
            }
            if number.is_multiple_of(16) {
                // So that receives have to wait now and then.
                std::thread::yield_now();
            }
        }
    });
    let carrier = engine.initiate_with(&address, frames());
    carrier.activate().wait().unwrap();
    carrier
}

/// Races receives against `timer`; the numbers must come in order, each once.
async fn race<T: Future<Output = ()>>(
    carrier: &Carrier<LengthPrefixed>,
    timer: impl Fn(u32) -> T,
) -> (u32, u32) {
    let (mut next, mut lost) = (0_u32, 0_u32);
    for at in 0..races() {
        tokio::select! {
            biased;
            () = timer(at) => lost += 1,
            message = carrier.receive() => {
                assert_eq!(message.unwrap().bytes(), next.to_be_bytes(), "race {at}");
                next += 1;
            }
        }
    }
    for _ in 0..100 {
        assert_eq!(carrier.receive().await.unwrap().bytes(), next.to_be_bytes());
        next += 1;
    }
    (next, lost)
}

/// Over after as many polls as `at` says: at once, at the next poll, or the one after.
async fn some_polls(at: u32) {
    for _ in 0..at % 3 {
        postring::yield_now().await;
    }
}

#[test]
fn receives_that_lose_a_race_on_their_core_lose_no_message() {
    on_both(seconds(), |driver| {
        let engine = one(driver).start().unwrap();
        let carrier = counting_peer(&engine);
        let (over, ended) = mpsc::channel();
        let task = move || async move {
            let raced = race(&carrier, some_polls).await;
            over.send(raced).unwrap();
        };
        engine.spawn_on(0, task).unwrap();
        let (won, lost) = ended.recv().unwrap();
        assert!(won > races() / 100 && lost > races() / 100, "{won} won, {lost} lost");
        end(engine);
    });
}

#[test]
fn receives_that_lose_a_race_in_tokio_lose_no_message() {
    on_both(seconds(), |driver| {
        let engine = one(driver).start().unwrap();
        let carrier = counting_peer(&engine);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let timer = |at: u32| async move {
            for _ in 0..at % 4 {
                tokio::task::yield_now().await;
            }
            if at.is_multiple_of(64) {
                tokio::time::sleep(Duration::from_micros(50)).await;
            }
        };
        let (won, lost) = runtime.block_on(race(&carrier, timer));
        assert!(won > 100 && lost > races() / 100, "{won} won, {lost} lost");
        drop(carrier);
        end(engine);
    });
}
