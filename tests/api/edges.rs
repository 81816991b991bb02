//! Edges: what happens between the phases of a connection, and at lengths nobody means.
//!
//! Absent: single faults of a peer; they stand in `faults`.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use postring::{CarrierRef, FrameError, Framer, LengthPrefixed, Message, Output, Width};

use crate::support::*;

/// A length that nobody can have room for is no reason to stop a core.
#[test]
fn a_claimed_length_beyond_all_memory_harms_nobody() {
    on_both(20, |driver| {
        let endless = LengthPrefixed::default().width(Width::Eight).len_max(usize::MAX);
        let engine = one(driver)
            .respond_with("tcp://127.0.0.1:0", endless, |message, reply| reply.send(message))
            .start()
            .unwrap();
        let mut liar = connect(&engine);
        liar.write_all(&(u64::MAX / 4).to_be_bytes()).unwrap();
        liar.write_all(b"and some bytes").unwrap();
        let mut other = connect(&engine);
        for _ in 0..3 {
            other.write_all(&[0, 0, 0, 0, 0, 0, 0, 1, 7]).unwrap();
            let mut answer = [0; 9];
            other.read_exact(&mut answer).unwrap();
            assert_eq!(answer[8], 7);
        }
        drop(liar);
        end(engine);
    });
}

#[test]
fn nothing_is_handed_over_after_a_stop_at_a_large_message() {
    on_both(30, |driver| {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let engine = one(driver)
            .respond_with("tcp://127.0.0.1:0", frames(), move |message: Message<'_>, _| {
                counted.fetch_add(1, Ordering::SeqCst);
                message.len() < 16_500
            })
            .start()
            .unwrap();
        for round in 1..=10 {
            let mut peer = connect(&engine);
            // Several receive buffers at once: the last one also holds what comes behind.
            let large = frame(&pattern(16_500));
            peer.write_all(&[&large[..], &frame(b"never"), &frame(b"seen")].concat()).unwrap();
            assert!(is_ended(&mut peer));
            assert_eq!(calls.load(Ordering::SeqCst), round);
        }
        end(engine);
    });
}

/// A peer that ends after its request still gets the answer, also a late one.
#[test]
fn an_async_handler_answers_a_peer_that_has_ended() {
    on_both(20, |driver| {
        let engine = one(driver)
            .respond_async(
                "tcp://127.0.0.1:0",
                frames(),
                async |message: Message<'static>, carrier: CarrierRef<LengthPrefixed>| {
                    postring::sleep(Duration::from_millis(50)).await;
                    carrier.send(message).await
                },
            )
            .start()
            .unwrap();
        let mut peer = connect(&engine);
        peer.write_all(&frame(b"late")).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_frame(&mut peer).unwrap(), b"late");
        assert!(is_ended(&mut peer));
        end(engine);
    });
}

/// Messages that nobody asked for do not hold up a close until the linger time is over.
#[test]
fn a_carrier_with_unread_messages_closes_with_its_peer() {
    on_both(30, |driver| {
        let patient = timeouts(|timeouts| timeouts.linger = Duration::from_secs(15));
        let listener =
            one(driver).timeouts(patient).listen_with("tcp://127.0.0.1:0", frames()).unwrap();
        let mut peer = connect_to(&place(listener.engine().unwrap()));
        for at in 0..100 {
            peer.write_all(&frame(&pattern(at * 100))).unwrap();
        }
        let carrier = listener.accept().wait().unwrap();
        assert!(carrier.receive().wait().unwrap().is_empty());
        let started = Instant::now();
        let closing = carrier.close();
        assert!(is_ended(&mut peer));
        drop(peer);
        closing.wait().unwrap();
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        drop(carrier);
        end_listener(listener);
    });
}

fn end_listener<F: Framer>(listener: postring::Listener<F>) {
    listener.engine().unwrap().shutdown();
    drop(listener);
}

/// Lines that end with a line feed; how long one will be is not known before.
#[derive(Clone)]
struct Lines;

impl Framer for Lines {
    type Got = Message<'static>;
    type In<'a> = Message<'a>;
    type Out<'a> = Message<'a>;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(usize, Message<'a>)>, FrameError> {
        let end = input.iter().position(|byte| *byte == b'\n');
        Ok(end.map(|at| (at + 1, Message::lent(&input[..=at]))))
    }

    fn lend(message: Message<'static>) -> Message<'static> {
        message
    }

    fn encode(&mut self, message: Message<'_>, into: &mut Output) -> Result<(), FrameError> {
        into.put_message(&message);
        Ok(())
    }
}

#[test]
fn a_message_without_an_end_is_limited() {
    on_both(30, |driver| {
        let engine = one(driver)
            .limits(limits(|limits| limits.unmeasured_message_bytes = 100_000))
            .respond_with("tcp://127.0.0.1:0", Lines, |message, reply| reply.send(message))
            .start()
            .unwrap();
        let mut peer = connect(&engine);
        let line = [&pattern(90_000).map_lines()[..], b"\n"].concat();
        peer.write_all(&line).unwrap();
        let mut answer = vec![0; line.len()];
        peer.read_exact(&mut answer).unwrap();
        assert!(answer == line);
        let endless = vec![b'x'; 1 << 20];
        for _ in 0..20 {
            if peer.write_all(&endless).is_err() {
                break;
            }
        }
        until("it is ended", || engine.metrics().total().frame_errors == 1);
        assert!(is_ended(&mut peer));
        end(engine);
    });
}

trait MapLines {
    fn map_lines(&self) -> Vec<u8>;
}

impl MapLines for Vec<u8> {
    fn map_lines(&self) -> Vec<u8> {
        self.iter().map(|byte| if *byte == b'\n' { b'x' } else { *byte }).collect()
    }
}

/// A name has several addresses: a Carrier that is closed at once still tries them all.
#[test]
fn a_close_before_the_connection_waits_for_the_next_address() {
    use std::net::ToSocketAddrs;
    let addresses: Vec<_> = ("localhost", 1).to_socket_addrs().into_iter().flatten().collect();
    if addresses.len() < 2 {
        println!("SKIP: localhost has one address here: {addresses:?}");
        return;
    }
    on_both(20, move |driver| {
        let engine = one(driver).start().unwrap();
        for host in ["127.0.0.1", "[::1]"] {
            let Ok(listener) = std::net::TcpListener::bind(format!("{host}:0")) else {
                println!("SKIP: no {host} here");
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            let carrier = engine.initiate_with(&format!("tcp://localhost:{port}"), frames());
            carrier.send("as promised").wait().unwrap();
            drop(carrier);
            let (mut peer, _) = listener.accept().unwrap();
            assert_eq!(read_frame(&mut peer).unwrap(), b"as promised");
        }
        end(engine);
    });
}

/// What is promised to be usable on every thread is.
#[test]
fn the_public_types_travel() {
    fn travels<T: Send + Sync>() {}
    fn moves<T: Send>() {}
    travels::<postring::Carrier>();
    travels::<CarrierRef>();
    travels::<postring::Engine>();
    travels::<postring::Listener>();
    travels::<postring::Error>();
    travels::<Message<'static>>();
    travels::<postring::Receiving<postring::Unframed>>();
    moves::<postring::Sending<'static, postring::Unframed>>();
    moves::<postring::Asked<()>>();
    moves::<postring::AcceptingCarrier<'static, postring::Unframed>>();
    moves::<postring::Offload<()>>();
}
