//! Glommio: an echo server on one local executor.
//!
//! Above: the client. Below: glommio 0.9, futures-lite.
//! Absent: no timeouts, no limits beyond the frame's. Bound: one buffer per connection, as large as
//! its largest frame.

use anyhow::{Result, anyhow};
use common::options::ServerOptions;
use common::{FIRST_BUFFER, frames, listening};
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};
use std::io;
use std::os::fd::{FromRawFd as _, IntoRawFd as _};

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; FIRST_BUFFER];
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).await?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
        let found = frames::scan(&buffer[..filled])?;
        if found.whole > 0 {
            stream.write_all(&buffer[..found.whole]).await?;
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
    let placement = options.core.map_or(Placement::Unbound, Placement::Fixed);
    let executor = LocalExecutorBuilder::new(placement).ring_depth(4096).make();
    let executor = executor.map_err(|error| anyhow!("cannot start glommio: {error}"))?;
    executor.run(async {
        let socket = listening::listening_socket(options.address)?;
        // SAFETY: the descriptor is open and ownership of it moves here.
        let listener = unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) };
        loop {
            // A failed accept concerns the one connection that went away.
            if let Ok(stream) = listener.accept().await {
                glommio::spawn_local(async move {
                    let _ended = echo(stream).await;
                })
                .detach();
            }
        }
    })
}
