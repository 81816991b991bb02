//! Foreign programs as peers: Python's socket, socat and nc speak raw TCP and length-prefixed
//! frames with Responders and Carriers.
//!
//! What a machine does not have is skipped loudly; CI installs all three.

use std::io::{BufRead, Read, Write};
use std::process::Child;

use postring::{DriverChoice, Engine, Unframed};

use crate::support::*;

/// Gives `input` to the program and wants `expected` from it.
fn pipes(mut child: Child, input: Vec<u8>, expected: &[u8], name: &str) {
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let mut answer = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut answer).unwrap();
    let written = writer.join().unwrap();
    assert!(child.wait().unwrap().success(), "{name} failed after {} bytes", answer.len());
    written.unwrap();
    assert!(answer == expected, "{name}: {} bytes, not {}", answer.len(), expected.len());
}

fn raw_echo(driver: DriverChoice) -> Engine {
    let builder = one(driver)
        .respond_with("tcp://127.0.0.1:0", Unframed, |message, reply| reply.send(message));
    builder.start().unwrap()
}

/// Frames of lengths around every limit of the way.
fn many_frames() -> Vec<u8> {
    let lens = [0, 1, 5, 255, 4_096, 8_192, 65_536, 300_000];
    lens.into_iter().flat_map(|len| frame(&pattern(len))).collect()
}

/// Sends standard input to a port, ends its direction, and prints all that comes back.
const PYTHON_CLIENT: &str = r#"
import socket, sys, threading
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10)
def send():
    sock.sendall(sys.stdin.buffer.read())
    sock.shutdown(socket.SHUT_WR)
sender = threading.Thread(target=send)
sender.start()
while piece := sock.recv(65536):
    sys.stdout.buffer.write(piece)
sender.join()
"#;

/// Asks one length-prefixed question after the other and checks each answer.
const PYTHON_FRAMES: &str = r#"
import socket, struct, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10)
def exactly(length):
    data = b""
    while len(data) < length:
        piece = sock.recv(length - len(data))
        assert piece, "the peer ended early"
        data += piece
    return data
for length in (0, 1, 17, 4096, 100000):
    question = bytes(at * 7 % 251 for at in range(length))
    frame = struct.pack(">I", length) + question
    # The header in two pieces: a peer must not rely on how bytes are cut.
    sock.sendall(frame[:2])
    sock.sendall(frame[2:])
    (answer_length,) = struct.unpack(">I", exactly(4))
    assert answer_length == length, answer_length
    assert exactly(length) == question
print("five answers")
"#;

/// An echo server of frames: prints its port, serves one connection to its end.
const PYTHON_SERVER: &str = r#"
import socket, struct
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
listener.settimeout(10)
sock, _ = listener.accept()
sock.settimeout(10)
stream = sock.makefile("rwb")
count = 0
while header := stream.read(4):
    (length,) = struct.unpack(">I", header)
    stream.write(header + stream.read(length))
    stream.flush()
    count += 1
print(count)
"#;

/// The ways of a foreign client to pipe bytes through a connection to `port`.
fn pipers(port: &str) -> [(&'static str, Vec<String>); 3] {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    [
        ("python3", words(&["-c", PYTHON_CLIENT, port])),
        // -t: how long the answer is waited for after the end of the input.
        ("socat", words(&["-t", "10", "-", &format!("TCP4:127.0.0.1:{port}")])),
        // -N: the end of the input ends the direction.
        ("nc", words(&["-N", "127.0.0.1", port])),
    ]
}

fn port(engine: &Engine) -> String {
    place(engine).rsplit_once(':').unwrap().1.to_owned()
}

/// Pipes `input` through an echo server by every client there is.
fn comes_back_through_all(engine: &Engine, input: &[u8]) {
    for (program, arguments) in pipers(&port(engine)) {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        if let Some(child) = foreign_program(program, &arguments) {
            pipes(child, input.to_vec(), input, program);
        }
    }
}

#[test]
fn raw_tcp_comes_back_through_foreign_clients() {
    on_both(90, |driver| {
        let engine = raw_echo(driver);
        comes_back_through_all(&engine, b"Hello!\n");
        comes_back_through_all(&engine, &pattern(1 << 20));
        end(engine);
    });
}

#[test]
fn frames_come_back_through_foreign_clients() {
    on_both(90, |driver| {
        let engine = echo(driver);
        comes_back_through_all(&engine, &many_frames());
        end(engine);
    });
}

#[test]
fn python_asks_and_is_answered_frame_by_frame() {
    on_both(60, |driver| {
        let engine = echo(driver);
        if let Some(child) = foreign_program("python3", &["-c", PYTHON_FRAMES, &port(&engine)]) {
            pipes(child, Vec::new(), b"five answers\n", "python3");
        }
        end(engine);
    });
}

#[test]
fn a_carrier_talks_to_a_python_server() {
    on_both(60, |driver| {
        let Some(mut child) = foreign_program("python3", &["-c", PYTHON_SERVER]) else { return };
        let (port, mut said) = first_line(&mut child);
        let engine = one(driver).start().unwrap();
        let carrier = engine.initiate_with(&format!("tcp://127.0.0.1:{port}"), frames());
        for len in [0, 1, 4_096, 100_000] {
            let question = pattern(len);
            carrier.send(question.clone()).wait().unwrap();
            assert!(carrier.receive().wait().unwrap().bytes() == question);
        }
        carrier.close().wait().unwrap();
        let mut count = String::new();
        said.read_line(&mut count).unwrap();
        assert_eq!(count.trim(), "4");
        assert!(child.wait().unwrap().success());
        end(engine);
    });
}
