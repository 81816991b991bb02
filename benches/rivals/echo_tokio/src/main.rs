//! Tokio: an echo server on the current_thread runtime.
//!
//! Above: the client. Below: tokio's net and io-util.
//! Absent: no timeouts, no limits beyond the frame's. Bound: one buffer per connection, as large as
//! its largest frame.

use anyhow::Result;
use common::options::ServerOptions;
use common::{FIRST_BUFFER, frames, listening};
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listening::listening_socket(options.address)?)?;
        loop {
            // A failed accept concerns the one connection that went away.
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(echo(stream));
            }
        }
    })
}
