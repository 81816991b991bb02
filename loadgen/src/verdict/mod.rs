//! VALID, SUSPECT or INVALID: whether the run measured the server or the generator.
//!
//! Above: `measurement` states the facts, reports print the reasons. Below: `rules`.
//! Absent: opinions about the server: a slow server is a valid result. Every rule is one
//! function from `Facts` to at most one reason, with its limit beside it.

mod rules;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::recorder::Strays;

/// How far a run can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Level {
    /// The figures are the server's.
    Valid,
    /// They may be, but something was not as it should be.
    Suspect,
    /// They must not be quoted.
    Invalid,
}

impl Level {
    /// The word in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Valid => "VALID",
            Self::Suspect => "SUSPECT",
            Self::Invalid => "INVALID",
        }
    }
}

/// One observation; those of level `Valid` are notes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reason {
    /// What it does to the verdict.
    pub(crate) level: Level,
    /// Stable short name for scripts.
    pub(crate) code: Cow<'static, str>,
    /// The sentence for people.
    pub(crate) text: String,
}

/// The verdict of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// The worst level of all reasons.
    pub(crate) level: Level,
    /// Worst first.
    pub(crate) reasons: Vec<Reason>,
}

/// Why a run ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EarlyEnd {
    /// The user said so (SIGINT or SIGTERM).
    Signal,
    /// The schedule was out of reach: the generator gave up.
    OutOfReach,
    /// No connection was left.
    NoConnection,
}

/// What is known about a run, as far as it bears on its credibility.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// False: closed loop, there is no schedule to fall behind.
    pub(crate) open_loop: bool,
    /// More is asked than the path can bear, on purpose: what follows from that is no fault.
    pub(crate) overload: bool,
    /// Asked rate, in messages per second.
    pub(crate) rate_per_s: f64,
    /// Messages of the measured part the schedule asked for.
    pub(crate) scheduled: u64,
    /// Of these, sent before the measured part ended.
    pub(crate) submitted_in_time: u64,
    /// Of these, never sent: at depth, disconnected, never reached.
    pub(crate) skipped: [u64; 3],
    /// Of these, not taken by a full send queue.
    pub(crate) refused: u64,
    /// Answered.
    pub(crate) received: u64,
    /// Sent and not answered.
    pub(crate) unanswered: u64,
    /// Each message is a datagram, which its path may lose, bring twice or out of turn.
    pub(crate) datagrams: bool,
    /// Replies that are no echo of an open message, or came twice or out of turn.
    pub(crate) strays: Strays,
    /// False if the ledger does not close: a bug of the generator.
    pub(crate) ledger_closes: bool,
    /// 99th percentile of the send lag.
    pub(crate) lag_p99_ns: Option<u64>,
    /// Median response time.
    pub(crate) response_p50_ns: Option<u64>,
    /// Mean send lag in each quarter of the run.
    pub(crate) lag_by_quarter_ns: Option<[f64; 4]>,
    /// Longest time between two turns of a generator.
    pub(crate) longest_gap_ns: u64,
    /// Where it began, in nanoseconds since the start of the run.
    pub(crate) longest_gap_at_ns: u64,
    /// Largest share of its time a generator was at work.
    pub(crate) busy_share: f64,
    /// How often a generator was seen on another CPU than before.
    pub(crate) cpu_moves: u64,
    /// Largest share of its time a generator was ready and others had its CPU.
    pub(crate) waited_share: f64,
    /// Largest share of a generator CPU's time that the hypervisor took.
    pub(crate) steal_share: Option<f64>,
    /// The embedded server has no CPU of its own.
    pub(crate) shares_cpu: bool,
    /// Why the generators do not use the preferred driver.
    pub(crate) driver_reason: Option<String>,
    /// The kernel's clock source.
    pub(crate) clock: Option<String>,
    /// Connections asked for, ended, and why the first one ended.
    pub(crate) connections: u32,
    /// How many ended.
    pub(crate) disconnections: u32,
    /// The first: when, and why.
    pub(crate) first_disconnection: Option<(u64, String)>,
    /// Connections that were to be made anew, that were, and that failed to be or to close.
    pub(crate) renewals: [u64; 3],
    /// Why the first of these failed.
    pub(crate) first_failed_renewal: Option<String>,
    /// Median response time of both halves.
    pub(crate) median_of_halves_ns: Option<(u64, u64)>,
    /// The run was cut short: why, and when.
    pub(crate) early_end: Option<(EarlyEnd, u64)>,
}

impl Verdict {
    /// As bad as the worst of `reasons`.
    pub(crate) fn of(mut reasons: Vec<Reason>) -> Self {
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.level));
        let level = reasons.first().map_or(Level::Valid, |reason| reason.level);
        Self { level, reasons }
    }
}

/// Applies every rule.
pub(crate) fn judge(facts: &Facts) -> Verdict {
    Verdict::of(rules::RULES.iter().filter_map(|rule| rule(facts)).collect())
}

#[cfg(test)]
#[path = "../tests/verdict.rs"]
mod tests;
