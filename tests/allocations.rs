//! No allocation per Message on the Responder path, counted by an allocator of a crate.
//!
//! Alone in its binary: the count is the whole process's. The peer allocates nothing either.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "a skipped test says why")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;

use postring::{DriverChoice, Engine, LengthPrefixed};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MESSAGES: usize = 100_000;
/// Sent together, so that a turn has several messages.
const DEPTH: usize = 10;

fn round(peer: &mut TcpStream, bytes: &[u8], answer: &mut [u8], messages: usize) {
    for _ in 0..messages / DEPTH {
        peer.write_all(bytes).unwrap();
        peer.read_exact(answer).unwrap();
        assert!(answer == bytes);
    }
}

#[test]
fn a_responder_allocates_nothing_per_message() {
    for driver in [DriverChoice::Uring, DriverChoice::Epoll] {
        let place = "tcp://127.0.0.1:0";
        let engine = Engine::builder()
            .driver(driver)
            .unpinned(1)
            .respond_with(place, LengthPrefixed::default(), |message, reply| reply.send(message))
            .start();
        let engine = match engine {
            Ok(engine) => engine,
            Err(error) => {
                println!("SKIP: {error}");
                continue;
            }
        };
        let mut one = [7; 68];
        one[..4].copy_from_slice(&64_u32.to_be_bytes());
        let bytes = one.repeat(DEPTH);
        let mut answer = vec![0; bytes.len()];
        let address = engine.local_addresses().remove(0);
        let mut peer = TcpStream::connect(address.strip_prefix("tcp://").unwrap()).unwrap();
        round(&mut peer, &bytes, &mut answer, 1000);
        let region = Region::new(ALLOCATOR);
        round(&mut peer, &bytes, &mut answer, MESSAGES);
        let change = region.change();
        println!("{driver:?}: {change:?}");
        // A few for the whole run may come of tables that grow; one per message would be 100 000.
        let count = change.allocations + change.reallocations;
        assert!(count <= 16, "{count} allocations for {MESSAGES} messages on {driver:?}");
        drop(peer);
        engine.shutdown();
        engine.wait().unwrap();
    }
}
