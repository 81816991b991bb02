//! Process: CPU time and memory of the server and of the client, read from /proc.
//!
//! Above: the modes. Below: /proc.
//! Absent: no time of other processes (the runner watches those).

use crate::clock::{Clock, Window};
use anyhow::{Context as _, Result};
use std::fs;

/// Nanoseconds that all threads of a process have been on a CPU.
///
/// # Errors
/// There is no such process.
pub(crate) fn cpu_ns(pid: u32) -> Result<u64> {
    let folder = format!("/proc/{pid}/task");
    let mut total = 0;
    for thread in fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
        // A thread may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        let first = text.split_whitespace().next().context("empty schedstat")?;
        total += first.parse::<u64>().context("schedstat does not begin with a number")?;
    }
    Ok(total)
}

/// Bytes of a process that are in memory.
///
/// # Errors
/// There is no such process, or it belongs to another user.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).context("no Rss line")?;
    let kib = line.trim().trim_end_matches(" kB").parse::<u64>().context("Rss is no number")?;
    Ok(kib * 1024)
}

/// CPU shares over a window: marks at both ends of it.
#[derive(Debug)]
pub(crate) struct CpuMarks {
    server: Option<u32>,
    window: Window,
    from: Option<Mark>,
    to: Option<Mark>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    at: u64,
    server: u64,
    client: u64,
}

impl CpuMarks {
    pub(crate) fn new(server: Option<u32>, window: Window) -> Self {
        Self { server, window, from: None, to: None }
    }

    /// To be called in every turn; cheap but for the two turns at the window's ends.
    #[inline]
    pub(crate) fn turn(&mut self, now: u64, clock: Clock) -> Result<()> {
        if self.from.is_none() && now >= self.window.from {
            self.from = Some(self.mark(clock)?);
        } else if self.to.is_none() && now >= self.window.to {
            self.to = Some(self.mark(clock)?);
        }
        Ok(())
    }

    fn mark(&self, clock: Clock) -> Result<Mark> {
        let server = self.server.map_or(Ok(0), cpu_ns)?;
        Ok(Mark { at: clock.now(), server, client: cpu_ns(std::process::id())? })
    }

    /// Shares of one CPU that the server (if its pid is known) and the client used.
    pub(crate) fn shares(&self) -> (Option<f64>, Option<f64>) {
        let Some((from, to)) = self.from.zip(self.to) else { return (None, None) };
        let time = (to.at - from.at).max(1) as f64;
        let server = self.server.map(|_| to.server.saturating_sub(from.server) as f64 / time);
        (server, Some(to.client.saturating_sub(from.client) as f64 / time))
    }
}
