//! A picture and changes to it: a change is of no use without what it changes.
//!
//! `cargo run --example antecedents`
//! Each change follows the one before it and all follow the picture. One of them may wait for no
//! time at all, so it expires in the queue, and what follows it expires with it without costing a
//! byte on the wire.

use std::time::Duration;

use postring::{Engine, LengthPrefixed, Message, Outcome, Receipt};

#[allow(clippy::print_stdout, reason = "printing is this example's purpose")]
fn main() -> postring::Result<()> {
    let show = |message: Message<'_>, _: postring::Reply<'_, LengthPrefixed>| {
        println!("  received: {}", message.text().unwrap_or("(not text)"));
    };
    let server = Engine::builder()
        .unpinned(1)
        .respond_with("tcp://127.0.0.1:0", LengthPrefixed::default(), show)
        .start()?;
    let address = server.local_addresses().concat();
    let carrier = postring::initiate_with(&address, LengthPrefixed::default());

    let picture = Message::from("the picture").niceness(2);
    let mut last = carrier.send(picture).wait()?;
    let mut receipts: Vec<(String, Receipt)> = vec![("the picture".into(), last.clone())];
    for number in 1..=4 {
        let name = format!("change {number}");
        // More urgent than the picture, and yet behind it: the picture inherits the urgency.
        let mut change = Message::from(name.clone()).niceness(1).after([&last]);
        if number == 3 {
            change = change.lifetime(Duration::ZERO);
        }
        last = carrier.send(change).wait()?;
        receipts.push((name, last.clone()));
    }
    for (name, receipt) in receipts {
        match receipt.acked().wait()? {
            Outcome::Acked => println!("{name}: the peer has it"),
            Outcome::Expired(why) => println!("{name}: expired ({why:?})"),
            other => println!("{name}: {other:?}"),
        }
    }
    carrier.close().wait()?;
    server.shutdown();
    server.wait()
}
