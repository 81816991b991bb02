//! Datagrams: `udp://` on both drivers, with plain sockets of the standard library at the other
//! end.

use std::net::UdpSocket;
use std::time::Duration;

use postring::{
    Carrier, CarrierState, CloseReason, DriverChoice, Engine, Error, LengthPrefixed, Message,
    Outcome, Properties, Reporter, Unframed,
};

use crate::support::{SOON, end, frame, frames, limits, on_both, one, pattern, threads, until};

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

fn echo(driver: DriverChoice) -> (Engine, String) {
    let place = "udp://127.0.0.1:0";
    let engine = one(driver).respond_with(place, Unframed, |message, reply| reply.send(message));
    let engine = engine.start().unwrap();
    let address = engine.local_addresses().remove(0);
    let place = address.strip_prefix("udp://").unwrap().to_owned();
    (engine, place)
}

fn wants_back(socket: &UdpSocket, place: &str, payload: &[u8]) {
    socket.send_to(payload, place).unwrap();
    let mut answer = vec![0; 70_000];
    let (len, from) = socket.recv_from(&mut answer).unwrap();
    assert_eq!(from.to_string(), place);
    assert!(answer[..len] == *payload, "{len} bytes, not the {} sent", payload.len());
}

fn address_of(socket: &UdpSocket) -> String {
    format!("udp://{}", socket.local_addr().unwrap())
}

/// A Carrier of datagrams to a plain socket that is connected to it.
fn pair(driver: DriverChoice) -> (Engine, Carrier<Unframed>, UdpSocket) {
    let engine = one(driver).start().unwrap();
    let socket = socket();
    let carrier = engine.initiate_with(&address_of(&socket), Unframed);
    carrier.send("hello").wait().unwrap();
    let mut hello = [0; 16];
    let (len, from) = socket.recv_from(&mut hello).unwrap();
    assert_eq!(&hello[..len], b"hello");
    socket.connect(from).unwrap();
    (engine, carrier, socket)
}

#[test]
fn every_datagram_is_a_message_and_its_answer_goes_back() {
    on_both(60, |driver| {
        let (engine, place) = echo(driver);
        let [first, second] = [socket(), socket()];
        for len in [0, 1, 100, 1400, 9000, 65_507] {
            wants_back(&first, &place, &pattern(len));
            wants_back(&second, &place, &pattern(len / 2));
        }
        assert_eq!(engine.metrics().total().received_messages, 12);
        assert_eq!(engine.metrics().total().open_connections, 0, "nothing is kept of peers");
        end(engine);
    });
}

#[test]
fn bursts_come_back_in_order_and_whole() {
    on_both(60, |driver| {
        let (engine, place) = echo(driver);
        let socket = socket();
        for round in 0..50_u32 {
            // The kernel has room for so many, on whatever machine.
            for at in 0..32_u32 {
                let len = 8 + (round * 37 + at * 101) as usize % 1200;
                let mut payload = vec![at as u8; len];
                payload[..4].copy_from_slice(&(round * 32 + at).to_be_bytes());
                socket.send_to(&payload, &place).unwrap();
            }
            for at in 0..32_u32 {
                let mut payload = [0; 2000];
                let len = socket.recv(&mut payload).unwrap();
                assert_eq!(payload[..4], (round * 32 + at).to_be_bytes());
                assert_eq!(len, 8 + (round * 37 + at * 101) as usize % 1200);
                assert!(payload[4..len].iter().all(|byte| *byte == at as u8));
            }
        }
        end(engine);
    });
}

#[test]
fn a_framer_says_what_a_datagram_is_and_others_are_dropped() {
    on_both(60, |driver| {
        let place = "udp://127.0.0.1:0";
        let builder = one(driver).respond_with(place, frames(), |message, reply| {
            reply.send(Message::new(message.bytes().len().to_string()))
        });
        let engine = builder.start().unwrap();
        let place = engine.local_addresses().remove(0).replace("udp://", "");
        let socket = socket();
        for bad in [&b""[..], b"\0", &frame(b"whole")[..6], &[&frame(b"a")[..], b"b"].concat()] {
            socket.send_to(bad, &place).unwrap();
        }
        socket.send_to(&frame(b"seven b"), &place).unwrap();
        let mut answer = [0; 100];
        let len = socket.recv(&mut answer).unwrap();
        assert_eq!(&answer[..len], &frame(b"7"));
        assert_eq!(engine.metrics().total().frame_errors, 4);
        end(engine);
    });
}

#[test]
fn a_carrier_sends_and_receives_datagrams() {
    on_both(60, |driver| {
        let (engine, carrier, socket) = pair(driver);
        for len in [0, 1, 1400, 9000] {
            socket.send(&pattern(len)).unwrap();
            let message = carrier.receive().wait().unwrap();
            assert!(message.bytes() == pattern(len), "{len}");
            assert!(message.is_complete());
            carrier.send(message).wait().unwrap();
            let mut back = vec![0; 10_000];
            let got = socket.recv(&mut back).unwrap();
            assert!(back[..got] == pattern(len), "{len}");
        }
        let supports = carrier.supports().wait().unwrap();
        assert_eq!((supports.acked, supports.sent), (Reporter::None, Reporter::Transport));
        assert!(supports.unordered && supports.unreliable && supports.niceness);
        assert!(!supports.revival && !supports.interleaving);
        carrier.close().wait().unwrap();
        end(engine);
    });
}

#[test]
fn what_nobody_receives_waits_with_the_kernel_and_is_not_lost() {
    on_both(60, |driver| {
        let (engine, carrier, socket) = pair(driver);
        for at in 0..100_u8 {
            socket.send(&[at; 64]).unwrap();
        }
        for at in 0..100_u8 {
            let message = carrier.receive().wait().unwrap();
            assert_eq!(message.bytes(), [at; 64]);
        }
        assert_eq!(engine.metrics().total().kernel_drops, 0);
        drop(carrier);
        end(engine);
    });
}

#[test]
fn a_message_beyond_the_limit_of_its_path_is_an_error_that_names_it() {
    on_both(60, |driver| {
        let (engine, carrier, socket) = pair(driver);
        let error = carrier.send(Message::new(vec![1; 65_508])).wait().unwrap_err();
        assert!(error.to_string().contains("65508 bytes exceeds the path's limit of 65507"));
        let error = carrier.send(Message::new(vec![1; 70_000]).niceness(1)).wait().unwrap_err();
        assert!(error.to_string().contains("limit of 65507"), "{error}");
        carrier.send("still there").wait().unwrap();
        let mut text = [0; 100];
        let len = socket.recv(&mut text).unwrap();
        assert_eq!(&text[..len], b"still there");
        drop(carrier);
        end(engine);
    });
}

#[test]
fn a_message_in_parts_says_that_it_cannot() {
    on_both(60, |driver| {
        let (engine, carrier, _socket) = pair(driver);
        let mut message = carrier.begin(Properties::default());
        let part = message.send("a", false).wait();
        drop(message);
        assert!(matches!(part, Err(Error::Unsupported(_))), "{part:?}");
        drop(carrier);
        end(engine);
    });
}

#[test]
fn a_port_where_nobody_listens_is_said() {
    on_both(60, |driver| {
        let (engine, carrier, peer) = pair(driver);
        // Connected elsewhere, it takes nothing from us any more, yet its port stays its own.
        let elsewhere = socket();
        peer.connect(elsewhere.local_addr().unwrap()).unwrap();
        // The first one provokes the answer of the peer's host.
        let _ = carrier.send("is anybody there?").wait();
        let error = carrier.receive().wait().unwrap_err();
        let Error::Closed(reason) = &error else { panic!("{error}") };
        assert!(matches!(reason, CloseReason::Lost(111)), "{error}");
        end(engine);
    });
}

#[test]
fn outcomes_come_as_far_as_datagrams_know_them() {
    on_both(60, |driver| {
        let (engine, carrier, socket) = pair(driver);
        let receipt = carrier.send(Message::new("urgent").niceness(0).immediate()).wait().unwrap();
        assert_eq!(receipt.sent().wait().unwrap(), Outcome::Sent);
        assert_eq!(receipt.acked().wait().unwrap(), Outcome::Unsupported);
        let mut text = [0; 100];
        let len = socket.recv(&mut text).unwrap();
        assert_eq!(&text[..len], b"urgent");
        drop(carrier);
        end(engine);
    });
}

#[test]
fn cores_share_a_port_and_every_peer_is_answered() {
    on_both(60, |driver| {
        let place = "udp://[::]:0";
        let echo =
            threads(driver, 2).respond_with(place, LengthPrefixed::default(), |message, reply| {
                reply.send(message)
            });
        let engine = echo.start().unwrap();
        let address = engine.local_addresses().remove(0);
        let port = address.rsplit_once(':').unwrap().1.to_owned();
        for host in ["127.0.0.1", "127.0.0.2", "127.3.2.1"] {
            for _ in 0..8 {
                // The answer must come from the address that was asked.
                wants_back(&socket(), &format!("{host}:{port}"), &frame(b"which core?"));
            }
        }
        let metrics = engine.metrics();
        assert!(metrics.cores.iter().all(|core| core.received_messages > 0), "{metrics:?}");
        end(engine);
    });
}

/// Nobody can send from the address of all hosts of a network.
#[test]
fn a_broadcast_is_answered_from_an_address_of_this_host() {
    on_both(60, |driver| {
        for place in ["udp://[::]:0", "udp://0.0.0.0:0"] {
            let echo =
                one(driver).respond_with(place, Unframed, |message, reply| reply.send(message));
            let engine = echo.start().unwrap();
            let address = engine.local_addresses().remove(0);
            let port: u16 = address.rsplit_once(':').unwrap().1.parse().unwrap();
            let asking = socket();
            asking.set_broadcast(true).unwrap();
            asking.send_to(b"who is there?", ("127.255.255.255", port)).unwrap();
            let (len, from) = asking.recv_from(&mut [0; 100]).unwrap();
            assert_eq!((len, from.to_string()), (13, format!("127.0.0.1:{port}")));
            end(engine);
        }
    });
}

#[test]
fn drops_of_the_kernel_are_counted() {
    on_both(60, |driver| {
        let place = "udp://127.0.0.1:0";
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = std::sync::Mutex::new(Some(held));
        let builder = one(driver).respond_per_core(place, Unframed, move || {
            let mut held = held.lock().unwrap().take();
            move |_: Message<'_>, _: postring::Reply<'_, Unframed>| {
                if let Some(held) = held.take() {
                    // Nothing is received meanwhile.
                    let _ = held.recv_timeout(SOON);
                }
            }
        });
        let engine = builder.start().unwrap();
        let place = engine.local_addresses().remove(0).replace("udp://", "");
        let socket = socket();
        for _ in 0..2000 {
            socket.send_to(&[7; 1200], &place).unwrap();
        }
        drop(release);
        until("it is seen that some were dropped", || {
            std::thread::sleep(Duration::from_millis(10));
            socket.send_to(b"one more", &place).unwrap();
            engine.metrics().total().kernel_drops > 0
        });
        end(engine);
    });
}

#[test]
fn a_listener_gives_each_remote_a_carrier() {
    on_both(60, |driver| {
        let listener = one(driver).listen_with("udp://127.0.0.1:0", Unframed).unwrap();
        let place = listener.local_addresses().remove(0).replace("udp://", "");
        let peers: Vec<_> = (0..5).map(|_| socket()).collect();
        let mut carriers = Vec::new();
        for (at, peer) in peers.iter().enumerate() {
            peer.send_to(format!("first of {at}").as_bytes(), &place).unwrap();
            let carrier = listener.accept().wait().unwrap();
            assert_eq!(carrier.receive().wait().unwrap().text().unwrap(), format!("first of {at}"));
            let address = carrier.peer_address().wait().unwrap();
            assert_eq!(address, Some(peer.local_addr().unwrap()));
            carriers.push(carrier);
        }
        for (at, (peer, carrier)) in peers.iter().zip(&carriers).enumerate().rev() {
            carrier.send(format!("to {at}")).wait().unwrap();
            let receipt = carrier.send(Message::new("urgent").niceness(0)).wait().unwrap();
            assert_eq!(receipt.sent().wait().unwrap(), Outcome::Sent);
            let mut text = [0; 100];
            let (len, from) = peer.recv_from(&mut text).unwrap();
            assert_eq!(
                (&text[..len], from.to_string()),
                (format!("to {at}").as_bytes(), place.clone())
            );
            let len = peer.recv(&mut text).unwrap();
            assert_eq!(&text[..len], b"urgent");
        }
        carriers.remove(0).close().wait().unwrap();
        peers[0].send_to(b"again", &place).unwrap();
        let again = listener.accept().wait().unwrap();
        assert_eq!(again.receive().wait().unwrap().text().unwrap(), "again");
        // The Listener's end leaves accepted Carriers alone.
        listener.close();
        peers[1].send_to(b"still there?", &place).unwrap();
        assert_eq!(carriers[0].receive().wait().unwrap().text().unwrap(), "still there?");
        carriers[0].send("yes").wait().unwrap();
        let mut text = [0; 100];
        let len = peers[1].recv(&mut text).unwrap();
        assert_eq!(&text[..len], b"yes");
    });
}

#[test]
fn remotes_without_end_make_way_for_one_another() {
    on_both(60, |driver| {
        let limits = limits(|limits| limits.connections = 100);
        let builder = one(driver).limits(limits);
        let listener = builder.listen_with("udp://127.0.0.1:0", Unframed).unwrap();
        let place = listener.local_addresses().remove(0).replace("udp://", "");
        let engine = listener.engine().unwrap();
        let total = || engine.metrics().total();
        let sockets: Vec<_> = (0..200).map(|_| socket()).collect();
        let accept = |socket: &UdpSocket| {
            socket.send_to(b"spoofed", &place).unwrap();
            listener.accept().wait().unwrap()
        };
        let mut carriers: Vec<_> = sockets[..100].iter().map(accept).collect();
        // One makes way. While the application holds it, others follow slowly.
        for (at, socket) in sockets[100..].iter().enumerate() {
            socket.send_to(b"spoofed", &place).unwrap();
            until("it is refused", || total().refused_limit > at as u64);
        }
        assert!((1..=25).contains(&total().evicted_remotes), "{:?}", total());
        assert_eq!(total().open_connections, 100);
        // It is held for too long: another makes way, and is let go of.
        until("another one makes way", || {
            sockets[100].send_to(b"spoofed", &place).unwrap();
            total().evicted_remotes > 1
        });
        let has_ended = |carrier: &Carrier<Unframed>| {
            matches!(carrier.state().wait(), Ok(CarrierState::Closed(CloseReason::Limit)))
        };
        let ended = carriers.iter().rposition(has_ended).unwrap();
        assert!(ended > 0 && has_ended(&carriers[0]), "the first one is still held");
        let oldest = carriers.remove(ended);
        assert_eq!(oldest.receive().wait().unwrap().text().unwrap(), "spoofed");
        let ended = oldest.receive().wait().unwrap_err();
        assert!(matches!(ended, Error::Closed(CloseReason::Limit)), "{ended:?}");
        drop(oldest);
        until("there is room", || total().open_connections < 100);
        carriers.push(accept(&sockets[100]));
        for carrier in &carriers {
            assert_eq!(carrier.receive().wait().unwrap().text().unwrap(), "spoofed");
        }
    });
}

#[test]
fn an_async_handler_answers_later_to_the_right_one() {
    on_both(60, |driver| {
        let place = "udp://127.0.0.1:0";
        let builder = one(driver).respond_async(
            place,
            Unframed,
            async |message: Message<'static>, carrier: postring::CarrierRef<Unframed>| {
                postring::sleep(Duration::from_millis(20)).await;
                carrier.send(message).await.map(drop)
            },
        );
        let engine = builder.start().unwrap();
        let place = engine.local_addresses().remove(0).replace("udp://", "");
        let peers: Vec<_> = (0..8).map(|_| socket()).collect();
        for (at, peer) in peers.iter().enumerate() {
            peer.send_to(&[at as u8; 9], &place).unwrap();
        }
        for (at, peer) in peers.iter().enumerate() {
            let mut answer = [0; 100];
            let len = peer.recv(&mut answer).unwrap();
            assert_eq!(&answer[..len], [at as u8; 9]);
        }
        end(engine);
    });
}

#[test]
fn a_handler_that_panics_ends_the_service_of_nobody_else() {
    on_both(60, |driver| {
        let place = "udp://127.0.0.1:0";
        let builder = one(driver).respond_with(place, Unframed, |message, reply| {
            assert!(message.bytes() != b"boom", "a handler's own fault");
            reply.send(message)
        });
        let engine = builder.start().unwrap();
        let place = engine.local_addresses().remove(0).replace("udp://", "");
        let [first, second] = [socket(), socket()];
        for _ in 0..3 {
            first.send_to(b"boom", &place).unwrap();
            wants_back(&second, &place, b"still served");
            wants_back(&first, &place, b"and so is who provoked it");
        }
        assert_eq!(engine.metrics().total().panics, 3);
        end(engine);
    });
}

#[test]
fn carriers_that_waited_for_their_listeners_socket_send_when_it_has_room() {
    on_both(60, |driver| {
        let limits = limits(|limits| limits.send_queue_bytes = 1024);
        let builder = one(driver).limits(limits);
        let listener = builder.listen_with("udp://127.0.0.1:0", Unframed).unwrap();
        let place = listener.local_addresses().remove(0).replace("udp://", "");
        let peers: Vec<_> = (0..10).map(|_| socket()).collect();
        let accept = |peer: &UdpSocket| {
            peer.send_to(b"here", &place).unwrap();
            listener.accept().wait().unwrap().keep()
        };
        let carriers: Vec<_> = peers.iter().map(accept).collect();
        // All in one turn: the first of them fills the queue of the socket they share.
        let send_all = move || async move {
            carriers.iter().for_each(|carrier| carrier.try_send(vec![7; 1400]).unwrap());
        };
        listener.engine().unwrap().spawn_on(0, send_all).unwrap();
        for peer in &peers {
            assert_eq!(peer.recv(&mut [0; 2000]).unwrap(), 1400);
        }
    });
}
