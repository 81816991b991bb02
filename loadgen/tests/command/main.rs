//! The binary as a user meets it: flags, exit codes, reports, faults.
//!
//! Machines that run tests are busy, so a run that should be good may end SUSPECT or INVALID
//! here for lack of CPU; these tests check what must hold on any machine.

#[cfg(unix)]
mod agents;
mod chains;
mod datagrams;
mod process;
mod report;
mod scenarios;
mod schema;
mod shapes;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use process::{errors, finish, serve, signal, start};
use serde_json::Value;

fn run(line: &str) -> Output {
    finish(start(line))
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}

/// The result of a run with `--json -`, checked against the schema and for a closed ledger.
fn result(output: &Output) -> Value {
    let value: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("no JSON: {error}; it said {}", errors(output)));
    is_whole(&value);
    value
}

/// The result of one run keeps to the schema, and all its ledgers close.
fn is_whole(value: &Value) {
    schema::keeps_to("run.json", value);
    for account in ["/ledger/measured", "/ledger/warmup"] {
        closes(value.pointer(account).expect("an account"));
    }
    for class in value["classes"].as_array().expect("classes") {
        closes(&class["ledger"]);
    }
}

fn closes(account: &Value) {
    for unit in ["messages", "bytes"] {
        let ledger = &account[unit];
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

fn codes(result: &Value) -> Vec<&str> {
    let reasons = result["verdict"]["reasons"].as_array().expect("a list");
    reasons.iter().filter_map(|reason| reason["code"].as_str()).collect()
}

fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()))
}

#[test]
fn help_names_every_flag_and_exit_code() {
    let output = run("run --help");
    assert_eq!(code(&output), 0);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for flag in ["--rate", "--depth", "--arrival", "--json", "--no-html", "3  the run is INVALID"] {
        assert!(text.contains(flag), "{flag}");
    }
}

#[test]
fn what_is_mistyped_ends_with_code_2_and_a_hint() {
    let hints = [
        ("run --rat 5k", "--rate"),
        ("run --rate fast", "50k"),
        ("run -d 10", "10s"),
        ("run -d 0s", "10s"),
        ("run --size 4k", "4KiB"),
        ("run --cores 3-1", "0-3"),
        ("run -c 0", "from 1 to 100000"),
        ("run --arrival burst", "poisson"),
        ("run --arrival burst:x", "burst:64"),
        ("run --size gauss:5", "lognormal"),
        ("run --size cdf:/no/such", "cannot read /no/such"),
        ("run --class nam=a", "nam: there is no such key"),
        ("run --class lifetime=5", "lifetime: not a time"),
        ("run --load 80", "80%"),
        ("run --load 80% -r 5k", "cannot be used with"),
        ("run --class size=5 --size 5", "cannot be used with"),
        ("sweep", "--rates"),
        ("sweep --rates 10k,fast", "50k"),
        ("knee --until 5", "10s"),
        ("front-page --loads 80", "80%"),
        ("front-page --link 5", "100M"),
        ("compare --pairs 1", "3..=100"),
        ("runn", "run"),
    ];
    for (line, hint) in hints {
        let output = run(line);
        assert_eq!(code(&output), 2, "{line}");
        assert!(errors(&output).contains(hint), "{line}: {}", errors(&output));
    }
}

#[test]
fn what_cannot_be_done_ends_with_code_1_and_one_line() {
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("loopback");
    let unreachable = format!("run tcp://{closed} -d 1s --no-html");
    let lines = [
        (unreachable.as_str(), "refused"),
        ("run tcp://no-such-host.invalid:7000 -d 1s --no-html", "no-such-host.invalid:7000: "),
        ("run unix:///no/such.sock -d 1s --no-html", "/no/such.sock: "),
        ("compare --json /nowhere/result.json", "/nowhere/result.json"),
        ("sweep --rates 1k --html /nowhere/report.html", "/nowhere/report.html"),
        ("run --cores 4000 --no-html", "may not use CPU 4000"),
        ("run nonsense -d 1s --no-html", "nonsense"),
        ("run --html /nowhere/report.html", "/nowhere/report.html"),
        ("run --json /nowhere/result.json --no-html", "/nowhere/result.json"),
        ("serve tcp://127.0.0.1:99999", "99999"),
        ("run --workload /no/such.toml --no-html", "cannot read /no/such.toml"),
        ("run --arrival trace:/no/such --no-html", "cannot read /no/such"),
        ("run --class share=5% --no-html", "5.00 % together"),
    ];
    for (line, hint) in lines {
        let output = run(line);
        let said = errors(&output);
        assert_eq!(code(&output), 1, "{line}: {said}");
        assert!(said.contains(hint), "{line}: {said}");
        assert_eq!(said.lines().filter(|l| l.starts_with("loadgen: ")).count(), 1, "{said}");
    }
}

/// One line each, with the file and, where there is one, the line in it.
#[test]
fn a_malformed_file_is_told_with_its_line() {
    let files = [
        ("--arrival trace:", 1, "0.1,64\nabc,64\n", "line 2: \"abc\" is no time"),
        ("--arrival trace:", 1, "0.5,64\n0.1,64\n", "line 2: its time is before"),
        ("--arrival trace:", 1, "0.1,64,nobody\n", "line 1: there is no class \"nobody\""),
        ("--arrival trace:", 1, "", "no messages in it"),
        ("--workload ", 1, "arrival = \n", "line 1: "),
        ("--workload ", 1, "arival = \"constant\"\n", "line 1: arival: there is no such key"),
        ("--workload ", 1, "[[class]]\nname = \"a\"\nsize = \"5x\"\n", "line 3: size: \"5x\""),
        ("--size cdf:", 2, "100 50\nhello world\n", "line 2: \"hello\" is no number"),
        ("--size cdf:", 2, "100 50\n10 100\n", "line 2: the sizes must rise"),
        ("--size cdf:", 2, "", "no points in it"),
    ];
    let path = scratch("malformed");
    for (flag, wanted, content, hint) in files {
        std::fs::write(&path, content).expect("scratch space");
        let output = run(&format!("run {flag}{} -d 1s --no-html", path.display()));
        let said = errors(&output);
        assert_eq!(code(&output), wanted, "{flag}: {said}");
        let told: Vec<_> = said.lines().filter(|line| line.contains("malformed: ")).collect();
        assert!(told.len() == 1 && told[0].contains(hint), "{flag}: {hint}: {said}");
    }
    let _ = std::fs::remove_file(path);
}

#[test]
fn a_run_of_its_own_reports_in_all_forms() {
    let (json, html) = (scratch("result.json"), scratch("report.html"));
    let (csv, hlog) = (scratch("result.csv"), scratch("result.hlog"));
    let line = format!(
        "run -r 500 -c 4 -d 2s --warmup 200ms --json {} --html {} --csv {} --hlog {}",
        json.display(),
        html.display(),
        csv.display(),
        hlog.display()
    );
    let output = run(&line);
    assert!([0, 3].contains(&code(&output)), "{}", errors(&output));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    for word in ["p99.9", "response time", "samples above", "ledger", "verdict"] {
        assert!(table.contains(word), "{word} in {table}");
    }
    let text = std::fs::read(&json).expect("the JSON was written");
    let value = result(&Output { stdout: text, ..output });
    let scheduled = value["ledger"]["measured"]["messages"]["scheduled"].as_f64().expect("a count");
    assert!((scheduled - 1_000.0).abs() < 160.0, "five sigma of a Poisson process: {scheduled}");
    let page = std::fs::read_to_string(&html).expect("the report was written");
    assert!(page.contains("<svg") && page.contains("prefers-color-scheme: dark"));
    for outside in ["http://", "https://", "<link", "@import", "<script src"] {
        assert!(!page.contains(outside), "the page stands alone: {outside}");
    }
    let lines = std::fs::read_to_string(&csv).expect("the CSV was written");
    assert!(lines.lines().all(|line| line.matches(',').count() == 7), "{lines}");
    assert!(lines.contains(&format!("all,scheduled,messages,,{scheduled},,,")), "{lines}");
    let log = std::fs::read_to_string(&hlog).expect("the log was written");
    assert!(log.contains("#[StartTime:") && log.contains("Tag=all.service,"), "{log}");
    for file in [json, html, csv, hlog] {
        let _ = std::fs::remove_file(file);
    }
}

/// On a terminal, each class has a line while the run goes on.
#[cfg(target_os = "linux")]
#[test]
fn a_terminal_shows_each_class() {
    if std::process::Command::new("script").arg("--version").output().is_err() {
        eprintln!("SKIP: no `script` here to make a terminal with");
        return;
    }
    let loadgen = env!("CARGO_BIN_EXE_loadgen");
    let shown = |more: &str| {
        let line = format!(
            "{loadgen} run -r 2k -c 2 -d 700ms --warmup 100ms --no-html {more} --class \
             name=urgent,share=20%,deadline=1s --class name=bulk"
        );
        let mut command = std::process::Command::new("script");
        command.args(["-qec", &line, "/dev/null"]);
        String::from_utf8_lossy(&finish(process::spawn(command)).stdout).into_owned()
    };
    let text = shown("");
    let lines: Vec<_> = text.split(['\r', '\n']).filter(|line| line.contains("p99 ~")).collect();
    for name in ["urgent ", "bulk "] {
        let drawn = |line: &&str| line.starts_with(name) && line.contains(" late ");
        assert!(lines.iter().any(drawn), "{name}: {text}");
    }
    assert!(!shown("--quiet").contains("p99 ~"), "--quiet shows nothing");
}

#[test]
fn the_same_seed_schedules_the_same_messages() {
    let count = || {
        let output = run("run -r 2k -c 3 -d 500ms --warmup 0s --seed 9 --json - --no-html --quiet");
        result(&output)["ledger"]["measured"]["messages"]["scheduled"].as_u64()
    };
    assert_eq!(count(), count());
}

#[test]
fn a_closed_loop_is_labelled_and_small_payloads_work() {
    let output = run("run --arrival closed --depth 2 -c 2 -d 500ms --size 5 --json - --no-html");
    assert!(errors(&output).contains("closed loop, 2 in flight"), "{}", errors(&output));
    let value = result(&output);
    assert_eq!(value["manifest"]["open_loop"], false);
    assert!(value["ledger"]["measured"]["messages"]["on_time"].as_u64() > Some(0));
    assert_eq!(value["generator"]["replies_unmatched"], 0);
}

/// Two classes with deadlines over one slow reader: what the server does not take in time expires.
/// More than all buffers on the way hold: if generator and server both wait with reading until
/// they could send, neither goes on.
#[test]
fn a_closed_loop_of_many_large_messages_does_not_stand_still() {
    let line = "run --arrival closed --depth 64 -c 1 --size 1MiB -d 500ms --warmup 0s";
    let value = result(&run(&format!("{line} --json - --no-html --quiet")));
    let messages = &value["ledger"]["measured"]["messages"];
    let answered = messages["on_time"].as_u64().expect("a count");
    assert!(answered >= 64, "{messages}");
    assert_eq!(messages["in_flight"], 0, "{messages}");
}

#[test]
fn an_overload_of_large_messages_is_still_answered() {
    let line = "run -r 3k -c 1 --size 1MiB -d 500ms --warmup 0s --json - --no-html --quiet";
    let value = result(&run(line));
    let messages = &value["ledger"]["measured"]["messages"];
    let answered = messages["on_time"].as_u64().expect("a count");
    assert!(answered >= 20, "{messages}");
    assert_eq!(messages["in_flight"], 0, "{messages}");
}

#[test]
fn classes_are_told_apart_and_each_ledger_closes() {
    let csv = scratch("classes.toml");
    let file = "arrival = \"constant\"\n[[class]]\nname = \"urgent\"\nshare = \"20%\"\n\
                lifetime = \"1s\"\n[[class]]\nname = \"bulk\"\nsize = \"uniform:1KiB:4KiB\"\n\
                niceness = 2\n";
    std::fs::write(&csv, file).expect("scratch space");
    let line = format!("run --workload {} -r 2k -c 2 -d 1s --warmup 200ms", csv.display());
    let output = run(&format!("{line} --json - --no-html"));
    for word in ["urgent", "bulk", "lifetime 1.00 s", "niceness 2", "expired"] {
        assert!(errors(&output).contains(word), "{word} in {}", errors(&output));
    }
    let value = result(&output);
    let classes = value["classes"].as_array().expect("classes");
    let scheduled = |at: usize| classes[at]["ledger"]["messages"]["scheduled"].as_f64();
    assert_eq!(scheduled(0).zip(scheduled(1)).map(|(one, two)| one + two), Some(2_000.0));
    assert!(scheduled(0).is_some_and(|n| (n - 400.0).abs() < 90.0), "{:?}", scheduled(0));
    assert!(classes.iter().all(|class| class["latency"][2]["kind"] == "wait"));
    let sent = classes[1]["ledger"]["messages"]["sent"].as_u64();
    assert_eq!(classes[1]["latency"][2]["count"].as_u64(), sent, "each wait was measured");
    let _ = std::fs::remove_file(csv);
}

/// On an overloaded link, what the library is told of deadlines it discards in time.
#[test]
fn a_scenario_runs_each_variant_over_the_same_messages() {
    let output = run("deadline --on loopback --loads 150% --link 20M -d 1s --json - --no-html");
    assert!([0, 3].contains(&code(&output)), "{}", errors(&output));
    for word in ["load 150 %", "FIFO", "lifetime", "of the link in time", "timed alone"] {
        assert!(errors(&output).contains(word), "{word} in {}", errors(&output));
    }
    let value: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    schema::keeps_to("series.json", &value);
    let runs = value["runs"].as_array().expect("runs");
    assert_eq!(runs.iter().map(|run| &run["told"]).collect::<Vec<_>>(), ["FIFO", "lifetime"]);
    let ledger = |at: usize| {
        is_whole(&runs[at]["result"]);
        &runs[at]["result"]["classes"][0]["ledger"]["messages"]
    };
    let (fifo, told) = (ledger(0), ledger(1));
    let n = |ledger: &Value, name: &str| ledger[name].as_u64().expect("a count");
    assert_eq!(n(fifo, "scheduled"), n(told, "scheduled"), "the same seed");
    assert_eq!((n(fifo, "expired"), n(told, "expired") > 0), (0, true));
    is_whole(&value["alone"]);
}

#[test]
fn a_comparison_pairs_its_runs_and_gives_intervals() {
    let line = "compare -r 500 -c 2 -d 300ms --warmup 50ms --pairs 3 --json -";
    let output = run(&format!("{line} --class name=a,deadline=1s --tell-b nothing"));
    assert!([0, 3].contains(&code(&output)), "{}", errors(&output));
    let value: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    schema::keeps_to("comparison.json", &value);
    assert_eq!(value["pairs"], 3);
    let figures = value["figures"].as_array().expect("figures");
    let names: Vec<_> = figures.iter().filter_map(|figure| figure["figure"].as_str()).collect();
    assert_eq!(names, ["p50", "p90", "p99", "missed"]);
    let (low, high) = (&figures[0]["low"], &figures[0]["high"]);
    assert!(low.as_f64() <= figures[0]["change"].as_f64() && low.as_f64() <= high.as_f64());
    assert!(figures[2]["change"].is_null(), "150 messages have no p99");
    assert!(errors(&output).contains("too few samples"), "{}", errors(&output));
}

#[test]
fn searches_report_each_run_whole() {
    let output = run("sweep --rates 200,400 -c 2 -d 300ms --warmup 50ms --json -");
    assert!([0, 3].contains(&code(&output)), "{}", errors(&output));
    let value: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let runs = value["runs"].as_array().expect("runs");
    let asked = runs.iter().map(|run| run["rates"]["asked_per_s"].as_f64()).collect::<Vec<_>>();
    assert_eq!((asked, &value["knee"]), (vec![Some(200.0), Some(400.0)], &Value::Null));
    schema::keeps_to("search.json", &value);
    runs.iter().for_each(is_whole);
    let output = run("knee -r 200 -c 2 -d 200ms --warmup 50ms --within 50% --until 1us --json -");
    assert_eq!(code(&output), 3, "{}", errors(&output));
    let value: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    schema::keeps_to("search.json", &value);
    assert_eq!(value["knee"]["borne_per_s"], Value::Null, "no server answers within 1 us");
    let output = run("knee --arrival closed");
    assert_eq!(code(&output), 1);
    assert!(errors(&output).contains("do not take any rate"), "{}", errors(&output));
}

#[test]
fn a_rate_out_of_reach_is_invalid_and_soon_over() {
    let begun = Instant::now();
    let output = run("run --rate 100M --json - --no-html --quiet");
    assert_eq!(code(&output), 3, "{}", errors(&output));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(errors(&output).contains("out of reach"), "{}", errors(&output));
    let value = result(&output);
    assert_eq!(value["verdict"]["level"], "INVALID");
    assert!(codes(&value).contains(&"out_of_reach"));
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_still_reports_and_its_ledger_closes() {
    let child = start("run -r 1k -d 60s --warmup 100ms --json - --no-html --quiet");
    std::thread::sleep(Duration::from_secs(2));
    signal(&child, "-INT");
    let output = finish(child);
    assert!([0, 3].contains(&code(&output)), "{}", errors(&output));
    let value = result(&output);
    assert!(codes(&value).contains(&"interrupted"), "{:?}", codes(&value));
    let measured_ns = value["manifest"]["measured_ns"].as_u64().expect("a time");
    assert!((100_000_000..10_000_000_000).contains(&measured_ns), "{measured_ns}");
}

/// A server that takes connections and answers with bytes that are no echo, or closes.
fn odd_server(answer: &'static [u8], connections: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        let serve = |stream: std::io::Result<std::net::TcpStream>| {
            let mut stream = stream.expect("a connection");
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                for _ in 0..20 {
                    // The client may go first.
                    if stream.read(&mut buffer).is_err() || stream.write_all(answer).is_err() {
                        return;
                    }
                }
            })
        };
        let served: Vec<_> = listener.incoming().take(connections).map(serve).collect();
        served.into_iter().for_each(|thread| thread.join().expect("it returns"));
    });
    format!("tcp://{address}")
}

#[test]
fn a_server_that_closes_amid_the_run_is_told() {
    let address = odd_server(&[], 2);
    let output = run(&format!("run {address} -c 2 -r 1k -d 5s --warmup 0s --json - --no-html -q"));
    assert_eq!(code(&output), 3, "{}", errors(&output));
    assert!(errors(&output).contains("2 of 2 connections ended"), "{}", errors(&output));
    assert!(codes(&result(&output)).contains(&"disconnected"));
}

#[test]
fn a_server_that_closes_at_once_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    let server = std::thread::spawn(move || drop(listener.accept().expect("a connection")));
    let output = run(&format!("run tcp://{address} -c 1 -r 1k -d 5s --warmup 0s --no-html -q"));
    server.join().expect("it has closed");
    let said = errors(&output);
    assert!([1, 3].contains(&code(&output)), "{said}");
    assert!(said.contains("closed") || said.contains("ended") || said.contains("reset"), "{said}");
}

#[test]
fn a_server_that_does_not_echo_is_told() {
    let address = odd_server(&[0, 0, 0, 2, 7, 7], 1);
    let output = run(&format!("run {address} -c 1 -r 100 -d 1s --warmup 0s --json - --no-html -q"));
    assert_eq!(code(&output), 3, "{}", errors(&output));
    assert!(codes(&result(&output)).contains(&"unmatched"));
}

#[cfg(unix)]
#[test]
fn the_server_alone_serves_until_it_is_told_to_end() {
    let (server, address) = serve();
    let output = run(&format!("run {address} -c 2 -r 500 -d 500ms --json - --no-html -q"));
    assert!(result(&output)["ledger"]["measured"]["messages"]["on_time"].as_u64() > Some(0));
    signal(&server, "-TERM");
    let ended = finish(server);
    assert_eq!(code(&ended), 0, "{}", errors(&ended));
    assert!(errors(&ended).contains("echo server on tcp://"), "{}", errors(&ended));
}
