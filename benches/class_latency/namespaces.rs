//! Namespaces: two hosts in one process, with a narrow path between them.
//!
//! Above: `main` runs loads in it. Below: `ip` and `tc`; `setns` for the thread that receives.
//! Bound: one pair of namespaces, named by the process, deleted at the end.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::receiver::{self, Tally};
use crate::sender::{self, Load};

const NEAR: &str = "10.83.0.1";
const FAR: &str = "10.83.0.2";

pub(crate) struct World {
    near: String,
    far: String,
}

fn run(program: &str, arguments: &str) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .with_context(|| format!("{program} is not installed"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {arguments}: {}", why.trim());
    }
    Ok(())
}

impl World {
    /// Two namespaces, a veth pair, and `tbf` on its sending side.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let id = std::process::id();
        let world = Self { near: format!("ps{id}a"), far: format!("ps{id}b") };
        let Self { near, far } = &world;
        run("ip", &format!("netns add {near}"))?;
        run("ip", &format!("netns add {far}"))?;
        run("ip", &format!("link add v{id}a netns {near} type veth peer name v{id}b netns {far}"))?;
        for (name, device, address) in
            [(near, format!("v{id}a"), NEAR), (far, format!("v{id}b"), FAR)]
        {
            run("ip", &format!("-n {name} address add {address}/24 dev {device}"))?;
            run("ip", &format!("-n {name} link set {device} up"))?;
            run("ip", &format!("-n {name} link set lo up"))?;
        }
        let shape = "tbf rate 100mbit burst 32kb latency 400ms";
        run("tc", &format!("-n {near} qdisc add dev v{id}a root {shape}"))?;
        Ok(world)
    }

    /// Both hosts use this congestion control for new connections.
    pub(crate) fn congestion_control(&self, name: &str) -> anyhow::Result<()> {
        for namespace in [&self.near, &self.far] {
            let set = format!("net.ipv4.tcp_congestion_control={name}");
            run("ip", &format!("netns exec {namespace} sysctl -q -w {set}"))?;
        }
        Ok(())
    }

    /// Runs one load for `duration`; what the receiver saw.
    pub(crate) fn run(&self, load: &Load, duration: Duration) -> anyhow::Result<Tally> {
        let (far, load, near) = (self.far.clone(), load.clone(), self.near.clone());
        let (bound, listening) = std::sync::mpsc::channel();
        let receives = std::thread::spawn(move || {
            enter(&far)?;
            let listener = TcpListener::bind((FAR, 0))?;
            bound.send(listener.local_addr()?).context("the sender is gone")?;
            receiver::receive(&listener)
        });
        let address = listening.recv_timeout(Duration::from_secs(10)).context("no receiver")?;
        let sends = std::thread::spawn(move || {
            enter(&near)?;
            sender::send(&format!("tcp://{address}"), &load, duration)
        });
        let offered = sends.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        let mut tally = receives.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
        tally.offered = offered;
        Ok(tally)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in [&self.near, &self.far] {
            // The veth pair goes with them.
            if let Err(error) = run("ip", &format!("netns delete {name}")) {
                println!("left behind: {error:#}");
            }
        }
    }
}

/// This thread, and those it starts, live in the namespace from now on.
fn enter(name: &str) -> anyhow::Result<()> {
    let path = format!("/run/netns/{name}");
    let namespace = File::open(&path).with_context(|| path.clone())?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("enter {path}"))?;
    Ok(())
}
