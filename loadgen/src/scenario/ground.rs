//! The ground of a scenario: its server and the narrow link to it.
//!
//! Above: `scenario`. Below: `lab` where the kernel makes the link, `relay` where it does not.
//! Absent: measuring.

use anyhow::{Result, bail};

use crate::arguments::{Ground as Asked, ScenarioArguments, Stack};
use crate::conduct;
use crate::environment;
#[cfg(target_os = "linux")]
use crate::lab::{BURST_BYTES, DATAGRAM_SERVER, Lab, SERVER, Width};
use crate::plan::Plan;
use crate::relay::Relay;
use crate::server::EchoServer;

/// A running server behind a narrow link.
pub(super) struct Ground {
    server: EchoServer,
    link: Link,
    congestion: String,
}

enum Link {
    #[cfg(target_os = "linux")]
    Lab(#[expect(dead_code, reason = "it holds the namespaces until it is dropped")] Lab),
    Relay(Relay),
}

impl Ground {
    /// Makes what was asked for. In a lab the calling thread is on the generators' side from now
    /// on.
    ///
    /// # Errors
    /// If it cannot be made; with `auto` only if loopback cannot.
    pub(super) fn prepare(
        arguments: &ScenarioArguments,
        plan: &Plan,
        narrow_back: bool,
    ) -> Result<Self> {
        let is_udp = arguments.over == Stack::Udp;
        if is_udp && arguments.on == Asked::Loopback {
            bail!("--over udp needs a lab, as root: a relay in user space carries no datagrams");
        }
        if let Some(name) = arguments.congestion.as_ref().filter(|_| is_udp) {
            bail!("--congestion {name}: datagrams have none");
        }
        if arguments.on != Asked::Loopback {
            match Self::lab(arguments, narrow_back, plan) {
                Ok(ground) => return Ok(ground),
                Err(why) if is_udp => return Err(why.context("datagrams need a lab")),
                Err(why) if arguments.on == Asked::Lab => {
                    return Err(why.context("--on loopback needs no lab"));
                }
                Err(why) if !arguments.quiet => conduct::announce(&format!("no lab: {why:#}")),
                Err(_) => {}
            }
        }
        if let Some(name) = &arguments.congestion {
            bail!("--congestion {name} needs a lab: --on lab, as root");
        }
        let server = EchoServer::embedded(plan)?;
        let target = server.socket_address()?;
        let relay = Relay::start(target, arguments.link, narrow_back, &plan.server_cores)?;
        Ok(Self { server, link: Link::Relay(relay), congestion: String::new() })
    }

    #[cfg(target_os = "linux")]
    fn lab(arguments: &ScenarioArguments, narrow_back: bool, plan: &Plan) -> Result<Self> {
        if arguments.over == Stack::Udp {
            return Self::of_datagrams(arguments.link * 8.0, BURST_BYTES, narrow_back, plan);
        }
        let congestion = arguments.congestion.as_deref();
        let lab = Lab::build(Width::of_payload(arguments.link), narrow_back, congestion)?;
        let server = Self::server(&lab, SERVER, plan)?;
        let congestion = arguments.congestion.clone().or_else(environment::congestion_control);
        let congestion = congestion.unwrap_or_else(|| "congestion control unknown".to_owned());
        Ok(Self { server, link: Link::Lab(lab), congestion })
    }

    #[cfg(not(target_os = "linux"))]
    fn lab(_: &ScenarioArguments, _: bool, _: &Plan) -> Result<Self> {
        bail!("a lab needs Linux")
    }

    /// As `prepare`, with a server of datagrams behind a link of so many bits on the wire per
    /// second, which lets so much pass at once after it was idle: only a lab has one.
    ///
    /// # Errors
    /// If it cannot be made.
    #[cfg(target_os = "linux")]
    pub(super) fn of_datagrams(
        bits_per_s: f64,
        burst_bytes: u32,
        narrow_back: bool,
        plan: &Plan,
    ) -> Result<Self> {
        let lab = Lab::build(Width { bits_per_s, burst_bytes }, narrow_back, None)?;
        let server = Self::server(&lab, DATAGRAM_SERVER, plan)?;
        Ok(Self { server, link: Link::Lab(lab), congestion: "datagrams".to_owned() })
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn of_datagrams(_: f64, _: u32, _: bool, _: &Plan) -> Result<Self> {
        bail!("a lab needs Linux")
    }

    /// Starts the server of a lab; the calling thread is on the generators' side from now on.
    #[cfg(target_os = "linux")]
    fn server(lab: &Lab, address: &str, plan: &Plan) -> Result<EchoServer> {
        let start = || lab.enter_far().and_then(|()| EchoServer::at(address, plan));
        let server = std::thread::scope(|scope| {
            let started = scope.spawn(start).join();
            started.unwrap_or_else(|_| Err(anyhow::anyhow!("the server's thread panicked")))
        })?;
        lab.enter_near()?;
        Ok(server)
    }

    /// Where the generators connect.
    pub(super) fn address(&self) -> String {
        match &self.link {
            #[cfg(target_os = "linux")]
            Link::Lab(_) => self.server.address.clone(),
            Link::Relay(relay) => relay.address.clone(),
        }
    }

    /// What the link is.
    pub(super) fn name(&self) -> String {
        match &self.link {
            #[cfg(target_os = "linux")]
            Link::Lab(_) => {
                format!("lab: two network namespaces, veth, tbf, {}", self.congestion)
            }
            Link::Relay(_) => "loopback, paced in user space".to_owned(),
        }
    }

    /// Takes it down.
    pub(super) fn end(self) -> Result<()> {
        drop(self.link);
        self.server.end()
    }
}
