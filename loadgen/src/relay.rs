//! The relay: a narrow link in user space, between the generators and a server.
//!
//! Above: scenarios, where there is no right to build a link in the kernel. Below: threads and
//! plain sockets. Absent: knowledge of messages: it passes bytes on, the way there at a fixed
//! rate shared by all connections, the way back at once or at the same rate.
//! Bound: `HELD_BYTES` of each connection wait in it unseen by their sender, `CHUNK_BYTES` in hand.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::environment;

/// What goes over the link in one piece: the payload of a full packet.
const CHUNK_BYTES: usize = 1448;
/// The relay's receive buffer as asked for; the kernel doubles it, half of it for its own use.
const HELD_BYTES: usize = 8 << 10;
/// Waits shorter than this are saved up: a thread sleeps no more precisely.
const NAP: Duration = Duration::from_micros(60);
/// How far the link may be behind its time and catch up: what a busy host takes away.
const BEHIND_MAX: Duration = Duration::from_millis(2);

/// A running relay; it ends when it is dropped.
pub(crate) struct Relay {
    /// Where the generators connect.
    pub(crate) address: String,
    local: SocketAddr,
    ended: Arc<AtomicBool>,
    accepts: Option<JoinHandle<()>>,
}

/// When the link is free again.
struct Link {
    bytes_per_s: f64,
    free_at: Mutex<Instant>,
}

impl Link {
    /// Waits until `bytes` have gone over the link.
    fn pass(&self, bytes: usize) {
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s);
        let until = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let earliest = now.checked_sub(BEHIND_MAX).unwrap_or(now);
            *free_at = (*free_at).max(earliest) + takes;
            *free_at
        };
        let wait = until.saturating_duration_since(Instant::now());
        if wait > NAP {
            std::thread::sleep(wait);
        }
    }
}

impl Relay {
    /// Starts a link of `bytes_per_s` to the server at `target`, on `cores`; with `narrow_back` the
    /// way back is another one of that rate.
    ///
    /// # Errors
    /// If there is no port or no thread for it.
    pub(crate) fn start(
        target: SocketAddr,
        bytes_per_s: f64,
        narrow_back: bool,
        cores: &[usize],
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port for the relay")?;
        #[cfg(target_os = "linux")]
        rustix::net::sockopt::set_socket_recv_buffer_size(&listener, HELD_BYTES)
            .context("the relay's receive buffer")?;
        let local = listener.local_addr().context("the relay's address")?;
        let free = || Arc::new(Link { bytes_per_s, free_at: Mutex::new(Instant::now()) });
        let (there, back) = (free(), narrow_back.then(free));
        let ended = Arc::new(AtomicBool::new(false));
        let (told, cores) = (Arc::clone(&ended), cores.to_vec());
        let accepts = std::thread::Builder::new().name("relay".to_owned()).spawn(move || {
            environment::stay_on(&cores);
            for near in listener.incoming() {
                if told.load(Ordering::Relaxed) {
                    return;
                }
                // A connection that cannot be passed on ends; its generator says so.
                if let (Ok(near), Ok(far)) = (near, TcpStream::connect(target)) {
                    let _ = join(near, far, &there, back.as_ref());
                }
            }
        });
        let accepts = accepts.context("no thread for the relay")?;
        Ok(Self { address: format!("tcp://{local}"), local, ended, accepts: Some(accepts) })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let woken = TcpStream::connect(self.local).is_ok();
        if let Some(accepts) = self.accepts.take().filter(|_| woken) {
            let _ = accepts.join();
        }
    }
}

/// Passes on both ways until an end closes.
fn join(
    near: TcpStream,
    far: TcpStream,
    link: &Arc<Link>,
    back: Option<&Arc<Link>>,
) -> std::io::Result<()> {
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (mut back_from, mut back_to) = (far.try_clone()?, near.try_clone()?);
    let (link, back) = (Arc::clone(link), back.map(Arc::clone));
    if back.is_some() {
        #[cfg(target_os = "linux")]
        rustix::net::sockopt::set_socket_recv_buffer_size(&far, HELD_BYTES)?;
    }
    let spawn = |name: &str| std::thread::Builder::new().name(name.to_owned());
    spawn("relay back").spawn(move || {
        // Either end may close at any time.
        match back {
            Some(link) => paced(&back_from, &back_to, &link),
            None => drop(std::io::copy(&mut back_from, &mut back_to)),
        }
        let _ = back_to.shutdown(Shutdown::Write);
    })?;
    spawn("relay there").spawn(move || {
        paced(&near, &far, &link);
        let _ = (far.shutdown(Shutdown::Write), near.shutdown(Shutdown::Read));
    })?;
    Ok(())
}

/// A paced way.
fn paced(mut near: &TcpStream, mut far: &TcpStream, link: &Link) {
    let mut chunk = [0; CHUNK_BYTES];
    loop {
        let count = match near.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        link.pass(count);
        if far.write_all(&chunk[..count]).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_unchanged_and_not_before_their_time() {
        passes(false, Duration::from_millis(197));
        passes(true, Duration::from_millis(394));
    }

    /// 200 kB there and, once they are all there, back.
    fn passes(narrow_back: bool, at_least: Duration) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let target = listener.local_addr().expect("bound");
        let relay = Relay::start(target, 1e6, narrow_back, &[]).expect("a relay");
        let serves = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the relay connects");
            let mut got = Vec::new();
            stream.read_to_end(&mut got).expect("bytes");
            stream.write_all(&got).expect("the way back is open");
        });
        let begun = Instant::now();
        let sent: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        let mut client = TcpStream::connect(relay.local).expect("the relay listens");
        client.write_all(&sent).expect("the relay reads");
        client.shutdown(Shutdown::Write).expect("open");
        let mut got = Vec::new();
        client.read_to_end(&mut got).expect("the echo");
        assert_eq!(got, sent);
        assert!(begun.elapsed() >= at_least, "{:?}", begun.elapsed());
        serves.join().expect("no panic");
        drop(relay);
    }
}
