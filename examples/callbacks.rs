//! The draft's client, server and responder, in its callback style and as its figures have them.
//!
//! `cargo run --example callbacks`
//! Needs nothing else: server, responder and clients run in this process.

use std::sync::mpsc;

use postring::{Carrier, CloseReason, Engine, LengthPrefixed, Message};

type Framed = Carrier<LengthPrefixed>;

fn frames() -> LengthPrefixed {
    LengthPrefixed::default()
}

/// Figure 2: connects, sends a Message and sets up a receiver. Close comes right behind Ready, and
/// the answer is printed all the same: it ends this side's Messages only.
#[allow(clippy::print_stdout, reason = "printing is this example's purpose")]
fn say_hello(remote: &str) -> postring::Result<()> {
    let carrier = postring::initiate_with(remote, frames());
    carrier.send("Hello!").wait()?;
    carrier.ready(|message: Message<'_>| {
        println!("{}", message.text().unwrap_or("(not text)"));
        false
    })?;
    carrier.close().wait()
}

/// Figure 3: runs a server for a specific Carrier, echoes all its Messages.
fn run_my_server_on(carrier: Framed) -> postring::Result<()> {
    let carrier = carrier.keep();
    carrier.ready(move |message: Message<'_>| carrier.try_send(message).is_ok())
}

/// Section 3.1.2 and §3.2: an idempotent Message with callbacks of its own, and the Carrier's
/// default ones for the others.
#[allow(clippy::print_stdout, reason = "printing is this example's purpose")]
fn say_hello_and_listen(remote: &str) -> postring::Result<()> {
    let carrier = postring::initiate_with(remote, frames());
    carrier.on_sent(|message| println!("{} was sent", message.number()))?;
    carrier.on_acked(|message| println!("{} was acknowledged", message.number()))?;
    carrier.on_expired(|message| println!("{} has expired", message.number()))?;
    let (told, closed) = mpsc::channel::<CloseReason>();
    carrier.on_closed(move |reason| told.send(reason).expect("main waits for it"))?;

    let quick = Message::from("Hello quickly!").idempotent();
    let sent: postring::Callback = Box::new(|| println!("the quick one was sent"));
    carrier
        .send_msg(quick, Some(sent), None, None)
        .map_err(|error| postring::Error::Message(error.to_string()))?;
    let plain = carrier.send("Hello!").wait()?;
    let late = Message::from("Hello, too late!").lifetime(std::time::Duration::ZERO);
    carrier.send(late).wait()?;
    plain.acked().wait()?;
    carrier.close().wait()?;
    println!("closed: {}", closed.recv().unwrap_or(CloseReason::Local));
    Ok(())
}

fn main() -> postring::Result<()> {
    // Figure 3: accepts connections forever, runs servers for them.
    let listener = postring::listen_with("tcp://127.0.0.1:0", frames())?;
    let server = listener.local_addresses().concat();
    std::thread::spawn(move || listener.accept_each(|carrier| run_my_server_on(carrier).is_ok()));

    // Figure 4: the same as a Responder.
    let responder = Engine::builder()
        .unpinned(1)
        .respond_with("tcp://127.0.0.1:0", frames(), |message, reply| reply.send(message))
        .start()?;

    say_hello(&server)?;
    say_hello(&responder.local_addresses().concat())?;
    say_hello_and_listen(&server)
}
