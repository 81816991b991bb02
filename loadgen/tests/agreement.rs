//! Equal things are told to be equal: two measurements of one server, by two clients or by one.
//!
//! An independent measurement of the same server finds the same percentiles. The other client is
//! written here with the standard library alone: no line of it is the generator's. A binary of its
//! own, so that no other test takes its CPUs.
//!
//! The server answers each message after a time of its own, a tenth of a second long, from the
//! same row of random numbers on each connection: what the clients themselves take, some
//! microseconds, is nothing against it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

const RATE_PER_S: u32 = 1_000;
const MESSAGES: u32 = 2_000;
/// Payload of each message.
const BYTES: usize = 64;
/// Mean of the server's exponential delays.
const MEAN_S: f64 = 0.1;
/// A generator that was late by more than this says nothing: the machine was too busy.
const LAG_MAX_NS: u64 = 5_000_000;
/// How often it may try again.
const TRIES: usize = 4;
/// Longer than the longest of them by far.
const PATIENCE: Duration = Duration::from_secs(20);

/// A frame: a length of four bytes, big-endian, and so many bytes.
fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut frame = length.to_vec();
    frame.resize(4 + u32::from_be_bytes(length) as usize, 0);
    stream.read_exact(&mut frame[4..])?;
    Ok(frame)
}

/// Serves connections, one after the other; each sees the same delays in the same order.
fn delaying_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming().take(1 + TRIES) {
            let mut stream = stream.expect("a connection");
            stream.set_nodelay(true).expect("a socket option");
            let out = stream.try_clone().expect("a second handle");
            let (due, late) = channel();
            let writer = thread::spawn(move || answer_when_due(out, &late));
            let mut random = Xoshiro256PlusPlus::seed_from_u64(5);
            while let Ok(frame) = read_frame(&mut stream) {
                let delay_s = -MEAN_S * (1.0 - random.random::<f64>()).ln();
                let at = Instant::now() + Duration::from_secs_f64(delay_s);
                if due.send((at, frame)).is_err() {
                    break;
                }
            }
            drop(due);
            writer.join().expect("the writer ends");
        }
    });
    address
}

fn answer_when_due(mut out: TcpStream, late: &Receiver<(Instant, Vec<u8>)>) {
    let mut waiting = BinaryHeap::new();
    let mut open = true;
    while open || !waiting.is_empty() {
        let next = waiting.peek().map(|Reverse((at, _)): &Reverse<(Instant, Vec<u8>)>| *at);
        let next = next.unwrap_or_else(|| Instant::now() + PATIENCE);
        match late.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(frame) => waiting.push(Reverse(frame)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) if waiting.is_empty() => return,
            Err(RecvTimeoutError::Disconnected) => {
                open = false;
                sleep(next.saturating_duration_since(Instant::now()));
            }
        }
        while waiting.peek().is_some_and(|Reverse((at, _))| *at <= Instant::now()) {
            let Some(Reverse((_, frame))) = waiting.pop() else { break };
            if out.write_all(&frame).is_err() {
                return;
            }
        }
    }
}

/// Sends at a constant rate, whatever comes back: each message's time from its intended send to
/// its answer, in seconds, rising.
fn measured_here(address: SocketAddr) -> Vec<f64> {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).expect("a socket option");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    let mut out = stream.try_clone().expect("a second handle");
    let begin = Instant::now();
    let intended = move |number: u32| begin + Duration::from_secs(1) * number / RATE_PER_S;
    let sender = thread::spawn(move || {
        for number in 0..MESSAGES {
            sleep(intended(number).saturating_duration_since(Instant::now()));
            let mut frame = (BYTES as u32).to_be_bytes().to_vec();
            frame.extend(number.to_be_bytes());
            frame.resize(4 + BYTES, 0);
            out.write_all(&frame).expect("the server reads");
        }
    });
    let mut times_s: Vec<f64> = Vec::with_capacity(MESSAGES as usize);
    for _ in 0..MESSAGES {
        let frame = read_frame(&mut stream).expect("an answer to each");
        let number = u32::from_be_bytes(frame[4..8].try_into().expect("four bytes"));
        times_s.push(intended(number).elapsed().as_secs_f64());
    }
    sender.join().expect("the sender ends");
    times_s.sort_by(f64::total_cmp);
    times_s
}

/// The same messages from the generator: its percentiles of the response time, if it had its CPU.
fn measured_by_loadgen(address: SocketAddr) -> Option<Vec<Value>> {
    let seconds = MESSAGES / RATE_PER_S;
    let line = format!(
        "run tcp://{address} -r {RATE_PER_S} -c 1 -d {seconds}s --warmup 0s --size {BYTES} \
         --arrival constant --json - --no-html -q"
    );
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(line.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let result: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("no result: {error}; it said {said}"));
    let response = &result["latency"][0];
    assert_eq!(response["count"], u64::from(MESSAGES), "{said}");
    let kinds = result["latency"].as_array().expect("a list");
    let lag = kinds.iter().find(|row| row["kind"] == "lag").expect("an open loop has a lag");
    let in_time = lag["percentiles"][2]["value_ns"].as_u64() < Some(LAG_MAX_NS);
    in_time.then(|| response["percentiles"].as_array().expect("percentiles").clone())
}

#[test]
fn an_independent_client_finds_the_same_percentiles() {
    let address = delaying_server();
    let Some(by_loadgen) = (0..TRIES).find_map(|_| measured_by_loadgen(address)) else {
        eprintln!("SKIP: this machine is too busy: the generator was late in {TRIES} runs");
        return;
    };
    let here_s = measured_here(address);
    for (share, found) in [0.5, 0.9, 0.99].into_iter().zip(by_loadgen) {
        let of = |name: &str| found[name].as_f64().expect("samples enough") / 1e9;
        let (value_s, low_s, high_s) = (of("value_ns"), of("low_95_ns"), of("high_95_ns"));
        let own_s = here_s[(f64::from(MESSAGES) * share) as usize - 1];
        eprintln!("p{}: {value_s:.4} s ({low_s:.4} to {high_s:.4}), here {own_s:.4}", share * 1e2);
        assert!((low_s..=high_s).contains(&own_s), "p{share}: {own_s} s, loadgen says {found}");
        // As the delays are known, so is the truth; the interval must not be wide for no reason.
        let truth_s = -MEAN_S * (1.0 - share).ln();
        assert!((value_s / truth_s - 1.0).abs() < 0.15, "p{share}: {value_s} s for {truth_s}");
    }
}

/// Comparisons of a server with itself, each of twelve short runs.
const COMPARISONS: u32 = 100;

/// With real runs, as they come: a comparison claims that a server differs from itself in at most
/// 5 of 100.
#[test]
#[ignore = "takes eight minutes: cargo test -p postring-loadgen --test agreement -- --ignored"]
fn a_server_hardly_ever_differs_from_itself() {
    let mut apart = 0;
    for seed in 1..=COMPARISONS {
        let line = format!(
            "compare -r 5k -c 5 -d 200ms --warmup 50ms --pairs 6 --seed {seed} --json - -q"
        );
        let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args(line.split_whitespace())
            .stdin(Stdio::null())
            .output()
            .expect("the binary starts");
        let result: Value = serde_json::from_slice(&output.stdout).expect("a comparison");
        let figures = result["figures"].as_array().expect("figures");
        assert!(figures.iter().any(|figure| figure["change"].is_number()), "{result}");
        let shown: Vec<_> = figures.iter().filter(|figure| figure["shown"] == true).collect();
        if !shown.is_empty() {
            eprintln!("seed {seed}, {}: {shown:?}", result["level"]);
            apart += 1;
        }
    }
    eprintln!("{apart} of {COMPARISONS} comparisons claim a difference");
    assert!(apart * 20 <= COMPARISONS, "{apart} of {COMPARISONS}");
}
