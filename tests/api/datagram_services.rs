//! Services of datagrams: what one answer, one peer or one fault of user code must not do to the
//! others that a Responder's socket serves.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use postring::{
    Carrier, CarrierRef, CarrierState, Engine, EngineBuilder, Flow, FrameError, Framer, Message,
    Outcome, Output, Reply, Unframed,
};

use crate::support::{SOON, end, in_namespace, limits, on_both, one, timeouts, until};

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

fn start(builder: EngineBuilder) -> (Engine, String) {
    let engine = builder.start().unwrap();
    let place = engine.local_addresses().remove(0).replace("udp://", "");
    (engine, place)
}

fn heard(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 70_000];
    let len = socket.recv(&mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

#[test]
fn an_answer_with_wishes_leaves_as_any_other() {
    on_both(60, |driver| {
        let builder = one(driver).respond_with(
            "udp://127.0.0.1:0",
            Unframed,
            |message: Message<'_>, reply: Reply<'_, Unframed>| {
                let urgent = message.bytes().starts_with(b"urgent");
                let answer = Message::new(message.bytes().to_vec());
                reply.send(if urgent { answer.niceness(1) } else { answer })
            },
        );
        let (engine, place) = start(builder);
        let [first, second] = [socket(), socket()];
        for text in ["plain", "urgent", "plain after it", "urgent again"] {
            for peer in [&first, &second] {
                peer.send_to(text.as_bytes(), &place).unwrap();
                assert_eq!(heard(peer), text.as_bytes());
            }
        }
        end(engine);
    });
}

/// As `Unframed`, but its `encode` panics when it is asked to, half way.
#[derive(Clone, Default)]
struct Fuse;

impl Framer for Fuse {
    type Got = Message<'static>;
    type In<'a> = Message<'a>;
    type Out<'a> = Message<'a>;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(usize, Message<'a>)>, FrameError> {
        Ok((!input.is_empty()).then(|| (input.len(), Message::lent(input))))
    }

    fn lend(message: Message<'static>) -> Message<'static> {
        message
    }

    fn encode(&mut self, message: Message<'_>, into: &mut Output) -> Result<(), FrameError> {
        into.put_message(&message);
        assert!(!message.bytes().starts_with(b"boom"), "a fault of the framer");
        Ok(())
    }
}

#[test]
fn a_framer_that_panics_leaves_nothing_for_the_next_peer() {
    on_both(60, |driver| {
        let builder = one(driver)
            .respond_with("udp://127.0.0.1:0", Fuse, |message, reply| reply.send(message));
        let (engine, place) = start(builder);
        let [first, second] = [socket(), socket()];
        for round in 1..=3 {
            first.send_to(&[&b"boom"[..], &[7; 9000]].concat(), &place).unwrap();
            until("it panicked", || engine.metrics().total().panics == round);
            second.send_to(b"still served", &place).unwrap();
            assert_eq!(heard(&second), b"still served");
        }
        end(engine);
    });
}

#[test]
fn datagrams_of_no_bytes_fill_a_queue_as_others_do() {
    on_both(60, |driver| {
        let engine = one(driver).start().unwrap();
        let peer = socket();
        let carrier =
            engine.initiate_with(&format!("udp://{}", peer.local_addr().unwrap()), Unframed);
        carrier.activate().wait().unwrap();
        let carrier = carrier.keep();
        let (told, accepted) = std::sync::mpsc::channel();
        let send_all = move || async move {
            let fits = (0..100_000).take_while(|_| carrier.try_send("").is_ok()).count();
            told.send(fits).unwrap();
        };
        engine.spawn_on(0, send_all).unwrap();
        let accepted = accepted.recv_timeout(SOON).unwrap();
        assert!((1000..100_000).contains(&accepted), "{accepted}");
        assert_eq!(heard(&peer), b"");
        until("all have left", || carrier.queued().wait().unwrap() == 0);
        end(engine);
    });
}

#[test]
fn a_train_begins_no_more_async_handlers_than_there_may_be() {
    const HANDLERS: usize = 4;
    on_both(60, |driver| {
        let (begun, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let peak = Arc::clone(&most);
        let handler = async move |message: Message<'static>, carrier: CarrierRef<Unframed>| {
            peak.fetch_max(begun.fetch_add(1, Relaxed) + 1, Relaxed);
            // The others of its train come meanwhile.
            postring::sleep(Duration::from_millis(5)).await;
            begun.fetch_sub(1, Relaxed);
            carrier.send(message).await.map(drop)
        };
        let limits = limits(|limits| limits.async_handlers_per_connection = HANDLERS);
        let builder = one(driver).limits(limits);
        let (engine, place) = start(builder.respond_async("udp://127.0.0.1:0", Unframed, handler));
        // One that sends trains.
        let client = one(driver).start().unwrap();
        let carrier = client.initiate_with(&format!("udp://{place}"), Unframed);
        carrier.send("first").wait().unwrap();
        assert_eq!(carrier.receive().wait().unwrap().text(), Ok("first"));
        let sends = *carrier;
        let send_all = move || async move {
            (0..32).for_each(|_| sends.try_send("a train").unwrap());
        };
        client.spawn_on(0, send_all).unwrap();
        let total = || engine.metrics().total();
        until("all are answered or dropped", || {
            let total = total();
            total.sent_messages - 1 + total.dropped_datagrams == 32
        });
        assert!(most.load(Relaxed) <= HANDLERS, "{most:?}");
        end(client);
        end(engine);
    });
}

const UNREACHABLE: &str = "datagram_services::what_did_not_leave_a_listeners_socket_is_not_sent";

#[test]
fn what_did_not_leave_a_listeners_socket_is_not_sent() {
    in_namespace(UNREACHABLE, "ip addr add 10.88.0.1/32 dev lo", |driver| {
        let listener = one(driver).listen_with("udp://127.0.0.1:0", Unframed).unwrap();
        let place = listener.local_addresses().remove(0).replace("udp://", "");
        let met = |peer: &UdpSocket| {
            peer.send_to(b"hello", &place).unwrap();
            listener.accept().wait().unwrap()
        };
        let (stays, far) = (socket(), UdpSocket::bind("10.88.0.1:0").unwrap());
        let [near, lost] = [&stays, &far].map(met);
        let outcome = |carrier: &Carrier<Unframed>| {
            let receipt = carrier.send(Message::new("well?").niceness(0)).wait().unwrap();
            receipt.sent().wait().unwrap()
        };
        assert_eq!([outcome(&near), outcome(&lost)], [Outcome::Sent, Outcome::Sent]);
        let before = listener.engine().unwrap().metrics().total();
        address("del");
        assert_eq!(outcome(&lost), Outcome::MayHaveArrived);
        assert_eq!(outcome(&near), Outcome::Sent);
        address("add");
        assert_eq!(outcome(&lost), Outcome::Sent, "it has ended nothing");
        let after = listener.engine().unwrap().metrics().total();
        assert_eq!(after.sent_bytes - before.sent_bytes, 10, "counted once");
    });
}

fn address(verb: &str) {
    let mut command = std::process::Command::new("ip");
    let done = command.args(["addr", verb, "10.88.0.1/32", "dev", "lo"]).status().unwrap();
    assert!(done.success());
}

#[test]
fn a_reply_cannot_end_the_service_of_all() {
    on_both(60, |driver| {
        let (told, tells) = std::sync::mpsc::channel();
        let builder = one(driver).respond_with(
            "udp://127.0.0.1:0",
            Unframed,
            move |message: Message<'_>, reply: Reply<'_, Unframed>| {
                let (carrier, told) = (reply.carrier(), told.clone());
                match message.text() {
                    Ok("close") => postring::spawn(async move {
                        told.send(carrier.close().await.unwrap_err().to_string()).unwrap();
                    })
                    .unwrap(),
                    Ok("abort") => carrier.abort(),
                    _ => {}
                }
                reply.send(message)?;
                Ok::<_, postring::Error>(Flow::Stop)
            },
        );
        let (engine, place) = start(builder);
        let peer = socket();
        for text in ["stop", "close", "still there?", "abort", "and now?"] {
            peer.send_to(text.as_bytes(), &place).unwrap();
            assert_eq!(heard(&peer), text.as_bytes());
        }
        let why = tells.recv_timeout(SOON).unwrap();
        assert!(why.contains("serves everybody"), "{why}");
        end(engine);
    });
}

#[test]
fn carriers_that_close_with_datagrams_queued_send_them_and_end() {
    const EACH: usize = 8;
    on_both(60, |driver| {
        let limits = limits(|limits| limits.send_queue_bytes = 4096);
        let listener = one(driver).limits(limits).listen_with("udp://127.0.0.1:0", Unframed);
        let listener = listener.unwrap();
        let place = listener.local_addresses().remove(0).replace("udp://", "");
        let peers: Vec<_> = (0..30).map(|_| socket()).collect();
        let accept = |peer: &UdpSocket| {
            peer.send_to(b"here", &place).unwrap();
            listener.accept().wait().unwrap()
        };
        let carriers: Vec<_> = peers.iter().map(accept).collect();
        let engine = listener.engine().unwrap();
        // All in one turn, much more than the queue of the socket they share has room for; some
        // with wishes. Dropping a Carrier closes it.
        let send_all = move || async move {
            for (at, carrier) in carriers.into_iter().enumerate() {
                for number in 0..EACH {
                    let message = Message::new(vec![number as u8; 500]);
                    let message = if at % 2 == 0 { message } else { message.niceness(1) };
                    carrier.try_send(message).unwrap();
                }
            }
        };
        engine.spawn_on(0, send_all).unwrap();
        listener.close();
        for peer in &peers {
            for number in 0..EACH {
                assert_eq!(heard(peer), [number as u8; 500]);
            }
        }
        let total = || listener.engine().unwrap().metrics().total();
        until("all have ended", || total().open_connections == 0);
        until("its port is free", || UdpSocket::bind(&place).is_ok());
    });
}

#[test]
fn nobody_makes_way_for_one_whom_the_listener_cannot_take() {
    on_both(60, |driver| {
        let few = limits(|limits| (limits.connections, limits.accept_queue) = (3, 1));
        let listener = one(driver).limits(few).listen_with("udp://127.0.0.1:0", Unframed).unwrap();
        let place = listener.local_addresses().remove(0).replace("udp://", "");
        let peers: Vec<_> = (0..3).map(|_| socket()).collect();
        let met = |peer: &UdpSocket| {
            peer.send_to(b"hello", &place).unwrap();
            listener.accept().wait().unwrap()
        };
        let carriers = [met(&peers[0]), met(&peers[1])];
        // This one waits to be accepted, so there is no place for another.
        peers[2].send_to(b"hello", &place).unwrap();
        let total = || listener.engine().unwrap().metrics().total();
        until("it waits", || total().open_connections == 3);
        for _ in 0..20 {
            socket().send_to(b"me, too", &place).unwrap();
        }
        until("they are refused", || total().refused_limit == 20);
        assert_eq!((total().evicted_remotes, total().dropped_datagrams), (0, 20));
        for (carrier, peer) in carriers.iter().zip(&peers) {
            carrier.send("still there").wait().unwrap();
            assert_eq!(heard(peer), b"still there");
        }
    });
}

/// A datagram of UDP over IPv4 from and to `place`, as nobody could send it who is not root.
fn spoof(place: SocketAddrV4) -> std::io::Result<()> {
    use rustix::net::{self, AddressFamily, SendFlags, SocketType};
    let text = b"who am I?";
    let len = 28 + text.len() as u16;
    // The kernel fills in the checksum of the first 20 bytes; UDP needs none here.
    let mut packet = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0].to_vec();
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    let (ip, port) = (place.ip().octets(), place.port().to_be_bytes());
    let udp = (len - 20).to_be_bytes();
    for part in [&ip[..], &ip, &port, &port, &udp, &[0, 0], text] {
        packet.extend(part);
    }
    let raw = net::socket(AddressFamily::INET, SocketType::RAW, Some(net::ipproto::RAW))?;
    net::sendto(&raw, &packet, SendFlags::empty(), &SocketAddrV4::new(*place.ip(), 0))?;
    Ok(())
}

#[test]
fn nobody_answers_what_claims_to_come_from_itself() {
    on_both(60, |driver| {
        let (own, all) = ("udp://127.0.0.1:0", "udp://*:0");
        let answers =
            |place| one(driver).respond_with(place, Unframed, |message, reply| reply.send(message));
        for place in [own, all] {
            let (engine, place) = start(answers(place));
            let port = place.rsplit(':').next().unwrap().parse().unwrap();
            let place = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
            if let Err(error) = spoof(place) {
                println!("SKIP: no raw socket: {error}");
                return end(engine);
            }
            let total = || engine.metrics().total();
            until("it is dropped", || total().dropped_datagrams == 1);
            assert_eq!(total().received_messages, 0);
            let peer = socket();
            peer.send_to(b"hello", place).unwrap();
            assert_eq!(heard(&peer), b"hello", "others are served");
            assert_eq!(total().dropped_datagrams, 1);
            end(engine);
        }
    });
}

#[test]
fn an_engine_that_ends_waits_for_no_datagram() {
    on_both(60, |driver| {
        let patient = || {
            one(driver).timeouts(timeouts(|timeouts| {
                (timeouts.linger, timeouts.drain) = (SOON * 3, SOON * 3)
            }))
        };
        let engine = patient().start().unwrap();
        let peer = socket();
        let place = format!("udp://{}", peer.local_addr().unwrap());
        let carrier = engine.initiate_with(&place, Unframed);
        carrier.ready(|_: Message<'_>| true).unwrap();
        carrier.send("the last words").wait().unwrap();
        let listener = patient().listen_with("udp://127.0.0.1:0", Unframed).unwrap();
        let place = listener.local_addresses().remove(0).replace("udp://", "");
        peer.send_to(b"hello", place).unwrap();
        let accepted = listener.accept().wait().unwrap();
        accepted.ready(|_: Message<'_>| true).unwrap();
        let begun = Instant::now();
        listener.engine().unwrap().shutdown();
        end(engine);
        let state = || accepted.state().wait();
        until("both have ended", || !matches!(state(), Ok(CarrierState::Active)));
        assert!(begun.elapsed() < SOON * 2);
        assert_eq!(heard(&peer), b"the last words");
    });
}
