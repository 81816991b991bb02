//! Several agents as processes: what they measure together is what one process measures.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Child;
use std::time::Duration;

use serde_json::Value;

use super::process::{errors, finish, serve, signal, start};
use super::{code, codes, result, run};

/// A running `loadgen agent` and its address.
fn agent() -> (Child, String) {
    let mut agent = start("agent tcp://127.0.0.1:0");
    let mut said = BufReader::new(agent.stderr.take().expect("piped"));
    let mut line = String::new();
    said.read_line(&mut line).expect("it says where it is");
    let from = line.find("tcp://").unwrap_or_else(|| panic!("no address in {line:?}"));
    let address = line[from..].split(',').next().expect("a word").to_owned();
    // Read on, so that it never waits for a reader.
    std::thread::spawn(move || said.read_to_end(&mut Vec::new()));
    (agent, address)
}

fn end(children: Vec<Child>) {
    for child in children {
        signal(&child, "-TERM");
        let ended = finish(child);
        assert_eq!(code(&ended), 0, "{}", errors(&ended));
    }
}

/// The same seed, once by one process and once by two agents: every count is the same.
#[test]
fn two_agents_count_what_one_process_counts() {
    let (server, address) = serve();
    let ((one, first), (two, second)) = (agent(), agent());
    let what = format!(
        "{address} -r 1k -c 7 -d 900ms --warmup 100ms --seed 9 --class name=a,share=30% \
         --class name=b,size=uniform:64:4KiB,niceness=2,deadline=60s --json - --no-html --quiet"
    );
    // One generator each, so one here.
    let output = run(&format!("run {what} --cores 0"));
    let alone = result(&output);
    let line = format!("coordinate {what} --agent {first} --agent {second}");
    let output = run(&line);
    assert!([0, 3].contains(&code(&output)), "{}", errors(&output));
    let together = result(&output);
    let counts = |result: &Value| {
        let classes = result["classes"].as_array().expect("classes").clone();
        let sums = classes.iter().map(|class| class["ledger"].clone()).collect::<Vec<_>>();
        let kinds = classes.iter().flat_map(|class| class["latency"].as_array().cloned());
        // An answer may be quicker than the word that its message was sent: then no wait is known.
        let exact = kinds.flatten().filter(|latency| latency["kind"] != "wait");
        let samples = exact.map(|latency| latency["count"].clone()).collect::<Vec<_>>();
        (result["ledger"].clone(), sums, samples)
    };
    if generators(&alone) == 1 && generators(&together["agents"][0]) == 1 {
        assert_eq!(counts(&alone), counts(&together));
    } else {
        println!("SKIP: an agent has several generators here, one process was asked for one");
    }
    let agents = together["agents"].as_array().expect("two agents");
    let scheduled = |agent: &Value| agent["scheduled"].as_u64().expect("a count");
    assert!(agents.iter().all(|agent| scheduled(agent) > 0 && agent["lost"].is_null()));
    let sum: u64 = agents.iter().map(scheduled).sum();
    assert_eq!(together["ledger"]["measured"]["messages"]["scheduled"].as_u64(), Some(sum));
    let reasons = together["verdict"]["reasons"].as_array().expect("a list");
    let named = |reason: &Value| reason["text"].as_str().map(|text| text.starts_with("agent tcp:"));
    assert!(reasons.iter().all(|reason| named(reason) == Some(true)), "{reasons:?}");
    end(vec![server, one, two]);
}

fn generators(of: &Value) -> usize {
    let cpus = of.get("manifest").map_or(&of["generator_cpus"], |m| &m["generator_cpus"]);
    cpus.as_array().map_or(0, Vec::len)
}

#[test]
fn an_agent_that_vanishes_costs_its_part_and_the_verdict() {
    let (server, address) = serve();
    let ((one, first), (mut two, second)) = (agent(), agent());
    let line = format!("coordinate {address} -r 500 -c 4 -d 3s --warmup 0s --json - --no-html");
    let mut coordinator = start(&format!("{line} --agent {first} --agent {second}"));
    let mut said = BufReader::new(coordinator.stderr.take().expect("piped"));
    let mut begun = String::new();
    said.read_line(&mut begun).expect("it says that they have begun");
    assert!(begun.contains(&format!("begun on {first}, {second}")), "{begun}");
    two.kill().expect("our own child");
    let reader = std::thread::spawn(move || {
        let mut rest = String::new();
        said.read_to_string(&mut rest).map(|_| rest)
    });
    let output = finish(coordinator);
    let rest = reader.join().expect("it returns").expect("text");
    assert_eq!(code(&output), 3, "{rest}");
    let value = result(&output);
    assert!(codes(&value).contains(&"agent_lost"), "{:?}", codes(&value));
    assert!(rest.contains(&format!("agent {second}: it went away")), "{rest}");
    assert_eq!(value["agents"][1]["level"], "INVALID");
    assert!(value["agents"][0]["received"].as_u64() > Some(0));
    // The one that is left serves the next.
    let output = run(&format!(
        "coordinate {address} -r 500 -c 2 -d 300ms --warmup 0s \
         --json - --no-html -q --agent {first}"
    ));
    assert!([0, 3].contains(&code(&output)), "{}", errors(&output));
    assert!(result(&output)["agents"][0]["received"].as_u64() > Some(0));
    finish(two);
    end(vec![server, one]);
}

/// Takes one connection, reads what is said first and answers with `words`.
fn odd_agent(words: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        assert!(stream.read(&mut [0; 4096]).is_ok_and(|length| length > 0), "a greeting");
        let length = (words.len() as u32).to_be_bytes();
        // The other side may have gone.
        let _ = stream.write_all(&[&length, words].concat());
        let _ = stream.read(&mut [0; 4096]);
    });
    format!("tcp://{address}")
}

#[test]
fn what_agents_cannot_do_ends_with_code_1_and_one_line() {
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("loopback");
    let ((one, first), (two, second)) = (agent(), agent());
    let other = br#"{"Welcome":{"protocol":999,"version":"9.9","generators":1}}"#;
    let refusal = br#"{"Refusal":"it is\nbusy"}"#;
    let lines = [
        (format!("--agent tcp://{closed} tcp://{closed}"), "refused"),
        (format!("--agent {first} tcp://{closed}"), "cannot measure"),
        (format!("--agent {first} --agent {first} tcp://{closed}"), "busy with another"),
        (format!("--agent {first}"), "need the address of a server"),
        (format!("--agent {first} --agent {second} -c 1 tcp://{closed}"), "one connection each"),
        (format!("--agent {first} --load 80% tcp://{closed}"), "give a --rate"),
        (format!("--agent {first} --cores 0 tcp://{closed}"), "`loadgen agent`"),
        (format!("--agent {first} --churn 5 tcp://{closed}"), "not for agents"),
        (format!("--agent {} tcp://{closed}", odd_agent(other)), "protocol 999 (loadgen 9.9)"),
        (format!("--agent {} tcp://{closed}", odd_agent(b"HTTP/1.1 400")), "does not speak"),
        (format!("--agent {} tcp://{closed}", odd_agent(refusal)), "it is busy"),
    ];
    for (line, hint) in lines {
        let output = run(&format!("coordinate {line} -d 1s --no-html"));
        let said = errors(&output);
        assert_eq!(code(&output), 1, "{line}: {said}");
        assert!(said.contains(hint), "{line}: {said}");
        assert_eq!(said.lines().filter(|l| l.starts_with("loadgen: ")).count(), 1, "{said}");
    }
    end(vec![one, two]);
}

#[test]
fn an_interrupted_coordinator_still_has_a_result() {
    let (server, address) = serve();
    let (one, first) = agent();
    let line = format!("coordinate {address} -r 500 -c 4 -d 60s --warmup 0s --json - --no-html");
    let mut coordinator = start(&format!("{line} --agent {first}"));
    let mut said = BufReader::new(coordinator.stderr.take().expect("piped"));
    said.read_line(&mut String::new()).expect("it says that they have begun");
    std::thread::spawn(move || said.read_to_end(&mut Vec::new()));
    std::thread::sleep(Duration::from_millis(800));
    signal(&coordinator, "-INT");
    let output = finish(coordinator);
    let value = result(&output);
    assert!(codes(&value).contains(&"interrupted"), "{:?}", codes(&value));
    end(vec![server, one]);
}
