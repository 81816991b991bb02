//! Services of datagrams: what one answer, one peer or one fault of user code must not do to the
//! others that a Responder's socket serves.

use std::net::UdpSocket;

use postring::{Engine, EngineBuilder, FrameError, Framer, Message, Output, Reply, Unframed};

use crate::support::{SOON, end, on_both, one, until};

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

fn start(builder: EngineBuilder) -> (Engine, String) {
    let engine = builder.start().unwrap();
    let place = engine.local_addresses().remove(0).replace("udp://", "");
    (engine, place)
}

fn heard(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 70_000];
    let len = socket.recv(&mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

#[test]
fn an_answer_with_wishes_leaves_as_any_other() {
    on_both(60, |driver| {
        let builder = one(driver).respond_with(
            "udp://127.0.0.1:0",
            Unframed,
            |message: Message<'_>, reply: Reply<'_, Unframed>| {
                let urgent = message.bytes().starts_with(b"urgent");
                let answer = Message::new(message.bytes().to_vec());
                reply.send(if urgent { answer.niceness(1) } else { answer })
            },
        );
        let (engine, place) = start(builder);
        let [first, second] = [socket(), socket()];
        for text in ["plain", "urgent", "plain after it", "urgent again"] {
            for peer in [&first, &second] {
                peer.send_to(text.as_bytes(), &place).unwrap();
                assert_eq!(heard(peer), text.as_bytes());
            }
        }
        end(engine);
    });
}

/// As `Unframed`, but its `encode` panics when it is asked to, half way.
#[derive(Clone, Default)]
struct Fuse;

impl Framer for Fuse {
    type Got = Message<'static>;
    type In<'a> = Message<'a>;
    type Out<'a> = Message<'a>;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(usize, Message<'a>)>, FrameError> {
        Ok((!input.is_empty()).then(|| (input.len(), Message::lent(input))))
    }

    fn lend(message: Message<'static>) -> Message<'static> {
        message
    }

    fn encode(&mut self, message: Message<'_>, into: &mut Output) -> Result<(), FrameError> {
        into.put_message(&message);
        assert!(!message.bytes().starts_with(b"boom"), "a fault of the framer");
        Ok(())
    }
}

#[test]
fn a_framer_that_panics_leaves_nothing_for_the_next_peer() {
    on_both(60, |driver| {
        let builder = one(driver)
            .respond_with("udp://127.0.0.1:0", Fuse, |message, reply| reply.send(message));
        let (engine, place) = start(builder);
        let [first, second] = [socket(), socket()];
        for round in 1..=3 {
            first.send_to(&[&b"boom"[..], &[7; 9000]].concat(), &place).unwrap();
            until("it panicked", || engine.metrics().total().panics == round);
            second.send_to(b"still served", &place).unwrap();
            assert_eq!(heard(&second), b"still served");
        }
        end(engine);
    });
}

#[test]
fn datagrams_of_no_bytes_fill_a_queue_as_others_do() {
    on_both(60, |driver| {
        let engine = one(driver).start().unwrap();
        let peer = socket();
        let carrier =
            engine.initiate_with(&format!("udp://{}", peer.local_addr().unwrap()), Unframed);
        carrier.activate().wait().unwrap();
        let carrier = carrier.keep();
        let (told, accepted) = std::sync::mpsc::channel();
        let send_all = move || async move {
            let fits = (0..100_000).take_while(|_| carrier.try_send("").is_ok()).count();
            told.send(fits).unwrap();
        };
        engine.spawn_on(0, send_all).unwrap();
        let accepted = accepted.recv_timeout(SOON).unwrap();
        assert!((1000..100_000).contains(&accepted), "{accepted}");
        assert_eq!(heard(&peer), b"");
        until("all have left", || carrier.queued().wait().unwrap() == 0);
        end(engine);
    });
}
