//! A Sink cannot be forked and accepts no forks (draft §2.1).

fn main() {
    let sink = postring::initiate_sink("tcp://localhost:7000");
    let _ = sink.fork();
    let _ = sink.accept();
}
