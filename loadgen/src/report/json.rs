//! The result as JSON, described by `loadgen/schemas/run.json`.
//!
//! Above: `report` writes it. Below: `measurement`. Absent: formatting of numbers: times are
//! nanoseconds, rates per second. Names are stable; `SCHEMA` changes when one does.

use anyhow::Result;
use serde::Serialize;

use crate::agents::Agent;
use crate::environment::Environment;
use crate::ledger::Account;
use crate::measurement::{Measurement, Row};
use crate::tcp_counters::TcpCounters;
use crate::verdict::Verdict;

/// Name and version of the form.
pub(crate) const SCHEMA: &str = "postring-loadgen/2";

/// The document, on one line and a line break at the end.
///
/// # Errors
/// Only if the serializer fails.
pub(crate) fn document(measurement: &Measurement) -> Result<String> {
    let mut text = serde_json::to_string(&of(measurement))?;
    text.push('\n');
    Ok(text)
}

/// The document without its buckets: what fits into a page.
///
/// # Errors
/// Only if the serializer fails.
pub(crate) fn summary(measurement: &Measurement) -> Result<String> {
    Ok(serde_json::to_string(&brief(measurement))?)
}

/// The document's values without the buckets.
pub(super) fn brief(measurement: &Measurement) -> Document<'_> {
    let mut document = of(measurement);
    let of_classes = document.classes.iter_mut().flat_map(|class| &mut class.latency);
    let latencies = document.latency.iter_mut().chain(of_classes);
    latencies.for_each(|latency| latency.buckets.clear());
    document
}

/// What is written.
#[derive(Serialize)]
pub(crate) struct Document<'m> {
    schema: &'static str,
    verdict: &'m Verdict,
    manifest: Manifest<'m>,
    rates: Rates,
    ledger: Ledgers,
    latency: Vec<Latency>,
    classes: Vec<Class<'m>>,
    timeline: Vec<Stretch>,
    tcp: Option<Tcp>,
    generator: Generator,
    server: Server<'m>,
    /// Who measured, if several processes did.
    #[serde(skip_serializing_if = "<[Agent]>::is_empty")]
    agents: &'m [Agent],
}

#[derive(Serialize)]
struct Manifest<'m> {
    #[serde(flatten)]
    environment: &'m Environment,
    arrival: &'static str,
    open_loop: bool,
    rate_asked_per_s: Option<f64>,
    connections: u32,
    carriers: u32,
    churn_asked_per_s: Option<f64>,
    judged_by: &'static str,
    load_asked: Option<f64>,
    mean_bytes: f64,
    depth: u32,
    seed: u64,
    warmup_ns: u64,
    measured_ns: u64,
    driver: &'m str,
    driver_asked: &'static str,
    generator_cpus: &'m [usize],
}

#[derive(Serialize)]
struct Rates {
    asked_per_s: Option<f64>,
    sent_per_s: f64,
    answered_per_s: f64,
    goodput_bytes_per_s: f64,
}

#[derive(Serialize)]
struct Ledgers {
    measured: Account,
    warmup: Account,
}

#[derive(Serialize)]
struct Class<'m> {
    name: &'m str,
    share: f64,
    size: String,
    mean_bytes: f64,
    niceness: u32,
    tells_niceness: bool,
    deadline_ns: Option<u64>,
    tells_lifetime: bool,
    immediate: bool,
    idempotent: bool,
    chain: Option<u32>,
    ledger: Account,
    missed_share: f64,
    goodput_bytes_per_s: f64,
    wasted_bytes: u64,
    inversions: Option<u64>,
    oldest_waiting_ns: Option<u64>,
    latency: Vec<Latency>,
}

#[derive(Serialize)]
struct Latency {
    kind: &'static str,
    meaning: &'static str,
    count: u64,
    mean_ns: Option<f64>,
    max_ns: Option<u64>,
    percentiles: Vec<PercentileValue>,
    /// Upper edge in nanoseconds and count of every bucket in use: enough to merge and re-cut.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    buckets: Vec<(u64, u64)>,
}

#[derive(Serialize)]
struct PercentileValue {
    percentile: f64,
    value_ns: Option<u64>,
    low_95_ns: Option<u64>,
    high_95_ns: Option<u64>,
    samples_above: u64,
}

#[derive(Serialize)]
struct Stretch {
    start_ns: u64,
    submitted: u64,
    received: u64,
    response_p50_ns: Option<u64>,
    response_p99_ns: Option<u64>,
    lag_mean_ns: Option<f64>,
    lag_max_ns: u64,
    oldest_waiting_ns: Vec<u64>,
    segments_retransmitted: Option<u64>,
}

#[derive(Serialize)]
struct Tcp {
    scope: &'static str,
    #[serde(flatten)]
    counters: TcpCounters,
}

#[derive(Serialize)]
struct Generator {
    busy_share: f64,
    longest_gap_ns: u64,
    cpu_moves: u64,
    waited_share: f64,
    steal_share: Option<f64>,
    connections_ended: u32,
    connections_renewed: u64,
    renewals_failed: u64,
    replies_unmatched: u64,
    replies_duplicated: u64,
    replies_reordered: u64,
}

#[derive(Serialize)]
struct Server<'m> {
    address: &'m str,
    embedded: bool,
    cpus: &'m [usize],
    busy_share: Option<f64>,
}

/// The document's values.
pub(crate) fn of(measurement: &Measurement) -> Document<'_> {
    let facts = &measurement.facts;
    let plan = &measurement.plan;
    Document {
        schema: SCHEMA,
        verdict: &measurement.verdict,
        manifest: manifest(measurement),
        rates: Rates {
            asked_per_s: plan.open_loop().then_some(plan.rate_per_s),
            sent_per_s: measurement.sent_per_s(),
            answered_per_s: measurement.answered_per_s(),
            goodput_bytes_per_s: measurement.goodput_bytes_per_s(&measurement.overall),
        },
        ledger: Ledgers { measured: measurement.overall.account, warmup: measurement.books.warmup },
        latency: measurement.rows().iter().map(latency).collect(),
        classes: (0..measurement.books.classes.len()).map(|at| class(measurement, at)).collect(),
        timeline: timeline(measurement),
        tcp: measurement.tcp.as_ref().map(|tcp| {
            // Nobody counts the segments of some connections alone.
            Tcp { scope: "network namespace", counters: tcp.total }
        }),
        generator: Generator {
            busy_share: facts.busy_share,
            longest_gap_ns: facts.longest_gap_ns,
            cpu_moves: facts.cpu_moves,
            waited_share: facts.waited_share,
            steal_share: facts.steal_share,
            connections_ended: facts.disconnections,
            connections_renewed: facts.renewals[1],
            renewals_failed: facts.renewals[2],
            replies_unmatched: facts.strays.unmatched,
            replies_duplicated: facts.strays.duplicated,
            replies_reordered: facts.strays.reordered,
        },
        server: Server {
            address: &measurement.address,
            embedded: plan.address.is_none(),
            cpus: &plan.server_cores,
            busy_share: measurement.server_busy_share,
        },
        agents: &measurement.agents,
    }
}

fn manifest(measurement: &Measurement) -> Manifest<'_> {
    let plan = &measurement.plan;
    Manifest {
        environment: &measurement.environment,
        arrival: plan.arrival.kind(),
        open_loop: plan.open_loop(),
        rate_asked_per_s: plan.open_loop().then_some(plan.rate_per_s),
        connections: plan.connections,
        carriers: plan.carriers,
        churn_asked_per_s: plan.churn_per_s,
        judged_by: if plan.judged_by_arrival { "arrival" } else { "answer" },
        load_asked: plan.load,
        mean_bytes: plan.workload.mean_bytes(),
        depth: plan.depth,
        seed: plan.seed,
        warmup_ns: plan.warmup_ns(),
        measured_ns: measurement.measured_ns,
        driver: &measurement.driver,
        driver_asked: plan.driver.name(),
        generator_cpus: &plan.generator_cores,
    }
}

fn class(measurement: &Measurement, number: usize) -> Class<'_> {
    let workload = &measurement.plan.workload;
    let (class, books) = (&workload.classes[number], &measurement.books.classes[number]);
    let messages = &books.account.messages;
    Class {
        name: &class.name,
        share: class.share,
        size: class.sizes.shown(),
        mean_bytes: class.sizes.mean_bytes(workload.least_bytes()),
        niceness: class.niceness,
        tells_niceness: class.tells_niceness,
        deadline_ns: class.deadline.map(|deadline| deadline.as_nanos() as u64),
        tells_lifetime: class.tells_lifetime,
        immediate: class.immediate,
        idempotent: class.idempotent,
        chain: class.chain,
        ledger: books.account,
        missed_share: messages.missed_share(),
        goodput_bytes_per_s: measurement.goodput_bytes_per_s(books),
        wasted_bytes: books.account.bytes.late,
        inversions: workload.is_watched().then_some(books.inversions),
        oldest_waiting_ns: measurement.books.timeline.longest_wait_ns(number),
        latency: measurement.rows_of(books).iter().map(latency).collect(),
    }
}

fn latency(row: &Row<'_>) -> Latency {
    let percentiles = row.percentiles.iter().map(|percentile| PercentileValue {
        percentile: percentile.share * 100.0,
        value_ns: percentile.value_ns,
        low_95_ns: percentile.interval_ns.map(|(low, _)| low),
        high_95_ns: percentile.interval_ns.map(|(_, high)| high),
        samples_above: percentile.above,
    });
    Latency {
        kind: row.key,
        meaning: row.meaning,
        count: row.latencies.count(),
        mean_ns: row.latencies.mean_ns(),
        max_ns: row.max_ns,
        percentiles: percentiles.collect(),
        buckets: row.latencies.buckets().collect(),
    }
}

fn timeline(measurement: &Measurement) -> Vec<Stretch> {
    let timeline = &measurement.books.timeline;
    let tcp = measurement.tcp.as_ref();
    let retransmitted = |at: u64| tcp?.retransmitted.get(at as usize).copied();
    let stretches = timeline.intervals().iter().zip(0_u64..);
    let stretches = stretches.map(|(interval, number)| Stretch {
        start_ns: number * timeline.interval_ns(),
        submitted: interval.submitted,
        received: interval.received(),
        response_p50_ns: interval.response_ns(0.5),
        response_p99_ns: interval.response_ns(0.99),
        lag_mean_ns: interval.lag_mean_ns(),
        lag_max_ns: interval.lag_max_ns,
        oldest_waiting_ns: interval.waited_ns.clone(),
        segments_retransmitted: retransmitted(number),
    });
    stretches.collect()
}
