//! Carriers with the other ends that the items need: foreign sockets, or Carriers as well.
//!
//! Below: `support` has the engines. Absent: assertions.

use std::io::Read;

use postring::{Carrier, DriverChoice, Engine, LengthPrefixed, Listener, Message};

use crate::support::*;

pub(crate) type Framed = Carrier<LengthPrefixed>;

pub(crate) fn text(message: &Message<'_>) -> String {
    message.text().unwrap().to_owned()
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
