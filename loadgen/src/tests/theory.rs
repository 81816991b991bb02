//! The arrivals and classes that are drawn, against queueing theory: one link of 100 Mbit/s,
//! 1 500 bytes on the wire (120 us each), offered 80 %.

use std::sync::Arc;

use super::*;
use crate::queueing::{self, Link, Waits};
use crate::workload::Workload;

const SERVICE_NS: f64 = 120_000.0;
const LOAD: f64 = 0.8;

/// Mean waits by class of messages that are drawn for a link.
fn waits_ns(classes: &[&str], seconds: u64) -> Vec<f64> {
    let flags: Vec<String> = classes.iter().map(|class| (*class).to_owned()).collect();
    let workload = Workload::of_flags(&flags, &|_| Err(String::new())).expect("classes");
    let share = Share {
        worker: 0,
        workers: 1,
        rate_per_s: LOAD * 1e9 / SERVICE_NS,
        connections: 1,
        part: Part::WHOLE,
        end_ns: seconds * 1_000_000_000,
        seed: 1,
    };
    let link = Link { service_ns: SERVICE_NS, credit_ns: 0.0, committed: 0 };
    let arrivals = arrivals(Gaps::Exponential, share, Arc::new(workload));
    let waits = queueing::replay(&link, classes.len(), 0, arrivals);
    waits.iter().map(Waits::mean_ns).collect()
}

#[track_caller]
fn near(found: f64, want: f64) {
    assert!((found / want - 1.0).abs() < 0.02, "{found} ns for {want} ns");
}

/// Pollaczek and Khinchine: 240 us.
#[test]
fn one_class_waits_as_an_m_d_1_queue() {
    near(waits_ns(&["size=1448"], 300)[0], queueing::one_class_ns(LOAD, SERVICE_NS));
}

/// Cobham: 80 and 400 us.
#[test]
fn two_classes_wait_as_a_queue_with_priorities() {
    let waits = waits_ns(&["share=50%,size=1448", "share=50%,size=1448,niceness=1"], 300);
    let [urgent, other] = queueing::two_classes_ns(LOAD, SERVICE_NS);
    near(waits[0], urgent);
    near(waits[1], other);
}
