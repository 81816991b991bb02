//! The arrivals and classes that are drawn, against queueing theory: one link of 100 Mbit/s,
//! 1 500 bytes on the wire (120 us each), offered 80 %.

use std::collections::VecDeque;
use std::sync::Arc;

use super::*;
use crate::workload::Workload;

const SERVICE_NS: u64 = 120_000;
const LOAD: f64 = 0.8;

/// Mean waits by class in microseconds, of a link that never preempts and takes the class of the
/// smaller number first.
fn waits_us(classes: &[&str], seconds: u64) -> Vec<f64> {
    let flags: Vec<String> = classes.iter().map(|class| (*class).to_owned()).collect();
    let workload = Workload::of_flags(&flags, &|_| Err(String::new())).expect("classes");
    let share = Share {
        worker: 0,
        workers: 1,
        rate_per_s: LOAD * 1e9 / SERVICE_NS as f64,
        connections: 1,
        part: Part::WHOLE,
        end_ns: seconds * 1_000_000_000,
        seed: 1,
    };
    let sampler = Sampler::new(Arc::new(workload), seed_of(&share));
    let mut schedule = Schedule::new(Gaps::Exponential, share, sampler);
    let mut queues = vec![VecDeque::new(); classes.len()];
    let mut sums = vec![(0.0, 0_u64); classes.len()];
    let mut free_ns = 0;
    loop {
        while let Some(due) = schedule.take_due(free_ns) {
            queues[usize::from(due.kind.class)].push_back(due.intended_ns);
        }
        let first = queues.iter().position(|queue| !queue.is_empty());
        let Some(class) = first else {
            let Some(next) = schedule.peek() else { break };
            free_ns = next.intended_ns;
            continue;
        };
        let at_ns = queues[class].pop_front().expect("it is not empty");
        sums[class].0 += (free_ns - at_ns) as f64 / 1e3;
        sums[class].1 += 1;
        free_ns += SERVICE_NS;
    }
    sums.into_iter().map(|(sum_us, count)| sum_us / count as f64).collect()
}

#[track_caller]
fn near(found: f64, want: f64) {
    assert!((found / want - 1.0).abs() < 0.02, "{found} us for {want} us");
}

/// Pollaczek and Khinchine: the load times the service time, over twice what is left.
#[test]
fn one_class_waits_as_an_m_d_1_queue() {
    near(waits_us(&["size=1448"], 300)[0], 240.0);
}

/// Cobham: the residual service over what is left by the class and those before it.
#[test]
fn two_classes_wait_as_a_queue_with_priorities() {
    let waits = waits_us(&["share=50%,size=1448", "share=50%,size=1448,niceness=1"], 300);
    near(waits[0], 80.0);
    near(waits[1], 400.0);
}
