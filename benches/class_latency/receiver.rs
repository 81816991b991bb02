//! Receiver: a plain socket at the far end that says when each Message was whole.
//!
//! Above: `namespaces` gives it a thread. Below: the standard library. It knows the frames, not
//! the crate. Absent: the sender's clock readings other than those in the Messages.

use std::io::Read;
use std::net::TcpListener;
use std::time::Duration;

use crate::sender::{BULK, DUE, TIMED, URGENT, now_ns};

/// What came.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    urgent_ns: Vec<u64>,
    bulk_bytes: u64,
    bulk_ns: Option<(u64, u64)>,
    pub(crate) offered: u64,
    pub(crate) on_time: u64,
    pub(crate) late: u64,
    pub(crate) late_bytes: u64,
    pub(crate) bytes: u64,
}

impl Tally {
    /// A quantile of the urgent Messages' latencies in milliseconds; 0 if there were none.
    pub(crate) fn urgent_ms(&self, quantile: f64) -> f64 {
        let last = self.urgent_ns.len().saturating_sub(1);
        let at = (last as f64 * quantile).round() as usize;
        self.urgent_ns.get(at).map_or(0.0, |ns| *ns as f64 / 1e6)
    }

    pub(crate) fn urgent_count(&self) -> usize {
        self.urgent_ns.len()
    }

    pub(crate) fn bulk_mbit_per_s(&self) -> f64 {
        let Some((first, last)) = self.bulk_ns.filter(|(first, last)| last > first) else {
            return 0.0;
        };
        self.bulk_bytes as f64 * 8.0 / ((last - first) as f64 / 1e9) / 1e6
    }

    fn take(&mut self, message: &[u8], now: u64) {
        let Some((&kind, rest)) = message.split_first() else { return };
        let Some(meant) = rest.first_chunk::<8>() else { return };
        let latency = now.saturating_sub(u64::from_be_bytes(*meant));
        let len = message.len() as u64 + 4;
        self.bytes += len;
        match kind {
            URGENT => self.urgent_ns.push(latency),
            BULK => {
                self.bulk_bytes += len;
                let first = self.bulk_ns.map_or(now, |(first, _)| first);
                self.bulk_ns = Some((first, now));
            }
            TIMED if latency <= DUE.as_nanos() as u64 => self.on_time += 1,
            TIMED => {
                self.late += 1;
                self.late_bytes += len;
            }
            _ => {}
        }
    }
}

/// Takes one connection until its end.
pub(crate) fn receive(listener: &TcpListener) -> anyhow::Result<Tally> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut tally = Tally::default();
    let mut buffer = vec![0; 256 << 10];
    let mut held = 0;
    loop {
        let came = stream.read(&mut buffer[held..])?;
        if came == 0 {
            break;
        }
        held += came;
        let now = now_ns();
        let mut at = 0;
        while let Some(head) = buffer[at..held].first_chunk::<4>() {
            let len = u32::from_be_bytes(*head) as usize;
            let Some(message) = buffer[at + 4..held].get(..len) else { break };
            tally.take(message, now);
            at += 4 + len;
        }
        buffer.copy_within(at..held, 0);
        held -= at;
    }
    tally.urgent_ns.sort_unstable();
    Ok(tally)
}
