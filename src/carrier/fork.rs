//! Fork: another Carrier to the same remote (draft §2.1), and the requests of peers that fork.
//!
//! Above: `CarrierRef::fork`, `CarrierRef::accept`, `Acceptor`. Below: over the kernel's byte
//! streams a fork is another connection, which reaches the peer's Listener. Absent: multistreaming
//! stacks, whose forks share a connection.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::accept::AcceptingCarrier;
use super::here::{endpoint_of, place};
use super::promise::Promise;
use super::responder::{Answer as HandlerAnswer, Flow};
use super::{Asked, Carrier, CarrierRef};
use crate::address::{Address, SocketAddress};
use crate::association::Key;
use crate::error::{CloseReason, Error, Result};
use crate::framer::Framer;
use crate::shard::connection::{Connection, Peer, Phase};
use crate::shard::core::{CallError, Core, Id};

/// What accepts requests for new Carriers: a [`Listener`](crate::Listener), and a Carrier whose
/// peer forks it. Both have the same verbs (draft §2.1: "its interface for accepting fork requests
/// is identical").
///
/// A request is refused by [`CarrierRef::abort`] on what was accepted: over TCP the peer sees a
/// reset.
pub trait Acceptor<F: Framer> {
    /// The next Carrier that a peer asks for.
    fn accept(&self) -> AcceptingCarrier<'_, F>;

    /// Calls `handler` with every Carrier until it says stop, on this thread (draft, Figure 3).
    ///
    /// # Errors
    /// Those of [`Acceptor::accept`]; [`Error::WaitOnCore`] on a core thread.
    fn accept_each<R: HandlerAnswer>(&self, mut handler: impl FnMut(Carrier<F>) -> R) -> Result<()>
    where
        Self: Sized,
    {
        loop {
            let carrier = self.accept().wait()?;
            if handler(carrier).flow() == Flow::Stop {
                return Ok(());
            }
        }
    }
}

impl<F: Framer> Acceptor<F> for CarrierRef<F> {
    fn accept(&self) -> AcceptingCarrier<'_, F> {
        AcceptingCarrier::refused(Error::Unsupported(
            "fork requests on this stack: a fork of the peer is a connection of its own and \
             reaches the Listener; supports().fork_requests says where they come here"
                .into(),
        ))
    }
}

impl<F: Framer> Acceptor<F> for Carrier<F> {
    fn accept(&self) -> AcceptingCarrier<'_, F> {
        Acceptor::accept(&**self)
    }
}

impl<F: Framer> CarrierRef<F> {
    /// The next fork request of the peer. The kernel's byte streams carry none
    /// ([`Supports::fork_requests`](crate::Supports::fork_requests)): there it is
    /// [`Error::Unsupported`].
    pub fn accept(&self) -> AcceptingCarrier<'_, F> {
        Acceptor::accept(self)
    }

    /// Another Carrier to the same remote, with a fresh clone of the framer; ready when the remote
    /// has accepted it. Over the kernel's byte streams it is another connection to the same
    /// address, and "accepted" is the kernel's word: a Listener that refuses it closes it. A
    /// fork whose connection is lost or refused ends: it is not connected again by itself.
    ///
    /// Fails with [`Error::Unsupported`] on an accepted Carrier of such a stack (the peer listens
    /// nowhere that is known here; [`Supports::fork`](crate::Supports::fork)), and with
    /// [`Error::Closed`] after either side has ended.
    pub fn fork(&self) -> Forking<F> {
        Forking { stage: Stage::Placing(self.ask(fork_here::<F>)) }
    }
}

/// Why a Carrier cannot be forked, or where its fork goes if it is connected already, and the
/// Association of both.
fn remote_of(connection: &Connection) -> Result<(Peer, Option<Arc<Key>>)> {
    let flags = &connection.flags;
    let over = matches!(connection.phase, Phase::Closing | Phase::Closed);
    if over || flags.end_wanted || flags.input_ended {
        return Err(connection.reason.unwrap_or(CloseReason::Finished).into());
    }
    if flags.accepted {
        let what = "fork on an accepted Carrier: on this stack a fork is a new connection, and \
                    the peer listens nowhere that is known here; let the peer fork";
        return Err(Error::Unsupported(what.into()));
    }
    let remote = if connection.phase == Phase::Open { connection.peer } else { Peer::Unknown };
    Ok((remote, connection.association().cloned()))
}

fn fork_here<F: Framer>(core: &Rc<Core>, id: Id, promise: Promise<Carrier<F>>) {
    let (remote, association) = match core.look(id, remote_of) {
        Ok(Ok(origin)) => origin,
        Ok(Err(error)) => return promise.answer(Err(error)),
        Err(CallError::Gone(reason)) => return promise.answer(Err(reason.into())),
        Err(CallError::InCall) => {
            return core.defer(move |core| fork_here::<F>(core, id, promise));
        }
    };
    let origin = core.call(id, |protocol, _| {
        let endpoint = endpoint_of::<F>(protocol)?;
        let address = match (remote, endpoint.address()) {
            // The same of several addresses that a name may have.
            (Peer::Ip(address), Some(Ok(named))) if named.is_datagram() => {
                Address::from(SocketAddress::Udp(address)).to_string()
            }
            (Peer::Ip(address), _) => Address::from(address).to_string(),
            (_, Some(Ok(address))) => address.to_string(),
            (_, Some(Err((address, why)))) => {
                return Err(Error::Address { address: address.clone(), why: why.clone() });
            }
            (_, None) => return Err(Error::Unsupported("fork without a remote".into())),
        };
        let framer = endpoint.rare_ref().and_then(|rare| rare.fresh.clone());
        let framer = framer.ok_or_else(|| Error::Unsupported("fork without a framer".into()))?;
        // What has an address has an Association.
        let association =
            association.ok_or_else(|| Error::Unsupported("fork without a remote".into()))?;
        Ok((address, framer, association))
    });
    match origin {
        Ok(Ok((address, framer, association))) => {
            let forked = place::<F>(core, &address, framer, Some(association));
            promise.answer(Ok(Carrier::own(CarrierRef::new(forked))));
        }
        Ok(Err(error)) => promise.answer(Err(error)),
        Err(CallError::Gone(reason)) => promise.answer(Err(reason.into())),
        Err(CallError::InCall) => core.defer(move |core| fork_here::<F>(core, id, promise)),
    }
}

/// The future of [`CarrierRef::fork`].
///
/// Cancel safety: dropped before it is ready, the new Carrier is closed again.
#[must_use = "the fork is there when the future is awaited"]
pub struct Forking<F: Framer> {
    stage: Stage<F>,
}

enum Stage<F: Framer> {
    Placing(Asked<Carrier<F>>),
    Activating(Option<Carrier<F>>, Asked<()>),
}

impl<F: Framer> Forking<F> {
    /// Waits on this thread.
    ///
    /// # Errors
    /// Those of the future; [`Error::WaitOnCore`] on a core thread.
    pub fn wait(self) -> Result<Carrier<F>> {
        super::wait::wait(self)
    }
}

impl<F: Framer> Future for Forking<F> {
    type Output = Result<Carrier<F>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut self.stage {
                Stage::Placing(placing) => match Pin::new(placing).poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(carrier)) => {
                        let activating = carrier.activate();
                        self.stage = Stage::Activating(Some(carrier), activating);
                    }
                },
                Stage::Activating(carrier, activating) => {
                    let activated = std::task::ready!(Pin::new(activating).poll(context));
                    let carrier = carrier.take().expect("a fork is not polled after it was ready");
                    return Poll::Ready(activated.map(|()| carrier));
                }
            }
        }
    }
}
