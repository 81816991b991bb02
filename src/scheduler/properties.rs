//! Properties: what holds for every Message in every sequence of calls, by what an owner can know.
//!
//! Below: `steps` has the sequences. Absent: exact orders of everything at once; `model` has them.

use proptest::prelude::*;

use super::steps::{BOUNDS, Step, antecedents, steps};
use super::tests::expired;
use super::*;

#[derive(Debug, Clone)]
struct Noted {
    ask: (u32, Option<u64>, Vec<Number>, usize),
    taken: usize,
    complete: bool,
    outcomes: usize,
    sent: bool,
}

/// What an owner can know of its Messages, and what must be true of each piece it is given.
#[derive(Debug, Default)]
struct Notes(Vec<Noted>);

impl Notes {
    fn at(&mut self, number: Number) -> &mut Noted {
        &mut self.0[number as usize - 1]
    }

    fn is_ready(&self, noted: &Noted) -> bool {
        let is_sent = |number: &Number| self.0[*number as usize - 1].sent;
        noted.outcomes == 0 && !noted.complete && noted.ask.2.iter().all(is_sent)
    }

    /// The lowest niceness among a Message and those that wait for it, however indirectly.
    fn urgency(&self, number: Number) -> u32 {
        let mut urgent = vec![false; self.0.len() + 1];
        urgent[number as usize] = true;
        for (at, noted) in self.0.iter().enumerate().skip(number as usize) {
            let waits = noted.ask.2.iter().any(|antecedent| urgent[*antecedent as usize]);
            urgent[at + 1] = waits && noted.outcomes == 0;
        }
        let niceness = |at: usize| urgent[at + 1].then(|| self.0[at].ask.0);
        (0..self.0.len()).filter_map(niceness).min().expect("itself")
    }

    fn check_taken(&mut self, now_us: u64, path: &Path, taken: Taken, interleaves: bool) {
        let noted = self.0[taken.number as usize - 1].clone();
        assert!(self.is_ready(&noted), "antecedents first: {taken:?}");
        assert_eq!(noted.taken, taken.from);
        if interleaves || taken.from == 0 {
            if let Some(deadline_us) = noted.ask.1 {
                assert!(now_us + path.delay_us <= deadline_us && now_us < deadline_us);
            }
            let urgency = self.urgency(taken.number);
            for (at, other) in self.0.iter().enumerate() {
                let waits = self.is_ready(other) && other.ask.0 < urgency;
                assert!(!waits, "{} waits behind {taken:?}", at + 1);
            }
            let others = self.0.iter().filter(|other| !other.complete && other.outcomes == 0);
            let begun = others.filter(|other| other.taken > 0).count();
            assert!(interleaves || begun == 0, "a second Message is begun");
        }
        let noted = self.at(taken.number);
        noted.taken += taken.len;
        noted.complete = taken.last;
        assert_eq!(taken.last, noted.taken == noted.ask.3);
    }

    fn end(&mut self, number: Number, sent: bool) {
        let noted = self.at(number);
        noted.outcomes += 1;
        noted.sent = sent;
        assert_eq!(noted.outcomes, 1, "message {number}");
    }

    fn end_expired(&mut self, scheduler: &mut Scheduler<Number>) {
        for (number, _, begun) in expired(scheduler) {
            assert_eq!(begun, self.at(number).taken > 0);
            self.end(number, false);
        }
    }
}

fn play(scheduler: &mut Scheduler<Number>, notes: &mut Notes, now_us: &mut u64, step: &Step) {
    let next = scheduler.next;
    match step {
        Step::Submit { carrier, niceness, lifetime_us, back, bytes } => {
            let antecedents = antecedents(next, back);
            let deadline_us = lifetime_us.map(|lifetime_us| *now_us + lifetime_us);
            let (carrier, niceness, bytes) = (*carrier, *niceness, *bytes);
            let ask = Ask { carrier, niceness, deadline_us, antecedents: &antecedents, bytes };
            if scheduler.submit(*now_us, ask, next).is_ok() {
                let ask = (niceness, deadline_us, antecedents, bytes);
                notes.0.push(Noted { ask, taken: 0, complete: false, outcomes: 0, sent: false });
            }
        }
        Step::Take { path, quantum } => {
            let taken = scheduler.take(*now_us, path, *quantum);
            notes.end_expired(scheduler);
            if let Some(taken) = taken {
                notes.check_taken(*now_us, path, taken, scheduler.interleaves);
            }
        }
        Step::Finish(at) => {
            let is_due = |noted: &&Noted| noted.complete && noted.outcomes == 0;
            let due: Vec<_> = notes.0.iter().filter(is_due).collect();
            if !due.is_empty() {
                let chosen = due[at % due.len()];
                let is_chosen = |noted: &Noted| std::ptr::eq(noted, chosen);
                let at = notes.0.iter().position(is_chosen).expect("it is one of them");
                assert_eq!(scheduler.finish(at as u64 + 1), Some(at as u64 + 1));
                notes.end(at as u64 + 1, true);
            }
        }
        Step::FinishAny(_) => {}
        Step::Withdraw(back) => {
            if let Some(number) = scheduler.withdraw(next.saturating_sub(*back)) {
                notes.end(number, false);
            }
        }
        Step::Advance(by_us) => *now_us += by_us,
        Step::Expire => scheduler.expire(*now_us),
        Step::Poll => notes.end_expired(scheduler),
        Step::Drain => scheduler.drain().for_each(|(number, _)| notes.end(number, false)),
    }
    let (ledger, queued) = (&scheduler.ledger, scheduler.queued_messages() as u64);
    assert_eq!(ledger.submitted.messages, ledger.settled().messages + queued);
    let queued_bytes = scheduler.queued_bytes() as u64;
    assert_eq!(ledger.submitted.bytes, ledger.settled().bytes + queued_bytes);
    assert!(ledger.wasted_bytes <= ledger.handed_bytes);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
    #[test]
    fn every_message_ends_once_after_its_antecedents_and_behind_nobody_nicer(
        steps in steps(),
        interleaves: bool,
    ) {
        let mut scheduler = match interleaves {
            true => Scheduler::new_interleaving(BOUNDS),
            false => Scheduler::new(BOUNDS),
        };
        let (mut notes, mut now_us) = (Notes::default(), 1000);
        for step in &steps {
            play(&mut scheduler, &mut notes, &mut now_us, step);
        }
        notes.end_expired(&mut scheduler);
        play(&mut scheduler, &mut notes, &mut now_us, &Step::Drain);
        for (at, noted) in notes.0.iter().enumerate() {
            prop_assert_eq!(noted.outcomes, 1, "message {}", at + 1);
        }
        let sent: usize = notes.0.iter().filter(|noted| noted.sent).map(|noted| noted.ask.3).sum();
        prop_assert_eq!(scheduler.ledger.sent.bytes, sent as u64);
    }
}
