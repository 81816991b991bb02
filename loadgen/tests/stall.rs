//! The bar of coordinated omission, with real sockets. A binary of its own, so that no other
//! test takes its CPUs.

#[path = "command/process.rs"]
mod process;

use std::time::{Duration, Instant};

use process::{errors, finish, serve, signal, start};
use serde_json::Value;

/// A generator that stood still for longer than this says nothing about figures of half a second
/// to one twentieth: the machine was too busy.
const GAP_MAX_NS: u64 = 15_000_000;
/// Length of the run.
const RUN_S: f64 = 5.0;

/// At a constant rate for D seconds, a server that stands still for T seconds gives the
/// percentile p a response time of T - (1-p)*D.
#[test]
fn a_stall_of_the_server_is_told_truthfully() {
    for _ in 0..4 {
        let (stalled_s, result) = stalled_run();
        if result["generator"]["longest_gap_ns"].as_u64() > Some(GAP_MAX_NS) {
            continue;
        }
        let response = &result["latency"][0];
        assert_eq!((&response["kind"], &response["count"]), (&"response".into(), &5_000.into()));
        for (at, share) in [(1, 0.9), (2, 0.99)] {
            let value_ns = response["percentiles"][at]["value_ns"].as_f64();
            let value_s = value_ns.expect("samples enough") / 1e9;
            let theory_s = stalled_s - (1.0 - share) * RUN_S;
            assert!((value_s / theory_s - 1.0).abs() < 0.05, "p{share}: {value_s} for {theory_s}");
        }
        return;
    }
    eprintln!("SKIP: this machine is too busy: it took the generator's CPU away in four runs");
}

/// Stops the server for about a second in the middle of a run: how long, and the result.
fn stalled_run() -> (f64, Value) {
    let (mut server, address) = serve();
    let run = start(&format!(
        "run {address} -r 1k -c 20 -d 5s --warmup 500ms --arrival constant --json - --no-html -q"
    ));
    std::thread::sleep(Duration::from_millis(2_500));
    signal(&server, "-STOP");
    let begun = Instant::now();
    std::thread::sleep(Duration::from_secs(1));
    signal(&server, "-CONT");
    let stalled_s = begun.elapsed().as_secs_f64();
    let output = finish(run);
    server.kill().and_then(|()| server.wait()).expect("our own child");
    let result = serde_json::from_slice(&output.stdout);
    (stalled_s, result.unwrap_or_else(|error| panic!("{error}: {}", errors(&output))))
}
