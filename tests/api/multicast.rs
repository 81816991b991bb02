//! Multicast: Sinks and Sources of groups, on the loopback (draft §3.1.4).

use std::future::Future;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::mpsc;

use postring::{Carrier, DriverChoice, Engine, Error, Flow, Message, Sink, Source, Unframed};

use crate::support::{SOON, end, in_namespace, on_both, one, until};

/// What is said of every group here: only this host hears of it.
const HERE: &str = "?interface=lo";

/// A group address and a port that no other test uses.
fn group(number: u8, port: u16) -> String {
    format!("239.255.{}.{number}:{port}", std::process::id() % 250)
}

fn port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn sink(engine: &Engine, address: &str) -> Sink<Unframed> {
    let sink = engine.initiate_with(address, Unframed).into_sink();
    sink.activate().wait().unwrap();
    sink
}

fn source(engine: &Engine, address: &str) -> Source<Unframed> {
    engine.initiate_with(address, Unframed).into_source()
}

fn foreign() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    rustix::net::sockopt::set_ip_multicast_if(&socket, &Ipv4Addr::LOCALHOST).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

fn text(sink: &Sink<Unframed>) -> String {
    sink.receive().wait().unwrap().text().unwrap().to_owned()
}

/// Skips where the loopback carries no multicast.
fn works() -> bool {
    let probe = foreign();
    let sent = probe.send_to(b"probe", "239.255.0.1:9");
    if let Err(error) = &sent {
        println!("SKIP: no multicast on the loopback: {error}");
    }
    sent.is_ok()
}

#[test]
fn item_090_a_sink_on_a_group_prints_what_is_sent_to_it_for_ever() {
    on_both(60, |driver| {
        if !works() {
            return;
        }
        let engine = one(driver).start().unwrap();
        let group = group(1, port());
        // As in the draft's example: a Sink on a Local, a handler that goes on.
        let sink = engine.initiate_with(&format!("udp://{group}{HERE}"), Unframed).into_sink();
        let (printed, prints) = mpsc::channel();
        sink.ready(move |message: Message<'_>| {
            printed.send(message.text().unwrap().to_owned()).unwrap();
            true
        })
        .unwrap();
        sink.activate().wait().unwrap();
        for number in 0..5 {
            foreign().send_to(format!("news {number}").as_bytes(), &group).unwrap();
            assert_eq!(prints.recv_timeout(SOON).unwrap(), format!("news {number}"));
        }
        drop(sink);
        end(engine);
    });
}

#[test]
fn a_source_reaches_every_sink_of_its_group_and_of_no_other() {
    on_both(60, |driver| {
        if !works() {
            return;
        }
        let engine = one(driver).start().unwrap();
        let port = port();
        // Several groups on one port.
        let [first, second] = [group(2, port), group(3, port)].map(|g| format!("udp://{g}{HERE}"));
        let sinks = [sink(&engine, &first), sink(&engine, &first), sink(&engine, &second)];
        let [to_first, to_second] = [source(&engine, &first), source(&engine, &second)];
        to_first.send("for the first").wait().unwrap();
        to_second.send("for the second").wait().unwrap();
        assert_eq!(text(&sinks[0]), "for the first");
        assert_eq!(text(&sinks[1]), "for the first");
        assert_eq!(text(&sinks[2]), "for the second");
        to_first.send("once more").wait().unwrap();
        assert_eq!(text(&sinks[0]), "once more", "and nothing of the other group before it");
        drop((sinks, to_first, to_second));
        end(engine);
    });
}

#[test]
fn a_sink_of_one_source_hears_no_other() {
    on_both(60, |driver| {
        if !works() {
            return;
        }
        let engine = one(driver).start().unwrap();
        let port = port();
        let group = format!("232.255.{}.1:{port}", std::process::id() % 250);
        let of = |host: &str| sink(&engine, &format!("udp://{group}{HERE}&source={host}"));
        let [mine, others] = [of("127.0.0.1"), of("127.0.0.2")];
        let from = |host: &str, what: &str| {
            let socket = UdpSocket::bind((host, 0)).unwrap();
            rustix::net::sockopt::set_ip_multicast_if(&socket, &Ipv4Addr::LOCALHOST).unwrap();
            socket.send_to(what.as_bytes(), &group).unwrap();
        };
        from("127.0.0.2", "from two");
        from("127.0.0.1", "from one");
        assert_eq!((text(&mine), text(&others)), ("from one".into(), "from two".into()));
        drop((mine, others));
        end(engine);
    });
}

const IPV6: &str = "multicast::groups_of_ipv6_and_carriers_that_do_both";

/// Two network cards on one wire: the loopback carries no IPv6 multicast.
const WIRE: &str = "sysctl -qw net.ipv6.conf.default.accept_dad=0; \
    ip link add near type veth peer name far && ip link set near up && ip link set far up \
    && ip addr add 10.77.0.1/24 dev near";

#[test]
fn groups_of_ipv6_and_carriers_that_do_both() {
    in_namespace(IPV6, WIRE, talk_on_ipv6);
}

const INTERFACES: &str = "multicast::a_sink_hears_what_comes_by_its_interface_only";

#[test]
fn a_sink_hears_what_comes_by_its_interface_only() {
    in_namespace(INTERFACES, WIRE, |driver| {
        // Whatever others of this host have joined elsewhere: the loopback, and one wire's ends.
        hears_its_own(driver, &format!("udp://{}", group(6, port())), ["lo", "near"], "on");
        hears_its_own(driver, &format!("udp://[ff05::4321]:{}", port()), ["near", "far"], "off");
    });
}

fn hears_its_own(driver: DriverChoice, group: &str, by: [&str; 2], loopback: &str) {
    let engine = one(driver).start().unwrap();
    let by = by.map(|name| format!("{group}?interface={name}"));
    let sinks = by.each_ref().map(|address| sink(&engine, address));
    let sources = by.each_ref().map(|by| source(&engine, &format!("{by}&loopback={loopback}")));
    // With loopback, one hears what was sent by its own interface, else what was by the other.
    let second = usize::from(loopback == "on");
    until("the card has its address", || sources[second].send("to one").wait().is_ok());
    assert_eq!(text(&sinks[1]), "to one");
    sources[1 - second].send("to the other").wait().unwrap();
    assert_eq!(text(&sinks[0]), "to the other");
    drop((sinks, sources));
    end(engine);
}

fn talk_on_ipv6(driver: DriverChoice) {
    let engine = one(driver).start().unwrap();
    let address = format!("udp://[ff02::4321]:{}?interface=near", port());
    let talkers = [(); 2].map(|()| {
        let carrier = engine.initiate_with(&address, Unframed);
        carrier.activate().wait().unwrap();
        carrier
    });
    // The card has an address only when it has asked whether somebody else has it.
    until("it is heard", || {
        talkers[0].send("hello, all").wait().unwrap();
        talkers[0].queued().wait().is_ok() && heard(&talkers[1]).is_some()
    });
    let deaf = engine.initiate_with(&format!("{address}&loopback=off"), Unframed);
    deaf.send("not heard on this host").wait().unwrap();
    talkers[1].send("heard").wait().unwrap();
    until("it is heard", || match heard(&talkers[0]).as_deref() {
        // Its own words come back, too: loopback is on.
        None | Some("hello, all") => false,
        Some(other) => {
            assert_eq!(other, "heard");
            true
        }
    });
    drop((talkers, deaf));
    end(engine);
}

/// What has come, if something has.
fn heard(carrier: &Carrier<Unframed>) -> Option<String> {
    let mut receiving = std::pin::pin!(carrier.receive());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let until = std::time::Instant::now() + std::time::Duration::from_millis(50);
    while std::time::Instant::now() < until {
        if let std::task::Poll::Ready(message) = receiving.as_mut().poll(&mut context) {
            return Some(message.unwrap().text().unwrap().to_owned());
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    None
}

#[test]
fn a_responder_on_a_group_answers_each_from_its_own_address() {
    on_both(60, |driver| {
        if !works() {
            return;
        }
        let group = group(4, port());
        let place = format!("udp://{group}{HERE}");
        let engine = one(driver)
            .respond_with(&place, Unframed, |message, reply| {
                reply.send(message)?;
                Ok::<_, Error>(Flow::Continue)
            })
            .start()
            .unwrap();
        let asker = foreign();
        asker.send_to(b"who is there?", &group).unwrap();
        let mut answer = [0; 100];
        let (len, from) = asker.recv_from(&mut answer).unwrap();
        assert_eq!(&answer[..len], b"who is there?");
        assert!(!from.ip().is_multicast(), "{from}");
        end(engine);
    });
}

#[test]
fn a_group_that_cannot_be_joined_says_why() {
    let check = |driver: DriverChoice| {
        let engine = one(driver).start().unwrap();
        let address = format!("udp://{}?interface=nosuch0", group(5, port()));
        let sink = engine.initiate_with(&address, Unframed).into_sink();
        let error = sink.activate().wait().unwrap_err().to_string();
        let says = |error: &str| {
            assert!(error.contains(&address) && error.contains("No such device"), "{error}");
            assert!(error.contains("?interface=eth0"), "{error}");
        };
        says(&error);
        drop(sink);
        let source = source(&engine, &address);
        says(&source.activate().wait().unwrap_err().to_string());
        drop(source);
        end(engine);
        let refused = one(driver)
            .respond_with(&address, Unframed, |message, reply| reply.send(message))
            .start()
            .unwrap_err();
        says(&refused.to_string());
    };
    on_both(60, check);
}
