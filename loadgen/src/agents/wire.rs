//! What coordinator and agent say to each other: JSON in length-prefixed frames, over postring.
//!
//! Above: `agent`, `coordinator`. Below: postring's public API. Absent: what is to be answered
//! when. Bound: `MESSAGE_MAX` bytes a message; `HEARD_MAX` messages wait to be heard, then the
//! other side waits; foreign bytes are a fault with a name, never a panic.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use postring::{Carrier, CarrierRef, Engine, EngineBuilder, LengthPrefixed, Limits, Timeouts};
use serde::{Deserialize, Serialize};

use super::AGENTS_MAX;
use super::findings::Findings;
use super::order::Order;

/// Version of what is said; both sides must have the same.
pub(super) const PROTOCOL: u32 = 1;
/// Longest message, in bytes: histograms of 16 classes, or some 600 000 lines of a trace.
const MESSAGE_MAX: usize = 64 << 20;
/// Messages of one agent that may wait to be read.
const HEARD_MAX: usize = 8;
/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// From a connection to its first message.
const FIRST_MAX: Duration = Duration::from_secs(10);

/// All there is to say.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// Coordinator, first: which protocol and which loadgen it is.
    Hello { protocol: u32, version: String },
    /// Agent: the same of itself, and how many generators it can start.
    Welcome { protocol: u32, version: String, generators: u32 },
    /// Agent: what cannot be done, and why; the last it says.
    Refusal(String),
    /// Coordinator: what to do.
    Order(Box<Order>),
    /// Agent: all connections to the server are made.
    Ready,
    /// Coordinator: begin so many microseconds from now.
    Start { after_us: u64 },
    /// Coordinator: end early, and tell what came out so far.
    Stop,
    /// Agent: what came out; the last it says.
    Findings(Box<Findings>),
}

/// What reaches the thread that listens, and from which of its wires.
pub(super) type Heard = (usize, Event);

/// What a wire brings.
#[derive(Debug)]
pub(super) enum Event {
    /// A message.
    Said(Said),
    /// The connection is of no more use, and why.
    Lost(String),
}

/// A place where what comes over some wires is heard.
pub(super) fn ear() -> (SyncSender<Heard>, Receiver<Heard>) {
    sync_channel(HEARD_MAX * AGENTS_MAX)
}

/// A connection to the other side.
pub(super) struct Wire(Carrier<LengthPrefixed>);

impl Wire {
    /// What comes over `carrier` goes to `ear` as from `number`.
    pub(super) fn new(
        carrier: Carrier<LengthPrefixed>,
        number: usize,
        ear: &SyncSender<Heard>,
    ) -> Self {
        let (from, ear) = (*carrier, ear.clone());
        // A thread for each: unlike a handler it hears of an orderly end, too.
        std::thread::spawn(move || {
            loop {
                let event = match from.receive().wait() {
                    Ok(message) => understood(message.bytes()),
                    Err(error) => Event::Lost(format!("it went away ({error})")),
                };
                let last = matches!(event, Event::Lost(_));
                if ear.send((number, event)).is_err() || last {
                    return;
                }
            }
        });
        Self(carrier)
    }

    /// A wire to the one that listens at `address`.
    ///
    /// # Errors
    /// If there is no connection.
    pub(super) fn to(
        engine: &Engine,
        address: &str,
        number: usize,
        ear: &SyncSender<Heard>,
    ) -> Result<Self> {
        let carrier = engine.initiate_with(address, framer());
        carrier.activate().wait()?;
        Ok(Self::new(carrier, number, ear))
    }

    /// Says it; arrives unless the connection ends, which is heard.
    ///
    /// # Errors
    /// If it is too long, or the connection is gone.
    pub(super) fn say(&self, said: &Said) -> Result<()> {
        say(&self.0, said)
    }

    /// For another thread to speak.
    pub(super) fn voice(&self) -> Voice {
        Voice(*self.0)
    }

    /// Ends it when all is said that was to be said.
    pub(super) fn close(self) {
        // That the other side went first is no fault.
        let _ = self.0.close().wait();
    }
}

/// Speaks over a wire that another thread has.
pub(super) struct Voice(CarrierRef<LengthPrefixed>);

impl Voice {
    /// As `Wire::say`.
    ///
    /// # Errors
    /// As there.
    pub(super) fn say(&self, said: &Said) -> Result<()> {
        say(&self.0, said)
    }
}

fn understood(text: &[u8]) -> Event {
    match serde_json::from_slice(text) {
        Ok(said) => Event::Said(said),
        Err(error) => Event::Lost(format!("it does not speak as loadgen does ({error})")),
    }
}

fn say(carrier: &CarrierRef<LengthPrefixed>, said: &Said) -> Result<()> {
    let text = serde_json::to_vec(said).context("a message for the other side")?;
    if text.len() > MESSAGE_MAX {
        bail!(
            "a message of {} MiB is longer than the {} MiB that go from host to host; \
             has the trace or a table of sizes too many lines?",
            text.len() >> 20,
            MESSAGE_MAX >> 20
        );
    }
    match carrier.try_send(text) {
        Ok(()) => Ok(()),
        Err(_) => bail!("the connection is gone or takes nothing any more"),
    }
}

/// Messages of `MESSAGE_MAX` bytes.
pub(super) fn framer() -> LengthPrefixed {
    LengthPrefixed::default().len_max(MESSAGE_MAX)
}

/// An engine for wires, apart from that of the generators: one thread that sleeps when nothing
/// is said.
pub(super) fn engine() -> EngineBuilder {
    let mut limits = Limits::default();
    limits.send_queue_bytes = 2 * MESSAGE_MAX;
    limits.connections = 2 * AGENTS_MAX;
    let mut timeouts = Timeouts::default();
    (timeouts.connect, timeouts.handshake) = (CONNECT_MAX, FIRST_MAX);
    // During a run nothing is said.
    timeouts.idle = Duration::MAX;
    timeouts.dormant = Duration::ZERO;
    Engine::builder().unpinned(1).limits(limits).timeouts(timeouts)
}

/// This program's version.
pub(super) fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}
