//! Tests of the scheduler: its promises one by one.
//!
//! Above: nothing. Below: the scheduler's own calls. Absent: random sequences; `properties` and
//! `model` play them.

use super::*;

const ROOMY: Bounds = Bounds { messages: 10_000, bytes: usize::MAX };
/// Nothing known: only deadlines count.
const ANY: Path = Path { rate_bytes_per_s: None, delay_us: 0, unsent_bytes: 0 };
const PLAIN: Ask<'_> =
    Ask { carrier: 0, niceness: 0, deadline_us: None, antecedents: &[], bytes: 100 };

/// Submits with the number as payload, at 0.
fn submit(scheduler: &mut Scheduler<Number>, ask: Ask<'_>) -> Number {
    let number = scheduler.next;
    assert_eq!(scheduler.submit(0, ask, number), Ok(number));
    number
}

/// Takes one whole Message and finishes it.
fn send(scheduler: &mut Scheduler<Number>) -> Option<Number> {
    let taken = scheduler.take(0, &ANY, usize::MAX)?;
    assert!(taken.last && taken.from == 0);
    assert_eq!(scheduler.finish(taken.number), Some(taken.number));
    Some(taken.number)
}

fn send_all(scheduler: &mut Scheduler<Number>) -> Vec<Number> {
    std::iter::from_fn(|| send(scheduler)).collect()
}

/// Niceness, deadline and number of the first that is ready.
fn next(scheduler: &Scheduler<Number>) -> (u32, u64, Number) {
    let (_, &slot) = scheduler.ready.first_key_value().expect("one is ready");
    let entry = scheduler.slots.at(slot);
    (entry.rank.niceness, entry.rank.deadline_us, entry.number)
}

/// What expired, and why.
pub(super) fn expired(scheduler: &mut Scheduler<Number>) -> Vec<(Number, Expiry, bool)> {
    let events = std::iter::from_fn(|| scheduler.poll_event());
    let expired = events.map(|Event::Expired { number, why, begun, payload }| {
        assert_eq!(payload, number);
        (number, why, begun)
    });
    expired.collect()
}

#[test]
fn class_goes_before_deadline_and_deadline_before_number() {
    let mut scheduler = Scheduler::new(ROOMY);
    let mut add = |niceness, deadline_us| {
        submit(&mut scheduler, Ask { niceness, deadline_us, ..PLAIN });
    };
    add(u32::MAX, Some(10));
    add(1, None);
    add(1, Some(u64::MAX));
    add(1, Some(900));
    add(1, Some(800));
    add(0, None);
    assert_eq!(scheduler.fairness.best_niceness(), Some(0));
    assert_eq!(send_all(&mut scheduler), [6, 5, 4, 2, 3, 1]);
    assert_eq!(scheduler.fairness.best_niceness(), None);
}

#[test]
fn carriers_of_equal_urgency_share_by_bytes() {
    let mut scheduler = Scheduler::new(ROOMY);
    for _ in 0..100 {
        submit(&mut scheduler, Ask { carrier: 1, bytes: 1000, ..PLAIN });
    }
    for _ in 0..100 {
        submit(&mut scheduler, Ask { carrier: 2, bytes: 250, ..PLAIN });
    }
    let order = send_all(&mut scheduler);
    let mut sent = [0i64; 2];
    for number in &order[..100] {
        let (carrier, bytes) = if *number <= 100 { (0, 1000) } else { (1, 250) };
        sent[carrier] += bytes;
        assert!((sent[0] - sent[1]).abs() <= 1250, "{sent:?}");
    }
    let of_first: Vec<_> = order.iter().filter(|&&number| number <= 100).collect();
    assert!(of_first.is_sorted(), "one Carrier's Messages stay in order");
}

#[test]
fn a_carrier_that_sends_one_at_a_time_has_its_share_and_no_more() {
    let mut scheduler = Scheduler::new(ROOMY);
    for _ in 0..1000 {
        submit(&mut scheduler, Ask { carrier: 1, bytes: 100, ..PLAIN });
    }
    let mut last = submit(&mut scheduler, Ask { carrier: 2, bytes: 900, ..PLAIN });
    let mut sent = [0u64; 2];
    for _ in 0..500 {
        let number = send(&mut scheduler).expect("there is more");
        if number == last {
            sent[1] += 900;
            last = submit(&mut scheduler, Ask { carrier: 2, bytes: 900, ..PLAIN });
        } else {
            sent[0] += 100;
        }
    }
    assert!(sent[0].abs_diff(sent[1]) <= 1000, "{sent:?}");
}

#[test]
fn where_a_stack_interleaves_equals_take_turns_and_urgent_ones_overtake() {
    let mut scheduler = Scheduler::new_interleaving(ROOMY);
    submit(&mut scheduler, Ask { carrier: 1, niceness: 1, bytes: 5000, ..PLAIN });
    submit(&mut scheduler, Ask { carrier: 2, niceness: 1, bytes: 5000, ..PLAIN });
    let mut take = || scheduler.take(0, &ANY, 2000).map(|taken| (taken.number, taken.from));
    assert_eq!([take(), take(), take()], [Some((1, 0)), Some((2, 0)), Some((1, 2000))]);
    submit(&mut scheduler, PLAIN);
    let mut take = || scheduler.take(0, &ANY, 2000);
    assert_eq!(take(), Some(Taken { number: 3, from: 0, len: 100, last: true }));
    assert_eq!(take(), Some(Taken { number: 2, from: 2000, len: 2000, last: false }));
    assert_eq!(take(), Some(Taken { number: 1, from: 4000, len: 1000, last: true }));
    assert_eq!(take(), Some(Taken { number: 2, from: 4000, len: 1000, last: true }));
    assert_eq!(take(), None);
}

#[test]
fn where_it_does_not_a_message_once_begun_is_finished() {
    let mut scheduler = Scheduler::new(ROOMY);
    submit(&mut scheduler, Ask { niceness: 1, deadline_us: Some(50), bytes: 3000, ..PLAIN });
    let take = |scheduler: &mut Scheduler<_>, now_us| scheduler.take(now_us, &ANY, 1000);
    assert_eq!(scheduler.next_timeout_us(), Some(50));
    assert_eq!(take(&mut scheduler, 0).map(|taken| taken.number), Some(1));
    assert_eq!(scheduler.next_timeout_us(), None);
    submit(&mut scheduler, PLAIN);
    assert_eq!(scheduler.finish(1), None, "there is more of it");
    assert_eq!(take(&mut scheduler, 49).map(|taken| taken.number), Some(1));
    assert_eq!(scheduler.ledger.wasted_bytes, 0);
    let last = take(&mut scheduler, 50);
    assert_eq!(last, Some(Taken { number: 1, from: 2000, len: 1000, last: true }));
    assert_eq!(scheduler.ledger.wasted_bytes, 3000);
    assert_eq!(scheduler.finish(1), Some(1));
    assert_eq!((scheduler.finish(1), scheduler.finish(77)), (None, None));
    assert_eq!(send_all(&mut scheduler), [2]);
    assert_eq!(expired(&mut scheduler), []);
    assert_eq!(scheduler.ledger.wasted_bytes, 3000);
}

#[test]
fn a_message_expires_at_its_deadline_to_the_microsecond() {
    let mut scheduler = Scheduler::new(ROOMY);
    submit(&mut scheduler, Ask { deadline_us: Some(100), ..PLAIN });
    submit(&mut scheduler, Ask { deadline_us: Some(101), ..PLAIN });
    submit(&mut scheduler, PLAIN);
    scheduler.expire(99);
    assert_eq!((expired(&mut scheduler), scheduler.next_timeout_us()), (vec![], Some(100)));
    scheduler.expire(100);
    assert_eq!(expired(&mut scheduler), [(1, Expiry::Deadline, false)]);
    assert_eq!(scheduler.take(101, &ANY, usize::MAX).map(|taken| taken.number), Some(3));
    assert_eq!(expired(&mut scheduler), [(2, Expiry::Deadline, false)]);
    assert_eq!(scheduler.next_timeout_us(), None);
}

#[test]
fn a_lifetime_of_zero_expires_in_submit_and_counts() {
    let mut scheduler = Scheduler::new(ROOMY);
    assert_eq!(scheduler.submit(7, Ask { deadline_us: Some(7), ..PLAIN }, 1), Ok(1));
    assert_eq!(scheduler.queued_messages(), 0);
    assert_eq!(expired(&mut scheduler), [(1, Expiry::Deadline, false)]);
    assert_eq!(scheduler.ledger.expired(), Tally { messages: 1, bytes: 100 });
    assert_eq!(scheduler.submit(u64::MAX, PLAIN, 2), Ok(2), "never is later than any clock");
    assert_eq!(scheduler.take(u64::MAX, &ANY, 9).map(|taken| taken.number), Some(2));
    assert_eq!(scheduler.ledger.wasted_bytes, 0);
}

#[test]
fn what_cannot_arrive_in_time_expires_without_a_byte() {
    // 100 bytes behind 900 at 1 MB/s: 1 000 us, and 500 us under way.
    let path = Path { rate_bytes_per_s: Some(1_000_000), delay_us: 500, unsent_bytes: 900 };
    let outcome = |deadline_us, path: Path| {
        let mut scheduler = Scheduler::new(ROOMY);
        submit(&mut scheduler, Ask { deadline_us: Some(deadline_us), ..PLAIN });
        let taken = scheduler.take(100, &path, usize::MAX).map(|taken| taken.number);
        let ledger = scheduler.ledger;
        assert_eq!(ledger.handed_bytes, if taken.is_some() { 100 } else { 0 });
        (taken, expired(&mut scheduler))
    };
    assert_eq!(outcome(1600, path), (Some(1), vec![]));
    assert_eq!(outcome(1599, path), (None, vec![(1, Expiry::Hopeless, false)]));
    let odd = Path { rate_bytes_per_s: Some(999_999), ..path };
    assert_eq!(outcome(1600, odd), (None, vec![(1, Expiry::Hopeless, false)]));
    for rate_bytes_per_s in [None, Some(0)] {
        let unknown = Path { rate_bytes_per_s, ..path };
        assert_eq!(outcome(600, unknown), (Some(1), vec![]));
        assert_eq!(outcome(599, unknown), (None, vec![(1, Expiry::Hopeless, false)]));
    }
    let endless = Path { rate_bytes_per_s: Some(1), delay_us: u64::MAX, unsent_bytes: u64::MAX };
    assert_eq!(outcome(u64::MAX - 1, endless).1, [(1, Expiry::Hopeless, false)]);
    assert_eq!(outcome(u64::MAX, endless), (Some(1), vec![]));
}

#[test]
fn where_a_stack_interleaves_a_begun_message_is_cut_short() {
    let mut scheduler = Scheduler::new_interleaving(ROOMY);
    let dated = Ask { deadline_us: Some(1000), bytes: 1000, ..PLAIN };
    let one = submit(&mut scheduler, dated);
    scheduler.take(0, &ANY, 300);
    scheduler.expire(1000);
    assert_eq!(expired(&mut scheduler), [(one, Expiry::Deadline, true)]);
    assert_eq!(scheduler.ledger.wasted_bytes, 300);
    let two = submit(&mut scheduler, dated);
    // 700 bytes more at 1 MB/s take 700 us.
    let path = Path { rate_bytes_per_s: Some(1_000_000), ..ANY };
    scheduler.take(0, &path, 300);
    scheduler.take(300, &path, 300);
    assert_eq!(scheduler.take(601, &path, 300), None);
    assert_eq!(expired(&mut scheduler), [(two, Expiry::Hopeless, true)]);
    assert_eq!(scheduler.ledger.wasted_bytes, 900);
    let three = submit(&mut scheduler, dated);
    assert!(scheduler.take(0, &path, 1000).is_some_and(|taken| taken.last));
    scheduler.expire(2000);
    assert_eq!(scheduler.finish(three), Some(three), "its last piece was taken");
}

#[test]
fn a_successor_goes_when_all_its_antecedents_are_finished() {
    let mut scheduler = Scheduler::new(ROOMY);
    let one = submit(&mut scheduler, Ask { niceness: 5, ..PLAIN });
    let two = submit(&mut scheduler, Ask { niceness: 6, ..PLAIN });
    let three = submit(&mut scheduler, Ask { antecedents: &[two, one, two], ..PLAIN });
    let first = scheduler.take(0, &ANY, usize::MAX).map(|taken| taken.number);
    let second = scheduler.take(0, &ANY, usize::MAX).map(|taken| taken.number);
    assert_eq!((first, second), (Some(one), Some(two)));
    assert_eq!(scheduler.take(0, &ANY, usize::MAX), None);
    scheduler.finish(two);
    assert_eq!(scheduler.take(0, &ANY, usize::MAX), None);
    scheduler.finish(one);
    assert_eq!(send_all(&mut scheduler), [three]);
    let four = submit(&mut scheduler, Ask { antecedents: &[one, three], ..PLAIN });
    assert_eq!(send_all(&mut scheduler), [four], "antecedents that were sent are met");
}

#[test]
fn antecedents_have_the_rank_of_the_most_urgent_that_waits_and_only_while_it_waits() {
    let mut scheduler = Scheduler::new(ROOMY);
    let root = submit(&mut scheduler, Ask { niceness: 9, ..PLAIN });
    let middle = submit(&mut scheduler, Ask { niceness: 8, antecedents: &[root], ..PLAIN });
    let bulk = submit(&mut scheduler, Ask { niceness: 3, ..PLAIN });
    let rival = submit(&mut scheduler, Ask { niceness: 2, deadline_us: Some(500), ..PLAIN });
    let urgent = Ask { niceness: 2, deadline_us: Some(400), antecedents: &[middle], ..PLAIN };
    let first = submit(&mut scheduler, urgent);
    assert_eq!(next(&scheduler), (2, 400, root));
    // Withdrawn: nobody urgent waits any more.
    scheduler.withdraw(first);
    assert_eq!(next(&scheduler), (2, 500, rival));
    let again = submit(&mut scheduler, urgent);
    assert_eq!(send_all(&mut scheduler), [root, middle, again, rival, bulk]);
}

#[test]
fn a_failed_antecedent_takes_along_all_that_wait_for_it_each_once_and_after_it() {
    let mut scheduler = Scheduler::new(ROOMY);
    let root = submit(&mut scheduler, Ask { deadline_us: Some(10), ..PLAIN });
    let left = submit(&mut scheduler, Ask { antecedents: &[root], ..PLAIN });
    let right = submit(&mut scheduler, Ask { antecedents: &[root], niceness: 1, ..PLAIN });
    let both = submit(&mut scheduler, Ask { antecedents: &[left, right], ..PLAIN });
    let other = submit(&mut scheduler, PLAIN);
    scheduler.expire(10);
    let events = expired(&mut scheduler);
    let expected = [
        (root, Expiry::Deadline, false),
        (left, Expiry::Antecedent(root), false),
        (right, Expiry::Antecedent(root), false),
        (both, Expiry::Antecedent(left), false),
    ];
    assert_eq!(events, expected);
    let late = submit(&mut scheduler, Ask { antecedents: &[other, both], ..PLAIN });
    assert_eq!(expired(&mut scheduler), [(late, Expiry::Antecedent(both), false)]);
    assert_eq!(send_all(&mut scheduler), [other]);
    assert_eq!(scheduler.ledger.expired_antecedent, Tally { messages: 4, bytes: 400 });
}

#[test]
fn a_chain_as_long_as_the_queue_is_promoted_and_expires() {
    let mut scheduler = Scheduler::new(ROOMY);
    let first = submit(&mut scheduler, Ask { niceness: 7, ..PLAIN });
    for number in first..9000 {
        submit(&mut scheduler, Ask { niceness: 7, antecedents: &[number], ..PLAIN });
    }
    submit(&mut scheduler, Ask { antecedents: &[9000], ..PLAIN });
    assert_eq!(next(&scheduler).0, 0);
    assert_eq!(scheduler.withdraw(first), Some(first));
    assert_eq!(expired(&mut scheduler).len(), 9000);
    assert_eq!((scheduler.queued_messages(), scheduler.queued_bytes()), (0, 0));
    assert!(scheduler.unranked.capacity() < 2 * KEPT_SLOTS);
    assert!(scheduler.leaving.capacity() < 2 * KEPT_SLOTS);
    assert!(scheduler.events.capacity() < 2 * KEPT_SLOTS);
}

#[test]
fn a_withdrawn_message_is_the_owners_and_its_bytes_are_wasted() {
    let mut scheduler = Scheduler::new(ROOMY);
    let begun = submit(&mut scheduler, Ask { bytes: 500, ..PLAIN });
    let next = submit(&mut scheduler, PLAIN);
    scheduler.take(0, &ANY, 200);
    assert_eq!(scheduler.withdraw(begun), Some(begun));
    assert_eq!(scheduler.withdraw(begun), None);
    assert_eq!(scheduler.ledger.withdrawn, Tally { messages: 1, bytes: 500 });
    assert_eq!(scheduler.ledger.wasted_bytes, 200);
    assert_eq!(send_all(&mut scheduler), [next], "nothing is left begun");
}

#[test]
fn refusals_give_the_payload_back_and_leave_no_trace() {
    let mut scheduler = Scheduler::new(Bounds { messages: 3, bytes: 1000 });
    let refused = |scheduler: &mut Scheduler<u64>, ask: Ask<'_>| {
        let queued = (scheduler.queued_messages(), scheduler.queued_bytes(), scheduler.next);
        let (refusal, payload) = scheduler.submit(0, ask, 55).expect_err("it is refused");
        let now = (scheduler.queued_messages(), scheduler.queued_bytes(), scheduler.next);
        assert_eq!((payload, now), (55, queued));
        refusal
    };
    submit(&mut scheduler, PLAIN);
    for unknown in [0, 2, u64::MAX] {
        let refusal = refused(&mut scheduler, Ask { antecedents: &[1, unknown], ..PLAIN });
        assert_eq!(refusal, Refusal::UnknownAntecedent(unknown));
    }
    submit(&mut scheduler, Ask { antecedents: &[1; ANTECEDENTS_MAX], ..PLAIN });
    let many = Ask { antecedents: &[1; ANTECEDENTS_MAX + 1], ..PLAIN };
    assert_eq!(refused(&mut scheduler, many), Refusal::TooManyAntecedents);
    submit(&mut scheduler, PLAIN);
    assert_eq!(refused(&mut scheduler, PLAIN), Refusal::Full);
    assert_eq!(scheduler.ledger.refused, 5);
    send_all(&mut scheduler);
    // One may overshoot the bytes; an event counts until it is polled.
    submit(&mut scheduler, Ask { bytes: 999, ..PLAIN });
    submit(&mut scheduler, Ask { bytes: 5000, deadline_us: Some(1), ..PLAIN });
    scheduler.withdraw(4);
    assert_eq!(refused(&mut scheduler, PLAIN), Refusal::Full);
    scheduler.expire(1);
    assert_eq!(refused(&mut scheduler, PLAIN), Refusal::Full);
    assert_eq!(expired(&mut scheduler).len(), 1);
    for _ in 0..3 {
        submit(&mut scheduler, Ask { bytes: 0, deadline_us: Some(0), ..PLAIN });
    }
    assert_eq!(refused(&mut scheduler, PLAIN), Refusal::Full);
    assert_eq!(expired(&mut scheduler).len(), 3);
    submit(&mut scheduler, Ask { bytes: 1000, ..PLAIN });
    assert_eq!(refused(&mut scheduler, Ask { bytes: 0, ..PLAIN }), Refusal::Full);
}

#[test]
fn a_length_that_no_memory_holds_is_no_overflow() {
    let mut scheduler = Scheduler::new(ROOMY);
    submit(&mut scheduler, PLAIN);
    let huge = Ask { bytes: usize::MAX, ..PLAIN };
    assert_eq!(scheduler.submit(0, huge, 9), Err((Refusal::Full, 9)));
    submit(&mut scheduler, Ask { bytes: usize::MAX - 100, ..PLAIN });
    assert_eq!(send_all(&mut scheduler), [1, 2]);
    submit(&mut scheduler, huge);
    assert_eq!(scheduler.take(0, &ANY, usize::MAX).map(|taken| taken.len), Some(usize::MAX));
}

#[test]
fn forgotten_antecedents_are_refused_and_queued_ones_never_forgotten() {
    let mut scheduler = Scheduler::new(ROOMY);
    let kept = submit(&mut scheduler, Ask { niceness: 9, ..PLAIN });
    for _ in 0..5000 {
        let failed = submit(&mut scheduler, PLAIN);
        scheduler.withdraw(failed);
        submit(&mut scheduler, PLAIN);
        send(&mut scheduler);
    }
    let refused = scheduler.submit(0, Ask { antecedents: &[3], ..PLAIN }, 0);
    assert_eq!(refused, Err((Refusal::UnknownAntecedent(3), 0)));
    let after = submit(&mut scheduler, Ask { antecedents: &[kept, 10_001], ..PLAIN });
    assert_eq!(send_all(&mut scheduler), [kept, after]);
}

#[test]
fn draining_gives_everything_back_in_order() {
    let mut scheduler = Scheduler::new(ROOMY);
    let one = submit(&mut scheduler, Ask { niceness: 3, bytes: 300, ..PLAIN });
    let two = submit(&mut scheduler, Ask { niceness: 1, antecedents: &[one], ..PLAIN });
    let three = submit(&mut scheduler, Ask { deadline_us: Some(9), ..PLAIN });
    submit(&mut scheduler, Ask { deadline_us: Some(0), ..PLAIN });
    send(&mut scheduler);
    scheduler.take(0, &ANY, 120);
    assert_eq!(scheduler.drain().collect::<Vec<_>>(), [(one, one), (two, two)]);
    assert_eq!(scheduler.ledger.drained, Tally { messages: 2, bytes: 400 });
    assert_eq!(scheduler.ledger.wasted_bytes, 120);
    assert_eq!((scheduler.queued_messages(), scheduler.queued_bytes()), (0, 0));
    assert_eq!(scheduler.take(0, &ANY, 120), None);
    assert_eq!(expired(&mut scheduler).len(), 1, "events stay");
    let after = submit(&mut scheduler, Ask { antecedents: &[three, two], ..PLAIN });
    assert_eq!(expired(&mut scheduler), [(after, Expiry::Antecedent(two), false)]);
}
