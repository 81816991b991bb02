//! `deadline --fan-in`: the missed share against the number of senders that are due at once.
//!
//! Above: `command`. Below: the runs and the link of `scenario`; shown as an `exhibit`.
//! Absent: switches: what the senders meet in is the link.
//! Bound: loads times fan-ins times two runs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Result, anyhow};
use serde_json::{Value, json};

use super::{HEADER_BYTES, Runs, Site, Told, base};
use crate::arguments::ScenarioArguments;
use crate::environment::Environment;
use crate::measurement::Measurement;
use crate::plan::Plan;
use crate::quantity::{bytes_shown, count_shown, time_shown};
use crate::report::{self, Curves, Exhibit, Panel};
use crate::verdict::Level;
use crate::workload::{Arrival, Workload};

/// What each sender has to send.
const CLASS: &str = "name=timed,size=32KiB,lifetime=1s";
const MESSAGE_BYTES: f64 = 32.0 * 1024.0;
/// The deadline is what the link takes for so many messages.
const FIT: u32 = 8;
/// Parts of the link's capacity that are offered, unless others are asked for: the same whatever
/// the fan-in, so only the coincidence differs.
const LOADS: [f64; 1] = [0.5];
/// What the library is told.
const TOLD: [Told; 2] = [Told::Fifo, Told::Lifetime];

const QUESTION: &str = "How many messages miss their deadline when the messages of more and more \
                        senders to one server become due at the same instant.";

/// Runs it for each of `fan_ins` and publishes it.
///
/// # Errors
/// If the link or a run cannot be made; if a report cannot be written.
pub(crate) fn run(
    arguments: &ScenarioArguments,
    fan_ins: &[u32],
    stop: &Arc<AtomicBool>,
) -> Result<Level> {
    arguments.over_streams()?;
    report::check_scenario_writable(arguments)?;
    let environment = Environment::read();
    let base = base(workload(arguments.link)?, arguments, &environment)?;
    let site = Site { narrow_back: false, environment, stop };
    let (link, cells) =
        site.with_runs(arguments, &base, |runs| all(runs, arguments, fan_ins, &base))?;
    let exhibit = exhibit(&cells, link, arguments.link);
    report::publish_exhibit(&exhibit, arguments)?;
    Ok(exhibit.level())
}

fn workload(link_bytes_per_s: f64) -> Result<Workload> {
    let none = |path: &str| Err(format!("no file {path}"));
    let workload = Workload::of_flags(&[CLASS.to_owned()], &none);
    let mut workload = workload.map_err(|why| anyhow!(why))?;
    for class in &mut workload.classes {
        class.deadline = Some(deadline(link_bytes_per_s));
    }
    Ok(workload)
}

fn deadline(link_bytes_per_s: f64) -> Duration {
    Duration::from_secs_f64(f64::from(FIT) * (MESSAGE_BYTES + HEADER_BYTES) / link_bytes_per_s)
}

/// One run.
struct Cell {
    load: f64,
    fan_in: u32,
    told: Told,
    measurement: Measurement,
}

fn all(
    runs: &Runs<'_>,
    arguments: &ScenarioArguments,
    fan_ins: &[u32],
    base: &Plan,
) -> Result<Vec<Cell>> {
    let loads = arguments.loads(&LOADS);
    let count = loads.len() * fan_ins.len() * TOLD.len();
    let mut cells = Vec::with_capacity(count);
    for &load in &loads {
        for &fan_in in fan_ins {
            for told in TOLD {
                if runs.stopped() {
                    return Ok(cells);
                }
                let what = format!("{:.0} % load, {fan_in} at once, {}", load * 100.0, told.name());
                runs.announce(cells.len() + 1, count, &what);
                let workload = base.workload.as_ref().clone().told(told.variant());
                let run = runs.one(Plan {
                    connections: fan_in,
                    // The table of open messages is for all connections together.
                    depth: (base.depth / fan_in).max(1),
                    rate_per_s: load * runs.link_bytes_per_s / (MESSAGE_BYTES + HEADER_BYTES),
                    arrival: Arrival::Burst { count: fan_in, every: None },
                    overload: load >= 1.0 || fan_in > FIT,
                    workload: Arc::new(workload),
                    ..base.clone()
                });
                let Some(measurement) = runs.unless_stopped(run)? else { return Ok(cells) };
                cells.push(Cell { load, fan_in, told, measurement });
            }
        }
    }
    Ok(cells)
}

/// The share that must be missed: what the link cannot carry within the deadline.
fn missed_at_least(fan_in: u32) -> f64 {
    1.0 - (f64::from(FIT) / f64::from(fan_in)).min(1.0)
}

fn exhibit<'m>(cells: &'m [Cell], link: String, link_bytes_per_s: f64) -> Exhibit<'m> {
    let name = |cell: &Cell| {
        format!("{:.0} %, {} at once, {}", cell.load * 100.0, cell.fan_in, cell.told.name())
    };
    Exhibit {
        name: "deadline",
        question: QUESTION,
        note: format!(
            "Each sender has a connection of its own; all of them send 32 KiB at the same instant, \
             then rest so long that the link has the same load whatever the fan-in. The deadline \
             is {}: what the link takes for {FIT} of the messages, so a share must be missed from \
             {} senders on (at least). In time is judged by the arrival at the server. An idle \
             link lets up to 32 KiB pass at once, so figures may be a little better than that. \
             Senders do not know of each other: with lifetimes, each discards what its own \
             connection cannot deliver in time.",
            time_shown(deadline(link_bytes_per_s).as_nanos() as u64),
            FIT + 1
        ),
        link,
        link_bytes_per_s,
        panels: cells.chunk_by(|one, next| one.load == next.load).map(panel).collect(),
        figures: cells.iter().map(figure).collect(),
        runs: cells.iter().map(|cell| (name(cell), &cell.measurement)).collect(),
    }
}

fn panel(cells: &[Cell]) -> Panel {
    let titles =
        ["senders", "told", "messages", "at least", "missed", "expired", "late", "p50", "p99"];
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let row = |cell: &Cell| {
        let books = &cell.measurement.overall;
        let messages = &books.account.messages;
        let rows = cell.measurement.rows_of(books);
        let at = |share: f64| {
            let found = rows[0].percentiles.iter().find(|found| found.share == share);
            found.and_then(|found| found.value_ns).map_or_else(|| "n/a".to_owned(), time_shown)
        };
        vec![
            cell.fan_in.to_string(),
            cell.told.name().to_owned(),
            count_shown(messages.scheduled),
            percent(missed_at_least(cell.fan_in)),
            percent(messages.missed_share()),
            percent(messages.share(messages.expired)),
            bytes_shown(books.account.bytes.late as f64),
            at(0.5),
            at(0.99),
        ]
    };
    let load = cells.first().map_or(0.0, |cell| cell.load);
    Panel {
        title: format!("Load {:.0} %: missed share against fan-in", load * 100.0),
        note: "Missed: not in time, of what was scheduled; none at all is drawn at 0.01 %.",
        columns: titles.map(ToOwned::to_owned).to_vec(),
        rows: cells.iter().map(row).collect(),
        curves: Some(curves(cells)),
    }
}

fn curves(cells: &[Cell]) -> Curves {
    let x = |fan_in: u32| f64::from(fan_in).log2();
    let line = |told: Told| {
        let of = cells.iter().filter(|cell| cell.told == told);
        let missed = |cell: &Cell| cell.measurement.overall.account.messages.missed_share();
        let points = of.map(|cell| (x(cell.fan_in), (missed(cell) * 1e4).max(1.0))).collect();
        (told.name().to_owned(), points)
    };
    let most = cells.iter().map(|cell| cell.fan_in).max().unwrap_or(1);
    let mut ticks: Vec<u32> = cells.iter().map(|cell| cell.fan_in).collect();
    ticks.sort_unstable();
    ticks.dedup();
    Curves {
        description: "Missed share against the number of senders".to_owned(),
        x_title: "senders at once",
        x: (0.0, x(most).max(1.0)),
        x_ticks: ticks.into_iter().map(|fan_in| (x(fan_in), fan_in.to_string())).collect(),
        y_shown: |value| format!("{} %", value as f64 / 100.0),
        lines: TOLD.map(line).to_vec(),
    }
}

fn figure(cell: &Cell) -> Value {
    let books = &cell.measurement.overall;
    let messages = &books.account.messages;
    json!({
        "load": cell.load,
        "told": cell.told.name(),
        "fan_in": cell.fan_in,
        "messages": messages.scheduled,
        "missed_at_least": missed_at_least(cell.fan_in),
        "missed_share": messages.missed_share(),
        "expired_share": messages.share(messages.expired),
        "late_bytes": books.account.bytes.late,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_into_the_deadline_need_not_be_missed() {
        let missed = [1, 8, 16, 32].map(missed_at_least);
        assert_eq!(missed, [0.0, 0.0, 0.5, 0.75]);
    }

    #[test]
    fn the_deadline_is_that_of_the_link() {
        let workload = workload(12.5e6).expect("a workload");
        let deadline = workload.classes[0].deadline.expect("it has one");
        assert!(deadline > Duration::from_millis(20) && deadline < Duration::from_millis(22));
        assert!(workload.classes[0].tells_lifetime);
    }
}
