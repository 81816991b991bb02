//! Scenarios with figures of their own: each runs short, on loopback, and reports whole.

use std::process::Output;

use serde_json::Value;

use crate::process::errors;
use crate::{code, is_whole, run, scratch};

/// What a scenario writes with `--json -`, checked against its schema; each of its runs, too.
fn document(line: &str) -> (Value, String) {
    let output = run(&format!("{line} --on loopback --json - "));
    let said = errors(&output);
    assert!([0, 3].contains(&code(&output)), "{line}: {said}");
    let value: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{line}: no JSON: {error}; it said {said}"));
    (value, said)
}

/// Says so, too.
fn lacks_a_lab(output: &Output) -> bool {
    let said = errors(output);
    let needs =
        ["needs root", "needs Linux", "cannot be made here", "is not installed", "tc qdisc"];
    let lacks = code(output) == 1 && needs.iter().any(|need| said.contains(need));
    if lacks {
        println!("SKIP: {said}");
    }
    lacks
}

fn exhibit(line: &str) -> (Value, String) {
    let (value, said) = document(line);
    crate::schema::keeps_to("scenario.json", &value);
    let runs = value["runs"].as_array().expect("runs");
    runs.iter().for_each(|run| is_whole(&run["result"]));
    (value, said)
}

#[test]
fn homa_shows_the_slowdown_of_each_size() {
    let html = scratch("homa.html");
    let line = "homa --sizes uniform:64:4KiB --loads 80% --link 50M -d 400ms";
    let (value, said) = exhibit(&format!("{line} --html {}", html.display()));
    for word in ["load 80 %: slowdown by size", "FIFO p50", "niceness p99", "run 3 of 3"] {
        assert!(said.contains(word), "{word} in {said}");
    }
    let figures = value["figures"].as_array().expect("figures");
    assert_eq!(figures.len(), 22, "eleven bands, two variants");
    let messages = |told: &str| -> u64 {
        let of = figures.iter().filter(|figure| figure["told"] == told);
        of.filter_map(|figure| figure["messages"].as_u64()).sum()
    };
    assert!(messages("FIFO") > 0 && messages("FIFO") == messages("niceness"), "the same messages");
    let classes = value["runs"][2]["result"]["classes"].as_array().expect("levels").len();
    assert_eq!((classes, &value["runs"][0]["name"]), (8, &"alone".into()));
    let page = std::fs::read_to_string(&html).expect("the report was written");
    for part in ["<svg", "size of a message", "FIFO p99", "</html>"] {
        assert!(page.contains(part), "{part}");
    }
    let _ = std::fs::remove_file(html);
}

#[test]
fn blocks_are_judged_by_kind_and_scored() {
    let html = scratch("blocks.html");
    let line = "blocks --loads 80% --link 20M -d 400ms";
    let (value, said) = exhibit(&format!("{line} --html {}", html.display()));
    for word in ["Score, from 0 to 100", "Load 80 %", "audio", "video", "file", "in time"] {
        assert!(said.contains(word), "{word} in {said}");
    }
    let figures = value["figures"].as_array().expect("figures");
    assert_eq!(figures.len(), 12, "three kinds, four variants");
    for figure in figures {
        let score = figure["score"].as_f64().expect("a number");
        assert!((0.0..=100.0).contains(&score), "{figure}");
        let same = figures.iter().filter(|other| other["kind"] == figure["kind"]);
        assert!(same.into_iter().all(|other| other["messages"] == figure["messages"]));
    }
    let audio = figures[0]["messages"].as_u64().expect("a count");
    assert!((60..=120).contains(&audio), "four calls, 20 blocks each: {audio}");
    let page = std::fs::read_to_string(&html).expect("the report was written");
    assert!(page.contains("<svg") && page.contains("Score, from 0 to 100"));
    let _ = std::fs::remove_file(html);
}

#[test]
fn the_missed_share_stands_against_the_fan_in() {
    let line = "deadline --fan-in 1,16 --link 50M -d 400ms --no-html";
    let (value, said) = exhibit(line);
    for word in
        ["missed share against fan-in", "at least", "run 4 of 4: 50 % load, 16 at once, lifetime"]
    {
        assert!(said.contains(word), "{word} in {said}");
    }
    let figures = value["figures"].as_array().expect("figures");
    let fan_ins: Vec<_> = figures.iter().filter_map(|figure| figure["fan_in"].as_u64()).collect();
    assert_eq!(fan_ins, [1, 1, 16, 16]);
    // The link has no more room than it has; what passes at once while it is idle is one of 16.
    let missed = figures[2]["missed_share"].as_f64().expect("a share");
    assert!(missed > 0.35, "half of them do not fit: {missed}");
    assert_eq!(figures[2]["missed_at_least"], 0.5);
    assert_eq!(value["runs"][2]["result"]["manifest"]["connections"], 16);
}

#[test]
fn rrul_loads_both_directions_and_says_how_it_differs() {
    let (value, said) = document("rrul --loads 50% --link 20M -d 300ms --no-html");
    for word in ["ping alone on the idle link", "4 connections", "After Flent's RRUL test"] {
        assert!(said.contains(word), "{word} in {said}");
    }
    crate::schema::keeps_to("series.json", &value);
    is_whole(&value["alone"]);
    let runs = value["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 2);
    runs.iter().for_each(|run| is_whole(&run["result"]));
}

#[test]
fn mean_waits_stand_beside_theory() {
    let output = run("theory --link 50M -d 60ms --no-html --json -");
    let said = errors(&output);
    if lacks_a_lab(&output) {
        return;
    }
    assert!([0, 3].contains(&code(&output)), "{said}");
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    crate::schema::keeps_to("scenario.json", &value);
    let runs = value["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 10, "{said}");
    runs.iter().for_each(|run| is_whole(&run["result"]));
    let figures = value["figures"].as_array().expect("figures");
    let of = |key: &str| figures.iter().filter_map(|f| f[key].as_f64()).collect::<Vec<_>>();
    let formulas: Vec<_> = of("formula_ns").iter().map(|ns| ns.round()).collect();
    assert_eq!(formulas, [480_000.0, 160_000.0, 800_000.0]);
    let expected = of("expected_ns");
    assert!(expected[0] > 0.0 && expected[1] > 0.0 && expected[1] < expected[2], "{expected:?}");
    // How near they are is not for a busy machine to say.
    assert!(of("measured_ns").iter().all(|ns| *ns > 0.0), "{said}");
    for word in ["Load 80 %: mean wait", "two: urgent", "these arrivals", "run 10 of 10"] {
        assert!(said.contains(word), "{word} in {said}");
    }
}

#[test]
fn theory_says_what_it_needs() {
    for (flags, why) in [
        ("--on loopback", "theory needs a lab"),
        ("--loads 80%,100%", "--loads 100%: from 100% on the wait has no mean"),
        ("--congestion cubic", "--congestion cubic: theory sends datagrams"),
    ] {
        let output = run(&format!("theory {flags}"));
        assert_eq!(code(&output), 1, "{flags}");
        assert!(errors(&output).contains(why), "{flags}: {}", errors(&output));
    }
}

#[test]
fn what_is_mistyped_is_told_with_a_hint() {
    for (line, hint) in [("homa --sizes w3", "homa-w1 to homa-w5"), ("rrul --loads 5", "80%")] {
        let output = run(line);
        assert_eq!(code(&output), 2, "{line}");
        assert!(errors(&output).contains(hint), "{line}: {}", errors(&output));
    }
}

#[test]
fn lifetimes_of_datagrams_keep_a_link_useful_that_is_offered_too_much() {
    let output = run("deadline --over udp --loads 120% --link 20M -d 1s --no-html --json -");
    let said = errors(&output);
    if lacks_a_lab(&output) {
        return;
    }
    assert!([0, 3].contains(&code(&output)), "{said}");
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    crate::schema::keeps_to("series.json", &value);
    assert!(value["link"].as_str().is_some_and(|link| link.ends_with("datagrams")), "{value}");
    let runs = value["runs"].as_array().expect("runs");
    runs.iter().for_each(|run| is_whole(&run["result"]));
    let useful: Vec<_> = runs.iter().filter_map(|run| run["useful_share"].as_f64()).collect();
    assert!(useful.len() == 2 && useful[1] > useful[0] + 0.2, "FIFO, lifetime: {useful:?}");
}

#[test]
fn what_datagrams_cannot_do_is_said() {
    for (line, why) in [
        ("front-page --over udp --on loopback", "--over udp needs a lab"),
        ("rrul --over udp --congestion cubic", "--congestion cubic: datagrams have none"),
        ("homa --over udp", "messages that no datagram carries"),
        ("blocks --over udp", "messages that no datagram carries"),
        ("deadline --fan-in 4 --over udp", "messages that no datagram carries"),
        ("theory --over tcp", "theory sends datagrams"),
    ] {
        let output = run(line);
        assert_eq!(code(&output), 1, "{line}");
        assert!(errors(&output).contains(why), "{line}: {}", errors(&output));
    }
}
