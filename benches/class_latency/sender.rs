//! Sender: one Carrier with bulk, urgent Messages, or more than the path can bear.
//!
//! Above: `namespaces` gives it a thread. Below: the public API. Every Message begins with its
//! kind and the time it was *meant* to be sent, so that waiting at the door counts.

use std::time::{Duration, Instant};

use postring::{Engine, LengthPrefixed, Limits, Message, TrySendError};
use rustix::time::{ClockId, clock_gettime};

/// Kinds of Messages, the first byte of each.
pub(crate) const URGENT: u8 = 0;
pub(crate) const BULK: u8 = 2;
pub(crate) const TIMED: u8 = 1;

/// What is sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Load {
    /// 100 B of class 0 every 10 ms.
    pub(crate) urgent: bool,
    /// Messages of this length, as many as fit.
    pub(crate) bulk: Option<usize>,
    /// Whether bulk has niceness 2; else nothing has any, and what comes first goes first.
    pub(crate) classes: bool,
    /// Messages of 1 400 B at this rate, each due within 100 ms.
    pub(crate) offered_bytes_per_s: Option<f64>,
    /// What the kernel may hold unsent, if not the default.
    pub(crate) unsent_bytes: Option<u32>,
    /// Whether they say so.
    pub(crate) lifetime: Option<Duration>,
}

/// The first urgent Message comes when congestion control has found the path's rate.
const WARM_UP: Duration = Duration::from_millis(1500);

/// What a timed Message has until it is late, whether it says so or not.
pub(crate) const DUE: Duration = Duration::from_millis(100);

/// Nanoseconds of the clock that both hosts share.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

fn content(kind: u8, meant_ns: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![kind; len.max(9)];
    bytes[1..9].copy_from_slice(&meant_ns.to_be_bytes());
    bytes
}

/// Sends `load` for `duration`, then ends in order; how many timed Messages were offered.
pub(crate) fn send(address: &str, load: &Load, duration: Duration) -> anyhow::Result<u64> {
    let mut limits = Limits::default();
    // Deep, as a plain socket's buffer is: bulk shall be able to stand in the way.
    limits.send_queue_bytes = 4 << 20;
    if let Some(bytes) = load.unsent_bytes {
        limits.paced_unsent_bytes = bytes;
    }
    let engine = Engine::builder().unpinned(1).limits(limits).start()?;
    let carrier = engine.initiate_with(address, LengthPrefixed::default());
    carrier.activate().wait()?;
    let end = Instant::now() + duration;
    let mut threads = Vec::new();
    let here = *carrier;
    if let Some(len) = load.bulk {
        let classes = load.classes;
        threads.push(std::thread::spawn(move || -> anyhow::Result<u64> {
            while Instant::now() < end {
                let message = Message::new(content(BULK, now_ns(), len));
                let message = if classes { message.niceness(2) } else { message };
                here.send(message).wait()?;
            }
            Ok(0)
        }));
    }
    if load.urgent {
        threads.push(std::thread::spawn(move || -> anyhow::Result<u64> {
            let mut next = Instant::now() + WARM_UP;
            let mut next_ns = now_ns() + WARM_UP.as_nanos() as u64;
            while next < end {
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
                here.send(Message::new(content(URGENT, next_ns, 100))).wait()?;
                next += Duration::from_millis(10);
                next_ns += 10_000_000;
            }
            Ok(0)
        }));
    }
    if let Some(rate) = load.offered_bytes_per_s {
        let lifetime = load.lifetime;
        threads.push(std::thread::spawn(move || offer(here, rate, lifetime, end)));
    }
    let mut offered = 0;
    for thread in threads {
        offered += thread.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??;
    }
    // What is queued still leaves; a receiver that has all sees the end.
    drop(carrier);
    engine.shutdown();
    engine.wait()?;
    Ok(offered)
}

/// Offers Messages at a rate, whatever becomes of them; how many.
fn offer(
    carrier: postring::CarrierRef<LengthPrefixed>,
    bytes_per_s: f64,
    lifetime: Option<Duration>,
    end: Instant,
) -> anyhow::Result<u64> {
    const LEN: usize = 1400;
    let gap_ns = ((LEN + 4) as f64 / bytes_per_s * 1e9) as u64;
    let begin_ns = now_ns();
    let mut offered = 0;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_micros(500));
        while begin_ns + offered * gap_ns <= now_ns() {
            let meant_ns = begin_ns + offered * gap_ns;
            offered += 1;
            let late = Duration::from_nanos(now_ns().saturating_sub(meant_ns));
            let message = Message::new(content(TIMED, meant_ns, LEN));
            let left = lifetime.map(|lifetime| lifetime.saturating_sub(late));
            let message = match left {
                Some(left) => message.lifetime(left),
                None => message,
            };
            match carrier.try_send(message) {
                // A full queue refuses: offered all the same.
                Ok(()) | Err(TrySendError::Full(_)) => {}
                Err(TrySendError::Failed(error)) => return Err(error.into()),
            }
        }
    }
    Ok(offered)
}
