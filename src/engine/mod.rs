//! The engine: one thread per core that turns operations into completions.
//!
//! Above: `shard` runs on a core and uses these parts. Below: `kernel` makes the system calls.
//! Absent: protocols, Messages and Carriers; `unsafe` (it lives in `kernel`).

pub(crate) mod bell;
pub(crate) mod driver;
pub(crate) mod epoll;
pub(crate) mod inherited;
pub(crate) mod mailbox;
pub(crate) mod metrics;
pub(crate) mod operation;
pub(crate) mod socket;
pub(crate) mod timers;
