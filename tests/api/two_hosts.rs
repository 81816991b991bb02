//! What tests between two hosts share: a thread on one of them, sockets of the other.
//!
//! Below: `hosts` has the network. Absent: assertions. Needs root and `ip`; says `SKIP` without.

use std::net::UdpSocket;

use postring::{Carrier, Engine, Message, Unframed};

use crate::hosts::{FAR, Host, Hosts};
use crate::support::SOON;

/// Two hosts; from now on this thread lives on the near one.
pub(crate) fn between_hosts() -> Option<Hosts> {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: network namespaces need root");
        return None;
    }
    match Hosts::new() {
        Ok(hosts) => {
            hosts.enter(Host::Near).unwrap();
            Some(hosts)
        }
        Err(error) => {
            println!("SKIP: two hosts: {error:#}");
            None
        }
    }
}

/// A socket of the far host.
pub(crate) fn far_socket(hosts: &Hosts) -> UdpSocket {
    far_socket_at(hosts, FAR)
}

/// A socket of the far host, at one of its addresses.
pub(crate) fn far_socket_at(hosts: &Hosts, ip: &str) -> UdpSocket {
    let socket = hosts.at(Host::Far, || UdpSocket::bind((ip, 0)).unwrap()).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

pub(crate) fn carrier_to(engine: &Engine, socket: &UdpSocket) -> Carrier<Unframed> {
    let address = format!("udp://{}", socket.local_addr().unwrap());
    let carrier = engine.initiate_with(&address, Unframed);
    carrier.activate().wait().unwrap();
    carrier
}

/// The datagram that comes next.
pub(crate) fn heard(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 70_000];
    let len = socket.recv(&mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

/// Gives all of `messages` to the Carrier in one turn, and keeps it.
pub(crate) fn send_in_one_turn(
    engine: &Engine,
    carrier: Carrier<Unframed>,
    messages: impl FnOnce() -> Vec<Message<'static>> + Send + 'static,
) {
    let carrier = carrier.keep();
    let send_all = move || async move {
        messages().into_iter().for_each(|message| carrier.try_send(message).unwrap());
    };
    engine.spawn_on(0, send_all).unwrap();
}
