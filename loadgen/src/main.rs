//! loadgen: drives a message server and says what its latency is, and whether to believe it.
//!
//! Below: `arguments` (as typed) -> `command` -> `plan` (as meant) -> `conduct` (the run) ->
//! `report`.
//! Absent: everything but the exit code: 0 fine, 1 error, 2 usage, 3 the run is INVALID.

#![forbid(unsafe_code)]

mod agents;
mod arguments;
mod churn;
mod class_books;
mod command;
mod compare;
mod conduct;
mod connecting;
mod desk;
mod difference;
mod environment;
mod histogram;
#[cfg(target_os = "linux")]
mod lab;
mod ledger;
mod live;
mod mark;
mod measurement;
mod pace;
mod plan;
mod progress;
mod pulse;
mod quantity;
mod queueing;
mod recorder;
mod relay;
mod report;
mod scenario;
mod search;
mod server;
mod slowdown;
mod statistics;
mod tcp_counters;
mod verdict;
mod waiting;
mod worker;
mod workload;

use std::process::ExitCode;

fn main() -> ExitCode {
    let command = arguments::parse();
    command::logging(&command);
    command::carry_out(command).unwrap_or_else(|error| {
        command::complain(&error);
        ExitCode::from(1)
    })
}
