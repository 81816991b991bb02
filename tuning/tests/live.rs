//! The machine the tests run on, and a network namespace with a veth pair.
//!
//! Above: `cargo test`. Below: the built `tuning`; `unshare`, `mount`, `ip` and `timeout` for the
//! namespace, without which (or without root) those tests skip and say so.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic and says aloud what it skips"
)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const TUNING: &str = env!("CARGO_BIN_EXE_tuning");

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs a shell line in a new network and mount namespace, at most 30 s; `None` if that is not
/// possible here.
fn in_namespace(line: &str) -> Option<Output> {
    let enter = |line: &str| {
        let unshare = ["-k", "5", "30", "unshare", "--net", "--mount", "sh", "-ec", line, TUNING];
        Command::new("timeout").args(unshare).output()
    };
    let probe = "mount -t sysfs none /sys && ip link add probe0 type veth peer name probe1";
    match enter(probe) {
        Ok(output) if output.status.success() => Some(enter(line).unwrap()),
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            println!("SKIP: no network namespace with a veth pair here: {why}");
            None
        }
        Err(error) => {
            println!("SKIP: no network namespace here: timeout cannot be run: {error}");
            None
        }
    }
}

fn nic<'a>(inspection: &'a Value, name: &str) -> &'a Value {
    let nics = inspection["nics"].as_array().unwrap();
    nics.iter().find(|nic| nic["name"] == name).unwrap_or_else(|| panic!("no {name} in {nics:?}"))
}

#[test]
fn this_machine_is_inspected_as_text_and_json() {
    let inspection = json(&Command::new(TUNING).args(["inspect", "--json"]).output().unwrap());
    assert_eq!(inspection["schema"], 1);
    assert!(inspection["io_uring"]["sentence"].as_str().unwrap().contains("io_uring"));
    let limit = shell_limit();
    assert_eq!(inspection["limits"]["open_files"]["soft"], limit);
    let output = Command::new(TUNING).arg("inspect").output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for heading in ["HOST", "IO_URING", "LIMITS", "CORES", "NUMA NODES", "NICS"] {
        assert!(text.lines().any(|line| line == heading), "{heading} is missing in\n{text}");
    }
}

/// The soft limit of open files as the shell sees it.
fn shell_limit() -> Value {
    let output = Command::new("sh").args(["-c", "ulimit -n"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim().parse::<u64>().map_or_else(|_| "unlimited".into(), Value::from)
}

#[test]
fn a_capture_of_this_machine_gives_the_same_facts_later() {
    let target =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("live-{}", std::process::id()));
    let target_text = target.to_str().unwrap();
    let capture = Command::new(TUNING).args(["inspect", "--capture", target_text]).output();
    let capture = capture.unwrap();
    assert!(capture.status.success(), "{}", String::from_utf8_lossy(&capture.stderr));
    let live = json(&Command::new(TUNING).args(["inspect", "--json"]).output().unwrap());
    let replay = ["inspect", "--json", "--root", target_text];
    let replay = json(&Command::new(TUNING).args(replay).output().unwrap());
    // Interfaces come and go while other tests run; the rest of the machine stays.
    for part in ["kernel", "clock", "cores", "io_uring", "limits", "numa_nodes"] {
        assert_eq!(live[part], replay[part], "{part}");
    }
    assert_eq!(nic(&live, "lo"), nic(&replay, "lo"));
    let again = Command::new(TUNING).args(["inspect", "--capture", target_text]).output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is not empty"));
    std::fs::remove_dir_all(target).unwrap();
}

#[test]
fn a_veth_pair_in_a_namespace_is_seen_whole() {
    let Some(output) = in_namespace(
        "mount -t sysfs none /sys
         ip link add here0 numrxqueues 2 numtxqueues 3 type veth \
             peer name there0 numrxqueues 3 numtxqueues 2
         ip link set here0 mtu 1400 up
         ip link set there0 up
         echo 3 > /sys/class/net/here0/queues/rx-0/rps_cpus
         echo 20000 > /sys/class/net/here0/gro_flush_timeout
         exec \"$0\" inspect --json",
    ) else {
        return;
    };
    let inspection = json(&output);
    assert_eq!(inspection["nics"].as_array().unwrap().len(), 3);
    let here = nic(&inspection, "here0");
    for (fact, value) in [
        ("kind", Value::from("veth")),
        ("state", "up".into()),
        ("mtu_bytes", 1400.into()),
        ("rx_queues", 2.into()),
        ("tx_queues", 3.into()),
        ("gro_flush_timeout_ns", 20_000.into()),
    ] {
        assert_eq!(here[fact], value, "{fact}");
    }
    assert!(here["queues"][0]["rps_cpus"].is_array(), "{}", here["queues"]);
    assert!(here["driver"]["unknown"].as_str().unwrap().contains("No such file"));
    assert!(here["offloads"].as_array().unwrap().contains(&"tx-tcp-segmentation".into()));
    assert_eq!(here["channels"]["rx"], 2);
    assert_eq!(here["channels"]["tx"], 3);
    assert!(here["qdisc"].is_string(), "{}", here["qdisc"]);
}

#[test]
fn netlink_of_another_namespace_is_not_mixed_in() {
    let line = "exec \"$0\" inspect --json";
    let Some(output) = in_namespace(line) else { return };
    let inspection = json(&output);
    let mut foreign = 0;
    for nic in inspection["nics"].as_array().unwrap().iter().filter(|nic| nic["name"] != "lo") {
        let reason = nic["qdisc"]["unknown"].as_str().unwrap_or_default();
        assert!(reason.contains("another network namespace"), "{nic}");
        foreign += 1;
    }
    if foreign == 0 {
        println!("SKIP: this machine has no interface but lo to mix up");
    }
}
