//! A relay of streams and datagrams, and iperf3 on both sides of it: it talks TCP about the
//! datagrams it sends.
//!
//! What a machine does not have is skipped loudly; CI installs it.

use std::io::Read;
use std::sync::Arc;

use postring::{Carrier, CarrierRef, DriverChoice, Listener, Unframed};

use crate::support::{foreign_program, in_namespace, one, until};

/// In a network namespace of its own every port is free.
const SERVER: &str = "127.0.0.1:5201";
const IPERF3: &str = "relay::iperf3_measures_through_a_relay_of_datagrams";

/// Sends on what comes from one to the other, until it ends.
async fn pass_on(from: CarrierRef<Unframed>, to: CarrierRef<Unframed>) {
    while let Ok(part) = from.receive_partial(1, 64 << 10).await {
        let is_last = part.is_complete() && part.is_empty();
        if is_last || to.send(part.into_message().into_bytes()).await.is_err() {
            break;
        }
    }
    let _ = to.close().await;
}

/// Sends on datagrams, one by one.
async fn pass_datagrams_on(from: CarrierRef<Unframed>, to: CarrierRef<Unframed>) {
    while let Ok(datagram) = from.receive().await {
        if to.send(datagram.into_bytes()).await.is_err() {
            break;
        }
    }
}

/// Both ways between a Carrier that was accepted and one to the server.
fn join(near: Carrier<Unframed>, scheme: &str) {
    let far = postring::initiate_with(&format!("{scheme}://{SERVER}"), Unframed);
    let (near_ref, far_ref) = (*near, *far);
    let is_datagrams = scheme == "udp";
    let there = async move {
        match is_datagrams {
            true => pass_datagrams_on(near_ref, far_ref).await,
            false => pass_on(near_ref, far_ref).await,
        }
        drop(near);
    };
    let back = async move {
        match is_datagrams {
            true => pass_datagrams_on(far_ref, near_ref).await,
            false => pass_on(far_ref, near_ref).await,
        }
        drop(far);
    };
    postring::spawn(there).unwrap();
    postring::spawn(back).unwrap();
}

/// An engine whose Carriers are in use ends in its own time.
fn port_of(driver: DriverChoice) -> &'static str {
    if driver == DriverChoice::Uring { "5300" } else { "5301" }
}

fn relay(driver: DriverChoice, scheme: &'static str) -> Arc<Listener<Unframed>> {
    let place = format!("{scheme}://127.0.0.1:{}", port_of(driver));
    let listener = one(driver).listen_with(&place, Unframed).unwrap();
    let listener = Arc::new(listener);
    let accepts = Arc::downgrade(&listener);
    let accept_all = move || async move {
        while let Some(listener) = accepts.upgrade()
            && let Ok(carrier) = listener.accept().await
        {
            join(carrier, scheme);
        }
    };
    listener.engine().unwrap().spawn_on(0, accept_all).unwrap();
    listener
}

/// True once somebody listens on the server's port for TCP; to connect would be taken for a test.
fn listens() -> bool {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let v6 = std::fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
    let is_server = |line: &str| line.contains(":1451 ") && line.contains(" 0A ");
    sockets.lines().chain(v6.lines()).any(is_server)
}

fn measure(driver: DriverChoice) {
    let Some(mut server) = foreign_program("iperf3", &["-s", "-1", "-p", "5201"]) else { return };
    until("the server listens", listens);
    let relays = ["tcp", "udp"].map(|scheme| relay(driver, scheme));
    let port = port_of(driver);
    let flags = ["-c", "127.0.0.1", "-p", port, "-u", "-b", "20M", "-t", "1", "-l", "1200"];
    let mut client = foreign_program("iperf3", &[&flags[..], &["-J"]].concat()).unwrap();
    let mut said = String::new();
    client.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(client.wait().unwrap().success(), "{said}");
    let result: serde_json::Value = serde_json::from_str(&said).unwrap();
    let sum = &result["end"]["sum"];
    let count = |name: &str| sum[name].as_u64().unwrap_or_else(|| panic!("{name} of {sum}"));
    let (packets, lost) = (count("packets"), count("lost_packets"));
    let relayed = relays[1].engine().unwrap().metrics().total().received_messages;
    // A busy machine may lose some; what arrived has come through the relay.
    assert!(packets >= 1000 && relayed >= packets - lost, "{relayed} relayed: {sum}");
    assert!(lost * 2 < packets, "most were lost: {sum}");
    assert!(server.wait().unwrap().success());
}

#[test]
fn iperf3_measures_through_a_relay_of_datagrams() {
    in_namespace(IPERF3, "true", measure);
}
