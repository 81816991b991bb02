//! A Responder's reply handle ends with its call; `Reply::carrier` is what may be kept.

use postring::{Message, Reply, Unframed};

fn main() {
    let _ = postring::respond_per_core("tcp://[::]:7000", Unframed, || {
        let mut _kept = None;
        move |_: Message<'_>, reply: Reply<'_, Unframed>| {
            _kept = Some(reply);
        }
    });
}
