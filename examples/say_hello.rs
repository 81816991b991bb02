//! The draft's client (Figure 2): initiate, send, be ready for the answer, close.
//! Needs a server, such as `cargo run --example hello`.

use postring::{Flow, LengthPrefixed};

#[allow(clippy::print_stdout, reason = "printing is this example's purpose")]
fn main() -> postring::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "tcp://127.0.0.1:7000".into());
    let carrier = postring::initiate_with(&address, LengthPrefixed::default());
    carrier.send("Hello!").wait()?;
    carrier.ready(|message| {
        println!("{}", message.text().unwrap_or("(not text)"));
        Flow::Stop
    })?;
    carrier.close().wait()
}
