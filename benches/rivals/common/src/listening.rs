//! Listening: the socket every server accepts from, and the limits it runs under.
//!
//! Above: every server. Below: rustix.
//! Absent: no accepting. Bound: [`BACKLOG`] connections wait to be accepted.

use anyhow::{Context as _, Result};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::net::{SocketAddr, TcpListener};

/// Connections that may wait to be accepted (the kernel caps it by net.core.somaxconn).
pub const BACKLOG: i32 = 4096;

/// A non-blocking listening socket whose connections come with `TCP_NODELAY`.
///
/// # Errors
/// The address is in use or not of this machine.
pub fn listening_socket(address: SocketAddr) -> Result<TcpListener> {
    raise_descriptor_limit()?;
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    net::bind(&socket, &address).with_context(|| format!("cannot bind {address}"))?;
    net::listen(&socket, BACKLOG).with_context(|| format!("cannot listen on {address}"))?;
    Ok(TcpListener::from(socket))
}

/// Lifts the soft limit of open descriptors to the hard one and returns it (`u64::MAX`: none).
///
/// # Errors
/// The kernel refused it.
pub fn raise_descriptor_limit() -> Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .context("cannot raise the limit of open descriptors")?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Binds this thread to one CPU.
///
/// # Errors
/// There is no such CPU or the cpuset forbids it.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    anyhow::ensure!(core < CpuSet::MAX_CPU, "core {core} is beyond {}", CpuSet::MAX_CPU);
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot pin to core {core}"))
}
