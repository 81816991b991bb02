//! A Source cannot be forked (draft §2.1).

fn main() {
    let source = postring::initiate_source("tcp://localhost:7000");
    let _ = source.fork();
}
