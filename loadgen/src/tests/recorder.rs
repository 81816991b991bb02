//! Tests of the books, and of the truth they tell about a stall.

use super::*;
use crate::pace::{Gaps, Part, Schedule, Share, seed_of};
use crate::statistics::percentiles;
use crate::workload::{Kind, Sampler, Sizes};

const SECOND_NS: u64 = 1_000_000_000;

fn plain(size: u32) -> Bounds {
    Bounds {
        connections: 2,
        depth: 4,
        workload: Arc::new(Workload::plain(Sizes::fixed(size))),
        warmup_ns: 1_000,
        end_ns: SECOND_NS,
        closed_loop: false,
        patience_ns: None,
        scale: None,
    }
}

fn bounds() -> Bounds {
    plain(64)
}

/// An urgent class with a deadline of 10 us and a class for the rest.
fn watched() -> Bounds {
    let classes = ["name=urgent,share=50%,lifetime=10us", "name=bulk,niceness=2"];
    let none = |_: &str| Err(String::new());
    let workload = Workload::of_flags(&classes.map(ToOwned::to_owned), &none).expect("two classes");
    Bounds { workload: Arc::new(workload), ..bounds() }
}

fn of_class(class: u8, intended_ns: u64) -> Due {
    let deadline_ns = if class == 0 { 10_000 } else { NEVER_NS };
    Due { intended_ns, connection: 0, kind: Kind { class, bytes: 64, deadline_ns } }
}

fn due(intended_ns: u64, connection: u32) -> Due {
    let kind = Kind { class: 0, bytes: 64, deadline_ns: NEVER_NS };
    Due { intended_ns, connection, kind }
}

fn send(books: &mut Recorder, due: Due, now_ns: u64) -> Option<Vec<u8>> {
    let mut payload = vec![0; due.kind.bytes as usize];
    books.admit(&due, now_ns, &mut payload).map(|_| payload)
}

/// The ledger over all classes, of a run that closes.
fn close(books: &mut Recorder) -> Ledger {
    books.finish();
    assert!(books.warmup.closes(), "{:?}", books.warmup);
    for class in &books.classes {
        assert!(class.account.closes(), "{:?}", class.account);
    }
    let all = books.all_classes().account;
    assert_eq!(all.bytes.scheduled % all.messages.scheduled.max(1), 0, "all of one size");
    all.messages
}

#[test]
fn a_reply_is_timed_from_the_intended_send() {
    let mut books = Recorder::new(bounds());
    let payload = send(&mut books, due(2_000, 1), 5_000).expect("room");
    books.replied(1, &payload, 12_000, None);
    assert_eq!(close(&mut books).on_time, 1);
    let one = |latencies: &Latencies| latencies.max_ns().expect("one sample");
    assert!(one(&books.classes[0].response).abs_diff(10_000) <= 8);
    assert!(one(&books.classes[0].service).abs_diff(7_000) <= 8);
    assert!(one(&books.lag).abs_diff(3_000) <= 8);
}

#[test]
fn warm_up_is_counted_but_not_measured() {
    let mut books = Recorder::new(bounds());
    let payload = send(&mut books, due(999, 0), 2_000).expect("room");
    books.replied(0, &payload, 3_000, None);
    assert_eq!((close(&mut books).scheduled, books.warmup.messages.on_time), (0, 1));
    assert_eq!((books.classes[0].response.count(), books.lag.count()), (0, 0));
}

#[test]
fn the_depth_is_a_limit_and_what_exceeds_it_is_skipped() {
    let mut books = Recorder::new(bounds());
    let sent: Vec<_> = (0..6).map(|n| send(&mut books, due(2_000 + n, 0), 3_000)).collect();
    assert_eq!(sent.iter().flatten().count(), 4);
    assert_eq!(books.classes[0].account.messages.skipped.at_depth, 2);
    books.replied(0, sent[0].as_ref().expect("the first was sent"), 4_000, None);
    assert!(send(&mut books, due(2_010, 0), 4_000).is_some(), "room again");
    assert_eq!(close(&mut books).in_flight, 4);
}

#[test]
fn replies_may_come_in_any_order_but_only_once() {
    let mut books = Recorder::new(bounds());
    let first = send(&mut books, due(2_000, 0), 2_000).expect("room");
    let second = send(&mut books, due(2_001, 0), 2_001).expect("room");
    books.replied(0, &second, 3_000, None);
    books.replied(0, &second, 3_000, None);
    books.replied(1, &first, 3_000, None);
    books.replied(0, &first[..60], 3_000, None);
    let strays = Strays { unmatched: 2, duplicated: 1, reordered: 0 };
    assert_eq!((books.pulse.received, books.strays), (1, strays));
    books.replied(0, &first, 3_000, None);
    let strays = Strays { reordered: 1, ..strays };
    assert_eq!((close(&mut books).on_time, books.strays), (2, strays));
}

#[test]
fn answers_to_the_warm_up_are_no_strays_of_the_measured_part() {
    let mut books = Recorder::new(bounds());
    let warm: Vec<_> =
        (997..999).map(|at| send(&mut books, due(at, 0), 2_000).expect("room")).collect();
    let measured: Vec<_> =
        (1_000..1_002).map(|at| send(&mut books, due(at, 0), 2_000).expect("room")).collect();
    // Each of both parts out of turn, then once more.
    for payload in [&warm[1], &warm[0], &measured[1], &measured[0], &warm[0], &measured[0]] {
        books.replied(0, payload, 3_000, None);
    }
    assert_eq!(books.strays, Strays { unmatched: 0, duplicated: 1, reordered: 1 });
    assert_eq!((close(&mut books).on_time, books.warmup.messages.on_time), (2, 2));
}

#[test]
fn a_forged_number_matches_nothing() {
    let mut books = Recorder::new(bounds());
    send(&mut books, due(2_000, 0), 2_000).expect("room");
    books.replied(0, &[0xff; 64], 3_000, None);
    books.replied(1, &[0xff; 64], 3_000, None);
    books.replied(0, &[], 3_000, None);
    let strays = Strays { unmatched: 3, ..Strays::default() };
    assert_eq!((close(&mut books).in_flight, books.strays), (1, strays));
}

#[test]
fn small_payloads_are_matched_by_order() {
    let mut books = Recorder::new(plain(3));
    for n in 0..3 {
        let mut due = due(2_000 + n * 100, 0);
        due.kind.bytes = 3;
        assert_eq!(send(&mut books, due, 3_000), Some(vec![0; 3]));
    }
    books.replied(0, &[0; 3], 4_000, None);
    books.replied(0, &[0; 3], 4_000, None);
    let ledger = close(&mut books);
    assert_eq!((ledger.on_time, ledger.in_flight), (2, 1));
    assert!(books.classes[0].response.max_ns().is_some_and(|ns| ns.abs_diff(2_000) <= 2));
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
    books.refused(1, u64::MAX, Refusal::QueueFull);
    assert_eq!(books.first_disconnection.as_ref().map(|d| d.at_ns), Some(2_500));
    let ledger = close(&mut books);
    assert_eq!((books.warmup.messages.lost, ledger.lost, ledger.in_flight), (1, 1, 1));
    assert_eq!(ledger.skipped.disconnected, 1);
    books.disconnected(1, 4_000, String::new());
    assert!(books.all_disconnected());
}

#[test]
fn a_closed_loop_keeps_depth_messages_going() {
    let mut books = Recorder::new(Bounds { closed_loop: true, ..bounds() });
    assert_eq!(books.ready.len(), 8);
    let connection = books.next_ready().expect("eight are ready");
    let payload = send(&mut books, due(2_000, connection), 2_000).expect("room");
    books.replied(connection, &payload, 3_000, None);
    assert_eq!(books.ready.len(), 8);
    let connection = books.next_ready().expect("eight are ready");
    let number = books.admit(&due(3_000, connection), 3_000, &mut [0; 64]).expect("room");
    books.refused(connection, number, Refusal::QueueFull);
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
    one.replied(0, &payload, 9_000, None);
    one.disconnected(1, 8_000, "later".to_owned());
    send(&mut two, due(2_000, 0), 2_000).expect("room");
    two.disconnected(0, 7_000, "earlier".to_owned());
    one.finish();
    two.finish();
    one.merge(&two);
    let ledger = close(&mut one);
    assert_eq!((ledger.submitted, ledger.lost, one.disconnections), (2, 1, 2));
    assert_eq!(one.first_disconnection.map(|d| d.reason).as_deref(), Some("earlier"));
}

#[test]
fn what_becomes_of_watched_messages_is_told_apart() {
    let mut books = Recorder::new(watched());
    let mut payload = [0; 64];
    let mut admit = |books: &mut Recorder, class, at_ns| {
        let number = books.admit(&of_class(class, at_ns), at_ns, &mut payload).expect("room");
        (number, payload)
    };
    let (discarded, _) = admit(&mut books, 0, 2_000);
    books.expired(0, discarded);
    books.sent(0, discarded, 2_500);
    let (in_time, answer) = admit(&mut books, 0, 3_000);
    books.sent(0, in_time, 4_000);
    books.replied(0, &answer, 13_000, None);
    let (late, answer) = admit(&mut books, 0, 20_000);
    books.sent(0, late, 21_000);
    books.replied(0, &answer, 30_001, None);
    let (refused, _) = admit(&mut books, 1, 40_000);
    books.refused(0, refused, Refusal::QueueFull);
    let (_unsent, _) = admit(&mut books, 1, 40_000);
    let (flying, _) = admit(&mut books, 1, 40_000);
    books.sent(0, flying, 45_000);
    close(&mut books);
    let [urgent, bulk] = &books.classes[..] else { panic!("two classes") };
    let (ledger, bytes) = (&urgent.account.messages, &urgent.account.bytes);
    assert_eq!((ledger.expired, ledger.on_time, ledger.late, ledger.sent), (1, 1, 1, 2));
    assert_eq!((bytes.expired, bytes.on_time, bytes.late, bytes.sent), (64, 64, 64, 128));
    let ledger = &bulk.account.messages;
    assert_eq!((ledger.refused, ledger.unsent, ledger.in_flight, ledger.sent), (1, 1, 1, 1));
    let near = |found: Option<u64>, want: u64| found.is_some_and(|ns| ns.abs_diff(want) <= 8);
    assert!(near(bulk.wait.max_ns(), 5_000) && near(urgent.wait.max_ns(), 1_000));
    assert!(near(urgent.service.max_ns(), 9_001), "from the kernel to the answer");
    assert!(near(urgent.response.max_ns(), 10_001));
}

#[test]
fn a_message_is_on_time_by_its_arrival_where_that_is_known() {
    let mut books = Recorder::new(watched());
    for (arrived_ns, at_ns) in [(Some(12_000), 50_000), (Some(12_001), 50_000), (None, 12_000)] {
        let payload = send(&mut books, of_class(0, 2_000), 2_000).expect("room");
        books.replied(0, &payload, at_ns, arrived_ns);
    }
    let ledger = close(&mut books);
    assert_eq!((ledger.on_time, ledger.late), (2, 1));
}

#[test]
fn who_goes_before_an_urgent_one_is_counted() {
    let mut books = Recorder::new(watched());
    let mut admit =
        |class| books.admit(&of_class(class, 2_000), 2_000, &mut [0; 64]).expect("room");
    let (bulk, urgent, last) = (admit(1), admit(0), admit(1));
    for number in [bulk, urgent, last] {
        books.sent(0, number, 3_000);
        books.sent(0, number, 3_000);
    }
    close(&mut books);
    assert_eq!((books.classes[0].inversions, books.classes[1].inversions), (0, 1));
}

#[test]
fn an_answer_may_be_quicker_than_the_word_that_it_was_sent() {
    let mut books = Recorder::new(watched());
    let payload = send(&mut books, of_class(1, 2_000), 2_000).expect("room");
    books.replied(0, &payload, 3_000, None);
    let number = mark::number(&payload).expect("it is long enough");
    books.sent(0, number, 3_500);
    let ledger = close(&mut books);
    assert_eq!((ledger.sent, ledger.on_time), (1, 1));
    assert_eq!(books.classes[1].wait.count(), 0);
}

#[test]
fn an_ended_connection_leaves_watched_messages_unsent_or_lost() {
    let mut books = Recorder::new(watched());
    let one = books.admit(&of_class(1, 2_000), 2_000, &mut [0; 64]).expect("room");
    let two = books.admit(&of_class(1, 2_000), 2_000, &mut [0; 64]).expect("room");
    books.sent(0, one, 2_500);
    books.disconnected(0, 3_000, String::new());
    books.sent(0, two, 3_000);
    books.expired(0, two);
    let ledger = close(&mut books);
    assert_eq!((ledger.lost, ledger.unsent, ledger.expired), (1, 1, 0));
}

/// The bar of coordinated omission: 1 000 messages/s for 10 s, the server answers at once but
/// stands still for one second. In theory p95 = 0.5 s, p99 = 0.9 s, p99.9 = 0.99 s, max = 1 s.
#[test]
fn a_stall_of_one_second_is_told_truthfully() {
    let end_ns = 10 * SECOND_NS;
    let bounds = Bounds { connections: 50, depth: 1_024, warmup_ns: 0, end_ns, ..bounds() };
    let mut books = Recorder::new(bounds.clone());
    let share = Share {
        worker: 0,
        workers: 1,
        rate_per_s: 1_000.0,
        connections: bounds.connections,
        part: Part::WHOLE,
        end_ns,
        seed: 1,
    };
    let sampler = Sampler::new(bounds.workload.clone(), seed_of(&share));
    let mut schedule = Schedule::new(Gaps::Equal, share, sampler);
    let (stall, awake) = (4 * SECOND_NS, 5 * SECOND_NS);
    let mut waiting: Vec<(u32, Vec<u8>)> = Vec::new();
    while let Some(due) = schedule.take_due(u64::MAX) {
        if due.intended_ns >= awake {
            for (connection, payload) in waiting.drain(..) {
                books.replied(connection, &payload, awake, None);
            }
        }
        let payload = send(&mut books, due, due.intended_ns).expect("depth enough");
        if (stall..awake).contains(&due.intended_ns) {
            waiting.push((due.connection, payload));
        } else {
            books.replied(due.connection, &payload, due.intended_ns + 50_000, None);
        }
    }
    assert_eq!(close(&mut books).on_time, 10_000);
    let response = &books.classes[0].response;
    let found = percentiles(response, 0, &[0.5, 0.95, 0.99, 0.999]);
    let within = |at: usize, want_s: f64| {
        let value_s = found[at].value_ns.expect("ten samples lie above") as f64 / 1e9;
        assert!((value_s / want_s - 1.0).abs() < 0.05, "{value_s} s for {want_s} s");
    };
    within(0, 50e-6);
    within(1, 0.5);
    within(2, 0.9);
    within(3, 0.99);
    assert!(response.max_ns().is_some_and(|ns| ns.abs_diff(SECOND_NS) < SECOND_NS / 100));
    let stalled = &books.timeline.intervals()[40];
    assert!(stalled.response_ns(0.5).is_some_and(|ns| ns > 900_000_000), "shown where it began");
}
