//! A Source has no ready (draft §3.2).

fn main() {
    let source = postring::initiate_source("tcp://localhost:7000");
    let _ = source.ready(|_message| ());
}
