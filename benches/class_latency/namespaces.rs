//! Namespaces: two hosts in one process, with a narrow path between them.
//!
//! Above: `main` runs loads in it. Below: `hosts` has the namespaces, `tc` makes the path narrow.
//! Bound: one pair of hosts, gone at the end.

use std::net::TcpListener;
use std::time::Duration;

use crate::hosts::{CABLE, FAR, Host, Hosts};
use crate::receiver::{self, Tally};
use crate::sender::{self, Load};

pub(crate) struct World(Hosts);

impl World {
    /// Two hosts, and `tbf` on the sending side of their cable.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let hosts = Hosts::new()?;
        let shape = "tbf rate 100mbit burst 32kb latency 400ms";
        hosts.run(Host::Near, &format!("tc qdisc add dev {CABLE} root {shape}"))?;
        Ok(Self(hosts))
    }

    /// Both hosts use this congestion control for new connections.
    pub(crate) fn congestion_control(&self, name: &str) -> anyhow::Result<()> {
        for host in [Host::Near, Host::Far] {
            let set = format!("sysctl -q -w net.ipv4.tcp_congestion_control={name}");
            self.0.run(host, &set)?;
        }
        Ok(())
    }

    /// Runs one load for `duration`; what the receiver saw.
    pub(crate) fn run(&self, load: &Load, duration: Duration) -> anyhow::Result<Tally> {
        let listener = self.0.at(Host::Far, || TcpListener::bind((FAR, 0)))??;
        let address = listener.local_addr()?;
        let receives = std::thread::spawn(move || receiver::receive(&listener));
        let sending = || sender::send(&format!("tcp://{address}"), load, duration);
        let offered = self.0.at(Host::Near, sending)??;
        let mut tally = receives.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
        tally.offered = offered;
        Ok(tally)
    }
}
