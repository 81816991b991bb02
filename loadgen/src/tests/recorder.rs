//! Tests of the books, and of the truth they tell about a stall.

use super::*;
use crate::pace::{Gaps, Schedule, Share};
use crate::statistics::percentiles;

const SECOND_NS: u64 = 1_000_000_000;

fn bounds() -> Bounds {
    Bounds {
        connections: 2,
        depth: 4,
        size: 64,
        warmup_ns: 1_000,
        end_ns: SECOND_NS,
        closed_loop: false,
    }
}

fn due(intended_ns: u64, connection: u32) -> Due {
    Due { intended_ns, connection }
}

fn send(books: &mut Recorder, due: Due, now_ns: u64) -> Option<Vec<u8>> {
    let mut payload = vec![0; books.bounds.size];
    if !books.admit(due, &mut payload) {
        return None;
    }
    books.submitted(due, now_ns);
    Some(payload)
}

fn close(books: &mut Recorder) {
    books.finish();
    assert!(books.warmup.closes(), "{:?}", books.warmup);
    assert!(books.measured.closes(), "{:?}", books.measured);
}

#[test]
fn a_reply_is_timed_from_the_intended_send() {
    let mut books = Recorder::new(bounds());
    let payload = send(&mut books, due(2_000, 1), 5_000).expect("room");
    books.replied(1, &payload, 12_000);
    close(&mut books);
    let one = |latencies: &Latencies| latencies.max_ns().expect("one sample");
    assert!(one(&books.response).abs_diff(10_000) <= 8);
    assert!(one(&books.service).abs_diff(7_000) <= 8);
    assert!(one(&books.lag).abs_diff(3_000) <= 8);
    assert_eq!(books.measured.received, 1);
}

#[test]
fn warm_up_is_counted_but_not_measured() {
    let mut books = Recorder::new(bounds());
    let payload = send(&mut books, due(999, 0), 2_000).expect("room");
    books.replied(0, &payload, 3_000);
    close(&mut books);
    assert_eq!((books.warmup.received, books.measured.scheduled), (1, 0));
    assert_eq!((books.response.count(), books.lag.count()), (0, 0));
}

#[test]
fn the_depth_is_a_limit_and_what_exceeds_it_is_skipped() {
    let mut books = Recorder::new(bounds());
    let sent: Vec<_> = (0..6).map(|n| send(&mut books, due(2_000 + n, 0), 3_000)).collect();
    assert_eq!(sent.iter().flatten().count(), 4);
    assert_eq!(books.measured.skipped.at_depth, 2);
    books.replied(0, sent[0].as_ref().expect("the first was sent"), 4_000);
    assert!(send(&mut books, due(2_010, 0), 4_000).is_some(), "room again");
    close(&mut books);
    assert_eq!(books.measured.in_flight, 4);
}

#[test]
fn replies_may_come_in_any_order_but_only_once() {
    let mut books = Recorder::new(bounds());
    let first = send(&mut books, due(2_000, 0), 2_000).expect("room");
    let second = send(&mut books, due(2_001, 0), 2_001).expect("room");
    books.replied(0, &second, 3_000);
    books.replied(0, &second, 3_000);
    books.replied(1, &first, 3_000);
    books.replied(0, &first[..60], 3_000);
    assert_eq!((books.measured.received, books.unmatched), (1, 3));
    books.replied(0, &first, 3_000);
    close(&mut books);
    assert_eq!((books.measured.received, books.unmatched), (2, 3));
}

#[test]
fn a_forged_number_matches_nothing() {
    let mut books = Recorder::new(bounds());
    send(&mut books, due(2_000, 0), 2_000).expect("room");
    books.replied(0, &[0xff; 64], 3_000);
    books.replied(1, &[0xff; 64], 3_000);
    books.replied(0, &[], 3_000);
    close(&mut books);
    assert_eq!((books.unmatched, books.measured.in_flight), (3, 1));
}

#[test]
fn small_payloads_are_matched_by_order() {
    let mut books = Recorder::new(Bounds { size: 3, ..bounds() });
    for n in 0..3 {
        assert_eq!(send(&mut books, due(2_000 + n * 100, 0), 3_000), Some(vec![0; 3]));
    }
    books.replied(0, &[0; 3], 4_000);
    books.replied(0, &[0; 3], 4_000);
    close(&mut books);
    assert_eq!((books.measured.received, books.measured.in_flight), (2, 1));
    assert!(books.response.max_ns().is_some_and(|ns| ns.abs_diff(2_000) <= 2));
}

#[test]
fn an_ended_connection_loses_its_messages_and_takes_no_more() {
    let mut books = Recorder::new(bounds());
    send(&mut books, due(500, 0), 500).expect("room");
    send(&mut books, due(2_000, 0), 2_000).expect("room");
    send(&mut books, due(2_000, 1), 2_000).expect("room");
    books.disconnected(0, 2_500, "reset by the peer".to_owned());
    books.disconnected(0, 2_600, "twice".to_owned());
    assert!(send(&mut books, due(3_000, 0), 3_000).is_none());
    assert!(!books.all_disconnected());
    books.refused(due(0, 1), Refusal::QueueFull);
    books.warmup.scheduled += 1;
    close(&mut books);
    assert_eq!((books.warmup.lost, books.measured.lost, books.measured.in_flight), (1, 1, 1));
    assert_eq!(books.measured.skipped.disconnected, 1);
    assert_eq!(books.first_disconnection.as_ref().map(|d| d.at_ns), Some(2_500));
    books.disconnected(1, 4_000, String::new());
    assert!(books.all_disconnected());
}

#[test]
fn a_closed_loop_keeps_depth_messages_going() {
    let mut books = Recorder::new(Bounds { closed_loop: true, ..bounds() });
    assert_eq!(books.ready.len(), 8);
    let connection = books.next_ready().expect("eight are ready");
    let payload = send(&mut books, due(2_000, connection), 2_000).expect("room");
    books.replied(connection, &payload, 3_000);
    assert_eq!(books.ready.len(), 8);
    let connection = books.next_ready().expect("eight are ready");
    assert!(books.admit(due(3_000, connection), &mut [0; 64]));
    books.refused(due(3_000, connection), Refusal::QueueFull);
    assert_eq!(books.ready.len(), 8, "it waits for its turn");
    books.disconnected(0, 4_000, String::new());
    assert!((0..4).all(|_| books.next_ready() == Some(1)));
    assert_eq!(books.next_ready(), None, "the ended connection is passed over");
    close(&mut books);
}

#[test]
fn merged_books_add_up_and_keep_the_first_disconnection() {
    let mut one = Recorder::new(bounds());
    let mut two = Recorder::new(bounds());
    let payload = send(&mut one, due(2_000, 0), 2_000).expect("room");
    one.replied(0, &payload, 9_000);
    one.disconnected(1, 8_000, "later".to_owned());
    send(&mut two, due(2_000, 0), 2_000).expect("room");
    two.disconnected(0, 7_000, "earlier".to_owned());
    one.finish();
    two.finish();
    one.merge(&two);
    assert!(one.measured.closes());
    assert_eq!((one.measured.submitted, one.measured.lost, one.disconnections), (2, 1, 2));
    assert_eq!(one.first_disconnection.map(|d| d.reason).as_deref(), Some("earlier"));
}

/// The bar of coordinated omission: 1 000 messages/s for 10 s, the server answers at once but
/// stands still for one second. In theory p95 = 0.5 s, p99 = 0.9 s, p99.9 = 0.99 s, max = 1 s.
#[test]
fn a_stall_of_one_second_is_told_truthfully() {
    let end_ns = 10 * SECOND_NS;
    let bounds = Bounds { connections: 50, depth: 1_024, warmup_ns: 0, end_ns, ..bounds() };
    let mut books = Recorder::new(bounds);
    let share = Share {
        worker: 0,
        workers: 1,
        rate_per_s: 1_000.0,
        connections: bounds.connections,
        end_ns,
        seed: 1,
    };
    let mut schedule = Schedule::new(Gaps::Equal, share);
    let (stall, awake) = (4 * SECOND_NS, 5 * SECOND_NS);
    let mut waiting: Vec<(u32, Vec<u8>)> = Vec::new();
    while let Some(due) = schedule.take_due(u64::MAX) {
        if due.intended_ns >= awake {
            for (connection, payload) in waiting.drain(..) {
                books.replied(connection, &payload, awake);
            }
        }
        let payload = send(&mut books, due, due.intended_ns).expect("depth enough");
        if (stall..awake).contains(&due.intended_ns) {
            waiting.push((due.connection, payload));
        } else {
            books.replied(due.connection, &payload, due.intended_ns + 50_000);
        }
    }
    close(&mut books);
    assert_eq!(books.measured.received, 10_000);
    let found = percentiles(&books.response, 0, &[0.5, 0.95, 0.99, 0.999]);
    let within = |at: usize, want_s: f64| {
        let value_s = found[at].value_ns.expect("ten samples lie above") as f64 / 1e9;
        assert!((value_s / want_s - 1.0).abs() < 0.05, "{value_s} s for {want_s} s");
    };
    within(0, 50e-6);
    within(1, 0.5);
    within(2, 0.9);
    within(3, 0.99);
    assert!(books.response.max_ns().is_some_and(|ns| ns.abs_diff(SECOND_NS) < SECOND_NS / 100));
    let stalled = &books.timeline.intervals()[40];
    assert!(stalled.response_ns(0.5).is_some_and(|ns| ns > 900_000_000), "shown where it began");
}
