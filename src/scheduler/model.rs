//! Model: the scheduler as its documentation says it, in plain loops over plain lists, and the test
//! that holds the real one to it.
//!
//! Above: nothing. Below: `steps`. Absent: speed; the bounds on what is remembered.

use proptest::prelude::*;

use super::steps::{BOUNDS, Step, antecedents, steps};
use super::*;

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Queued,
    InHand,
    Sent,
    Failed,
}

#[derive(Debug)]
struct Letter {
    own: Rank,
    carrier: u32,
    antecedents: Vec<Number>,
    bytes: usize,
    taken: usize,
    late: bool,
    state: State,
}

#[derive(Debug)]
struct Flow {
    key: (u32, bool, u32),
    finish: u64,
    last_start: u64,
    credit: u64,
}

/// Every Message ever, by number - 1; nothing is taken out or kept in order.
#[derive(Debug, Default)]
struct Model {
    interleaves: bool,
    letters: Vec<Letter>,
    begun: Option<Number>,
    events: Vec<(Number, Expiry, bool)>,
    unpolled: (usize, usize),
    clocks: Vec<((u32, bool), u64)>,
    flows: Vec<Flow>,
    ledger: Ledger,
}

impl Model {
    fn letter(&mut self, number: Number) -> &mut Letter {
        &mut self.letters[number as usize - 1]
    }

    fn state(&self, number: Number) -> Option<State> {
        self.letters.get((number as usize).checked_sub(1)?).map(|letter| letter.state)
    }

    fn live(&self) -> impl Iterator<Item = (Number, &Letter)> {
        let numbered = self.letters.iter().enumerate().map(|(at, letter)| (at as u64 + 1, letter));
        numbered.filter(|(_, letter)| matches!(letter.state, State::Queued | State::InHand))
    }

    fn is_live(&self, number: Number) -> bool {
        matches!(self.state(number), Some(State::Queued | State::InHand))
    }

    fn queued_bytes(&self) -> usize {
        self.live().map(|(_, letter)| letter.bytes).sum()
    }

    /// The ranks of all that are live, later Messages first: nobody is waited for by earlier ones.
    fn ranks(&self) -> Vec<(Number, Rank)> {
        let mut ranks: Vec<(Number, Rank)> = Vec::new();
        let live: Vec<_> = self.live().collect();
        for &(number, letter) in live.iter().rev() {
            let waits =
                |other: Number| self.letters[other as usize - 1].antecedents.contains(&number);
            let inherited = ranks.iter().filter(|(other, _)| waits(*other)).map(|(_, rank)| *rank);
            let rank = inherited.min().map_or(letter.own, |rank| rank.min(letter.own));
            ranks.push((number, rank));
        }
        ranks
    }

    fn rank(&self, number: Number) -> Rank {
        let ranks = self.ranks();
        ranks.iter().find(|(other, _)| *other == number).expect("it is live").1
    }

    fn tag(&mut self, carrier: u32, own: &Rank, bytes: usize) -> u64 {
        let class = (own.niceness, own.has_deadline());
        let horizon = self.flows.iter().map(|flow| flow.finish).max().unwrap_or(0);
        if !self.clocks.iter().any(|clock| clock.0 == class) {
            self.clocks.push((class, horizon));
        }
        let now = self.clocks.iter().find(|clock| clock.0 == class).expect("just made").1;
        let key = (class.0, class.1, carrier);
        if !self.flows.iter().any(|flow| flow.key == key) {
            self.flows.push(Flow { key, finish: 0, last_start: 0, credit: 0 });
        }
        let flow = self.flows.iter_mut().find(|flow| flow.key == key).expect("just made");
        let start = [now, flow.finish - flow.credit, flow.last_start].into_iter().max();
        let start = start.expect("three numbers have a greatest");
        flow.credit = start - now.max(flow.finish - flow.credit);
        flow.last_start = start;
        flow.finish = start + bytes.max(1) as u64;
        start
    }

    /// Takes a Message's place away; it has its new state already.
    fn left(&mut self, number: Number) {
        let letter = &self.letters[number as usize - 1];
        let class = (letter.own.niceness, letter.own.has_deadline());
        let key = (class.0, class.1, letter.carrier);
        let unserved = letter.bytes.max(1) - letter.taken;
        let is_served = letter.taken == letter.bytes;
        let flow = self.flows.iter_mut().find(|flow| flow.key == key).expect("it was tagged");
        if !is_served {
            flow.credit += unserved as u64;
        }
        let of_class = |own: &Rank| (own.niceness, own.has_deadline()) == class;
        let carrier = letter.carrier;
        let in_class = self.live().filter(|(_, letter)| of_class(&letter.own)).count();
        let in_flow = self.live().filter(|(_, letter)| of_class(&letter.own));
        let in_flow = in_flow.filter(|(_, letter)| letter.carrier == carrier).count();
        if in_class == 0 {
            self.clocks.retain(|clock| clock.0 != class);
        }
        if in_flow == 0 {
            let flow = self.flows.iter_mut().find(|flow| flow.key == key);
            flow.expect("it was tagged").last_start = 0;
        }
        if self.begun == Some(number) {
            self.begun = None;
        }
    }

    fn fail(&mut self, number: Number, why: Expiry) {
        let letter = self.letter(number);
        letter.state = State::Failed;
        let (bytes, taken, late) = (letter.bytes, letter.taken, letter.late);
        self.ledger.wasted_bytes += if late { 0 } else { taken as u64 };
        self.ledger.expiry(why).count(bytes);
        self.events.push((number, why, taken > 0));
        self.unpolled = (self.unpolled.0 + 1, self.unpolled.1 + bytes);
        self.left(number);
        self.fail_successors();
    }

    fn fail_successors(&mut self) {
        let is_failed = |number: &Number| self.state(*number) == Some(State::Failed);
        let next = self.live().find_map(|(number, letter)| {
            letter.antecedents.iter().copied().find(is_failed).map(|failed| (number, failed))
        });
        if let Some((number, failed)) = next {
            self.fail(number, Expiry::Antecedent(failed));
        }
    }

    fn submit(&mut self, now_us: u64, ask: &Ask<'_>) -> Result<Number, Refusal> {
        let refused = self.refusal(ask);
        if let Some(refusal) = refused {
            self.ledger.refused += 1;
            return Err(refusal);
        }
        self.ledger.submitted.count(ask.bytes);
        let deadline_us = ask.deadline_us.unwrap_or(NEVER_US);
        let mut own = Rank { niceness: ask.niceness, deadline_us, tag: 0 };
        own.tag = self.tag(ask.carrier, &own, ask.bytes);
        self.letters.push(Letter {
            own,
            carrier: ask.carrier,
            antecedents: ask.antecedents.to_vec(),
            bytes: ask.bytes,
            taken: 0,
            late: false,
            state: State::Queued,
        });
        let number = self.letters.len() as Number;
        self.fail_successors();
        if self.is_live(number) && own.has_deadline() && deadline_us <= now_us {
            self.fail(number, Expiry::Deadline);
        }
        Ok(number)
    }

    fn refusal(&self, ask: &Ask<'_>) -> Option<Refusal> {
        let mut asked = ask.antecedents.iter();
        if asked.len() > 16 {
            return Some(Refusal::TooManyAntecedents);
        }
        if let Some(&unknown) = asked.find(|number| self.state(**number).is_none()) {
            return Some(Refusal::UnknownAntecedent(unknown));
        }
        let is_full = self.live().count() + self.unpolled.0 >= BOUNDS.messages
            || self.queued_bytes() + self.unpolled.1 >= BOUNDS.bytes;
        is_full.then_some(Refusal::Full)
    }

    fn expire(&mut self, now_us: u64) {
        while let Some((deadline_us, number)) = self.next_expiry()
            && deadline_us <= now_us
        {
            self.fail(number, Expiry::Deadline);
        }
    }

    fn next_expiry(&self) -> Option<(u64, Number)> {
        let queued = self.live().filter(|(_, letter)| letter.state == State::Queued);
        let expires = queued
            .filter(|(number, letter)| letter.own.has_deadline() && self.begun != Some(*number));
        expires.map(|(number, letter)| (letter.own.deadline_us, number)).min()
    }

    fn take(&mut self, now_us: u64, path: &Path, quantum: usize) -> Option<Taken> {
        self.expire(now_us);
        if quantum == 0 {
            return None;
        }
        let number = loop {
            let number = match self.begun {
                Some(number) => break number,
                None => self.first_ready()?,
            };
            let letter = self.letter(number);
            let left = (letter.bytes - letter.taken) as f64 + path.unsent_bytes as f64;
            let rate = path.rate_bytes_per_s.filter(|&rate| rate > 0);
            let wire_us = rate.map_or(0.0, |rate| (left * 1e6 / rate as f64).ceil());
            let arrival_us = now_us as f64 + wire_us + path.delay_us as f64;
            if !letter.own.has_deadline() || arrival_us <= letter.own.deadline_us as f64 {
                break number;
            }
            self.fail(number, Expiry::Hopeless);
        };
        Some(self.hand_over(now_us, number, quantum))
    }

    fn first_ready(&self) -> Option<Number> {
        let queued = self.live().filter(|(_, letter)| letter.state == State::Queued);
        let is_sent = |number: &Number| self.state(*number) == Some(State::Sent);
        let ready = queued.filter(|(_, letter)| letter.antecedents.iter().all(is_sent));
        let ready: Vec<_> = ready.map(|(number, _)| number).collect();
        let ranks = self.ranks().into_iter().filter(|(number, _)| ready.contains(number));
        ranks.map(|(number, rank)| (rank, number)).min().map(|(_, number)| number)
    }

    fn hand_over(&mut self, now_us: u64, number: Number, quantum: usize) -> Taken {
        let rank = self.rank(number);
        let class = (rank.niceness, rank.has_deadline());
        for clock in self.clocks.iter_mut().filter(|clock| clock.0 == class) {
            clock.1 = clock.1.max(rank.tag);
        }
        let interleaves = self.interleaves;
        let letter = self.letter(number);
        let from = letter.taken;
        let len = quantum.min(letter.bytes - from);
        letter.taken += len;
        let last = letter.taken == letter.bytes;
        let mut wasted = 0;
        if letter.own.has_deadline() && letter.own.deadline_us <= now_us {
            wasted = if letter.late { len } else { letter.taken };
            letter.late = true;
        }
        if last {
            letter.state = State::InHand;
        } else if interleaves {
            letter.own.tag += len as u64;
        }
        self.begun = (!last && !interleaves).then_some(number);
        self.ledger.handed_bytes += len as u64;
        self.ledger.wasted_bytes += wasted as u64;
        Taken { number, from, len, last }
    }

    fn finish(&mut self, number: Number) -> bool {
        let is_done = self.state(number) == Some(State::InHand);
        if is_done {
            let letter = self.letter(number);
            letter.state = State::Sent;
            let bytes = letter.bytes;
            self.ledger.sent.count(bytes);
            self.left(number);
        }
        is_done
    }

    /// Withdrawn, or drained.
    fn withdraw(&mut self, number: Number, drains: bool) -> bool {
        let was_live = self.is_live(number);
        if was_live {
            let letter = self.letter(number);
            letter.state = State::Failed;
            let (bytes, taken, late) = (letter.bytes, letter.taken, letter.late);
            self.ledger.wasted_bytes += if late { 0 } else { taken as u64 };
            let ledger = &mut self.ledger;
            let tally = if drains { &mut ledger.drained } else { &mut ledger.withdrawn };
            tally.count(bytes);
            self.left(number);
            if !drains {
                self.fail_successors();
            }
        }
        was_live
    }
}

/// Both, and what is known of the events.
struct Pair {
    real: Scheduler<u64>,
    model: Model,
    now_us: u64,
    polled: Vec<Number>,
}

impl Pair {
    fn new(interleaves: bool) -> Self {
        let real = match interleaves {
            true => Scheduler::new_interleaving(BOUNDS),
            false => Scheduler::new(BOUNDS),
        };
        let model = Model { interleaves, ..Model::default() };
        Self { real, model, now_us: 1000, polled: Vec::new() }
    }

    fn play(&mut self, step: &Step) {
        let next = self.model.letters.len() as Number + 1;
        let now_us = self.now_us;
        match step {
            Step::Submit { carrier, niceness, lifetime_us, back, bytes } => {
                let antecedents = antecedents(next, back);
                let ask = Ask {
                    carrier: *carrier,
                    niceness: *niceness,
                    deadline_us: lifetime_us.map(|lifetime_us| now_us + lifetime_us),
                    antecedents: &antecedents,
                    bytes: *bytes,
                };
                let got = self.real.submit(now_us, ask, next * 7);
                let got = got.map_err(|(refusal, payload)| {
                    assert_eq!(payload, next * 7);
                    refusal
                });
                assert_eq!(got, self.model.submit(now_us, &ask));
            }
            Step::Take { path, quantum } => {
                let wanted = self.model.take(now_us, path, *quantum);
                assert_eq!(self.real.take(now_us, path, *quantum), wanted);
            }
            Step::Finish(at) => {
                let in_hand = self.model.live().filter(|(_, one)| one.state == State::InHand);
                let in_hand: Vec<_> = in_hand.map(|(number, _)| number).collect();
                if !in_hand.is_empty() {
                    self.finish(in_hand[at % in_hand.len()]);
                }
            }
            Step::FinishAny(back) => self.finish(next.saturating_sub(*back)),
            Step::Withdraw(back) => {
                let number = next.saturating_sub(*back);
                let wanted = self.model.withdraw(number, false).then_some(number * 7);
                assert_eq!(self.real.withdraw(number), wanted);
            }
            Step::Advance(by_us) => self.now_us += by_us,
            Step::Expire => {
                self.real.expire(now_us);
                self.model.expire(now_us);
            }
            Step::Poll => self.poll(),
            Step::Drain => {
                let wanted: Vec<_> = self.model.live().map(|(number, _)| number).collect();
                // Latest first, as credit comes back in the order of leaving.
                for &number in wanted.iter().rev() {
                    self.model.withdraw(number, true);
                }
                let got: Vec<_> = self.real.drain().collect();
                assert_eq!(got, wanted.iter().map(|at| (*at, at * 7)).collect::<Vec<_>>());
            }
        }
    }

    fn finish(&mut self, number: Number) {
        let wanted = self.model.finish(number).then_some(number * 7);
        assert_eq!(
            self.real.slots.find(number).is_some(),
            self.model.is_live(number) || wanted.is_some()
        );
        assert_eq!(self.real.finish(number), wanted);
    }

    /// All events: the same Messages, each for a reason that holds, antecedents first.
    fn poll(&mut self) {
        let mut wanted = std::mem::take(&mut self.model.events);
        self.model.unpolled = (0, 0);
        while let Some(Event::Expired { number, why, begun, payload }) = self.real.poll_event() {
            assert_eq!(payload, number * 7);
            let at = wanted.iter().position(|event| event.0 == number);
            let at = at.unwrap_or_else(|| panic!("{number} expired ({why:?}) but in the model"));
            let (_, model_why, model_begun) = wanted.remove(at);
            assert_eq!(begun, model_begun);
            match (why, model_why) {
                (Expiry::Antecedent(failed), Expiry::Antecedent(_)) => {
                    let antecedents = &self.model.letter(number).antecedents;
                    assert!(antecedents.contains(&failed));
                    assert_eq!(self.model.state(failed), Some(State::Failed));
                    assert!(!wanted.iter().any(|event| event.0 == failed), "{failed} comes later");
                }
                (why, model_why) => assert_eq!(why, model_why),
            }
            assert!(!self.polled.contains(&number));
            self.polled.push(number);
        }
        assert_eq!(wanted, []);
    }

    fn compare(&self) {
        assert_eq!(self.real.queued_messages(), self.model.live().count());
        assert_eq!(self.real.queued_bytes(), self.model.queued_bytes());
        let timeout_us = self.model.next_expiry().map(|(deadline_us, _)| deadline_us);
        assert_eq!(self.real.next_timeout_us(), timeout_us);
        let best = self.model.live().map(|(_, letter)| letter.own.niceness).min();
        assert_eq!(self.real.fairness.best_niceness(), best);
        assert_eq!(self.real.ledger, self.model.ledger);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
    #[test]
    fn it_does_what_the_model_does(steps in steps(), interleaves: bool) {
        let mut pair = Pair::new(interleaves);
        for step in &steps {
            pair.play(step);
            pair.compare();
        }
        pair.poll();
    }
}
