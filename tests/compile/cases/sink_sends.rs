//! A Sink has no send (draft §2.1, §3.2).

fn main() {
    let sink = postring::initiate_sink("tcp://localhost:7000");
    let _ = sink.send("Hello!");
}
