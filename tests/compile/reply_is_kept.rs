//! A Responder's reply handle ends with its call; `Reply::carrier` is what may be kept.

fn main() {
    let (keep, _kept) = std::sync::mpsc::channel();
    let _ = postring::respond("tcp://[::]:7000", move |_message, reply| {
        keep.send(reply).ok();
    });
}
