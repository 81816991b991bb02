//! An echo Responder on datagrams: each is a Message, and its answer goes back to whoever sent it.
//!
//! `cargo run --release --example udp_responder -- udp://127.0.0.1:7000`
//! Then: `echo hello | nc -u -w1 127.0.0.1 7000`

use anyhow::Context;
use clap::Parser;
use postring::{Engine, Unframed};

#[derive(Parser)]
struct Arguments {
    /// Where to listen: udp://HOST:PORT.
    #[arg(default_value = "udp://[::]:7000")]
    address: String,
    /// One thread for each of these CPUs, such as 0,2,3. Default: all that may be used.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse();
    let mut builder = Engine::builder().signals(true);
    if !arguments.cores.is_empty() {
        builder = builder.cores(arguments.cores);
    }
    let engine = builder
        .respond_with(&arguments.address, Unframed, |message, reply| reply.send(message))
        .start()
        .context("the echo server could not start")?;
    tracing::info!(addresses = ?engine.local_addresses(), cores = ?engine.cores(), "listening");
    Ok(engine.wait()?)
}
