//! A Message of a handler still lies in its receive buffer: kept, it must be owned.

fn main() {
    let (keep, _kept) = std::sync::mpsc::channel::<postring::Message<'static>>();
    let _ = postring::respond("tcp://[::]:7000", move |message, _reply| {
        keep.send(message).ok();
    });
}
