//! Items that two hosts show, with datagrams between them: 14, 15, 18, 34, 35, 72, 74
//! and 90.
//!
//! A machine that cannot have two hosts skips these.

use std::io::{BufRead, BufReader};
use std::sync::mpsc;
use std::time::Duration;

use postring::{Expiry, Message, Outcome, Sink, Source, Unframed};

use crate::hosts::{CABLE, FAR, Host, Hosts, NEAR};
use crate::support::*;
use crate::two_hosts::*;

/// Of a line that tcpdump prints of a packet: the byte of its traffic class, the length of its
/// payload.
fn class_and_len(line: &str) -> Option<(u8, usize)> {
    let (_, class) = line.split_once("(tos 0x")?;
    let (_, len) = line.rsplit_once("UDP, length ")?;
    let class = u8::from_str_radix(class.get(..class.find(',')?)?, 16).ok()?;
    Some((class, len.trim().parse().ok()?))
}

/// What tcpdump sees at the far end of the cable of packets to `port`.
fn tcpdump(hosts: &Hosts, port: u16) -> Option<mpsc::Receiver<(u8, usize)>> {
    let filter = format!("udp and dst port {port}");
    let arguments = ["-i", CABLE, "-n", "-v", "-l", "--immediate-mode", "-Q", "in", &filter];
    let mut program = hosts.at(Host::Far, || foreign_program("tcpdump", &arguments)).unwrap()?;
    let said = BufReader::new(program.stdout.take().unwrap());
    let (sees, seen) = mpsc::channel();
    std::thread::spawn(move || {
        // One packet may take two lines.
        let (mut packet, mut lines) = (String::new(), said.lines());
        while let Some(Ok(line)) = lines.next() {
            packet = if line.starts_with(' ') { packet + &line } else { line };
            if let Some(one) = class_and_len(&packet)
                && sees.send(one).is_err()
            {
                break;
            }
        }
        let _ = program.kill();
        let _ = program.wait();
    });
    Some(seen)
}

#[test]
fn item_034_and_018_tcpdump_shows_code_points_and_the_segments_of_a_train() {
    on_both(60, |driver| {
        let Some(hosts) = between_hosts() else { return };
        if let Err(error) =
            hosts.run(Host::Near, &format!("ethtool -K {CABLE} tx-udp-segmentation off"))
        {
            println!("SKIP: {error:#}");
            return;
        }
        let socket = far_socket(&hosts);
        let place = socket.local_addr().unwrap();
        let Some(seen) = tcpdump(&hosts, place.port()) else { return };
        let probe = std::net::UdpSocket::bind((NEAR, 0)).unwrap();
        until("tcpdump listens", || {
            probe.send_to(b"?", place).unwrap();
            seen.recv_timeout(Duration::from_millis(50)).is_ok()
        });
        let engine = one(driver).traffic_classes([(0, 46), (1, 10)]).start().unwrap();
        send_in_one_turn(&engine, carrier_to(&engine, &socket), || {
            let lens = [1200, 1200, 1200, 300];
            lens.map(|len| Message::new(vec![1; len]).niceness(1)).into()
        });
        let next = || loop {
            let (class, len) = seen.recv_timeout(SOON).unwrap();
            if len > 1 {
                return (class >> 2, len);
            }
        };
        assert_eq!(
            [next(), next(), next(), next()],
            [(10, 1200), (10, 1200), (10, 1200), (10, 300)]
        );
        end(engine);
    });
}

/// A link that takes a quarter of a second for a datagram brings twelve of them there before the
/// deadline, which all have in common.
#[test]
fn item_035_with_room_for_some_datagrams_the_more_urgent_class_meets_its_deadline() {
    const URGENT: usize = 4;
    const NICE: usize = 20;
    const LIFETIME: Duration = Duration::from_secs(3);
    on_both(60, |driver| {
        let Some(hosts) = between_hosts() else { return };
        let narrow = "root tbf rate 48kbit burst 1600 latency 10s";
        if let Err(error) = hosts.run(Host::Near, &format!("tc qdisc add dev {CABLE} {narrow}")) {
            println!("SKIP: {error:#}");
            return;
        }
        let socket = far_socket(&hosts);
        let engine = one(driver).start().unwrap();
        let carrier = carrier_to(&engine, &socket).keep();
        let (tells, told) = mpsc::channel();
        let send_all = move || async move {
            // Those that can wait are given first.
            for niceness in [1; NICE].into_iter().chain([0; URGENT]) {
                let message = Message::new(vec![niceness as u8; 1472]);
                let message = message.niceness(niceness).lifetime(LIFETIME);
                let receipt = carrier.send(message).await.unwrap();
                tells.send((niceness, receipt)).unwrap();
            }
        };
        engine.spawn_on(0, send_all).unwrap();
        for _ in 0..URGENT {
            assert_eq!(heard(&socket)[0], 0, "a nice one went first");
        }
        let all: Vec<_> = (0..NICE + URGENT).map(|_| told.recv_timeout(SOON).unwrap()).collect();
        let (nice, urgent): (Vec<_>, Vec<_>) = all.into_iter().partition(|(nice, _)| *nice > 0);
        for (_, receipt) in urgent {
            assert_eq!(receipt.sent().wait().unwrap(), Outcome::Sent);
        }
        let is_late =
            |outcome| matches!(outcome, Outcome::Expired(Expiry::Deadline | Expiry::Hopeless));
        // The link has room for eight of them; some more are on their way when the time is over.
        for (_, receipt) in nice.into_iter().skip(NICE - 4) {
            assert!(is_late(receipt.sent().wait().unwrap()));
        }
        end(engine);
    });
}

#[test]
fn item_072_and_074_a_path_has_addresses_and_says_what_one_packet_carries() {
    on_both(60, |driver| {
        let Some(hosts) = between_hosts() else { return };
        let socket = far_socket(&hosts);
        let engine = one(driver).start().unwrap();
        let carrier = carrier_to(&engine, &socket);
        let association = carrier.association().wait().unwrap();
        for (mtu, bytes_max) in [(1500, 1472), (1300, 1272)] {
            hosts.run(Host::Near, &format!("ip link set {CABLE} mtu {mtu}")).unwrap();
            let paths = association.paths().wait().unwrap();
            let [path] = paths[..] else { panic!("{paths:?}") };
            assert_eq!(path.local_address().unwrap().ip().to_string(), NEAR);
            assert_eq!(path.peer_address(), socket.local_addr().ok());
            assert_eq!(path.payload_bytes_max(), Some(bytes_max));
            carrier.send(Message::new(pattern(bytes_max as usize))).wait().unwrap();
            assert_eq!(heard(&socket).len(), bytes_max as usize);
        }
        drop(carrier);
        end(engine);
    });
}

#[test]
fn item_090_014_and_015_a_sink_hears_for_ever_what_sources_of_another_host_send() {
    on_both(60, |driver| {
        let Some(hosts) = between_hosts() else { return };
        let group = format!("udp://239.255.90.90:7090?interface={CABLE}");
        let near = one(driver).start().unwrap();
        let far = hosts.at(Host::Far, || one(driver).start().unwrap()).unwrap();
        let sink: Sink<Unframed> = far.initiate_with(&group, Unframed).into_sink();
        let (printed, prints) = mpsc::channel();
        sink.ready(move |message: Message<'_>| {
            printed.send(message.text().unwrap().to_owned()).unwrap();
            true
        })
        .unwrap();
        sink.activate().wait().unwrap();
        let sources: [Source<Unframed>; 2] =
            [(); 2].map(|()| near.initiate_with(&group, Unframed).into_source());
        for round in 0..5 {
            for (at, source) in sources.iter().enumerate() {
                source.send(format!("{at}, {round}")).wait().unwrap();
                assert_eq!(prints.recv_timeout(SOON).unwrap(), format!("{at}, {round}"));
            }
        }
        // Nothing of it goes to the host where it is not asked for: only FAR was a member.
        let plain = std::net::UdpSocket::bind((NEAR, 0)).unwrap();
        plain.send_to(b"to you alone", (FAR, 7090)).unwrap();
        sources[0].send("last").wait().unwrap();
        assert_eq!(prints.recv_timeout(SOON).unwrap(), "last", "a group is all that it hears");
        drop((sink, sources));
        end(near);
        end(far);
    });
}
