//! Items 29 to 44 and 88: lifetime, niceness, antecedents, and word of what became of a Message.

use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use postring::{
    Event, Expiry, FrameError, Framer, LengthPrefixed, Message, MessageId, Outcome, Output,
    Properties, Receipt, Reporter,
};

use crate::pairs::*;
use crate::support::*;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn because_of(antecedent: &Receipt) -> Outcome {
    Outcome::Expired(Expiry::Antecedent(antecedent.message().number()))
}

fn is_expired(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Expired(Expiry::Deadline | Expiry::Hopeless))
}

#[test]
fn item_029_what_cannot_arrive_in_time_is_discarded() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        fill(&carrier);
        let late = Message::from("late").niceness(98).lifetime(Duration::from_millis(50));
        let late = carrier.send(late).wait().unwrap();
        assert!(is_expired(late.sent().wait().unwrap()));
        carrier.send(Message::from("end").niceness(98)).wait().unwrap();
        assert_eq!(beside_bulk(&mut peer, 1), ["end"], "it cost no bytes");
        end(engine);
    });
}

#[test]
fn item_030_without_a_lifetime_it_arrives_however_late() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        let taken = fill(&carrier);
        let patient = carrier.send(Message::from("patient").niceness(98)).wait().unwrap();
        std::thread::sleep(Duration::from_millis(500));
        let all: Vec<_> = (0..=taken).map(|_| read_frame(&mut peer).unwrap()).collect();
        assert_eq!(all.iter().filter(|content| **content == [BULK; 20_000]).count(), taken);
        assert!(all.iter().any(|content| content == b"patient"));
        assert_eq!(patient.sent().wait().unwrap(), Outcome::Sent);
        end(engine);
    });
}

#[test]
fn item_031_the_earlier_deadline_goes_first() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        fill(&carrier);
        for (name, lifetime) in [("60", 60), ("40", 40), ("50", 50)] {
            let message = Message::from(name).niceness(5).lifetime(seconds(lifetime));
            carrier.send(message).wait().unwrap();
        }
        carrier.send(Message::from("none").niceness(5)).wait().unwrap();
        assert_eq!(beside_bulk(&mut peer, 4), ["40", "50", "60", "none"]);
        end(engine);
    });
}

/// [`LengthPrefixed`], but each Message leans on those before it: none may be left out.
#[derive(Clone)]
struct Leaning(LengthPrefixed);

impl Framer for Leaning {
    type Got = Message<'static>;
    type In<'a> = Message<'a>;
    type Out<'a> = Message<'a>;
    const STANDS_ALONE: bool = false;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(usize, Message<'a>)>, FrameError> {
        self.0.decode(input)
    }

    fn lend(message: Message<'static>) -> Message<'static> {
        message
    }

    fn properties<'a>(message: &'a Message<'_>) -> Option<&'a Properties> {
        message.properties()
    }

    fn encode(&mut self, message: Message<'_>, into: &mut Output) -> Result<(), FrameError> {
        self.0.encode(message, into)
    }
}

/// Whoever may act on a lifetime says so beforehand: this host's queue, and on TCP nobody else.
#[test]
fn item_032_who_hears_of_a_lifetime_is_discoverable() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        let late = || Message::from("late").lifetime(Duration::ZERO);
        let supports = carrier.supports().wait().unwrap();
        assert!(supports.lifetime);
        let outcome = carrier.send(late()).wait().unwrap().sent().wait().unwrap();
        assert!(is_expired(outcome), "{outcome:?}");
        // Under way, neither the path nor this end drops it.
        assert!(!supports.path_signalling && !supports.lifetime_under_way);
        let large = Message::new(pattern(20 << 20)).lifetime(Duration::from_secs(5));
        let sent = carrier.send(large).wait().unwrap();
        until("it has begun", || engine.metrics().total().sent_bytes > 0);
        std::thread::sleep(Duration::from_secs(6));
        assert!(read_frame(&mut peer).unwrap() == pattern(20 << 20));
        assert_eq!(sent.sent().wait().unwrap(), Outcome::Sent);
        end(engine);
        let (engine, carrier, mut peer) = foreign_of(one(driver), Leaning(frames()));
        assert!(!carrier.supports().wait().unwrap().lifetime);
        carrier.send(late()).wait().unwrap();
        assert_eq!(read_frame(&mut peer).unwrap(), b"late", "as it said");
        end(engine);
    });
}

#[test]
fn item_033_a_class_yields_to_every_lower_one() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        let nicest = carrier.send(Message::from("nicest").niceness(u32::MAX)).wait().unwrap();
        assert_eq!(nicest.sent().wait().unwrap(), Outcome::Sent);
        assert_eq!(beside_bulk(&mut peer, 1), ["nicest"]);
        fill(&carrier);
        for niceness in [98, 7, 1, 2] {
            let message = Message::from(niceness.to_string()).niceness(niceness);
            carrier.send(message).wait().unwrap();
        }
        carrier.send("default").wait().unwrap();
        assert_eq!(beside_bulk(&mut peer, 5), ["default", "1", "2", "7", "98"]);
        end(engine);
    });
}

#[test]
fn item_036_what_it_follows_goes_first_however_urgent_it_is() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        fill(&carrier);
        let picture = carrier.send(Message::from("picture").niceness(50)).wait().unwrap();
        carrier.send(Message::from("between").niceness(10)).wait().unwrap();
        let change = Message::from("change").niceness(1).after([&picture]);
        carrier.send(change).wait().unwrap();
        // The picture inherits the class of what waits for it.
        assert_eq!(beside_bulk(&mut peer, 3), ["picture", "change", "between"]);
        end(engine);
    });
}

#[test]
fn item_037_what_follows_an_expired_message_expires_too() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        fill(&carrier);
        let first = Message::from("first").niceness(98).lifetime(Duration::from_millis(50));
        let first = carrier.send(first).wait().unwrap();
        let second = Message::from("second").niceness(98).after([&first]);
        let second = carrier.send(second).wait().unwrap();
        let third = Message::from("third").niceness(98).after([&second]);
        let third = carrier.send(third).wait().unwrap();
        assert!(is_expired(first.sent().wait().unwrap()));
        assert_eq!(second.sent().wait().unwrap(), because_of(&first));
        assert_eq!(third.sent().wait().unwrap(), because_of(&second));
        carrier.send(Message::from("end").niceness(98)).wait().unwrap();
        assert_eq!(beside_bulk(&mut peer, 1), ["end"]);
        end(engine);
    });
}

/// One path only: which path a Message takes comes with the stacks that have several.
#[test]
fn item_038_class_deadline_and_antecedents_together_pick_the_next() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        fill(&carrier);
        let send = |message: Message<'static>| carrier.send(message).wait().unwrap();
        send(Message::from("5 none").niceness(5));
        send(Message::from("5 in 60").niceness(5).lifetime(seconds(60)));
        let late = send(Message::from("9 first").niceness(9));
        send(Message::from("1 in 50").niceness(1).lifetime(seconds(50)));
        send(Message::from("1 in 40, after 9").niceness(1).lifetime(seconds(40)).after([&late]));
        let wanted = ["9 first", "1 in 40, after 9", "1 in 50", "5 in 60", "5 none"];
        assert_eq!(beside_bulk(&mut peer, 5), wanted);
        end(engine);
    });
}

#[test]
fn item_041_sent_is_told_when_the_stack_has_it_and_not_before() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        let (told, heard) = mpsc::channel();
        fill(&carrier);
        let receipt = carrier.send(Message::from("x").niceness(98)).wait().unwrap();
        std::thread::spawn(move || told.send(receipt.sent().wait().unwrap()));
        let early = heard.recv_timeout(Duration::from_millis(200));
        assert!(early.is_err(), "it waits behind the bulk");
        assert_eq!(beside_bulk(&mut peer, 1), ["x"]);
        assert_eq!(heard.recv_timeout(SOON), Ok(Outcome::Sent));
        end(engine);
    });
}

#[test]
fn item_042_acked_is_told_when_the_peer_has_it_and_not_before() {
    on_both(60, |driver| {
        let engine = one(driver).start().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Most of it waits in this end's kernel until the peer reads.
        rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 8 << 10).unwrap();
        let carrier = engine.initiate_with(&address_of(&listener), frames());
        carrier.activate().wait().unwrap();
        let mut peer = accept(&listener);
        assert_eq!(carrier.supports().wait().unwrap().acked, Reporter::Transport);
        let receipt = carrier.send(pattern(100_000)).wait().unwrap();
        let acked = receipt.acked();
        assert_eq!(receipt.sent().wait().unwrap(), Outcome::Sent);
        let (told, heard) = mpsc::channel();
        std::thread::spawn(move || told.send(acked.wait().unwrap()));
        assert!(heard.recv_timeout(Duration::from_millis(200)).is_err(), "it cannot have it yet");
        assert!(read_frame(&mut peer).unwrap() == pattern(100_000));
        assert_eq!(heard.recv_timeout(SOON), Ok(Outcome::Acked));
        // Where nobody can tell, that is discoverable.
        let unix = engine.initiate_with("unix:///nowhere", frames()).supports().wait().unwrap();
        assert_eq!((unix.sent, unix.acked), (Reporter::Transport, Reporter::None));
        end(engine);
    });
}

#[test]
fn item_043_expired_is_told_and_neither_sent_nor_acked_is() {
    on_both(60, |driver| {
        let (engine, carrier, _peer) = foreign(driver);
        let mut events = carrier.events().unwrap();
        let late = carrier.send(Message::from("late").lifetime(Duration::ZERO)).wait().unwrap();
        assert!(is_expired(late.sent().wait().unwrap()));
        carrier.abort();
        let mut seen = Vec::new();
        while let Some(event) = events.next().wait().unwrap() {
            seen.push(event);
        }
        let number = |message: &MessageId| message.number();
        match &seen[..] {
            [Event::Expired(message, _), Event::Closed(_)] => assert_eq!(number(message), 1),
            _ => panic!("{seen:?}"),
        }
        end(engine);
    });
}

#[test]
fn item_044_messages_are_objects_or_bytes_with_defaults() {
    on_both(60, |driver| {
        let defaults = Properties::new();
        assert_eq!((defaults.niceness_or_default(), defaults.lifetime_if_set()), (0, None));
        assert!(!defaults.is_unreliable() && !defaults.is_unordered());
        let (_listener, engine, here, there) = both(driver);
        for number in 0..100_u8 {
            match number % 3 {
                0 => drop(here.send(vec![number]).wait().unwrap()),
                1 => drop(here.send(Message::new(vec![number])).wait().unwrap()),
                _ => drop(here.send_with(Properties::new(), vec![number]).wait().unwrap()),
            }
        }
        for number in 0..100_u8 {
            assert_eq!(there.receive().wait().unwrap().bytes(), [number], "in order");
        }
        end(engine);
    });
}

#[test]
fn item_088_send_msg_takes_three_callbacks_each_of_them_optional() {
    on_both(60, |driver| {
        let (engine, carrier, _peer) = foreign(driver);
        let (told, heard) = mpsc::channel();
        let tell = |what: &'static str| -> Option<postring::Callback> {
            let told = told.clone();
            Some(Box::new(move || told.send(what).unwrap()))
        };
        carrier.send_msg("none", None, None, None).unwrap();
        carrier.send_msg("all", tell("sent"), tell("acked"), tell("expired")).unwrap();
        assert_eq!(heard.recv_timeout(SOON), Ok("sent"));
        assert_eq!(heard.recv_timeout(SOON), Ok("acked"));
        let late = Message::from("late").lifetime(Duration::ZERO);
        carrier.send_msg(late, tell("sent"), None, tell("expired")).unwrap();
        assert_eq!(heard.recv_timeout(SOON), Ok("expired"));
        assert!(heard.recv_timeout(Duration::from_millis(50)).is_err(), "each is told once");
        end(engine);
    });
}
