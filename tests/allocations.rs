//! No allocation per Message on the Responder path, of streams and of datagrams, counted by an
//! allocator of a crate; and nothing kept of those who sent datagrams.
//!
//! Alone in its binary: the count is the whole process's. The peer allocates nothing either.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "a skipped test says why")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::System;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use postring::{DriverChoice, Engine, EngineBuilder, LengthPrefixed, Unframed};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The count is the whole process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

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
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for driver in [DriverChoice::Uring, DriverChoice::Epoll] {
        let place = "tcp://127.0.0.1:0";
        let frames = LengthPrefixed::default();
        let builder = Engine::builder().driver(driver).unpinned(1);
        let builder = builder.respond_with(place, frames, |message, reply| reply.send(message));
        let Some(engine) = started(builder) else { continue };
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

/// The engine, if this machine has its driver.
fn started(builder: EngineBuilder) -> Option<Engine> {
    let engine = builder.start();
    engine.inspect_err(|error| println!("SKIP: {error}")).ok()
}

/// Receives into `answer`; a wait with a time limit is not begun again by the kernel.
fn receive(peer: &UdpSocket, answer: &mut [u8]) -> usize {
    loop {
        match peer.recv(answer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other.unwrap(),
        }
    }
}

fn datagrams(peer: &UdpSocket, count: usize) {
    let mut answer = [0; 200];
    for window in 0..count / DEPTH {
        let bytes = [window as u8; 100];
        for _ in 0..DEPTH {
            peer.send(&bytes).unwrap();
        }
        for _ in 0..DEPTH {
            let len = receive(peer, &mut answer);
            assert!(answer[..len] == bytes);
        }
    }
}

#[test]
fn a_responder_allocates_nothing_per_datagram() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for driver in [DriverChoice::Uring, DriverChoice::Epoll] {
        let builder = Engine::builder().driver(driver).unpinned(1);
        let place = "udp://127.0.0.1:0";
        let builder = builder.respond_with(place, Unframed, |message, reply| reply.send(message));
        let Some(engine) = started(builder) else { continue };
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let address = engine.local_addresses().remove(0);
        peer.connect(address.strip_prefix("udp://").unwrap()).unwrap();
        datagrams(&peer, 1000);
        let region = Region::new(ALLOCATOR);
        datagrams(&peer, MESSAGES);
        let change = region.change();
        println!("{driver:?}: {change:?}");
        let count = change.allocations + change.reallocations;
        assert!(count <= 16, "{count} allocations for {MESSAGES} datagrams on {driver:?}");
        engine.shutdown();
        engine.wait().unwrap();
    }
}

/// Bytes of this process that lie in memory.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// `POSTRING_REMOTES` asks for more of them than CI has time for.
#[test]
fn a_responder_keeps_nothing_of_those_who_sent_datagrams() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let asked = std::env::var("POSTRING_REMOTES").ok();
    let remotes: u32 = asked.map_or(20_000, |count| count.parse().unwrap());
    for driver in [DriverChoice::Uring, DriverChoice::Epoll] {
        let before = resident_bytes();
        let builder = Engine::builder().driver(driver).unpinned(1);
        let place = "udp://127.0.0.1:0";
        let builder = builder.respond_with(place, Unframed, |message, reply| reply.send(message));
        let Some(engine) = started(builder) else { continue };
        let address = engine.local_addresses().remove(0);
        let place = address.strip_prefix("udp://").unwrap();
        let ask = |number: u32| {
            let [_, high, middle, low] = (number + 1).to_be_bytes();
            let peer = UdpSocket::bind((Ipv4Addr::new(127, high, middle, low), 0)).unwrap();
            peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            peer.send_to(b"from another address each", place).unwrap();
            assert_eq!(receive(&peer, &mut [0; 100]), 25);
        };
        (0..1000).for_each(ask);
        let region = Region::new(ALLOCATOR);
        (0..remotes).for_each(ask);
        let change = region.change();
        let kept = change.bytes_allocated.saturating_sub(change.bytes_deallocated);
        let resident = resident_bytes().saturating_sub(before);
        println!("{driver:?}: {kept} bytes kept of {remotes} remotes, {resident} resident");
        assert!(kept <= 64 << 10, "{kept} bytes kept of {remotes} remotes on {driver:?}");
        assert!(resident <= 8 << 20, "{resident} bytes resident on {driver:?}");
        assert_eq!(engine.metrics().total().open_connections, 0);
        engine.shutdown();
        engine.wait().unwrap();
    }
}
