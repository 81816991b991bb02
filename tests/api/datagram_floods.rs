//! Datagrams of those who mean harm: sources where nobody can be answered, answers that cannot
//! leave, errors provoked in others' name. Whoever else asks is served all the same.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use postring::{Message, Reply, Unframed};
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto};

use crate::hosts::{CABLE, Host, NEAR};
use crate::support::{SOON, end, limits, on_both, one, timeouts, until};
use crate::two_hosts::{between_hosts, far_socket};

const ANYWHERE: &str = "udp://127.0.0.1:0";

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

fn place(addresses: &[String]) -> SocketAddrV4 {
    addresses[0].strip_prefix("udp://").unwrap().parse().unwrap()
}

fn is_answered(socket: &UdpSocket, place: SocketAddrV4) {
    socket.send_to(b"and me?", place).unwrap();
    let len = socket.recv(&mut [0; 100]).unwrap();
    assert_eq!(len, 7);
}

/// Sends datagrams from any source.
struct Spoofer(OwnedFd);

impl Spoofer {
    fn new() -> Option<Self> {
        let made = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW));
        made.inspect_err(|error| println!("SKIP: spoofing needs CAP_NET_RAW: {error}"))
            .ok()
            .map(Self)
    }

    fn send(&self, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) {
        let len = 8 + payload.len() as u16;
        let mut packet = vec![0x45, 0];
        packet.extend((20 + len).to_be_bytes());
        // No number, no fragments, 64 hops, UDP; the kernel adds the checksum.
        packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
        packet.extend(from.ip().octets());
        packet.extend(to.ip().octets());
        packet.extend([from.port(), to.port(), len, 0].map(u16::to_be_bytes).concat());
        packet.extend(payload);
        let to = SocketAddr::from((*to.ip(), 0));
        rustix::net::sendto(&self.0, &packet, SendFlags::empty(), &to).unwrap();
    }
}

/// A port of 0 cannot be sent to, in trains or singly: that says nothing of the device.
#[test]
fn who_cannot_be_answered_takes_no_trains_from_others() {
    on_both(60, |driver| {
        let Some(spoofer) = Spoofer::new() else { return };
        let twice = |message: Message<'_>, reply: Reply<'_, Unframed>| {
            reply.send(message.bytes()).and_then(|()| reply.send(message.bytes()))
        };
        let engine = one(driver).respond_with(ANYWHERE, Unframed, twice).start().unwrap();
        let place = place(&engine.local_addresses());
        spoofer.send(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), place, b"answer me");
        until("neither answer leaves", || engine.metrics().total().unsent_datagrams == 2);
        is_answered(&socket(), place);
        assert_eq!(engine.metrics().total().segmentation_refused, 0);
        end(engine);
    });
}

/// While a socket's queue is full the kernel has no room for whose error it was.
#[test]
fn errors_of_nobody_known_do_not_keep_a_listener_from_receiving() {
    const ROUNDS: u32 = 150;
    on_both(60, |driver| {
        let listener = one(driver).listen_with(ANYWHERE, Unframed).unwrap();
        let place = place(&listener.local_addresses());
        let (flooding, elsewhere) = (socket(), socket());
        flooding.send_to(b"hello", place).unwrap();
        let carrier = listener.accept().wait().unwrap();
        let (stopped, stops) = mpsc::channel();
        let (go_on, waits) = mpsc::channel::<()>();
        let (read, reads) = mpsc::channel();
        let stop = move |message: Message<'_>| {
            match message.bytes() {
                b"stand still" => {
                    stopped.send(()).unwrap();
                    // The core stands still until its socket's queue is full.
                    waits.recv_timeout(SOON).unwrap();
                }
                round if round.len() == 4 => read.send(round.to_vec()).unwrap(),
                _ => {}
            }
            true
        };
        carrier.ready(stop).unwrap();
        let started = Instant::now();
        for round in 0..ROUNDS {
            let leaving = socket();
            leaving.send_to(b"hello", place).unwrap();
            let left = listener.accept().wait().unwrap();
            flooding.send_to(b"stand still", place).unwrap();
            stops.recv_timeout(SOON).unwrap();
            for _ in 0..300 {
                flooding.send_to(&[0; 1200], place).unwrap();
            }
            leaving.connect(elsewhere.local_addr().unwrap()).unwrap();
            let sending = left.send("anybody?");
            go_on.send(()).unwrap();
            // Known only if the error was not lost.
            let _ = sending.wait();
            let round = round.to_be_bytes();
            until("all is read", || {
                flooding.send_to(&round, place).unwrap();
                reads.recv_timeout(Duration::from_millis(1)).is_ok_and(|read| read == round)
            });
        }
        let (took, longest) = (started.elapsed(), ROUNDS * Duration::from_millis(60));
        assert!(took < longest, "{took:?}: it waits after each error");
    });
}

/// More datagrams of a train than the Carrier takes are lost, and said to be.
#[test]
fn each_datagram_of_a_train_that_is_dropped_is_counted() {
    const TRAIN: u8 = 40;
    on_both(60, |driver| {
        let listener = one(driver).listen_with(ANYWHERE, Unframed).unwrap();
        let address = listener.local_addresses().remove(0);
        let engine = one(driver).start().unwrap();
        let carrier = std::sync::Arc::new(engine.initiate_with(&address, Unframed));
        carrier.send("hello").wait().unwrap();
        let sender = std::sync::Arc::downgrade(&carrier);
        let send_train = move |_: Message<'_>| {
            let carrier = sender.upgrade().unwrap();
            (0..TRAIN).for_each(|at| carrier.try_send(vec![at; 100]).unwrap());
            true
        };
        carrier.ready(send_train).unwrap();
        let there = listener.accept().wait().unwrap();
        let total = || listener.engine().unwrap().metrics().total();
        // Nobody receives: the first train finds a place, no other does.
        for trains in 1..4 {
            there.send("a train, please").wait().unwrap();
            let sent = 1 + trains * u64::from(TRAIN);
            let seen = || total().received_messages + total().dropped_datagrams;
            until("all are accounted for", || seen() == sent);
        }
        assert!(total().dropped_datagrams >= u64::from(TRAIN), "{:?}", total());
        assert_eq!(total().sent_bytes, 3 * "a train, please".len() as u64, "each counts once");
        drop(carrier);
        end(engine);
    });
}

/// As in the Responder's promise: a handler that panics loses its own datagram, others are told of.
#[test]
fn datagrams_behind_one_that_panicked_are_counted() {
    const TRAIN: u8 = 40;
    on_both(60, |driver| {
        let panics = |message: Message<'_>, reply: Reply<'_, Unframed>| {
            assert_ne!(message.bytes(), [7; 100]);
            reply.send(message)
        };
        let server = one(driver).respond_with(ANYWHERE, Unframed, panics).start().unwrap();
        let trains = |message: Message<'_>, reply: Reply<'_, Unframed>| {
            let go = message.bytes() == b"go";
            (0..TRAIN).filter(|_| go).try_for_each(|at| reply.send(vec![at; 100]))
        };
        let asking = one(driver).respond_with(ANYWHERE, Unframed, trains).start().unwrap();
        let Some(spoofer) = Spoofer::new() else { return };
        let to = place(&asking.local_addresses());
        spoofer.send(place(&server.local_addresses()), to, b"go");
        let total = || server.metrics().total();
        let seen = || total().received_messages + total().panics + total().dropped_datagrams;
        until("all are accounted for", || seen() == u64::from(TRAIN));
        assert_eq!(total().panics, 1);
        end(asking);
        end(server);
    });
}

/// A Responder's socket that is stuck serves again as soon as the way is free.
#[test]
fn answers_that_cannot_leave_are_bounded_and_end_no_service() {
    on_both(60, |driver| {
        let Some(hosts) = between_hosts() else { return };
        let slow = format!("tc qdisc add dev {CABLE} root tbf rate 8kbit burst 2kb limit 9mb");
        if let Err(error) = hosts.run(Host::Near, &slow) {
            return println!("SKIP: a slow way out needs tc: {error:#}");
        }
        let mut short = timeouts(|_| ());
        (short.unread_send, short.drain) = (Duration::from_millis(200), Duration::from_millis(100));
        let few = limits(|limits| limits.send_queue_bytes = 64 << 10);
        let builder = one(driver).limits(few).timeouts(short);
        let echo = |message: Message<'_>, reply: Reply<'_, Unframed>| reply.send(message);
        let address = format!("udp://{NEAR}:0");
        let engine = builder.respond_with(&address, Unframed, echo).start().unwrap();
        let place = place(&engine.local_addresses());
        let total = || engine.metrics().total();
        let flooding = far_socket(&hosts);
        until("answers are dropped", || {
            (0..20).for_each(|_| assert!(flooding.send_to(&[5; 1000], place).is_ok()));
            total().dropped_datagrams > 1000
        });
        let waiting = total().received_bytes - 1000 * total().dropped_datagrams;
        assert!(waiting - total().sent_bytes < 4 << 20, "{waiting} bytes wait");
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(total().send_timeouts, 0);
        hosts.run(Host::Near, &format!("tc qdisc del dev {CABLE} root")).unwrap();
        let mut room = [0; 2000];
        until("it answers again", || {
            flooding.send_to(b"again?", place).unwrap();
            flooding.recv(&mut room).is_ok_and(|len| len == 6)
        });
        end(engine);
    });
}
