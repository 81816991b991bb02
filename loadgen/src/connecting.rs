//! Connecting: makes a generator's Carriers, and gives each the handlers that keep the books.
//!
//! Above: `worker` before the run, `churn` during it. Below: postring's public API, `desk`.
//! Absent: sending. Bound: `CONNECTING_MAX` connections are being made at the same time.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use postring::{Carrier, LengthPrefixed, Message};

use crate::desk;

/// Connections that are being made at the same time.
const CONNECTING_MAX: usize = 64;

/// What a generator sends on.
pub(crate) type Line = Carrier<LengthPrefixed>;

/// How Carriers are made.
#[derive(Debug, Clone)]
pub(crate) struct Connecting {
    /// The server.
    pub(crate) address: String,
    /// Some messages follow others.
    pub(crate) chains: bool,
}

impl Connecting {
    /// A Carrier that is not connected yet: number `carrier` of the books, made anew `generation`
    /// times.
    ///
    /// # Errors
    /// If the engine has ended.
    pub(crate) fn initiate(&self, carrier: u32, generation: u32) -> postring::Result<Line> {
        let line = postring::initiate_with(&self.address, LengthPrefixed::default());
        self.attend(&line, carrier, generation)?;
        Ok(line)
    }

    fn attend(&self, line: &Line, carrier: u32, generation: u32) -> postring::Result<()> {
        line.ready(move |message: Message<'_>| desk::replied(carrier, &message))?;
        line.on_closed(move |reason| desk::closed(carrier, generation, reason))?;
        if self.chains {
            line.on_sent(desk::chained_sent)?;
            line.on_expired(desk::chained_expired)?;
        }
        Ok(())
    }

    /// As many connected Carriers, `per_connection` of them forked from one another.
    ///
    /// # Errors
    /// The first that one of them meets.
    pub(crate) async fn all(&self, count: u32, per_connection: u32) -> postring::Result<Vec<Line>> {
        let mut lines = Vec::with_capacity(count as usize);
        for first in (0..count).step_by(per_connection.max(1) as usize) {
            lines.push(self.initiate(first, 0)?);
        }
        for some in lines.chunks(CONNECTING_MAX) {
            together(some.iter().map(|line| line.activate())).await?;
        }
        if per_connection <= 1 {
            return Ok(lines);
        }
        let mut all = Vec::with_capacity(count as usize);
        for line in lines {
            let first = all.len() as u32;
            let mut forks = Vec::new();
            for number in first + 1..(first + per_connection).min(count) {
                let fork = line.fork().await?;
                self.attend(&fork, number, 0)?;
                forks.push(fork);
            }
            all.push(line);
            all.append(&mut forks);
        }
        Ok(all)
    }
}

/// Waits for all of `futures` side by side, up to the first error.
async fn together<F: Future<Output = postring::Result<()>>>(
    futures: impl Iterator<Item = F>,
) -> postring::Result<()> {
    let mut open: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    poll_fn(move |context| {
        let mut failed = None;
        open.retain_mut(|future| match future.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(Ok(())) => false,
            Poll::Ready(Err(error)) => {
                failed.get_or_insert(error);
                false
            }
        });
        match failed {
            Some(error) => Poll::Ready(Err(error)),
            None if open.is_empty() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    })
    .await
}
