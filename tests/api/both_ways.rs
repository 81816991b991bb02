//! Both ways at once: two peers that send each other more than queues hold, each with a task that
//! sends and one that receives.

use std::sync::mpsc;
use std::time::Duration;

use postring::{CarrierRef, Engine, LengthPrefixed, Message};

use crate::support::*;

const MESSAGES: usize = 5_000;
const LEN: usize = 1000;
const QUEUE: usize = 256 << 10;
const QUIET: Duration = Duration::from_millis(100);

/// Sends all, and says when it has.
fn send_all(engine: &Engine, carrier: CarrierRef<LengthPrefixed>, done: mpsc::Sender<()>) {
    let send_all = move || async move {
        for at in 0..MESSAGES {
            let message = Message::new(vec![at as u8; LEN]);
            carrier.send(message.niceness(1)).await.unwrap();
        }
        done.send(()).unwrap();
    };
    engine.spawn_on(0, send_all).unwrap();
}

/// Receives all, and says when it has.
fn receive_all(engine: &Engine, carrier: CarrierRef<LengthPrefixed>, done: mpsc::Sender<()>) {
    let receive_all = move || async move {
        for at in 0..MESSAGES {
            let message = carrier.receive().await.unwrap();
            assert!(message.len() == LEN && message.bytes().iter().all(|byte| *byte == at as u8));
        }
        done.send(()).unwrap();
    };
    engine.spawn_on(0, receive_all).unwrap();
}

#[test]
fn whoever_waits_for_a_message_gets_it_though_its_own_queue_is_full() {
    on_both(60, |driver| {
        // Of a unix socket the kernel holds little.
        let place = format!("unix://@postring-both-ways-{}-{driver:?}", std::process::id());
        let listener = one(driver).listen_with(&place, frames()).unwrap();
        let engine = one(driver).start().unwrap();
        let here = engine.initiate_with(&listener.local_addresses().remove(0), frames());
        here.activate().wait().unwrap();
        let there = listener.accept().wait().unwrap();
        let (done, all_done) = mpsc::channel();
        let far = listener.engine().unwrap();
        send_all(&engine, *here, done.clone());
        send_all(far, *there, done.clone());
        // Neither kernel nor queue takes more.
        let stuck = |carrier: &CarrierRef<LengthPrefixed>| {
            let queued = carrier.queued().wait().unwrap();
            queued > QUEUE / 2 && !becomes(QUIET, || carrier.queued().wait().unwrap() != queued)
        };
        until("both are stuck", || stuck(&here) && stuck(&there));
        receive_all(&engine, *here, done.clone());
        receive_all(far, *there, done);
        for _ in 0..4 {
            all_done.recv_timeout(SOON).expect("the two wait for each other");
        }
        drop((here, there));
        end(engine);
    });
}
