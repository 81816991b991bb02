//! An order: a plan on its way to an agent.
//!
//! Above: `coordinator` writes it, `agent` makes a plan of it. Below: `plan`. Absent: files (a
//! trace or a table goes along as its content) and CPUs (an agent has its own).
//! Bound: what is out of the range of the command line is refused, not tried.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::AGENTS_MAX;
use crate::arguments::Driver;
use crate::pace::Part;
use crate::plan::{OPEN_MAX, Plan};
use crate::workload::trace::{self, Line};
use crate::workload::{Arrival, Workload};

/// Longest part of a run, in nanoseconds: a day.
const DAY_NS: u64 = 86_400_000_000_000;
/// Most messages per second.
const RATE_MAX_PER_S: f64 = 1e9;
/// Most connections over all agents.
const CONNECTIONS_MAX: u32 = 100_000;
/// Largest send queue, in bytes.
const QUEUE_MAX: usize = 1 << 30;

/// What one agent is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Order {
    /// The server, as the agent reaches it.
    pub(super) address: String,
    /// Number of the agent, from 0, and how many there are.
    pub(super) agent: (u32, u32),
    /// Generators of each agent.
    pub(super) generators: u32,
    rate_per_s: f64,
    connections: u32,
    workload: Workload,
    arrival: Arrival,
    trace: Vec<Line>,
    warmup_ns: u64,
    duration_ns: u64,
    depth: u32,
    queue_bytes: Option<usize>,
    seed: u64,
    driver: Driver,
}

impl Order {
    /// The part of `plan` for one agent.
    pub(super) fn of(plan: &Plan, address: &str, agent: (u32, u32), generators: u32) -> Self {
        Self {
            address: address.to_owned(),
            agent,
            generators,
            rate_per_s: plan.rate_per_s,
            connections: plan.connections,
            workload: Workload::clone(&plan.workload),
            arrival: plan.arrival.clone(),
            trace: plan.trace.to_vec(),
            warmup_ns: plan.warmup_ns(),
            duration_ns: plan.end_ns() - plan.warmup_ns(),
            depth: plan.depth,
            queue_bytes: plan.queue_bytes,
            seed: plan.seed,
            driver: plan.driver,
        }
    }

    /// The plan of an agent that has these CPUs for its generators.
    ///
    /// # Errors
    /// If anything is out of range.
    pub(super) fn plan(self, cores: &[usize]) -> Result<Plan> {
        self.check(cores.len())?;
        Ok(Plan {
            address: Some(self.address),
            judged_by_arrival: false,
            rate_per_s: self.rate_per_s,
            load: None,
            connections: self.connections,
            carriers: 1,
            churn_per_s: None,
            scale: None,
            overload: false,
            workload: Arc::new(self.workload),
            duration: Duration::from_nanos(self.duration_ns),
            warmup: Duration::from_nanos(self.warmup_ns),
            depth: self.depth,
            arrival: self.arrival,
            trace: self.trace.into(),
            queue_bytes: self.queue_bytes,
            seed: self.seed,
            generator_cores: cores[..self.generators as usize].to_vec(),
            server_cores: Vec::new(),
            driver: self.driver,
            part: Part { number: self.agent.0, of: self.agent.1 },
        })
    }

    fn check(&self, cores: usize) -> Result<()> {
        let said = |why: String| anyhow!("the order: {why}");
        self.workload.check().map_err(said)?;
        trace::check(&self.trace, &self.workload).map_err(said)?;
        let (number, of) = self.agent;
        let own_rates = match self.arrival {
            Arrival::Ramp { from_per_s, to_per_s } => [from_per_s, to_per_s],
            _ => [self.rate_per_s; 2],
        };
        let rates = [self.rate_per_s, own_rates[0], own_rates[1]];
        let bounds = [
            (number < of && of as usize <= AGENTS_MAX, "number of agents"),
            ((1..=cores).contains(&(self.generators as usize)), "number of generators"),
            (self.connections <= CONNECTIONS_MAX, "number of connections"),
            (self.connections / of.max(1) >= self.generators, "connections of each generator"),
            ((1..=1 << 20).contains(&self.depth), "depth"),
            (u64::from(self.depth) * u64::from(self.connections) <= OPEN_MAX, "depth"),
            (self.warmup_ns <= DAY_NS && (1..=DAY_NS).contains(&self.duration_ns), "length"),
            (rates.iter().all(|rate| (1e-6..=RATE_MAX_PER_S).contains(rate)), "rate"),
            (!matches!(self.arrival, Arrival::Burst { count: 0, .. }), "burst"),
            (self.queue_bytes.is_none_or(|bytes| bytes <= QUEUE_MAX), "send queue"),
        ];
        match bounds.iter().find(|(kept, _)| !kept) {
            Some((_, what)) => bail!("the order: its {what} is out of range"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Sizes;

    fn order() -> Order {
        let none = |_: &str| Err(String::new());
        let flags = ["share=30%,size=lognormal:1KiB:1.2,niceness=2", "size=homa-w1,lifetime=5ms"];
        let workload = Workload::of_flags(&flags.map(ToOwned::to_owned), &none);
        Order {
            address: "tcp://h:1".to_owned(),
            agent: (1, 3),
            generators: 2,
            rate_per_s: 0.1 + 0.2,
            connections: 7,
            workload: workload.expect("two classes"),
            arrival: Arrival::Poisson,
            trace: Vec::new(),
            warmup_ns: 0,
            duration_ns: 1_000_000_007,
            depth: 9,
            queue_bytes: None,
            seed: u64::MAX,
            driver: Driver::Epoll,
        }
    }

    /// To the last bit: else the schedules of two agents would not be parts of one.
    #[test]
    fn an_order_arrives_as_it_was_given() {
        let text = serde_json::to_string(&order()).expect("plain values");
        let read: Order = serde_json::from_str(&text).expect("the same form");
        let (sent, got) = (order(), read);
        assert_eq!(sent.workload, got.workload);
        assert_eq!(sent.rate_per_s.to_bits(), got.rate_per_s.to_bits());
        let plan = got.plan(&[4, 5, 6]).expect("within range");
        assert_eq!((plan.end_ns(), plan.seed, plan.depth), (1_000_000_007, u64::MAX, 9));
        assert_eq!((plan.generator_cores, plan.part), (vec![4, 5], Part { number: 1, of: 3 }));
    }

    #[test]
    fn what_is_out_of_range_is_refused_and_named() {
        let refused = |order: Order| order.plan(&[0, 1]).expect_err("out of range").to_string();
        assert!(refused(Order { agent: (3, 3), ..order() }).contains("number of agents"));
        assert!(refused(Order { agent: (0, 0), ..order() }).contains("number of agents"));
        assert!(refused(Order { generators: 3, ..order() }).contains("number of generators"));
        assert!(refused(Order { connections: 5, ..order() }).contains("each generator"));
        assert!(refused(Order { depth: 0, ..order() }).contains("depth"));
        assert!(refused(Order { rate_per_s: -1.0, ..order() }).contains("rate"));
        assert!(refused(Order { duration_ns: 0, ..order() }).contains("length"));
        let workload = Workload { classes: Vec::new(), ..order().workload };
        assert!(refused(Order { workload, ..order() }).contains("1 to 16 classes"));
        let mut long = Workload::plain(Sizes::fixed(64));
        long.classes[0].share = 2.0;
        assert!(refused(Order { workload: long, ..order() }).contains("share"));
        let line = Line { at_ns: 0, bytes: 9, class: 7, deadline_ns: None };
        assert!(refused(Order { trace: vec![line], ..order() }).contains("trace"));
    }
}
