//! Churn: connections that are closed in order and made anew while the run goes on.
//!
//! Above: `worker` gives it a turn each time it has sent what is due. Below: `connecting`, `desk`.
//! Absent: sending. The new connection is made before the old one is closed: nothing that is due
//! has to wait, and what the old one owes is still answered on it.
//! Bound: `MAKING_MAX` connections being made at once, and `CLOSING_MAX` being closed.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::connecting::{Connecting, Line};
use crate::desk::at_desk;
use crate::histogram::Latencies;

/// Connections that are being made at once, at most.
const MAKING_MAX: usize = 256;
/// Connections that are being closed at once, at most.
const CLOSING_MAX: usize = 4_096;

/// What was made anew within the measured part.
#[derive(Debug, Clone)]
pub(crate) struct Renewals {
    /// Connections that were to be made anew.
    pub(crate) asked: u64,
    /// Those that were, and took over.
    pub(crate) made: u64,
    /// Those that could not be made, or did not close in order.
    pub(crate) failed: u64,
    /// Why the first of these did not.
    pub(crate) first_failure: Option<String>,
    /// From the wish to be connected until they were.
    pub(crate) connect: Latencies,
}

impl Renewals {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { asked: 0, made: 0, failed: 0, first_failure: None, connect: Latencies::new() }
    }

    /// Adds another worker's.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.asked += other.asked;
        self.made += other.made;
        self.failed += other.failed;
        if self.first_failure.is_none() {
            self.first_failure.clone_from(&other.first_failure);
        }
        self.connect.merge(&other.connect);
    }

    fn fail(&mut self, count: u64, why: impl FnOnce() -> String) {
        self.failed += count;
        self.first_failure.get_or_insert_with(why);
    }
}

/// When connections are made anew: evenly over the run, one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Connections per second of this generator.
    pub(crate) per_s: f64,
    /// Start of the measured part, in nanoseconds since the start of the run.
    pub(crate) warmup_ns: u64,
    /// Its end.
    pub(crate) end_ns: u64,
}

impl Pace {
    fn at_ns(&self, number: u64) -> u64 {
        ((number + 1) as f64 / self.per_s * 1e9).round() as u64
    }

    /// How many are due by `at_ns`.
    fn due_by(&self, at_ns: u64) -> u64 {
        (at_ns as f64 / 1e9 * self.per_s).floor() as u64
    }
}

type Asked = Pin<Box<dyn Future<Output = postring::Result<()>>>>;

struct Making {
    carrier: u32,
    generation: u32,
    begun_ns: u64,
    line: Line,
    connected: Asked,
}

/// The churn of one generator.
pub(crate) struct Churn {
    pace: Pace,
    connecting: Connecting,
    number: u64,
    making: Vec<Making>,
    /// They live until they have closed.
    closing: Vec<(Line, Asked)>,
    /// What came of it.
    pub(crate) renewals: Renewals,
}

impl Churn {
    /// Nothing is due yet.
    pub(crate) fn new(pace: Pace, connecting: Connecting) -> Self {
        let (making, closing) = (Vec::new(), Vec::new());
        Self { pace, connecting, number: 0, making, closing, renewals: Renewals::new() }
    }

    /// Begins what is due at `now_ns`, and lets `lines` change: calls `changed` with the number of
    /// each that is another one from now on.
    pub(crate) fn turn(&mut self, now_ns: u64, lines: &mut [Line], changed: impl FnMut(u32)) {
        self.begin(now_ns, lines.len() as u64);
        self.finish(now_ns, lines, changed);
        self.reap();
    }

    /// True while an old connection still closes.
    pub(crate) fn closes(&mut self) -> bool {
        self.reap();
        !self.closing.is_empty()
    }

    fn begin(&mut self, now_ns: u64, lines: u64) {
        let until_ns = now_ns.min(self.pace.end_ns.saturating_sub(1));
        while self.pace.at_ns(self.number) <= until_ns {
            if self.is_full() {
                return self.give_up(until_ns);
            }
            let measured = self.pace.at_ns(self.number) >= self.pace.warmup_ns;
            self.renewals.asked += u64::from(measured);
            let (carrier, turn) = ((self.number % lines) as u32, self.number / lines);
            self.number += 1;
            let generation = turn as u32 + 1;
            match self.connecting.initiate(carrier, generation) {
                Ok(line) => {
                    let connected: Asked = Box::pin(line.activate());
                    let begun_ns = now_ns;
                    self.making.push(Making { carrier, generation, begun_ns, line, connected });
                }
                Err(error) => self.renewals.fail(1, || error.to_string()),
            }
        }
    }

    fn is_full(&self) -> bool {
        self.making.len() >= MAKING_MAX || self.closing.len() >= CLOSING_MAX
    }

    /// Counts what is due by `until_ns` as failed, however much: one by one, a rate far out of
    /// reach would take longer than the run.
    fn give_up(&mut self, until_ns: u64) {
        let (next, due) = (self.number, self.pace.due_by(until_ns).max(self.number + 1));
        let measured_from = match self.pace.warmup_ns.checked_sub(1) {
            Some(before_ns) => self.pace.due_by(before_ns).clamp(next, due),
            None => next,
        };
        self.number = due;
        self.renewals.asked += due - measured_from;
        let why = "too many were being made or closed already";
        if due > measured_from {
            self.renewals.fail(due - measured_from, || why.to_owned());
        }
    }

    fn finish(&mut self, now_ns: u64, lines: &mut [Line], mut changed: impl FnMut(u32)) {
        let mut at = 0;
        while let Some(making) = self.making.get_mut(at) {
            match making.connected.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => at += 1,
                Poll::Ready(Err(error)) => {
                    self.renewals.fail(1, || error.to_string());
                    self.making.swap_remove(at);
                }
                Poll::Ready(Ok(())) => {
                    let made = self.making.swap_remove(at);
                    self.take_over(now_ns, made, lines, &mut changed);
                }
            }
        }
    }

    fn take_over(
        &mut self,
        now_ns: u64,
        made: Making,
        lines: &mut [Line],
        changed: &mut impl FnMut(u32),
    ) {
        let renewed = at_desk(|desk| desk.renew(made.carrier, made.generation)).unwrap_or(false);
        let Some(line) = lines.get_mut(made.carrier as usize).filter(|_| renewed) else {
            // The old one had ended by itself, which its books say.
            let why = "its connection was gone before";
            return self.renewals.fail(1, || why.to_owned());
        };
        let old = std::mem::replace(line, made.line);
        changed(made.carrier);
        let closed: Asked = Box::pin(old.close());
        self.closing.push((old, closed));
        if made.begun_ns >= self.pace.warmup_ns {
            self.renewals.made += 1;
            self.renewals.connect.record(now_ns.saturating_sub(made.begun_ns));
        }
    }

    fn reap(&mut self) {
        let renewals = &mut self.renewals;
        self.closing.retain_mut(|(_, closed)| {
            match closed.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => true,
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(error)) => {
                    renewals.fail(1, || format!("it did not close in order: {error}"));
                    false
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_due_evenly_and_none_at_the_start() {
        let pace = Pace { per_s: 4.0, warmup_ns: 0, end_ns: 1_000_000_000 };
        let due = [0, 1, 2, 3].map(|number| pace.at_ns(number));
        assert_eq!(due, [250_000_000, 500_000_000, 750_000_000, 1_000_000_000]);
    }

    /// A billion a second: to count them one by one would take longer than the test may.
    #[test]
    fn what_is_out_of_reach_is_counted_at_once() {
        let pace = Pace { per_s: 1e9, warmup_ns: 1_000_000_000, end_ns: 60_000_000_000 };
        let connecting = Connecting { address: "tcp://127.0.0.1:1".to_owned(), chains: false };
        let mut churn = Churn::new(pace, connecting);
        churn.give_up(59_999_999_999);
        let renewals = &churn.renewals;
        assert_eq!((renewals.asked, renewals.failed), (59_000_000_000, 59_000_000_000));
        assert_eq!(churn.number, 59_999_999_999);
        churn.give_up(1);
        assert_eq!(churn.number, 60_000_000_000, "each turn ends, whatever the rounding says");
    }

    #[test]
    fn renewals_add_up_and_keep_the_first_failure() {
        let (mut one, mut two) = (Renewals::new(), Renewals::new());
        (one.asked, one.made) = (3, 3);
        one.connect.record(1_000);
        two.asked = 2;
        two.fail(1, || "refused".to_owned());
        two.fail(1, || "reset".to_owned());
        one.merge(&two);
        assert_eq!((one.asked, one.made, one.failed, one.connect.count()), (5, 3, 2, 1));
        assert_eq!(one.first_failure.as_deref(), Some("refused"));
    }
}
