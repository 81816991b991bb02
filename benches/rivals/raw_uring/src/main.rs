//! Raw io_uring: an echo server on the bare ring, as near to the kernel's limit as we know how.
//!
//! Above: the client. Below: io-uring.
//! Multishot accept into direct descriptors, multishot receive into provided buffers, echoes sent
//! out of the buffer they came in, one enter per turn.
//! Absent: no timeouts, no metrics. Bounds: see `server` and `connection`.

mod connection;
mod server;

use anyhow::{Context as _, Result};
use clap::Parser;
use common::listening;
use common::options::ServerOptions;
use common::receive_buffers::ReceiveBuffers;
use common::ring::{self, Submissions};
use std::os::fd::AsRawFd as _;

/// Provided buffers of the thread. More would cost cache, fewer would starve 1000 connections.
const BUFFERS: u16 = 512;
/// Bytes of one: a frame of 4 KiB with its prefix fits.
const BUFFER_SIZE: u32 = 4096 + 256;
const CONNECTIONS_MAX: u64 = 32 * 1024;

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    server: ServerOptions,
    /// Never sleep: poll the ring all the time
    #[arg(long)]
    spin: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    options.server.pin()?;
    let listener = listening::listening_socket(options.server.address)?;
    let slots = listening::raise_descriptor_limit()?.min(CONNECTIONS_MAX);
    let mut ring = ring::build()?;
    let (submitter, queue, mut completions) = ring.split();
    let submissions = Submissions::new(submitter, queue);
    let submitter = submissions.submitter();
    submitter
        .register_files_sparse(u32::try_from(slots)?)
        .context("cannot register the table of connections")?;
    let buffers = ReceiveBuffers::register(submitter, BUFFERS, BUFFER_SIZE)?;
    let mut server = server::Server::new(submissions, buffers, listener.as_raw_fd());
    loop {
        server.enter(!options.spin)?;
        completions.sync();
        for entry in &mut completions {
            server.complete(&entry)?;
        }
        completions.sync();
    }
}
