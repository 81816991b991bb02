//! VALID, SUSPECT or INVALID: whether the run measured the server or the generator.
//!
//! Above: `measurement` states the facts, reports print the reasons. Below: nothing.
//! Absent: opinions about the server: a slow server is a valid result. Every rule is one
//! function from `Facts` to at most one reason, with its limit beside it.
//!
//! Limits in time are set by what a quiet virtual machine with two cores does on its own: the
//! hypervisor and the kernel take a pinned, spinning thread off its CPU for some 100 µs every few
//! milliseconds and for 1 to 10 ms a few times a minute. They are floors: on bare metal the
//! relative limits bind first.

use serde::Serialize;

use crate::quantity::{count_shown, time_shown};

/// Difference between sent and scheduled rate that makes a run INVALID.
const RATE_DIFFERENCE_MAX: f64 = 0.01;
/// Fewer missing messages than this are rounding at the end of the run.
const RATE_MISSING_MIN: u64 = 5;
/// Send lag p99 as a share of the response time p50 that is too much.
const LAG_SHARE_MAX: f64 = 0.1;
/// Send lag p99 below which a run is never SUSPECT for it.
const LAG_SUSPECT_FLOOR_NS: u64 = 100_000;
/// Send lag p99 below which a run is never INVALID for it.
const LAG_INVALID_FLOOR_NS: u64 = 1_000_000;
/// Growth of the mean send lag from the first to the last quarter that makes a run INVALID.
const LAG_GROWTH_MAX_NS: f64 = 1_000_000.0;
/// Standstill of the generator that makes a run SUSPECT.
const GAP_SUSPECT_NS: u64 = 30_000_000;
/// Standstill of the generator that makes a run INVALID.
const GAP_INVALID_NS: u64 = 100_000_000;
/// Share of its time the generator may be at work.
const BUSY_SHARE_MAX: f64 = 0.9;
/// Share of its time a generator may wait while other work has its CPU.
const WAITED_SHARE_MAX: f64 = 0.02;
/// Share of the generator's CPU time the hypervisor may take.
const STEAL_SHARE_MAX: f64 = 0.01;
/// Ratio of the medians of both halves from which a run is not steady.
const HALVES_RATIO_MAX: f64 = 1.5;
/// Difference of the medians of both halves below which they are equal.
const HALVES_DIFFERENCE_MIN_NS: u64 = 50_000;
/// Clock sources that are read without a trip into a hypervisor or a chip.
const CLOCKS_GOOD: [&str; 4] =
    ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"];

/// How far a run can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Reason {
    /// What it does to the verdict.
    pub(crate) level: Level,
    /// Stable short name for scripts.
    pub(crate) code: &'static str,
    /// The sentence for people.
    pub(crate) text: String,
}

/// The verdict of a run.
#[derive(Debug, Clone, Serialize)]
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
    /// Asked rate, in messages per second.
    pub(crate) rate_per_s: f64,
    /// Messages of the measured part the schedule asked for.
    pub(crate) scheduled: u64,
    /// Of these, sent before the measured part ended.
    pub(crate) submitted_in_time: u64,
    /// Of these, never sent: at depth, queue full, disconnected, never reached.
    pub(crate) skipped: [u64; 4],
    /// Answered.
    pub(crate) received: u64,
    /// Sent and not answered.
    pub(crate) unanswered: u64,
    /// Replies that are no echo of an open message.
    pub(crate) unmatched: u64,
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
    /// Median response time of both halves.
    pub(crate) median_of_halves_ns: Option<(u64, u64)>,
    /// The run was cut short: why, and when.
    pub(crate) early_end: Option<(EarlyEnd, u64)>,
}

/// Applies every rule.
pub(crate) fn judge(facts: &Facts) -> Verdict {
    const RULES: [fn(&Facts) -> Option<Reason>; 18] = [
        nothing_measured,
        ended_early,
        ledger,
        skipped,
        rate,
        lag,
        lag_growth,
        gap,
        disconnected,
        unmatched,
        unanswered,
        busy,
        moved,
        starved,
        cpu,
        clock,
        steady,
        driver,
    ];
    let mut reasons: Vec<Reason> = RULES.iter().filter_map(|rule| rule(facts)).collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.level));
    let level = reasons.first().map_or(Level::Valid, |reason| reason.level);
    Verdict { level, reasons }
}

fn reason(level: Level, code: &'static str, text: String) -> Option<Reason> {
    Some(Reason { level, code, text })
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn nothing_measured(facts: &Facts) -> Option<Reason> {
    if facts.received > 0 {
        return None;
    }
    let text = "not one reply was measured".to_owned();
    reason(Level::Invalid, "nothing_measured", text)
}

fn ended_early(facts: &Facts) -> Option<Reason> {
    let (why, at_ns) = facts.early_end?;
    let at = time_shown(at_ns);
    let (level, code, text) = match why {
        EarlyEnd::Signal => (Level::Valid, "interrupted", format!("ended by a signal after {at}")),
        EarlyEnd::OutOfReach => (
            Level::Invalid,
            "out_of_reach",
            format!(
                "given up after {at}: {} messages/s are out of reach of this generator; \
                 ask for less or give it more --cores",
                count_shown(facts.rate_per_s as u64)
            ),
        ),
        EarlyEnd::NoConnection => {
            (Level::Invalid, "no_connection", format!("no connection was left after {at}"))
        }
    };
    reason(level, code, text)
}

fn ledger(facts: &Facts) -> Option<Reason> {
    if facts.ledger_closes {
        return None;
    }
    let text = "the ledger does not close: this is a bug of loadgen, please report it".to_owned();
    reason(Level::Invalid, "ledger", text)
}

fn skipped(facts: &Facts) -> Option<Reason> {
    let total: u64 = facts.skipped.iter().sum();
    if total == 0 {
        return None;
    }
    let parts = [
        "at --depth unanswered",
        "send queue full",
        "connection gone",
        "never reached before the end",
    ];
    let parts = facts.skipped.iter().zip(parts).filter(|(count, _)| **count > 0);
    let parts: Vec<_> = parts.map(|(n, why)| format!("{} {why}", count_shown(*n))).collect();
    let text = format!(
        "{} of {} scheduled messages were not sent ({})",
        count_shown(total),
        count_shown(facts.scheduled),
        parts.join(", ")
    );
    reason(Level::Invalid, "skipped", text)
}

fn rate(facts: &Facts) -> Option<Reason> {
    let missing = facts.scheduled.saturating_sub(facts.submitted_in_time);
    let share = missing as f64 / facts.scheduled.max(1) as f64;
    if !facts.open_loop || share <= RATE_DIFFERENCE_MAX || missing <= RATE_MISSING_MIN {
        return None;
    }
    let text = format!(
        "the generator sent {} less than its schedule (limit {})",
        percent(share),
        percent(RATE_DIFFERENCE_MAX)
    );
    reason(Level::Invalid, "rate", text)
}

fn lag(facts: &Facts) -> Option<Reason> {
    let lag_ns = facts.lag_p99_ns.filter(|_| facts.open_loop)?;
    let share_ns = (facts.response_p50_ns? as f64 * LAG_SHARE_MAX) as u64;
    let (level, limit_ns) = match share_ns {
        s if lag_ns > s.max(LAG_INVALID_FLOOR_NS) => (Level::Invalid, s.max(LAG_INVALID_FLOOR_NS)),
        s if lag_ns > s.max(LAG_SUSPECT_FLOOR_NS) => (Level::Suspect, s.max(LAG_SUSPECT_FLOOR_NS)),
        _ => return None,
    };
    let text = format!(
        "the generator sent late: send lag p99 {} (limit {})",
        time_shown(lag_ns),
        time_shown(limit_ns)
    );
    reason(level, "lag", text)
}

fn lag_growth(facts: &Facts) -> Option<Reason> {
    let quarters = facts.lag_by_quarter_ns.filter(|_| facts.open_loop)?;
    let rises = quarters.is_sorted();
    if !rises || quarters[3] - quarters[0] <= LAG_GROWTH_MAX_NS {
        return None;
    }
    let text = format!(
        "the generator fell behind more and more: mean send lag grew from {} to {}",
        time_shown(quarters[0] as u64),
        time_shown(quarters[3] as u64)
    );
    reason(Level::Invalid, "lag_growth", text)
}

fn gap(facts: &Facts) -> Option<Reason> {
    let level = match facts.longest_gap_ns {
        gap_ns if gap_ns > GAP_INVALID_NS => Level::Invalid,
        gap_ns if gap_ns > GAP_SUSPECT_NS => Level::Suspect,
        _ => return None,
    };
    let text = format!(
        "the generator stood still for {} at {} (limit {})",
        time_shown(facts.longest_gap_ns),
        time_shown(facts.longest_gap_at_ns),
        time_shown(if level == Level::Invalid { GAP_INVALID_NS } else { GAP_SUSPECT_NS })
    );
    reason(level, "gap", text)
}

fn disconnected(facts: &Facts) -> Option<Reason> {
    let (at_ns, why) = facts.first_disconnection.as_ref()?;
    let text = format!(
        "{} of {} connections ended during the run, the first at {}: {why}",
        facts.disconnections,
        facts.connections,
        time_shown(*at_ns)
    );
    reason(Level::Invalid, "disconnected", text)
}

fn unmatched(facts: &Facts) -> Option<Reason> {
    if facts.unmatched == 0 {
        return None;
    }
    let text = format!(
        "{} replies are not the echo of an open message; does the server echo \
         length-prefixed frames unchanged?",
        count_shown(facts.unmatched)
    );
    reason(Level::Invalid, "unmatched", text)
}

fn unanswered(facts: &Facts) -> Option<Reason> {
    if facts.unanswered == 0 {
        return None;
    }
    let text = format!(
        "{} messages were not answered; they count as slower than all others",
        count_shown(facts.unanswered)
    );
    reason(Level::Suspect, "unanswered", text)
}

fn busy(facts: &Facts) -> Option<Reason> {
    if facts.busy_share <= BUSY_SHARE_MAX || !facts.open_loop {
        return None;
    }
    let text = format!(
        "a generator was at work for {} of its time (limit {}); give it more --cores",
        percent(facts.busy_share),
        percent(BUSY_SHARE_MAX)
    );
    reason(Level::Suspect, "busy", text)
}

fn moved(facts: &Facts) -> Option<Reason> {
    if facts.cpu_moves == 0 {
        return None;
    }
    let text = format!("a generator was moved between CPUs {} times", facts.cpu_moves);
    reason(Level::Suspect, "moved", text)
}

fn starved(facts: &Facts) -> Option<Reason> {
    if facts.waited_share <= WAITED_SHARE_MAX {
        return None;
    }
    let text = format!(
        "other work had a generator's CPU for {} of its time (limit {}); keep it free",
        percent(facts.waited_share),
        percent(WAITED_SHARE_MAX)
    );
    reason(Level::Suspect, "starved", text)
}

fn cpu(facts: &Facts) -> Option<Reason> {
    if facts.shares_cpu {
        let text = "server and generator share a CPU: each slows the other; use two CPUs or \
                    another host for the server";
        return reason(Level::Suspect, "shared_cpu", text.to_owned());
    }
    let share = facts.steal_share.filter(|share| *share > STEAL_SHARE_MAX)?;
    let text = format!(
        "the hypervisor took {} of a generator's CPU (limit {})",
        percent(share),
        percent(STEAL_SHARE_MAX)
    );
    reason(Level::Suspect, "steal", text)
}

fn clock(facts: &Facts) -> Option<Reason> {
    let clock = facts.clock.as_ref().filter(|clock| !CLOCKS_GOOD.contains(&clock.as_str()))?;
    let text = format!("the clock source is {clock}: reading it is slow or coarse");
    reason(Level::Suspect, "clock", text)
}

fn steady(facts: &Facts) -> Option<Reason> {
    let (first_ns, second_ns) = facts.median_of_halves_ns?;
    let (low_ns, high_ns) = (first_ns.min(second_ns), first_ns.max(second_ns));
    let differ = high_ns as f64 > low_ns as f64 * HALVES_RATIO_MAX;
    if !differ || high_ns - low_ns <= HALVES_DIFFERENCE_MIN_NS {
        return None;
    }
    let text = format!(
        "the run was not steady: response time p50 {} in its first half, {} in its second; \
         try a longer --warmup",
        time_shown(first_ns),
        time_shown(second_ns)
    );
    reason(Level::Suspect, "unsteady", text)
}

fn driver(facts: &Facts) -> Option<Reason> {
    facts.driver_reason.clone().and_then(|why| reason(Level::Valid, "driver", why))
}

#[cfg(test)]
#[path = "tests/verdict.rs"]
mod tests;
