//! Shapes of load beyond the arrivals: churn, several Carriers, senders that are due at once.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::process::errors;
use crate::{code, codes, result, run};

fn messages(value: &Value, name: &str) -> u64 {
    value["ledger"]["measured"]["messages"][name].as_u64().expect("a count")
}

/// Connections come and go, and no message is lost with them.
#[test]
fn connections_are_made_anew_in_order_and_the_ledger_closes() {
    let output = run("run -c 4 -r 1k --churn 40 -d 1s --warmup 100ms --json - --no-html");
    let said = errors(&output);
    assert!([0, 3].contains(&code(&output)), "{said}");
    for word in ["connect time", "4 connections, 40.0/s made anew"] {
        assert!(said.contains(word), "{word} in {said}");
    }
    let value = result(&output);
    let renewed = value["generator"]["connections_renewed"].as_u64().expect("a count");
    assert!((30..=40).contains(&renewed), "{renewed}: the last ones may not be done at the end");
    assert_eq!(value["generator"]["renewals_failed"], 0, "{:?}", codes(&value));
    assert_eq!(value["generator"]["connections_ended"], 0);
    for none in ["lost", "unsent", "in_flight", "refused"] {
        assert_eq!(messages(&value, none), 0, "{none}");
    }
    let rows = value["latency"].as_array().expect("rows");
    let connect = rows.iter().find(|row| row["kind"] == "connect").expect("its row");
    assert_eq!(connect["count"].as_u64(), Some(renewed));
}

/// A server that takes no further connections is found out, and what runs goes on.
#[test]
fn a_connection_that_cannot_be_made_anew_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    let serves = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        drop(listener);
        let mut back = stream.try_clone().expect("a socket");
        // The client may go first.
        let _ = std::io::copy(&mut stream, &mut back);
    });
    let line = format!("run tcp://{address} -c 1 -r 200 --churn 10 -d 1s --warmup 0s --no-html -q");
    let output = run(&format!("{line} --json -"));
    serves.join().expect("no panic");
    assert_eq!(code(&output), 3, "{}", errors(&output));
    let value = result(&output);
    assert!(codes(&value).contains(&"churn"), "{:?}", codes(&value));
    assert!(errors(&output).contains("0 of 9 connections were made anew"), "{}", errors(&output));
    assert!(messages(&value, "on_time") > 0, "the old connection stays");
}

/// Over TCP each Carrier is a socket.
#[test]
fn carriers_are_forked_from_each_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    let accepted = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&accepted);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            counts.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                let mut back = stream.try_clone().expect("a socket");
                // The client may go first.
                let _ = std::io::copy(&mut stream, &mut back);
            });
        }
    });
    let line = format!("run tcp://{address} -c 2 --carriers 3 -r 600 -d 500ms --warmup 0s");
    let output = run(&format!("{line} --json - --no-html"));
    assert!([0, 3].contains(&code(&output)), "{}", errors(&output));
    assert!(errors(&output).contains("2 connections of 3 Carriers"), "{}", errors(&output));
    let value = result(&output);
    assert_eq!(accepted.load(Ordering::SeqCst), 6);
    assert_eq!((messages(&value, "lost"), messages(&value, "on_time") > 0), (0, true));
    assert_eq!(value["manifest"]["carriers"], 3);
}

#[test]
fn senders_are_due_at_once() {
    let output = run("run --fan-in 8 -r 800 -d 500ms --warmup 0s --json - --no-html");
    let value = result(&output);
    let manifest = &value["manifest"];
    assert_eq!((&manifest["connections"], &manifest["arrival"]), (&8.into(), &"burst".into()));
    assert_eq!(messages(&value, "scheduled"), 400, "fifty times all eight");
}

#[test]
fn shapes_that_do_not_go_together_are_refused() {
    let lines = [
        ("run --churn 5 --carriers 2", 2, "cannot be used with"),
        ("run --fan-in 4 -c 3", 2, "cannot be used with"),
        ("run --carriers 0", 2, "from 1 to 64"),
        ("deadline --fan-in 0", 2, "from 1 to"),
        ("deadline --fan-in 5000", 2, "at most 1024 senders"),
        ("run --churn 5 --size 8 --no-html", 1, "at least 16 bytes"),
    ];
    for (line, wanted, hint) in lines {
        let output = run(line);
        assert_eq!(code(&output), wanted, "{line}: {}", errors(&output));
        assert!(errors(&output).contains(hint), "{line}: {}", errors(&output));
    }
}
