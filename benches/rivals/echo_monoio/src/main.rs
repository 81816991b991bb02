//! Monoio: an echo server on its io_uring driver, the ring set up with DEFER_TASKRUN.
//!
//! Above: the client. Below: monoio 0.2.
//! Without that flag every arrival interrupts the server's core, and monoio would look worse than
//! it is. Absent: no timeouts, no limits beyond the frame's. Bound: one buffer per connection.

use anyhow::{Context as _, Result};
use common::options::ServerOptions;
use common::{FIRST_BUFFER, frames, listening};
use monoio::buf::{IoBuf as _, IoBufMut as _};
use monoio::io::{AsyncReadRent as _, AsyncWriteRentExt as _};
use monoio::net::{TcpListener, TcpStream};
use std::io;

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; FIRST_BUFFER];
    let mut filled = 0;
    loop {
        let (count, slice) = stream.read(buffer.slice_mut(filled..)).await;
        buffer = slice.into_inner();
        match count? {
            0 => return Ok(()),
            count => filled += count,
        }
        let found = frames::scan(&buffer[..filled])?;
        if found.whole > 0 {
            let (written, slice) = stream.write_all(buffer.slice(..found.whole)).await;
            buffer = slice.into_inner();
            written?;
            buffer.copy_within(found.whole..filled, 0);
            filled -= found.whole;
        }
        if found.wanted > buffer.len() {
            buffer.resize(frames::room_for(found.wanted), 0);
        }
    }
}

fn main() -> Result<()> {
    let options = ServerOptions::from_command_line()?;
    let mut ring = io_uring_06::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun();
    let builder = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().with_entries(4096);
    let mut runtime = builder.uring_builder(ring).build().context("cannot start monoio")?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listening::listening_socket(options.address)?)?;
        loop {
            // A failed accept concerns the one connection that went away.
            if let Ok((stream, _)) = listener.accept().await {
                monoio::spawn(echo(stream));
            }
        }
    })
}
