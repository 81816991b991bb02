//! Carriers from plain threads: every verb, on a Carrier of a core and by mailbox.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::mpsc;
use std::time::Duration;

use postring::{
    CarrierRef, CarrierState, CloseReason, DriverChoice, Engine, Error, Flow, LengthPrefixed,
    Message, TrySendError, Unframed,
};

use crate::support::*;

/// A Carrier of an engine on `driver` to a foreign listener that has not accepted yet.
fn idle(driver: DriverChoice) -> Engine {
    one(driver).start().unwrap()
}

#[test]
fn a_carrier_opens_nothing_before_its_first_message() {
    on_both(30, |driver| {
        let engine = idle(driver);
        let (carrier, listener) = to_foreign(&engine);
        assert_eq!(carrier.state().wait().unwrap(), CarrierState::Inactive);
        assert_eq!(carrier.peer_address().wait().unwrap(), None);
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err());
        carrier.send("hello").wait().unwrap();
        let mut accepted = None;
        until("it connects", || {
            accepted = listener.accept().ok();
            accepted.is_some()
        });
        until("it is active", || carrier.state().wait().unwrap() == CarrierState::Active);
        assert_eq!(carrier.peer_address().wait().unwrap(), listener.local_addr().ok());
        end(engine);
    });
}

#[test]
fn messages_travel_both_ways_and_close_is_in_order() {
    on_both(30, |driver| {
        let engine = idle(driver);
        let (carrier, listener) = to_foreign(&engine);
        carrier.activate().wait().unwrap();
        carrier.activate().wait().unwrap();
        let mut peer = accept(&listener);
        for len in [0, 1, 5000, 300_000] {
            carrier.send(pattern(len)).wait().unwrap();
            assert!(read_frame(&mut peer).unwrap() == pattern(len));
            peer.write_all(&frame(&pattern(len))).unwrap();
            assert!(carrier.receive().wait().unwrap().bytes() == pattern(len));
        }
        carrier.try_send("the last").unwrap();
        let closing = carrier.close();
        assert_eq!(read_frame(&mut peer).unwrap(), b"the last");
        assert!(is_ended(&mut peer));
        drop(peer);
        closing.wait().unwrap();
        let closed = CarrierState::Closed(CloseReason::Local);
        assert_eq!(carrier.state().wait().unwrap(), closed);
        let error = carrier.send("too late").wait().unwrap_err();
        assert!(matches!(error, Error::Closed(CloseReason::Local)), "{error:?}");
        let error = carrier.receive().wait().unwrap_err();
        assert!(matches!(error, Error::Closed(_)), "{error:?}");
        // Closing again is no mistake.
        carrier.close().wait().unwrap();
        end(engine);
    });
}

#[test]
fn the_end_of_the_peer_comes_after_its_messages() {
    on_both(30, |driver| {
        let engine = idle(driver);
        let (carrier, listener) = to_foreign(&engine);
        carrier.activate().wait().unwrap();
        let mut peer = accept(&listener);
        // More than is received ahead of the application.
        (0..100_u8).for_each(|at| peer.write_all(&frame(&[at])).unwrap());
        peer.shutdown(Shutdown::Write).unwrap();
        for at in 0..100_u8 {
            assert_eq!(carrier.receive().wait().unwrap().bytes(), [at]);
        }
        let error = carrier.receive().wait().unwrap_err();
        assert!(matches!(error, Error::Closed(CloseReason::Finished)), "{error:?}");
        // The other direction is still open.
        carrier.send("and yet").wait().unwrap();
        assert_eq!(read_frame(&mut peer).unwrap(), b"and yet");
        carrier.close().wait().unwrap();
        end(engine);
    });
}

#[test]
fn an_abort_is_a_reset_for_the_peer() {
    on_both(30, |driver| {
        let engine = idle(driver);
        let (carrier, listener) = to_foreign(&engine);
        carrier.activate().wait().unwrap();
        let mut peer = accept(&listener);
        let receiving = carrier.receive();
        let (over, ended) = mpsc::channel();
        carrier.on_closed(move |reason| over.send(reason).unwrap()).unwrap();
        carrier.abort();
        assert_eq!(peer.read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert!(matches!(receiving.wait(), Err(Error::Closed(CloseReason::Aborted))));
        assert_eq!(ended.recv_timeout(SOON).unwrap(), CloseReason::Aborted);
        // Asked afterwards it is answered at once.
        let (over, ended) = mpsc::channel();
        carrier.on_closed(move |reason| over.send(reason).unwrap()).unwrap();
        assert_eq!(ended.recv_timeout(SOON).unwrap(), CloseReason::Aborted);
        end(engine);
    });
}

#[test]
fn a_reset_by_the_peer_is_told_to_everybody_who_waits() {
    on_both(30, |driver| {
        // Otherwise the Carrier would connect again and they would go on waiting.
        let off = timeouts(|timeouts| timeouts.dormant = Duration::ZERO);
        let engine = one(driver).timeouts(off).start().unwrap();
        let (carrier, listener) = to_foreign(&engine);
        carrier.activate().wait().unwrap();
        let peer = accept(&listener);
        let carrier: CarrierRef<_> = *carrier;
        let waiting: Vec<_> =
            (0..3).map(|_| std::thread::spawn(move || carrier.receive().wait())).collect();
        std::thread::sleep(Duration::from_millis(20));
        rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
        drop(peer);
        for waiting in waiting {
            let error = waiting.join().unwrap().unwrap_err();
            assert!(matches!(error, Error::Closed(CloseReason::Reset)), "{error:?}");
        }
        end(engine);
    });
}

#[test]
fn ready_hands_every_message_to_its_handler_until_it_says_stop() {
    on_both(30, |driver| {
        let engine = idle(driver);
        let (carrier, listener) = to_foreign(&engine);
        carrier.activate().wait().unwrap();
        let mut peer = accept(&listener);
        let (got, handed) = mpsc::channel();
        carrier
            .ready(move |message| {
                got.send(message.bytes().to_vec()).unwrap();
                if message.bytes() == b"stop" { Flow::Stop } else { Flow::Continue }
            })
            .unwrap();
        for text in ["one", "two", "stop", "for receive"] {
            peer.write_all(&frame(text.as_bytes())).unwrap();
        }
        for text in ["one", "two", "stop"] {
            assert_eq!(handed.recv_timeout(SOON).unwrap(), text.as_bytes());
        }
        assert_eq!(carrier.receive().wait().unwrap().text().unwrap(), "for receive");
        assert!(handed.recv().is_err(), "the handler is dropped");
        end(engine);
    });
}

/// Figure 2 of the draft: close right after ready still delivers the reply.
#[test]
fn close_right_after_ready_still_delivers_the_reply() {
    on_both(30, |driver| {
        let server = echo(driver);
        for _ in 0..50 {
            let carrier = server.initiate_with(&server.local_addresses()[0], frames());
            let (got, handed) = mpsc::channel();
            carrier.send("Hello!").wait().unwrap();
            carrier
                .ready(move |message| {
                    got.send(message.bytes().to_vec()).unwrap();
                    Flow::Stop
                })
                .unwrap();
            carrier.close().wait().unwrap();
            assert_eq!(handed.try_recv().unwrap(), b"Hello!");
        }
        end(server);
    });
}

#[test]
fn a_dropped_carrier_flushes_what_it_was_given() {
    on_both(30, |driver| {
        let engine = idle(driver);
        let (carrier, listener) = to_foreign(&engine);
        for at in 0..40_u8 {
            carrier.send(vec![at; 5000]).wait().unwrap();
        }
        drop(carrier);
        let mut peer = accept(&listener);
        for at in 0..40_u8 {
            assert_eq!(read_frame(&mut peer).unwrap(), [at; 5000]);
        }
        assert!(is_ended(&mut peer));
        drop(peer);
        until("its slot is free", || engine.metrics().total().open_connections == 0);
        end(engine);
    });
}

#[test]
fn a_kept_carrier_lives_on_without_its_owner() {
    on_both(30, |driver| {
        let engine = idle(driver);
        let (carrier, listener) = to_foreign(&engine);
        let carrier = carrier.keep();
        carrier.send("hello").wait().unwrap();
        let mut peer = accept(&listener);
        assert_eq!(read_frame(&mut peer).unwrap(), b"hello");
        carrier.close().wait().unwrap_or_else(|error| panic!("{error}"));
        assert!(is_ended(&mut peer));
        drop(peer);
        until("its slot is free", || engine.metrics().total().open_connections == 0);
        let state = carrier.state().wait().unwrap();
        assert!(matches!(state, CarrierState::Closed(_)), "{state:?}");
        carrier.close().wait().unwrap();
        end(engine);
    });
}

#[test]
fn what_cannot_be_connected_to_is_a_clear_error() {
    on_both(40, |driver| {
        let engine = idle(driver);
        let (_holder, refused) = nobody();
        let carrier = engine.initiate_with(&refused, frames());
        let error = carrier.activate().wait().unwrap_err().to_string();
        assert!(error.contains(&refused) && error.contains("refused"), "{error}");
        let error = carrier.receive().wait().unwrap_err();
        assert!(matches!(error, Error::Closed(CloseReason::NotConnected(111))), "{error:?}");

        let carrier = engine.initiate_with("tcp://localhost", frames());
        let error = carrier.send("hello").wait().unwrap_err().to_string();
        assert!(error.contains("tcp://localhost") && error.contains("port"), "{error}");
        let error = carrier.activate().wait().unwrap_err();
        assert!(matches!(error, Error::Address { .. }), "{error:?}");

        let carrier = engine.initiate_with("unix:///no/such/socket", frames());
        let error = carrier.activate().wait().unwrap_err().to_string();
        assert!(error.contains("/no/such/socket") && error.contains("No such file"), "{error}");

        let nobody = "tcp://nobody.invalid:80";
        let carrier = engine.initiate_with(nobody, frames());
        let error = carrier.activate().wait().unwrap_err().to_string();
        assert!(error.contains(nobody), "{error}");
        end(engine);
    });
}

#[test]
fn a_name_is_resolved_off_the_core() {
    on_both(30, |driver| {
        let server = echo(driver);
        let place = place(&server);
        let port = place.rsplit(':').next().unwrap();
        // localhost may be ::1 first, where nobody listens: then the next address is tried.
        let carrier = server.initiate_with(&format!("tcp://localhost:{port}"), frames());
        carrier.send("by name").wait().unwrap();
        assert_eq!(carrier.receive().wait().unwrap().text().unwrap(), "by name");
        end(server);
    });
}

/// Sends until the queue is full and stays so, the kernel's buffers included: how many messages
/// that took, and the one that was given back.
fn fill(
    carrier: &CarrierRef<LengthPrefixed>,
    payload: impl Fn(u32) -> Vec<u8>,
) -> (u32, Message<'static>) {
    let mut sent = 0;
    loop {
        let mut back = None;
        let taken = becomes(Duration::from_millis(300), || {
            back = match carrier.try_send(payload(sent)) {
                Ok(()) => None,
                Err(TrySendError::Full(back)) => Some(back),
                Err(TrySendError::Failed(error)) => panic!("{error}"),
            };
            back.is_none()
        });
        if let (false, Some(back)) = (taken, back) {
            return (sent, back);
        }
        sent += 1;
        assert!(sent < 2000, "the queue has no end: {:?}", carrier.queued().wait());
        // What another thread tries is in the queue when the core has looked at its mailbox.
        carrier.queued().wait().unwrap();
    }
}

#[test]
fn a_full_queue_gives_the_message_back_and_send_waits_for_room() {
    on_both(40, |driver| {
        let small = limits(|limits| limits.send_queue_bytes = 4096);
        let engine = one(driver).limits(small).start().unwrap();
        let (carrier, listener) = to_foreign(&engine);
        carrier.activate().wait().unwrap();
        let mut peer = accept(&listener);
        let payload = |at: u32| [at.to_be_bytes().as_slice(), &[7; 60_000]].concat();
        let (sent, back) = fill(&carrier, payload);
        assert!(back.bytes() == payload(sent));
        let waiting: CarrierRef<_> = *carrier;
        let waits = std::thread::spawn(move || waiting.send(back).wait());
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waits.is_finished(), "there is no room yet");
        for at in 0..=sent {
            assert!(read_frame(&mut peer).unwrap() == payload(at), "message {at} of {sent}");
        }
        waits.join().unwrap().unwrap();
        until("there is room again", || carrier.try_send("room").is_ok());
        assert_eq!(read_frame(&mut peer).unwrap(), b"room");
        end(engine);
    });
}

#[test]
fn a_send_that_is_dropped_before_it_is_accepted_is_never_sent() {
    on_both(40, |driver| {
        let small = limits(|limits| limits.send_queue_bytes = 4096);
        let engine = one(driver).limits(small).start().unwrap();
        let (carrier, listener) = to_foreign(&engine);
        carrier.activate().wait().unwrap();
        let mut peer = accept(&listener);
        let (sent, _) = fill(&carrier, |_| vec![1; 60_000]);
        // Polled once, so that it waits on the core; then dropped.
        let mut sending = carrier.send(vec![2; 100]);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::pin::Pin::new(&mut sending).poll(&mut context).is_pending());
        carrier.queued().wait().unwrap();
        drop(sending);
        drop(carrier.send("never polled"));
        let last: CarrierRef<_> = *carrier;
        let last = std::thread::spawn(move || last.send("the last").wait());
        for _ in 0..sent {
            assert!(read_frame(&mut peer).unwrap() == [1; 60_000]);
        }
        assert_eq!(read_frame(&mut peer).unwrap(), b"the last");
        last.join().unwrap().unwrap();
        end(engine);
    });
}

/// A stream without frames is one Message in parts: its end is a complete, empty part.
#[test]
fn an_unframed_carrier_receives_parts_and_the_end() {
    on_both(30, |driver| {
        let engine = idle(driver);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let carrier = engine.initiate_with(&address, Unframed);
        carrier.send("what is sent ").wait().unwrap();
        carrier.send("is sent as it is").wait().unwrap();
        let mut peer = accept(&listener);
        let mut seen = [0; 29];
        peer.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"what is sent is sent as it is");
        peer.write_all(&pattern(50_000)).unwrap();
        drop(peer);
        let mut all = Vec::new();
        loop {
            let part = carrier.receive().wait().unwrap();
            all.extend_from_slice(part.bytes());
            if part.is_complete() {
                break;
            }
        }
        assert!(all == pattern(50_000));
        let error = carrier.receive().wait().unwrap_err();
        assert!(matches!(error, Error::Closed(CloseReason::Finished)), "{error:?}");
        end(engine);
    });
}

#[test]
fn waiting_on_a_core_is_an_error_and_not_a_standstill() {
    on_both(30, |driver| {
        let engine = echo(driver);
        let address = engine.local_addresses().remove(0);
        let (said, heard) = mpsc::channel();
        let task = move || async move {
            let carrier = postring::initiate_with(&address, frames());
            let all_refused = matches!(carrier.send("x").wait(), Err(Error::WaitOnCore))
                && matches!(carrier.receive().wait(), Err(Error::WaitOnCore))
                && matches!(carrier.activate().wait(), Err(Error::WaitOnCore))
                && matches!(carrier.close().wait(), Err(Error::WaitOnCore));
            said.send(all_refused).unwrap();
        };
        engine.spawn_on(0, task).unwrap();
        assert!(heard.recv_timeout(SOON).unwrap());
        wants_back(&mut connect(&engine), b"unharmed");
        end(engine);
    });
}

/// Without an engine a Carrier lives on the background core of the process.
#[test]
fn initiate_needs_no_engine() {
    on_both(30, |driver| {
        let server = echo(driver);
        let carrier = postring::initiate_with(&server.local_addresses()[0], frames());
        carrier.send("no ceremony").wait().unwrap();
        assert_eq!(carrier.receive().wait().unwrap().text().unwrap(), "no ceremony");
        carrier.close().wait().unwrap();
        end(server);
    });
}

#[test]
fn verbs_of_an_ended_engine_say_so() {
    on_both(30, |driver| {
        let engine = idle(driver);
        let (carrier, _listener) = to_foreign(&engine);
        let waiting: CarrierRef<_> = *carrier;
        let waiting = std::thread::spawn(move || waiting.receive().wait());
        carrier.activate().wait().unwrap();
        end(engine);
        assert!(waiting.join().unwrap().is_err());
        assert!(matches!(carrier.send("x").wait(), Err(Error::EngineEnded)));
        let tried = carrier.try_send("x");
        assert!(matches!(tried, Err(TrySendError::Failed(Error::EngineEnded))));
        assert!(matches!(carrier.receive().wait(), Err(Error::EngineEnded)));
        assert!(matches!(carrier.state().wait(), Err(Error::EngineEnded)));
        assert!(matches!(carrier.close().wait(), Err(Error::EngineEnded)));
        assert!(matches!(carrier.on_closed(|_| ()), Err(Error::EngineEnded)));
        carrier.abort();
    });
}
