//! Forks, Sources, Sinks, and accept as both Listeners and Carriers have it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use postring::{
    Acceptor, Carrier, CarrierState, CloseReason, Engine, Error, Flow, LengthPrefixed, Listener,
    Message,
};

use crate::support::*;

fn listen(driver: postring::DriverChoice) -> (Listener<LengthPrefixed>, String) {
    let listener = one(driver).listen_with("tcp://127.0.0.1:0", frames()).unwrap();
    let address = listener.local_addresses().remove(0);
    (listener, address)
}

fn text(message: Message<'static>) -> String {
    message.text().unwrap().to_owned()
}

/// The next Carrier, by the interface that Listeners and Carriers share.
fn accepted<A: Acceptor<LengthPrefixed>>(from: &A) -> postring::Result<Carrier<LengthPrefixed>> {
    from.accept().wait()
}

#[test]
fn a_fork_is_another_carrier_to_the_same_remote() {
    on_both(60, |driver| {
        let (listener, address) = listen(driver);
        let engine = one(driver).start().unwrap();
        let first = engine.initiate_with(&address, frames());
        first.send("first").wait().unwrap();
        let first_there = accepted(&listener).unwrap();
        assert_eq!(text(first_there.receive().wait().unwrap()), "first");
        let fork = first.fork().wait().unwrap();
        let fork_there = accepted(&listener).unwrap();
        assert_eq!(fork.state().wait().unwrap(), CarrierState::Active);
        fork.send("from the fork").wait().unwrap();
        fork_there.send("to the fork").wait().unwrap();
        first.send("from the first").wait().unwrap();
        // Each Message arrives at the corresponding Carrier, never at its sibling.
        assert_eq!(text(fork_there.receive().wait().unwrap()), "from the fork");
        assert_eq!(text(fork.receive().wait().unwrap()), "to the fork");
        assert_eq!(text(first_there.receive().wait().unwrap()), "from the first");
        first.abort();
        fork.send("alive without the first").wait().unwrap();
        assert_eq!(text(fork_there.receive().wait().unwrap()), "alive without the first");
        let third = fork.fork().wait().unwrap();
        assert_eq!(third.peer_address().wait().unwrap(), fork.peer_address().wait().unwrap());
        end(engine);
    });
}

#[test]
fn an_inactive_carrier_forks_and_a_closed_one_does_not() {
    on_both(60, |driver| {
        let (listener, address) = listen(driver);
        let engine = one(driver).start().unwrap();
        let first = engine.initiate_with(&address, frames());
        let fork = first.fork().wait().unwrap();
        let there = accepted(&listener).unwrap();
        assert_eq!(first.state().wait().unwrap(), CarrierState::Inactive);
        drop(there);
        assert!(matches!(fork.receive().wait(), Err(Error::Closed(CloseReason::Finished))));
        // Passive close: whatever is tried with it afterwards is an error.
        assert!(matches!(fork.fork().wait(), Err(Error::Closed(_))));
        first.abort();
        until("it is closed", || matches!(first.state().wait().unwrap(), CarrierState::Closed(_)));
        match first.fork().wait() {
            Err(Error::Closed(CloseReason::Aborted)) => {}
            other => panic!("{other:?}"),
        }
        end(engine);
    });
}

#[test]
fn a_fork_that_finds_nobody_says_where_it_looked() {
    on_both(60, |driver| {
        let (listener, address) = listen(driver);
        let engine = one(driver).start().unwrap();
        let first = engine.initiate_with(&address, frames());
        first.activate().wait().unwrap();
        let _there = accepted(&listener).unwrap();
        drop(listener);
        let mut error = String::new();
        until("nobody listens", || match first.fork().wait() {
            Ok(_) => false,
            Err(other) => {
                error = other.to_string();
                true
            }
        });
        assert!(error.contains(&address), "{error}");
        let wrong = engine.initiate_with("carrier pigeon", frames());
        assert!(matches!(wrong.fork().wait(), Err(Error::Address { .. })));
        end(engine);
    });
}

#[test]
fn what_tcp_cannot_fork_or_accept_is_an_error_that_says_so() {
    on_both(60, |driver| {
        let (listener, address) = listen(driver);
        let engine = one(driver).start().unwrap();
        let carrier = engine.initiate_with(&address, frames());
        carrier.activate().wait().unwrap();
        let there = accepted(&listener).unwrap();
        assert!(!there.supports().wait().unwrap().fork);
        match there.fork().wait() {
            Err(Error::Unsupported(why)) => assert!(why.contains("let the peer fork"), "{why}"),
            other => panic!("{other:?}"),
        }
        for outcome in [accepted(&carrier), carrier.accept().wait(), accepted(&there)] {
            match outcome {
                Err(Error::Unsupported(why)) => assert!(why.contains("Listener"), "{why}"),
                other => panic!("{other:?}"),
            }
        }
        end(engine);
    });
}

#[test]
fn forks_from_inside_a_handler_and_from_its_core() {
    on_both(60, |driver| {
        let (listener, address) = listen(driver);
        let engine = one(driver).start().unwrap();
        let (told, heard) = mpsc::channel();
        engine
            .spawn_on(0, {
                let address = address.clone();
                move || async move {
                    let first = postring::initiate_with(&address, frames());
                    first.send("first").await.unwrap();
                    let (forking, forked) = mpsc::channel();
                    let first_ref = *first;
                    first
                        .ready(move |_: Message<'_>| {
                            // From inside a call into the very Carrier that is forked.
                            forking.send(first_ref.fork()).unwrap();
                            Flow::Stop
                        })
                        .unwrap();
                    let fork = loop {
                        match forked.try_recv() {
                            Ok(forking) => break forking.await.unwrap(),
                            Err(_) => postring::yield_now().await,
                        }
                    };
                    fork.send("fork").await.unwrap();
                    told.send(text(fork.receive().await.unwrap())).unwrap();
                }
            })
            .unwrap();
        let there = accepted(&listener).unwrap();
        there.send(there.receive().wait().unwrap()).wait().unwrap();
        let fork_there = accepted(&listener).unwrap();
        fork_there.send(fork_there.receive().wait().unwrap()).wait().unwrap();
        assert_eq!(heard.recv_timeout(SOON).unwrap(), "fork");
        end(engine);
    });
}

/// The background core stays as it is for all tests: the drivers make no difference here.
#[test]
fn a_source_sends_and_a_sink_connects_at_its_first_receive() {
    within(60, || {
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", peer.local_addr().unwrap());
        let source = postring::initiate_source_with(&address, LengthPrefixed::default());
        source.send("one way").wait().unwrap();
        let (mut there, _) = peer.accept().unwrap();
        assert_eq!(read_frame(&mut there).unwrap(), b"one way");
        source.try_send("the last").unwrap();
        drop(source);
        assert_eq!(read_frame(&mut there).unwrap(), b"the last");
        assert_eq!(there.read(&mut [0]).unwrap(), 0, "dropping it ends its Messages");

        let sink = postring::initiate_sink_with(&address, LengthPrefixed::default());
        assert_eq!(sink.state().wait().unwrap(), CarrierState::Inactive);
        let waiting = std::thread::spawn(move || {
            let first = sink.receive().wait().map(text);
            let second = sink.receive().wait().map(text);
            (first, second, sink)
        });
        let (mut there, _) = peer.accept().unwrap();
        there.write_all(&[frame(b"first"), frame(b"second")].concat()).unwrap();
        let (first, second, sink) = waiting.join().unwrap();
        assert_eq!((first.unwrap().as_str(), second.unwrap().as_str()), ("first", "second"));
        let (told, heard) = mpsc::channel();
        sink.ready(move |message: Message<'_>| told.send(message.len()).unwrap()).unwrap();
        there.write_all(&frame(b"four")).unwrap();
        assert_eq!(heard.recv_timeout(SOON), Ok(4));
        drop(sink);
        there.set_read_timeout(Some(SOON)).unwrap();
        assert!(is_ended(&mut there), "it never sent anything");
    });
}

#[test]
fn a_sink_that_cannot_connect_says_so_when_it_receives() {
    within(60, || {
        let (_holder, nowhere) = nobody();
        let sink = postring::initiate_sink(&nowhere);
        match sink.receive().wait() {
            Err(Error::Closed(CloseReason::NotConnected(_))) => {}
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn the_halves_of_a_carrier_live_in_threads_of_their_own() {
    on_both(60, |driver| {
        let server = echo(driver);
        let engine = one(driver).start().unwrap();
        let carrier = engine.initiate_with(&server.local_addresses()[0], frames());
        let (source, sink) = carrier.split();
        let sender = std::thread::spawn(move || {
            for number in 0..1000_u32 {
                source.send(number.to_be_bytes().to_vec()).wait().unwrap();
            }
            source
        });
        for number in 0..1000_u32 {
            assert_eq!(sink.receive().wait().unwrap().bytes(), number.to_be_bytes());
        }
        let source = sender.join().unwrap();
        drop(sink);
        source.send("still open without its other half").wait().unwrap();
        assert_eq!(source.state().wait().unwrap(), CarrierState::Active);
        drop(source);
        until("both halves gone, it ends", || connections(&engine) == 0);
        end(engine);
        end(server);
    });
}

fn connections(engine: &Engine) -> u64 {
    engine.metrics().total().open_connections
}

#[test]
fn a_dropped_source_ends_the_messages_and_its_sink_still_receives() {
    on_both(60, |driver| {
        let (listener, address) = listen(driver);
        let engine = one(driver).timeouts(timeouts(|t| t.linger = SOON)).start().unwrap();
        let (source, sink) = engine.initiate_with(&address, frames()).split();
        source.send("question").wait().unwrap();
        let there = accepted(&listener).unwrap();
        drop(source);
        assert_eq!(text(there.receive().wait().unwrap()), "question");
        let receiving = std::thread::spawn(move || sink.receive().wait().map(text));
        assert!(matches!(there.receive().wait(), Err(Error::Closed(CloseReason::Finished))));
        std::thread::sleep(Duration::from_millis(20));
        there.send("answer").wait().unwrap();
        assert_eq!(receiving.join().unwrap().unwrap(), "answer");
        drop(there);
        end(engine);
    });
}

#[test]
fn a_slow_sink_loses_nothing_when_both_sides_have_ended() {
    on_both(60, |driver| {
        let (listener, address) = listen(driver);
        let engine = one(driver).start().unwrap();
        let (source, sink) = engine.initiate_with(&address, frames()).split();
        source.send("question").wait().unwrap();
        drop(source);
        let there = accepted(&listener).unwrap();
        // More than is received ahead, and more than one buffer.
        for number in 0..500_u32 {
            there.send(vec![number as u8; 100]).wait().unwrap();
        }
        drop(there);
        // Everything has come and nobody has asked for it; longer than the linger time.
        std::thread::sleep(Duration::from_millis(500));
        for number in 0..500_u32 {
            assert_eq!(sink.receive().wait().unwrap().bytes(), [number as u8; 100]);
        }
        assert!(matches!(sink.receive().wait(), Err(Error::Closed(CloseReason::Finished))));
        drop(sink);
        until("it ends", || connections(&engine) == 0);
        end(engine);
    });
}
