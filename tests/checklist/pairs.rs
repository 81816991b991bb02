//! Carriers with the other ends that the items need: foreign sockets, or Carriers as well.
//!
//! Below: `support` has the engines. Absent: assertions.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use postring::{
    Carrier, DriverChoice, Engine, Framer, LengthPrefixed, Listener, Message, TrySendError,
};

use crate::support::*;

pub(crate) type Framed = Carrier<LengthPrefixed>;

pub(crate) fn address_of(listener: &TcpListener) -> String {
    format!("tcp://{}", listener.local_addr().unwrap())
}

pub(crate) fn text(message: &Message<'_>) -> String {
    message.text().unwrap().to_owned()
}

/// A Carrier to a foreign peer that reads only when it is told to.
pub(crate) fn foreign(driver: DriverChoice) -> (Engine, Framed, TcpStream) {
    foreign_of(one(driver), frames())
}

pub(crate) fn foreign_of<F: Framer>(
    builder: postring::EngineBuilder,
    framer: F,
) -> (Engine, Carrier<F>, TcpStream) {
    let engine = builder.start().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let carrier = engine.initiate_with(&address_of(&listener), framer);
    carrier.activate().wait().unwrap();
    let (peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(SOON)).unwrap();
    peer.set_write_timeout(Some(SOON)).unwrap();
    peer.set_nodelay(true).unwrap();
    (engine, carrier, peer)
}

pub(crate) fn listen(driver: DriverChoice) -> (Listener<LengthPrefixed>, String) {
    let listener = one(driver).listen_with("tcp://127.0.0.1:0", frames()).unwrap();
    let address = listener.local_addresses().remove(0);
    (listener, address)
}

/// Both ends are Carriers: that of the engine, and the one its Listener accepted.
pub(crate) fn both(driver: DriverChoice) -> (Listener<LengthPrefixed>, Engine, Framed, Framed) {
    let (listener, address) = listen(driver);
    let engine = one(driver).start().unwrap();
    let here = engine.initiate_with(&address, frames());
    here.activate().wait().unwrap();
    let there = listener.accept().wait().unwrap();
    (listener, engine, here, there)
}

/// The class of [`fill`] and its content: no text begins with this byte, and no test that fills
/// sends anything less urgent.
pub(crate) const BULK: u8 = 255;

/// Sends bulk until the kernel and the queue hold it up; how many were taken.
pub(crate) fn fill(carrier: &Framed) -> usize {
    let mut taken = 0;
    let mut quiet = Instant::now();
    while quiet.elapsed() < Duration::from_millis(200) {
        match carrier.try_send(Message::new(vec![BULK; 20_000]).niceness(BULK.into())) {
            Ok(()) => {
                taken += 1;
                quiet = Instant::now();
            }
            Err(TrySendError::Full(_)) => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => panic!("{error}"),
        }
    }
    taken
}

/// The next `count` frames but for bulk, as text.
pub(crate) fn beside_bulk(peer: &mut impl Read, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let content = read_frame(peer).unwrap();
        if content.first() != Some(&BULK) {
            seen.push(String::from_utf8(content).unwrap());
        }
    }
    seen
}
