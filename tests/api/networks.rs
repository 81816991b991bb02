//! Datagrams between two hosts: packets as they are on the wire, and paths that carry less.
//!
//! Below: `two_hosts`. Absent: networks that fail (`network_faults`).

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;

use postring::{DriverChoice, Engine, Error, Message, Unframed};

use crate::hosts::{CABLE, FAR, Host, Hosts, NEAR};
use crate::support::*;
use crate::two_hosts::*;

/// Addresses of the far host of which a path takes so many bytes of each packet: of IPv4, and of
/// IPv6 if this machine has it.
fn far_places(hosts: &Hosts) -> Vec<(&'static str, usize)> {
    const FAR_IPV6: &str = "fd83::2";
    let (near, far) = ("fd83::1", FAR_IPV6);
    let added = [(Host::Near, near), (Host::Far, far)].into_iter().try_for_each(|(host, ip)| {
        hosts.run(host, &format!("ip address add {ip}/64 dev {CABLE} nodad"))
    });
    let mut places = vec![(FAR, 20 + 8)];
    match added {
        Ok(()) => places.push((FAR_IPV6, 40 + 8)),
        Err(error) => println!("SKIP: IPv6 between two hosts: {error:#}"),
    }
    places
}

/// A packet on the wire.
#[derive(Debug)]
struct Packet {
    /// Bytes, IP header included.
    len: usize,
    /// Bytes of payload in each packet that the device is to cut it into; 0: it is one.
    segment: usize,
}

/// Prints a line for each packet to a port: its length, and how the device is to cut it.
const PYTHON_WIRE: &str = r#"
import socket, struct, sys
SOL_PACKET, PACKET_VNET_HDR, IPV4 = 263, 15, 0x0800
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(IPV4))
wire.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
wire.bind((sys.argv[1], IPV4))
print("ready", flush=True)
left = int(sys.argv[3])
while left > 0:
    data = wire.recv(100000)
    cut, segment = data[1], struct.unpack("=H", data[4:6])[0]
    packet = data[10 + 14:]
    if packet[9] == 17 and struct.unpack("!H", packet[22:24])[0] == int(sys.argv[2]):
        length = struct.unpack("!H", packet[2:4])[0]
        print(length, segment if cut else 0, flush=True)
        left -= length - 28
"#;

/// The packets with the next `bytes` to `port` that come out of the cable of the far host.
fn packets_to(hosts: &Hosts, port: u16, bytes: usize, sends: impl FnOnce()) -> Vec<Packet> {
    let (port, bytes) = (port.to_string(), bytes.to_string());
    let arguments = ["-c", PYTHON_WIRE, CABLE, &port, &bytes];
    let program = hosts.at(Host::Far, || foreign_program("python3", &arguments)).unwrap();
    let Some(mut program) = program else { return Vec::new() };
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    sends();
    let packet = |line: String| {
        let (len, segment) = line.split_once(' ').unwrap();
        Packet { len: len.parse().unwrap(), segment: segment.parse().unwrap() }
    };
    let packets = lines.map(|line| packet(line.unwrap())).collect();
    assert!(program.wait().unwrap().success(), "not all came in time");
    packets
}

const HEADERS_BYTES: usize = 28;
const MTU: usize = 1500;

/// Lengths of which some leave in trains, and the longest fills a packet.
fn lens() -> Vec<usize> {
    let mut lens = vec![1472; 10];
    lens.extend([700].iter().chain(&[1200; 30]).chain(&[1; 5]).chain(&[1471, 1472, 9]));
    lens
}

#[test]
fn segments_of_a_train_fit_the_wire_whoever_cuts_it() {
    on_both(60, |driver| {
        let Some(hosts) = between_hosts() else { return };
        for device_cuts in [false, true] {
            let switch = if device_cuts { "on" } else { "off" };
            let set = format!("ethtool -K {CABLE} tx-udp-segmentation {switch}");
            if let Err(error) = hosts.run(Host::Near, &set) {
                println!("SKIP: {error:#}");
                continue;
            }
            let socket = far_socket(&hosts);
            let port = socket.local_addr().unwrap().port();
            let engine = one(driver).start().unwrap();
            let carrier = carrier_to(&engine, &socket);
            let packets = packets_to(&hosts, port, lens().iter().sum(), || {
                let messages = || lens().into_iter().map(pattern).map(Message::new).collect();
                send_in_one_turn(&engine, carrier, messages);
                lens().iter().for_each(|len| assert!(heard(&socket) == pattern(*len), "{len}"));
            });
            for packet in &packets {
                let longest = match packet.segment {
                    0 => packet.len,
                    segment => segment + HEADERS_BYTES,
                };
                assert!(longest <= MTU, "{packet:?}");
            }
            let trains = packets.iter().filter(|packet| packet.segment > 0).count();
            assert_eq!(trains > 0, device_cuts && !packets.is_empty(), "{packets:?}");
            let metrics = engine.metrics().total();
            assert_eq!((metrics.unsent_datagrams, metrics.segmentation_refused), (0, 0));
            end(engine);
        }
    });
}

#[test]
fn a_narrower_path_makes_a_longer_message_an_error_that_names_its_limit() {
    on_both(60, |driver| {
        let Some(hosts) = between_hosts() else { return };
        hosts.run(Host::Near, &format!("ip link set {CABLE} mtu 1300")).unwrap();
        let engine = one(driver).start().unwrap();
        for (ip, headers) in far_places(&hosts) {
            let socket = far_socket_at(&hosts, ip);
            let carrier = carrier_to(&engine, &socket);
            let limit = 1300 - headers;
            for len in [limit + 1, 1400, 65_507] {
                let error = carrier.send(Message::new(pattern(len))).wait().unwrap_err();
                let says = format!("{len} bytes exceeds the path's limit of {limit} bytes");
                assert!(matches!(&error, Error::Message(why) if why.contains(&says)), "{error}");
            }
            carrier.send(Message::new(pattern(limit))).wait().unwrap();
            assert_eq!(heard(&socket), pattern(limit));
        }
        assert_eq!(engine.metrics().total().unsent_datagrams, 0);
        end(engine);
    });
}

#[test]
fn a_path_that_becomes_narrower_is_learnt_from_what_could_not_leave() {
    on_both(60, |driver| {
        let Some(hosts) = between_hosts() else { return };
        let socket = far_socket(&hosts);
        let engine = one(driver).start().unwrap();
        let carrier = carrier_to(&engine, &socket);
        carrier.send(Message::new(pattern(1472))).wait().unwrap();
        assert_eq!(heard(&socket), pattern(1472));
        hosts.run(Host::Near, &format!("ip link set {CABLE} mtu 1300")).unwrap();
        until("the Carrier knows it", || match carrier.send(Message::new(pattern(1400))).wait() {
            Ok(_) => false,
            Err(error) => {
                assert!(error.to_string().contains("limit of 1272 bytes"), "{error}");
                true
            }
        });
        assert!(engine.metrics().total().unsent_datagrams > 0, "the first was counted");
        carrier.send("still there").wait().unwrap();
        assert_eq!(heard(&socket), b"still there");
        drop(carrier);
        end(engine);
    });
}

/// Answers a number with as many bytes, or with why it cannot.
fn of_any_length(driver: DriverChoice) -> (Engine, String) {
    let place = format!("udp://{NEAR}:0");
    let builder = one(driver).respond_with(&place, Unframed, |message, reply| {
        let answer = pattern(message.text().unwrap().parse().unwrap());
        reply.send(Message::new(answer)).or_else(|error| reply.send(error.to_string()))
    });
    let engine = builder.start().unwrap();
    let place = engine.local_addresses().remove(0).replace("udp://", "");
    (engine, place)
}

#[test]
fn an_answer_that_its_path_does_not_carry_is_an_error_that_names_the_limit() {
    on_both(60, |driver| {
        let Some(hosts) = between_hosts() else { return };
        hosts.run(Host::Near, &format!("ip link set {CABLE} mtu 1300")).unwrap();
        let (engine, place) = of_any_length(driver);
        let peers = [(); 3].map(|()| far_socket(&hosts));
        for too_long in [1273, 1400, 9000] {
            let says = format!("{too_long} bytes exceeds the path's limit of 1272 bytes");
            for peer in &peers {
                peer.send_to(too_long.to_string().as_bytes(), &place).unwrap();
                peer.send_to(b"1272", &place).unwrap();
            }
            for peer in &peers {
                assert!(String::from_utf8(heard(peer)).unwrap().contains(&says), "{says}");
                assert_eq!(heard(peer), pattern(1272));
            }
        }
        assert_eq!(engine.metrics().total().unsent_datagrams, 0);
        end(engine);
    });
}

#[test]
fn answers_that_a_path_carries_no_more_are_counted_or_refused_and_take_no_others_with_them() {
    on_both(60, |driver| {
        let Some(hosts) = between_hosts() else { return };
        let (engine, place) = of_any_length(driver);
        let peers = [(); 3].map(|()| far_socket(&hosts));
        let ask = |peer: &UdpSocket, len: usize| {
            peer.send_to(len.to_string().as_bytes(), &place).unwrap();
        };
        // From now on it is known how long they may be, for a while.
        ask(&peers[0], 1472);
        assert_eq!(heard(&peers[0]), pattern(1472));
        hosts.run(Host::Near, &format!("ip link set {CABLE} mtu 1300")).unwrap();
        for peer in &peers {
            [1472, 1273, 1272, 9].iter().for_each(|len| ask(peer, *len));
        }
        // The first ones show how narrow it is; from then on the Responder is told.
        let (mut whole, mut refused) = (Vec::new(), 0);
        peers.iter().for_each(|peer| peer.set_nonblocking(true).unwrap());
        until("all are answered or counted", || {
            for peer in &peers {
                let mut answer = [0; 2000];
                while let Ok(len) = peer.recv(&mut answer) {
                    match answer[..len] == pattern(len) {
                        true => whole.push(len),
                        false => refused += 1,
                    }
                }
            }
            let counted = engine.metrics().total().unsent_datagrams;
            whole.len() == 6 && refused + counted == 6
        });
        whole.sort_unstable();
        assert_eq!(whole, [9, 9, 9, 1272, 1272, 1272]);
        assert!(refused < 6, "one at least had to be tried");
        end(engine);
    });
}

/// Where the far host would send what is for it, on a way of 1300 bytes a packet.
const BEYOND: &str = "10.84.0.2";

/// The far host is a router now, to a network that is narrower than the cable.
fn route_beyond(hosts: &Hosts) {
    for command in [
        "sysctl -qw net.ipv4.ip_forward=1",
        "ip link add narrow mtu 1300 type veth peer name end",
        "ip address add 10.84.0.1/24 dev narrow",
        "ip link set narrow up",
        "ip link set end up",
        "ip neighbour add 10.84.0.2 lladdr 02:00:00:00:00:02 dev narrow",
    ] {
        hosts.run(Host::Far, command).unwrap();
    }
    hosts.run(Host::Near, &format!("ip route add 10.84.0.0/24 via {FAR}")).unwrap();
}

#[test]
fn a_narrow_way_behind_a_router_is_learnt_from_what_the_router_says() {
    on_both(60, |driver| {
        let Some(hosts) = between_hosts() else { return };
        route_beyond(&hosts);
        let engine = one(driver).start().unwrap();
        let carrier = engine.initiate_with(&format!("udp://{BEYOND}:9"), Unframed);
        carrier.activate().wait().unwrap();
        until("the router has told it", || match carrier.send(pattern(1400)).wait() {
            Ok(_) => false,
            Err(error) => {
                assert!(error.to_string().contains("limit of 1272 bytes"), "{error}");
                true
            }
        });
        carrier.send(pattern(1272)).wait().unwrap();
        let socket = far_socket(&hosts);
        let beside = carrier_to(&engine, &socket);
        beside.send(pattern(1472)).wait().unwrap();
        assert_eq!(heard(&socket).len(), 1472, "other paths are as wide as they were");
        drop((carrier, beside));
        end(engine);
    });
}

#[test]
fn a_path_that_becomes_wide_again_carries_longer_messages_again() {
    on_both(60, |driver| {
        let Some(hosts) = between_hosts() else { return };
        let socket = far_socket(&hosts);
        let engine = one(driver).start().unwrap();
        hosts.run(Host::Near, &format!("ip link set {CABLE} mtu 1300")).unwrap();
        let carrier = carrier_to(&engine, &socket);
        carrier.send(pattern(1272)).wait().unwrap();
        assert_eq!(heard(&socket).len(), 1272);
        hosts.run(Host::Near, &format!("ip link set {CABLE} mtu 1500")).unwrap();
        carrier.send(pattern(1400)).wait().unwrap();
        assert_eq!(heard(&socket).len(), 1400);
        // And narrower: one may be lost, but it is not asked for in vain again and again.
        hosts.run(Host::Near, &format!("ip link set {CABLE} mtu 1300")).unwrap();
        until("it is noticed", || carrier.send(pattern(1400)).wait().is_err());
        let lost = engine.metrics().total().unsent_datagrams;
        carrier.send(pattern(1400)).wait().unwrap_err();
        carrier.send("still there").wait().unwrap();
        assert_eq!(heard(&socket), b"still there");
        assert_eq!(engine.metrics().total().unsent_datagrams, lost);
        drop(carrier);
        end(engine);
    });
}
