//! Messages with wishes over TCP: niceness, lifetime, antecedents, and word of what became of them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use postring::{CloseReason, Error, Expiry, Message, Outcome, Properties, TrySendError, Unframed};

use crate::support::*;

/// A Carrier to a foreign peer that reads nothing yet, and the peer's side.
/// Frames until the peer's stream ends or `count` have come: first byte and length of each.
fn frames_of(peer: &mut TcpStream, count: usize) -> Vec<(u8, usize)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let Ok(payload) = read_frame(peer) else { break };
        seen.push((payload.first().copied().unwrap_or(0), payload.len()));
    }
    seen
}

fn of(class: u8, len: usize) -> Message<'static> {
    Message::new(vec![class; len]).niceness(class.into())
}

#[test]
fn an_urgent_message_overtakes_what_waits() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        let taken = fill(&carrier);
        // The queue is full of bulk; what is more urgent still finds room.
        for class in [3, 1, 2, 0] {
            carrier.send(of(class, 100)).wait().unwrap();
        }
        let seen = frames_of(&mut peer, taken + 4);
        let urgent: Vec<_> = seen.iter().filter(|(class, _)| *class != BULK).map(|s| s.0).collect();
        assert_eq!(urgent, [0, 1, 2, 3], "by class, not by time");
        let last_urgent = seen.iter().rposition(|(class, _)| *class != BULK).unwrap();
        let behind = seen.len() - 1 - last_urgent;
        assert!(behind > 5, "{behind} of {taken} bulk messages came behind the urgent ones");
        end(engine);
    });
}

#[test]
fn a_lifetime_ends_in_the_queue_and_its_followers_end_with_it() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        let taken = fill(&carrier);
        let short = Duration::from_millis(50);
        let first = carrier.send(of(8, 10).lifetime(short)).wait().unwrap();
        let second = carrier.send(of(8, 11).after([&first])).wait().unwrap();
        let third = carrier.send(of(8, 12).after([&second])).wait().unwrap();
        let started = Instant::now();
        match first.sent().wait().unwrap() {
            Outcome::Expired(Expiry::Deadline | Expiry::Hopeless) => {}
            other => panic!("{other:?}"),
        }
        assert!(started.elapsed() < SOON);
        let number = |receipt: &postring::Receipt| receipt.message().number();
        let because = |of: u64| Outcome::Expired(Expiry::Antecedent(of));
        assert_eq!(second.sent().wait().unwrap(), because(number(&first)));
        assert_eq!(third.acked().wait().unwrap(), because(number(&second)));
        carrier.send(of(8, 13)).wait().unwrap();
        let seen = frames_of(&mut peer, taken + 1);
        assert!(seen.iter().all(|(_, len)| !(10..=12).contains(len)), "expired ones cost no bytes");
        let expired: u64 = engine.metrics().total().expired_messages;
        assert_eq!(expired, 3);
        end(engine);
    });
}

#[test]
fn sent_and_acked_are_told_for_plain_and_for_wishful_messages() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        let plain = carrier.send("plain").wait().unwrap();
        let wishful = carrier.send(Message::from("nice").niceness(1)).wait().unwrap();
        assert_eq!((plain.message().number(), wishful.message().number()), (1, 2));
        assert_eq!(plain.sent().wait().unwrap(), Outcome::Sent);
        assert_eq!(wishful.sent().wait().unwrap(), Outcome::Sent);
        assert_eq!(wishful.acked().wait().unwrap(), Outcome::Acked);
        assert_eq!(plain.acked().wait().unwrap(), Outcome::Acked);
        assert_eq!(frames_of(&mut peer, 2).len(), 2);
        end(engine);
    });
}

#[test]
fn callbacks_of_one_message_are_called_once() {
    on_both(60, |driver| {
        let (engine, carrier, _peer) = foreign(driver);
        let (told, heard) = mpsc::channel();
        let tell = |what: &'static str| -> Option<postring::Callback> {
            let told = told.clone();
            Some(Box::new(move || told.send(what).unwrap()))
        };
        carrier.send_msg("one", tell("sent"), tell("acked"), tell("expired")).unwrap();
        assert_eq!(heard.recv_timeout(SOON), Ok("sent"));
        assert_eq!(heard.recv_timeout(SOON), Ok("acked"));
        let gone = Message::from("two").lifetime(Duration::ZERO);
        carrier.send_msg(gone, tell("sent"), None, tell("expired")).unwrap();
        assert_eq!(heard.recv_timeout(SOON), Ok("expired"));
        carrier.send_msg("three", None, None, None).unwrap();
        assert!(heard.recv_timeout(Duration::from_millis(100)).is_err());
        end(engine);
    });
}

#[test]
fn what_waits_when_the_peer_dies_fails_or_may_have_arrived() {
    on_both(60, |driver| {
        // Otherwise it would go on with another connection.
        let off = timeouts(|timeouts| timeouts.dormant = Duration::ZERO);
        let (engine, carrier, peer) = foreign_of(one(driver).timeouts(off), frames());
        let early = carrier.send(of(1, 10)).wait().unwrap();
        assert_eq!(early.sent().wait().unwrap(), Outcome::Sent);
        fill(&carrier);
        let waiting = carrier.send(of(5, 10)).wait().unwrap();
        let asked = waiting.sent();
        drop(peer);
        match asked.wait().unwrap() {
            Outcome::Failed(CloseReason::Reset | CloseReason::Lost(_)) => {}
            other => panic!("{other:?}"),
        }
        end(engine);
    });
}

#[test]
fn wishes_that_cannot_be_kept_are_errors() {
    on_both(60, |driver| {
        let (engine, carrier, _peer) = foreign(driver);
        let (other_engine, other, _other_peer) = foreign(driver);
        let foreign = other.send("elsewhere").wait().unwrap();
        let sent = carrier.send(Message::from("x").after([&foreign])).wait();
        assert!(matches!(sent, Err(Error::Message(_))), "{sent:?}");
        let own = carrier.send("own").wait().unwrap();
        let many = std::iter::repeat_n(&own, 17);
        let sent = carrier.send(Message::from("x").after(many)).wait();
        assert!(matches!(sent, Err(Error::Message(_))), "{sent:?}");
        let huge = Message::from("x").niceness(u32::MAX).lifetime(Duration::MAX);
        let receipt = carrier.send(huge).wait().unwrap();
        assert_eq!(receipt.sent().wait().unwrap(), Outcome::Sent);
        let properties = Properties::new().niceness(7).after([&own]);
        assert!(carrier.send_with(properties, "y").wait().is_ok());
        end(engine);
        end(other_engine);
    });
}

#[test]
fn a_flood_of_classes_from_many_threads_arrives_whole_and_in_class_order() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        const EACH: usize = 500;
        let reader = std::thread::spawn(move || {
            let mut last = [0u64; 4];
            for _ in 0..4 * EACH {
                let mut frame = [0; 4 + 9];
                peer.read_exact(&mut frame).unwrap();
                let class = usize::from(frame[4]);
                let number = u64::from_be_bytes(frame[5..].try_into().unwrap());
                assert_eq!(number, last[class] + 1, "within a class nothing overtakes");
                last[class] = number;
            }
            peer.write_all(&frame(b"done")).unwrap();
        });
        let carrier_ref = *carrier;
        let senders = (0..4u8).map(|class| {
            std::thread::spawn(move || {
                for number in 1..=EACH as u64 {
                    let mut bytes = vec![class];
                    bytes.extend(number.to_be_bytes());
                    let message = Message::new(bytes).niceness(class.into());
                    carrier_ref.send(message).wait().unwrap();
                }
            })
        });
        let senders: Vec<_> = senders.collect();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        assert_eq!(carrier.receive().wait().unwrap().bytes(), b"done");
        reader.join().unwrap();
        end(engine);
    });
}

/// Bulk that waits at the door is in nobody's way who may pass it.
#[test]
fn an_urgent_message_of_another_thread_is_tried_where_bulk_is_refused() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        let taken = fill(&carrier);
        let bulk = carrier.try_send(of(BULK, 10));
        assert!(matches!(bulk, Err(TrySendError::Full(_))), "{bulk:?}");
        carrier.try_send(of(3, 100)).unwrap();
        carrier.send_msg(of(0, 100), None, None, None).unwrap();
        let bulk = carrier.try_send(of(BULK, 10));
        assert!(matches!(bulk, Err(TrySendError::Full(_))), "{bulk:?}");
        let seen = frames_of(&mut peer, taken + 2);
        let urgent: Vec<_> = seen.iter().filter(|(class, _)| *class != BULK).map(|s| s.0).collect();
        assert_eq!(urgent, [0, 3]);
        until("there is room", || carrier.try_send(of(BULK, 10)).is_ok());
        end(engine);
    });
}

#[test]
fn a_message_without_bytes_is_sent() {
    on_both(30, |driver| {
        let (engine, carrier, _peer) = foreign_of(one(driver), Unframed);
        let receipt = carrier.send(Message::from("").niceness(1)).wait().unwrap();
        within(10, move || assert_eq!(receipt.sent().wait().unwrap(), Outcome::Sent));
        end(engine);
    });
}

/// Nothing else has the wheel look at a connection whose send is stuck.
#[test]
fn a_lifetime_ends_in_time_behind_a_send_that_is_stuck() {
    on_both(60, |driver| {
        let (engine, carrier, _peer) = foreign(driver);
        fill(&carrier);
        let short = Duration::from_millis(50);
        let receipt = carrier.send(of(0, 10).lifetime(short)).wait().unwrap();
        let outcome = receipt.sent();
        within(8, move || assert!(matches!(outcome.wait().unwrap(), Outcome::Expired(_))));
        end(engine);
    });
}

/// Where nothing delimits Messages, each part is one of its own and has its own word.
#[test]
fn parts_on_a_stream_without_frames_are_told_each_for_itself() {
    on_both(30, |driver| {
        let (engine, carrier, mut peer) = foreign_of(one(driver), Unframed);
        let mut message = carrier.begin(Properties::new());
        let first = message.send("one ", false).wait().unwrap();
        let second = message.send("two", false).wait().unwrap();
        assert_ne!(first.message(), second.message());
        within(10, move || {
            assert_eq!(first.sent().wait().unwrap(), Outcome::Sent);
            assert_eq!(second.acked().wait().unwrap(), Outcome::Acked);
        });
        // The same where Messages have an order.
        carrier.on_sent(|_| ()).unwrap();
        let third = message.send(" three", false).wait().unwrap();
        within(10, move || assert_eq!(third.sent().wait().unwrap(), Outcome::Sent));
        let mut whole = [0; 13];
        peer.read_exact(&mut whole).unwrap();
        assert_eq!(&whole, b"one two three");
        end(engine);
    });
}

#[test]
fn a_message_in_parts_has_one_end_in_the_stream_of_events() {
    on_both(30, |driver| {
        let (engine, carrier, _peer) = foreign(driver);
        let mut events = carrier.events().unwrap();
        let len = 30_000_000;
        let mut message = carrier.begin(Properties::new().total_len(len as u64));
        let receipt = message.send(pattern(len), true).wait().unwrap();
        carrier.abort();
        let mut ends = Vec::new();
        while let Some(event) = events.next().wait().unwrap() {
            ends.extend(event.message());
        }
        assert_eq!(ends, [receipt.message()]);
        end(engine);
    });
}
