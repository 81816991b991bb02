//! Endings: what is left when a connection, a Carrier or an engine ends, and what must not be.
//!
//! Absent: the order of a shutdown; that stands in `shutdown`.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use postring::{
    DriverChoice, Engine, Flow, FrameError, Framer, LengthPrefixed, Message, Output, TrySendError,
};

use crate::support::*;

/// The bytes of a large message do not count as bytes that were thrown away.
#[test]
fn little_is_discarded_after_a_large_message_without_a_reset_and_much_is_not() {
    on_both(60, |driver| {
        let patient = timeouts(|timeouts| timeouts.linger = Duration::from_secs(30));
        let engine = one(driver)
            .timeouts(patient)
            .respond_with("tcp://127.0.0.1:0", frames(), |_, reply| {
                reply.send("enough")?;
                Ok::<_, postring::Error>(Flow::Stop)
            })
            .start()
            .unwrap();
        let mut peer = connect(&engine);
        peer.write_all(&frame(&pattern(5 << 20))).unwrap();
        assert_eq!(read_frame(&mut peer).unwrap(), b"enough");
        assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0, "an end in order");
        for piece in 0..20 {
            let written = peer.write_all(&[9; 10_000]);
            assert!(written.is_ok(), "piece {piece}: {written:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
        let flood = vec![9; 1 << 20];
        let broken = (0..200).find_map(|_| peer.write_all(&flood).err());
        assert!(broken.is_some_and(|error| is_broken(&error)), "a flood is not read for ever");
        until("it is gone", || engine.metrics().total().open_connections == 0);
        end(engine);
    });
}

#[test]
fn what_a_dropped_carrier_could_not_deliver_is_counted() {
    on_both(30, |driver| {
        let engine = one(driver).start().unwrap();
        let (_holder, closed) = nobody();
        let carrier = engine.initiate_with(&closed, frames());
        carrier.try_send([7; 1000].as_slice()).unwrap();
        drop(carrier);
        until("the loss is counted", || engine.metrics().total().lost_bytes == 1004);
        end(engine);
    });
}

#[test]
fn what_is_under_way_or_waits_for_room_is_queued() {
    on_both(40, |driver| {
        let small = limits(|limits| limits.send_queue_bytes = 4096);
        let engine = one(driver).limits(small).start().unwrap();
        let (carrier, listener) = to_foreign(&engine);
        carrier.activate().wait().unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        // More than a kernel takes for a peer that does not read.
        let large = pattern(30 << 20);
        carrier.send(large.clone()).wait().unwrap();
        let queued = || carrier.queued().wait().unwrap();
        let mut before = queued();
        until("the kernel takes no more", || {
            std::thread::sleep(Duration::from_millis(50));
            before == std::mem::replace(&mut before, queued())
        });
        assert!(before > 10 << 20, "{before} bytes are under way");
        carrier.send("fills the queue").wait().unwrap();
        let room = || matches!(carrier.try_send([1; 5000].as_slice()), Err(TrySendError::Full(_)));
        until("the queue is full", room);
        let full = queued();
        let waiting = *carrier;
        let parked = std::thread::spawn(move || waiting.send("parked").wait());
        until("it waits on the core", || queued() == full + 1);
        let mut frames = 0;
        while queued() > 0 || frames < 4 {
            read_frame(&mut peer).unwrap();
            frames += 1;
        }
        parked.join().unwrap().unwrap();
        end(engine);
    });
}

/// Panics where it is dropped on a core.
#[derive(Clone)]
struct Grudge(Arc<AtomicU32>);

impl Drop for Grudge {
    fn drop(&mut self) {
        let thread = std::thread::current();
        let on_core = thread.name().is_some_and(|name| name.starts_with("postring-"));
        if on_core && !std::thread::panicking() {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic!("a framer that panics as it is dropped");
        }
    }
}

impl Framer for Grudge {
    type Got = Message<'static>;
    type In<'a> = Message<'a>;
    type Out<'a> = Message<'a>;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(usize, Message<'a>)>, FrameError> {
        LengthPrefixed::default().decode(input)
    }

    fn lend(message: Message<'static>) -> Message<'static> {
        message
    }

    fn encode(&mut self, message: Message<'_>, into: &mut Output) -> Result<(), FrameError> {
        LengthPrefixed::default().encode(message, into)
    }
}

#[test]
fn a_value_that_panics_as_it_is_dropped_harms_nobody() {
    on_both(30, |driver| {
        let dropped = Arc::new(AtomicU32::new(0));
        let framer = Grudge(Arc::clone(&dropped));
        let builder = one(driver)
            .respond_with("tcp://127.0.0.1:0", framer, |message, reply| reply.send(message));
        let engine = builder.start().unwrap();
        let mut other = connect(&engine);
        for round in 1..=3 {
            let mut peer = connect(&engine);
            wants_back(&mut peer, b"fine");
            peer.shutdown(Shutdown::Write).unwrap();
            assert!(is_ended(&mut peer));
            until("its framer is dropped", || dropped.load(Ordering::SeqCst) == round);
            wants_back(&mut other, b"unharmed");
            until("it is counted", || engine.metrics().total().panics == u64::from(round));
        }
        // The framers of the other connection and of the service panic as the core ends.
        end(engine);
        assert!(dropped.load(Ordering::SeqCst) >= 5);
    });
}

/// Memory of the application that is shared with the kernel and panics when it is given back.
struct Bomb(Vec<u8>);

impl AsRef<[u8]> for Bomb {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a payload does not want to go");
    }
}

#[test]
fn a_shared_payload_that_panics_as_it_is_dropped_leaves_the_way_out_in_order() {
    on_both(30, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        for _ in 0..3 {
            let bytes = bytes::Bytes::from_owner(Bomb(pattern(20_000)));
            carrier.send(Message::from(bytes)).wait().unwrap();
            assert!(read_frame(&mut peer).unwrap() == pattern(20_000));
            carrier.send("after it").wait().unwrap();
            assert_eq!(read_frame(&mut peer).unwrap(), b"after it");
            until("all has left", || carrier.queued().wait().unwrap() == 0);
        }
        end(engine);
    });
}

fn unix_echo(driver: DriverChoice, path: &str) -> Engine {
    let address = format!("unix://{path}");
    let builder = threads(driver, 2);
    builder.respond_with(&address, frames(), |message, reply| reply.send(message)).start().unwrap()
}

#[test]
fn the_file_of_a_unix_socket_goes_with_the_engine_that_made_it() {
    on_both(30, |driver| {
        let name = format!("postring-end-{}-{driver:?}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        let text = path.to_str().unwrap();
        let engine = unix_echo(driver, text);
        wants_back(&mut connect_unix(text), b"here");
        end(engine);
        assert!(!path.exists(), "it was made by the engine");
        // Dropped, an engine ends by itself, and so does the file.
        drop(unix_echo(driver, text));
        until("it is gone", || !path.exists());
    });
}

#[test]
fn a_core_sleeps_at_most_once_a_turn() {
    on_both(30, |driver| {
        let engine = echo(driver);
        wants_back(&mut connect(&engine), b"awake");
        std::thread::sleep(Duration::from_millis(100));
        // From here on it does nothing but sleep.
        let before = engine.metrics().total();
        until("a few turns", || engine.metrics().total().turns >= before.turns + 4);
        let after = engine.metrics().total();
        let (sleeps, turns) = (after.sleeps - before.sleeps, after.turns - before.turns);
        // The counters are not read at the same instant.
        assert!(sleeps <= turns + 1, "{sleeps} sleeps in {turns} turns");
        end(engine);
    });
}
