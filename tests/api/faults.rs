//! Faults of peers and of user code: each ends its own Carrier at most, is counted, and leaves
//! the others unharmed.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use postring::{CoreSnapshot, DriverChoice, Engine, FrameError, Framer, Message, Output};

use crate::support::*;

/// Runs `fault` against an echo server with a second peer that is served before and after.
fn beside_another(driver: DriverChoice, builder: postring::EngineBuilder, fault: impl Fn(&Engine)) {
    let engine = echo_of(builder.driver(driver));
    let mut other = connect(&engine);
    wants_back(&mut other, b"before");
    fault(&engine);
    wants_back(&mut other, b"after");
    until("only the other is left", || count(&engine).open_connections == 1);
    end(engine);
}

fn count(engine: &Engine) -> CoreSnapshot {
    engine.metrics().total()
}

#[test]
fn a_frame_longer_than_the_limit_ends_the_carrier() {
    on_both(30, |driver| {
        beside_another(driver, one(driver), |engine| {
            let mut peer = connect(engine);
            wants_back(&mut peer, b"fine");
            peer.write_all(&(40_u32 << 20).to_be_bytes()).unwrap();
            assert!(is_ended(&mut peer));
            assert_eq!(count(engine).frame_errors, 1);
        });
    });
}

#[test]
fn what_came_before_a_broken_frame_is_answered() {
    on_both(30, |driver| {
        beside_another(driver, one(driver), |engine| {
            let mut peer = connect(engine);
            let mut bytes = frame(b"whole");
            bytes.extend(u32::MAX.to_be_bytes());
            bytes.extend([1; 20_000]);
            peer.write_all(&bytes).unwrap();
            assert_eq!(read_frame(&mut peer).unwrap(), b"whole");
            assert!(is_ended(&mut peer));
        });
    });
}

#[test]
fn a_truncated_frame_is_a_framing_error() {
    on_both(30, |driver| {
        beside_another(driver, one(driver), |engine| {
            for missing in [1, 3, 30_000] {
                let before = count(engine).frame_errors;
                let mut peer = connect(engine);
                let mut bytes = frame(&pattern(100_000));
                bytes.truncate(bytes.len() - missing);
                peer.write_all(&bytes).unwrap();
                peer.shutdown(Shutdown::Write).unwrap();
                assert!(is_ended(&mut peer));
                until("it is counted", || count(engine).frame_errors == before + 1);
            }
            let mut peer = connect(engine);
            peer.write_all(&[0, 0]).unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            assert!(is_ended(&mut peer));
        });
    });
}

#[test]
fn a_reset_in_a_frame_ends_only_that_carrier() {
    on_both(30, |driver| {
        beside_another(driver, one(driver), |engine| {
            for len in [100, 100_000] {
                let mut peer = connect(engine);
                wants_back(&mut peer, b"fine");
                // A receive of the whole of a large message reports the reset as an end.
                let broken = || count(engine).resets + count(engine).frame_errors;
                let before = broken();
                peer.write_all(&frame(&pattern(len))[..len / 2]).unwrap();
                reset(peer);
                until("it is counted", || broken() == before + 1);
            }
        });
    });
}

/// Breaks the connection off without an orderly end.
fn reset(stream: TcpStream) {
    let socket = rustix::fd::AsFd::as_fd(&stream);
    rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO)).unwrap();
    drop(stream);
}

#[test]
fn a_peer_that_never_reads_is_held_up_and_then_given_up() {
    on_both(40, |driver| {
        let quick = timeouts(|timeouts| timeouts.unread_send = Duration::from_secs(1));
        beside_another(driver, one(driver).timeouts(quick), |engine| {
            let mut peer = connect(engine);
            peer.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
            let bytes = frame(&pattern(60_000));
            let mut sent = 0;
            // Until the peer is stalled, or given up already.
            while sent < 200 << 20 && peer.write_all(&bytes).is_ok() {
                sent += bytes.len();
            }
            assert!(sent < 200 << 20, "the server took {sent} bytes for a peer that never reads");
            let received = count(engine).received_bytes;
            assert!(received < 100 << 20, "{received} bytes were taken");
            until("it is given up", || count(engine).send_timeouts == 1);
        });
    });
}

#[test]
fn a_peer_that_never_sends_is_given_up() {
    on_both(30, |driver| {
        let quick = timeouts(|timeouts| timeouts.handshake = Duration::from_millis(200));
        beside_another(driver, one(driver).timeouts(quick), |engine| {
            let started = Instant::now();
            let mut silent = connect(engine);
            let mut half = connect(engine);
            half.write_all(&[0, 0, 0]).unwrap();
            assert!(is_ended(&mut silent) && is_ended(&mut half));
            assert!(started.elapsed() >= Duration::from_millis(190));
            assert_eq!(count(engine).handshake_timeouts, 2);
        });
    });
}

#[test]
fn a_message_that_trickles_in_is_given_up() {
    on_both(30, |driver| {
        let quick = timeouts(|timeouts| timeouts.message = Duration::from_millis(400));
        beside_another(driver, one(driver).timeouts(quick), |engine| {
            for len in [100, 100_000] {
                let before = count(engine).message_timeouts;
                let mut peer = connect(engine);
                wants_back(&mut peer, b"fine");
                let mut bytes = frame(&pattern(len)).into_iter();
                let trickled = becomes(SOON, || {
                    std::thread::sleep(Duration::from_millis(100));
                    let byte = bytes.next().unwrap();
                    peer.write_all(&[byte]).is_err() || count(engine).message_timeouts > before
                });
                assert!(trickled && is_ended(&mut peer), "{len} bytes");
                assert_eq!(count(engine).message_timeouts, before + 1);
            }
        });
    });
}

/// The clock of a message begins with its own first byte, not with an earlier message's.
#[test]
fn a_steady_stream_is_not_taken_for_one_slow_message() {
    on_both(30, |driver| {
        let quick = timeouts(|timeouts| timeouts.message = Duration::from_millis(500));
        beside_another(driver, one(driver).timeouts(quick), |engine| {
            let mut peer = connect(engine);
            let bytes = frame(b"half of me comes with the one before");
            let (first, second) = bytes.split_at(10);
            let overlapping = [second, first].concat();
            peer.write_all(first).unwrap();
            for _ in 0..15 {
                std::thread::sleep(Duration::from_millis(100));
                peer.write_all(&overlapping).unwrap();
                assert_eq!(read_frame(&mut peer).unwrap(), &bytes[4..]);
            }
            peer.write_all(second).unwrap();
            assert_eq!(read_frame(&mut peer).unwrap(), &bytes[4..]);
        });
    });
}

#[test]
fn an_idle_connection_is_given_up_and_a_busy_one_is_not() {
    on_both(30, |driver| {
        let quick = timeouts(|timeouts| timeouts.idle = Duration::from_millis(500));
        let engine = echo_of(one(driver).timeouts(quick));
        let (mut idle, mut busy) = (connect(&engine), connect(&engine));
        wants_back(&mut idle, b"and no more");
        for _ in 0..12 {
            std::thread::sleep(Duration::from_millis(100));
            wants_back(&mut busy, b"again");
        }
        assert_eq!(count(&engine).idle_timeouts, 1);
        assert!(is_ended(&mut idle));
        end(engine);
    });
}

#[test]
fn a_panicking_handler_ends_its_carrier_alone() {
    on_both(30, |driver| {
        let builder = one(driver).respond_with("tcp://127.0.0.1:0", frames(), |message, reply| {
            assert!(message.bytes() != b"panic", "as the test wants it");
            reply.send(message)
        });
        let engine = builder.start().unwrap();
        let mut other = connect(&engine);
        for round in 1..=3 {
            let mut peer = connect(&engine);
            wants_back(&mut peer, b"fine");
            peer.write_all(&frame(b"panic")).unwrap();
            assert!(is_ended(&mut peer));
            wants_back(&mut other, b"unharmed");
            assert_eq!(count(&engine).panics, round);
        }
        end(engine);
    });
}

/// A framer that panics, fails or takes nothing when its input says so.
#[derive(Clone)]
struct Moody;

impl Framer for Moody {
    type Got = Message<'static>;
    type In<'a> = Message<'a>;
    type Out<'a> = Message<'a>;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(usize, Message<'a>)>, FrameError> {
        let found = match input.first() {
            None => return Ok(None),
            Some(b'p') => panic!("a framer that panics"),
            Some(b'0') => (0, Message::lent(&[])),
            Some(b'+') => (input.len() + 1, Message::lent(&[])),
            Some(b'x') => return Err(FrameError::Malformed("x".into())),
            Some(_) => (1, Message::lent(&input[..1])),
        };
        Ok(Some(found))
    }

    fn lend(message: Message<'static>) -> Message<'static> {
        message
    }

    fn encode(&mut self, message: Message<'_>, into: &mut Output) -> Result<(), FrameError> {
        into.put_message(&message);
        match message.bytes() {
            b"P" => panic!("a framer that panics"),
            b"X" => Err(FrameError::Malformed("X".into())),
            _ => Ok(()),
        }
    }
}

#[test]
fn a_framer_that_panics_or_lies_ends_its_carrier_alone() {
    on_both(30, |driver| {
        let builder = one(driver)
            .respond_with("tcp://127.0.0.1:0", Moody, |message, reply| reply.send(message));
        let engine = builder.start().unwrap();
        let mut other = connect(&engine);
        for mood in [b"p", b"0", b"+", b"x", b"P", b"X"] {
            let mut peer = connect(&engine);
            peer.write_all(b"a").unwrap();
            assert_eq!(read_byte(&mut peer), b'a');
            peer.write_all(mood).unwrap();
            assert!(is_ended(&mut peer), "{mood:?}");
            other.write_all(b"b").unwrap();
            assert_eq!(read_byte(&mut other), b'b');
        }
        assert_eq!((count(&engine).panics, count(&engine).frame_errors), (2, 3));
        end(engine);
    });
}

fn read_byte(stream: &mut TcpStream) -> u8 {
    let mut byte = [0];
    std::io::Read::read_exact(stream, &mut byte).unwrap();
    byte[0]
}

/// Panics where it is cloned for a connection.
struct Unclonable(std::sync::Arc<std::sync::atomic::AtomicU32>);

impl Clone for Unclonable {
    fn clone(&self) -> Self {
        let earlier = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        assert!(earlier != 1, "the second connection's clone panics");
        Self(self.0.clone())
    }
}

impl Framer for Unclonable {
    type Got = Message<'static>;
    type In<'a> = Message<'a>;
    type Out<'a> = Message<'a>;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(usize, Message<'a>)>, FrameError> {
        Moody.decode(input)
    }

    fn lend(message: Message<'static>) -> Message<'static> {
        message
    }

    fn encode(&mut self, message: Message<'_>, into: &mut Output) -> Result<(), FrameError> {
        Moody.encode(message, into)
    }
}

#[test]
fn a_framer_that_panics_as_it_is_cloned_ends_its_carrier_alone() {
    on_both(30, |driver| {
        let framer = Unclonable(std::sync::Arc::default());
        let builder = one(driver)
            .respond_with("tcp://127.0.0.1:0", framer, |message, reply| reply.send(message));
        let engine = builder.start().unwrap();
        let mut first = connect(&engine);
        first.write_all(b"a").unwrap();
        assert_eq!(read_byte(&mut first), b'a');
        assert!(is_ended(&mut connect(&engine)));
        let mut third = connect(&engine);
        third.write_all(b"b").unwrap();
        assert_eq!((read_byte(&mut third), count(&engine).panics), (b'b', 1));
        end(engine);
    });
}

#[test]
fn a_panicking_factory_of_an_engine_is_an_error_at_its_start() {
    on_both(30, |driver| {
        let started = threads(driver, 2)
            .respond_per_core("tcp://127.0.0.1:0", frames(), || {
                assert!(std::thread::current().name() != Some("postring-1"), "a bad factory");
                |message, reply: postring::Reply<'_, _>| reply.send(message)
            })
            .start();
        let error = started.unwrap_err().to_string();
        assert!(error.contains("a bad factory"), "{error}");
    });
}

#[test]
fn a_panicking_future_or_its_maker_leaves_the_core_alive() {
    on_both(30, |driver| {
        let engine = echo(driver);
        engine.spawn_on(0, || async { panic!("a future that panics") }).unwrap();
        let maker = || -> std::future::Ready<()> { panic!("a maker that panics") };
        engine.spawn_on(0, maker).unwrap();
        wants_back(&mut connect(&engine), b"alive");
        assert_eq!(count(&engine).panics, 2);
        end(engine);
    });
}

#[test]
fn a_blocking_handler_is_counted() {
    on_both(30, |driver| {
        let builder = one(driver).respond_with("tcp://127.0.0.1:0", frames(), |message, reply| {
            if message.bytes() == b"block" {
                std::thread::sleep(Duration::from_millis(60));
            }
            reply.send(message)
        });
        let engine = builder.start().unwrap();
        let mut peer = connect(&engine);
        wants_back(&mut peer, b"block");
        until("it is counted", || count(&engine).stalls >= 1);
        end(engine);
    });
}
