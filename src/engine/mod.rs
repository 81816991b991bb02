//! The engine: one thread per core that turns operations into completions.
//!
//! Above: `shard` runs on a core and uses these parts. Below: `kernel` makes the system calls.
//! Absent: protocols, Messages and Carriers; `unsafe` (it lives in `kernel`).

pub(crate) mod mailbox;
pub(crate) mod metrics;
pub(crate) mod timers;
