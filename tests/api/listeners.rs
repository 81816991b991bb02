//! Listeners: Carriers that peers open, taken on any thread.

use std::io::Write;
use std::time::Duration;

use postring::{Carrier, DriverChoice, Error, LengthPrefixed, Listener};

use crate::support::*;

/// A Listener on `driver`.
fn listen(driver: DriverChoice) -> Listener<LengthPrefixed> {
    one(driver).listen_with("tcp://127.0.0.1:0", frames()).unwrap()
}

#[test]
fn a_listener_gives_carriers_to_any_thread() {
    on_both(30, |driver| {
        let listener = listen(driver);
        let engine = listener.engine().unwrap();
        for round in 0..5_u8 {
            let mut peer = connect(engine);
            let carrier = listener.accept().wait().unwrap();
            wants_served(&carrier, &mut peer, round);
        }
        let mut peers: Vec<_> = (0..20).map(|_| connect(engine)).collect();
        let carriers: Vec<_> = (0..20).map(|_| listener.accept().wait().unwrap()).collect();
        for (at, peer) in peers.iter_mut().enumerate() {
            let mine = |carrier: &&Carrier<_>| {
                carrier.peer_address().wait().unwrap() == peer.local_addr().ok()
            };
            let carrier = carriers.iter().find(mine).unwrap();
            wants_served(carrier, peer, at as u8);
        }
    });
}

fn wants_served(carrier: &Carrier<LengthPrefixed>, peer: &mut std::net::TcpStream, at: u8) {
    peer.write_all(&frame(&[at])).unwrap();
    let message = carrier.receive().wait().unwrap();
    assert_eq!(message.bytes(), [at]);
    carrier.send(message).wait().unwrap();
    assert_eq!(read_frame(peer).unwrap(), [at]);
}

/// Figure 3 of the draft.
#[test]
fn accept_each_goes_on_until_it_is_told_to_stop() {
    on_both(30, |driver| {
        let listener = listen(driver);
        let mut peers: Vec<_> = (0..3).map(|_| connect(listener.engine().unwrap())).collect();
        let mut carriers = Vec::new();
        listener
            .accept_each(|carrier| {
                carriers.push(carrier);
                carriers.len() < 3
            })
            .unwrap();
        peers.iter_mut().for_each(|peer| peer.write_all(&frame(b"x")).unwrap());
        for carrier in &carriers {
            assert_eq!(carrier.receive().wait().unwrap().bytes(), b"x");
        }
    });
}

#[test]
fn a_dropped_listener_refuses_new_peers_and_its_carriers_live_on() {
    on_both(30, |driver| {
        let listener = listen(driver);
        let place = place(listener.engine().unwrap());
        let mut peer = connect_to(&place);
        let carrier = listener.accept().wait().unwrap();
        drop(listener);
        let refused = || std::net::TcpStream::connect(&place).is_err();
        until("nobody listens", refused);
        std::thread::sleep(Duration::from_millis(100));
        wants_served(&carrier, &mut peer, 7);
        carrier.close().wait().unwrap();
        assert!(is_ended(&mut peer));
        let carrier = carrier.keep();
        until("the core ends", || matches!(carrier.state().wait(), Err(Error::EngineEnded)));
    });
}
