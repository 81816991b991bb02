//! Sends Messages to a multicast group (draft §2.1, Source).
//!
//! `cargo run --example multicast_source -- "udp://239.1.2.3:5000?interface=lo&hops=1" hello`

use std::time::Duration;

use clap::Parser;

#[derive(Parser)]
struct Arguments {
    /// The group: udp://GROUP:PORT, with ?interface=NAME, &hops=N and &loopback=on|off if wanted.
    #[arg(default_value = "udp://239.1.2.3:5000?interface=lo")]
    address: String,
    /// What to say.
    #[arg(default_values = ["hello", "world"])]
    words: Vec<String>,
    /// Say it so often, a tenth of a second apart.
    #[arg(long, default_value = "1")]
    times: u32,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let source = postring::initiate_source(&arguments.address);
    for time in 0..arguments.times {
        if time > 0 {
            std::thread::sleep(Duration::from_millis(100));
        }
        for word in &arguments.words {
            // Without a host that listens this is no error: a group may be empty.
            source.send(word.clone()).wait()?.sent().wait()?;
        }
    }
    source.close().wait()?;
    Ok(())
}
