//! Association and Transient: what an application can see above and below its Carriers (draft
//! §2.3, §2.7, §3.2, Figure 6).
//!
//! Above: applications that open further Carriers to the same Remote, or write logs. Below: the
//! core's table, and inspections, which have the driver at hand. Absent: anything that messages
//! need. Bounds: `Limits::associations`; see `association`.

use std::any::TypeId;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::here::{endpoint_of, state_here};
use super::promise::Promise;
use super::{Asked, Carrier, CarrierRef, CarrierState, Sink, Source, initiate_here};
use super::{ask_core, initiate_there};
use crate::address::Address;
use crate::association::{Key, Path};
use crate::engine::clock;
use crate::error::{CloseReason, Error, Result};
use crate::framer::{Framer, Unframed};
use crate::shard::core::{CallError, Core, Id};
use crate::shard::inspection::Inspection;
use crate::shard::mail;

/// What a Local and a Remote keep between them when Carriers come and go (draft §2.3): who the
/// Remote is, what was learned of the Paths to it, and the Carriers there are.
///
/// It comes about by itself with the first Carrier ([`CarrierRef::association`]), or is asked for
/// before there is one ([`associate`](crate::associate)). It lives on one core and stays without
/// Carriers and without traffic, until [`Limits::associations`](crate::Limits::associations)
/// others were used since. Forgotten, it has lost its Paths, nothing else: this handle stays good.
///
/// One and the same Association have those Carriers of one core that
///
/// - were initiated to the same address, as it was written, or forked from such;
/// - or were accepted from the same host at the same local address (peers without an IP address
///   are nobody known: each has its own),
///
/// and have the same type of framer, which is part of the Configuration; the rest of that is the
/// engine's. A Carrier with another Configuration has another Association.
#[doc(alias = "ConnectionContext")]
#[derive(Clone)]
pub struct Association<F: Framer = Unframed> {
    unit: u32,
    key: Arc<Key>,
    /// As it was given to the Carrier this was asked of; those that were accepted have none.
    framer: Option<F>,
}

/// The binding of a Carrier to the connection that serves it, as it was when it was asked for
/// (draft §2.7): for logs and for looking into things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transient {
    age: Duration,
    path: Path,
}

impl Transient {
    /// How long the connection has been there, to the millisecond.
    #[must_use]
    pub const fn age(&self) -> Duration {
        self.age
    }

    /// The active Paths (draft, Figure 6: `Paths`). A connection of the kernel has exactly one.
    #[must_use]
    pub const fn paths(&self) -> &[Path] {
        std::slice::from_ref(&self.path)
    }
}

impl<F: Framer> CarrierRef<F> {
    /// The Carrier's Association (draft §3.2, Figure 5: `Association`); known before there is a
    /// connection.
    ///
    /// Fails with [`Error::Address`] where the Carrier was initiated to nothing that is one, and
    /// with [`Error::Closed`] after its end: an accepted Carrier's Remote is known as long as it
    /// is connected.
    pub fn association(&self) -> Asked<Association<F>> {
        self.ask(|core, id, promise| {
            inspect(core, promise, move |inspection| association_of(inspection, id));
        })
    }

    /// The active Transients (draft, Figure 6: `Transients`): none while there is no connection,
    /// for a Carrier needs none to exist; one connection of the kernel is one Transient.
    pub fn transients(&self) -> Asked<Vec<Transient>> {
        self.ask(|core, id, promise| {
            inspect(core, promise, move |inspection| {
                let transient = inspection.path(id).map(|(age, path)| Transient { age, path });
                Ok(transient.into_iter().collect())
            });
        })
    }
}

impl<F: Framer> Association<F> {
    /// The Remote, as it was written; `None` where peers have come from it and it listens nowhere
    /// that is known here.
    #[must_use]
    pub fn remote(&self) -> Option<&Address> {
        self.key.remote()
    }

    /// Another Carrier to the same Remote, on the same core, with a fresh clone of the framer
    /// (draft, Figure 5: `Association.Initiate`). Opens nothing yet.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where there is no [`Association::remote`]; [`Error::EngineEnded`].
    pub fn initiate(&self) -> Result<Carrier<F>> {
        let (Some(remote), Some(framer)) = (self.remote(), &self.framer) else {
            let what = "initiate on the Association of an accepted Carrier: its peer listens \
                        nowhere that is known here; let the peer initiate";
            return Err(Error::Unsupported(what.into()));
        };
        let (address, framer) = (remote.to_string(), framer.clone());
        if let Some(core) = Core::current_is(self.unit) {
            return Ok(initiate_here(&core, &address, framer));
        }
        let handle = mail::find(self.unit).ok_or_else(|| mail::absent(self.unit))?;
        Ok(initiate_there(&handle, &address, framer))
    }

    /// The same as a Source: it only sends.
    ///
    /// # Errors
    /// As [`Association::initiate`].
    pub fn initiate_source(&self) -> Result<Source<F>> {
        self.initiate().map(Carrier::into_source)
    }

    /// The same as a Sink: it only receives.
    ///
    /// # Errors
    /// As [`Association::initiate`].
    pub fn initiate_sink(&self) -> Result<Sink<F>> {
        self.initiate().map(Carrier::into_sink)
    }

    /// The active Carriers (draft, Figure 6: `Carriers`): those in [`CarrierState::Active`], in no
    /// order. Those of a Responder are among them. Looks at every connection of the core: it is
    /// there for logs.
    #[doc(alias = "GroupedConnections")]
    pub fn carriers(&self) -> Asked<Vec<CarrierRef<F>>> {
        self.ask(|inspection, key| {
            let core = inspection.core;
            let is_active = |id: &Id| state_here(core, *id) == CarrierState::Active;
            inspection.connected(key).into_iter().filter(is_active).map(CarrierRef::new).collect()
        })
    }

    /// All Paths whose properties are cached (draft, Figure 6: `Paths`), the latest first; those
    /// that connections use now are measured anew. A Path that is used no more was measured when
    /// its last connection ended. At most 16. Looks at every connection of the core, as
    /// [`Association::carriers`].
    pub fn paths(&self) -> Asked<Vec<Path>> {
        self.ask(|inspection, key| inspection.paths(key))
    }

    fn ask<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Inspection<'_>, &Key) -> T + Send + 'static,
    ) -> Asked<T> {
        let key = Arc::clone(&self.key);
        ask_core(self.unit, move |core, promise| {
            inspect(core, promise, move |inspection| Ok(look(inspection, &key)));
        })
    }
}

impl<F: Framer> std::fmt::Debug for Association<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Association({})", self.key)
    }
}

/// The Association of Carriers to `address` on the core with number `unit`: no Carrier, no traffic.
///
/// # Errors
/// [`Error::Address`].
pub(crate) fn associate<F: Framer>(unit: u32, address: &str, framer: F) -> Result<Association<F>> {
    let address = address.parse::<Address>()?;
    address.check(clock::is_simulated())?;
    let key = Arc::new(Key::initiated(address, TypeId::of::<F>()));
    Ok(Association { unit, key, framer: Some(framer) })
}

/// Answers with what `look` sees as soon as the core reads its mail.
fn inspect<T: Send + 'static>(
    core: &Core,
    promise: Promise<T>,
    look: impl FnOnce(&Inspection<'_>) -> Result<T> + Send + 'static,
) {
    core.inspect(Box::new(move |inspection| {
        promise.answer(inspection.map_or(Err(Error::MailboxFull), look));
    }));
}

fn association_of<F: Framer>(inspection: &Inspection<'_>, id: Id) -> Result<Association<F>> {
    let core: &Rc<Core> = inspection.core;
    let key = inspection.association(id).map_err(closed)?;
    // A framer's Clone is user code: a call, with no borrow alive.
    let given = core.call(id, |protocol, _| {
        let endpoint = endpoint_of::<F>(protocol)?;
        if let Some(Err((address, why))) = endpoint.address() {
            return Err(Error::Address { address: address.clone(), why: why.clone() });
        }
        Ok(endpoint.rare_ref().and_then(|rare| rare.fresh.clone()))
    });
    let framer = given.map_err(closed)??;
    let key = key.ok_or_else(|| Error::from(CloseReason::Finished))?;
    Ok(Association { unit: core.unit, key, framer })
}

fn closed(error: CallError) -> Error {
    match error {
        CallError::Gone(reason) => reason.into(),
        // Letters are read between calls.
        CallError::InCall => Error::MailboxFull,
    }
}
