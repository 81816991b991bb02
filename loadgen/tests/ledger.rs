//! The ledger closes however a run ends: interrupted at any time, or left by its server. A binary
//! of its own, so that no other test takes its CPUs.
#![cfg(unix)]

#[path = "command/process.rs"]
mod process;

use std::process::Output;
use std::time::{Duration, Instant};

use process::{errors, finish, serve, signal, start};
use serde_json::Value;

/// Two classes that overtake each other and expire.
const RUN: &str = "run -r 4k -c 3 --warmup 100ms --json - --no-html -q \
                   --class name=urgent,share=20%,lifetime=500us \
                   --class name=bulk,size=uniform:100:20KiB,niceness=1";
/// Runs that are interrupted, and a quarter as many whose server is killed;
/// LOADGEN_INTERRUPTED_RUNS asks for more.
const RUNS: u64 = 8;

fn result(output: &Output) -> Option<Value> {
    serde_json::from_slice(&output.stdout).ok()
}

#[track_caller]
fn assert_closes(value: &Value) {
    let classes = value["classes"].as_array().expect("classes");
    let accounts = classes.iter().map(|class| &class["ledger"]);
    let ledgers = [&value["ledger"]["measured"], &value["ledger"]["warmup"]];
    for account in accounts.chain(ledgers) {
        for ledger in [&account["messages"], &account["bytes"]] {
            let n = |name: &str| ledger[name].as_u64().expect("a count");
            let skipped = ledger["skipped"].as_object().expect("counts by reason");
            let skipped: u64 = skipped.values().filter_map(Value::as_u64).sum();
            assert_eq!(n("scheduled"), n("submitted") + skipped, "{ledger}");
            let kept = n("expired") + n("refused") + n("unsent");
            assert_eq!(n("submitted"), n("sent") + kept, "{ledger}");
            let ends = n("on_time") + n("late") + n("lost") + n("in_flight");
            assert_eq!(n("sent"), ends, "{ledger}");
        }
    }
    let reasons = value["verdict"]["reasons"].as_array().expect("a list");
    assert!(reasons.iter().all(|reason| reason["code"] != "ledger"), "{reasons:?}");
}

fn runs() -> u64 {
    let asked = std::env::var("LOADGEN_INTERRUPTED_RUNS").ok();
    asked.and_then(|runs| runs.parse().ok()).unwrap_or(RUNS)
}

#[test]
fn a_run_that_is_interrupted_at_any_time_closes_its_ledger() {
    let runs = runs();
    let mut told = 0;
    for number in 0..runs {
        let child = start(&format!("{RUN} -d 30s"));
        // Spread over start, warm-up and measured part.
        let delay_ms = 20 + number * 7_919 % 1_500;
        std::thread::sleep(Duration::from_millis(delay_ms));
        signal(&child, if number % 2 == 0 { "-INT" } else { "-TERM" });
        let output = finish(child);
        let said = errors(&output);
        match (output.status.code(), result(&output)) {
            (Some(0 | 3), Some(value)) => {
                assert_closes(&value);
                told += 1;
            }
            // Before it was started there is nothing to tell; before signals are heeded they kill.
            (Some(1), None) => assert!(said.contains("before the run began"), "{said}"),
            (None, None) => assert!(delay_ms < 200, "killed after {delay_ms} ms"),
            (code, _) => panic!("{code:?} after {delay_ms} ms: {said}"),
        }
    }
    assert!(told > 0, "not one of {runs} runs had begun");
}

#[test]
fn a_run_whose_server_is_killed_closes_its_ledger_and_is_invalid() {
    for number in 0..runs() / 4 {
        let delay_ms = 300 + number * 7_919 % 1_300;
        let (server, address) = serve();
        let begun = Instant::now();
        let child = start(&format!("{} -d 30s", RUN.replacen("run", &format!("run {address}"), 1)));
        std::thread::sleep(Duration::from_millis(delay_ms));
        signal(&server, "-KILL");
        let output = finish(child);
        let _ = finish(server);
        if output.status.code() == Some(1) {
            // It had not connected yet.
            continue;
        }
        assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
        assert_closes(&result(&output).expect("a result"));
        assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    }
}
