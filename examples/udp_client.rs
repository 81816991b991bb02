//! Asks a Responder over datagrams, each question a Message, and says how long the answers took.
//! What gets lost is asked again: datagrams promise nothing.
//!
//! `cargo run --release --example udp_client -- udp://127.0.0.1:7000 hello world`

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use postring::{Carrier, Message, Unframed};

#[derive(Parser)]
struct Arguments {
    /// Whom to ask: udp://HOST:PORT.
    #[arg(default_value = "udp://127.0.0.1:7000")]
    address: String,
    /// What to ask.
    #[arg(default_values = ["hello", "world"])]
    questions: Vec<String>,
    /// How long to wait for an answer before asking again, in milliseconds.
    #[arg(long, default_value = "300")]
    patience_ms: u64,
}

/// How often one question is asked.
const TRIES: usize = 5;

#[allow(clippy::print_stdout, reason = "printing is this example's purpose")]
fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let carrier = postring::initiate(&arguments.address);
    let patience = Duration::from_millis(arguments.patience_ms);
    for question in &arguments.questions {
        let begun = Instant::now();
        let answer = ask(&carrier, question, patience)?;
        println!("{question} -> {answer} ({:?})", begun.elapsed());
    }
    carrier.close().wait()?;
    Ok(())
}

fn ask(carrier: &Carrier<Unframed>, question: &str, patience: Duration) -> anyhow::Result<String> {
    // Another thread waits for the answer, so that this one can lose its patience.
    let (answered, answers) = std::sync::mpsc::channel();
    carrier.ready(move |message: Message<'_>| {
        let answer = String::from_utf8_lossy(message.bytes()).into_owned();
        // Nobody waits for it any more if the patience was lost just now.
        let _ = answered.send(answer);
        // One answer is enough. Whoever goes on waiting for more is waited for in `close`.
        false
    })?;
    for _ in 0..TRIES {
        // Of use only within its time: what cannot leave before that never does.
        let message = Message::new(question.to_owned()).lifetime(patience);
        carrier.send(message).wait().context("the question could not leave")?;
        if let Ok(answer) = answers.recv_timeout(patience) {
            return Ok(answer);
        }
    }
    bail!("{question:?}: no answer to {TRIES} questions, each waited for {patience:?}")
}
