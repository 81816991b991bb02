//! The echo Responder with choices: an address, the CPUs, how to wait.
//!
//! `cargo run --release --example echo_responder -- tcp://127.0.0.1:7000 --cores 0`
//! `RUST_LOG=info` shows the driver; `POSTRING_DRIVER=epoll` chooses the other one.

use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use postring::{Engine, LengthPrefixed, Wait};

#[derive(Parser)]
struct Arguments {
    /// Where to listen: tcp://HOST:PORT or unix:///PATH.
    #[arg(default_value = "tcp://[::]:7000")]
    address: String,
    /// One thread for each of these CPUs, such as 0,2,3. Default: all that may be used.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    /// How a core waits when it has nothing to do.
    #[arg(long, default_value = "sleep")]
    wait: Waiting,
}

#[derive(Clone, Copy, ValueEnum)]
enum Waiting {
    Sleep,
    Adaptive,
    Spin,
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse();
    let wait = match arguments.wait {
        Waiting::Sleep => Wait::Sleep,
        Waiting::Adaptive => Wait::Adaptive { budget: Duration::from_micros(50) },
        Waiting::Spin => Wait::Spin,
    };
    let mut builder = Engine::builder().wait(wait).signals(true);
    if !arguments.cores.is_empty() {
        builder = builder.cores(arguments.cores);
    }
    let frames = LengthPrefixed::default().len_max(64 << 20);
    let engine = builder
        .respond_with(&arguments.address, frames, |message, reply| reply.send(message))
        .start()
        .context("the echo server could not start")?;
    tracing::info!(addresses = ?engine.local_addresses(), cores = ?engine.cores(), "listening");
    Ok(engine.wait()?)
}
