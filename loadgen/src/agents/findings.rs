//! Findings: what one agent counted, and how those of all agents become one result.
//!
//! Above: `agent` sends them, `coordinator` merges them. Below: `measurement`, `recorder`.
//! Absent: percentiles: counts add up, percentiles do not. Bound: a count from elsewhere is below
//! 2^53, and its ledgers close, or the findings are refused.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::churn::Renewals;
use crate::class_books::ClassBooks;
use crate::environment::Environment;
use crate::histogram::{Latencies, Timeline};
use crate::ledger::Account;
use crate::measurement::{Measurement, note_books};
use crate::plan::Plan;
use crate::quantity::line_shown;
use crate::recorder::{Disconnection, Recorder, Strays};
use crate::verdict::{Facts, Level, Reason, Verdict};

/// Reasons of one agent that are shown.
const REASONS_MAX: usize = 32;

/// One agent's part in a result.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Agent {
    /// Where it was reached.
    pub(crate) address: String,
    /// What its own part is worth; INVALID if it was lost.
    pub(crate) level: Level,
    /// Why its part is missing.
    pub(crate) lost: Option<String>,
    /// Messages of its measured part that the schedule asked for.
    pub(crate) scheduled: u64,
    /// Of these, answered.
    pub(crate) received: u64,
    /// CPUs of its generators.
    pub(crate) generator_cpus: Vec<usize>,
    /// Its manifest.
    pub(crate) environment: Value,
}

/// What one agent counted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Findings {
    environment: Value,
    verdict: Verdict,
    driver: String,
    generator_cpus: Vec<usize>,
    measured_ns: u64,
    books: Books,
    busy_share: f64,
    longest_gap_ns: u64,
    cpu_moves: u64,
    waited_share: f64,
    steal_share: Option<f64>,
}

/// A `Recorder` when all is over.
#[derive(Debug, Serialize, Deserialize)]
struct Books {
    warmup: Account,
    classes: Vec<ClassBooks>,
    submitted_in_time: u64,
    lag: Latencies,
    timeline: Timeline,
    strays: Strays,
    disconnections: u32,
    first_disconnection: Option<Disconnection>,
}

impl Findings {
    /// Those of this process.
    ///
    /// # Errors
    /// Only if the serializer fails.
    pub(super) fn of(measurement: Measurement) -> Result<Self> {
        let Measurement { environment, verdict, driver, plan, books, facts, .. } = measurement;
        Ok(Self {
            environment: serde_json::to_value(environment)?,
            verdict,
            driver,
            generator_cpus: plan.generator_cores,
            measured_ns: measurement.measured_ns,
            busy_share: facts.busy_share,
            longest_gap_ns: facts.longest_gap_ns,
            cpu_moves: facts.cpu_moves,
            waited_share: facts.waited_share,
            steal_share: facts.steal_share,
            books: Books {
                warmup: books.warmup,
                classes: books.classes,
                submitted_in_time: books.submitted_in_time,
                lag: books.lag,
                timeline: books.timeline,
                strays: books.strays,
                disconnections: books.disconnections,
                first_disconnection: books.first_disconnection,
            },
        })
    }

    /// Adds what was counted to `into`.
    fn merge_into(&mut self, into: &mut Recorder, plan: &Plan) -> Result<()> {
        let Books { warmup, classes, submitted_in_time, .. } = &self.books;
        let sound = |account: &Account| {
            account.messages.is_plausible() && account.bytes.is_plausible() && account.closes()
        };
        let whole = classes.len() == plan.workload.classes.len()
            && into.timeline.fits(&self.books.timeline)
            && classes.iter().all(|class| class.inversions < 1 << 53 && sound(&class.account))
            && sound(warmup)
            && *submitted_in_time < 1 << 53
            && self.books.strays.is_plausible()
            && self.books.disconnections <= plan.connections;
        if !whole {
            bail!("its findings do not fit to its order, or do not add up");
        }
        let mut books = Recorder::new(plan.bounds(0));
        let own = &mut self.books;
        books.warmup = own.warmup;
        books.classes = std::mem::take(&mut own.classes);
        books.submitted_in_time = own.submitted_in_time;
        books.lag = own.lag.clone();
        books.timeline = own.timeline.clone();
        books.strays = own.strays;
        books.disconnections = own.disconnections;
        books.first_disconnection = own
            .first_disconnection
            .take()
            .map(|first| Disconnection { reason: line_shown(&first.reason), ..first });
        into.merge(&books);
        Ok(())
    }
}

/// One result of what all agents say: their counts added up, the worst of their verdicts. One
/// without findings is told as lost.
///
/// # Errors
/// If no agent has any.
pub(super) fn merged(
    plan: Plan,
    environment: Environment,
    address: String,
    told: Vec<(String, Result<Box<Findings>, String>)>,
) -> Result<Measurement> {
    let mut books = Recorder::new(plan.bounds(0));
    let mut merging = Merging { agents: Vec::new(), reasons: Vec::new(), drivers: Vec::new() };
    let mut facts = Facts {
        open_loop: plan.open_loop(),
        rate_per_s: plan.rate_per_s,
        connections: plan.connections,
        ..Facts::default()
    };
    let mut measured_ns = 0;
    for (at, findings) in told {
        let merged = findings.and_then(|mut findings| {
            let counted = counted(&findings);
            let added = findings.merge_into(&mut books, &plan);
            added.map_err(|why| why.to_string())?;
            Ok((findings, counted))
        });
        match merged {
            Ok((findings, counted)) => {
                measured_ns = measured_ns.max(findings.measured_ns);
                note(&mut facts, &findings);
                merging.whole(at, *findings, counted);
            }
            Err(why) => merging.lost(at, &why),
        }
    }
    if merging.agents.iter().all(|agent| agent.lost.is_some()) {
        let first = merging.reasons.first();
        bail!(first.map_or_else(|| "no agents".to_owned(), |reason| reason.text.clone()));
    }
    let overall = books.all_classes();
    note_books(&mut facts, &books, &overall);
    facts.datagrams = plan.to_datagrams();
    Ok(Measurement {
        verdict: Verdict::of(merging.reasons),
        renewals: Renewals::new(),
        driver: merging.drivers.join(", "),
        agents: merging.agents,
        server_busy_share: None,
        // Of several hosts nobody could say what a sum would mean.
        tcp: None,
        plan,
        environment,
        address,
        books,
        overall,
        measured_ns,
        facts,
    })
}

/// Scheduled and answered messages.
fn counted(findings: &Findings) -> (u64, u64) {
    let ledgers = findings.books.classes.iter().map(|class| &class.account.messages);
    let sum = |sum: (u64, u64), one: (u64, u64)| {
        (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1))
    };
    let counts =
        ledgers.map(|ledger| (ledger.scheduled, ledger.on_time.saturating_add(ledger.late)));
    counts.fold((0, 0), sum)
}

/// The worst of each counts.
fn note(facts: &mut Facts, findings: &Findings) {
    facts.busy_share = facts.busy_share.max(findings.busy_share);
    facts.longest_gap_ns = facts.longest_gap_ns.max(findings.longest_gap_ns);
    facts.cpu_moves = facts.cpu_moves.saturating_add(findings.cpu_moves);
    facts.waited_share = facts.waited_share.max(findings.waited_share);
    let shares = [facts.steal_share, findings.steal_share];
    facts.steal_share = shares.into_iter().flatten().max_by(f64::total_cmp);
}

struct Merging {
    agents: Vec<Agent>,
    reasons: Vec<Reason>,
    drivers: Vec<String>,
}

impl Merging {
    fn whole(&mut self, address: String, findings: Findings, (scheduled, received): (u64, u64)) {
        let driver = line_shown(&findings.driver);
        if !self.drivers.contains(&driver) {
            self.drivers.push(driver);
        }
        let reasons = findings.verdict.reasons.into_iter().take(REASONS_MAX);
        self.reasons.extend(reasons.map(|reason| Reason {
            text: format!("agent {address}: {}", line_shown(&reason.text)),
            code: line_shown(&reason.code).into(),
            level: reason.level,
        }));
        self.agents.push(Agent {
            address,
            level: findings.verdict.level,
            lost: None,
            scheduled,
            received,
            generator_cpus: findings.generator_cpus,
            environment: findings.environment,
        });
    }

    fn lost(&mut self, address: String, why: &str) {
        self.reasons.push(Reason {
            level: Level::Invalid,
            code: "agent_lost".into(),
            text: format!("agent {address}: {why}; its part is missing"),
        });
        self.agents.push(Agent {
            address,
            level: Level::Invalid,
            lost: Some(why.to_owned()),
            scheduled: 0,
            received: 0,
            generator_cpus: Vec::new(),
            environment: Value::Null,
        });
    }
}
