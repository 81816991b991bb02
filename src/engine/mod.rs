//! The engine: one thread per core that turns operations into completions.
//!
//! Above: `shard` runs on a core and uses these parts. Below: `kernel` makes the system calls.
//! Absent: protocols, Messages and Carriers; `unsafe` (it lives in `kernel`).

#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
pub(crate) mod bell;
pub(crate) mod clock;
#[cfg(test)]
mod conformance;
pub(crate) mod driver;
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
pub(crate) mod epoll;
pub(crate) mod errno;
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
pub(crate) mod inherited;
pub(crate) mod mailbox;
pub(crate) mod metrics;
pub(crate) mod offload;
pub(crate) mod operation;
pub(crate) mod plan;
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
pub(crate) mod selection;
#[cfg_attr(not(all(target_os = "linux", not(postring_no_kernel))), path = "no_socket.rs")]
pub(crate) mod socket;
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
pub(crate) mod socket_file;
pub(crate) mod socket_option;
pub(crate) mod throttle;
pub(crate) mod timers;
pub(crate) mod topology;
