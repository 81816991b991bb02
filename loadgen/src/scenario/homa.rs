//! `homa`: the slowdown of messages against their size, first come first served and by size.
//!
//! Above: `command`. Below: the runs and the link of `scenario`, `slowdown`; shown as an `exhibit`.
//! Absent: network priorities: what is ordered are the messages of one connection.
//! Bound: one run for what each size takes alone, then loads times two for each distribution.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Runs, Site, Told, base};
use crate::arguments::HomaArguments;
use crate::environment::Environment;
use crate::measurement::Measurement;
use crate::plan::Plan;
use crate::quantity::{count_shown, size_shown};
use crate::report::{self, Curves, Exhibit, Panel};
use crate::slowdown::{Figures, Scale};
use crate::verdict::Level;
use crate::workload::trace::Line;
use crate::workload::{MARKED_BYTES, Sizes, Workload};

/// Levels of urgency, as many as switches of a datacenter have queues.
const LEVELS: usize = 8;
/// Parts of the link's capacity that are offered, unless others are asked for.
const LOADS: [f64; 2] = [0.5, 0.8];
/// What the library is told of the levels.
const TOLD: [Told; 2] = [Told::Fifo, Told::Niceness];
/// Ends of the bands of sizes, as shares of all messages.
const BANDS: [f64; 11] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 1.0];
/// Different sizes that are measured alone.
const SIZES_ALONE: u32 = 12;
/// How long the longest of them is on the link: longer ones take what the link takes.
const LONGEST_ALONE: Duration = Duration::from_millis(20);
/// Rounds of all of them, at least and at most: an even number, so that both halves of the run are
/// alike.
const ROUNDS: (u64, u64) = (6, 100);
/// How long one size is sent, message after message, before it is the next one's turn.
const TURN_S: f64 = 0.01;
/// From a message alone to the next, beside the time that it takes on the link.
const PAUSE_S: f64 = 0.001;

const QUESTION: &str = "How many times as long a message of each size takes under load as alone, \
                        first come first served and with the shorter ones more urgent.";

/// Runs it and publishes it.
///
/// # Errors
/// If the link or a run cannot be made; if a report cannot be written.
pub(crate) fn run(arguments: &HomaArguments, stop: &Arc<AtomicBool>) -> Result<Level> {
    let scenario = &arguments.scenario;
    scenario.over_streams()?;
    report::check_scenario_writable(scenario)?;
    let environment = Environment::read();
    let base = base(Workload::plain(Sizes::fixed(MARKED_BYTES)), scenario, &environment)?;
    let site = Site { narrow_back: false, environment, stop };
    let (link, found) = site.with_runs(scenario, &base, |runs| all(runs, arguments, &base))?;
    let exhibit = found.exhibit(link, scenario.link);
    report::publish_exhibit(&exhibit, scenario)?;
    Ok(exhibit.level())
}

/// The runs of one distribution at one load, by what the library was told.
struct Pair {
    name: String,
    load: f64,
    edges: Vec<Edge>,
    runs: Vec<(Told, Measurement)>,
}

/// A band of sizes.
#[derive(Debug, Clone, PartialEq)]
struct Edge {
    /// Its smallest and its largest size, in bytes.
    sizes: (u32, u32),
    /// The size in its middle, by count, in bytes.
    middle: u32,
    /// Its share of all messages.
    share: f64,
}

/// Everything that was measured.
struct Found {
    alone: Measurement,
    pairs: Vec<Pair>,
}

fn all(runs: &Runs<'_>, arguments: &HomaArguments, base: &Plan) -> Result<Found> {
    let loads = arguments.scenario.loads(&LOADS);
    let count = 1 + arguments.sizes.0.len() * loads.len() * TOLD.len();
    runs.announce(1, count, "each size alone");
    let alone = alone(runs, base, runs.link_bytes_per_s)?;
    let points = points(&alone);
    let (mut pairs, mut number) = (Vec::new(), 1);
    for sizes in &arguments.sizes.0 {
        let workload = Workload::of_levels(sizes, LEVELS);
        let edges = edges(sizes);
        let inner = edges.iter().take(edges.len() - 1).map(|edge| edge.sizes.1).collect();
        let scale = Arc::new(Scale::new(&points, 1e9 / runs.link_bytes_per_s, inner));
        let base = Plan { scale: Some(scale), ..base.clone() };
        for &load in &loads {
            let mut pair =
                Pair { name: sizes.shown(), load, edges: edges.clone(), runs: Vec::new() };
            for told in TOLD {
                if runs.stopped() {
                    return Ok(Found { alone, pairs });
                }
                number += 1;
                let what = format!("{}, {:.0} % load, {}", pair.name, load * 100.0, told.name());
                runs.announce(number, count, &what);
                let workload = workload.clone().told(told.variant());
                let run = runs.at_load(&base, workload, load);
                let Some(run) = runs.unless_stopped(run)? else {
                    return Ok(Found { alone, pairs });
                };
                pair.runs.push((told, run));
            }
            pairs.push(pair);
        }
    }
    Ok(Found { alone, pairs })
}

/// Each of some sizes alone on the idle link, several times.
fn alone(runs: &Runs<'_>, base: &Plan, link_bytes_per_s: f64) -> Result<Measurement> {
    let sizes = sizes_alone(link_bytes_per_s);
    let (lines, duration) = lines_alone(&sizes, link_bytes_per_s, base.duration);
    runs.play(&Plan { duration, ..base.clone() }, Workload::of_sizes(&sizes), lines)
}

/// Sizes from the shortest message to what takes `LONGEST_ALONE` on the link, evenly on a
/// logarithmic scale.
fn sizes_alone(link_bytes_per_s: f64) -> Vec<u32> {
    let least = f64::from(MARKED_BYTES);
    let most = (link_bytes_per_s * LONGEST_ALONE.as_secs_f64()).clamp(16.0 * least, 4e6);
    let at = |step: u32| {
        let part = f64::from(step) / f64::from(SIZES_ALONE - 1);
        (least * (most / least).powf(part)).round() as u32
    };
    (0..SIZES_ALONE).map(at).collect()
}

/// One size after the other, in rounds, with time between two for the link to be idle again; and
/// how long that takes, `duration` if it can be.
fn lines_alone(sizes: &[u32], link_bytes_per_s: f64, duration: Duration) -> (Vec<Line>, Duration) {
    // What an idle link lets pass at once comes back in the time that the bytes would have taken.
    let gap_s = |bytes: u32| PAUSE_S + 1.5 * f64::from(bytes) / link_bytes_per_s;
    let times = |bytes: u32| (TURN_S / gap_s(bytes)).ceil();
    let round_s: f64 = sizes.iter().map(|bytes| times(*bytes) * gap_s(*bytes)).sum();
    let rounds = ((duration.as_secs_f64() / round_s) as u64).clamp(ROUNDS.0, ROUNDS.1) / 2 * 2;
    let mut at_s = 0.0;
    let mut lines = Vec::new();
    for _ in 0..rounds {
        for (class, &bytes) in sizes.iter().enumerate() {
            for _ in 0..times(bytes) as u64 {
                let at_ns = (at_s * 1e9) as u64;
                lines.push(Line { at_ns, bytes, class: class as u8, deadline_ns: None });
                at_s += gap_s(bytes);
            }
        }
    }
    (lines, Duration::from_secs_f64(at_s))
}

/// The shortest time of each size.
fn points(alone: &Measurement) -> Vec<(u32, u64)> {
    let best = |(class, books): (&crate::workload::Class, &crate::class_books::ClassBooks)| {
        let (best_ns, _) = books.response.buckets().next()?;
        Some((class.sizes.only()?, best_ns))
    };
    alone.classes().filter_map(best).collect()
}

/// The bands of a distribution; those that end at the same size are one.
fn edges(sizes: &Sizes) -> Vec<Edge> {
    let at = |share: f64| sizes.at(share).max(MARKED_BYTES);
    let mut edges: Vec<Edge> = Vec::new();
    let (mut from, mut below) = (0.0, at(0.0));
    for (number, to) in BANDS.into_iter().enumerate() {
        let next = BANDS.get(number + 1);
        if next.is_some_and(|next| at(*next) == at(to)) {
            continue;
        }
        let middle = at(f64::midpoint(from, to));
        edges.push(Edge { sizes: (below, at(to)), middle, share: to - from });
        (from, below) = (to, at(to) + 1);
    }
    edges
}

impl Found {
    fn exhibit(&self, link: String, link_bytes_per_s: f64) -> Exhibit<'_> {
        let shown = |pair: &Pair, told: Told| {
            format!("{}, {:.0} %, {}", pair.name, pair.load * 100.0, told.name())
        };
        let mut runs = vec![("alone".to_owned(), &self.alone)];
        for pair in &self.pairs {
            runs.extend(pair.runs.iter().map(|(told, run)| (shown(pair, *told), run)));
        }
        Exhibit {
            name: "homa",
            question: QUESTION,
            note: format!(
                "Slowdown is the response time, from the intended send to the echo, divided by \
                 the shortest time that a message of this size took alone; a host that has just \
                 been busy answers sooner than one that idles, so a little less than 1 can occur. \
                 Bands are tenths of the messages, the last one parted again. With niceness there \
                 are {LEVELS} levels by size, cut so that each carries equally many bytes; FIFO \
                 tells the library nothing. Over plain TCP a frame that has begun is finished \
                 first, so a short message still waits for the rest of a long one. Messages have \
                 at least {MARKED_BYTES} bytes; n/a: too few messages for an honest figure."
            ),
            link,
            link_bytes_per_s,
            panels: self.pairs.iter().map(panel).collect(),
            figures: self.pairs.iter().flat_map(figures).collect(),
            runs,
        }
    }
}

/// The slowdowns of each band.
fn slowdowns(measurement: &Measurement) -> Vec<Figures> {
    measurement.books.slowdowns.iter().flat_map(|counts| counts.figures()).collect()
}

fn panel(pair: &Pair) -> Panel {
    let mut columns = vec!["size".to_owned(), "messages".to_owned()];
    let all: Vec<_> = pair.runs.iter().map(|(_, run)| slowdowns(run)).collect();
    for (told, _) in &pair.runs {
        columns.extend([format!("{} p50", told.name()), format!("{} p99", told.name())]);
    }
    let rows = pair.edges.iter().enumerate().map(|(band, edge)| {
        let messages = all.first().and_then(|run| run.get(band)).map_or(0, |found| found.messages);
        let size = |bytes: u32| size_shown(bytes as usize);
        let name = match edge.sizes {
            (from, to) if from == to => size(from),
            (from, to) => format!("{} to {}", size(from), size(to)),
        };
        let mut row = vec![name, count_shown(messages)];
        for run in &all {
            let found = run.get(band).copied().unwrap_or_default();
            row.extend([found.p50, found.p99].map(shown));
        }
        row
    });
    Panel {
        title: format!("{}, load {:.0} %: slowdown by size", pair.name, pair.load * 100.0),
        rows: rows.collect(),
        columns,
        note: "Below it all figures; n/a: fewer than ten messages were slower.",
        curves: Some(curves(pair, &all)),
    }
}

fn shown(slowdown: Option<f64>) -> String {
    slowdown.map_or_else(|| "n/a".to_owned(), |value| format!("{value:.2}"))
}

/// p99 and p50 of each run, over the middle size of each band.
fn curves(pair: &Pair, all: &[Vec<Figures>]) -> Curves {
    let x = |bytes: u32| f64::from(bytes).log10();
    let mut lines = Vec::new();
    for name in ["p99", "p50"] {
        for ((told, _), found) in pair.runs.iter().zip(all) {
            let point = |(edge, found): (&Edge, &Figures)| {
                let value = if name == "p99" { found.p99 } else { found.p50 };
                Some((x(edge.middle), value?))
            };
            let points = pair.edges.iter().zip(found).filter_map(point).collect();
            lines.push((format!("{} {name}", told.name()), points));
        }
    }
    let ends = (pair.edges.first(), pair.edges.last());
    let x_ends = match ends {
        (Some(first), Some(last)) => (x(first.middle), x(last.middle).max(x(first.middle) + 0.1)),
        _ => (0.0, 1.0),
    };
    let ticks = (0..8).map(|decade| (f64::from(decade), size_shown(10_usize.pow(decade))));
    let within = |tick: &(f64, String)| (x_ends.0..=x_ends.1).contains(&tick.0);
    Curves {
        description: format!("Slowdown against size, {}, {:.0} %", pair.name, pair.load * 100.0),
        x_title: "size of a message",
        x: x_ends,
        x_ticks: ticks.filter(within).collect(),
        y_shown: |value| format!("{value} ×"),
        lines,
    }
}

/// One object for each band of each run.
fn figures(pair: &Pair) -> Vec<Value> {
    let of_run = |(told, run): &(Told, Measurement)| {
        let rows = pair.edges.iter().zip(slowdowns(run)).map(|(edge, found)| {
            json!({
                "workload": pair.name,
                "load": pair.load,
                "told": told.name(),
                "from_bytes": edge.sizes.0,
                "to_bytes": edge.sizes.1,
                "share": edge.share,
                "messages": found.messages,
                "slowdown_p50": found.p50,
                "slowdown_p99": found.p99,
            })
        });
        rows.collect::<Vec<_>>()
    };
    pair.runs.iter().flat_map(of_run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(text: &str) -> Sizes {
        Sizes::parse(text, &|_| Err("no files".to_owned())).expect(text)
    }

    #[test]
    fn bands_are_tenths_of_the_messages_and_share_no_size() {
        for name in ["homa-w1", "homa-w2", "homa-w3", "homa-w4", "homa-w5", "1400"] {
            let edges = edges(&sizes(name));
            let share: f64 = edges.iter().map(|edge| edge.share).sum();
            assert!((share - 1.0).abs() < 1e-9, "{name}: {share}");
            for pair in edges.windows(2) {
                assert_eq!(pair[0].sizes.1 + 1, pair[1].sizes.0, "{name}");
            }
            assert!(edges.iter().all(|edge| edge.sizes.0 <= edge.sizes.1), "{name}: {edges:?}");
        }
        assert_eq!(edges(&sizes("homa-w3")).len(), 11);
        assert_eq!(edges(&sizes("1400")).len(), 1);
    }

    #[test]
    fn sizes_alone_never_meet_on_the_link() {
        for link_bytes_per_s in [1.25e5, 12.5e6, 1.25e9] {
            let sizes = sizes_alone(link_bytes_per_s);
            assert!(sizes.is_sorted_by(|one, next| one < next), "{sizes:?}");
            assert_eq!(sizes[0], MARKED_BYTES);
            let (lines, length) = lines_alone(&sizes, link_bytes_per_s, Duration::from_secs(1));
            assert!(lines.iter().all(|line| u128::from(line.at_ns) < length.as_nanos()));
            assert!(lines.len() >= sizes.len() * ROUNDS.0 as usize);
            for pair in lines.windows(2) {
                let gap_s = (pair[1].at_ns - pair[0].at_ns) as f64 / 1e9;
                assert!(gap_s > f64::from(pair[0].bytes) / link_bytes_per_s);
            }
        }
    }
}
