//! One generator: the task that sends on one core and the handlers that take its replies.
//!
//! Above: `conduct` spawns one per CPU and waits for its `Event`s. Below: postring's public API;
//! `pace` says what is due, `recorder` keeps the books.
//! Its books lie on the `desk`. Absent: output.
//! Bound: `BURST_MAX` messages between two turns of the core.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use postring::{Message, MessageId, TrySendError};

use crate::churn::{Churn, Pace, Renewals};
use crate::connecting::{Connecting, Line};
use crate::desk::{self, at_desk};
use crate::environment;
use crate::live::Live;
use crate::pace::{Due, Gaps, Schedule, Share, seed_of};
use crate::pulse::Pulse;
use crate::recorder::{Bounds, Recorder, Refusal};
use crate::verdict::EarlyEnd;
use crate::workload::{Chains, Class, Kind, NEVER_NS, Sampler};

/// Messages sent before the core gets a turn to hand them to the kernel.
const BURST_MAX: usize = 64;
/// Messages of a closed loop's burst that share a look at the clock, up to some 3 us: what they
/// wait for one another counts as theirs.
const LOOK_EVERY: usize = 16;
/// Arrivals drawn ahead in a turn without anything due.
const DRAWN_PER_TURN: usize = 4;
/// How far a generator may be behind before the schedule counts as out of reach.
const BEHIND_MAX_NS: u64 = 3_000_000_000;
/// Skipped messages from which the schedule counts as out of reach, if they are the most.
const SKIPPED_MAX: u64 = 1_000_000;
/// How long the last replies are waited for.
const DRAIN_NS: u64 = 2_000_000_000;
/// Between two looks at what waits.
const SAMPLE_NS: u64 = 50_000_000;
/// Arrivals drawn one by one for the ledger when the run ends behind its schedule.
const REST_DRAWN_MAX: usize = 1_000_000;

/// What a generator is told.
pub(crate) struct Orders {
    /// The server.
    pub(crate) address: String,
    /// Carriers of each connection.
    pub(crate) carriers: u32,
    /// Connections that are made anew per second by this generator, if any are.
    pub(crate) churn_per_s: Option<f64>,
    /// Limits of its books.
    pub(crate) bounds: Bounds,
    /// Its part of the schedule; ignored in a closed loop.
    pub(crate) share: Share,
    /// Gaps of the schedule; `None`: closed loop.
    pub(crate) gaps: Option<Gaps>,
    /// Bytes in a send queue from which a message is refused, if that may come about.
    pub(crate) queue_max: Option<usize>,
    /// Shared with `conduct`.
    pub(crate) control: Arc<Control>,
    /// Where its events go.
    pub(crate) events: Sender<Event>,
}

/// What `conduct` and the generators share during a run.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// Set by SIGINT and SIGTERM.
    pub(crate) stop: Arc<AtomicBool>,
    /// The moment all times count from; set once all generators are ready.
    pub(crate) start: OnceLock<Instant>,
    /// What the view shows, one set per generator.
    pub(crate) live: Vec<Live>,
}

/// What a generator says.
pub(crate) enum Event {
    /// Its connections are made.
    Ready,
    /// They cannot be made.
    Failed(postring::Error),
    /// The run is over.
    Done(Box<Outcome>),
}

/// What a generator has counted.
pub(crate) struct Outcome {
    /// Its books, finished.
    pub(crate) books: Recorder,
    /// Its pulse in the measured part.
    pub(crate) pulse: Pulse,
    /// End of sending, in nanoseconds since the start.
    pub(crate) ended_ns: u64,
    /// Why that was before the end of the plan.
    pub(crate) early_end: Option<EarlyEnd>,
    /// Connections that were made anew.
    pub(crate) renewals: Renewals,
}

/// Connects, waits for the start, sends until the end, waits for the last replies.
pub(crate) async fn run(orders: Orders) {
    desk::open(Recorder::new(orders.bounds.clone()), orders.bounds.connections);
    let carriers = match connecting(&orders).all(orders.bounds.connections, orders.carriers).await {
        Ok(carriers) => carriers,
        Err(error) => {
            // Nobody listens any more only if another generator failed first.
            let _ = orders.events.send(Event::Failed(error));
            return;
        }
    };
    let _ = orders.events.send(Event::Ready);
    let Some(start) = started(&orders.control).await else { return };
    at_desk(|desk| desk.start = Some(start));
    let mut generator = Generator::new(&orders, carriers, start);
    let thread = environment::thread_number().unwrap_or(0);
    generator.live().thread.store(thread, Ordering::Relaxed);
    let (ended_ns, early_end) = generator.send_all().await;
    let pulse = generator.pulse();
    generator.drain(ended_ns).await;
    if let Some(mut books) = desk::close() {
        books.finish();
        let renewals = generator.churn.take().map_or_else(Renewals::new, |churn| churn.renewals);
        let outcome = Outcome { books, pulse, ended_ns, early_end, renewals };
        let _ = orders.events.send(Event::Done(Box::new(outcome)));
    }
}

fn connecting(orders: &Orders) -> Connecting {
    let chains = orders.bounds.workload.chain().is_some();
    Connecting { address: orders.address.clone(), chains }
}

/// The common start; `None` if the run was called off before.
async fn started(control: &Control) -> Option<Instant> {
    loop {
        if let Some(start) = control.start.get() {
            return Some(*start);
        }
        if control.stop.load(Ordering::Relaxed) {
            return None;
        }
        postring::yield_now().await;
    }
}

/// What makes the messages: a schedule, or, in a closed loop, nothing but their kinds.
enum Work {
    Open(Schedule),
    Closed(Sampler),
}

struct Generator<'o> {
    orders: &'o Orders,
    carriers: Vec<Line>,
    /// What makes them anew, if anything does.
    churn: Option<Churn>,
    start: Instant,
    work: Work,
    watched: bool,
    /// What each message of a chain follows; `None` without chains.
    chains: Option<Chains<MessageId>>,
    /// Zeros and a stamp; grows to the longest message.
    payload: Vec<u8>,
    pulse: Pulse,
    /// Read once, at the start of the measured part.
    waited_before_ns: Option<Option<u64>>,
    next_sample_ns: u64,
}

impl<'o> Generator<'o> {
    fn new(orders: &'o Orders, carriers: Vec<Line>, start: Instant) -> Self {
        let workload = &orders.bounds.workload;
        let sampler = Sampler::new(workload.clone(), seed_of(&orders.share));
        Self {
            orders,
            carriers,
            churn: orders.churn_per_s.map(|per_s| {
                let bounds = &orders.bounds;
                let (warmup_ns, end_ns) = (bounds.warmup_ns, bounds.end_ns);
                Churn::new(Pace { per_s, warmup_ns, end_ns }, connecting(orders))
            }),
            start,
            work: match orders.gaps.clone() {
                Some(gaps) => Work::Open(Schedule::new(gaps, orders.share, sampler)),
                None => Work::Closed(sampler),
            },
            watched: workload.is_watched(),
            chains: workload.chain().map(|length| Chains::new(length, orders.bounds.connections)),
            payload: Vec::new(),
            pulse: Pulse::default(),
            waited_before_ns: None,
            next_sample_ns: 0,
        }
    }

    const fn schedule(&mut self) -> Option<&mut Schedule> {
        match &mut self.work {
            Work::Open(schedule) => Some(schedule),
            Work::Closed(_) => None,
        }
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Sends what is due until the schedule has ended: when sending ended, and why too early.
    async fn send_all(&mut self) -> (u64, Option<EarlyEnd>) {
        loop {
            let now_ns = self.now_ns();
            let worked = at_desk(|desk| std::mem::take(&mut desk.worked)).unwrap_or(false);
            self.beat(now_ns, worked);
            if let Some(why) = self.early_end(now_ns) {
                self.count_rest(now_ns);
                return (now_ns, Some(why));
            }
            let ended = match self.work {
                Work::Open(_) => self.send_due(now_ns),
                Work::Closed(_) => self.send_ready(now_ns),
            };
            if ended {
                return (self.orders.bounds.end_ns, None);
            }
            self.sample(now_ns);
            self.renew();
            self.publish();
            postring::yield_now().await;
        }
    }

    /// Now and then, looks at what waits.
    fn sample(&mut self, now_ns: u64) {
        if now_ns >= self.next_sample_ns {
            self.next_sample_ns = now_ns + SAMPLE_NS;
            let live = self.live();
            at_desk(|desk| desk.books.sample(now_ns, live));
        }
    }

    fn live(&self) -> &'o Live {
        &self.orders.control.live[self.orders.share.worker as usize]
    }

    /// Lets connections be made anew.
    fn renew(&mut self) {
        let now_ns = self.now_ns();
        let Some(churn) = &mut self.churn else { return };
        let chains = &mut self.chains;
        churn.turn(now_ns, &mut self.carriers, |connection| {
            if let Some(chains) = chains {
                chains.broken(connection);
            }
        });
    }

    fn beat(&mut self, now_ns: u64, worked: bool) {
        if now_ns >= self.orders.bounds.warmup_ns {
            if self.waited_before_ns.is_none() {
                self.waited_before_ns = Some(environment::waited_for_cpu_ns());
            }
            self.pulse.beat(now_ns, worked);
            if self.pulse.wants_look() {
                self.pulse.look(environment::current_cpu());
            }
        }
    }

    /// The pulse of the measured part.
    fn pulse(&self) -> Pulse {
        let before_ns = self.waited_before_ns.flatten();
        let after_ns = environment::waited_for_cpu_ns();
        let mut pulse = self.pulse;
        pulse.waited_ns = before_ns.zip(after_ns).map(|(before, after)| after - before);
        pulse
    }

    /// Open loop: sends what is due, at most a burst of it. True at the end of the schedule.
    fn send_due(&mut self, now_ns: u64) -> bool {
        let mut count = 0;
        while count < BURST_MAX
            && let Some(due) = self.schedule().and_then(|schedule| schedule.take_due(now_ns))
        {
            let now_ns = self.now_ns();
            self.send(due, now_ns);
            count += 1;
        }
        let end_ns = self.orders.bounds.end_ns;
        let Some(schedule) = self.schedule() else { return true };
        if count == 0 {
            schedule.draw_ahead(DRAWN_PER_TURN);
        }
        now_ns >= end_ns && schedule.peek().is_none()
    }

    /// Closed loop: sends on the connections that had a reply. True when the time is over.
    fn send_ready(&mut self, now_ns: u64) -> bool {
        if now_ns >= self.orders.bounds.end_ns {
            return true;
        }
        let mut now_ns = now_ns;
        for count in 0..BURST_MAX {
            let Some(connection) = at_desk(|desk| desk.books.next_ready()).flatten() else { break };
            let Work::Closed(sampler) = &mut self.work else { return true };
            let kind = sampler.draw();
            if count % LOOK_EVERY == 0 {
                now_ns = self.now_ns();
            }
            // It is meant to leave now: one look at the clock says both.
            self.send(Due { intended_ns: now_ns, connection, kind }, now_ns);
        }
        false
    }

    fn send(&mut self, due: Due, now_ns: u64) {
        let bytes = due.kind.bytes as usize;
        if self.payload.len() < bytes {
            self.payload.resize(bytes, 0);
        }
        let payload = &mut self.payload[..bytes];
        let admitted = at_desk(|desk| {
            desk.worked = true;
            desk.books.admit(&due, now_ns, payload)
        });
        let Some(number) = admitted.flatten() else { return };
        let carrier = &self.carriers[due.connection as usize];
        if self.orders.queue_max.is_some_and(|most| queued(carrier) >= most) {
            at_desk(|desk| desk.books.refused(due.connection, number, Refusal::QueueFull));
            return;
        }
        let class = &self.orders.bounds.workload.classes[usize::from(due.kind.class)];
        let message = message(payload, class, &due, now_ns);
        let connection = due.connection;
        let result = if let Some(chains) = self.chains.as_mut().filter(|_| class.chain.is_some()) {
            follow(chains, carrier, connection, number, message)
        } else if self.watched {
            carrier.send_msg(
                message,
                Some(Box::new(move || desk::sent(connection, number))),
                None,
                Some(Box::new(move || desk::expired(connection, number))),
            )
        } else {
            carrier.try_send(message)
        };
        let refusal = match result {
            Ok(()) => return,
            Err(TrySendError::Full(_)) => Refusal::QueueFull,
            Err(TrySendError::Failed(error)) => {
                if matches!(error, postring::Error::Message(_)) {
                    // It is too long, as others of the plan would be: nobody listens any more only
                    // if another generator said so first.
                    let _ = self.orders.events.send(Event::Failed(error));
                }
                Refusal::Disconnected
            }
        };
        at_desk(|desk| desk.books.refused(connection, number, refusal));
    }

    /// Why sending must end now.
    fn early_end(&mut self, now_ns: u64) -> Option<EarlyEnd> {
        if now_ns < self.orders.bounds.end_ns && self.orders.control.stop.load(Ordering::Relaxed) {
            return Some(EarlyEnd::Signal);
        }
        let (counts, alone) = at_desk(|desk| (desk.books.pulse, desk.books.all_disconnected()))?;
        if alone {
            return Some(EarlyEnd::NoConnection);
        }
        let next = self.schedule().and_then(Schedule::peek)?;
        let behind_ns = now_ns.saturating_sub(next.intended_ns);
        let hopeless = counts.skipped > SKIPPED_MAX && counts.skipped * 2 > counts.scheduled;
        (behind_ns > BEHIND_MAX_NS || hopeless).then_some(EarlyEnd::OutOfReach)
    }

    /// Puts what was due by `now_ns` and not looked at into the ledger.
    fn count_rest(&mut self, now_ns: u64) {
        let orders = self.orders;
        let Work::Open(schedule) = &mut self.work else { return };
        for _ in 0..REST_DRAWN_MAX {
            let Some(due) = schedule.take_due(now_ns) else { return };
            at_desk(|desk| desk.books.never_reached(&due, 1));
        }
        let warmup_ns = orders.bounds.warmup_ns;
        let in_warmup = schedule.expected_until(now_ns.min(warmup_ns));
        let all = schedule.expected_until(now_ns);
        for (count, intended_ns) in [(in_warmup, 0), (all.saturating_sub(in_warmup), warmup_ns)] {
            let mut left = count;
            let classes = &orders.bounds.workload.classes;
            for (number, class) in classes.iter().enumerate() {
                // What rounding leaves goes to the last.
                let last = number + 1 == classes.len();
                let part = if last { left } else { (count as f64 * class.share) as u64 };
                left -= part.min(left);
                let bytes = class.sizes.mean_bytes(orders.bounds.workload.least_bytes());
                let kind = Kind {
                    class: number as u8,
                    bytes: bytes.round() as u32,
                    deadline_ns: NEVER_NS,
                };
                let due = Due { intended_ns, connection: 0, kind };
                at_desk(|desk| desk.books.never_reached(&due, part));
            }
        }
    }

    /// Waits for the replies that are still to come, and for connections that still close.
    async fn drain(&mut self, ended_ns: u64) {
        let until_ns = ended_ns.saturating_add(DRAIN_NS);
        loop {
            let open = at_desk(|desk| desk.books.open).unwrap_or(0);
            let closes = self.churn.as_mut().is_some_and(Churn::closes);
            if (open == 0 && !closes) || self.now_ns() > until_ns {
                return;
            }
            self.publish();
            postring::yield_now().await;
        }
    }

    fn publish(&self) {
        at_desk(|desk| self.live().sums(desk.books.pulse));
    }
}

/// Bytes in the send queue; the Carrier's own core knows at once.
fn queued(carrier: &Line) -> usize {
    match Pin::new(&mut carrier.queued()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(bytes)) => bytes,
        // It has ended, which sending tells.
        Poll::Ready(Err(_)) | Poll::Pending => 0,
    }
}

/// Sends the next message of a connection's chain, if the queue has room now.
fn follow(
    chains: &mut Chains<MessageId>,
    carrier: &Line,
    connection: u32,
    number: u64,
    message: Message<'_>,
) -> Result<(), TrySendError<Message<'static>>> {
    let message = message.after(chains.antecedent(connection));
    let mut sending = carrier.send(message);
    // On the Carrier's own core the first poll decides; one dropped before that was never sent.
    match Pin::new(&mut sending).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(receipt)) => {
            chains.taken(connection, receipt.message());
            desk::chained(receipt.message(), connection, number);
            Ok(())
        }
        Poll::Ready(Err(error)) => {
            chains.broken(connection);
            Err(TrySendError::Failed(error))
        }
        Poll::Pending => {
            chains.broken(connection);
            Err(TrySendError::Full(Message::from("")))
        }
    }
}

/// A message as its class asks for it; what it waited at the generator is taken off its
/// lifetime, which counts from the intended send.
fn message<'p>(payload: &'p [u8], class: &Class, due: &Due, now_ns: u64) -> Message<'p> {
    let mut message = Message::from(payload);
    if class.tells_niceness && class.niceness > 0 {
        message = message.niceness(class.niceness);
    }
    if class.tells_lifetime && due.kind.deadline_ns != NEVER_NS {
        let until_ns = due.intended_ns.saturating_add(due.kind.deadline_ns);
        message = message.lifetime(Duration::from_nanos(until_ns.saturating_sub(now_ns)));
    }
    if class.immediate {
        message = message.immediate();
    }
    if class.idempotent { message.idempotent() } else { message }
}

/// How long `conduct` waits for a generator after the end of its plan.
pub(crate) const OVERTIME: Duration = Duration::from_nanos(DRAIN_NS + 8_000_000_000);
