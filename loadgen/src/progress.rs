//! A few lines on the terminal while a run goes on: how far it is, and one for each class.
//!
//! Above: `conduct` draws it a few times a second. Below: standard error. Absent: on anything
//! that is no terminal, and with --quiet; access to the generators' books (it sees their
//! published counts only).

use std::io::{IsTerminal, Write, stderr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::live::{ClassView, Live};
use crate::plan::Plan;
use crate::quantity::{count_shown, rate_shown, time_shown};

/// Classes that have a line; more would not fit beside a shell's prompt.
const CLASSES_MAX: usize = 8;
/// Width of a class's name.
const NAME: usize = 14;

/// The lines and what they need to know from one drawing to the next.
pub(crate) struct Progress {
    drawn: bool,
    total: Duration,
    warmup: Duration,
    names: Vec<String>,
    /// When it was drawn last, and what had been answered then: over all, then by class.
    last: Option<(Duration, Vec<u64>)>,
    /// Lines on the terminal above the cursor.
    above: usize,
}

impl Progress {
    /// The lines of a run; shown on a terminal only.
    pub(crate) fn new(plan: &Plan, quiet: bool) -> Self {
        let drawn = !quiet && stderr().is_terminal();
        let names = plan.workload.classes.iter().take(CLASSES_MAX).map(|class| class.name.clone());
        Self::of(plan.warmup, plan.duration, names.collect(), drawn)
    }

    const fn of(warmup: Duration, measured: Duration, names: Vec<String>, drawn: bool) -> Self {
        let total = warmup.saturating_add(measured);
        Self { drawn, total, warmup, names, last: None, above: 0 }
    }

    /// Draws the state after `elapsed`.
    pub(crate) fn draw(&mut self, elapsed: Duration, live: &[Live]) {
        if self.drawn {
            let lines = self.lines(elapsed, live);
            let text = format!("{}{}", self.wiped(), lines.join("\n"));
            self.above = lines.len() - 1;
            // A terminal that went away takes only the progress with it.
            let _ = stderr().write_all(text.as_bytes());
        }
    }

    /// Wipes the lines.
    pub(crate) fn clear(&mut self) {
        if self.drawn {
            let _ = stderr().write_all(self.wiped().as_bytes());
            self.above = 0;
        }
    }

    /// What wipes all lines and puts the cursor where they began.
    fn wiped(&self) -> String {
        let up = if self.above > 0 { format!("\x1b[{}A", self.above) } else { String::new() };
        format!("{up}\r\x1b[J")
    }

    /// The line of the whole run, then one for each class.
    fn lines(&mut self, elapsed: Duration, live: &[Live]) -> Vec<String> {
        let views: Vec<_> = (0..self.names.len()).map(|at| ClassView::of(live, at)).collect();
        let all = live.iter().map(|live| live.received.load(Ordering::Relaxed)).sum();
        let received: Vec<u64> =
            std::iter::once(all).chain(views.iter().map(|view| view.received)).collect();
        let rates: Vec<f64> = match &self.last {
            None => vec![0.0; received.len()],
            Some((at, before)) => {
                let since = elapsed.saturating_sub(*at).as_secs_f64().max(1e-3);
                let pairs = received.iter().zip(before);
                pairs.map(|(now, before)| now.saturating_sub(*before) as f64 / since).collect()
            }
        };
        self.last = Some((elapsed, received));
        let mut lines = vec![self.line(elapsed, live, rates[0])];
        let classes = self.names.iter().zip(&views).zip(&rates[1..]);
        lines.extend(classes.map(|((name, view), rate)| class_line(name, view, *rate)));
        lines
    }

    fn line(&self, elapsed: Duration, live: &[Live], rate_per_s: f64) -> String {
        let sum = |count: fn(&Live) -> &std::sync::atomic::AtomicU64| -> u64 {
            live.iter().map(|live| count(live).load(Ordering::Relaxed)).sum()
        };
        let received = sum(|live| &live.received);
        let in_flight = sum(|live| &live.submitted).saturating_sub(received);
        const WIDTH: usize = 24;
        let share = (elapsed.as_secs_f64() / self.total.as_secs_f64()).min(1.0);
        let done = (share * WIDTH as f64) as usize;
        let bar = format!("{}{}", "━".repeat(done), "─".repeat(WIDTH - done));
        let phase = if elapsed < self.warmup { "warm-up" } else { "measuring" };
        let mut line = format!(
            "{bar} {:4.1} of {:.1} s  {phase}  {} answered  {} in flight",
            elapsed.min(self.total).as_secs_f64(),
            self.total.as_secs_f64(),
            rate_shown(rate_per_s),
            count_shown(in_flight),
        );
        let skipped = sum(|live| &live.skipped);
        if skipped > 0 {
            line += &format!("  {} skipped", count_shown(skipped));
        }
        line
    }
}

/// A class: its rate now, its response times so far, what is late and what waits.
fn class_line(name: &str, view: &ClassView, rate_per_s: f64) -> String {
    let name: String = name.chars().take(NAME).collect();
    let rate = rate_shown(rate_per_s);
    let about = |ns: Option<u64>| ns.map_or_else(|| "n/a".to_owned(), time_shown);
    let p50 = about(view.response_ns.map(|(p50, _)| p50));
    let p99 = about(view.response_ns.map(|(_, p99)| p99));
    let (late, waiting) = (count_shown(view.late), count_shown(view.waiting));
    format!("{name:NAME$}{rate:>12}  p50 ~{p50:<8} p99 ~{p99:<8} {late} late  {waiting} waiting")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::ClassCounts;

    #[test]
    fn the_lines_show_the_rate_since_the_last_ones() {
        let second = Duration::from_secs(1);
        let mut progress = Progress::of(second, second * 9, vec!["bulk".to_owned()], false);
        let live = [Live::new(1), Live::new(1)];
        live[0].received.store(500, Ordering::Relaxed);
        live[0].submitted.store(503, Ordering::Relaxed);
        let lines = progress.lines(second / 2, &live);
        assert!(lines[0].contains("warm-up") && lines[0].contains("3 in flight"), "{lines:?}");
        assert!(lines[1].contains("bulk") && lines[1].contains("p99 ~n/a"), "{lines:?}");
        live[1].received.store(20_000, Ordering::Relaxed);
        let mut counts = ClassCounts::new();
        (0..700).for_each(|number| counts.replied(Some(80_000), number < 5));
        live[1].classes[0].publish(&counts, 12);
        let lines = progress.lines(second * 3 / 2, &live);
        let line = &lines[0];
        assert!(line.contains("20 000/s answered") && line.contains("measuring"), "{line}");
        assert!(!line.contains("skipped"));
        for part in [" 700/s ", "5 late", "12 waiting", "p50 ~7", "p99 ~7"] {
            assert!(lines[1].contains(part), "{part} in {}", lines[1]);
        }
        assert!(lines.iter().all(|line| line.chars().count() <= 100), "{lines:?}");
    }

    #[test]
    fn as_much_is_wiped_as_was_drawn() {
        let names = vec!["a".to_owned(), "b".to_owned()];
        let mut progress = Progress::of(Duration::ZERO, Duration::from_secs(1), names, false);
        assert_eq!(progress.wiped(), "\r\x1b[J");
        progress.above = progress.lines(Duration::ZERO, &[Live::new(2)]).len() - 1;
        assert_eq!(progress.wiped(), "\x1b[2A\r\x1b[J");
    }
}
