//! Items 103 to 107: ends and events of every kind of Carrier, and what Listeners share (§3.2).

use std::sync::mpsc;
use std::time::Duration;

use postring::{
    Acceptor, Carrier, CarrierState, CloseReason, Error, Event, Listener, Message, Sink, Source,
    Unframed,
};

use crate::pairs::*;
use crate::support::*;

const CLOSED: CarrierState = CarrierState::Closed(CloseReason::Local);

/// What is to be seen of a close, of anything that has these verbs.
macro_rules! closes {
    ($end:expr, $peer:expr) => {{
        let (told, closed) = mpsc::channel();
        $end.on_closed(move |reason| told.send(reason).unwrap()).unwrap();
        let closing = $end.close();
        assert!(is_ended(&mut $peer), "the peer sees the end of the Messages");
        assert!(closed.try_recv().is_err(), "the peer has not ended yet");
        drop($peer);
        closing.wait().unwrap();
        assert_eq!(closed.recv_timeout(SOON), Ok(CloseReason::Local));
        assert_eq!($end.state().wait().unwrap(), CLOSED);
    }};
}

#[test]
fn item_103_every_kind_closes_and_says_when_it_is_closed() {
    on_both(60, |driver| {
        let patient = || one(driver).timeouts(timeouts(|times| times.linger = SOON));
        let (_engine, carrier, mut peer) = foreign_of(patient(), frames());
        closes!(carrier, peer);
        let (_engine, carrier, mut peer) = foreign_of(patient(), frames());
        let source: Source<_> = carrier.into_source();
        closes!(source, peer);
        let (_engine, carrier, mut peer) = foreign_of(patient(), frames());
        let sink: Sink<_> = carrier.into_sink();
        closes!(sink, peer);
        let (listener, address) = listen(driver);
        listener.close();
        let ended = listener.accept().wait();
        assert!(matches!(ended, Err(Error::EngineEnded)), "{ended:?}");
        let place = address.strip_prefix("tcp://").unwrap();
        until("nobody listens", || std::net::TcpStream::connect(place).is_err());
    });
}

#[test]
fn item_104_a_carrier_has_default_handlers_and_a_message_its_own() {
    on_both(60, |driver| {
        let (engine, carrier, _peer) = foreign(driver);
        let (told, heard) = mpsc::channel();
        let tell = |what: &'static str| {
            let told = told.clone();
            move |message: postring::MessageId| told.send((what, message.number())).unwrap()
        };
        carrier.on_sent(tell("sent")).unwrap();
        carrier.on_acked(tell("acked")).unwrap();
        carrier.on_expired(tell("expired")).unwrap();
        let next = || heard.recv_timeout(SOON).unwrap();
        carrier.send("one").wait().unwrap();
        assert_eq!([next(), next()], [("sent", 1), ("acked", 1)]);
        carrier.send(Message::from("two").lifetime(Duration::ZERO)).wait().unwrap();
        assert_eq!(next(), ("expired", 2));
        // In place of the Carrier's, as far as it has them.
        let own = told.clone();
        let sent: postring::Callback = Box::new(move || own.send(("its own", 3)).unwrap());
        carrier.send_msg("three", Some(sent), None, None).unwrap();
        assert_eq!([next(), next()], [("its own", 3), ("acked", 3)]);
        end(engine);
    });
}

#[test]
fn item_105_a_passive_close_is_told_once_and_after_all_else() {
    on_both(60, |driver| {
        let (_listener, engine, here, there) = both(driver);
        let (told, heard) = mpsc::channel();
        let mut events = there.events().unwrap();
        let sent = told.clone();
        there.on_sent(move |_| sent.send("sent".to_owned()).unwrap()).unwrap();
        there.on_closed(move |reason| told.send(format!("{reason:?}")).unwrap()).unwrap();
        there.send("x").wait().unwrap();
        assert_eq!(text(&here.receive().wait().unwrap()), "x");
        here.abort();
        assert_eq!(heard.recv_timeout(SOON).as_deref(), Ok("sent"));
        assert_eq!(heard.recv_timeout(SOON).as_deref(), Ok("Reset"));
        // The handler is gone with the Carrier: nothing more can come.
        assert!(matches!(heard.recv_timeout(SOON), Err(mpsc::RecvTimeoutError::Disconnected)));
        let mut last = None;
        while let Some(event) = events.next().wait().unwrap() {
            last = Some(event);
        }
        assert!(matches!(last, Some(Event::Closed(CloseReason::Reset))), "{last:?}");
        end(engine);
    });
}

/// As in `carriers`: a method of the type itself would go before these.
struct Absent;

trait NoSend {
    fn send(&self) -> Absent {
        Absent
    }
}

trait NoReady {
    fn ready(&self) -> Absent {
        Absent
    }
}

impl NoSend for Sink<Unframed> {}
impl NoReady for Source<Unframed> {}

#[test]
fn item_106_the_halves_of_a_carrier_have_one_direction_each() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign_of(one(driver), Unframed);
        let (source, sink) = carrier.split();
        let _: (Absent, Absent) = (sink.send(), source.ready());
        source.send("out").wait().unwrap();
        drop(source);
        let mut all = String::new();
        std::io::Read::read_to_string(&mut peer, &mut all).unwrap();
        assert_eq!(all, "out");
        std::io::Write::write_all(&mut peer, b"in").unwrap();
        assert_eq!(text(&sink.receive().wait().unwrap()), "in");
        end(engine);
    });
}

type Framed = Carrier<postring::LengthPrefixed>;

/// One function for whatever accepts.
fn take_one(acceptor: &impl Acceptor<postring::LengthPrefixed>) -> postring::Result<Framed> {
    let mut taken = None;
    acceptor.accept_each(|carrier| {
        taken = Some(carrier);
        false
    })?;
    Ok(taken.unwrap())
}

#[test]
fn item_107_listeners_share_accept_and_close_with_carriers() {
    on_both(60, |driver| {
        let (listener, engine, here, there) = both(driver);
        let fork = here.fork().wait().unwrap();
        let fork_there = take_one(&listener).unwrap();
        fork.send("accepted").wait().unwrap();
        assert_eq!(text(&fork_there.receive().wait().unwrap()), "accepted");
        assert!(matches!(take_one(&there), Err(Error::Unsupported(_))));
        Listener::close(&listener);
        assert!(matches!(take_one(&listener), Err(Error::EngineEnded)));
        // What was accepted lives on, until it is closed by the verb of the same name.
        here.send("still here").wait().unwrap();
        assert_eq!(text(&there.receive().wait().unwrap()), "still here");
        Carrier::keep(there).close().wait().unwrap();
        end(engine);
    });
}
