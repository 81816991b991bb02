//! A Responder's reply handle only sends (draft §2.1).

fn main() {
    let _ = postring::respond("tcp://[::]:7000", |_message, reply| {
        let _ = reply.receive();
    });
}
