//! Word of Messages by default handlers and by streams, and what a stack says it can do.

use std::io::Read;
use std::sync::mpsc;
use std::time::Duration;

use postring::{
    CloseReason, Error, Event, Events, Expiry, LengthPrefixed, Message, MessageId, Outcome,
    Reporter, Unframed,
};

use crate::support::*;

/// A Carrier of an engine to a foreign peer that reads only when it is told to.
/// The next event, which must come soon.
fn next(events: &mut Events) -> Option<Event> {
    struct Late;
    let (told, heard) = mpsc::channel();
    let waited = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A test that hangs in here is ended by its own bound.
            let _ = told.send(events.next().wait().unwrap());
        });
        heard.recv_timeout(SOON).map_err(|_| Late)
    });
    waited.unwrap_or_else(|Late| panic!("no event after {SOON:?}"))
}

fn number(event: Event) -> u64 {
    event.message().map_or(0, MessageId::number)
}

#[test]
fn default_handlers_hear_of_plain_messages_and_of_those_with_wishes() {
    on_both(60, |driver| {
        let (engine, carrier, _peer) = foreign(driver);
        carrier.send("before anybody listens").wait().unwrap();
        let (told, heard) = mpsc::channel();
        let tell = |what: &'static str| {
            let told = told.clone();
            move |message: MessageId| told.send((what, message.number())).unwrap()
        };
        carrier.on_sent(tell("sent")).unwrap();
        carrier.on_acked(tell("acked")).unwrap();
        carrier.on_expired(tell("expired")).unwrap();
        let plain = carrier.send("plain").wait().unwrap().message();
        assert_eq!(heard.recv_timeout(SOON), Ok(("sent", plain.number())));
        assert_eq!(heard.recv_timeout(SOON), Ok(("acked", plain.number())));
        let nice = carrier.send(Message::from("nice").niceness(3)).wait().unwrap();
        assert_eq!(nice.acked().wait().unwrap(), Outcome::Acked);
        assert_eq!(heard.recv_timeout(SOON), Ok(("sent", nice.message().number())));
        assert_eq!(heard.recv_timeout(SOON), Ok(("acked", nice.message().number())));
        let late = Message::from("late").lifetime(Duration::ZERO);
        let late = carrier.send(late).wait().unwrap().message();
        assert_eq!(heard.recv_timeout(SOON), Ok(("expired", late.number())));
        assert!(heard.recv_timeout(Duration::from_millis(100)).is_err(), "each is told once");
        end(engine);
    });
}

#[test]
fn a_message_s_own_callback_stands_in_place_of_the_default_one() {
    on_both(60, |driver| {
        let (engine, carrier, _peer) = foreign(driver);
        let (told, heard) = mpsc::channel();
        let tell = |what: &'static str| {
            let told = told.clone();
            move || told.send(what).unwrap()
        };
        let (sent, acked) = (tell("default sent"), tell("default acked"));
        carrier.on_sent(move |_| sent()).unwrap();
        carrier.on_acked(move |_| acked()).unwrap();
        carrier.send_msg("one", Some(Box::new(tell("own sent"))), None, None).unwrap();
        assert_eq!(heard.recv_timeout(SOON), Ok("own sent"));
        assert_eq!(heard.recv_timeout(SOON), Ok("default acked"));
        carrier.send_msg("two", None, Some(Box::new(tell("own acked"))), None).unwrap();
        assert_eq!(heard.recv_timeout(SOON), Ok("default sent"));
        assert_eq!(heard.recv_timeout(SOON), Ok("own acked"));
        assert!(heard.recv_timeout(Duration::from_millis(100)).is_err());
        end(engine);
    });
}

#[test]
fn a_handler_may_be_replaced_and_set_from_inside_and_may_panic() {
    on_both(60, |driver| {
        let (engine, carrier, _peer) = foreign(driver);
        let (told, heard) = mpsc::channel();
        let carrier_ref = *carrier;
        let second = told.clone();
        carrier
            .on_sent(move |message| {
                told.send(("first", message.number())).unwrap();
                let second = second.clone();
                let again = move |message: MessageId| {
                    second.send(("second", message.number())).unwrap();
                    assert!(message.number() != 2, "the second one panics once");
                };
                carrier_ref.on_sent(again).unwrap();
            })
            .unwrap();
        carrier.send("one").wait().unwrap();
        assert_eq!(heard.recv_timeout(SOON), Ok(("first", 1)));
        for number in [2, 3] {
            carrier.send("more").wait().unwrap();
            assert_eq!(heard.recv_timeout(SOON), Ok(("second", number)));
        }
        until("the panic is counted", || engine.metrics().total().panics == 1);
        end(engine);
    });
}

#[test]
fn a_handler_set_from_inside_a_receive_handler_hears_of_its_answers() {
    on_both(60, |driver| {
        let (told, heard) = mpsc::channel();
        let builder = one(driver).respond_with("tcp://127.0.0.1:0", frames(), {
            move |message: Message<'_>, reply: postring::Reply<'_, LengthPrefixed>| {
                let told = told.clone();
                let tell = move |message: MessageId| told.send(message.number()).unwrap();
                reply.carrier().on_sent(tell)?;
                reply.send(message)
            }
        });
        let engine = builder.start().unwrap();
        let mut peer = connect(&engine);
        wants_back(&mut peer, b"one");
        // The first answer stood in the queue before the handler was set.
        wants_back(&mut peer, b"two");
        assert!(heard.recv_timeout(SOON).is_ok());
        end(engine);
    });
}

#[test]
fn a_stream_tells_everything_in_order_and_ends_with_the_end() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        let mut events = carrier.events().unwrap();
        carrier.send("one").wait().unwrap();
        carrier.send(Message::from("two").lifetime(Duration::ZERO)).wait().unwrap();
        let (mut of_one, mut of_two) = (Vec::new(), Vec::new());
        while of_one.len() < 2 || of_two.is_empty() {
            let event = next(&mut events).unwrap();
            if number(event) == 1 { of_one.push(event) } else { of_two.push(event) }
        }
        assert!(matches!(of_one[..], [Event::Sent(_), Event::Acked(_)]), "{of_one:?}");
        let expired = [Expiry::Deadline, Expiry::Hopeless];
        match of_two[..] {
            [Event::Expired(message, why)] if expired.contains(&why) => {
                assert_eq!(message.number(), 2);
            }
            _ => panic!("{of_two:?}"),
        }
        assert_eq!(read_frame(&mut peer).unwrap(), b"one");
        carrier.abort();
        assert_eq!(next(&mut events), Some(Event::Closed(CloseReason::Aborted)));
        assert_eq!(next(&mut events), None);
        let mut late = carrier.events().unwrap();
        assert_eq!(next(&mut late), Some(Event::Closed(CloseReason::Aborted)));
        assert_eq!(next(&mut late), None);
        end(engine);
    });
}

#[test]
fn messages_that_never_left_fail_before_the_end_is_told() {
    on_both(60, |driver| {
        // Otherwise they would wait for another connection.
        let off = timeouts(|timeouts| timeouts.dormant = Duration::ZERO);
        let (engine, carrier, peer) = foreign_of(one(driver).timeouts(off), frames());
        let mut events = carrier.events().unwrap();
        let (told, closed) = mpsc::channel();
        let mut taken = 0;
        while carrier.try_send(Message::new(vec![7; 20_000]).niceness(1)).is_ok() || taken < 10 {
            taken += 1;
            std::thread::yield_now();
        }
        carrier.on_closed(move |reason| told.send(reason).unwrap()).unwrap();
        drop(peer);
        let mut failed = 0;
        let last = loop {
            match next(&mut events).unwrap() {
                Event::Failed(..) => failed += 1,
                Event::Closed(reason) => break reason,
                Event::Missed(count) => panic!("{count} missed"),
                _ => {}
            }
        };
        assert!(failed > 0, "of {taken}");
        assert!(matches!(last, CloseReason::Reset | CloseReason::Lost(_)), "{last}");
        assert_eq!(closed.recv_timeout(SOON), Ok(last));
        end(engine);
    });
}

#[test]
fn what_a_slow_stream_misses_is_counted() {
    on_both(60, |driver| {
        let few = limits(|limits| limits.events = 8);
        let (engine, carrier, mut peer) = foreign_of(one(driver).limits(few), frames());
        let mut slow = carrier.events().unwrap();
        let reader = std::thread::spawn(move || drop(peer.read_to_end(&mut Vec::new())));
        (1..100).for_each(|_| drop(carrier.send("x").wait().unwrap()));
        let last = carrier.send("x").wait().unwrap();
        assert_eq!(last.acked().wait().unwrap(), Outcome::Acked);
        // 100 were sent and acked; 8 of 200 events have room.
        let mut kept = 0;
        let missed = loop {
            match next(&mut slow).unwrap() {
                Event::Missed(count) => break count,
                _ => kept += 1,
            }
        };
        assert_eq!((kept, missed), (8, 192));
        carrier.send("heard again").wait().unwrap();
        assert!(matches!(next(&mut slow), Some(Event::Sent(message)) if message.number() == 101));
        drop(carrier);
        end(engine);
        reader.join().unwrap();
    });
}

#[test]
fn streams_are_bounded_and_end_with_their_engine() {
    on_both(60, |driver| {
        let (engine, carrier, _peer) = foreign(driver);
        let mut streams: Vec<_> = (0..16).map(|_| carrier.events().unwrap()).collect();
        let mut one_more = carrier.events().unwrap();
        assert_eq!(next(&mut one_more), Some(Event::Closed(CloseReason::Limit)));
        drop(streams.pop());
        let mut again = carrier.events().unwrap();
        carrier.send("one").wait().unwrap();
        assert!(matches!(next(&mut again), Some(Event::Sent(_))));
        engine.shutdown();
        engine.shutdown();
        engine.wait().unwrap();
        let ended = loop {
            match next(&mut again) {
                Some(Event::Closed(reason)) => break reason,
                Some(_) => {}
                None => panic!("the end was not told"),
            }
        };
        assert_eq!(ended, CloseReason::Shutdown);
        assert!(matches!(carrier.events(), Err(Error::EngineEnded)));
    });
}

#[test]
fn what_the_stack_supports_is_said_before_it_is_connected() {
    on_both(60, |driver| {
        let engine = one(driver).start().unwrap();
        let tcp = engine.initiate_with("tcp://127.0.0.1:1", frames()).supports().wait().unwrap();
        let reporters = [tcp.sent, tcp.acked, tcp.expired];
        assert_eq!(reporters, [Reporter::Transport; 3]);
        assert!(tcp.niceness && tcp.lifetime && tcp.antecedents && tcp.fork);
        assert!(!tcp.interleaving && !tcp.unordered && !tcp.unreliable && !tcp.fork_requests);
        assert!(!tcp.path_signalling && !tcp.reserved_rate && !tcp.traffic_class);
        let raw = engine.initiate_with("tcp://127.0.0.1:1", Unframed).supports().wait().unwrap();
        assert!(!raw.niceness && !raw.lifetime, "parts of one Message keep their order");
        let unix = engine.initiate_with("unix:///nowhere", frames()).supports().wait().unwrap();
        assert_eq!((unix.sent, unix.acked), (Reporter::Transport, Reporter::None));
        end(engine);
    });
}

#[test]
fn where_nobody_acks_the_handler_is_silent_and_the_receipt_says_so() {
    on_both(60, |driver| {
        let path = std::env::temp_dir().join(format!("postring-acks-{}", std::process::id()));
        // Left over from a run that was killed.
        let _ = std::fs::remove_file(&path);
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let engine = one(driver).start().unwrap();
        let carrier = engine.initiate_with(&format!("unix://{}", path.display()), frames());
        let (told, heard) = mpsc::channel();
        carrier.on_acked(move |_| told.send(()).unwrap()).unwrap();
        let receipt = carrier.send("one").wait().unwrap();
        let (_peer, _) = listener.accept().unwrap();
        assert_eq!(receipt.sent().wait().unwrap(), Outcome::Sent);
        assert_eq!(receipt.acked().wait().unwrap(), Outcome::Unsupported);
        assert!(heard.try_recv().is_err());
        std::fs::remove_file(&path).unwrap();
        end(engine);
    });
}
