//! What `theory` found, line by line: theory beside measurement, and whether they agree.
//!
//! Above: `theory`. Below: `difference` for what is chance; shown as an `exhibit`.
//! Absent: runs.

use serde_json::{Value, json};

use super::{COMMITTED, Case, Found, Kind, ROUNDS, Round, WIRE_BYTES};
use crate::difference::Difference;
use crate::histogram::Latencies;
use crate::quantity::{count_shown, time_shown};
use crate::queueing::Waits;
use crate::report::{Curves, Exhibit, Panel};
use crate::verdict::{Level, Reason, Verdict};

/// How surely the noise holds what is chance.
const CONFIDENCE: f64 = 0.95;
/// How late the link's timers may wake on average, in parts of what the link takes for a message.
/// Chance does not cancel that out.
const LATE_SHARE: f64 = 0.05;
/// What pauses of the machine that are longer than the link's credit may take of its capacity.
const LOST_SHARE: f64 = 0.002;
/// More noise than this part of the wait tells nothing.
const NOISE_SHARE_MAX: f64 = 0.2;
const QUESTION: &str = "Whether messages wait for a narrow link as long as queueing theory says, \
                        in one class and in two: what holds for a generator, a network and a \
                        queue with priorities that do what they say.";

impl Round {
    /// The response time without a wait: the median of as many as leave at once in theory. An idle
    /// machine takes longer than one at work, so they are those of this very run.
    fn unloaded_ns(&self) -> f64 {
        let sum = |count: fn(&Waits) -> u64| self.expected.iter().map(count).sum::<u64>() as f64;
        let share = sum(|waits| waits.at_once) / sum(|waits| waits.count).max(1.0);
        quantile_ns(&self.measurement.overall.response, share / 2.0)
    }
}

/// What theory and measurement say of one class of a case.
struct Line {
    load: f64,
    kind: Kind,
    class: String,
    messages: u64,
    formula_ns: f64,
    expected_ns: f64,
    measured_ns: f64,
    /// What may lie between the last two; `None` of a single round.
    noise_ns: Option<f64>,
}

impl Line {
    fn off_ns(&self) -> f64 {
        self.measured_ns - self.expected_ns
    }

    /// Whether it is as in theory; `None` if that is not to be told through so much noise.
    fn agrees(&self) -> Option<bool> {
        let tells = |noise_ns: &f64| *noise_ns <= NOISE_SHARE_MAX * self.expected_ns;
        let is_off = |noise_ns: f64| self.off_ns().abs() > noise_ns;
        self.noise_ns.filter(tells).map(|noise_ns| !is_off(noise_ns))
    }

    /// What is not as in theory, or cannot be told.
    fn reason(&self) -> Option<Reason> {
        let level = match self.agrees() {
            Some(true) => return None,
            Some(false) => Level::Invalid,
            None => Level::Suspect,
        };
        let noise = self.noise_ns.map_or_else(|| "unknown".to_owned(), signed);
        let text = format!(
            "{}: a mean wait of {} where theory says {}; the noise is {noise}",
            self.name(),
            signed(self.measured_ns),
            signed(self.expected_ns),
        );
        Some(Reason { level, code: "theory".into(), text })
    }

    fn name(&self) -> String {
        match self.kind {
            Kind::OneClass => self.kind.name().to_owned(),
            Kind::TwoClasses => format!("two: {}", self.class),
        }
    }
}

impl Found {
    /// How much longer than in theory a lab may make messages wait: late timers, and a capacity
    /// that is a little smaller, to which the wait answers the more the less of it is left.
    fn late_ns(&self, load: f64, expected_ns: f64) -> f64 {
        LATE_SHARE * self.width.service_ns + expected_ns * LOST_SHARE / (1.0 - load)
    }

    fn lines(&self) -> Vec<Line> {
        self.cases.iter().flat_map(|case| self.lines_of(case)).collect()
    }

    fn lines_of(&self, case: &Case) -> Vec<Line> {
        let Some(first) = case.rounds.first() else { return Vec::new() };
        let formulas = case.kind.formula_ns(case.load, self.width.service_ns);
        let classes = first.measurement.plan.workload.classes.iter().zip(formulas).enumerate();
        let line = |(at, (class, formula_ns)): (usize, (&crate::workload::Class, f64))| {
            let books = |round: &Round| round.measurement.books.classes[at].response.clone();
            let measured_ns =
                |round: &Round| books(round).mean_ns().unwrap_or(0.0) - round.unloaded_ns();
            let expected_ns = |round: &Round| round.expected[at].mean_ns();
            let off = |round: &Round| measured_ns(round) - expected_ns(round);
            let offs: Vec<f64> = case.rounds.iter().map(off).collect();
            let noise = Difference::of(&offs, CONFIDENCE);
            let expected_ns = mean(case.rounds.iter().map(expected_ns));
            let late_ns = self.late_ns(case.load, expected_ns);
            Line {
                load: case.load,
                kind: case.kind,
                class: class.name.clone(),
                messages: case.rounds.iter().map(|round| books(round).count()).sum(),
                formula_ns,
                expected_ns,
                measured_ns: mean(case.rounds.iter().map(measured_ns)),
                noise_ns: noise.map(|off| off.interval.1 - off.mean + late_ns),
            }
        };
        classes.map(line).collect()
    }

    /// Says of the last run of a case whose waits are others than in theory that it is not to be
    /// believed, and if they cannot be told, that.
    pub(super) fn judge(&mut self) {
        for at in 0..self.cases.len() {
            let lines = self.lines_of(&self.cases[at]);
            let Some(last) = self.cases[at].rounds.last_mut() else { continue };
            let verdict = &mut last.measurement.verdict;
            let mut reasons = std::mem::take(&mut verdict.reasons);
            reasons.extend(lines.iter().filter_map(Line::reason));
            *verdict = Verdict::of(reasons);
        }
    }

    pub(super) fn exhibit(&self, link: String, link_bytes_per_s: f64) -> Exhibit<'_> {
        let lines = self.lines();
        let mut runs = Vec::new();
        for case in &self.cases {
            let name = |at| format!("{:.0} %, {}, {}", case.load * 100.0, case.kind.name(), at + 1);
            let named = case.rounds.iter().enumerate();
            runs.extend(named.map(|(at, round)| (name(at), &round.measurement)));
        }
        let loads = lines.chunk_by(|one, next| one.load == next.load);
        Exhibit {
            name: "theory",
            question: QUESTION,
            note: self.note(),
            link,
            link_bytes_per_s,
            panels: loads.map(|lines| self.panel(lines)).collect(),
            figures: lines.iter().map(figure).collect(),
            runs,
        }
    }

    fn note(&self) -> String {
        let rounds = self.cases.iter().flat_map(|case| &case.rounds);
        let unloaded_ns: Vec<f64> = rounds.map(Round::unloaded_ns).collect();
        format!(
            "Datagrams of {WIRE_BYTES} B on the wire at random times (Poisson) for a link that \
             takes {} for each. Formula: the mean wait after Pollaczek and Khinchine (M/D/1), \
             and after Cobham for two classes of which the first always goes first. These \
             arrivals: what the very arrivals of the runs wait on an ideal link that, as this \
             one, lets {} pass early after it was idle and, with two classes, has taken \
             {COMMITTED} messages ahead of time that nothing overtakes. Measured: the mean \
             response time less the median of those that leave at once ({} on average). Noise: \
             the 95 % interval of the difference over {ROUNDS} runs of different arrivals, \
             {:.0} % of a message's time for timers that wake late, and how much longer they \
             wait for a link that pauses of the machine make slower by {:.1} %; beyond a fifth \
             of the wait it tells nothing (n/a).",
            time_shown(self.width.service_ns as u64),
            time_shown(self.width.credit_ns.max(0.0) as u64),
            time_shown(mean(unloaded_ns.into_iter()) as u64),
            LATE_SHARE * 100.0,
            LOST_SHARE * 100.0,
        )
    }

    fn panel(&self, lines: &[Line]) -> Panel {
        let titles = [
            "queue",
            "messages",
            "formula",
            "these arrivals",
            "measured",
            "ratio",
            "noise",
            "as in theory",
        ];
        let load = lines.first().map_or(0.0, |line| line.load);
        Panel {
            title: format!("Load {:.0} %: mean wait for the link", load * 100.0),
            note: "Measured response times of all runs together.",
            columns: titles.map(ToOwned::to_owned).to_vec(),
            rows: lines.iter().map(row).collect(),
            curves: Some(self.curves(load)),
        }
    }

    fn curves(&self, load: f64) -> Curves {
        let mut lines = Vec::new();
        for case in self.cases.iter().filter(|case| case.load == load) {
            for (at, line) in self.lines_of(case).iter().enumerate() {
                let mut times = Latencies::new();
                let mut unanswered = 0;
                for round in &case.rounds {
                    let books = &round.measurement.books.classes[at];
                    times.merge(&books.response);
                    unanswered += books.account.messages.unanswered();
                }
                lines.push((line.name(), times, unanswered));
            }
        }
        Curves::of_percentiles("Percentiles of the response times", lines)
    }
}

fn row(line: &Line) -> Vec<String> {
    let agrees = match line.agrees() {
        Some(true) => "yes",
        Some(false) => "no",
        None => "n/a",
    };
    let ratio = line.measured_ns / line.expected_ns;
    vec![
        line.name(),
        count_shown(line.messages),
        signed(line.formula_ns),
        signed(line.expected_ns),
        signed(line.measured_ns),
        if ratio.is_finite() { format!("{ratio:.3}") } else { "n/a".to_owned() },
        line.noise_ns.map_or_else(|| "n/a".to_owned(), |noise_ns| format!("±{}", signed(noise_ns))),
        agrees.to_owned(),
    ]
}

fn figure(line: &Line) -> Value {
    json!({
        "load": line.load,
        "told": if line.kind == Kind::OneClass { "FIFO" } else { "niceness" },
        "class": line.class,
        "messages": line.messages,
        "formula_ns": line.formula_ns,
        "expected_ns": line.expected_ns,
        "measured_ns": line.measured_ns,
        "noise_ns": line.noise_ns,
        "agrees": line.agrees(),
    })
}

/// A time that a broken measurement can make negative.
fn signed(time_ns: f64) -> String {
    let text = time_shown(time_ns.abs().round() as u64);
    if time_ns < 0.0 { format!("-{text}") } else { text }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

fn quantile_ns(latencies: &Latencies, share: f64) -> f64 {
    let rank = (latencies.count() as f64 * share).ceil().max(1.0) as u64;
    latencies.at_ranks(&[rank])[0].unwrap_or(0) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_by_more_than_the_noise_is_not_as_in_theory() {
        let line = |measured_ns: f64, noise_ns: Option<f64>| Line {
            load: 0.8,
            kind: Kind::OneClass,
            class: "all".to_owned(),
            messages: 1,
            formula_ns: 240.0,
            expected_ns: 200.0,
            measured_ns,
            noise_ns,
        };
        assert_eq!(line(210.0, Some(10.0)).agrees(), Some(true));
        assert_eq!(line(189.0, Some(10.0)).agrees(), Some(false));
        let unknown = [None, Some(41.0)].map(|noise_ns| line(189.0, noise_ns).agrees());
        assert_eq!(unknown, [None, None], "noise of over a fifth hides what there is");
        assert_eq!(row(&line(-1_500.0, None))[4..], ["-1.50 µs", "-7.500", "n/a", "n/a"]);
        let none_waits = Line { expected_ns: 0.0, ..line(0.0, Some(10.0)) };
        assert_eq!(row(&none_waits)[5..], ["n/a", "±10 ns", "n/a"], "a run of no time");
        let level = |line: Line| line.reason().map(|reason| reason.level);
        assert_eq!(level(line(210.0, Some(10.0))), None);
        assert_eq!(level(line(250.0, None)), Some(Level::Suspect));
        let reason = line(1_500.0, Some(10.0)).reason().expect("far off");
        assert_eq!(reason.level, Level::Invalid);
        assert!(reason.text.contains("1.50 µs where theory says 200 ns"), "{}", reason.text);
    }
}
