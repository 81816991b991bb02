//! Verbs: the shortest ways to serve and to connect (draft §3.1).
//!
//! Above: applications. Below: the builder and the background core. Absent: choices; whoever wants
//! any builds an engine.

use super::{Engine, Listener, background};
use crate::carrier::responder::{Answer, Reply};
use crate::carrier::{self, Association, Carrier, CarrierRef, Sink, Source};
use crate::error::Result;
use crate::framer::{Framer, Unframed};
use crate::message::Message;
use crate::shard::core::Core;

/// Serves `address` until SIGTERM or SIGINT: `handler` is called with every Message and where
/// replies go, inline, on one thread per core (draft, Figure 4: `Respond`). Each core has its own
/// clone of the handler.
///
/// Over `udp://` each datagram is a Message, and replies go to whoever sent it; nothing is kept of
/// those who send. On a byte stream this gives the parts of one long Message per direction, for
/// nothing is ever framed silently; [`respond_with`] takes a framer.
///
/// # Errors
/// As [`EngineBuilder::start`](super::EngineBuilder::start), and if a core ends early.
pub fn respond<H, R>(address: &str, handler: H) -> Result<()>
where
    R: Answer + 'static,
    H: FnMut(Message<'_>, Reply<'_, Unframed>) -> R + Clone + Send + 'static,
{
    respond_with(address, Unframed, handler)
}

/// Like [`respond`], with a framer that says what a Message is on the wire.
///
/// ```no_run
/// use postring::LengthPrefixed;
///
/// fn main() -> postring::Result<()> {
///     let frames = LengthPrefixed::default();
///     postring::respond_with("tcp://[::]:7000", frames, |message, reply| reply.send(message))
/// }
/// ```
///
/// # Errors
/// As [`respond`].
pub fn respond_with<F, H, R>(address: &str, framer: F, handler: H) -> Result<()>
where
    F: Framer,
    R: Answer + 'static,
    H: FnMut(F::In<'_>, Reply<'_, F>) -> R + Clone + Send + 'static,
{
    Engine::builder().signals(true).respond_with(address, framer, handler).start()?.wait()
}

/// Like [`respond_with`], with a factory that each core calls once: state without locks.
///
/// # Errors
/// As [`respond`].
pub fn respond_per_core<F, N, H, R>(address: &str, framer: F, new: N) -> Result<()>
where
    F: Framer,
    R: Answer + 'static,
    N: Fn() -> H + Send + Sync + 'static,
    H: FnMut(F::In<'_>, Reply<'_, F>) -> R + 'static,
{
    Engine::builder().signals(true).respond_per_core(address, framer, new).start()?.wait()
}

/// Like [`respond_with`], with an async handler on owned Messages. Over `udp://` each remote that
/// sends has a Carrier then, as with a [`Listener`].
///
/// # Errors
/// As [`respond`].
pub fn respond_async<F, H, R>(address: &str, framer: F, handler: H) -> Result<()>
where
    F: Framer,
    R: Answer + 'static,
    H: AsyncFn(F::Got, CarrierRef<F>) -> R + Clone + Send + 'static,
{
    Engine::builder().signals(true).respond_async(address, framer, handler).start()?.wait()
}

/// Listens at `address` on every core; Carriers that peers open are taken with
/// [`Listener::accept`] (draft, Figure 3: `Listen`).
///
/// # Errors
/// As [`EngineBuilder::start`](super::EngineBuilder::start).
pub fn listen(address: &str) -> Result<Listener<Unframed>> {
    listen_with(address, Unframed)
}

/// Like [`listen`], with a framer that says what a Message is on the wire.
///
/// # Errors
/// As [`listen`].
pub fn listen_with<F: Framer>(address: &str, framer: F) -> Result<Listener<F>> {
    Engine::builder().listen_with(address, framer)
}

/// A Carrier to `address`. Nothing is opened before the first Message or
/// [`CarrierRef::activate`](crate::CarrierRef::activate) (draft, Figure 2: `Initiate`); what is
/// wrong with the address is said then.
///
/// On a core it lives on that core; elsewhere on a background core that begins with the first
/// call. If that core cannot begin, every verb of the Carrier answers why.
pub fn initiate(address: &str) -> Carrier<Unframed> {
    initiate_with(address, Unframed)
}

/// Like [`initiate`], with a framer that says what a Message is on the wire.
pub fn initiate_with<F: Framer>(address: &str, framer: F) -> Carrier<F> {
    if let Some(core) = Core::current() {
        return carrier::initiate_here(&core, address, framer);
    }
    match background::core() {
        Ok(handle) => carrier::initiate_there(&handle, address, framer),
        Err(error) => {
            tracing::error!(%error, "no background core; every verb of the carrier will fail");
            carrier::nowhere(error)
        }
    }
}

/// The Association with `address`, without a Carrier and without traffic (draft, Figure 5:
/// `NewAssociation`); [`Association::initiate`] makes Carriers on it. It lives where those of
/// [`initiate`] do.
///
/// # Errors
/// [`Error::Address`](crate::Error::Address); those of
/// [`EngineBuilder::start`](crate::EngineBuilder::start) if no background core could begin.
#[doc(alias = "NewAssociation")]
pub fn associate(address: &str) -> Result<Association<Unframed>> {
    associate_with(address, Unframed)
}

/// Like [`associate`], with a framer that says what a Message is on the wire.
///
/// # Errors
/// As [`associate`].
pub fn associate_with<F: Framer>(address: &str, framer: F) -> Result<Association<F>> {
    let unit = match Core::current() {
        Some(core) => core.unit,
        None => {
            let core = background::core().map_err(|error| {
                tracing::error!(%error, "no background core");
                error.retold()
            })?;
            core.unit
        }
    };
    carrier::associate(unit, address, framer)
}

/// A Source to `address`: a Carrier that only sends (draft, Figure 5: `NewSource`). Opens nothing
/// before the first Message, as [`initiate`].
pub fn initiate_source(address: &str) -> Source<Unframed> {
    initiate_source_with(address, Unframed)
}

/// Like [`initiate_source`], with a framer that says what a Message is on the wire.
pub fn initiate_source_with<F: Framer>(address: &str, framer: F) -> Source<F> {
    initiate_with(address, framer).into_source()
}

/// A Sink from `address`: a Carrier that only receives (draft, Figure 5: `NewSink`). Over a byte
/// stream it is a connection that never sends; nothing is opened before the first receive.
///
/// A Sink of whoever connects here is an accepted Carrier's
/// [`into_sink`](crate::Carrier::into_sink).
pub fn initiate_sink(address: &str) -> Sink<Unframed> {
    initiate_sink_with(address, Unframed)
}

/// Like [`initiate_sink`], with a framer that says what a Message is on the wire.
pub fn initiate_sink_with<F: Framer>(address: &str, framer: F) -> Sink<F> {
    initiate_with(address, framer).into_sink()
}
