//! Echo: every Message comes back as it went, however it is cut, on TCP and unix sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

use postring::{DriverChoice, Engine, Unframed};

use crate::support::*;

#[test]
fn messages_of_every_size_come_back() {
    on_both(40, |driver| {
        let engine = echo(driver);
        let mut peer = connect(&engine);
        let around = [0, 1, 2, 3, 64, 255, 2047, 2048, 2049, 4091, 4092, 4093, 4096, 4352, 4353];
        let large = [8191, 8192, 16_379, 16_380, 16_384, 65_536, 262_144, 262_145, 1 << 20];
        for len in around.into_iter().chain(large).chain([5, 16 << 20, 5, 1 << 20, 0]) {
            let payload = pattern(len);
            let mut sending = peer.try_clone().unwrap();
            let bytes = frame(&payload);
            let sender = std::thread::spawn(move || sending.write_all(&bytes).unwrap());
            let answer = read_frame(&mut peer).unwrap();
            assert!(answer == payload, "a message of {len} bytes came back changed");
            sender.join().unwrap();
        }
        end(engine);
    });
}

#[test]
fn many_messages_at_once_come_back_in_order() {
    on_both(40, |driver| {
        let engine = echo(driver);
        let mut peer = connect(&engine);
        let mut sending = peer.try_clone().unwrap();
        let lens =
            || (0..20_000_usize).map(|at| (at * 7919) % if at % 500 == 0 { 70_000 } else { 700 });
        let sender = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            for (at, len) in lens().enumerate() {
                bytes.extend(frame(&pattern(len + at % 3)));
                if bytes.len() > 50_000 {
                    sending.write_all(&bytes).unwrap();
                    bytes.clear();
                }
            }
            sending.write_all(&bytes).unwrap();
            sending.shutdown(Shutdown::Write).unwrap();
        });
        for (at, len) in lens().enumerate() {
            let answer = read_frame(&mut peer).unwrap();
            assert!(answer == pattern(len + at % 3), "message {at}");
        }
        assert!(is_ended(&mut peer));
        sender.join().unwrap();
        let total = engine.metrics().total();
        assert_eq!((total.received_messages, total.sent_messages), (20_000, 20_000));
        end(engine);
    });
}

#[test]
fn a_message_may_come_byte_by_byte() {
    on_both(20, |driver| {
        let engine = echo(driver);
        let mut peer = connect(&engine);
        let payload = pattern(300);
        for _ in 0..3 {
            for byte in frame(&payload) {
                peer.write_all(&[byte]).unwrap();
            }
            assert_eq!(read_frame(&mut peer).unwrap(), payload);
        }
        end(engine);
    });
}

#[test]
fn many_peers_are_served_at_once() {
    on_both(40, |driver| {
        let engine = echo_of(threads(driver, 2));
        let mut peers: Vec<_> = (0..200).map(|_| connect(&engine)).collect();
        for round in 0..20_usize {
            for (at, peer) in peers.iter_mut().enumerate() {
                peer.write_all(&frame(&pattern(at * 10 + round))).unwrap();
            }
            for (at, peer) in peers.iter_mut().enumerate() {
                assert_eq!(read_frame(peer).unwrap(), pattern(at * 10 + round));
            }
        }
        assert_eq!(engine.metrics().total().open_connections, 200);
        drop(peers);
        until("all have gone", || engine.metrics().total().open_connections == 0);
        end(engine);
    });
}

fn unix_echo(driver: DriverChoice, address: &str, cores: usize) -> Engine {
    let builder = threads(driver, cores);
    builder.respond_with(address, frames(), |message, reply| reply.send(message)).start().unwrap()
}

#[test]
fn unix_sockets_echo_too_and_are_spread_over_the_cores() {
    on_both(20, |driver| {
        let path = std::env::temp_dir().join(format!("postring-{driver:?}-{}", std::process::id()));
        let path = path.to_str().unwrap().to_owned();
        let engine = unix_echo(driver, &format!("unix://{path}"), 2);
        assert_eq!(engine.local_addresses(), [format!("unix://{path}")]);
        let mut peers: Vec<_> = (0..10).map(|_| connect_unix(&path)).collect();
        for (at, peer) in peers.iter_mut().enumerate() {
            wants_back(peer, &pattern(at * 1000));
        }
        let cores = engine.metrics().cores;
        assert!(cores.iter().all(|core| core.open_connections >= 3), "{cores:?}");
        end(engine);
        assert!(peers.iter_mut().all(is_ended));
    });
}

#[test]
fn abstract_unix_sockets_need_no_file() {
    use std::os::linux::net::SocketAddrExt;
    on_both(20, |driver| {
        let name = format!("postring-{driver:?}-{}", std::process::id());
        let engine = unix_echo(driver, &format!("unix://@{name}"), 1);
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let mut peer = std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
        peer.set_read_timeout(Some(SOON)).unwrap();
        wants_back(&mut peer, b"without a file");
        end(engine);
    });
}

/// Unframed on a byte stream is one Message per direction, in parts; its end is the peer's end.
#[test]
fn an_unframed_stream_is_one_message_in_parts() {
    on_both(20, |driver| {
        let builder = one(driver).respond_with("tcp://127.0.0.1:0", Unframed, |message, reply| {
            if message.is_complete() { reply.send("complete") } else { reply.send(message) }
        });
        let engine = builder.start().unwrap();
        let mut peer = connect(&engine);
        let payload = pattern(100_000);
        let mut sending = peer.try_clone().unwrap();
        let bytes = payload.clone();
        let sender = std::thread::spawn(move || {
            sending.write_all(&bytes).unwrap();
            sending.shutdown(Shutdown::Write).unwrap();
        });
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).unwrap();
        sender.join().unwrap();
        assert_eq!(answer.len(), payload.len() + "complete".len());
        assert!(answer.starts_with(&payload) && answer.ends_with(b"complete"));
        end(engine);
    });
}

#[test]
fn several_places_are_served_by_one_engine() {
    on_both(20, |driver| {
        let engine = one(driver)
            .respond_with("tcp://127.0.0.1:0", frames(), |message, reply| reply.send(message))
            .respond_with("tcp://[::1]:0", frames(), |_, reply| reply.send("six"))
            .start();
        let engine = match engine {
            Err(error) if error.to_string().contains("[::1]") => {
                return println!("SKIP: no IPv6 here: {error}");
            }
            engine => engine.unwrap(),
        };
        let addresses = engine.local_addresses();
        assert_eq!(addresses.len(), 2);
        wants_back(&mut connect(&engine), b"four");
        let mut six = connect_to(addresses[1].strip_prefix("tcp://").unwrap());
        six.write_all(&frame(b"which?")).unwrap();
        assert_eq!(read_frame(&mut six).unwrap(), b"six");
        end(engine);
    });
}

#[test]
fn a_handler_that_says_stop_ends_its_carrier_after_the_reply() {
    on_both(20, |driver| {
        let builder = one(driver).respond_with("tcp://127.0.0.1:0", frames(), |message, reply| {
            let go_on = message.bytes() != b"last";
            reply.send(message).map(|()| go_on)
        });
        let engine = builder.start().unwrap();
        let mut peer = connect(&engine);
        wants_back(&mut peer, b"first");
        wants_back(&mut peer, b"last");
        assert!(is_ended(&mut peer));
        // What a peer sends after the end is thrown away until it is broken off.
        until("the end is complete", || match peer.write_all(&frame(b"more")) {
            Ok(()) => engine.metrics().total().open_connections == 0,
            Err(error) => is_broken(&error) || error.kind() == ErrorKind::NotConnected,
        });
        end(engine);
    });
}
