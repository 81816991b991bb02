//! Class latency: how long an urgent Message waits behind bulk on one connection, over one
//! bottleneck, and what lifetimes save when the path is overloaded.
//!
//! `cargo bench --bench class_latency` (root; `-- --seconds 3` for a short run, `--json FILE`)
//! Above: whoever reads its table. Below: the public API alone; two network namespaces joined by
//! a veth pair, its sending side shaped to 100 Mbit/s by `tbf`. Absent: other hosts, other
//! traffic. Without root, `ip` or `tc` it says `SKIP: reason` and ends well.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "its table is what it is for")]

#[path = "../../tests/api/hosts.rs"]
mod hosts;
mod namespaces;
mod receiver;
mod sender;

use std::time::Duration;

use anyhow::Context;

use self::receiver::Tally;
use self::sender::Load;

/// What the bottleneck carries in theory, in bytes of TCP payload a second: 1 448 of 1 514 bytes.
const LINE_BYTES_PER_S: f64 = 100e6 / 8.0 * 1448.0 / 1514.0;

struct Case {
    name: &'static str,
    load: Load,
}

fn cases() -> Vec<Case> {
    let case = |name, load| Case { name, load };
    vec![
        case("class 0 alone", Load { urgent: true, ..Load::default() }),
        case("FIFO, bulk of 1 400 B", Load { urgent: true, bulk: Some(1400), ..Load::default() }),
        case(
            "classes, bulk of 1 400 B",
            Load { urgent: true, bulk: Some(1400), classes: true, ..Load::default() },
        ),
        case("FIFO, bulk of 16 kB", Load { urgent: true, bulk: Some(16_000), ..Load::default() }),
        case(
            "classes, bulk of 16 kB",
            Load { urgent: true, bulk: Some(16_000), classes: true, ..Load::default() },
        ),
        case(
            "120 % load, no lifetimes",
            Load { offered_bytes_per_s: Some(1.2 * LINE_BYTES_PER_S), ..Load::default() },
        ),
        case(
            "120 % load, lifetimes of 100 ms",
            Load {
                offered_bytes_per_s: Some(1.2 * LINE_BYTES_PER_S),
                lifetime: Some(Duration::from_millis(100)),
                ..Load::default()
            },
        ),
    ]
}

struct Options {
    seconds: u64,
    json: Option<String>,
    controls: Vec<String>,
    unsent_bytes: Option<u32>,
    /// Only shows that it works: one short case.
    smoke: bool,
}

fn options() -> anyhow::Result<Options> {
    let mut options = Options {
        seconds: 10,
        json: None,
        controls: vec!["bbr".into(), "cubic".into()],
        unsent_bytes: None,
        smoke: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--seconds" => options.seconds = value()?.parse().context("--seconds")?,
            "--json" => options.json = Some(value()?),
            "--control" => options.controls = vec![value()?],
            "--unsent" => options.unsent_bytes = Some(value()?.parse().context("--unsent")?),
            // What `cargo bench` and its smoke run add.
            "--test" => options.smoke = true,
            "--bench" => {}
            other => anyhow::bail!(
                "{other}: only --seconds N, --json FILE, --control NAME, --unsent BYTES"
            ),
        }
    }
    if options.smoke {
        options.seconds = 3;
        options.controls.truncate(1);
    }
    anyhow::ensure!((3..=600).contains(&options.seconds), "--seconds must be 3 to 600");
    Ok(options)
}

fn main() -> anyhow::Result<()> {
    let options = options()?;
    let world = match namespaces::World::new() {
        Ok(world) => world,
        Err(reason) => {
            println!("SKIP: {reason:#}");
            return Ok(());
        }
    };
    let mut rows = Vec::new();
    for control in &options.controls {
        if let Err(error) = world.congestion_control(control) {
            println!("SKIP: {control}: {error:#}");
            continue;
        }
        println!(
            "\n{control}: 100 Mbit/s, 100 B of class 0 every 10 ms, {} s each",
            options.seconds
        );
        println!("{:34} {:>8} {:>8} {:>8} {:>12}", "", "p50 ms", "p99 ms", "max ms", "bulk Mbit/s");
        let last = if options.smoke { 1 } else { usize::MAX };
        for case in cases().into_iter().take(last) {
            let load = Load { unsent_bytes: options.unsent_bytes, ..case.load };
            let tally = world.run(&load, Duration::from_secs(options.seconds))?;
            print_row(case.name, &load, &tally);
            rows.push(serde_json::json!({
                "control": control, "case": case.name, "seconds": options.seconds,
                "urgent_p50_ms": tally.urgent_ms(0.5), "urgent_p99_ms": tally.urgent_ms(0.99),
                "urgent_max_ms": tally.urgent_ms(1.0), "urgent_count": tally.urgent_count(),
                "bulk_mbit_per_s": tally.bulk_mbit_per_s(), "offered": tally.offered,
                "on_time": tally.on_time, "late": tally.late, "late_bytes": tally.late_bytes,
                "bytes": tally.bytes,
            }));
        }
    }
    if let Some(path) = options.json {
        let text = serde_json::to_string_pretty(&rows)?;
        std::fs::write(&path, text).with_context(|| format!("write {path}"))?;
    }
    Ok(())
}

fn print_row(name: &str, load: &Load, tally: &Tally) {
    if load.offered_bytes_per_s.is_none() {
        println!(
            "{name:34} {:8.2} {:8.2} {:8.2} {:12.1}",
            tally.urgent_ms(0.5),
            tally.urgent_ms(0.99),
            tally.urgent_ms(1.0),
            tally.bulk_mbit_per_s()
        );
        return;
    }
    let share = tally.on_time as f64 / tally.offered.max(1) as f64;
    let waste = tally.late_bytes as f64 / tally.bytes.max(1) as f64;
    println!(
        "{name:34} on time {:5.1} % of {} offered ({:.3} of what fits); late {:.2} % of the bytes",
        share * 100.0,
        tally.offered,
        share * 1.2,
        waste * 100.0
    );
}
