//! Agents: several processes, on several hosts if need be, that measure together as one.
//!
//! Above: `conduct`. Below: `wire` (what they say to each other, over postring), `order` (a plan on
//! its way to an agent), `findings` (what comes back, and how it becomes one result), `agent` and
//! `coordinator` (the two sides).
//! Absent: clocks that agree: every time is a difference between two readings of one agent's
//! clock, and only the start is common, as exact as half of a round trip is half of it. Absent
//! too: any proof of who asks. An agent generates load for whoever reaches it, so it listens on
//! loopback unless told otherwise; on a network it belongs behind a firewall.
//! Bound: `AGENTS_MAX` agents, `wire::MESSAGE_MAX` bytes a message, a time limit for each answer.

mod agent;
mod coordinator;
mod findings;
mod order;
mod wire;

pub(crate) use self::agent::serve;
pub(crate) use self::coordinator::coordinate;
pub(crate) use self::findings::Agent;

/// Most agents of one measurement.
const AGENTS_MAX: usize = 64;
