//! Check: is it an echo server at all? Odd senders, large frames, refusal of impossible ones.
//!
//! Above: `main`. Below: blocking sockets; a thread writes while this one reads.
//! Absent: no measuring. Bound: every read gives up after [`PATIENCE`].

use crate::TargetOptions;
use anyhow::{Context as _, Result, bail, ensure};
use common::frames::PREFIX;
use rand::rngs::SmallRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// Runs all checks, each on a connection of its own.
///
/// # Errors
/// The first check that failed, by name.
pub(crate) fn check(target: &TargetOptions, seed: u64) -> Result<Value> {
    let mut random = SmallRng::seed_from_u64(seed);
    let bystander = connect(target)?;
    let mut case = |name: &str, sizes: &[usize], piece: usize| {
        let sent = frames(sizes, &mut random);
        echoes(connect(target)?, &sent, piece).with_context(|| format!("check `{name}`"))
    };
    case("one frame", &[64], usize::MAX)?;
    case("empty frames", &[0, 0, 5, 0], usize::MAX)?;
    case("byte by byte", &[0, 1, 300, 64], 1)?;
    case("odd pieces", &[10, 20_000, 0, 4096, 4092], 1013)?;
    case("one frame of 1 MiB", &[1 << 20], usize::MAX)?;
    case("large among small", &[64, 1 << 20, 64, 64, 100_000, 17_000, 16_380, 5], usize::MAX)?;
    let mut sizes = SmallRng::seed_from_u64(seed);
    let varied: Vec<usize> = (0..2000).map(|_| sizes.random_range(0..9000)).collect();
    case("pipelined, of all sizes", &varied, usize::MAX)?;
    case("pipelined, small", &[64; 20_000], usize::MAX)?;
    refuses(connect(target)?).context("check `impossible length`")?;
    echoes(bystander, &frames(&[64], &mut random), usize::MAX).context("check `bystander`")?;
    Ok(json!({"mode": "check", "checks": 10, "errors": 0}))
}

fn connect(target: &TargetOptions) -> Result<TcpStream> {
    let socket = TcpStream::connect(target.address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn frames(sizes: &[usize], random: &mut SmallRng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &size in sizes {
        bytes.extend_from_slice(&(size as u32).to_be_bytes());
        let at = bytes.len();
        bytes.resize(at + size, 0);
        random.fill_bytes(&mut bytes[at..]);
    }
    bytes
}

/// Sends in pieces, closes the sending side, and wants all of it back and then the end.
fn echoes(socket: TcpStream, sent: &[u8], piece: usize) -> Result<()> {
    let mut received = Vec::with_capacity(sent.len());
    std::thread::scope(|scope| -> Result<()> {
        let writer = scope.spawn(|| -> Result<()> {
            for part in sent.chunks(piece.min(sent.len())) {
                (&socket).write_all(part)?;
            }
            Ok(socket.shutdown(Shutdown::Write)?)
        });
        (&socket).read_to_end(&mut received).context("the end does not come")?;
        writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?.context("cannot send")
    })?;
    ensure!(received.len() == sent.len(), "{} bytes of {}", received.len(), sent.len());
    if let Some(at) = received.iter().zip(sent).position(|(got, sent)| got != sent) {
        bail!("byte {at} of {} differs", sent.len());
    }
    Ok(())
}

/// A frame of 4 GiB must end the connection, not the server.
fn refuses(mut socket: TcpStream) -> Result<()> {
    let mut sent = [0xff; PREFIX + 60].to_vec();
    sent[PREFIX..].fill(0);
    socket.write_all(&sent)?;
    match socket.read(&mut [0; 64]) {
        Ok(0) => Ok(()),
        Ok(count) => bail!("{count} bytes came back"),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error).context("the connection stays open"),
    }
}
