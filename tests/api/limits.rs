//! Limits: of connections, prefixes, descriptors and tasks; and settings that cannot be kept.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use postring::{Engine, Error, LengthPrefixed, Reply};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::support::*;

#[test]
fn connections_beyond_the_limit_are_refused_and_the_place_is_free_again() {
    on_both(30, |driver| {
        let few = limits(|limits| limits.connections = 3);
        let engine = echo_of(one(driver).limits(few));
        let mut peers: Vec<_> = (0..3).map(|_| connect(&engine)).collect();
        peers.iter_mut().for_each(|peer| wants_back(peer, b"inside"));
        assert!(is_ended(&mut connect(&engine)));
        assert_eq!(engine.metrics().total().refused_limit, 1);
        peers.pop();
        until("a place is free", || engine.metrics().total().open_connections == 2);
        wants_back(&mut connect(&engine), b"inside now");
        peers.iter_mut().for_each(|peer| wants_back(peer, b"still inside"));
        end(engine);
    });
}

#[test]
fn connections_of_one_prefix_are_limited() {
    on_both(30, |driver| {
        let few = limits(|limits| limits.connections_per_prefix = 2);
        let engine = echo_of(one(driver).limits(few));
        let mut peers: Vec<_> = (0..2).map(|_| connect(&engine)).collect();
        peers.iter_mut().for_each(|peer| wants_back(peer, b"inside"));
        assert!(is_ended(&mut connect(&engine)));
        assert_eq!(engine.metrics().total().refused_prefix, 1);
        peers.clear();
        until("both are gone", || engine.metrics().total().open_connections == 0);
        let mut peers: Vec<_> = (0..2).map(|_| connect(&engine)).collect();
        peers.iter_mut().for_each(|peer| wants_back(peer, b"inside again"));
        end(engine);
    });
}

#[test]
fn each_core_has_the_state_that_its_factory_made() {
    on_both(30, |driver| {
        let engine = threads(driver, 2)
            .respond_per_core("tcp://127.0.0.1:0", frames(), || {
                let mut count = 0_u32;
                move |_, reply: Reply<'_, LengthPrefixed>| {
                    count += 1;
                    reply.send(count.to_string())
                }
            })
            .start()
            .unwrap();
        let mut last = Vec::new();
        for _ in 0..20 {
            let mut peer = connect(&engine);
            peer.write_all(&frame(b"count")).unwrap();
            let count = String::from_utf8(read_frame(&mut peer).unwrap()).unwrap();
            last.push(count.parse::<u32>().unwrap());
        }
        // Each core counts its own: 1 and 2 and so on, interleaved.
        let cores = engine.metrics().cores;
        let mut expected: Vec<u32> =
            cores.iter().flat_map(|core| 1..=core.received_messages as u32).collect();
        expected.sort_unstable();
        last.sort_unstable();
        assert_eq!(last, expected);
        end(engine);
    });
}

#[test]
fn bad_addresses_say_what_is_wrong() {
    let addresses = [
        "",
        "7000",
        "tcp://",
        "tcp://:",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:99999",
        "http://a:1",
        "tcp://[::1:80",
        "tcp://a b:1",
        "unix://",
        "quic://[::]:1",
        "unix://relative",
        "tcp:/a:1",
    ];
    for address in addresses {
        let started = Engine::builder()
            .unpinned(1)
            .respond_with(address, frames(), |message, reply| reply.send(message))
            .start();
        let error = started.expect_err(address);
        assert!(matches!(error, Error::Address { .. } | Error::Unsupported(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains(address) && text.len() > address.len() + 20, "{text}");
    }
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    on_both(30, |driver| {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", taken.local_addr().unwrap());
        for cores in [1, 2] {
            let engine = threads(driver, cores)
                .respond_with(&address, frames(), |message, reply| reply.send(message))
                .start();
            let error = engine.unwrap_err().to_string();
            assert!(error.contains(&address) && error.contains("in use"), "{error}");
        }
        // An engine's own port is just as taken, also for a second engine.
        let engine = echo_of(threads(driver, 2));
        let again = engine.local_addresses().remove(0);
        let second = threads(driver, 2)
            .respond_with(&again, frames(), |message, reply| reply.send(message))
            .start();
        assert!(matches!(second, Err(Error::Listen { .. })), "{second:?}");
        end(engine);
    });
}

#[test]
fn limits_and_cores_that_cannot_be_kept_are_errors() {
    let broken = limits(|limits| limits.connections = 0);
    let error = Engine::builder().limits(broken).start().unwrap_err().to_string();
    assert!(error.contains("connections"), "{error}");
    let error = Engine::builder().cores([100_000]).start().unwrap_err().to_string();
    assert!(error.contains("100000"), "{error}");
    let error = Engine::builder().cores([]).start().unwrap_err().to_string();
    assert!(error.contains("configuration"), "{error}");
}

const DESCRIPTORS: &str = "limits::without_descriptors_accepting_pauses_and_goes_on";

#[test]
fn without_descriptors_accepting_pauses_and_goes_on() {
    if child_part(DESCRIPTORS).is_none() {
        return run_child(DESCRIPTORS, "all");
    }
    // A ring keeps the limit that held when its accept began: so it is lowered first.
    let whole = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: Some(200), ..whole }).unwrap();
    on_both(30, |driver| {
        let engine = echo(driver);
        let mut first = connect(&engine);
        wants_back(&mut first, b"before");
        // The peers need descriptors too: theirs are made before none are left.
        let socket = || {
            use rustix::net::{AddressFamily, SocketType, socket};
            socket(AddressFamily::INET, SocketType::STREAM, None).unwrap()
        };
        let sockets: Vec<_> = (0..3).map(|_| socket()).collect();
        let mut all_others = Vec::new();
        while let Ok(other) = rustix::io::dup(first.as_fd()) {
            all_others.push(other);
        }
        let place: std::net::SocketAddr = place(&engine).parse().unwrap();
        sockets.iter().for_each(|socket| rustix::net::connect(socket, &place).unwrap());
        until("accepting fails", || engine.metrics().total().accept_errors >= 2);
        wants_back(&mut first, b"the others go on");
        // It pauses between its tries instead of spinning.
        let before = engine.metrics().total();
        std::thread::sleep(Duration::from_millis(500));
        let after = engine.metrics().total();
        assert!(after.accept_errors - before.accept_errors < 20, "{after:?}");
        assert!(after.turns - before.turns < 200, "{after:?}");
        drop(all_others);
        for socket in sockets {
            let mut peer = TcpStream::from(socket);
            peer.set_read_timeout(Some(SOON)).unwrap();
            wants_back(&mut peer, b"after");
        }
        end(engine);
    });
}

const IDLE: &str = "limits::ten_thousand_idle_connections_are_served";
const IDLE_CONNECTIONS: usize = 10_000;

/// One process serves, the other one connects: each needs a descriptor per connection.
#[test]
fn ten_thousand_idle_connections_are_served() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    if limit.current.is_some_and(|most| most < 200 + IDLE_CONNECTIONS as u64) {
        return println!("SKIP: RLIMIT_NOFILE allows {:?} descriptors", limit.current);
    }
    if let Some(place) = child_part(IDLE) {
        return stay_idle(&place);
    }
    on_both(50, |driver| {
        let engine = echo(driver);
        let connected = child(IDLE, &place(&engine)).output().unwrap();
        let said = String::from_utf8_lossy(&connected.stderr).into_owned();
        assert!(connected.status.success(), "{said}");
        let total = engine.metrics().total();
        assert_eq!(total.accepted, IDLE_CONNECTIONS as u64);
        assert_eq!(total.received_messages, 2 * IDLE_CONNECTIONS as u64);
        end(engine);
    });
}

fn stay_idle(place: &str) {
    let mut peers: Vec<_> = (0..IDLE_CONNECTIONS).map(|_| connect_to(place)).collect();
    for _ in 0..2 {
        peers.iter_mut().for_each(|peer| wants_back(peer, b"here"));
    }
}

/// Open files are cheap, but futures are counted: the bound holds and the rest goes on.
#[test]
fn tasks_beyond_the_limit_are_refused() {
    on_both(30, |driver| {
        static REFUSED: AtomicU32 = AtomicU32::new(0);
        REFUSED.store(0, Ordering::SeqCst);
        let few = limits(|limits| limits.tasks = 4);
        let engine = echo_of(one(driver).limits(few));
        let spawning = || async {
            for _ in 0..10 {
                let refused = postring::spawn(postring::sleep(Duration::from_secs(60))).is_err();
                REFUSED.fetch_add(u32::from(refused), Ordering::SeqCst);
            }
        };
        engine.spawn_on(0, spawning).unwrap();
        until("seven are refused", || REFUSED.load(Ordering::SeqCst) == 7);
        wants_back(&mut connect(&engine), b"unharmed");
        let error = engine.spawn_on(1, || async {}).unwrap_err().to_string();
        assert!(error.contains("core 1"), "{error}");
        end(engine);
    });
}
