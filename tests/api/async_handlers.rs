//! Async handlers: several under way, in any order, with their panics and their limits.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use postring::{CarrierRef, DriverChoice, Engine, LengthPrefixed, Message};

use crate::support::*;

/// Answers after as many milliseconds as the first byte says; 255 panics.
async fn answer_later(message: Message<'static>, carrier: CarrierRef<LengthPrefixed>) -> bool {
    let milliseconds = message.bytes()[0];
    assert!(milliseconds != 255, "as the test wants it");
    postring::sleep(Duration::from_millis(milliseconds.into())).await;
    carrier.send(message).await.is_ok()
}

fn start(driver: DriverChoice, change: impl FnOnce(&mut postring::Limits)) -> Engine {
    let builder = one(driver).limits(limits(change));
    builder.respond_async("tcp://127.0.0.1:0", frames(), answer_later).start().unwrap()
}

#[test]
fn answers_come_as_they_are_ready() {
    on_both(30, |driver| {
        let engine = start(driver, |_| ());
        let mut peer = connect(&engine);
        for milliseconds in [200, 100, 0] {
            peer.write_all(&frame(&[milliseconds])).unwrap();
        }
        for milliseconds in [0, 100, 200] {
            assert_eq!(read_frame(&mut peer).unwrap(), [milliseconds]);
        }
        end(engine);
    });
}

#[test]
fn no_more_than_the_limit_are_under_way() {
    on_both(30, |driver| {
        let engine = start(driver, |limits| limits.async_handlers_per_connection = 1);
        let mut peer = connect(&engine);
        for milliseconds in [50, 20, 0, 10] {
            peer.write_all(&frame(&[milliseconds])).unwrap();
        }
        for milliseconds in [50, 20, 0, 10] {
            assert_eq!(read_frame(&mut peer).unwrap(), [milliseconds]);
        }
        end(engine);
    });
}

/// A peer that has said everything still gets what it has asked for.
#[test]
fn a_peer_that_has_ended_gets_its_answers() {
    on_both(30, |driver| {
        let engine = start(driver, |_| ());
        let mut peer = connect(&engine);
        for milliseconds in [100, 0] {
            peer.write_all(&frame(&[milliseconds])).unwrap();
        }
        peer.shutdown(Shutdown::Write).unwrap();
        for milliseconds in [0, 100] {
            assert_eq!(read_frame(&mut peer).unwrap(), [milliseconds]);
        }
        assert!(is_ended(&mut peer));
        end(engine);
    });
}

#[test]
fn a_panic_ends_its_carrier_alone() {
    on_both(30, |driver| {
        let engine = start(driver, |_| ());
        let mut other = connect(&engine);
        other.write_all(&frame(&[200])).unwrap();
        let mut peer = connect(&engine);
        wants_back(&mut peer, &[0]);
        peer.write_all(&frame(&[255])).unwrap();
        assert!(is_ended(&mut peer));
        assert_eq!(read_frame(&mut other).unwrap(), [200]);
        assert_eq!(engine.metrics().total().panics, 1);
        end(engine);
    });
}

#[test]
fn a_peer_that_leaves_takes_nothing_with_it() {
    on_both(30, |driver| {
        let engine = start(driver, |_| ());
        for _ in 0..20 {
            let mut peer = connect(&engine);
            peer.write_all(&frame(&[20])).unwrap();
            rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
        }
        until("all are gone", || {
            let total = engine.metrics().total();
            total.accepted >= 20 && total.open_connections == 0
        });
        wants_back(&mut connect(&engine), &[1]);
        assert_eq!(engine.metrics().total().panics, 0);
        end(engine);
    });
}

/// Initiated connections count like accepted ones.
#[test]
fn initiated_connections_are_limited_too() {
    on_both(30, |driver| {
        let server = echo(driver);
        let address = server.local_addresses().remove(0);
        let engine = one(driver).limits(limits(|limits| limits.connections = 2)).start().unwrap();
        let carriers: Vec<_> = (0..3).map(|_| engine.initiate_with(&address, frames())).collect();
        let activated: Vec<_> =
            carriers.iter().map(|carrier| carrier.activate().wait().is_ok()).collect();
        assert_eq!(activated.iter().filter(|activated| **activated).count(), 2, "{activated:?}");
        end(engine);
        end(server);
    });
}

/// It would wait for itself.
#[test]
fn a_handler_that_awaits_the_close_of_its_own_carrier_gets_an_error_and_the_end() {
    on_both(30, |driver| {
        let (told, heard) = std::sync::mpsc::channel();
        let handler = move |_: Message<'static>, carrier: CarrierRef<LengthPrefixed>| {
            let told = told.clone();
            async move {
                carrier.send("bye").await.unwrap();
                postring::yield_now().await;
                told.send(carrier.close().await.unwrap_err().to_string()).unwrap();
            }
        };
        let engine = one(driver).respond_async("tcp://127.0.0.1:0", frames(), handler);
        let engine = engine.start().unwrap();
        let mut peer = connect(&engine);
        peer.write_all(&frame(b"close")).unwrap();
        assert_eq!(read_frame(&mut peer).unwrap(), b"bye");
        let error = heard.recv_timeout(SOON).unwrap();
        assert!(error.contains("async handler of its own Carrier"), "{error}");
        assert!(is_ended(&mut peer));
        end(engine);
    });
}
