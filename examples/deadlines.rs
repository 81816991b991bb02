//! Messages that are of no use when they are late: they expire instead of being sent.
//!
//! `cargo run --example deadlines`
//! More bulk than a slow Responder in this process takes keeps one Carrier busy for a while. The
//! Messages behind the bulk live for different times: those whose time is over before their turn
//! comes expire in the queue and cost not a byte of the wire. Which ones depends on the machine; a
//! lifetime of zero always does. One of the most urgent class does not wait at all.

use std::time::{Duration, Instant};

use postring::{Engine, LengthPrefixed, Message, Outcome, Receipt};

const BULK_BYTES: usize = 64 << 10;
const BULK_FOR: Duration = Duration::from_millis(600);
/// What the Responder does with each Message.
const WORK: Duration = Duration::from_millis(1);
/// Class and lifetime in milliseconds of those sent into the middle of the bulk (class 1).
const HURRIED: [(u32, u64); 6] = [(2, 0), (2, 20), (2, 100), (2, 5000), (2, 10_000), (0, 500)];

fn bulk() -> Message<'static> {
    Message::new(vec![0; BULK_BYTES]).niceness(1)
}

#[allow(clippy::print_stdout, reason = "printing is this example's purpose")]
fn tell((niceness, lifetime_ms): (u32, u64), outcome: Outcome) {
    let what = match outcome {
        Outcome::Sent => "sent".to_owned(),
        Outcome::Expired(why) => format!("expired ({why:?})"),
        other => format!("{other:?}"),
    };
    println!("class {niceness}, lifetime {lifetime_ms:5} ms: {what}");
}

fn main() -> postring::Result<()> {
    let work = |_: Message<'_>, _: postring::Reply<'_, LengthPrefixed>| {
        // Stands for work: a real handler must not block its core.
        std::thread::sleep(WORK);
    };
    let server = Engine::builder()
        .unpinned(1)
        .respond_with("tcp://127.0.0.1:0", LengthPrefixed::default(), work)
        .start()?;
    let address = server.local_addresses().concat();
    let carrier = postring::initiate_with(&address, LengthPrefixed::default());

    let started = Instant::now();
    let mut hurried: Vec<((u32, u64), Receipt)> = Vec::new();
    while started.elapsed() < BULK_FOR {
        // Waits while the queue is full, so that it stays full.
        carrier.send(bulk()).wait()?;
        if hurried.is_empty() && started.elapsed() > BULK_FOR / 2 {
            for (niceness, lifetime_ms) in HURRIED {
                let message = Message::from("in time?").niceness(niceness);
                let message = message.lifetime(Duration::from_millis(lifetime_ms));
                hurried.push(((niceness, lifetime_ms), carrier.send(message).wait()?));
            }
        }
    }
    for (wish, receipt) in hurried {
        tell(wish, receipt.sent().wait()?);
    }
    carrier.close().wait()?;
    server.shutdown();
    server.wait()
}
