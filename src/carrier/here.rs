//! Here: the untyped half of the verbs, on the Carrier's own core.
//!
//! Above: `CarrierRef` brings every verb here, at once or by mailbox. Below: the shard's core.
//! Absent: futures, other threads.

use std::any::TypeId;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::endpoint::Endpoint;
use super::part::Demand;
use super::promise::Promise;
use super::{Carrier, CarrierRef, CarrierState, inbox};
use crate::address::{Address, Route};
use crate::association::Key;
use crate::engine::clock;
use crate::error::{CloseReason, Error, Result};
use crate::framer::Framer;
use crate::shard::connection::Phase;
use crate::shard::core::{CallError, Core, Id, TICKET_SLOT};
use crate::shard::mail::{self, CoreHandle, Mail};
use crate::shard::protocol::Protocol;

/// The engine keeps the connection from now on, and forgets it when it has ended.
pub(super) fn disown(core: &Rc<Core>, id: Id) {
    let closed = core.change(id, |connection| {
        connection.flags.owned = false;
        connection.phase == Phase::Closed
    });
    if closed == Ok(true) {
        core.free_guarded(id);
    }
}

/// The typed half behind a verb.
pub(super) fn endpoint_of<F: Framer>(protocol: &mut dyn Protocol) -> Result<&mut Endpoint<F>> {
    protocol.as_any().downcast_mut::<Endpoint<F>>().ok_or_else(|| {
        Error::Unsupported("a verb with another framer than the Carrier's own".into())
    })
}

pub(super) fn activate_here<F: Framer>(core: &Rc<Core>, id: Id, promise: Option<Promise<()>>) {
    let phase =
        core.look(id, |connection| (connection.phase, connection.reason, connection.is_lost()));
    let (phase, reason) = match phase {
        Ok((_, reason, true)) => (Phase::Dormant, reason),
        Ok((phase, reason, _)) => (phase, reason),
        Err(CallError::Gone(reason)) => (Phase::Closed, Some(reason)),
        Err(CallError::InCall) => (Phase::Open, None),
    };
    let opening = match phase {
        Phase::Inactive | Phase::Resolving | Phase::Connecting | Phase::Dormant => true,
        Phase::Open => {
            return promise.into_iter().for_each(|promise| promise.answer(Ok(())));
        }
        _ => false,
    };
    if !opening {
        let reason = reason.unwrap_or(CloseReason::Finished);
        let Some(promise) = promise else { return };
        let again = move |core: &Rc<Core>, promise| activate_here::<F>(core, id, Some(promise));
        return match failure_here::<F>(core, id, reason) {
            Ok(error) => promise.answer(Err(error)),
            Err(CallError::InCall) => core.defer(move |core| again(core, promise)),
            Err(CallError::Gone(reason)) => promise.answer(Err(error_of(reason, None, None))),
        };
    }
    let mut promise = promise;
    let address = core.call(id, |protocol, _| {
        let endpoint = endpoint_of::<F>(protocol)?;
        let address = endpoint.address().cloned();
        match address {
            Some(Ok(address)) => {
                endpoint.rare().activating.extend(promise.take());
                Ok(Some(address))
            }
            Some(Err((address, why))) => Err(Error::Address { address, why }),
            None => Ok(None),
        }
    });
    let again = move |core: &Rc<Core>, promise| activate_here::<F>(core, id, promise);
    let refused = match address {
        // A lost Carrier has pauses between its tries.
        Ok(Ok(Some(_))) if phase == Phase::Dormant => return core.attend(id),
        Ok(Ok(Some(address))) => return core.begin_connect(id, &address),
        Err(CallError::InCall) => return core.defer(move |core| again(core, promise)),
        Ok(Ok(None)) => Ok(()),
        Ok(Err(error)) => Err(error),
        Err(CallError::Gone(reason)) => Err(error_of(reason, None, None)),
    };
    if let Some(promise) = promise {
        promise.answer(refused);
    }
}

/// Bytes and unframed Messages that wait; none when it has ended, for then nothing waits any more.
pub(super) fn queued_here<F: Framer>(core: &Rc<Core>, id: Id) -> usize {
    let bytes = core.look(id, |connection| {
        let is_over = matches!(connection.phase, Phase::Closing | Phase::Closed);
        if is_over { 0 } else { connection.waiting() + connection.unsent }
    });
    let parked = core.call(id, |protocol, _| {
        let endpoint = endpoint_of::<F>(protocol).ok()?;
        Some(endpoint.rare_ref()?.parcels.len())
    });
    // Asked from inside a call: what is in it is not looked at.
    bytes.unwrap_or(0) + parked.ok().flatten().unwrap_or(0)
}

/// Tells other threads whether Messages wait for room in the Carrier's queue and how urgent the
/// most urgent of them is, under both of its names.
pub(super) fn set_full(core: &Core, id: Id, niceness: Option<u32>) {
    let id = core.resolve(id);
    core.handle.set_full(id, niceness);
    let ticket = core.look(id, |connection| connection.rare.as_ref().map_or(0, |rare| rare.ticket));
    if let Ok(ticket @ 1..) = ticket {
        core.handle.set_full(Id { slot: TICKET_SLOT, generation: ticket, ..id }, niceness);
    }
}

pub(super) fn close_here<F: Framer>(core: &Rc<Core>, id: Id, promise: Option<Promise<()>>) {
    let mut promise = promise;
    if core.serves_anybody(id) {
        let why = "close() of a Responder's socket of datagrams, which serves everybody: its \
                   engine ends it, or a Listener gives each remote a Carrier of its own";
        let answer = |promise: Promise<()>| promise.answer(Err(Error::Unsupported(why.into())));
        return promise.into_iter().for_each(answer);
    }
    if core.handling.get() == Some(core.resolve(id))
        && let Some(promise) = promise.take()
    {
        let why = "close() awaited in an async handler of its own Carrier, which ends when its \
                   handlers have: do not await it there, or return Flow::Stop";
        promise.answer(Err(Error::Unsupported(why.into())));
    }
    let again = move |core: &Rc<Core>, promise| close_here::<F>(core, id, promise);
    let called = core.call(id, |protocol, _| match (endpoint_of::<F>(protocol), promise.take()) {
        (Ok(endpoint), Some(promise)) => endpoint.rare().closing.push(promise),
        (Err(error), Some(promise)) => promise.answer(Err(error)),
        (_, None) => {}
    });
    match called {
        Ok(()) => {}
        Err(CallError::Gone(reason)) => {
            let answer = |promise: Promise<()>| promise.answer(closed_in_order(reason, None, None));
            return promise.into_iter().for_each(answer);
        }
        Err(CallError::InCall) => return core.defer(move |core| again(core, promise)),
    }
    let phase = core.change(id, |connection| {
        connection.close_lost();
        (connection.phase, connection.reason, connection.is_lost())
    });
    match phase {
        Ok((_, _, true)) => core.end_output(id, CloseReason::Local),
        Ok((Phase::Closed | Phase::Closing, reason, _)) => {
            let reason = reason.unwrap_or(CloseReason::Finished);
            // Whoever closes what has ended is answered at once.
            let words = unresolved(core, id);
            let _ = core.call(id, |protocol, _| {
                if let Ok(endpoint) = endpoint_of::<F>(protocol) {
                    let address = endpoint.connecting();
                    for promise in endpoint.rare().closing.drain(..) {
                        let (address, words) = (address.as_deref(), words.as_deref());
                        promise.answer(closed_in_order(reason, address, words));
                    }
                }
            });
        }
        Ok((Phase::Inactive, ..)) => core.fail(id, CloseReason::Local),
        _ => core.end_output(id, CloseReason::Local),
    }
}

pub(super) fn set_handler<F: Framer>(
    core: &Rc<Core>,
    id: Id,
    demand: Demand,
    handler: inbox::Handler<F>,
) {
    let mut handler = Some(handler);
    let set = core.call(id, |protocol, _| {
        let inbox = endpoint_of::<F>(protocol).and_then(Endpoint::inbox_to_wait);
        match (inbox, handler.take()) {
            (Ok(inbox), Some(handler)) => drop(inbox.set_handler(demand, handler)),
            (Err(error), _) => tracing::warn!(%error, "ready() has no effect"),
            (Ok(_), None) => {}
        }
    });
    if set == Err(CallError::InCall)
        && let Some(handler) = handler
    {
        return core.defer(move |core| set_handler::<F>(core, id, demand, handler));
    }
    super::receive::ask(core, id, demand);
}

pub(super) type ClosedHandler = Box<dyn FnOnce(CloseReason) + Send>;

pub(super) fn on_closed_here<F: Framer>(core: &Rc<Core>, id: Id, handler: ClosedHandler) {
    let ended = core
        .look(id, |connection| (connection.phase == Phase::Closed).then_some(connection.reason));
    let reason = match ended {
        Ok(Some(reason)) => Some(reason.unwrap_or(CloseReason::Finished)),
        Err(CallError::Gone(reason)) => Some(reason),
        _ => None,
    };
    if let Some(reason) = reason {
        return handler(reason);
    }
    let mut handler = Some(handler);
    let set = core.call(id, |protocol, _| {
        if let Ok(endpoint) = endpoint_of::<F>(protocol) {
            endpoint.rare().on_closed.extend(handler.take());
        }
    });
    if set == Err(CallError::InCall)
        && let Some(handler) = handler
    {
        core.defer(move |core| on_closed_here::<F>(core, id, handler));
    }
}

pub(super) fn state_here(core: &Rc<Core>, id: Id) -> CarrierState {
    let state = core.look(id, |connection| {
        let reason = connection.reason.unwrap_or(CloseReason::Finished);
        match connection.phase {
            _ if connection.is_closing_lost() => CarrierState::Closing,
            Phase::Inactive => CarrierState::Inactive,
            Phase::Resolving | Phase::Connecting => CarrierState::Activating,
            Phase::Closed => CarrierState::Closed(reason),
            _ if connection.is_lost() => CarrierState::Dormant,
            Phase::Closing => CarrierState::Closing,
            _ if connection.flags.end_wanted => CarrierState::Closing,
            _ => CarrierState::Active,
        }
    });
    match state {
        Ok(state) => state,
        Err(CallError::Gone(reason)) => CarrierState::Closed(reason),
        Err(CallError::InCall) => CarrierState::Active,
    }
}

/// What a verb on an ended connection returns: where it went to and the resolver's words are part
/// of it, if there never was a connection.
pub(super) fn error_of(reason: CloseReason, address: Option<&str>, words: Option<&str>) -> Error {
    let source = match (reason, words) {
        (CloseReason::NotConnected(errno), _) => io::Error::from_raw_os_error(errno),
        (CloseReason::NotResolved, Some(words)) => io::Error::other(words),
        _ => return reason.into(),
    };
    match address {
        Some(address) => {
            let hint = crate::engine::socket::connect_hint(&source);
            Error::Connect { address: address.to_owned(), source, hint }
        }
        None => reason.into(),
    }
}

/// The same for a connection that still has its slot.
fn failure_here<F: Framer>(
    core: &Rc<Core>,
    id: Id,
    reason: CloseReason,
) -> Result<Error, CallError> {
    let words = unresolved(core, id);
    let address =
        core.call(id, |protocol, _| endpoint_of::<F>(protocol).ok().and_then(|e| e.connecting()))?;
    Ok(error_of(reason, address.as_deref(), words.as_deref()))
}

/// What the resolver said, if it found no address.
pub(super) fn unresolved(core: &Core, id: Id) -> Option<String> {
    let words =
        core.look(id, |connection| Some(connection.rare.as_ref()?.unresolved.as_ref()?.clone()));
    words.ok().flatten()
}

/// A close is answered well if the connection ended as it should.
pub(super) fn closed_in_order(
    reason: CloseReason,
    address: Option<&str>,
    words: Option<&str>,
) -> Result<()> {
    match reason {
        CloseReason::Finished
        | CloseReason::Local
        | CloseReason::Stopped
        | CloseReason::Shutdown => Ok(()),
        other => Err(error_of(other, address, words)),
    }
}

/// A Carrier to `address` on this core: opens nothing yet.
pub(crate) fn initiate_here<F: Framer>(core: &Rc<Core>, address: &str, framer: F) -> Carrier<F> {
    let id = place::<F>(core, address, framer, None);
    Carrier::own(CarrierRef::new(id))
}

/// A Carrier to `address` on another thread's core: opens nothing yet.
pub(crate) fn initiate_there<F: Framer>(
    handle: &Arc<CoreHandle>,
    address: &str,
    framer: F,
) -> Carrier<F> {
    let ticket = handle.ticket();
    let address = address.to_owned();
    let errand = move |core: &Rc<Core>| {
        let id = place::<F>(core, &address, framer, None);
        core.name_ticket(ticket, id);
        // Just placed.
        let _ = core.change(id, |connection| connection.rare().ticket = ticket);
    };
    mail::post_patiently(handle.unit, Mail::Errand(Box::new(errand)));
    let id = Id { unit: handle.unit, slot: TICKET_SLOT, generation: ticket };
    Carrier::own(CarrierRef::new(id))
}

/// A Carrier whose engine could not begin: every verb answers `why`.
pub(crate) fn nowhere<F: Framer>(why: &'static Error) -> Carrier<F> {
    mail::never_began(why);
    Carrier::own(CarrierRef::new(Id { unit: mail::NO_UNIT, slot: TICKET_SLOT, generation: 0 }))
}

/// True if a Carrier that was initiated is connected again when its connection is lost.
pub(super) fn is_revivable<F: Framer>(core: &Core) -> bool {
    F::RESTARTABLE && F::STANDS_ALONE && !core.timeouts.dormant.is_zero()
}

/// A slot for a Carrier to `address`. A forked one belongs to its forker's Association and is not
/// connected again: where a refusal is a reset, its forker shall see it.
pub(super) fn place<F: Framer>(
    core: &Rc<Core>,
    address: &str,
    framer: F,
    forked: Option<Arc<Key>>,
) -> Id {
    let id = core.allocate(Phase::Inactive);
    let fresh = framer.clone();
    let mut endpoint = Endpoint::carrier(framer, core);
    let parsed = address.parse::<Address>();
    let is_datagram = parsed.as_ref().is_ok_and(Address::is_datagram);
    let revivable = forked.is_none() && !is_datagram && is_revivable::<F>(core);
    let parsed = parsed.and_then(|address| {
        address.check(clock::is_simulated())?;
        Ok(address)
    });
    let parsed = parsed.map_err(|error| match error {
        Error::Address { address, why } => (address, why),
        other => (address.to_owned(), other.to_string()),
    });
    if let Ok(address) = &parsed {
        let key =
            forked.unwrap_or_else(|| Key::initiated(address.clone(), TypeId::of::<F>()).into());
        core.associate(id, key);
    }
    let group = parsed.as_ref().ok().and_then(Address::group);
    if is_datagram {
        endpoint.takes_datagrams();
    }
    endpoint.rare().address = Some(parsed);
    endpoint.rare().fresh = Some(fresh);
    endpoint.rare().revivable = revivable;
    // Just allocated.
    let _ = core.change(id, |connection| {
        connection.flags.owned = true;
        // What is sent before there is a socket becomes packets as well.
        connection.flags.datagrams = is_datagram;
        if let Some(remote) = group {
            connection.rare().to = Some(Route { remote, local: None });
        }
        connection.protocol = Some(Box::new(endpoint));
    });
    if revivable {
        core.may_revive(id);
    }
    id
}
