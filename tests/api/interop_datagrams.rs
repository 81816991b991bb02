//! Foreign programs as peers of datagrams: Python's socket (plain, and with trains), socat and nc
//! speak UDP with Responders and Carriers.
//!
//! What a machine does not have is skipped loudly; CI installs all three. Absent: iperf3, which
//! sends its datagrams only while it talks TCP with another iperf3 about them (`relay`).

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Child;

use postring::{DriverChoice, Engine, Unframed};

use crate::support::{end, first_line, foreign_program, on_both, one, pattern};

fn echo(driver: DriverChoice) -> (Engine, String) {
    let place = "udp://127.0.0.1:0";
    let builder = one(driver).respond_with(place, Unframed, |message, reply| reply.send(message));
    let engine = builder.start().unwrap();
    let address = engine.local_addresses().remove(0);
    let port = address.rsplit_once(':').unwrap().1.to_owned();
    (engine, port)
}

fn succeeds(mut child: Child, name: &str) {
    drop(child.stdin.take());
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{name} failed: {said}");
}

/// Asks one datagram after the other, of any length, and checks each answer.
const PYTHON_CLIENT: &str = r#"
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(10)
sock.connect(("127.0.0.1", int(sys.argv[1])))
for length in (0, 1, 17, 1472, 9000, 65507):
    question = bytes(at * 7 % 251 for at in range(length))
    sock.send(question)
    answer = sock.recv(70000)
    assert answer == question, (length, len(answer))
"#;

/// Sends trains cut by the kernel and takes the answers in trains as they come (GSO and GRO).
const PYTHON_TRAINS: &str = r#"
import socket, struct, sys
UDP_SEGMENT, UDP_GRO = 103, 104
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(10)
sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
sock.connect(("127.0.0.1", int(sys.argv[1])))
for segment, count, rest in ((1200, 16, 0), (100, 40, 7), (1, 3, 0), (1472, 5, 1471)):
    lengths = [segment] * count + ([rest] if rest else [])
    wanted = [bytes([at + 1]) * length for at, length in enumerate(lengths)]
    told = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", segment))]
    sock.sendmsg([b"".join(wanted)], told)
    came = []
    while len(came) < len(wanted):
        data, control, flags, _ = sock.recvmsg(70000, 200)
        assert not flags & socket.MSG_TRUNC
        size = len(data)
        for level, kind, value in control:
            if (level, kind) == (socket.IPPROTO_UDP, UDP_GRO):
                size = struct.unpack("=i", value[:4])[0]
        came += [data[at:at + size] for at in range(0, len(data), size)]
    assert came == wanted, (segment, [len(one) for one in came])
"#;

/// An echo server: prints its port, answers until a datagram of no bytes came.
const PYTHON_SERVER: &str = r#"
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(10)
sock.bind(("127.0.0.1", 0))
print(sock.getsockname()[1], flush=True)
while True:
    data, peer = sock.recvfrom(70000)
    sock.sendto(data, peer)
    if not data:
        break
"#;

#[test]
fn python_is_answered_datagram_by_datagram() {
    on_both(60, |driver| {
        let (engine, port) = echo(driver);
        if let Some(child) = foreign_program("python3", &["-c", PYTHON_CLIENT, &port]) {
            succeeds(child, "python3");
        }
        end(engine);
    });
}

#[test]
fn trains_of_python_are_answered_with_the_same_lengths() {
    on_both(60, |driver| {
        let (engine, port) = echo(driver);
        if let Some(child) = foreign_program("python3", &["-c", PYTHON_TRAINS, &port]) {
            succeeds(child, "python3");
            assert_eq!(engine.metrics().total().received_messages, 16 + 41 + 3 + 6);
        }
        end(engine);
    });
}

#[test]
fn lines_come_back_through_socat_and_nc() {
    on_both(60, |driver| {
        let (engine, port) = echo(driver);
        let to = format!("UDP4:127.0.0.1:{port}");
        let ways = [("socat", vec!["-", &to]), ("nc", vec!["-u", "127.0.0.1", &port])];
        for (program, arguments) in ways {
            let Some(mut child) = foreign_program(program, &arguments) else { continue };
            let mut stdin = child.stdin.take().unwrap();
            let mut said = BufReader::new(child.stdout.take().unwrap());
            for question in ["Hello!\n", "and once more\n"] {
                stdin.write_all(question.as_bytes()).unwrap();
                let mut answer = String::new();
                said.read_line(&mut answer).unwrap();
                assert_eq!(answer, question, "{program}");
            }
            // Datagrams have no end: nc would wait for more until its time is over.
            drop(stdin);
            child.kill().unwrap();
            child.wait().unwrap();
        }
        end(engine);
    });
}

#[test]
fn a_carrier_talks_to_a_python_server_of_datagrams() {
    on_both(60, |driver| {
        let Some(mut child) = foreign_program("python3", &["-c", PYTHON_SERVER]) else { return };
        let (port, _said) = first_line(&mut child);
        let engine = one(driver).start().unwrap();
        let carrier = engine.initiate_with(&format!("udp://127.0.0.1:{port}"), Unframed);
        for len in [1, 1_472, 9_000, 65_507, 0] {
            let question = pattern(len);
            carrier.send(question.clone()).wait().unwrap();
            assert!(carrier.receive().wait().unwrap().bytes() == question, "{len}");
        }
        assert!(child.wait().unwrap().success());
        drop(carrier);
        end(engine);
    });
}
