//! Idle: what open connections cost a server while nothing moves: memory and CPU.
//!
//! Above: `main`. Below: blocking sockets, /proc.
//! Absent: no load. Bound: the connections asked for, within the limit of open descriptors.

use crate::TargetOptions;
use crate::clock::{Clock, Window};
use crate::connect::Connector;
use crate::process::{CpuMarks, resident_bytes};
use anyhow::{Context as _, Result, ensure};
use common::frames::PREFIX;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

/// Connections that are opened, used and closed before the first reading, so that what a server
/// makes at first use is not counted as a connection's.
const WARM: usize = 8;
/// Time for the server to come to rest before its memory is read.
const REST: Duration = Duration::from_millis(500);

/// How many connections, and what is taken off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Idle {
    pub(crate) connections: usize,
    pub(crate) size: usize,
    /// Bytes of a server that are not its connections', by agreement.
    pub(crate) base: u64,
    /// How long the CPU of the idle server is watched.
    pub(crate) seconds: Duration,
}

/// Opens connections and reads the server's memory before, fresh, and after one echo each.
///
/// # Errors
/// No server pid, not enough descriptors, or a wrong echo.
pub(crate) fn idle(target: &TargetOptions, idle: Idle) -> Result<Value> {
    let pid = target.server_pid.context("idle needs --server-pid")?;
    ensure!(idle.connections > 0, "--connections must be at least 1");
    let mut connector = Connector::new(target.address);
    let start = resident_bytes(pid)?;
    let mut connections = open(&mut connector, WARM)?;
    exchange(&mut connections, idle.size)?;
    drop(connections);
    sleep(REST);
    let warm = resident_bytes(pid)?;
    let mut connections = open(&mut connector, idle.connections)?;
    sleep(REST);
    let fresh = resident_bytes(pid)?;
    exchange(&mut connections, idle.size)?;
    sleep(REST);
    let echoed = resident_bytes(pid)?;
    let clock = Clock::start();
    let window = Window::after(clock, Duration::ZERO, idle.seconds);
    let mut marks = CpuMarks::new(Some(pid), window);
    marks.turn(window.from, clock)?;
    sleep(idle.seconds);
    marks.turn(window.to, clock)?;
    let per_connection =
        |bytes: u64, base: u64| (bytes as f64 - base as f64) / idle.connections as f64;
    Ok(json!({
        "mode": "idle",
        "connections": idle.connections,
        "start_bytes": start,
        "warm_bytes": warm,
        "fresh_bytes": fresh,
        "echoed_bytes": echoed,
        "base_bytes": idle.base,
        "bytes_per_connection_fresh": per_connection(fresh, warm),
        "bytes_per_connection_echoed": per_connection(echoed, warm),
        "bytes_per_connection_fresh_less_base": per_connection(fresh, idle.base),
        "bytes_per_connection_echoed_less_base": per_connection(echoed, idle.base),
        "server_cpu": marks.shares().0,
        "errors": 0,
    }))
}

fn open(connector: &mut Connector, count: usize) -> Result<Vec<TcpStream>> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = connector.connect()?;
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        connections.push(socket);
    }
    Ok(connections)
}

/// One echo on every connection.
fn exchange(connections: &mut [TcpStream], size: usize) -> Result<()> {
    let mut frame = vec![b'i'; PREFIX + size];
    frame[..PREFIX].copy_from_slice(&u32::try_from(size)?.to_be_bytes());
    let mut echo = vec![0; frame.len()];
    for socket in connections {
        socket.write_all(&frame)?;
        socket.read_exact(&mut echo).context("an idle connection's echo does not come")?;
        ensure!(echo == frame, "an idle connection's echo differs");
    }
    Ok(())
}
