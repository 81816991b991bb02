//! `udp://`: what a path does to datagrams is counted, and is no fault of the server.

use std::collections::VecDeque;
use std::net::UdpSocket;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{codes, errors, result, run};

/// What a server did to the datagrams that came to it, beside echoing them.
#[derive(Default)]
struct Done {
    dropped: AtomicU64,
    repeated: AtomicU64,
    held_back: AtomicU64,
    ends: AtomicBool,
}

/// A server that loses every 50th datagram, answers each 30th twice and lets each 20th wait for the
/// next one.
fn lossy() -> (String, Arc<Done>, JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket takes this");
    let address = format!("udp://{}", socket.local_addr().expect("bound"));
    let done = Arc::new(Done::default());
    let says = Arc::clone(&done);
    let serve = move || {
        let (mut bytes, mut number, mut held) = ([0; 2048], 0_u64, None);
        while !says.ends.load(Ordering::Relaxed) {
            let Ok((len, from)) = socket.recv_from(&mut bytes) else { continue };
            number += 1;
            let answer = |bytes: &[u8], to| {
                socket.send_to(bytes, to).expect("there is room");
            };
            if number.is_multiple_of(50) {
                says.dropped.fetch_add(1, Ordering::Relaxed);
            } else if number.is_multiple_of(20) {
                says.held_back.fetch_add(1, Ordering::Relaxed);
                held = Some((bytes[..len].to_vec(), from));
                continue;
            } else {
                answer(&bytes[..len], from);
                if number.is_multiple_of(30) {
                    says.repeated.fetch_add(1, Ordering::Relaxed);
                    answer(&bytes[..len], from);
                }
            }
            if let Some((bytes, from)) = held.take() {
                answer(&bytes, from);
            }
        }
    };
    (address, done, std::thread::spawn(serve))
}

fn stray(result: &serde_json::Value, name: &str) -> u64 {
    result["generator"][name].as_u64().expect("a count")
}

/// A run against the lossy server; what the server did, what loadgen said and found.
fn run_lossy(flags: &str) -> (Arc<Done>, Output) {
    let (address, done, server) = lossy();
    let output = run(&format!("run {address} -c 1 --warmup 0s --no-html {flags}"));
    done.ends.store(true, Ordering::Relaxed);
    server.join().expect("it returns");
    (done, output)
}

#[test]
fn losses_repeats_and_disorder_are_counted_and_the_ledger_closes() {
    let (done, output) = run_lossy("-r 2k -d 1500ms --json - -q");
    let result = result(&output);
    let found = codes(&result);
    assert!(!found.contains(&"unmatched"), "{}", errors(&output));
    assert!(found.contains(&"unanswered"), "{}", errors(&output));
    let ledger = &result["ledger"]["measured"]["messages"];
    let count = |name: &str| ledger[name].as_u64().expect("a count");
    let dropped = done.dropped.load(Ordering::Relaxed);
    // The last one may wait in vain for the one after it.
    let unanswered = count("lost") + count("in_flight");
    assert!(dropped > 0 && (dropped..=dropped + 1).contains(&unanswered), "{ledger}");
    assert!(count("lost") > 0, "{ledger}");
    let repeated = done.repeated.load(Ordering::Relaxed);
    assert!(repeated > 0 && stray(&result, "replies_duplicated") == repeated);
    let reordered = stray(&result, "replies_reordered");
    assert!((1..=done.held_back.load(Ordering::Relaxed)).contains(&reordered), "{reordered}");
}

/// A message of one byte would carry no number, so it is longer here.
#[test]
fn a_closed_loop_goes_on_after_losses() {
    let (_, output) = run_lossy("--arrival closed --depth 8 -d 2500ms --size 1 --json - -q");
    let result = result(&output);
    let ledger = &result["ledger"]["measured"];
    assert!(ledger["messages"]["lost"].as_u64() > Some(8), "{ledger}");
    assert_eq!(
        ledger["messages"]["sent"].as_u64().map(|sent| sent * 16),
        ledger["bytes"]["sent"].as_u64()
    );
    assert_eq!(stray(&result, "replies_unmatched"), 0);
}

#[test]
fn the_report_says_what_became_of_datagrams() {
    let (_, output) = run_lossy("-r 2k -d 1s");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &errors(&output);
    assert!(said.contains("answers came out of turn"), "{said}");
    assert!(!said.contains("segments sent again"), "{said}");
}

#[test]
fn messages_that_no_datagram_carries_are_an_error_that_names_the_limit() {
    for flags in ["--size 70000", "--arrival closed --size 65507", "--class niceness=1,size=1MiB"] {
        let (_, output) = run_lossy(&format!("{flags} -d 1s"));
        assert_eq!(output.status.code(), Some(1), "{flags}: {}", errors(&output));
        assert!(errors(&output).contains("the path's limit of 65507 bytes"), "{}", errors(&output));
    }
}

/// A server whose answers take a tenth of a second, until it is told to end.
fn slow() -> (String, Arc<AtomicBool>, JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let address = format!("udp://{}", socket.local_addr().expect("bound"));
    socket.set_read_timeout(Some(Duration::from_millis(1))).expect("a socket takes this");
    let ends = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ends);
    let serve = move || {
        let (mut bytes, mut waiting) = ([0; 2048], VecDeque::new());
        while !told.load(Ordering::Relaxed) {
            if let Ok((len, from)) = socket.recv_from(&mut bytes) {
                waiting.push_back((Instant::now(), bytes[..len].to_vec(), from));
            }
            while waiting.front().is_some_and(|(came, ..)| came.elapsed().as_millis() >= 100) {
                let (_, bytes, from) = waiting.pop_front().expect("just seen");
                // Nobody is there any more: then there is nobody to tell.
                let _ = socket.send_to(&bytes, from);
            }
        }
    };
    (address, ends, std::thread::spawn(serve))
}

#[test]
fn answers_under_way_to_a_connection_that_is_made_anew_are_not_lost() {
    let (address, ends, server) = slow();
    let flags = "-c 4 -r 200 --churn 20 -d 1s --warmup 0s --no-html --json - -q";
    let output = run(&format!("run {address} {flags}"));
    ends.store(true, Ordering::Relaxed);
    server.join().expect("it returns");
    let lost = &result(&output)["ledger"]["measured"]["messages"]["lost"];
    assert_eq!(lost.as_u64(), Some(0), "{}", errors(&output));
}
