//! The end of a Carrier, side by side: what each end sees of the other's close (draft §2.1, §3.2).
//!
//! Absent: foreign peers; they stand in `carriers`.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use postring::{
    Carrier, CarrierState, CloseReason, DriverChoice, Error, Flow, LengthPrefixed, Listener,
    TrySendError,
};

use crate::support::*;

type Framed = Carrier<LengthPrefixed>;

/// Both ends of one connection.
fn ends(driver: DriverChoice, linger: Duration) -> (Listener<LengthPrefixed>, Framed, Framed) {
    let patient = timeouts(|timeouts| timeouts.linger = linger);
    let builder = one(driver).timeouts(patient);
    let listener = builder.listen_with("tcp://127.0.0.1:0", frames()).unwrap();
    let engine = listener.engine().unwrap();
    let client = engine.initiate_with(&engine.local_addresses()[0], frames());
    client.activate().wait().unwrap();
    let server = listener.accept().wait().unwrap();
    (listener, client, server)
}

fn is_finished<T: std::fmt::Debug>(received: Result<T, Error>) -> bool {
    matches!(received, Err(Error::Closed(CloseReason::Finished)))
}

/// Close ends this side's Messages: the peer sees them all, then their end, and may go on sending
/// to receives that were scheduled before. It is over when both sides have ended.
#[test]
fn a_close_is_the_end_of_my_messages_and_no_more() {
    on_both(30, |driver| {
        let (_listener, client, server) = ends(driver, Duration::from_secs(20));
        let (got, handed) = mpsc::channel();
        let (over, closed) = mpsc::channel();
        let (over_there, closed_there) = mpsc::channel();
        client.on_closed(move |reason| over.send(reason).unwrap()).unwrap();
        server.on_closed(move |reason| over_there.send(reason).unwrap()).unwrap();
        client.send("question").wait().unwrap();
        client
            .ready(move |message| {
                got.send(message.text().unwrap().to_owned()).unwrap();
                if message.bytes() == b"last" { Flow::Stop } else { Flow::Continue }
            })
            .unwrap();
        let closing = client.close();
        assert_eq!(server.receive().wait().unwrap().text().unwrap(), "question");
        assert!(is_finished(server.receive().wait()), "the end of the client's messages");
        assert!(is_finished(server.receive().wait()), "and it stays so");
        assert_eq!(server.state().wait().unwrap(), CarrierState::Active);
        assert_eq!(client.state().wait().unwrap(), CarrierState::Closing);
        let refused = client.send("more").wait();
        assert!(matches!(refused, Err(Error::Closed(CloseReason::Local))), "{refused:?}");
        for answer in ["first", "last"] {
            std::thread::sleep(Duration::from_millis(30));
            assert!(closed.try_recv().is_err() && closed_there.try_recv().is_err());
            server.send(answer).wait().unwrap();
            assert_eq!(handed.recv_timeout(SOON).unwrap(), answer);
        }
        assert!(closed.try_recv().is_err(), "the server has not ended yet");
        server.close().wait().unwrap();
        closing.wait().unwrap();
        assert_eq!(closed.recv_timeout(SOON).unwrap(), CloseReason::Local);
        assert_eq!(closed_there.recv_timeout(SOON).unwrap(), CloseReason::Local);
        for end in [&client, &server] {
            assert!(matches!(end.state().wait().unwrap(), CarrierState::Closed(_)));
        }
    });
}

/// Scheduled receives are waited for, but not for ever.
#[test]
fn a_close_waits_for_its_peer_no_longer_than_it_lingers() {
    on_both(30, |driver| {
        let (_listener, client, server) = ends(driver, Duration::from_millis(400));
        let (over, closed) = mpsc::channel();
        client.on_closed(move |reason| over.send(reason).unwrap()).unwrap();
        client.ready(|_| Flow::Continue).unwrap();
        let started = Instant::now();
        client.close().wait().unwrap();
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(390) && took < Duration::from_secs(5), "{took:?}");
        assert_eq!(closed.recv_timeout(SOON).unwrap(), CloseReason::Local);
        drop(server);
    });
}

/// Every use after the end is an error, and an abort is an end at once.
#[test]
fn verbs_after_the_end_are_errors() {
    on_both(30, |driver| {
        let (_listener, client, server) = ends(driver, Duration::from_secs(20));
        let (over, closed) = mpsc::channel();
        server.on_closed(move |reason| over.send(reason).unwrap()).unwrap();
        client.abort();
        assert_eq!(closed.recv_timeout(SOON).unwrap(), CloseReason::Reset);
        let aborted = CarrierState::Closed(CloseReason::Aborted);
        until("it is aborted", || client.state().wait().unwrap() == aborted);
        for (end, reason) in [(client, CloseReason::Aborted), (server, CloseReason::Reset)] {
            let is_reason = |error: Error| matches!(error, Error::Closed(why) if why == reason);
            assert!(is_reason(end.send("x").wait().unwrap_err()));
            assert!(is_reason(end.receive().wait().unwrap_err()));
            assert!(is_reason(end.receive_partial(1, 9).wait().unwrap_err()));
            assert!(is_reason(end.activate().wait().unwrap_err()));
            assert!(end.fork().wait().is_err());
            // Eager from another thread: what is wrong shows with the next verb that asks.
            assert!(matches!(end.try_send("x"), Ok(()) | Err(TrySendError::Failed(_))));
        }
    });
}
