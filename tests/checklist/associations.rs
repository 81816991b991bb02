//! Items 94 to 102: Associations, Paths, Transients (draft §2.3, §2.7, §2.8, §3.2).

use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use postring::{
    Association, Carrier, CarrierRef, CarrierState, CloseReason, Engine, Error, Framer,
    LengthPrefixed, Lines, Path, Transient,
};

use crate::pairs::*;
use crate::support::*;

fn association<F: Framer>(carrier: &CarrierRef<F>) -> Association<F> {
    carrier.association().wait().unwrap()
}

fn carriers(carrier: &CarrierRef<LengthPrefixed>) -> Vec<CarrierRef<LengthPrefixed>> {
    association(carrier).carriers().wait().unwrap()
}

fn paths<F: Framer>(association: &Association<F>) -> Vec<Path> {
    association.paths().wait().unwrap()
}

fn transients(carrier: &CarrierRef<LengthPrefixed>) -> Vec<Transient> {
    carrier.transients().wait().unwrap()
}

fn state(carrier: &CarrierRef<LengthPrefixed>) -> CarrierState {
    carrier.state().wait().unwrap()
}

/// Breaks the connection off without an orderly end.
fn reset(peer: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer);
}

/// Nobody has connected: the core has had turns enough to begin.
fn is_untouched(engine: &Engine, peer: &TcpListener) -> bool {
    peer.set_nonblocking(true).unwrap();
    engine.metrics().total().connected == 0 && peer.accept().is_err()
}

#[test]
fn item_094_every_creator_makes_a_carrier() {
    on_both(60, |driver| {
        let (listener, address) = listen(driver);
        let engine = one(driver).start().unwrap();
        let says = |text: &str, there: &Framed| {
            assert_eq!(there.receive().wait().unwrap().text(), Ok(text));
        };
        let initiated = engine.initiate_with(&address, frames());
        initiated.send("Initiate").wait().unwrap();
        says("Initiate", &listener.accept().wait().unwrap());

        let association = association(&initiated);
        let second = association.initiate().unwrap();
        second.send("Association.Initiate").wait().unwrap();
        says("Association.Initiate", &listener.accept().wait().unwrap());

        let source = postring::initiate_source_with(&address, frames());
        source.send("NewSource").wait().unwrap();
        says("NewSource", &listener.accept().wait().unwrap());
        let source = association.initiate_source().unwrap();
        source.send("NewSource on it").wait().unwrap();
        says("NewSource on it", &listener.accept().wait().unwrap());

        let sink = association.initiate_sink().unwrap();
        let receiving = sink.receive();
        let there = listener.accept().wait().unwrap();
        there.send("NewSink").wait().unwrap();
        assert_eq!(text(&receiving.wait().unwrap()), "NewSink");
        drop(sink);
        end(engine);
    });
}

#[test]
fn item_095_associations_come_by_themselves_one_for_each_remote_and_configuration() {
    on_both(60, |driver| {
        let (listener, address) = listen(driver);
        let (_other_listener, other_address) = listen(driver);
        let engine = one(driver).start().unwrap();
        let to = |address: &str| engine.initiate_with(address, frames());
        let ours = [to(&address), to(&address)];
        let elsewhere = to(&other_address);
        let lines = engine.initiate_with(&address, Lines::default());
        let remote = |carrier: &Framed| association(carrier).remote().map(ToString::to_string);
        assert_eq!(remote(&ours[0]).as_ref(), Some(&address), "before there is a connection");
        assert_eq!(remote(&elsewhere), Some(other_address));
        let all = ours.iter().chain([&elsewhere]);
        all.for_each(|carrier| carrier.activate().wait().unwrap());
        lines.activate().wait().unwrap();
        assert_eq!(carriers(&ours[0]).len(), 2);
        assert_eq!(carriers(&ours[1]).len(), 2);
        assert_eq!(carriers(&elsewhere).len(), 1);
        assert_eq!(association(&lines).carriers().wait().unwrap().len(), 1);

        // The other side knows the host that all of them come from, and where it listens for them.
        let there: Vec<_> = (0..3).map(|_| listener.accept().wait().unwrap()).collect();
        assert_eq!(carriers(&there[0]).len(), 3);
        assert_eq!(association(&there[0]).remote(), None);
        let refused = association(&there[0]).initiate();
        assert!(matches!(refused, Err(Error::Unsupported(_))), "{refused:?}");
        end(engine);
    });
}

#[test]
fn item_095_an_association_needs_no_carrier_and_no_traffic() {
    on_both(60, |driver| {
        let (carrier_engine, peer) = (one(driver).start().unwrap(), foreign_listener());
        let made = carrier_engine.associate_with(&address_of(&peer), frames()).unwrap();
        assert!(paths(&made).is_empty());
        assert!(made.carriers().wait().unwrap().is_empty());
        assert!(is_untouched(&carrier_engine, &peer));
        let wrong = carrier_engine.associate_with("tcp://nowhere", frames());
        assert!(matches!(wrong, Err(Error::Address { .. })), "{wrong:?}");

        let carrier = made.initiate().unwrap();
        carrier.activate().wait().unwrap();
        assert_eq!(carriers(&carrier).len(), 1);
        drop((accept(&peer), carrier));
        until("the Carrier is gone", || made.carriers().wait().unwrap().is_empty());
        until("its slot, too", || carrier_engine.metrics().total().open_connections == 0);
        assert_eq!(paths(&made).len(), 1, "it remembers");
        let again = made.initiate().unwrap();
        again.send("again").wait().unwrap();
        assert_eq!(read_frame(&mut accept(&peer)).unwrap(), b"again");
        end(carrier_engine);
    });
}

fn foreign_listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// The bound: the Association without Carriers that was unused for longest is forgotten.
#[test]
fn item_095_the_table_is_bounded_and_carriers_keep_their_association() {
    on_both(60, |driver| {
        let builder = one(driver).limits(limits(|limits| limits.associations = 2));
        let engine = builder.start().unwrap();
        let peers: Vec<_> = (0..4).map(|_| foreign_listener()).collect();
        let connect = |at: usize| {
            let carrier = engine.initiate_with(&address_of(&peers[at]), frames());
            carrier.activate().wait().unwrap();
            (association(&carrier), carrier)
        };
        let open_connections = || engine.metrics().total().open_connections;
        let (kept, held) = connect(0);
        let mut past = Vec::new();
        for at in 1..4 {
            let (association, carrier) = connect(at);
            carrier.abort();
            drop(carrier);
            until("it is gone", || open_connections() == 1);
            past.push(association);
        }
        assert_eq!(paths(&kept).len(), 1, "it has a Carrier");
        assert!(paths(&past[0]).is_empty() && paths(&past[1]).is_empty(), "forgotten");
        assert_eq!(paths(&past[2]).len(), 1);
        past[0].initiate().unwrap().activate().wait().unwrap();
        drop(held);
        end(engine);
    });
}

#[test]
fn item_096_a_carrier_names_its_association_on_every_thread() {
    on_both(60, |driver| {
        let (listener, address) = listen(driver);
        // A name: what it resolves to is another matter.
        let address = address.replace("127.0.0.1", "localhost");
        let engine = one(driver).start().unwrap();
        let here = engine.initiate_with(&address, frames());
        here.activate().wait().unwrap();
        let there = listener.accept().wait().unwrap();
        let from_here = *here;
        let (told, heard) = mpsc::channel();
        let task = async move || {
            let association = from_here.association().await.unwrap();
            let active = association.carriers().await.unwrap().len();
            let more = association.initiate().unwrap();
            let state = more.state().await.unwrap();
            told.send((association.remote().unwrap().to_string(), active, state)).unwrap();
        };
        engine.spawn_on(0, task).unwrap();
        let heard = heard.recv_timeout(SOON).unwrap();
        assert_eq!(heard, (address.clone(), 1, CarrierState::Inactive));

        let fork = here.fork().wait().unwrap();
        assert_eq!(carriers(&fork).len(), 2, "a fork belongs to its forker's");
        let (source, sink) = fork.split();
        let of_halves = [source.association(), sink.association()];
        for association in of_halves.map(|asked| asked.wait().unwrap()) {
            assert_eq!(association.remote().unwrap().to_string(), address);
        }
        drop((source, sink));

        let nowhere = engine.initiate_with("tcp://nowhere", frames()).association().wait();
        assert!(matches!(nowhere, Err(Error::Address { .. })), "{nowhere:?}");
        here.abort();
        until("it has ended", || matches!(state(&there), CarrierState::Closed(_)));
        let ended = there.association().wait();
        assert!(matches!(ended, Err(Error::Closed(CloseReason::Reset))), "{ended:?}");
        end(engine);
    });
}

/// An accessor asks its core by mail: where too many ask at once, the rest is told so.
#[test]
fn item_096_too_many_questions_at_once_are_refused_aloud() {
    on_both(60, |driver| {
        let builder = one(driver).limits(limits(|limits| limits.mailbox = 16));
        let (engine, here, _peer) = foreign_of(builder, frames());
        let (told, heard) = mpsc::channel();
        let here = *here;
        let task = async move || {
            let asked: Vec<_> = (0..1000).map(|_| here.association()).collect();
            let (mut named, mut refused) = (0, 0);
            for asked in asked {
                match asked.await {
                    Ok(_) => named += 1,
                    Err(Error::MailboxFull) => refused += 1,
                    Err(other) => panic!("{other}"),
                }
            }
            told.send((named, refused)).unwrap();
        };
        engine.spawn_on(0, task).unwrap();
        let (named, refused) = heard.recv_timeout(SOON).unwrap();
        assert!(named >= 16 && refused > 0, "{named} named, {refused} refused");
        assert_eq!(named + refused, 1000);
        end(engine);
    });
}

#[test]
fn item_097_the_carriers_of_an_association_are_the_active_ones() {
    on_both(60, |driver| {
        let (engine, here, mut peer) = foreign(driver);
        let inactive = association(&here).initiate().unwrap();
        let [active] = carriers(&inactive)[..] else { panic!("one of two is active") };
        assert_eq!(format!("{active:?}"), format!("{here:?}"), "under its name");
        active.send("by its name").wait().unwrap();
        assert_eq!(read_frame(&mut peer).unwrap(), b"by its name");
        reset(peer);
        until("it is dormant", || state(&here) == CarrierState::Dormant);
        assert!(carriers(&inactive).is_empty());
        end(engine);
    });
}

/// Two Carriers of a Responder are among those of the host that asks.
#[test]
fn item_097_those_of_a_responder_are_among_them() {
    on_both(60, |driver| {
        let (told, heard) = mpsc::channel();
        let answer = move |message: postring::Message<'static>, from: CarrierRef<_>| {
            let told = told.clone();
            async move {
                let active = from.association().await.unwrap().carriers().await.unwrap().len();
                told.send(active).unwrap();
                from.send(message).await.map(drop)
            }
        };
        let engine = one(driver).respond_async("tcp://127.0.0.1:0", frames(), answer);
        let engine = engine.start().unwrap();
        let (mut one, mut two) = (connect(&engine), connect(&engine));
        wants_back(&mut one, b"first");
        wants_back(&mut two, b"second");
        wants_back(&mut one, b"third");
        assert_eq!(heard.iter().take(3).last(), Some(2));
        end(engine);
    });
}

#[test]
fn item_098_initiate_on_an_association_is_another_carrier_of_the_same_configuration() {
    on_both(60, |driver| {
        let (engine, listener) = (one(driver).start().unwrap(), foreign_listener());
        let here = engine.initiate_with(&address_of(&listener), frames().len_max(8));
        here.activate().wait().unwrap();
        let mut first = accept(&listener);
        let more = association(&here).initiate().unwrap();
        assert_eq!(state(&more), CarrierState::Inactive);
        let long = more.send("longer than 8").wait();
        assert!(matches!(long, Err(Error::Frame(_))), "the framer is the same: {long:?}");
        more.send("another").wait().unwrap();
        let mut second = accept(&listener);
        assert_eq!(read_frame(&mut second).unwrap(), b"another");
        here.send("first").wait().unwrap();
        assert_eq!(read_frame(&mut first).unwrap(), b"first");
        assert_ne!(first.peer_addr().unwrap(), second.peer_addr().unwrap());
        end(engine);
    });
}

#[test]
fn item_099_an_association_remembers_the_paths_of_its_connections() {
    on_both(60, |driver| {
        let engine = one(driver).start().unwrap();
        let (carrier, listener) = to_foreign(&engine);
        let association = association(&carrier);
        assert!(paths(&association).is_empty(), "nothing was measured yet");
        carrier.activate().wait().unwrap();
        let mut peer = accept(&listener);
        carrier.send(vec![7; 100_000]).wait().unwrap();
        read_frame(&mut peer).unwrap();

        let [now] = paths(&association)[..] else { panic!("one connection, one path") };
        assert_eq!(now.age(), Duration::ZERO);
        assert_eq!(now.peer_address(), listener.local_addr().ok());
        assert_eq!(now.local_address(), peer.peer_addr().ok());
        assert!(now.round_trip().unwrap() > Duration::ZERO, "{now:?}");
        assert!(now.round_trip_min().unwrap() > Duration::ZERO, "{now:?}");
        assert_eq!(now.one_way_delay(), now.round_trip().map(|both| both / 2));
        assert!(now.payload_bytes_max().unwrap() >= 536, "{now:?}");
        assert!((0.0..=1.0).contains(&now.loss().unwrap()), "{now:?}");
        until("a rate", || paths(&association)[0].rate_bytes_per_s().is_some_and(|rate| rate > 0));

        // Another connection between the same two is the same path.
        let second = association.initiate().unwrap();
        second.activate().wait().unwrap();
        assert_eq!(paths(&association).len(), 1);
        carrier.abort();
        second.abort();
        let closed = CarrierState::Closed(CloseReason::Aborted);
        until("both have ended", || [&carrier, &second].map(|one| state(one)) == [closed; 2]);
        until("it grows old", || paths(&association)[0].age() > Duration::ZERO);
        let [then] = paths(&association)[..] else { panic!("it was forgotten") };
        assert!(then.round_trip_min().unwrap() <= now.round_trip_min().unwrap());
        assert_eq!(then.peer_address(), now.peer_address());
        end(engine);
    });
}

/// Without a Carrier that ended there, a server learns nothing; asked once, it remembers.
#[test]
fn item_099_a_server_remembers_the_path_to_a_host_it_was_asked_about() {
    on_both(60, |driver| {
        let (listener, engine, here, there) = both(driver);
        let host = association(&there);
        assert_eq!(paths(&host).len(), 1);
        let second = association(&here).initiate().unwrap();
        second.activate().wait().unwrap();
        let second_there = listener.accept().wait().unwrap();
        let from = second_there.peer_address().wait().unwrap();
        here.abort();
        until("the first is gone", || matches!(state(&there), CarrierState::Closed(_)));
        drop(there);
        second.abort();
        until("the second, too", || matches!(state(&second_there), CarrierState::Closed(_)));
        let [path] = paths(&host)[..] else { panic!("one host, one path") };
        assert_eq!(path.peer_address(), from, "nobody had asked about this one");
        end(engine);
    });
}

#[test]
fn item_099_a_unix_socket_has_a_path_without_addresses() {
    on_both(60, |driver| {
        let name = format!("unix://@postring-item-99-{}-{driver:?}", std::process::id());
        let listener = one(driver).listen_with(&name, frames()).unwrap();
        let engine = one(driver).start().unwrap();
        let here = engine.initiate_with(&name, frames());
        here.activate().wait().unwrap();
        let there = listener.accept().wait().unwrap();
        for carrier in [&here, &there] {
            let [path] = paths(&association(carrier))[..] else { panic!("no path") };
            assert_eq!((path.local_address(), path.peer_address()), (None, None));
            assert_eq!((path.round_trip(), path.loss()), (None, None));
            assert_eq!(transients(carrier)[0].paths(), [path]);
        }
        // Peers without a name are nobody known: each has its own Association.
        association(&here).initiate().unwrap().activate().wait().unwrap();
        let other = listener.accept().wait().unwrap();
        assert_eq!((carriers(&other).len(), carriers(&there).len()), (1, 1));
        end(engine);
    });
}

#[test]
fn item_100_one_connection_is_one_transient_and_only_while_it_lives() {
    on_both(60, |driver| {
        let engine = one(driver).start().unwrap();
        let (carrier, listener) = to_foreign(&engine);
        assert!(transients(&carrier).is_empty());
        carrier.activate().wait().unwrap();
        let first = accept(&listener);
        assert_eq!(transients(&carrier).len(), 1);
        until("it has an age", || transients(&carrier)[0].age() > Duration::ZERO);
        reset(first);
        until("it is dormant", || state(&carrier) == CarrierState::Dormant);
        assert!(transients(&carrier).is_empty(), "the Carrier is there without one");
        carrier.send("again").wait().unwrap();
        let second = accept(&listener);
        until("it is active", || state(&carrier) == CarrierState::Active);
        let [again] = &transients(&carrier)[..] else { panic!("none") };
        assert_eq!(again.paths()[0].local_address(), second.peer_addr().ok(), "the new one");
        carrier.abort();
        until("it has ended", || transients(&carrier).is_empty());
        end(engine);
    });
}

#[test]
fn item_101_the_paths_of_a_transient_are_those_in_use() {
    on_both(60, |driver| {
        let (_listener, engine, here, there) = both(driver);
        let path = |carrier: &Carrier<_>| -> Path {
            let transient = transients(carrier).pop().unwrap();
            let [path] = transient.paths() else { panic!("{transient:?}") };
            *path
        };
        let (near, far) = (path(&here), path(&there));
        assert!(near.round_trip().is_some(), "{near:?}");
        assert_eq!(near.peer_address(), here.peer_address().wait().unwrap());
        assert!(near.local_address().is_some());
        // The same way, seen from both ends.
        assert_eq!(near.local_address(), far.peer_address());
        assert_eq!(near.peer_address(), far.local_address());
        end(engine);
    });
}

#[test]
fn item_102_a_carrier_can_exist_without_a_connection() {
    on_both(60, |driver| {
        let engine = one(driver).start().unwrap();
        let (carrier, listener) = to_foreign(&engine);
        assert!(transients(&carrier).is_empty());
        assert_eq!(state(&carrier), CarrierState::Inactive);
        assert!(paths(&association(&carrier)).is_empty());
        assert!(is_untouched(&engine, &listener));
        let source = association(&carrier).initiate_source().unwrap();
        let sink = association(&carrier).initiate_sink().unwrap();
        assert_eq!(source.state().wait().unwrap(), CarrierState::Inactive);
        assert_eq!(sink.state().wait().unwrap(), CarrierState::Inactive);
        assert!(is_untouched(&engine, &listener));
        carrier.send("now").wait().unwrap();
        assert_eq!(read_frame(&mut accept(&listener)).unwrap(), b"now");
        assert_eq!(transients(&carrier).len(), 1);
        end(engine);
    });
}
