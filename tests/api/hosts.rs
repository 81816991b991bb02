//! Hosts: two network namespaces with a cable between them, so that a test has devices, routes and
//! rules of its own.
//!
//! Above: tests of what needs a network, `benches/class_latency`. Below: `ip`; `setns` for threads
//! that are to live on one of the hosts. Absent: anything of the crate.
//! Bound: one pair of namespaces for each value, named by the process, deleted when it is dropped.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub(crate) const NEAR: &str = "10.83.0.1";
pub(crate) const FAR: &str = "10.83.0.2";
/// What each host calls its end of the cable.
pub(crate) const CABLE: &str = "cable";

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    Near,
    Far,
}

pub(crate) struct Hosts {
    name: String,
}

impl Hosts {
    /// Two hosts, each with a loopback and one end of the cable.
    pub(crate) fn new() -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let hosts = Self { name: format!("ps{}-{number}", std::process::id()) };
        let [near, far] = [Host::Near, Host::Far].map(|host| hosts.namespace(host));
        run(&format!("ip netns add {near}"))?;
        run(&format!("ip netns add {far}"))?;
        hosts.plug_in()?;
        Ok(hosts)
    }

    /// A cable, as there is none yet, or none any more.
    pub(crate) fn plug_in(&self) -> anyhow::Result<()> {
        let [near, far] = [Host::Near, Host::Far].map(|host| self.namespace(host));
        let ends = format!("{CABLE} netns {near} type veth peer name {CABLE} netns {far}");
        run(&format!("ip link add {ends}"))?;
        for (name, address) in [(near, NEAR), (far, FAR)] {
            run(&format!("ip -n {name} address add {address}/24 dev {CABLE}"))?;
            run(&format!("ip -n {name} link set {CABLE} up"))?;
            run(&format!("ip -n {name} link set lo up"))?;
        }
        Ok(())
    }

    fn namespace(&self, host: Host) -> String {
        let side = match host {
            Host::Near => 'a',
            Host::Far => 'b',
        };
        format!("{}{side}", self.name)
    }

    /// This thread, and those it starts, live on `host` from now on.
    pub(crate) fn enter(&self, host: Host) -> anyhow::Result<()> {
        let path = format!("/run/netns/{}", self.namespace(host));
        let namespace = File::open(&path).with_context(|| path.clone())?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("enter {path}"))?;
        Ok(())
    }

    /// What `act` makes on `host`; sockets belong to where they were made.
    pub(crate) fn at<T: Send>(
        &self,
        host: Host,
        act: impl FnOnce() -> T + Send,
    ) -> anyhow::Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter(host).map(|()| act()));
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a command, its words apart, on `host`.
    pub(crate) fn run(&self, host: Host, command: &str) -> anyhow::Result<()> {
        self.at(host, || run(command))?
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in [Host::Near, Host::Far] {
            // The cable goes with them.
            if let Err(error) = run(&format!("ip netns delete {}", self.namespace(host))) {
                println!("left behind: {error:#}");
            }
        }
    }
}

fn run(command: &str) -> anyhow::Result<()> {
    let mut words = command.split_whitespace();
    let program = words.next().context("no command")?;
    let output = Command::new(program)
        .args(words)
        .output()
        .with_context(|| format!("{program} is not installed"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("{command}: {}", why.trim());
    }
    Ok(())
}
