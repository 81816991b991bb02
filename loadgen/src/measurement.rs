//! A finished run: everything the reports show, from one place.
//!
//! Above: the reports read it. Below: the generators' outcomes, merged here; `statistics` and
//! `verdict` draw the conclusions. Absent: I/O, formatting.

use crate::agents::Agent;
use crate::churn::Renewals;
use crate::class_books::ClassBooks;
use crate::environment::{CpuSnapshot, Environment};
use crate::histogram::Latencies;
use crate::plan::Plan;
use crate::recorder::Recorder;
use crate::statistics::{self, Percentile};
use crate::tcp_counters::TcpSpan;
use crate::verdict::{self, EarlyEnd, Facts, Verdict};
use crate::worker::Outcome;
use crate::workload::Class;

/// What was done and what came out.
#[derive(Debug)]
pub(crate) struct Measurement {
    /// The run as it was meant.
    pub(crate) plan: Plan,
    /// Where it took place.
    pub(crate) environment: Environment,
    /// The address of the server.
    pub(crate) address: String,
    /// The generators' driver.
    pub(crate) driver: String,
    /// Who measured, if that was not this process.
    pub(crate) agents: Vec<Agent>,
    /// The merged books of all generators.
    pub(crate) books: Recorder,
    /// Connections that were made anew.
    pub(crate) renewals: Renewals,
    /// The measured part over all classes.
    pub(crate) overall: ClassBooks,
    /// Length of the measured part, in nanoseconds.
    pub(crate) measured_ns: u64,
    /// How busy the embedded server's CPUs were.
    pub(crate) server_busy_share: Option<f64>,
    /// What bears on the credibility.
    pub(crate) facts: Facts,
    /// What TCP sent meanwhile in the generators' network namespace, if it was to be seen.
    pub(crate) tcp: Option<TcpSpan>,
    /// Whether to believe it.
    pub(crate) verdict: Verdict,
}

/// One kind of time with its percentiles.
#[derive(Debug)]
pub(crate) struct Row<'m> {
    /// Name in reports.
    pub(crate) name: &'static str,
    /// Key in JSON.
    pub(crate) key: &'static str,
    /// What it means.
    pub(crate) meaning: &'static str,
    /// All samples.
    pub(crate) latencies: &'m Latencies,
    /// p50, p90, p99, p99.9.
    pub(crate) percentiles: Vec<Percentile>,
    /// The longest; `None` without samples, or if messages stayed unanswered.
    pub(crate) max_ns: Option<u64>,
}

/// Snapshots of the CPUs at the start and at the end of the measured part.
pub(crate) type CpuSpan = (CpuSnapshot, CpuSnapshot);

/// What the generators and their surroundings showed.
pub(crate) struct Observed {
    /// One per generator.
    pub(crate) outcomes: Vec<Outcome>,
    /// What the CPUs did meanwhile.
    pub(crate) cpus: CpuSpan,
    /// The generators' driver.
    pub(crate) driver: &'static str,
    /// Why it is not the preferred one.
    pub(crate) driver_reason: Option<String>,
    /// What TCP sent in the measured part.
    pub(crate) tcp: Option<TcpSpan>,
}

impl Measurement {
    /// Merges the outcomes of all generators and judges the run.
    pub(crate) fn new(
        plan: Plan,
        environment: Environment,
        address: String,
        observed: Observed,
    ) -> Self {
        let Observed { outcomes, cpus: (before, after), driver, driver_reason, tcp } = observed;
        let ended_ns = outcomes.iter().map(|outcome| outcome.ended_ns).max().unwrap_or(0);
        let mut facts = Facts {
            open_loop: plan.open_loop(),
            rate_per_s: plan.rate_per_s * f64::from(plan.own_connections())
                / f64::from(plan.connections * plan.carriers),
            overload: plan.overload,
            connections: plan.own_connections(),
            shares_cpu: plan.shares_cpu(),
            clock: environment.clock.clone(),
            driver_reason,
            steal_share: after.steal_share(&before, &plan.generator_cores),
            ..Facts::default()
        };
        let mut books = Recorder::new(plan.bounds(0));
        let mut renewals = Renewals::new();
        for outcome in &outcomes {
            renewals.merge(&outcome.renewals);
            books.merge(&outcome.books);
            note_generator(&mut facts, outcome);
        }
        let overall = books.all_classes();
        note_books(&mut facts, &books, &overall);
        facts.datagrams = plan.to_datagrams();
        facts.renewals = [renewals.asked, renewals.made, renewals.failed];
        facts.first_failed_renewal.clone_from(&renewals.first_failure);
        let server_busy_share = after.busy_share(&before, &plan.server_cores);
        let measured_ns = ended_ns.saturating_sub(plan.warmup_ns());
        let verdict = verdict::judge(&facts);
        Self {
            plan,
            environment,
            address,
            driver: driver.to_owned(),
            agents: Vec::new(),
            books,
            renewals,
            overall,
            measured_ns,
            server_busy_share,
            facts,
            tcp,
            verdict,
        }
    }

    /// The rows of the table: response time, service time, the wait if messages are watched and,
    /// in an open loop, the send lag.
    pub(crate) fn rows(&self) -> Vec<Row<'_>> {
        let mut rows = self.rows_of(&self.overall);
        if self.plan.open_loop() {
            rows.push(row(LAG, &self.books.lag, 0));
        }
        if self.plan.churn_per_s.is_some() {
            rows.push(row(CONNECT, &self.renewals.connect, 0));
        }
        rows
    }

    /// The rows of one class: response time first.
    pub(crate) fn rows_of<'m>(&self, class: &'m ClassBooks) -> Vec<Row<'m>> {
        let unanswered = class.account.messages.unanswered();
        let watched = self.plan.workload.is_watched();
        let mut rows = vec![
            row(RESPONSE, &class.response, unanswered),
            row(if watched { SERVICE_WATCHED } else { SERVICE }, &class.service, unanswered),
        ];
        if watched {
            rows.push(row(WAIT, &class.wait, 0));
        }
        rows
    }

    /// The classes with what was counted of each; one without `--class`.
    pub(crate) fn classes(&self) -> impl Iterator<Item = (&Class, &ClassBooks)> {
        self.plan.workload.classes.iter().zip(&self.books.classes)
    }

    /// Messages per second sent within the measured part.
    pub(crate) fn sent_per_s(&self) -> f64 {
        self.per_s(self.books.submitted_in_time)
    }

    /// Messages per second answered.
    pub(crate) fn answered_per_s(&self) -> f64 {
        self.per_s(self.overall.account.messages.received())
    }

    /// Payload bytes per second whose answers came in time.
    pub(crate) fn goodput_bytes_per_s(&self, class: &ClassBooks) -> f64 {
        self.per_s(class.account.bytes.on_time)
    }

    fn per_s(&self, count: u64) -> f64 {
        count as f64 / (self.measured_ns.max(1) as f64 / 1e9)
    }
}

fn row<'m>(
    (name, key, meaning): (&'static str, &'static str, &'static str),
    latencies: &'m Latencies,
    unanswered: u64,
) -> Row<'m> {
    Row {
        name,
        key,
        meaning,
        latencies,
        percentiles: statistics::percentiles(latencies, unanswered, &statistics::SHARES),
        max_ns: latencies.max_ns().filter(|_| unanswered == 0),
    }
}

const RESPONSE: (&str, &str, &str) =
    ("response time", "response", "from the intended send to the reply: the headline");
const SERVICE: (&str, &str, &str) =
    ("service time", "service", "from the actual send to the reply");
const SERVICE_WATCHED: (&str, &str, &str) =
    ("service time", "service", "from when the kernel had it to the reply");
const WAIT: (&str, &str, &str) =
    ("wait", "wait", "from the actual send until the kernel had it: behind others in the queue");
const LAG: (&str, &str, &str) =
    ("send lag", "lag", "from the intended to the actual send: the generator's own fault");

const CONNECT: (&str, &str, &str) =
    ("connect time", "connect", "from the wish to be connected until it was, for each made anew");

fn note_generator(facts: &mut Facts, outcome: &Outcome) {
    let pulse = &outcome.pulse;
    if pulse.longest_gap_ns > facts.longest_gap_ns {
        facts.longest_gap_ns = pulse.longest_gap_ns;
        facts.longest_gap_at_ns = pulse.longest_gap_at_ns;
    }
    facts.busy_share = facts.busy_share.max(pulse.busy_share());
    facts.cpu_moves += pulse.cpu_moves;
    facts.waited_share =
        pulse.waited_share().map_or(facts.waited_share, |s| facts.waited_share.max(s));
    let worse = |why: EarlyEnd| why != EarlyEnd::Signal;
    if let Some(why) = outcome.early_end
        && facts.early_end.is_none_or(|(before, _)| worse(why) && !worse(before))
    {
        facts.early_end = Some((why, outcome.ended_ns));
    }
}

/// Puts what was counted into the facts.
pub(crate) fn note_books(facts: &mut Facts, books: &Recorder, overall: &ClassBooks) {
    let ledger = &overall.account.messages;
    let skipped = &ledger.skipped;
    facts.scheduled = ledger.scheduled;
    facts.submitted_in_time = books.submitted_in_time;
    facts.skipped = [skipped.at_depth, skipped.disconnected, skipped.never_reached];
    facts.received = ledger.received();
    facts.refused = ledger.refused;
    facts.unanswered = ledger.unanswered() - ledger.refused;
    facts.strays = books.strays;
    facts.ledger_closes = books.classes.iter().all(|class| class.account.closes())
        && overall.account.closes()
        && books.warmup.closes();
    let first = |latencies: &Latencies, share: f64| {
        statistics::percentiles(latencies, 0, &[share])[0].value_ns
    };
    facts.lag_p99_ns = first(&books.lag, 0.99);
    facts.response_p50_ns = first(&overall.response, 0.5);
    facts.lag_by_quarter_ns = books.timeline.lag_by_quarter_ns();
    facts.median_of_halves_ns = books.timeline.median_of_halves_ns();
    facts.disconnections = books.disconnections;
    facts.first_disconnection =
        books.first_disconnection.as_ref().map(|first| (first.at_ns, first.reason.clone()));
}
