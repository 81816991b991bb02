//! Path errors: what peers and paths say of datagrams reaches the Carrier that it is about, on both
//! drivers, and no other one.

use std::net::UdpSocket;

use postring::{CloseReason, DriverChoice, Error, Listener, Reporter, Unframed};

use crate::support::{SOON, end, on_both, one, until};

const CONNECTION_REFUSED: i32 = 111;

fn listener(driver: DriverChoice) -> (Listener<Unframed>, String) {
    let listener = one(driver).listen_with("udp://127.0.0.1:0", Unframed).unwrap();
    let place = listener.local_addresses().remove(0).replace("udp://", "");
    (listener, place)
}

fn peer() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

#[test]
fn a_peer_that_is_gone_ends_its_carrier_and_no_other() {
    on_both(60, |driver| {
        let (listener, place) = listener(driver);
        let (staying, leaving, elsewhere) = (peer(), peer(), peer());
        let met = |peer: &UdpSocket| {
            peer.send_to(b"hello", &place).unwrap();
            let carrier = listener.accept().wait().unwrap();
            carrier.receive().wait().unwrap();
            carrier
        };
        let (stays, leaves) = (met(&staying), met(&leaving));
        // Connected elsewhere, it takes nothing from us any more, yet its port stays its own.
        leaving.connect(elsewhere.local_addr().unwrap()).unwrap();
        let lost = Error::Closed(CloseReason::Lost(CONNECTION_REFUSED)).to_string();
        let waits = leaves.receive();
        for round in 0..50 {
            if leaves.send("anybody?").wait().is_err() {
                break;
            }
            // Whatever error waits on the socket, it is not this one's.
            stays.send(format!("{round}")).wait().unwrap();
            let mut text = [0; 16];
            let len = staying.recv(&mut text).unwrap();
            assert_eq!(&text[..len], round.to_string().as_bytes());
        }
        assert_eq!(waits.wait().unwrap_err().to_string(), lost);
        staying.send_to(b"and you?", &place).unwrap();
        assert_eq!(stays.receive().wait().unwrap().text(), Ok("and you?"));
        // Whoever comes back is somebody new.
        let again = UdpSocket::bind("127.0.0.1:0").unwrap();
        again.send_to(b"new", &place).unwrap();
        assert_eq!(listener.accept().wait().unwrap().receive().wait().unwrap().text(), Ok("new"));
    });
}

#[test]
fn a_responder_outlives_those_who_do_not_wait_for_its_answer() {
    on_both(60, |driver| {
        let place = "udp://127.0.0.1:0";
        let builder =
            one(driver).respond_with(place, Unframed, |message, reply| reply.send(message));
        let engine = builder.start().unwrap();
        let place = engine.local_addresses().remove(0).replace("udp://", "");
        let (leaving, elsewhere, staying) = (peer(), peer(), peer());
        for _ in 0..20 {
            let leaving = leaving.try_clone().unwrap();
            leaving.send_to(b"no answer, please", &place).unwrap();
        }
        leaving.connect(elsewhere.local_addr().unwrap()).unwrap();
        staying.send_to(b"mine", &place).unwrap();
        let mut text = [0; 16];
        let len = staying.recv(&mut text).unwrap();
        assert_eq!(&text[..len], b"mine");
        until("all were answered", || engine.metrics().total().received_messages == 21);
        end(engine);
    });
}

#[test]
fn a_listeners_carrier_says_what_its_stack_can_do() {
    on_both(60, |driver| {
        let (listener, place) = listener(driver);
        peer().send_to(b"hello", &place).unwrap();
        let supports = listener.accept().wait().unwrap().supports().wait().unwrap();
        assert_eq!(supports.acked, Reporter::None);
        assert!(supports.unordered && supports.unreliable && supports.niceness);
    });
}

#[test]
fn an_answer_beyond_what_a_datagram_carries_is_an_error_that_names_the_limit() {
    on_both(60, |driver| {
        let (listener, place) = listener(driver);
        peer().send_to(b"hello", &place).unwrap();
        let carrier = listener.accept().wait().unwrap();
        let error = carrier.send(vec![0; 65_508]).wait().unwrap_err().to_string();
        assert!(error.contains("65508 bytes") && error.contains("limit of 65507 bytes"), "{error}");
    });
}
