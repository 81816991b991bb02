//! The draft's server (Figure 3): accept Carriers for ever, echo all messages of each.

use postring::{Carrier, Engine, Flow, LengthPrefixed};

fn run_my_server_on(carrier: Carrier<LengthPrefixed>) -> postring::Result<()> {
    let echo = carrier.keep();
    echo.ready(move |message| match echo.try_send(message) {
        Ok(()) => Flow::Continue,
        Err(_) => Flow::Stop,
    })
}

fn main() -> postring::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "tcp://[::]:7000".into());
    // `postring::listen_with` does the same and leaves signals alone.
    let listener =
        Engine::builder().signals(true).listen_with(&address, LengthPrefixed::default())?;
    match listener.accept_each(|carrier| run_my_server_on(carrier).is_ok()) {
        Err(postring::Error::EngineEnded) => Ok(()),
        ended => ended,
    }
}
