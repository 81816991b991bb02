//! `tuning`: shows what matters for network latency on a Linux host.
//!
//! ```text
//! /sys /proc  -> tree    \
//! netlink     -> netlink  +-> inspect (facts) -> report (tables or JSON)
//! io_uring    -> ring    /        `-> capture (the same facts as a tree)
//! ```
//!
//! Above: the operator. Below: `arguments`, `inspect`, `report`, `capture`.
//! Absent: nothing on the machine is changed, nothing is advised.
#![forbid(unsafe_code)]

mod arguments;
mod capture;
mod cpus;
mod fact;
mod inspect;
mod netlink;
mod recorded;
mod report;
mod ring;
#[cfg(test)]
mod test_directory;
mod tree;
mod words;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments::Command::Inspect(inspect) = arguments::Arguments::parse().command;
    match report::run(&inspect) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report::fail(&error),
    }
}
