//! The rules of the verdict, with their limits.
//!
//! Above: `verdict` applies them. Below: `quantity` words the reasons. Absent: side effects;
//! each rule sees the facts and states at most one reason.
//!
//! Limits in time are set by what a quiet virtual machine with two cores does on its own: the
//! hypervisor and the kernel take a pinned, spinning thread off its CPU for some 100 µs every few
//! milliseconds and for 1 to 10 ms a few times a minute. They are floors: on bare metal the
//! relative limits bind first.

use super::{EarlyEnd, Facts, Level, Reason};
use crate::quantity::{count_shown, time_shown};
use crate::recorder::Strays;

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

/// All of them.
pub(super) const RULES: [fn(&Facts) -> Option<Reason>; 20] = [
    nothing_measured,
    ended_early,
    ledger,
    skipped,
    refused,
    rate,
    lag,
    lag_growth,
    gap,
    disconnected,
    churn,
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

fn reason(level: Level, code: &'static str, text: String) -> Option<Reason> {
    Some(Reason { level, code: code.into(), text })
}

/// What an overload brings about is only worth a note if it was meant.
const fn by_overload(facts: &Facts) -> Level {
    if facts.overload { Level::Valid } else { Level::Suspect }
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
    let parts = ["at --depth unanswered", "connection gone", "never reached before the end"];
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

fn refused(facts: &Facts) -> Option<Reason> {
    if facts.refused == 0 {
        return None;
    }
    let text = format!(
        "{} messages found the send queue of their connection full; they count as slower than \
         all others",
        count_shown(facts.refused)
    );
    reason(by_overload(facts), "refused", text)
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

fn churn(facts: &Facts) -> Option<Reason> {
    let [asked, made, failed] = facts.renewals;
    let missing = asked.saturating_sub(made);
    let behind = missing > RATE_MISSING_MIN && missing as f64 > asked as f64 * RATE_DIFFERENCE_MAX;
    if failed == 0 && !behind {
        return None;
    }
    let why = facts.first_failed_renewal.as_deref().map_or(String::new(), |why| format!(": {why}"));
    let text = format!(
        "{} of {} connections were made anew, {} could not be or did not close in order{why}",
        count_shown(made),
        count_shown(asked),
        count_shown(failed)
    );
    reason(if behind { Level::Invalid } else { Level::Suspect }, "churn", text)
}

fn unmatched(facts: &Facts) -> Option<Reason> {
    let Strays { unmatched, duplicated, .. } = facts.strays;
    let unmatched = if facts.datagrams { unmatched } else { unmatched + duplicated };
    if unmatched == 0 {
        return None;
    }
    let text = format!(
        "{} replies are not the echo of an open message; does the server echo \
         length-prefixed frames unchanged?",
        count_shown(unmatched)
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
    reason(by_overload(facts), "unanswered", text)
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
    reason(by_overload(facts), "unsteady", text)
}

fn driver(facts: &Facts) -> Option<Reason> {
    facts.driver_reason.clone().and_then(|why| reason(Level::Valid, "driver", why))
}
