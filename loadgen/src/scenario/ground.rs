//! The ground of a scenario: its server and the narrow link to it.
//!
//! Above: `scenario`. Below: `lab` where the kernel makes the link, `relay` where it does not.
//! Absent: measuring.

use anyhow::Result;

use crate::arguments::{Ground as Asked, ScenarioArguments};
use crate::conduct;
#[cfg(target_os = "linux")]
use crate::lab::{Lab, SERVER};
use crate::plan::Plan;
use crate::relay::Relay;
use crate::server::EchoServer;

/// A running server behind a narrow link.
pub(super) struct Ground {
    server: EchoServer,
    link: Link,
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
        if arguments.on != Asked::Loopback {
            match Self::lab(arguments.link, narrow_back, plan) {
                Ok(ground) => return Ok(ground),
                Err(why) if arguments.on == Asked::Lab => return Err(why),
                Err(why) if !arguments.quiet => conduct::announce(&format!("no lab: {why:#}")),
                Err(_) => {}
            }
        }
        let server = EchoServer::embedded(plan)?;
        let target = server.socket_address()?;
        let relay = Relay::start(target, arguments.link, narrow_back, &plan.server_cores)?;
        Ok(Self { server, link: Link::Relay(relay) })
    }

    #[cfg(target_os = "linux")]
    fn lab(bytes_per_s: f64, narrow_back: bool, plan: &Plan) -> Result<Self> {
        let lab = Lab::build(bytes_per_s, narrow_back)?;
        let start = || lab.enter_far().and_then(|()| EchoServer::at(SERVER, plan));
        let server = std::thread::scope(|scope| {
            let started = scope.spawn(start).join();
            started.unwrap_or_else(|_| Err(anyhow::anyhow!("the server's thread panicked")))
        })?;
        lab.enter_near()?;
        Ok(Self { server, link: Link::Lab(lab) })
    }

    #[cfg(not(target_os = "linux"))]
    fn lab(_: f64, _: bool, _: &Plan) -> Result<Self> {
        anyhow::bail!("a lab needs Linux; --on loopback does not")
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
    pub(super) const fn name(&self) -> &'static str {
        match &self.link {
            #[cfg(target_os = "linux")]
            Link::Lab(_) => "lab: two network namespaces, veth, tbf",
            Link::Relay(_) => "loopback, paced in user space",
        }
    }

    /// Takes it down.
    pub(super) fn end(self) -> Result<()> {
        drop(self.link);
        self.server.end()
    }
}
