//! Carriers from tokio: a Listener and its clients in the tasks of a tokio runtime.
//!
//! `cargo run --example from_tokio`
//! The sockets live on Postring's cores, the tasks on tokio's threads: every verb is a future that
//! any runtime can await, and what it says travels to the core by mailbox.

use postring::{Carrier, CloseReason, Error, LengthPrefixed};

/// Gives every Message back until the peer ends.
async fn echo(carrier: Carrier<LengthPrefixed>) -> postring::Result<()> {
    loop {
        match carrier.receive().await {
            Ok(message) => drop(carrier.send(message).await?),
            Err(Error::Closed(CloseReason::Finished)) => return carrier.close().await,
            Err(error) => return Err(error),
        }
    }
}

/// Asks `address` and returns the answer.
async fn ask(address: String, question: String) -> postring::Result<String> {
    let carrier = postring::initiate_with(&address, LengthPrefixed::default());
    carrier.send(question).await?;
    let answer = carrier.receive().await?;
    carrier.close().await?;
    Ok(String::from_utf8_lossy(answer.bytes()).into_owned())
}

#[tokio::main]
#[allow(clippy::print_stdout, reason = "printing is this example's purpose")]
async fn main() -> anyhow::Result<()> {
    let listener = postring::listen_with("tcp://127.0.0.1:0", LengthPrefixed::default())?;
    let address = listener.local_addresses().concat();

    tokio::spawn(async move {
        while let Ok(carrier) = listener.accept().await {
            tokio::spawn(echo(carrier));
        }
    });

    let questions = (1..=3).map(|number| format!("Hello {number} from tokio!"));
    let clients: Vec<_> =
        questions.map(|question| tokio::spawn(ask(address.clone(), question))).collect();
    for client in clients {
        println!("{}", client.await??);
    }
    Ok(())
}
