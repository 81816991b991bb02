//! The way out at its edges: a path that was slow once, a core that breaks down.

use super::super::record::Awaited;
use super::*;

#[test]
fn an_empty_path_is_not_judged_by_the_rate_it_had_once() {
    let mut outgoing = Outgoing::new(0, 16);
    let slow = PathSample { rate_bytes_per_s: Some(1000), ..PathSample::default() };
    let submit = |outgoing: &mut Outgoing, now_us: u64| {
        let mut output = Output::default();
        output.put(&[7; 1000]);
        let deadline_us = Some(now_us + 20_000);
        let parcel = Parcel { output, deadline_us, ..Parcel::place() };
        assert!(outgoing.submit(now_us, deadline_us, &[], parcel).is_ok());
    };
    let fill = |outgoing: &mut Outgoing, now_us: u64, handed: u64| {
        let mut outbox = Box::default();
        outgoing.fill(Filling { now_us, handed, copies_max: 0, outbox: &mut outbox });
        outbox.len()
    };
    // At that rate the Message would take a second. Nothing is under way: it goes.
    outgoing.sample(0, 0, Some(slow));
    submit(&mut outgoing, 0);
    submit(&mut outgoing, 0);
    assert_eq!(fill(&mut outgoing, 0, 0), 1000, "one, which measures the path");
    submit(&mut outgoing, 0);
    assert_eq!(fill(&mut outgoing, 0, 1000), 0, "the next ones are judged by its rate");
    let busy = PathSample { unacknowledged_bytes: 1000, ..slow };
    outgoing.sample(5000, 1000, Some(busy));
    submit(&mut outgoing, 5000);
    assert_eq!(fill(&mut outgoing, 5000, 1000), 0);
    outgoing.sample(10_000, 1000, Some(slow));
    submit(&mut outgoing, 10_000);
    assert_eq!(fill(&mut outgoing, 10_000, 1000), 1000, "it is empty again");
}

#[test]
fn no_more_datagrams_leave_at_a_time_than_the_kernel_is_to_hold() {
    let mut outgoing = Outgoing::new(0, 32);
    for niceness in [1; 20] {
        let mut output = Output::default();
        output.put(&[7; 1000]);
        output.end_datagram(None, None);
        let parcel = Parcel { output, niceness, ..Parcel::place() };
        assert!(outgoing.submit(0, None, &[], parcel).is_ok());
    }
    let fill = |outgoing: &mut Outgoing| {
        let mut outbox = Box::default();
        outgoing.fill(Filling { now_us: 0, handed: 0, copies_max: 0, outbox: &mut outbox });
        outbox.len()
    };
    assert!(outgoing.tune(4096).is_some(), "niceness was used");
    assert_eq!(fill(&mut outgoing), 5000, "until it holds as much; one overshoots");
    outgoing.tune(1);
    assert_eq!(fill(&mut outgoing), 1000, "one at least");
    // A socket that serves anybody is not held up for one of them: it is not tuned.
    outgoing.unsent_max = 0;
    assert_eq!(fill(&mut outgoing), 14_000, "all that are left");
}

#[test]
fn a_core_that_breaks_down_settles_what_it_had() {
    let mut outgoing = Outgoing::new(0, 16);
    let [waits, left] = [Record::new(None), Record::new(None)];
    let parcel = Parcel { record: Some(Arc::clone(&waits)), ..Parcel::place() };
    assert!(outgoing.submit(0, None, &[], parcel).is_ok());
    outgoing.announce(2, 10, Arc::clone(&left));
    drop(outgoing);
    let failed = Outcome::Failed(CloseReason::Shutdown);
    assert_eq!(waits.known(Awaited::Sent), Some(failed));
    assert_eq!(left.known(Awaited::Acked), Some(Outcome::MayHaveArrived));
}

#[test]
fn a_datagram_that_would_leave_too_late_is_not_sent_for_nothing() {
    let mut outgoing = Outgoing::new(0, 64);
    let submit = |outgoing: &mut Outgoing, deadline_us: u64| {
        let mut output = Output::default();
        output.put(&[7; 1400]);
        output.end_datagram(None, None);
        let deadline_us = Some(deadline_us);
        let parcel = Parcel { output, deadline_us, ..Parcel::place() };
        assert!(outgoing.submit(0, deadline_us, &[], parcel).is_ok());
    };
    let fill = |outgoing: &mut Outgoing, now_us: u64| {
        outgoing.taken(now_us);
        let mut outbox = Box::default();
        outgoing.fill(Filling { now_us, handed: 0, copies_max: 0, outbox: &mut outbox });
        outbox.len()
    };
    for _ in 0..40 {
        submit(&mut outgoing, 1_000_000);
    }
    assert!(outgoing.tune(4000).is_some());
    // The socket takes a byte a microsecond.
    let mut now_us = 0;
    for _ in 0..10 {
        now_us += fill(&mut outgoing, now_us) as u64;
    }
    assert_eq!(outgoing.quantum_after(&Output::default()), 1400, "its rate is known");
    // 4 000 bytes are ahead, it has 1 400 itself, and 1 000 us are allowed for.
    submit(&mut outgoing, now_us + 6399);
    assert_eq!(fill(&mut outgoing, now_us), 1400, "another one");
    assert_eq!(outgoing.take_reports().len(), 1, "it has expired");
    now_us += 1400;
    submit(&mut outgoing, now_us + 6400);
    let before = outgoing.queued_bytes();
    assert_eq!(fill(&mut outgoing, now_us), 1400);
    assert_eq!((outgoing.queued_bytes(), outgoing.take_reports().len()), (before - 1400, 0));
    now_us += 1400;
    submit(&mut outgoing, now_us + 6399);
    assert_eq!(fill(&mut outgoing, now_us), 1400, "another one");
    assert_eq!(outgoing.take_reports().len(), 1, "it has expired as well");
}
