//! Refusals: a Message or a close that another thread took for done has an end when it is not.
//!
//! Absent: what a full queue says; that stands in `limits`.

use std::sync::mpsc;
use std::time::Duration;

use postring::{
    CarrierState, CloseReason, DriverChoice, Engine, Error, Event, LengthPrefixed, Message,
    Properties, TrySendError, Unframed,
};

use crate::support::*;

/// A Message with callbacks that was refused by its core: `on_expired` alone runs, once.
fn is_refused(engine: &Engine, send: impl FnOnce([postring::Callback; 3])) {
    let before = engine.metrics().total().failed_messages;
    let (told, heard) = mpsc::channel();
    let callback = |what: &'static str| -> postring::Callback {
        let told = told.clone();
        Box::new(move || told.send(what).unwrap())
    };
    send([callback("sent"), callback("acked"), callback("expired")]);
    drop(told);
    assert_eq!(heard.recv_timeout(SOON), Ok("expired"));
    assert_eq!(heard.recv_timeout(SOON), Err(mpsc::RecvTimeoutError::Disconnected));
    assert_eq!(engine.metrics().total().failed_messages, before + 1);
}

#[test]
fn what_a_core_refuses_after_try_send_has_an_end() {
    on_both(40, |driver| {
        let (engine, carrier, _peer) = foreign_of(one(driver), LengthPrefixed::default());
        let mut events = carrier.events().unwrap();
        let long = vec![0; (16 << 20) + 1];
        is_refused(&engine, |[sent, acked, expired]| {
            carrier.send_msg(long, Some(sent), Some(acked), Some(expired)).unwrap();
        });
        assert_eq!(events.next().wait().unwrap(), Some(Event::Refused));
        carrier.abort();
        let closed = CarrierState::Closed(CloseReason::Aborted);
        until("it has ended", || carrier.state().wait().unwrap() == closed);
        is_refused(&engine, |[sent, acked, expired]| {
            carrier.send_msg("late", Some(sent), Some(acked), Some(expired)).unwrap();
        });
        assert_eq!(
            events.next().wait().unwrap(),
            Some(Event::Closed(CloseReason::Aborted)),
            "a Carrier that has ended tells of its end only"
        );
        let nowhere = engine.initiate_with("nonsense", Unframed);
        is_refused(&engine, |[sent, acked, expired]| {
            nowhere.send_msg("x", Some(sent), Some(acked), Some(expired)).unwrap();
        });
        end(engine);
    });
}

#[test]
fn messages_that_wait_for_room_when_their_carrier_ends_are_refused() {
    on_both(40, |driver| {
        let small = limits(|limits| limits.send_queue_bytes = 4096);
        let (engine, carrier, _peer) = foreign_of(one(driver).limits(small), frames());
        // Under way, then in the queue, then in front of it.
        carrier.send(pattern(30 << 20)).wait().unwrap();
        until("it is under way", || engine.metrics().total().sent_bytes > 0);
        carrier.send(pattern(8192)).wait().unwrap();
        let mut events = carrier.events().unwrap();
        is_refused(&engine, |[sent, acked, expired]| {
            let parked = carrier.send_msg("parked", Some(sent), Some(acked), Some(expired));
            parked.unwrap();
            assert!(carrier.queued().wait().unwrap() > 8192);
            carrier.abort();
        });
        assert_eq!(events.next().wait().unwrap(), Some(Event::Refused));
        let closed = Some(Event::Closed(CloseReason::Aborted));
        assert_eq!(events.next().wait().unwrap(), closed);
        end(engine);
    });
}

#[test]
fn what_can_never_be_sent_is_refused_at_once_on_any_thread() {
    on_both(30, |driver| {
        let (engine, carrier, _peer) = foreign(driver);
        let (other, stranger, _other_peer) = foreign(driver);
        let foreign = stranger.send("of another engine").wait().unwrap().message();
        let own = carrier.send("of its own").wait().unwrap().message();
        let many = Properties::new().after([own; 17]);
        let refused = carrier.try_send(Message::from("many").with_properties(many));
        assert!(matches!(refused, Err(TrySendError::Failed(Error::Message(_)))), "{refused:?}");
        let strange = Properties::new().after([foreign]);
        let refused = carrier.try_send(Message::from("x").with_properties(strange));
        assert!(matches!(refused, Err(TrySendError::Failed(Error::Message(_)))), "{refused:?}");
        end(engine);
        end(other);
    });
}

/// An engine that soon gives up connecting.
fn hasty(driver: DriverChoice) -> Engine {
    let hasty = timeouts(|timeouts| timeouts.connect = Duration::from_millis(300));
    one(driver).timeouts(hasty).start().unwrap()
}

#[test]
fn a_close_tells_that_no_connection_came_about() {
    on_both(60, |driver| {
        let engine = one(driver).start().unwrap();
        let carrier = engine.initiate_with("tcp://nosuch.localhost:1", frames());
        carrier.try_send("never sent").unwrap();
        let closed = carrier.close().wait().unwrap_err().to_string();
        assert!(closed.starts_with("connect to tcp://nosuch.localhost:1: "), "{closed}");
        assert!(!closed.contains("No route"), "the resolver has other words: {closed}");
        // Whoever asks later hears the same.
        assert_eq!(carrier.close().wait().unwrap_err().to_string(), closed);
        assert_eq!(carrier.activate().wait().unwrap_err().to_string(), closed);
        end(engine);

        let engine = hasty(driver);
        let (_full, address) = deaf();
        let carrier = engine.initiate_with(&address, frames());
        carrier.try_send("never sent").unwrap();
        let closed = carrier.close().wait().unwrap_err().to_string();
        assert!(closed.starts_with(&format!("connect to {address}: ")), "{closed}");
        assert!(closed.contains("timed out"), "{closed}");
        end(engine);
    });
}

/// A listener whose queue is full: further connections come about for nobody.
fn deaf() -> (Vec<std::os::fd::OwnedFd>, String) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    use rustix::net::{bind, connect, getsockname, listen, socket, socket_with};
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    let any = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
    bind(&listener, &any).unwrap();
    listen(&listener, 0).unwrap();
    let address = std::net::SocketAddr::try_from(getsockname(&listener).unwrap()).unwrap();
    let mut held = vec![listener];
    for _ in 0..4 {
        let kind = (AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK);
        let waiting = socket_with(kind.0, kind.1, kind.2, None).unwrap();
        // In progress, or already in the queue.
        let _ = connect(&waiting, &address);
        held.push(waiting);
    }
    (held, format!("tcp://{address}"))
}

#[test]
fn a_failed_connect_is_told_with_its_address_whenever_one_asks() {
    on_both(30, |driver| {
        let engine = one(driver).start().unwrap();
        let (_holder, address) = nobody();
        let carrier = engine.initiate_with(&address, frames());
        for time in 0..20 {
            let error = carrier.activate().wait().unwrap_err().to_string();
            assert!(error.starts_with(&format!("connect to {address}: ")), "{time}: {error}");
        }
        end(engine);
    });
}

#[test]
fn nobody_waits_for_messages_from_an_address_that_is_none() {
    on_both(20, |driver| {
        let engine = one(driver).start().unwrap();
        let carrier = engine.initiate_with("nonsense", frames());
        let refused = carrier.receive().wait();
        assert!(matches!(refused, Err(Error::Address { .. })), "{refused:?}");
        let refused = carrier.receive_partial(1, 9).wait().map(|_| ());
        assert!(matches!(refused, Err(Error::Address { .. })), "{refused:?}");
        end(engine);
    });
}

/// Without a core the true cause is what every verb answers, not that an engine has ended.
#[test]
fn a_background_core_that_cannot_begin_says_why() {
    use std::os::unix::ffi::OsStrExt;
    const NAME: &str = "refusals::a_background_core_that_cannot_begin_says_why";
    if child_part(NAME).is_none() {
        for bad in [&b"garbage"[..], b"epoll\xff"] {
            let mut process = child(NAME, "verbs");
            let output = process.env("POSTRING_DRIVER", std::ffi::OsStr::from_bytes(bad)).output();
            let output = output.unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{bad:?}: {said}");
        }
        return;
    }
    let carrier = postring::initiate("tcp://127.0.0.1:9");
    let refused = [
        carrier.send("x").wait().map(drop),
        carrier.receive().wait().map(drop),
        carrier.activate().wait(),
        carrier.on_closed(|_| ()),
        carrier.try_send("x").map_err(|refused| match refused {
            TrySendError::Failed(error) => error,
            full => panic!("{full}"),
        }),
        postring::associate("tcp://127.0.0.1:9").map(drop),
    ];
    for (verb, refused) in refused.into_iter().enumerate() {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("POSTRING_DRIVER"), "verb {verb}: {error}");
    }
}
