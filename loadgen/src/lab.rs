//! The lab: two hosts in one process, with a narrow link between them, made by the kernel.
//!
//! Above: scenarios, where there is the right to it (root). Below: `unshare`, `nsenter`, `ip` and
//! `tc`; `setns` for threads. Absent: measuring. The namespaces have no names: two children hold
//! them as long as a pipe from this process is open, so nothing is left behind however it ends.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Address of the generators' side.
const NEAR: &str = "10.83.0.1/24";
/// Address of the server's side.
const FAR: &str = "10.83.0.2/24";
/// The network of both.
const NETWORK: &str = "10.83.0.0/24";
/// Where a server of streams listens.
pub(crate) const SERVER: &str = "tcp://10.83.0.2:0";
/// Where a server of datagrams listens.
pub(crate) const DATAGRAM_SERVER: &str = "udp://10.83.0.2:0";
/// Bytes on the wire for each of `PAYLOAD_BYTES`, as `tbf` counts: Ethernet, IP and TCP headers.
const WIRE_BYTES: f64 = 1514.0;
const PAYLOAD_BYTES: f64 = 1448.0;
/// What an idle link lets pass at once, unless that is to be measured.
pub(crate) const BURST_BYTES: u32 = 32 << 10;
/// How long a child may take to make its namespace.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the link is to be, as `tbf` counts: packets with their Ethernet headers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Width {
    /// Bits on the wire per second.
    pub(crate) bits_per_s: f64,
    /// Bytes that pass at once when the link was idle; no packet may be longer.
    pub(crate) burst_bytes: u32,
}

impl Width {
    /// That carries so much payload of TCP in full packets.
    pub(crate) fn of_payload(bytes_per_s: f64) -> Self {
        let bits_per_s = (bytes_per_s * 8.0 * WIRE_BYTES / PAYLOAD_BYTES).round();
        Self { bits_per_s, burst_bytes: BURST_BYTES }
    }
}

/// Two namespaces with a link; they vanish when it is dropped and no thread is in them.
pub(crate) struct Lab {
    near: Namespace,
    far: Namespace,
}

impl Lab {
    /// Builds a link of this width towards the server and, if it is `narrow_back`, from there; else
    /// the way back is as quick as the kernel. Connections are under `congestion` control, if it is
    /// named.
    ///
    /// # Errors
    /// If this user may not, or a program is missing; says what to do instead.
    pub(crate) fn build(width: Width, narrow_back: bool, congestion: Option<&str>) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("a lab needs root");
        }
        let lab = Self { near: Namespace::new()?, far: Namespace::new()? };
        let (near, far) = (&lab.near, &lab.far);
        let peer = far.holder.id();
        near.run(&format!("ip link add lg0 type veth peer name lg1 netns {peer}"))?;
        for (side, device, address) in [(near, "lg0", NEAR), (far, "lg1", FAR)] {
            side.run(&format!("ip address add {address} dev {device}"))?;
            side.run(&format!("ip link set {device} up"))?;
            side.run("ip link set lo up")?;
            if let Some(name) = congestion {
                // By the route: a namespace's own setting takes only what is allowed to everybody.
                side.run(&format!("ip route change {NETWORK} dev {device} congctl {name}"))
                    .with_context(|| format!("--congestion {name}: not in this kernel"))?;
            }
        }
        let Width { bits_per_s, burst_bytes } = width;
        let shape = format!("tbf rate {bits_per_s}bit burst {burst_bytes} latency 400ms");
        let narrow = |device: &str| format!("tc qdisc add dev {device} root {shape}");
        near.run(&narrow("lg0"))?;
        if narrow_back {
            far.run(&narrow("lg1"))?;
        }
        Ok(lab)
    }

    /// Puts the calling thread, and those it starts, on the generators' side.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn enter_near(&self) -> Result<()> {
        self.near.enter()
    }

    /// Puts the calling thread, and those it starts, on the server's side.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn enter_far(&self) -> Result<()> {
        self.far.enter()
    }
}

/// A network namespace without a name.
struct Namespace {
    holder: Child,
}

impl Namespace {
    fn new() -> Result<Self> {
        // `cat` ends when the pipe does: with this process at the latest.
        let holder = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("unshare (of util-linux) is not installed")?;
        let mut namespace = Self { holder };
        let own = std::fs::read_link("/proc/self/ns/net").context("/proc is not there")?;
        let until = Instant::now() + PATIENCE;
        // Until then it is still a copy of this process.
        while std::fs::read_link(namespace.path()).ok().is_none_or(|theirs| theirs == own) {
            let ended = namespace.holder.try_wait().context("the namespace's holder")?;
            if ended.is_some() || Instant::now() > until {
                bail!("a network namespace cannot be made here");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(namespace)
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    fn run(&self, line: &str) -> Result<()> {
        let output = Command::new("nsenter")
            .arg(format!("--net={}", self.path()))
            .args(line.split(' '))
            .output()
            .context("nsenter (of util-linux) is not installed")?;
        if !output.status.success() {
            bail!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    fn enter(&self) -> Result<()> {
        let path = self.path();
        let namespace = File::open(&path).with_context(|| path.clone())?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("enter {path}"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        // It has ended, or ends now: there is nothing more to do about it.
        let _ = self.holder.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_has_a_link_and_leaves_no_holder_behind() {
        let lab = match Lab::build(Width::of_payload(12.5e6), true, Some("reno")) {
            Ok(lab) => lab,
            Err(why) => return eprintln!("SKIP: {why:#}"),
        };
        let holders = [lab.near.holder.id(), lab.far.holder.id()];
        // A thread of its own: the test's thread stays where it is.
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                lab.enter_far().expect("the far side");
                std::net::TcpListener::bind("10.83.0.2:0").map(|_| ())
            });
            inside.join().expect("no panic").expect("the far address is there");
        });
        drop(lab);
        for holder in holders {
            assert!(!std::path::Path::new(&format!("/proc/{holder}")).exists());
        }
    }
}
