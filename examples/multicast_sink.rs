//! Prints what is sent to a multicast group, for ever (draft §3.1.4).
//!
//! `cargo run --example multicast_sink -- "udp://239.1.2.3:5000?interface=lo"`, then
//! `cargo run --example multicast_source -- "udp://239.1.2.3:5000?interface=lo" hello`

use clap::Parser;
use postring::Message;

#[derive(Parser)]
struct Arguments {
    /// The group: udp://GROUP:PORT, with ?interface=NAME and &source=IP if wanted.
    #[arg(default_value = "udp://239.1.2.3:5000?interface=lo")]
    address: String,
    /// End after so many Messages, one at least.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

#[allow(clippy::print_stdout, reason = "printing is this example's purpose")]
fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let (over, ended) = std::sync::mpsc::channel();
    let sink = postring::initiate_sink(&arguments.address);
    sink.activate().wait()?;
    let mut left = arguments.count;
    sink.ready(move |message: Message<'_>| {
        println!("{}", String::from_utf8_lossy(message.bytes()));
        left = left.map(|left| left.saturating_sub(1));
        let goes_on = left != Some(0);
        if !goes_on {
            // Nobody listens any more when the program ends.
            let _ = over.send(());
        }
        goes_on
    })?;
    // For ever, unless it was told how many.
    ended.recv()?;
    Ok(())
}
