//! A Source has no receive (draft §2.1, §3.2).

fn main() {
    let source = postring::initiate_source("tcp://localhost:7000");
    let _ = source.receive();
}
