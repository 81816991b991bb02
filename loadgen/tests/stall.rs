//! What stands still, server or generator, is told truthfully. A binary of its own, so that no
//! other test takes its CPUs; its tests take turns.
#![cfg(target_os = "linux")]

#[path = "command/process.rs"]
mod process;

use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use process::{errors, finish, serve, signal, spawn, start};
use serde_json::Value;

/// A generator that stood still for longer than this says nothing about figures of half a second
/// to one twentieth: the machine was too busy.
const GAP_MAX_NS: u64 = 15_000_000;
/// Seconds of the run; LOADGEN_STALL_SECONDS asks for others, such as the 10 of the textbook.
const RUN_S: u32 = 5;
/// Messages per second.
const RATE_PER_S: u32 = 1_000;
/// Processes that take the generator's CPU away, and for how long.
const HOGS: usize = 3;
const HOGGED: Duration = Duration::from_secs(3);

/// Held by the test whose turn it is.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// At a constant rate for D seconds, a server that stands still for T seconds gives the
/// percentile p a response time of T - (1-p)*D: with T = 1 and D = 10, 0.50 s at p95 and 0.90 s
/// at p99; with D = 5, 0.75 s and 0.95 s.
#[test]
fn a_stall_of_the_server_is_told_truthfully() {
    let _turn = turn();
    let asked = std::env::var("LOADGEN_STALL_SECONDS").ok().and_then(|text| text.parse().ok());
    let run_s = asked.unwrap_or(RUN_S);
    for _ in 0..4 {
        let (stalled_s, result) = stalled_run(run_s);
        if result["generator"]["longest_gap_ns"].as_u64() > Some(GAP_MAX_NS) {
            continue;
        }
        let response = &result["latency"][0];
        let count = u64::from(run_s * RATE_PER_S);
        assert_eq!((&response["kind"], &response["count"]), (&"response".into(), &count.into()));
        for share in [0.95, 0.99] {
            let value_s = at_share(response, share);
            let theory_s = stalled_s - (1.0 - share) * f64::from(run_s);
            eprintln!("p{}: {value_s:.3} s, theory {theory_s:.3} s", share * 100.0);
            assert!((value_s / theory_s - 1.0).abs() < 0.05, "p{share}: {value_s} for {theory_s}");
        }
        return;
    }
    eprintln!("SKIP: this machine is too busy: it took the generator's CPU away in four runs");
}

/// Seconds at a share of the samples, read from the buckets.
fn at_share(latency: &Value, share: f64) -> f64 {
    let rank = (latency["count"].as_f64().expect("a count") * share).ceil() as u64;
    let mut seen = 0;
    let mut reached = |bucket: &&Value| {
        seen += bucket[1].as_u64().expect("a count");
        seen >= rank
    };
    let buckets = latency["buckets"].as_array().expect("buckets");
    let bucket = buckets.iter().find(|bucket| reached(bucket)).expect("a rank within the count");
    bucket[0].as_f64().expect("nanoseconds") / 1e9
}

/// Stops the server for about a second in the middle of a run: how long, and the result.
fn stalled_run(run_s: u32) -> (f64, Value) {
    let (mut server, address) = serve();
    let run = start(&format!(
        "run {address} -r {RATE_PER_S} -c 20 -d {run_s}s --warmup 500ms --arrival constant \
         --json - --no-html -q"
    ));
    sleep(Duration::from_secs_f64(f64::from(run_s) / 2.0));
    signal(&server, "-STOP");
    let begun = Instant::now();
    sleep(Duration::from_secs(1));
    signal(&server, "-CONT");
    let stalled_s = begun.elapsed().as_secs_f64();
    let output = finish(run);
    server.kill().and_then(|()| server.wait()).expect("our own child");
    let result = serde_json::from_slice(&output.stdout);
    (stalled_s, result.unwrap_or_else(|error| panic!("{error}: {}", errors(&output))))
}

/// A run of three seconds with the least priority there is, on one CPU.
fn start_humbly(cpu: usize) -> Child {
    let line = format!("run -r 2k -c 2 -d 3s --warmup 0s --cores {cpu} --json - --no-html -q");
    let mut command = Command::new("nice");
    command.args(["-n", "19", env!("CARGO_BIN_EXE_loadgen")]).args(line.split_whitespace());
    spawn(command)
}

/// The last CPU this process may use.
fn last_cpu() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is there");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let last = list.and_then(|list| list.trim().rsplit([',', '-']).next());
    last.and_then(|cpu| cpu.parse().ok()).expect("a list of CPUs")
}

/// A process that keeps `cpu` busy, and ends by itself should this one be killed.
fn hog(cpu: usize) -> Child {
    let work = "end=$(($(date +%s) + 5)); while [ $(date +%s) -lt $end ]; do \
                n=0; while [ $n -lt 20000 ]; do n=$((n + 1)); done; done";
    Command::new("taskset")
        .args(["-c", &cpu.to_string(), "sh", "-c", work])
        .stdin(Stdio::null())
        .spawn()
        .expect("taskset is there")
}

fn codes(result: &Value) -> Vec<&str> {
    let reasons = result["verdict"]["reasons"].as_array().expect("a list");
    reasons.iter().filter_map(|reason| reason["code"].as_str()).collect()
}

#[test]
fn a_generator_whose_cpu_others_take_is_invalid() {
    let _turn = turn();
    let cpu = last_cpu();
    let run = start_humbly(cpu);
    sleep(Duration::from_millis(500));
    let mut hogs: Vec<Child> = (0..HOGS).map(|_| hog(cpu)).collect();
    sleep(HOGGED);
    for hog in &mut hogs {
        hog.kill().and_then(|()| hog.wait()).expect("our own child");
    }
    let output = finish(run);
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    let result: Value = serde_json::from_slice(&output.stdout).expect("a result");
    let found = codes(&result);
    let kept = ["lag", "rate", "gap", "lag_growth", "skipped", "out_of_reach"];
    assert!(found.iter().any(|code| kept.contains(code)), "{found:?}");
    assert!(found.contains(&"starved"), "the reason behind it: {found:?}");
}

#[test]
fn a_generator_that_was_stopped_for_a_second_is_invalid() {
    let _turn = turn();
    let child = start("run -r 1k -d 3s --warmup 0s --json - --no-html --quiet");
    sleep(Duration::from_millis(1_500));
    signal(&child, "-STOP");
    sleep(Duration::from_secs(1));
    signal(&child, "-CONT");
    let output = finish(child);
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    let result: Value = serde_json::from_slice(&output.stdout).expect("a result");
    assert!(codes(&result).contains(&"gap"), "{:?}", codes(&result));
    assert!(result["generator"]["longest_gap_ns"].as_u64() > Some(900_000_000));
}
