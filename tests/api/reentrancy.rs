//! The no-borrow rule: every verb may be called from every place where user code runs.
//!
//! Each place calls all verbs on its own Carrier and on another one; nothing may panic or hang,
//! and the Carriers go on working where the verb has not ended them.

use std::cell::Cell;
use std::future::Future;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use postring::{
    CarrierRef, CarrierState, FrameError, Framer, LengthPrefixed, Message, Outcome, Output,
    Properties,
};

use crate::support::*;

/// Calls every verb that does not end the Carrier, and polls what they return once.
fn every_verb<F>(carrier: CarrierRef<F>)
where
    F: for<'a> Framer<Out<'a> = Message<'a>>,
{
    let mut context = Context::from_waker(Waker::noop());
    // What comes of it depends on the place; that it comes back is what is tested.
    let _ = std::pin::pin!(carrier.state()).poll(&mut context);
    let _ = std::pin::pin!(carrier.queued()).poll(&mut context);
    let _ = std::pin::pin!(carrier.peer_address()).poll(&mut context);
    let _ = std::pin::pin!(carrier.activate()).poll(&mut context);
    let _ = std::pin::pin!(carrier.receive()).poll(&mut context);
    let _ = carrier.try_send("tried").map_err(drop);
    let _ = std::pin::pin!(carrier.send("sent")).poll(&mut context);
    let _ = carrier.on_closed(|_| CALLS.with(|calls| calls.set(calls.get() + 1)));
    let _ = carrier.on_sent(|_| CALLS.with(|calls| calls.set(calls.get() + 1)));
    let _ = carrier.on_acked(|_| CALLS.with(|calls| calls.set(calls.get() + 1)));
    let _ = carrier.on_expired(|_| CALLS.with(|calls| calls.set(calls.get() + 1)));
    let _ = carrier.events().map(|mut events| events.poll_next(&mut context));
    let _ = std::pin::pin!(carrier.supports()).poll(&mut context);
    let _ = std::pin::pin!(carrier.fork()).poll(&mut context);
    let _ = std::pin::pin!(carrier.accept()).poll(&mut context);
    let _ = postring::spawn(postring::yield_now());
    let fresh = postring::initiate_with("tcp://127.0.0.1:1", LengthPrefixed::default());
    let _ = fresh.try_send("to nobody").map_err(drop);
    drop(fresh);
}

/// And those that end it.
fn every_ending<F: Framer>(carrier: CarrierRef<F>) {
    let mut context = Context::from_waker(Waker::noop());
    let _ = std::pin::pin!(carrier.close()).poll(&mut context);
    carrier.abort();
    let _ = std::pin::pin!(carrier.close()).poll(&mut context);
}

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

/// Calls verbs wherever it stands as it is dropped or woken.
#[derive(Clone)]
struct Meddler(Arc<Meddling>);

struct Meddling {
    carrier: OnceLock<CarrierRef<LengthPrefixed>>,
    done: AtomicU32,
}

impl Meddler {
    fn new() -> Self {
        Self(Arc::new(Meddling { carrier: OnceLock::new(), done: AtomicU32::new(0) }))
    }

    fn meddle(&self) {
        if let Some(carrier) = self.0.carrier.get() {
            every_verb(*carrier);
        }
        self.0.done.fetch_add(1, Ordering::SeqCst);
    }

    fn done(&self) -> u32 {
        self.0.done.load(Ordering::SeqCst)
    }
}

impl Wake for Meddling {
    fn wake(self: Arc<Self>) {
        Meddler(self).meddle();
    }
}

/// Meddles as it is dropped.
struct Dropped(Meddler);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.meddle();
    }
}

/// A payload that meddles when its last byte is not needed any more.
struct Payload(Vec<u8>, #[expect(dead_code, reason = "it is dropped")] Dropped);

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[test]
fn a_handler_may_call_every_verb_on_its_own_carrier() {
    on_both(30, |driver| {
        let builder = one(driver).respond_with("tcp://127.0.0.1:0", frames(), |message, reply| {
            every_verb(reply.carrier());
            reply.send(message)
        });
        let engine = builder.start().unwrap();
        let mut peer = connect(&engine);
        for _ in 0..3 {
            peer.write_all(&frame(b"again")).unwrap();
            // Its reply goes first: what a verb sends inside the call follows after it.
            assert_eq!(read_frame(&mut peer).unwrap(), b"again");
            // A send that is dropped before it is ready is never sent.
            assert_eq!(read_frame(&mut peer).unwrap(), b"tried");
        }
        assert_eq!(engine.metrics().total().panics, 0);
        end(engine);
    });
}

#[test]
fn a_handler_may_end_its_own_carrier() {
    on_both(30, |driver| {
        let builder = one(driver).respond_with("tcp://127.0.0.1:0", frames(), |message, reply| {
            every_ending(reply.carrier());
            reply.send(message)
        });
        let engine = builder.start().unwrap();
        for _ in 0..5 {
            let mut peer = connect(&engine);
            peer.write_all(&frame(b"end me")).unwrap();
            assert!(read_frame(&mut peer).is_err_and(|error| is_broken(&error)));
        }
        until("all are gone", || engine.metrics().total().open_connections == 0);
        assert_eq!(engine.metrics().total().panics, 0);
        end(engine);
    });
}

/// Meddles in everything that a framer is asked.
#[derive(Clone)]
struct Meddlesome(Meddler, LengthPrefixed);

impl Framer for Meddlesome {
    type Got = Message<'static>;
    type In<'a> = Message<'a>;
    type Out<'a> = Message<'a>;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(usize, Message<'a>)>, FrameError> {
        self.0.meddle();
        self.1.decode(input)
    }

    fn lend(message: Message<'static>) -> Message<'static> {
        message
    }

    fn encode(&mut self, message: Message<'_>, into: &mut Output) -> Result<(), FrameError> {
        self.0.meddle();
        self.1.encode(message, into)
    }

    fn needs(&self, input: &[u8]) -> Option<usize> {
        self.0.meddle();
        self.1.needs(input)
    }

    fn end(&mut self, rest: usize) -> Result<Option<Message<'static>>, FrameError> {
        self.0.meddle();
        self.1.end(rest)
    }
}

/// An engine with a Carrier to its own echo, on whose core `act` is run.
fn with_carrier(
    driver: postring::DriverChoice,
    act: impl FnOnce(CarrierRef<LengthPrefixed>, Meddler),
) {
    let engine = echo(driver);
    let carrier = engine.initiate_with(&engine.local_addresses()[0], frames());
    carrier.activate().wait().unwrap();
    let meddler = Meddler::new();
    meddler.0.carrier.set(*carrier).unwrap();
    act(*carrier, meddler);
    wants_back(&mut connect(&engine), b"alive");
    assert_eq!(engine.metrics().total().panics, 0);
    end(engine);
}

#[test]
fn a_framer_may_call_every_verb() {
    on_both(30, |driver| {
        with_carrier(driver, |_, meddler| {
            let framer = Meddlesome(meddler.clone(), frames());
            let builder =
                one(driver).respond_with("tcp://127.0.0.1:0", framer, |message, reply| {
                    reply.send(message)
                });
            let engine = builder.start().unwrap();
            let mut peer = connect(&engine);
            wants_back(&mut peer, b"small");
            wants_back(&mut peer, &pattern(100_000));
            assert!(meddler.done() >= 4);
            drop(peer);
            assert_eq!(engine.metrics().total().panics, 0);
            end(engine);
        });
    });
}

#[test]
fn a_payload_may_call_every_verb_as_it_is_dropped() {
    on_both(30, |driver| {
        with_carrier(driver, |carrier, meddler| {
            for len in [10, 50_000] {
                let payload = Payload(pattern(len), Dropped(meddler.clone()));
                let before = meddler.done();
                carrier.send(Bytes::from_owner(payload)).wait().unwrap();
                until("it was dropped", || meddler.done() > before);
            }
        });
    });
}

#[test]
fn a_waker_may_call_every_verb() {
    on_both(30, |driver| {
        with_carrier(driver, |carrier, meddler| {
            let waker = Waker::from(meddler.0.clone());
            let mut context = Context::from_waker(&waker);
            let mut receiving = carrier.receive();
            assert!(std::pin::Pin::new(&mut receiving).poll(&mut context).is_pending());
            carrier.send("wake it").wait().unwrap();
            until("it was woken", || meddler.done() > 0);
        });
    });
}

#[test]
fn handlers_of_ready_and_of_the_end_may_call_every_verb() {
    on_both(30, |driver| {
        with_carrier(driver, |carrier, meddler| {
            let (inside, dropped) = (meddler.clone(), Dropped(meddler.clone()));
            let ready = carrier.ready(move |message| {
                let _owned_by_the_handler = &dropped;
                if message.bytes() == b"hello" {
                    inside.meddle();
                }
            });
            ready.unwrap();
            carrier.send("hello").wait().unwrap();
            until("the handler was called", || meddler.done() >= 1);
            let at_the_end = meddler.clone();
            carrier
                .on_closed(move |_| {
                    at_the_end.meddle();
                    every_ending(*at_the_end.0.carrier.get().unwrap());
                })
                .unwrap();
            let before = meddler.done();
            carrier.abort();
            // At the end, and as the handler of ready is dropped.
            until("both were called", || meddler.done() >= before + 2);
        });
    });
}

#[test]
fn handlers_and_streams_of_events_may_call_every_verb() {
    on_both(30, |driver| {
        with_carrier(driver, |carrier, meddler| {
            let waker = Waker::from(meddler.0.clone());
            let mut events = carrier.events().unwrap();
            assert!(events.poll_next(&mut Context::from_waker(&waker)).is_pending());
            let (inside, dropped) = (meddler.clone(), Dropped(meddler.clone()));
            let on_sent = carrier.on_sent(move |_| {
                // The verbs replace this handler from inside itself.
                let _owned_by_the_handler = &dropped;
                inside.meddle();
            });
            on_sent.unwrap();
            let own = meddler.clone();
            carrier.send_msg("acked", None, Some(Box::new(move || own.meddle())), None).unwrap();
            // The waker, the handler of sent, its drop, the callback of acked.
            until("all were called", || meddler.done() >= 4);
        });
    });
}

#[test]
fn callbacks_that_are_not_called_may_call_every_verb_as_they_are_dropped() {
    on_both(30, |driver| {
        with_carrier(driver, |carrier, meddler| {
            let uncalled = || {
                let dropped = Dropped(meddler.clone());
                Some(Box::new(move || drop(dropped)) as postring::Callback)
            };
            carrier.send_msg("sent", None, None, uncalled()).unwrap();
            until("one was dropped", || meddler.done() == 1);
            let late = Message::new("late").lifetime(Duration::ZERO);
            carrier.send_msg(late, uncalled(), uncalled(), None).unwrap();
            until("all were dropped", || meddler.done() == 3);
        });
    });
}

/// What has left of a broken send is dropped as the rest is kept for the next connection.
#[test]
fn a_payload_may_call_every_verb_as_its_connection_is_lost() {
    on_both(30, |driver| {
        let engine = one(driver).start().unwrap();
        let (carrier, listener) = to_foreign(&engine);
        carrier.activate().wait().unwrap();
        let mut peer = accept(&listener);
        let meddler = Meddler::new();
        let payload = |len| Bytes::from_owner(Payload(pattern(len), Dropped(meddler.clone())));
        let (whole, broken) = (payload(50_000), payload(30_000_000));
        let both = *carrier;
        // In one send, so that both are given back when it breaks.
        let send = move || async move {
            both.try_send(whole).unwrap();
            both.try_send(broken).unwrap();
        };
        engine.spawn_on(0, send).unwrap();
        peer.read_exact(&mut vec![0; 100_000]).unwrap();
        meddler.0.carrier.set(*carrier).unwrap();
        rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
        drop((peer, listener));
        until("what had left was dropped", || meddler.done() == 1);
        assert_eq!(carrier.state().wait().unwrap(), CarrierState::Dormant);
        carrier.abort();
        until("all was dropped", || meddler.done() == 2);
        assert_eq!(engine.metrics().total().panics, 0);
        end(engine);
    });
}

#[test]
fn a_send_from_inside_a_handler_has_its_receipt_when_it_was_accepted() {
    on_both(30, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        let (told, heard) = std::sync::mpsc::channel();
        let inside = *carrier;
        let ready = carrier.ready(move |_| {
            let mut sending = Box::pin(inside.send("from inside"));
            let first = sending.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            let told = told.clone();
            let rest = async move {
                let receipt = match first {
                    Poll::Ready(receipt) => receipt,
                    Poll::Pending => sending.await,
                };
                let receipt = receipt.unwrap();
                told.send((receipt.message().number(), receipt.sent().await)).unwrap();
            };
            postring::spawn(rest).unwrap();
        });
        ready.unwrap();
        peer.write_all(&frame(b"go")).unwrap();
        assert_eq!(read_frame(&mut peer).unwrap(), b"from inside");
        assert_eq!(heard.recv_timeout(SOON), Ok((1, Outcome::Sent)));
        end(engine);
    });
}

#[test]
fn a_message_in_parts_given_up_inside_a_handler_holds_nobody_up() {
    on_both(30, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        let inside = *carrier;
        let ready = carrier.ready(move |_| {
            let mut message = inside.begin(Properties::new().total_len(10));
            let sending = std::pin::pin!(message.send("never", false));
            let _ = sending.poll(&mut Context::from_waker(Waker::noop()));
        });
        ready.unwrap();
        peer.write_all(&frame(b"go")).unwrap();
        until("it was called", || engine.metrics().total().received_messages == 1);
        let after = *carrier;
        within(10, move || assert!(after.send("after").wait().is_ok()));
        assert_eq!(read_frame(&mut peer).unwrap(), b"after");
        end(engine);
    });
}
