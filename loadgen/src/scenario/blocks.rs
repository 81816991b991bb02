//! `blocks`: audio, video and file blocks with deadlines and priorities over one connection.
//!
//! Above: `command`. Below: the runs and the link of `scenario`; shown as an `exhibit`.
//! Absent: real media: sizes and times are those of its blocks, the bytes are none.
//! Bound: loads times four runs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, anyhow};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::{Runs, Site, Told, base};
use crate::arguments::ScenarioArguments;
use crate::class_books::ClassBooks;
use crate::environment::Environment;
use crate::measurement::Measurement;
use crate::plan::Plan;
use crate::quantity::{bytes_shown, count_shown, time_shown};
use crate::report::{self, Curves, Exhibit, Panel};
use crate::verdict::Level;
use crate::workload::Workload;
use crate::workload::trace::Line;

/// The kinds of blocks, most urgent first.
const KINDS: [&str; 3] = [
    "name=audio,share=60%,size=160,lifetime=100ms",
    "name=video,share=30%,size=bimodal:10000:40000:4%,niceness=1,lifetime=200ms",
    "name=file,share=10%,size=64KiB,niceness=2,lifetime=1s",
];
/// What the completion in time of each kind weighs in the score.
const WEIGHTS: [f64; 3] = [3.0, 2.0, 1.0];
/// What the library is told, in turn.
const TOLD: [Told; 4] = [Told::Fifo, Told::Niceness, Told::Lifetime, Told::Both];
/// Parts of the link's capacity that are offered, unless others are asked for.
const LOADS: [f64; 2] = [0.8, 1.2];
/// Part of the load that are calls; files fill the rest.
const CALLS_SHARE: f64 = 0.6;

const AUDIO_BYTES: u32 = 160;
/// From one audio block of a call to the next.
const AUDIO_NS: u64 = 20_000_000;
/// A frame that says only what changed.
const FRAME_BYTES: u32 = 10_000;
/// A frame that stands alone.
const KEY_FRAME_BYTES: u32 = 40_000;
/// From one frame of a call to the next.
const FRAME_NS: u64 = 40_000_000;
/// One of so many frames stands alone.
const KEY_FRAME_EVERY: u64 = 25;
const FILE_BYTES: u32 = 64 << 10;

const QUESTION: &str = "How many audio, video and file blocks are complete in time on one \
                        connection, when the library is told of their priorities, of their \
                        deadlines, of both, or of nothing.";
const NOTE: &str = "In the manner of the Meet Deadline Requirements challenge: a block is of use \
                    only if it is complete in time. A call has an audio block of 160 B every \
                    20 ms (in time: within 100 ms) and a frame of 10 kB every 40 ms, each 25th of \
                    40 kB (200 ms); calls make 60 % of the load, file blocks of 64 KiB (1 s) at \
                    random times the rest. Score: the shares in time of audio, video and file, \
                    weighed 3 : 2 : 1, from 0 to 100. Times are from the intended send to the \
                    echo; in time is judged by the arrival at the server. Late: bytes that were \
                    sent and came too late.";

/// Runs it and publishes it.
///
/// # Errors
/// If the link or a run cannot be made; if a report cannot be written.
pub(crate) fn run(arguments: &ScenarioArguments, stop: &Arc<AtomicBool>) -> Result<Level> {
    arguments.over_streams()?;
    report::check_scenario_writable(arguments)?;
    let environment = Environment::read();
    let base = base(kinds()?, arguments, &environment)?;
    let site = Site { narrow_back: false, environment, stop };
    let (link, cells) = site.with_runs(arguments, &base, |runs| all(runs, arguments, &base))?;
    let exhibit = exhibit(&cells, link, arguments.link);
    report::publish_exhibit(&exhibit, arguments)?;
    Ok(exhibit.level())
}

fn kinds() -> Result<Workload> {
    let none = |path: &str| Err(format!("no file {path}"));
    Workload::of_flags(&KINDS.map(ToOwned::to_owned), &none).map_err(|why| anyhow!(why))
}

/// One run.
struct Cell {
    load: f64,
    told: Told,
    measurement: Measurement,
}

fn all(runs: &Runs<'_>, arguments: &ScenarioArguments, base: &Plan) -> Result<Vec<Cell>> {
    let loads = arguments.loads(&LOADS);
    let count = loads.len() * TOLD.len();
    let mut cells = Vec::with_capacity(count);
    for &load in &loads {
        let lines = lines(load * runs.link_bytes_per_s, base);
        for told in TOLD {
            if runs.stopped() {
                return Ok(cells);
            }
            let what = format!("{:.0} % load, {}", load * 100.0, told.name());
            runs.announce(cells.len() + 1, count, &what);
            let mut workload = base.workload.as_ref().clone().told(told.variant());
            share(&mut workload, &lines);
            let base = Plan { overload: load >= 1.0, ..base.clone() };
            let run = runs.play(&base, workload, lines.clone());
            let Some(measurement) = runs.unless_stopped(run)? else { return Ok(cells) };
            cells.push(Cell { load, told, measurement });
        }
    }
    Ok(cells)
}

/// The blocks of so many bytes per second, by time.
fn lines(bytes_per_s: f64, base: &Plan) -> Vec<Line> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(base.seed);
    let end_ns = base.duration.as_nanos() as u64;
    let call_bytes_per_s = mean_call_bytes_per_s();
    let calls = (CALLS_SHARE * bytes_per_s / call_bytes_per_s).round().max(1.0);
    let mut lines = Vec::new();
    for _ in 0..calls as u64 {
        let audio_ns = random.random_range(0..AUDIO_NS);
        let audio = std::iter::successors(Some(audio_ns), |at| Some(at + AUDIO_NS));
        lines.extend(audio.take_while(|at| *at < end_ns).map(|at| line(at, 0, AUDIO_BYTES)));
        // A call's first frame that stands alone comes at any place.
        let (mut at_ns, first) =
            (random.random_range(0..FRAME_NS), random.random_range(0..KEY_FRAME_EVERY));
        for number in first.. {
            if at_ns >= end_ns {
                break;
            }
            let alone = number % KEY_FRAME_EVERY == 0;
            lines.push(line(at_ns, 1, if alone { KEY_FRAME_BYTES } else { FRAME_BYTES }));
            at_ns += FRAME_NS;
        }
    }
    let files_per_s = (bytes_per_s - calls * call_bytes_per_s) / f64::from(FILE_BYTES);
    if files_per_s > 0.0 {
        let gap_s = std::iter::repeat_with(|| {
            // 1 - u lies in (0, 1], so the logarithm is finite.
            let u: f64 = random.random();
            -(1.0 - u).ln() / files_per_s
        });
        let at_ns = gap_s.scan(0.0, |at_s, gap_s| {
            *at_s += gap_s;
            Some((*at_s * 1e9) as u64)
        });
        let files = at_ns.take_while(|at_ns| *at_ns < end_ns);
        lines.extend(files.map(|at_ns| line(at_ns, 2, FILE_BYTES)));
    }
    lines.sort_by_key(|line| line.at_ns);
    lines
}

fn mean_call_bytes_per_s() -> f64 {
    let every = KEY_FRAME_EVERY as f64;
    let frame = (f64::from(KEY_FRAME_BYTES) + (every - 1.0) * f64::from(FRAME_BYTES)) / every;
    f64::from(AUDIO_BYTES) * 1e9 / AUDIO_NS as f64 + frame * 1e9 / FRAME_NS as f64
}

/// A block; its deadline is its kind's.
fn line(at_ns: u64, class: u8, bytes: u32) -> Line {
    const DEADLINES_NS: [u64; 3] = [100_000_000, 200_000_000, 1_000_000_000];
    Line { at_ns, bytes, class, deadline_ns: Some(DEADLINES_NS[usize::from(class)]) }
}

/// Each kind's share of the blocks, as they are.
fn share(workload: &mut Workload, lines: &[Line]) {
    for (number, class) in workload.classes.iter_mut().enumerate() {
        let count = lines.iter().filter(|line| usize::from(line.class) == number).count();
        class.share = count as f64 / lines.len().max(1) as f64;
    }
}

/// Share of a kind's blocks that were complete in time; without any, all of them were.
fn in_time(books: &ClassBooks) -> f64 {
    let messages = &books.account.messages;
    if messages.scheduled == 0 { 1.0 } else { messages.share(messages.on_time) }
}

fn score(measurement: &Measurement) -> f64 {
    let weighed = measurement.books.classes.iter().zip(WEIGHTS);
    let sum: f64 = weighed.map(|(books, weight)| weight * in_time(books)).sum();
    100.0 * sum / WEIGHTS.iter().sum::<f64>()
}

fn exhibit<'m>(cells: &'m [Cell], link: String, link_bytes_per_s: f64) -> Exhibit<'m> {
    let loads = || cells.chunk_by(|one, next| one.load == next.load);
    let mut panels = vec![scores(loads())];
    panels.extend(loads().map(panel));
    let name = |cell: &Cell| format!("{:.0} %, {}", cell.load * 100.0, cell.told.name());
    Exhibit {
        name: "blocks",
        question: QUESTION,
        note: NOTE.to_owned(),
        link,
        link_bytes_per_s,
        panels,
        figures: cells.iter().flat_map(figures).collect(),
        runs: cells.iter().map(|cell| (name(cell), &cell.measurement)).collect(),
    }
}

fn scores<'m>(loads: impl Iterator<Item = &'m [Cell]>) -> Panel {
    let mut columns = vec!["load".to_owned()];
    columns.extend(TOLD.map(|told| told.name().to_owned()));
    let rows = loads.map(|cells| {
        let load = cells.first().map_or(0.0, |cell| cell.load);
        let mut row = vec![format!("{:.0} %", load * 100.0)];
        row.extend(cells.iter().map(|cell| format!("{:.1}", score(&cell.measurement))));
        row
    });
    Panel {
        title: "Score, from 0 to 100".to_owned(),
        note: "How much of audio, video and file was complete in time, weighed 3 : 2 : 1.",
        rows: rows.collect(),
        columns,
        curves: None,
    }
}

/// Percentile of the time that a kind's blocks took, in nanoseconds.
fn percentile_ns(measurement: &Measurement, books: &ClassBooks, share: f64) -> Option<u64> {
    let rows = measurement.rows_of(books);
    rows[0].percentiles.iter().find(|found| found.share == share)?.value_ns
}

fn panel(cells: &[Cell]) -> Panel {
    let titles = ["kind", "told", "blocks", "in time", "p50", "p99", "expired", "late"];
    let mut rows = Vec::new();
    let classes = cells.first().map_or(&[][..], |cell| &cell.measurement.plan.workload.classes);
    for (kind, class) in classes.iter().enumerate() {
        for cell in cells {
            let books = &cell.measurement.books.classes[kind];
            let messages = &books.account.messages;
            let at = |share: f64| {
                let found = percentile_ns(&cell.measurement, books, share);
                found.map_or_else(|| "n/a".to_owned(), time_shown)
            };
            rows.push(vec![
                class.name.clone(),
                cell.told.name().to_owned(),
                count_shown(messages.scheduled),
                format!("{:.2} %", in_time(books) * 100.0),
                at(0.5),
                at(0.99),
                format!("{:.2} %", messages.share(messages.expired) * 100.0),
                bytes_shown(books.account.bytes.late as f64),
            ]);
        }
    }
    let load = cells.first().map_or(0.0, |cell| cell.load);
    let video = |cell: &Cell| {
        let books = &cell.measurement.books.classes[1];
        (cell.told.name().to_owned(), books.response.clone(), books.account.messages.unanswered())
    };
    let lines = cells.iter().map(video).collect();
    Panel {
        title: format!("Load {:.0} %", load * 100.0),
        note: "Time that frames of video took, those that were discarded left out.",
        columns: titles.map(ToOwned::to_owned).to_vec(),
        rows,
        curves: Some(Curves::of_percentiles("Percentiles of the time of video frames", lines)),
    }
}

/// One object for each kind of a run.
fn figures(cell: &Cell) -> Vec<Value> {
    let of_kind = |(class, books): (&crate::workload::Class, &ClassBooks)| {
        json!({
            "load": cell.load,
            "told": cell.told.name(),
            "kind": class.name,
            "messages": books.account.messages.scheduled,
            "in_time_share": in_time(books),
            "expired_share": books.account.messages.share(books.account.messages.expired),
            "late_bytes": books.account.bytes.late,
            "p50_ns": percentile_ns(&cell.measurement, books, 0.5),
            "p99_ns": percentile_ns(&cell.measurement, books, 0.99),
            "score": score(&cell.measurement),
        })
    };
    cell.measurement.classes().map(of_kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_at(bytes_per_s: f64) -> Vec<Line> {
        use clap::Parser;
        #[derive(Parser)]
        struct Words {
            #[command(flatten)]
            scenario: ScenarioArguments,
        }
        let words = Words::try_parse_from(["loadgen", "-d", "10s"]).expect("it parses");
        let environment = Environment::read();
        let base = base(kinds().expect("kinds"), &words.scenario, &environment).expect("a plan");
        lines(bytes_per_s, &base)
    }

    #[test]
    fn blocks_make_the_load_and_come_in_order() {
        for bytes_per_s in [2e6, 12.5e6, 60e6] {
            let lines = lines_at(bytes_per_s);
            assert!(lines.is_sorted_by_key(|line| line.at_ns));
            let bytes: f64 = lines.iter().map(|line| f64::from(line.bytes)).sum();
            assert!((bytes / 10.0 / bytes_per_s - 1.0).abs() < 0.2, "{bytes} for {bytes_per_s}");
        }
        let few = lines_at(1_000.0);
        assert!(few.iter().all(|line| line.class < 2), "a call alone fills a slow link");
    }

    #[test]
    fn deadlines_and_sizes_are_those_of_the_kinds() {
        let workload = kinds().expect("kinds");
        for line in lines_at(12.5e6) {
            let class = &workload.classes[usize::from(line.class)];
            let deadline_ns = class.deadline.map(|deadline| deadline.as_nanos() as u64);
            assert_eq!(line.deadline_ns, deadline_ns);
            let sizes = [class.sizes.at(0.0), class.sizes.at(1.0)];
            assert!(sizes.contains(&line.bytes), "{}: {}", class.name, line.bytes);
        }
    }

    #[test]
    fn the_score_weighs_the_kinds() {
        let mut books = ClassBooks::new();
        assert!((in_time(&books) - 1.0).abs() < 1e-9, "none was late");
        books.account.book(4, 10, |ledger| &mut ledger.scheduled);
        books.account.book(3, 10, |ledger| &mut ledger.on_time);
        assert!((in_time(&books) - 0.75).abs() < 1e-9);
    }
}
