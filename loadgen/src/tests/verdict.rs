//! Tests of the rules: a good run passes, and each fault alone is found.

use super::*;

const MS: u64 = 1_000_000;

fn good() -> Facts {
    Facts {
        open_loop: true,
        rate_per_s: 20_000.0,
        scheduled: 200_000,
        submitted_in_time: 199_999,
        received: 200_000,
        ledger_closes: true,
        lag_p99_ns: Some(9_000),
        response_p50_ns: Some(40_000),
        lag_by_quarter_ns: Some([500.0, 700.0, 600.0, 900.0]),
        longest_gap_ns: 4 * MS,
        busy_share: 0.3,
        steal_share: Some(0.001),
        clock: Some("tsc".to_owned()),
        connections: 50,
        median_of_halves_ns: Some((40_000, 42_000)),
        ..Facts::default()
    }
}

fn found(facts: &Facts) -> (Level, Vec<&'static str>) {
    let verdict = judge(facts);
    let known = |reason: Reason| match reason.code {
        Cow::Borrowed(code) => code,
        Cow::Owned(code) => panic!("{code} is no code of a rule"),
    };
    (verdict.level, verdict.reasons.into_iter().map(known).collect())
}

#[track_caller]
fn expect(facts: Facts, level: Level, code: &'static str) {
    assert_eq!(found(&facts), (level, vec![code]));
}

#[test]
fn a_good_run_is_valid_without_reasons() {
    assert_eq!(found(&good()), (Level::Valid, vec![]));
}

#[test]
fn what_was_not_sent_makes_it_invalid() {
    expect(Facts { skipped: [1, 0, 0], ..good() }, Level::Invalid, "skipped");
    expect(Facts { submitted_in_time: 197_000, ..good() }, Level::Invalid, "rate");
    let rounding = Facts { scheduled: 50, submitted_in_time: 47, ..good() };
    assert_eq!(found(&rounding).0, Level::Valid, "three of fifty are rounding");
}

#[test]
fn lag_is_judged_by_the_median_and_by_floors() {
    let lag = |lag_ns, p50_ns| Facts {
        lag_p99_ns: Some(lag_ns),
        response_p50_ns: Some(p50_ns),
        ..good()
    };
    assert_eq!(found(&lag(99_000, 40_000)).0, Level::Valid);
    expect(lag(101_000, 40_000), Level::Suspect, "lag");
    expect(lag(1_001_000, 40_000), Level::Invalid, "lag");
    assert_eq!(found(&lag(4 * MS, 50 * MS)).0, Level::Valid, "a tenth of the median is fine");
    expect(lag(6 * MS, 50 * MS), Level::Invalid, "lag");
}

#[test]
fn lag_that_grows_makes_it_invalid_and_a_hump_does_not() {
    let quarters = |quarters| Facts { lag_by_quarter_ns: Some(quarters), ..good() };
    expect(quarters([1e3, 1e6, 2e6, 3e6]), Level::Invalid, "lag_growth");
    assert_eq!(found(&quarters([1e3, 4e6, 3e6, 2e6])).0, Level::Valid);
    assert_eq!(found(&quarters([1e3, 1e4, 1e5, 2e5])).0, Level::Valid, "below the floor");
}

#[test]
fn a_generator_that_stood_still_is_found() {
    expect(Facts { longest_gap_ns: 1_000 * MS, ..good() }, Level::Invalid, "gap");
    expect(Facts { longest_gap_ns: 31 * MS, ..good() }, Level::Suspect, "gap");
}

#[test]
fn faults_of_the_connection_are_found() {
    let first_disconnection = Some((3, "reset by the peer".to_owned()));
    let gone = Facts { disconnections: 1, first_disconnection, ..good() };
    assert!(judge(&gone).reasons[0].text.contains("reset by the peer"));
    expect(gone, Level::Invalid, "disconnected");
    let strays = Strays { unmatched: 1, ..Strays::default() };
    expect(Facts { strays, ..good() }, Level::Invalid, "unmatched");
    let strays = Strays { duplicated: 1, ..Strays::default() };
    expect(Facts { strays, ..good() }, Level::Invalid, "unmatched");
    let on_a_path = Facts { strays, datagrams: true, ..good() };
    assert_eq!(found(&on_a_path), (Level::Valid, vec![]), "a path may bring datagrams twice");
    expect(Facts { unanswered: 1, ..good() }, Level::Suspect, "unanswered");
    expect(Facts { refused: 1, ..good() }, Level::Suspect, "refused");
    expect(Facts { received: 0, ..good() }, Level::Invalid, "nothing_measured");
    expect(Facts { ledger_closes: false, ..good() }, Level::Invalid, "ledger");
}

#[test]
fn connections_that_were_not_made_anew_are_told_with_the_reason() {
    let renewals =
        |renewals| Facts { renewals, first_failed_renewal: Some("refused".to_owned()), ..good() };
    assert_eq!(found(&renewals([100, 98, 0])).0, Level::Valid, "the last are still being made");
    assert!(judge(&renewals([100, 99, 1])).reasons[0].text.contains("anew, 1 could"));
    expect(renewals([100, 99, 1]), Level::Suspect, "churn");
    assert!(judge(&renewals([100, 50, 50])).reasons[0].text.contains("refused"));
    expect(renewals([100, 50, 50]), Level::Invalid, "churn");
}

#[test]
fn faults_of_the_machine_make_it_suspect() {
    expect(Facts { busy_share: 0.91, ..good() }, Level::Suspect, "busy");
    expect(Facts { cpu_moves: 1, ..good() }, Level::Suspect, "moved");
    expect(Facts { waited_share: 0.03, ..good() }, Level::Suspect, "starved");
    expect(Facts { shares_cpu: true, ..good() }, Level::Suspect, "shared_cpu");
    expect(Facts { steal_share: Some(0.02), ..good() }, Level::Suspect, "steal");
    expect(Facts { clock: Some("hpet".to_owned()), ..good() }, Level::Suspect, "clock");
    let halves = Some((40_000, 140_000));
    expect(Facts { median_of_halves_ns: halves, ..good() }, Level::Suspect, "unsteady");
}

#[test]
fn a_driver_of_second_choice_is_noted() {
    let driver_reason = Some("io_uring was refused".to_owned());
    expect(Facts { driver_reason, ..good() }, Level::Valid, "driver");
}

#[test]
fn an_early_end_is_told() {
    let end = |why| Facts { early_end: Some((why, 5 * MS)), ..good() };
    expect(end(EarlyEnd::Signal), Level::Valid, "interrupted");
    expect(end(EarlyEnd::OutOfReach), Level::Invalid, "out_of_reach");
    expect(end(EarlyEnd::NoConnection), Level::Invalid, "no_connection");
}

#[test]
fn what_a_meant_overload_brings_about_is_a_note() {
    let overloaded = |facts| Facts { overload: true, ..facts };
    expect(overloaded(Facts { refused: 1, ..good() }), Level::Valid, "refused");
    expect(overloaded(Facts { unanswered: 1, ..good() }), Level::Valid, "unanswered");
    let halves = Some((40 * MS, 400 * MS));
    let unsteady = Facts { median_of_halves_ns: halves, ..good() };
    expect(overloaded(unsteady), Level::Valid, "unsteady");
    let late = Facts { longest_gap_ns: 1_000 * MS, ..good() };
    expect(overloaded(late), Level::Invalid, "gap");
}

#[test]
fn a_closed_loop_has_no_schedule_to_miss() {
    let closed = Facts {
        open_loop: false,
        submitted_in_time: 0,
        lag_p99_ns: Some(5 * MS),
        busy_share: 1.0,
        ..good()
    };
    assert_eq!(found(&closed).0, Level::Valid);
}

#[test]
fn the_worst_reason_comes_first_and_sets_the_level() {
    let strays = Strays { unmatched: 1, ..Strays::default() };
    let facts = Facts { unanswered: 2, strays, cpu_moves: 3, ..good() };
    assert_eq!(found(&facts), (Level::Invalid, vec!["unmatched", "unanswered", "moved"]));
}
