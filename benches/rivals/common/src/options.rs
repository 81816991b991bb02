//! Options: what every server takes from its command line.
//!
//! Above: every server. Below: clap.
//! Absent: nothing that tunes one case: one binary serves them all.

use crate::listening;
use anyhow::Result;
use clap::Parser;
use std::net::SocketAddr;

/// An echo server: u32 big-endian length, payload, echoed unchanged.
#[derive(Debug, Clone, Parser)]
pub struct ServerOptions {
    /// Where to listen, as HOST:PORT with a numeric host
    #[arg(long)]
    pub address: SocketAddr,
    /// CPU to run on; unpinned without it
    #[arg(long)]
    pub core: Option<usize>,
}

impl ServerOptions {
    /// Reads the command line, or ends the process with a usage error; then pins this thread.
    ///
    /// # Errors
    /// The core cannot be had.
    pub fn from_command_line() -> Result<Self> {
        let options = Self::parse();
        options.pin()?;
        Ok(options)
    }

    /// Pins this thread to the core that was asked for.
    ///
    /// # Errors
    /// The core cannot be had.
    pub fn pin(&self) -> Result<()> {
        self.core.map_or(Ok(()), listening::pin)
    }
}
