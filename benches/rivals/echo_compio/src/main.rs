//! Compio: an echo server with owned reads, the ring set up as compio allows best.
//!
//! Above: the client. Below: compio 0.19.
//! Absent: no timeouts, no limits beyond the frame's; no multishot reads, which were slower for
//! large frames. Bound: one buffer per connection, as large as its largest frame.

use anyhow::Result;
use common::options::ServerOptions;
use common::{FIRST_BUFFER, frames, listening};
use compio::BufResult;
use compio::buf::{IntoInner as _, IoBuf as _};
use compio::driver::ProactorBuilder;
use compio::io::{AsyncRead as _, AsyncWriteExt as _};
use compio::net::{TcpListener, TcpStream};
use std::io;

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; FIRST_BUFFER];
    let mut filled = 0;
    loop {
        let BufResult(count, slice) = stream.read(buffer.slice(filled..)).await;
        buffer = slice.into_inner();
        match count? {
            0 => return Ok(()),
            count => filled += count,
        }
        let found = frames::scan(&buffer[..filled])?;
        if found.whole > 0 {
            let BufResult(written, slice) = stream.write_all(buffer.slice(..found.whole)).await;
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
    let mut proactor = ProactorBuilder::new();
    proactor.capacity(4096).cqsize(16 * 1024);
    proactor.single_issuer(true).defer_taskrun(true).coop_taskrun(true);
    let runtime = compio::runtime::RuntimeBuilder::new().with_proactor(proactor).build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listening::listening_socket(options.address)?)?;
        loop {
            // A failed accept concerns the one connection that went away.
            if let Ok((stream, _)) = listener.accept().await {
                compio::runtime::spawn(echo(stream)).detach();
            }
        }
    })
}
