//! Bulk and urgent Messages on one Carrier: the urgent ones go first.
//!
//! `cargo run --example priorities`
//! A slow Responder in this process holds the bulk up. Every urgent Message says how much bulk was
//! sent before it; what had not arrived by then was overtaken. What the kernel already holds
//! cannot be: it is as far on its way as a packet.

use std::time::{Duration, Instant};

use postring::{Engine, LengthPrefixed, Message};

const BULK_MESSAGES: u32 = 600;
const BULK_BYTES: usize = 16 << 10;
/// An urgent Message follows each so many of bulk.
const URGENT_EVERY: u32 = 100;
/// What the Responder does with each Message.
const WORK: Duration = Duration::from_micros(500);

/// The number with which each Message begins: of itself, or of the last bulk sent before it.
fn number(message: &Message<'_>) -> u32 {
    message.bytes().first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

#[allow(clippy::print_stdout, reason = "printing is this example's purpose")]
fn main() -> postring::Result<()> {
    let started = Instant::now();
    let arrive = move || {
        let mut bulk_arrived = 0;
        move |message: Message<'_>, _: postring::Reply<'_, LengthPrefixed>| {
            // Stands for work: a real handler must not block its core.
            std::thread::sleep(WORK);
            let number = number(&message);
            let at_ms = started.elapsed().as_millis();
            if message.len() == BULK_BYTES {
                bulk_arrived = number;
                if number % URGENT_EVERY == 0 {
                    println!("{at_ms:4} ms: bulk {number} arrived");
                }
            } else {
                let overtaken = number.saturating_sub(bulk_arrived);
                println!("{at_ms:4} ms: urgent, sent after bulk {number}, overtook {overtaken}");
            }
        }
    };
    let server = Engine::builder()
        .unpinned(1)
        .respond_per_core("tcp://127.0.0.1:0", LengthPrefixed::default(), arrive)
        .start()?;

    let address = server.local_addresses().concat();
    let carrier = postring::initiate_with(&address, LengthPrefixed::default());
    for number in 1..=BULK_MESSAGES {
        let mut content = vec![0; BULK_BYTES];
        content[..4].copy_from_slice(&number.to_be_bytes());
        // Waits while the queue is full, so that it stays full.
        carrier.send(Message::new(content).niceness(2)).wait()?;
        if number % URGENT_EVERY == 0 {
            carrier.send(Message::new(number.to_be_bytes().to_vec()).niceness(0)).wait()?;
        }
    }
    carrier.close().wait()?;
    server.shutdown();
    server.wait()
}
