//! Refused by the system: io_uring under a seccomp filter, and with too little locked memory.
//!
//! Each refusal is played in a process of its own, which can never get rid of its filter.

use std::collections::BTreeMap;

use postring::{DriverChoice, Engine, Error};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{SeccompAction, SeccompFilter, apply_filter};

use crate::support::*;

/// io_uring_setup, io_uring_enter and io_uring_register, the same on every architecture.
const IO_URING: [i64; 3] = [425, 426, 427];

/// From now on this process is refused io_uring with `errno`.
fn refuse_io_uring(errno: u32) {
    let rules: BTreeMap<_, _> = IO_URING.into_iter().map(|call| (call, Vec::new())).collect();
    let refusal = SeccompAction::Errno(errno);
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refusal, architecture).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    apply_filter(&program).unwrap();
}

fn wants_fallback(errno: u32, cause: &str) {
    refuse_io_uring(errno);
    let engine = echo(DriverChoice::Auto);
    wants_back(&mut connect(&engine), &pattern(100_000));
    let metrics = engine.metrics();
    assert_eq!(metrics.driver, "epoll");
    let reason = metrics.driver_reason.unwrap();
    assert!(reason.contains(cause) && reason.contains("allow io_uring_setup"), "{reason}");
    end(engine);
    let error = Engine::builder().driver(DriverChoice::Uring).unpinned(1).start().unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)), "{error:?}");
    assert!(error.to_string().contains(cause), "{error}");
}

const EPERM: &str = "seccomp::io_uring_refused_with_eperm_is_replaced_by_epoll";

#[test]
fn io_uring_refused_with_eperm_is_replaced_by_epoll() {
    match child_part(EPERM) {
        Some(_) => wants_fallback(1, "seccomp"),
        None => run_child(EPERM, "all"),
    }
}

const ENOSYS: &str = "seccomp::io_uring_refused_with_enosys_is_replaced_by_epoll";

#[test]
fn io_uring_refused_with_enosys_is_replaced_by_epoll() {
    match child_part(ENOSYS) {
        Some(_) => wants_fallback(38, "no io_uring"),
        None => run_child(ENOSYS, "all"),
    }
}

const MEMLOCK: &str = "seccomp::too_little_locked_memory_is_no_silent_failure";

#[test]
fn too_little_locked_memory_is_no_silent_failure() {
    if child_part(MEMLOCK).is_none() {
        return run_child(MEMLOCK, "all");
    }
    setrlimit(Resource::Memlock, Rlimit { current: Some(0), maximum: Some(0) }).unwrap();
    for driver in [DriverChoice::Uring, DriverChoice::Auto] {
        match one(driver).start() {
            Ok(engine) => {
                end(engine);
                let engine = echo(driver);
                wants_back(&mut connect(&engine), b"enough");
                end(engine);
            }
            Err(error) => assert!(error.to_string().contains("memory"), "{error}"),
        }
    }
}
