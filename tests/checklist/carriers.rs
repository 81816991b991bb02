//! Items 1 to 16: Carriers, Listeners, Sources, Sinks and Responders (draft §2.1).

use std::io::Write;
use std::net::TcpListener;
use std::sync::mpsc;

use postring::{
    Acceptor, Carrier, CarrierState, CloseReason, Error, LengthPrefixed, Message, Reply, Sink,
    Source,
};

use crate::pairs::*;
use crate::support::*;

/// The application: it knows nothing of the stack but the address.
fn ask(engine: &postring::Engine, address: &str, question: &'static str) -> String {
    let carrier = engine.initiate_with(address, frames());
    carrier.send(question).wait().unwrap();
    text(&carrier.receive().wait().unwrap())
}

#[test]
fn item_001_the_same_application_runs_on_two_stacks() {
    on_both(60, |driver| {
        let path = std::env::temp_dir().join(format!("postring-item-1-{}", std::process::id()));
        // Left over from a run that was killed.
        let _ = std::fs::remove_file(&path);
        let unix = format!("unix://{}", path.display());
        for address in ["tcp://127.0.0.1:0", unix.as_str()] {
            let echo = |message: Message<'_>, reply: Reply<'_, LengthPrefixed>| reply.send(message);
            let engine = one(driver).respond_with(address, frames(), echo).start().unwrap();
            let address = engine.local_addresses().remove(0);
            assert_eq!(ask(&engine, &address, "who are you?"), "who are you?");
            end(engine);
        }
    });
}

#[test]
fn item_002_receive_fires_with_the_last_packet_of_a_message() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        let (told, heard) = mpsc::channel();
        carrier.ready(move |message: Message<'_>| told.send(message.len()).unwrap()).unwrap();
        let bytes = frame(&pattern(1000));
        peer.write_all(&bytes[..900]).unwrap();
        until("the first packet is there", || engine.metrics().total().received_bytes == 900);
        assert!(heard.try_recv().is_err(), "the Message is not whole yet");
        peer.write_all(&bytes[900..]).unwrap();
        assert_eq!(heard.recv_timeout(SOON), Ok(1000));
        end(engine);
    });
}

#[test]
fn item_003_messages_arrive_at_the_corresponding_carrier() {
    on_both(60, |driver| {
        let (listener, address) = listen(driver);
        let engine = one(driver).start().unwrap();
        let pairs: Vec<_> = (0..8)
            .map(|_| {
                let here = engine.initiate_with(&address, frames());
                here.activate().wait().unwrap();
                (here, listener.accept().wait().unwrap())
            })
            .collect();
        for round in 0..10_u8 {
            for (at, (here, _)) in pairs.iter().enumerate() {
                here.send(vec![at as u8, round]).wait().unwrap();
            }
        }
        for (at, (_, there)) in pairs.iter().enumerate() {
            for round in 0..10_u8 {
                assert_eq!(there.receive().wait().unwrap().bytes(), [at as u8, round]);
            }
        }
        end(engine);
    });
}

#[test]
fn item_004_an_active_carrier_says_so() {
    on_both(60, |driver| {
        let (listener, address) = listen(driver);
        let engine = one(driver).start().unwrap();
        let carrier = engine.initiate_with(&address, frames());
        assert_eq!(carrier.state().wait().unwrap(), CarrierState::Inactive);
        carrier.activate().wait().unwrap();
        assert_eq!(carrier.state().wait().unwrap(), CarrierState::Active);
        let there = listener.accept().wait().unwrap();
        assert_eq!(there.state().wait().unwrap(), CarrierState::Active);
        carrier.abort();
        let aborted = CarrierState::Closed(CloseReason::Aborted);
        until("it is closed", || carrier.state().wait().unwrap() == aborted);
        end(engine);
    });
}

#[test]
fn item_008_passive_close_is_an_event_and_use_after_it_an_error() {
    on_both(60, |driver| {
        let (_listener, engine, here, there) = both(driver);
        let (told, closed) = mpsc::channel();
        there.on_closed(move |reason| told.send(reason).unwrap()).unwrap();
        here.abort();
        assert_eq!(closed.recv_timeout(SOON), Ok(CloseReason::Reset));
        let is_closed = |error: Error| matches!(error, Error::Closed(CloseReason::Reset));
        assert!(is_closed(there.send("x").wait().unwrap_err()));
        assert!(is_closed(there.receive().wait().unwrap_err()));
        assert!(there.fork().wait().is_err());
        end(engine);
    });
}

#[test]
fn item_009_a_fork_is_a_new_carrier_and_its_peer_a_new_one_too() {
    on_both(60, |driver| {
        let (listener, engine, here, there) = both(driver);
        assert!(here.supports().wait().unwrap().fork);
        let fork = here.fork().wait().unwrap();
        let fork_there = listener.accept().wait().unwrap();
        fork.send("by the fork").wait().unwrap();
        here.send("by the first").wait().unwrap();
        assert_eq!(text(&there.receive().wait().unwrap()), "by the first");
        assert_eq!(text(&fork_there.receive().wait().unwrap()), "by the fork");
        assert_eq!(fork.peer_address().wait().unwrap(), here.peer_address().wait().unwrap());
        // Where the stack has no fork, the error says so.
        assert!(!there.supports().wait().unwrap().fork);
        assert!(matches!(there.fork().wait(), Err(Error::Unsupported(_))));
        end(engine);
    });
}

/// Over TCP a fork reaches the peer's Listener; a Carrier says that it hears of none. A refusal is
/// a reset there.
#[test]
fn item_010_a_fork_can_be_refused_and_the_forker_sees_it() {
    on_both(60, |driver| {
        let (listener, address) = listen(driver);
        let engine = one(driver).start().unwrap();
        let here = engine.initiate_with(&address, frames());
        here.activate().wait().unwrap();
        let there = listener.accept().wait().unwrap();
        let fork = here.fork().wait().unwrap();
        let asked = listener.accept().wait().unwrap();
        asked.abort();
        let refused = fork.receive().wait();
        assert!(matches!(refused, Err(Error::Closed(CloseReason::Reset))), "{refused:?}");
        here.send("unharmed").wait().unwrap();
        assert_eq!(text(&there.receive().wait().unwrap()), "unharmed");
        assert!(!there.supports().wait().unwrap().fork_requests);
        assert!(matches!(there.accept().wait(), Err(Error::Unsupported(_))));
        end(engine);
    });
}

#[test]
fn item_011_carriers_over_tcp_have_connections_of_their_own() {
    on_both(60, |driver| {
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let engine = one(driver).start().unwrap();
        let first = engine.initiate_with(&address_of(&peer), frames());
        first.activate().wait().unwrap();
        let (mut one_there, one_from) = peer.accept().unwrap();
        let second = first.fork().wait().unwrap();
        let (mut two_there, two_from) = peer.accept().unwrap();
        assert_ne!(one_from, two_from);
        first.send("one").wait().unwrap();
        second.send("two").wait().unwrap();
        assert_eq!(read_frame(&mut one_there).unwrap(), b"one");
        assert_eq!(read_frame(&mut two_there).unwrap(), b"two");
        assert_eq!(engine.metrics().total().open_connections, 2);
        end(engine);
    });
}

#[test]
fn item_012_initiate_is_an_active_open() {
    on_both(60, |driver| {
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let engine = one(driver).start().unwrap();
        let carrier = engine.initiate_with(&address_of(&peer), frames());
        carrier.activate().wait().unwrap();
        peer.set_nonblocking(true).unwrap();
        until("it opened a connection", || peer.accept().is_ok());
        assert_eq!(carrier.peer_address().wait().unwrap(), peer.local_addr().ok());
        end(engine);
    });
}

fn accepted<A: Acceptor<LengthPrefixed>>(from: &A) -> postring::Result<Carrier<LengthPrefixed>> {
    from.accept().wait()
}

#[test]
fn item_013_listeners_and_carriers_accept_by_one_interface() {
    on_both(60, |driver| {
        let (listener, engine, here, _there) = both(driver);
        let second = engine.initiate_with(&listener.local_addresses()[0], frames());
        second.send("for the Listener").wait().unwrap();
        let second_there = accepted(&listener).unwrap();
        assert_eq!(text(&second_there.receive().wait().unwrap()), "for the Listener");
        // The same function compiles for a Carrier, whose stack has no requests to accept.
        assert!(matches!(accepted(&here), Err(Error::Unsupported(_))));
        assert!(matches!(accepted(&*here), Err(Error::Unsupported(_))));
        end(engine);
    });
}

/// What a method of these traits gives. A method of the type itself would go before it, and then
/// the test does not compile.
struct Absent;

trait CannotReceive {
    fn receive(&self) -> Absent {
        Absent
    }
    fn ready(&self) -> Absent {
        Absent
    }
    fn receive_partial(&self) -> Absent {
        Absent
    }
}

trait CannotSend {
    fn send(&self) -> Absent {
        Absent
    }
    fn try_send(&self) -> Absent {
        Absent
    }
    fn send_msg(&self) -> Absent {
        Absent
    }
}

trait CannotFork {
    fn fork(&self) -> Absent {
        Absent
    }
    fn accept(&self) -> Absent {
        Absent
    }
}

impl CannotReceive for Source<LengthPrefixed> {}
impl CannotFork for Source<LengthPrefixed> {}
impl CannotSend for Sink<LengthPrefixed> {}
impl CannotFork for Sink<LengthPrefixed> {}
impl CannotReceive for Reply<'_, LengthPrefixed> {}
impl CannotFork for Reply<'_, LengthPrefixed> {}

/// The background core stays as it is for all tests: the drivers make no difference here.
#[test]
fn item_014_a_source_sends_only() {
    within(60, || {
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let source = postring::initiate_source_with(&address_of(&peer), frames());
        source.send("one way").wait().unwrap();
        let (mut there, _) = peer.accept().unwrap();
        assert_eq!(read_frame(&mut there).unwrap(), b"one way");
        let _: [Absent; 3] = [source.receive(), source.ready(), source.receive_partial()];
        let _: [Absent; 2] = [source.fork(), source.accept()];
    });
}

#[test]
fn item_015_a_sink_receives_only() {
    within(60, || {
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let sink = postring::initiate_sink_with(&address_of(&peer), frames());
        let receiving = sink.receive();
        let (mut there, _) = peer.accept().unwrap();
        there.write_all(&frame(b"the other way")).unwrap();
        assert_eq!(text(&receiving.wait().unwrap()), "the other way");
        let _: [Absent; 3] = [sink.send(), sink.try_send(), sink.send_msg()];
        let _: [Absent; 2] = [sink.fork(), sink.accept()];
    });
}

#[test]
fn item_016_a_responder_answers_many_remotes_each_at_its_source() {
    on_both(60, |driver| {
        let per_core = || {
            let mut count = 0_u32;
            move |message: Message<'_>, reply: Reply<'_, LengthPrefixed>| {
                let _: [Absent; 2] = [reply.receive(), reply.ready()];
                let _: [Absent; 2] = [reply.fork(), reply.accept()];
                count += 1;
                reply.send(format!("{} {count}", message.text().unwrap()))
            }
        };
        let engine =
            one(driver).respond_per_core("tcp://127.0.0.1:0", frames(), per_core).start().unwrap();
        let mut peers: Vec<_> = (0..5).map(|_| connect(&engine)).collect();
        for (at, peer) in peers.iter_mut().enumerate().rev() {
            peer.write_all(&frame(format!("remote {at}").as_bytes())).unwrap();
            let answer = String::from_utf8(read_frame(peer).unwrap()).unwrap();
            // One object sees all of them: it counts on.
            assert_eq!(answer, format!("remote {at} {}", 5 - at));
        }
        end(engine);
    });
}
