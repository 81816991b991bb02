//! The end of an engine: in order, at once, by a signal, and with a successor.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use postring::{CarrierRef, DriverChoice, Engine, LengthPrefixed, Message};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::*;

#[test]
fn a_shutdown_ends_idle_connections_and_refuses_new_ones() {
    on_both(30, |driver| {
        let engine = echo_of(threads(driver, 2));
        let place = place(&engine);
        let mut peers: Vec<_> = (0..20).map(|_| connect(&engine)).collect();
        peers.iter_mut().for_each(|peer| wants_back(peer, b"here"));
        engine.shutdown();
        assert!(peers.iter_mut().all(is_ended));
        drop(peers);
        engine.wait().unwrap();
        // A test beside this one that starts a process lends it the descriptors for a moment.
        until("nobody listens", || TcpStream::connect(&place).is_err());
    });
}

#[test]
fn what_was_received_before_a_shutdown_is_answered() {
    on_both(30, |driver| {
        for round in 0..20 {
            let engine = echo(driver);
            let mut peers: Vec<_> = (0..10).map(|_| connect(&engine)).collect();
            peers.iter_mut().for_each(|peer| wants_back(peer, b"here"));
            let bytes = [frame(&pattern(3000)), frame(b"last")].concat();
            peers.iter_mut().for_each(|peer| peer.write_all(&bytes).unwrap());
            engine.shutdown();
            for peer in &mut peers {
                let answer = read_frame(peer);
                assert!(answer.is_ok_and(|answer| answer == pattern(3000)), "round {round}");
                assert_eq!(read_frame(peer).unwrap(), b"last");
                assert!(is_ended(peer));
            }
            drop(peers);
            engine.wait().unwrap();
        }
    });
}

/// A connection that was accepted just before the end still gets its first answer.
#[test]
fn a_fresh_connection_is_served_in_a_shutdown() {
    on_both(30, |driver| {
        let engine = echo(driver);
        let mut fresh = connect(&engine);
        until("it is accepted", || engine.metrics().total().open_connections == 1);
        engine.shutdown();
        std::thread::sleep(Duration::from_millis(50));
        wants_back(&mut fresh, b"first and last");
        assert!(is_ended(&mut fresh));
        drop(fresh);
        engine.wait().unwrap();
    });
}

#[test]
fn an_async_handler_under_way_answers_before_the_end() {
    on_both(30, |driver| {
        static BEGUN: AtomicBool = AtomicBool::new(false);
        BEGUN.store(false, Ordering::SeqCst);
        let engine = one(driver)
            .respond_async(
                "tcp://127.0.0.1:0",
                frames(),
                async |message: Message<'static>, carrier: CarrierRef<_>| {
                    BEGUN.store(true, Ordering::SeqCst);
                    postring::sleep(Duration::from_millis(300)).await;
                    carrier.send(message).await
                },
            )
            .start()
            .unwrap();
        let mut peer = connect(&engine);
        peer.write_all(&frame(b"slowly")).unwrap();
        until("it has begun", || BEGUN.load(Ordering::SeqCst));
        engine.shutdown();
        assert_eq!(read_frame(&mut peer).unwrap(), b"slowly");
        assert!(is_ended(&mut peer));
        drop(peer);
        engine.wait().unwrap();
    });
}

/// A server whose one peer will not let it end.
fn busy(driver: DriverChoice, drain: Duration) -> (Engine, TcpStream) {
    let engine = one(driver)
        .timeouts(timeouts(|timeouts| timeouts.drain = drain))
        .respond_async("tcp://127.0.0.1:0", frames(), async |_, _: CarrierRef<LengthPrefixed>| {
            postring::sleep(Duration::from_secs(3600)).await;
        })
        .start()
        .unwrap();
    let mut peer = connect(&engine);
    peer.write_all(&frame(b"keeps it busy")).unwrap();
    until("it is busy", || engine.metrics().total().received_messages == 1);
    (engine, peer)
}

#[test]
fn what_does_not_end_in_time_is_aborted() {
    on_both(30, |driver| {
        let (engine, mut peer) = busy(driver, Duration::from_millis(300));
        let started = Instant::now();
        engine.shutdown();
        engine.wait().unwrap();
        assert!(started.elapsed() >= Duration::from_millis(290));
        assert!(is_ended(&mut peer));
    });
}

#[test]
fn a_second_shutdown_ends_at_once_and_a_dropped_engine_does_not() {
    on_both(30, |driver| {
        let (engine, mut peer) = busy(driver, Duration::from_secs(3600));
        engine.shutdown();
        engine.shutdown();
        engine.wait().unwrap();
        assert!(is_ended(&mut peer));

        let (engine, mut peer) = busy(driver, Duration::from_millis(700));
        engine.shutdown();
        drop(engine);
        peer.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let waits = peer.read(&mut [0; 8]).unwrap_err();
        assert_eq!(waits.kind(), std::io::ErrorKind::WouldBlock);
        peer.set_read_timeout(Some(SOON)).unwrap();
        assert!(is_ended(&mut peer));
    });
}

const SIGNALS: &str = "shutdown::sigterm_ends_it_in_order_and_a_second_one_at_once";

async fn answer_or_sleep(message: Message<'static>, carrier: CarrierRef<LengthPrefixed>) {
    if message.bytes() == b"sleep" {
        postring::sleep(Duration::from_secs(3600)).await;
    }
    carrier.send(message).await.unwrap();
}

/// A child that serves and says where.
struct Server {
    child: Child,
    place: String,
    /// What it said later on.
    said: Arc<Mutex<String>>,
}

impl Server {
    fn start(mut command: Command) -> Self {
        Self::started(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    fn started(mut child: Child) -> Self {
        let stdout = child.stdout.take().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stdout));
        let place = lines.find_map(|line| {
            line.ok()?.split_once("serving tcp://").map(|(_, place)| place.to_owned())
        });
        let said = Arc::new(Mutex::new(String::new()));
        let rest = Arc::clone(&said);
        std::thread::spawn(move || {
            lines.for_each(|line| rest.lock().unwrap().push_str(&line.unwrap_or_default()));
        });
        Self { child, place: place.expect("the child says where it serves"), said }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn wants_success(&mut self) {
        let mut status = None;
        until("the child ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.is_some_and(|status| status.success()), "{status:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn driver_of(part: &str) -> DriverChoice {
    if part.contains("Uring") { DriverChoice::Uring } else { DriverChoice::Epoll }
}

#[test]
fn sigterm_ends_it_in_order_and_a_second_one_at_once() {
    if let Some(part) = child_part(SIGNALS) {
        let drain = timeouts(|timeouts| timeouts.drain = Duration::from_secs(3600));
        let builder = one(driver_of(&part)).signals(true).timeouts(drain);
        let engine = builder.respond_async("tcp://127.0.0.1:0", frames(), answer_or_sleep);
        let engine = engine.start().unwrap();
        println!("serving {}", engine.local_addresses()[0]);
        return engine.wait().unwrap();
    }
    on_both(30, |driver| {
        let part = format!("{driver:?}");
        let mut server = Server::start(child(SIGNALS, &part));
        let mut peer = connect_to(&server.place);
        wants_back(&mut peer, b"here");
        server.signal(Signal::TERM);
        assert!(is_ended(&mut peer));
        drop(peer);
        server.wants_success();

        let mut server = Server::start(child(SIGNALS, &part));
        let mut stays = connect_to(&server.place);
        wants_back(&mut stays, b"here");
        stays.write_all(&frame(b"sleep")).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        server.signal(Signal::TERM);
        until("nobody listens", || TcpStream::connect(&server.place).is_err());
        std::thread::sleep(Duration::from_millis(100));
        assert!(server.child.try_wait().unwrap().is_none());
        server.signal(Signal::TERM);
        server.wants_success();
        assert!(is_ended(&mut stays));
    });
}

const SUCCESSION: &str = "shutdown::a_successor_takes_over_without_a_loss";

/// A process that serves until its standard input ends, so that none outlives its test. The first
/// one starts a successor at the first byte and goes on to the end of its own connections.
fn serve_and_be_succeeded(part: &str) {
    let builder = threads(driver_of(part), 2);
    let place = std::env::var("POSTRING_TEST_PLACE").unwrap_or_else(|_| "tcp://127.0.0.1:0".into());
    let engine = builder
        .respond_with(&place, frames(), |message, reply| reply.send(message))
        .start()
        .unwrap();
    let place = engine.local_addresses().remove(0);
    println!("serving {place}");
    let told = std::io::stdin().read(&mut [0]).unwrap();
    if told == 0 {
        return end(engine);
    }
    let mut successor = child(SUCCESSION, &part.replace("first", "second"));
    successor.env("POSTRING_TEST_PLACE", &place).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut successor = Server::started(engine.start_successor(&mut successor).unwrap());
    end(engine);
    println!("the first one is over");
    while std::io::stdin().read(&mut [0]).unwrap() > 0 {}
    drop(successor.child.stdin.take());
    successor.wants_success();
}

#[test]
fn a_successor_takes_over_without_a_loss() {
    if let Some(part) = child_part(SUCCESSION) {
        return serve_and_be_succeeded(&part);
    }
    on_both(50, |driver| {
        let mut command = child(SUCCESSION, &format!("first {driver:?}"));
        command.stdin(Stdio::piped());
        let mut first = Server::start(command);
        static SERVED: AtomicU32 = AtomicU32::new(0);
        SERVED.store(0, Ordering::SeqCst);
        let over = AtomicBool::new(false);
        let place = first.place.clone();
        std::thread::scope(|scope| {
            for at in 0..4_u32 {
                let (place, over) = (&place, &over);
                scope.spawn(move || {
                    while !over.load(Ordering::SeqCst) {
                        let mut peer = connect_to(place);
                        wants_back(&mut peer, &at.to_be_bytes());
                        SERVED.fetch_add(1, Ordering::SeqCst);
                        // About 2 000 connections a second from four threads.
                        std::thread::sleep(Duration::from_millis(2));
                    }
                });
            }
            let served = |more: u32| {
                let before = SERVED.load(Ordering::SeqCst);
                until("connects go on", || SERVED.load(Ordering::SeqCst) > before + more);
            };
            served(500);
            first.child.stdin.as_mut().unwrap().write_all(b"!").unwrap();
            served(3000);
            over.store(true, Ordering::SeqCst);
        });
        // The first one has ended; whoever serves now is its successor.
        until("the first one is over", || first.said.lock().unwrap().contains("is over"));
        wants_back(&mut connect_to(&place), b"by the successor");
        drop(first.child.stdin.take());
        first.wants_success();
    });
}
