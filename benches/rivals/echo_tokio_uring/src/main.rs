//! Tokio-uring: an echo server with COOP_TASKRUN and registered buffers while they last.
//!
//! Above: the client. Below: tokio-uring 0.5.
//! Absent: no timeouts, no limits beyond the frame's. Bounds: [`REGISTERED`] registered buffers;
//! further connections, and frames that do not fit one, use the heap.

use anyhow::Result;
use common::options::ServerOptions;
use common::{FIRST_BUFFER, frames, listening};
use std::io;
use tokio_uring::buf::BoundedBuf as _;
use tokio_uring::buf::fixed::FixedBufPool;
use tokio_uring::net::{TcpListener, TcpStream};

const REGISTERED: usize = 1024;

type Pool = FixedBufPool<Vec<u8>>;

async fn echo(stream: TcpStream, pool: Option<Pool>) -> io::Result<()> {
    match pool.and_then(|pool| pool.try_next(FIRST_BUFFER)) {
        Some(buffer) => echo_registered(stream, buffer).await,
        None => echo_heap(stream, vec![0; FIRST_BUFFER], 0).await,
    }
}

async fn echo_registered(
    stream: TcpStream,
    mut buffer: tokio_uring::buf::fixed::FixedBuf,
) -> io::Result<()> {
    let mut filled = 0;
    loop {
        let (count, slice) = stream.read_fixed(buffer.slice(filled..)).await;
        buffer = slice.into_inner();
        match count? {
            0 => return Ok(()),
            count => filled += count,
        }
        let found = frames::scan(&buffer[..filled])?;
        if found.whole > 0 {
            let (written, slice) = stream.write_fixed_all(buffer.slice(..found.whole)).await;
            buffer = slice.into_inner();
            written?;
            buffer.copy_within(found.whole..filled, 0);
            filled -= found.whole;
        }
        if found.wanted > FIRST_BUFFER {
            let mut heap = vec![0; frames::room_for(found.wanted)];
            heap[..filled].copy_from_slice(&buffer[..filled]);
            drop(buffer);
            return echo_heap(stream, heap, filled).await;
        }
    }
}

async fn echo_heap(stream: TcpStream, mut buffer: Vec<u8>, mut filled: usize) -> io::Result<()> {
    loop {
        let (count, slice) = stream.read(buffer.slice(filled..)).await;
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
    let mut ring = tokio_uring::uring_builder();
    ring.setup_coop_taskrun().setup_cqsize(16 * 1024);
    tokio_uring::builder().entries(4096).uring_builder(&ring).start(async {
        let pool = FixedBufPool::new((0..REGISTERED).map(|_| Vec::with_capacity(FIRST_BUFFER)));
        // A small memlock limit refuses the registration; the heap serves as well.
        let pool = pool.register().ok().map(|()| pool);
        let listener = TcpListener::from_std(listening::listening_socket(options.address)?);
        loop {
            // A failed accept concerns the one connection that went away.
            if let Ok((stream, _)) = listener.accept().await {
                tokio_uring::spawn(echo(stream, pool.clone()));
            }
        }
    })
}
