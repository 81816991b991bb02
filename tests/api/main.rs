//! The public API end to end: engines on real sockets, with plain peers of the standard library.
//!
//! Below: the crate's public face alone. Absent: what one part promises by itself; that stands
//! beside its code. Every test runs on each driver that this machine has, says `SKIP: reason`
//! where it cannot, and gives up by itself after a stated time.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "a skipped test says why")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod async_handlers;
mod both_ways;
mod cancel;
#[allow(dead_code, reason = "tests/checklist needs more of it")]
mod capture;
mod carriers;
mod closing;
mod datagram_floods;
mod datagram_services;
mod datagrams;
mod dormant;
mod echo;
mod edges;
mod endings;
mod events;
mod faults;
mod forks;
mod framer_faults;
mod from_tokio;
#[cfg(feature = "futures")]
mod futures;
mod hosts;
mod interop;
mod interop_datagrams;
mod limits;
mod listeners;
mod markings;
mod messages;
mod multicast;
mod network_faults;
mod networks;
mod partial;
mod path_errors;
mod reentrancy;
mod refusals;
mod relay;
mod seccomp;
mod shutdown;
mod support;
mod traffic_class;
mod two_hosts;
