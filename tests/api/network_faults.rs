//! Networks that fail under datagrams: no route, an interface that goes down or away, rules that
//! let nothing out, queues that are full. What the rest of the engine does goes on.
//!
//! Below: `two_hosts`; `ip`, `nft` and `tc` break what is between them.

use std::net::UdpSocket;
use std::time::Duration;

use postring::{
    Carrier, CloseReason, DriverChoice, Engine, Error, Listener, Message, Outcome, Unframed,
};

use crate::hosts::{CABLE, Host, Hosts, NEAR};
use crate::support::*;
use crate::two_hosts::*;

/// Far fewer turns than an engine makes that spins.
const FEW_TURNS: u64 = 2_000;

/// The engine has nothing to do, and knows it.
fn rests(engine: &Engine) {
    let turns = || engine.metrics().total().turns;
    let before = turns();
    std::thread::sleep(Duration::from_millis(300));
    assert!(turns() - before < FEW_TURNS, "{} turns of nothing", turns() - before);
}

fn unsent(engine: &Engine) -> u64 {
    engine.metrics().total().unsent_datagrams
}

fn echo(driver: DriverChoice) -> (Engine, String) {
    let place = format!("udp://{NEAR}:0");
    let builder = one(driver).respond_with(&place, Unframed, |message, reply| reply.send(message));
    let engine = builder.start().unwrap();
    let place = engine.local_addresses().remove(0).replace("udp://", "");
    (engine, place)
}

/// How an interface goes.
const GOES: [&str; 2] = ["ip link set cable down", "ip link delete cable"];

/// What went in one of these ways is there again.
fn comes_back(hosts: &Hosts, goes: &str) {
    match goes.contains("delete") {
        true => hosts.plug_in().unwrap(),
        false => hosts.run(Host::Near, &format!("ip link set {CABLE} up")).unwrap(),
    }
}

/// Asks until an answer comes: a cable is not up at once.
fn is_answered(peer: &UdpSocket, place: &str) {
    peer.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    until("it is answered", || {
        // Refused by the asker's own host as long as the cable is down.
        let _ = peer.send_to(b"are you there?", place);
        peer.recv(&mut [0; 100]).is_ok()
    });
    // Answers that came late.
    while peer.recv(&mut [0; 100]).is_ok() {}
}

/// A Listener, its Carrier to a peer, and the peer.
fn accepted(
    driver: DriverChoice,
    hosts: &Hosts,
) -> (Listener<Unframed>, Carrier<Unframed>, UdpSocket) {
    let listener = one(driver).listen_with(&format!("udp://{NEAR}:0"), Unframed).unwrap();
    let place = listener.local_addresses().remove(0).replace("udp://", "");
    let peer = far_socket(hosts);
    peer.send_to(b"hello", place).unwrap();
    let carrier = listener.accept().wait().unwrap();
    assert_eq!(carrier.receive().wait().unwrap().bytes(), b"hello");
    (listener, carrier, peer)
}

#[test]
fn a_network_that_cannot_be_reached_is_said() {
    on_both(60, |driver| {
        let Some(_hosts) = between_hosts() else { return };
        let engine = one(driver).start().unwrap();
        for address in ["udp://203.0.113.1:9", "udp://[2001:db8::1]:9"] {
            let carrier = engine.initiate_with(address, Unframed);
            let receipt = carrier.send("into the void").wait().unwrap();
            let error = carrier.activate().wait().unwrap_err().to_string();
            assert!(error.contains("Network is unreachable"), "{address}: {error}");
            let error = carrier.receive().wait().unwrap_err().to_string();
            assert!(error.contains("Network is unreachable"), "{address}: {error}");
            let outcome = receipt.sent().wait().unwrap();
            assert!(matches!(outcome, Outcome::Failed(_)), "{address}: {outcome:?}");
        }
        rests(&engine);
        end(engine);
    });
}

#[test]
fn an_interface_that_goes_ends_connected_carriers_with_the_reason() {
    on_both(60, |driver| {
        let Some(hosts) = between_hosts() else { return };
        let engine = one(driver).start().unwrap();
        let socket = far_socket(&hosts);
        let idle = carrier_to(&engine, &socket);
        let unreachable = |error: Error| {
            assert!(error.to_string().contains("Network is unreachable"), "{error}");
        };
        for goes in GOES {
            let carrier = carrier_to(&engine, &socket);
            carrier.send("before").wait().unwrap();
            assert_eq!(heard(&socket), b"before");
            hosts.run(Host::Near, goes).unwrap();
            rests(&engine);
            // It is noticed by what cannot leave.
            let _ = carrier.send("into the void").wait();
            let ended = carrier.receive().wait().unwrap_err();
            assert!(matches!(&ended, Error::Closed(CloseReason::Lost(101))), "{ended:?}");
            unreachable(ended);
            let address = format!("udp://{}", socket.local_addr().unwrap());
            let refused = engine.initiate_with(&address, Unframed);
            unreachable(refused.activate().wait().unwrap_err());
            comes_back(&hosts, goes);
            // Who said nothing meanwhile has missed nothing.
            idle.send("after").wait().unwrap();
            assert_eq!(heard(&socket), b"after");
            carrier_to(&engine, &socket).send("anew").wait().unwrap();
            assert_eq!(heard(&socket), b"anew");
        }
        drop(idle);
        end(engine);
    });
}

#[test]
fn an_interface_that_goes_while_datagrams_wait_for_it_leaves_nothing_behind() {
    on_both(60, |driver| {
        let Some(hosts) = between_hosts() else { return };
        let engine = one(driver).start().unwrap();
        let socket = far_socket(&hosts);
        for goes in GOES {
            if !narrow(&hosts, 4 << 20) {
                return;
            }
            let carrier = carrier_to(&engine, &socket);
            let flood = *carrier;
            let (over, ended) = std::sync::mpsc::channel();
            let send_all = move || async move {
                while flood.send(Message::new(vec![7; 1200])).await.is_ok() {}
                over.send(()).unwrap();
            };
            engine.spawn_on(0, send_all).unwrap();
            assert_eq!(heard(&socket).len(), 1200);
            hosts.run(Host::Near, goes).unwrap();
            ended.recv_timeout(SOON).unwrap();
            carrier.receive().wait().unwrap_err();
            rests(&engine);
            comes_back(&hosts, goes);
        }
        end(engine);
    });
}

#[test]
fn a_responder_outlives_its_interface() {
    on_both(60, |driver| {
        let Some(hosts) = between_hosts() else { return };
        let (engine, place) = echo(driver);
        is_answered(&far_socket(&hosts), &place);
        for goes in GOES {
            hosts.run(Host::Near, goes).unwrap();
            rests(&engine);
            comes_back(&hosts, goes);
            is_answered(&far_socket(&hosts), &place);
        }
        end(engine);
    });
}

#[test]
fn carriers_of_a_listener_outlive_its_interface() {
    on_both(60, |driver| {
        let Some(hosts) = between_hosts() else { return };
        let (listener, carrier, peer) = accepted(driver, &hosts);
        let engine = listener.engine().unwrap();
        for goes in GOES {
            hosts.run(Host::Near, goes).unwrap();
            let before = unsent(engine);
            carrier.send("into the void").wait().unwrap();
            until("it is counted", || unsent(engine) > before);
            rests(engine);
            comes_back(&hosts, goes);
            carrier.send("back again").wait().unwrap();
            assert_eq!(heard(&peer), b"back again", "{goes}");
        }
        drop((carrier, listener));
    });
}

#[test]
fn a_sink_hears_its_group_again_when_its_interface_is_up() {
    on_both(60, |driver| {
        let Some(hosts) = between_hosts() else { return };
        let engine = one(driver).start().unwrap();
        let sink =
            engine.initiate_with(&format!("udp://239.255.4.4:7404?interface={CABLE}"), Unframed);
        let sink = sink.into_sink();
        sink.activate().wait().unwrap();
        let far = far_socket(&hosts);
        let says = |what: &str| {
            let route = format!("ip route replace 239.0.0.0/8 dev {CABLE}");
            hosts.run(Host::Far, &route).unwrap();
            far.send_to(what.as_bytes(), "239.255.4.4:7404").unwrap();
        };
        says("before");
        assert_eq!(sink.receive().wait().unwrap().bytes(), b"before");
        hosts.run(Host::Near, &format!("ip link set {CABLE} down")).unwrap();
        rests(&engine);
        hosts.run(Host::Near, &format!("ip link set {CABLE} up")).unwrap();
        says("after");
        assert_eq!(sink.receive().wait().unwrap().bytes(), b"after");
        drop(sink);
        end(engine);
    });
}

/// A rule that lets nothing of UDP out of the near host; false if this machine has no `nft`.
fn forbid(hosts: &Hosts) -> bool {
    let commands = [
        "nft add table inet wall",
        "nft add chain inet wall out { type filter hook output priority 0 ; }",
        "nft add rule inet wall out meta l4proto udp drop",
    ];
    let forbidden = commands.iter().try_for_each(|command| hosts.run(Host::Near, command));
    if let Err(error) = &forbidden {
        println!("SKIP: {error:#}");
    }
    forbidden.is_ok()
}

#[test]
fn what_a_rule_of_the_host_drops_is_counted_and_nothing_ends() {
    on_both(60, |driver| {
        let Some(hosts) = between_hosts() else { return };
        let engine = one(driver).start().unwrap();
        let (responder, place) = echo(driver);
        let (socket, asker) = (far_socket(&hosts), far_socket(&hosts));
        let carrier = carrier_to(&engine, &socket);
        let (listener, accepted, peer) = accepted(driver, &hosts);
        if !forbid(&hosts) {
            return;
        }
        for round in 0..3 {
            let receipt = carrier.send(Message::from("dropped").niceness(0)).wait().unwrap();
            let outcome = receipt.sent().wait().unwrap();
            assert_ne!(outcome, Outcome::Sent, "round {round}");
            until("it is counted", || unsent(&engine) == round + 1);
            asker.send_to(b"is there an answer?", &place).unwrap();
            until("it is counted", || unsent(&responder) == round + 1);
            accepted.send("dropped").wait().unwrap();
            until("it is counted", || unsent(listener.engine().unwrap()) == round + 1);
        }
        rests(&engine);
        hosts.run(Host::Near, "nft delete table inet wall").unwrap();
        carrier.send("through").wait().unwrap();
        assert_eq!(heard(&socket), b"through");
        is_answered(&asker, &place);
        accepted.send("through").wait().unwrap();
        assert_eq!(heard(&peer), b"through");
        drop((carrier, accepted));
        end(engine);
        end(responder);
    });
}

/// Has packets leave the near host at 10 Mbit/s, with room for `room_bytes` of those that wait.
fn narrow(hosts: &Hosts, room_bytes: u32) -> bool {
    let shape = format!("rate 10mbit burst 10kb limit {room_bytes}");
    let narrowed = hosts.run(Host::Near, &format!("tc qdisc replace dev {CABLE} root tbf {shape}"));
    if let Err(error) = &narrowed {
        println!("SKIP: {error:#}");
    }
    narrowed.is_ok()
}

const MANY: usize = 1_000;

#[test]
fn a_narrow_way_out_makes_datagrams_wait_in_order_and_loses_none() {
    on_both(60, |driver| {
        let Some(hosts) = between_hosts() else { return };
        if !narrow(&hosts, 4 << 20) {
            return;
        }
        // Of a Carrier that knows niceness, the kernel holds little that has not left.
        for niceness in [None, Some(1)] {
            let engine = one(driver).start().unwrap();
            let socket = far_socket(&hosts);
            let carrier = carrier_to(&engine, &socket);
            let reader = std::thread::spawn(move || (0..MANY).map(|_| heard(&socket)).collect());
            let turns = engine.metrics().total().turns;
            for at in 0..MANY as u32 {
                let payload = [&at.to_be_bytes()[..], &[7; 1200]].concat();
                let message = Message::new(payload);
                let message = match niceness {
                    Some(niceness) => message.niceness(niceness),
                    None => message,
                };
                carrier.send(message).wait().unwrap();
            }
            let heard: Vec<Vec<u8>> = reader.join().unwrap();
            for (at, bytes) in heard.iter().enumerate() {
                assert_eq!(bytes[..4], (at as u32).to_be_bytes(), "none overtakes another");
            }
            assert_eq!(unsent(&engine), 0);
            let turns = engine.metrics().total().turns - turns;
            assert!(turns < FEW_TURNS, "{turns} turns: it asks again and again");
            drop(carrier);
            end(engine);
        }
    });
}

/// What is sent by `carrier` while the device's queue is full arrives at `peer` or is counted.
fn overruns(carrier: &Carrier<Unframed>, peer: &UdpSocket, engine: &Engine) {
    peer.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    // Read at once, for the peer's socket has room for some of them only.
    let came = std::thread::scope(|scope| {
        let count = || std::iter::from_fn(|| peer.recv(&mut [0; 2000]).ok()).count() as u64;
        let reader = scope.spawn(count);
        // No two of them make a train: of one that is dropped in part, the kernel says nothing.
        for at in 0..MANY {
            carrier.send(Message::new(vec![7; 400 + at])).wait().unwrap();
        }
        reader.join().unwrap()
    });
    let unsent = unsent(engine);
    assert_eq!(came + unsent, MANY as u64, "{came} came, {unsent} were counted");
    assert!(unsent > 0, "the queue was large enough for all");
}

#[test]
fn what_a_full_queue_of_the_device_drops_is_counted() {
    on_both(60, |driver| {
        let Some(hosts) = between_hosts() else { return };
        let (listener, carrier, peer) = accepted(driver, &hosts);
        let engine = one(driver).start().unwrap();
        let other = far_socket(&hosts);
        let connected = carrier_to(&engine, &other);
        if !narrow(&hosts, 12_000) {
            return;
        }
        overruns(&carrier, &peer, listener.engine().unwrap());
        overruns(&connected, &other, &engine);
        drop((carrier, connected));
        end(engine);
    });
}
