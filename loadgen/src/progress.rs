//! One line on the terminal while a run goes on.
//!
//! Above: `conduct` draws it a few times a second. Below: standard error. Absent: on anything
//! that is no terminal, and with --quiet; access to the generators' books (it sees their
//! published counts only).

use std::io::{IsTerminal, Write, stderr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::quantity::{count_shown, rate_shown};
use crate::worker::Live;

/// The line and what it needs to know from one drawing to the next.
pub(crate) struct Progress {
    drawn: bool,
    total: Duration,
    warmup: Duration,
    last: Option<(Duration, u64)>,
}

impl Progress {
    /// A line for a run of `warmup` and `duration`; shown on a terminal only.
    pub(crate) fn new(warmup: Duration, duration: Duration, quiet: bool) -> Self {
        let drawn = !quiet && stderr().is_terminal();
        Self { drawn, total: warmup + duration, warmup, last: None }
    }

    /// Draws the state after `elapsed`.
    pub(crate) fn draw(&mut self, elapsed: Duration, live: &[Live]) {
        if self.drawn {
            let line = self.line(elapsed, live);
            // A terminal that went away takes only the progress with it.
            let _ = write!(stderr(), "\r\x1b[2K{line}");
        }
    }

    /// Wipes the line.
    pub(crate) fn clear(&self) {
        if self.drawn {
            let _ = write!(stderr(), "\r\x1b[2K");
        }
    }

    fn line(&mut self, elapsed: Duration, live: &[Live]) -> String {
        let sum = |count: fn(&Live) -> &std::sync::atomic::AtomicU64| -> u64 {
            live.iter().map(|live| count(live).load(Ordering::Relaxed)).sum()
        };
        let received = sum(|live| &live.received);
        let in_flight = sum(|live| &live.submitted).saturating_sub(received);
        let rate = self.last.map_or(0.0, |(at, before)| {
            let since = elapsed.saturating_sub(at).as_secs_f64().max(1e-3);
            received.saturating_sub(before) as f64 / since
        });
        self.last = Some((elapsed, received));
        const WIDTH: usize = 24;
        let share = (elapsed.as_secs_f64() / self.total.as_secs_f64()).min(1.0);
        let done = (share * WIDTH as f64) as usize;
        let bar = format!("{}{}", "━".repeat(done), "─".repeat(WIDTH - done));
        let phase = if elapsed < self.warmup { "warm-up" } else { "measuring" };
        let mut line = format!(
            "{bar} {:4.1} of {:.1} s  {phase}  {} answered  {} in flight",
            elapsed.min(self.total).as_secs_f64(),
            self.total.as_secs_f64(),
            rate_shown(rate),
            count_shown(in_flight),
        );
        let skipped = sum(|live| &live.skipped);
        if skipped > 0 {
            line += &format!("  {} skipped", count_shown(skipped));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_the_rate_since_the_last_one() {
        let second = Duration::from_secs(1);
        let mut progress = Progress::new(second, second * 9, true);
        let live = [Live::default(), Live::default()];
        live[0].received.store(500, Ordering::Relaxed);
        live[0].submitted.store(503, Ordering::Relaxed);
        let line = progress.line(second / 2, &live);
        assert!(line.contains("warm-up") && line.contains("3 in flight"), "{line}");
        live[1].received.store(20_000, Ordering::Relaxed);
        let line = progress.line(second * 3 / 2, &live);
        assert!(line.contains("20 000/s answered") && line.contains("measuring"), "{line}");
        assert!(!line.contains("skipped"));
    }
}
