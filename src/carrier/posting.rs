//! Posting: an owned Message on its way from another thread to its Carrier's core.
//!
//! Above: `send`. Below: the core's mailbox. Absent: what the core does with it there. Bound:
//! `Limits::mailbox`; a full one gives the Message back.

use std::any::Any;
use std::rc::Rc;

use super::accepting::Accepting;
use super::scheduled::Wishes;
use super::send::send_or_park;
use crate::error::Error;
use crate::framer::Framer;
use crate::shard::core::{Core, Id};
use crate::shard::mail::{CoreHandle, Errand, Mail};

/// An owned Message between threads.
pub(super) struct Parcel<F: Framer> {
    pub(super) message: F::Out<'static>,
    pub(super) wishes: Wishes,
}

/// A send on its way to the core.
struct SendErrand<F: Framer> {
    id: Id,
    parcel: Parcel<F>,
    accepting: Accepting,
}

impl<F: Framer> Errand for SendErrand<F> {
    fn run(self: Box<Self>, core: &Rc<Core>) {
        send_or_park::<F>(core, self.id, self.parcel, self.accepting);
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Why a Message was not posted.
pub(super) enum Unposted<F: Framer> {
    /// The mailbox is full: here it is again.
    Full(Parcel<F>),
    Failed(Error),
}

/// Posts an owned Message; gives it back if the mailbox is full.
pub(super) fn post<F: Framer>(
    handle: &CoreHandle,
    id: Id,
    parcel: Parcel<F>,
    accepting: Accepting,
) -> Result<(), Unposted<F>> {
    let errand = SendErrand::<F> { id, parcel, accepting };
    let Err(mail) = handle.post(Mail::Errand(Box::new(errand))) else { return Ok(()) };
    if handle.has_ended() {
        return Err(Unposted::Failed(Error::EngineEnded));
    }
    let Mail::Errand(errand) = mail else { return Err(Unposted::Failed(Error::MailboxFull)) };
    match errand.into_any().downcast::<SendErrand<F>>() {
        Ok(errand) => Err(Unposted::Full(errand.parcel)),
        Err(_) => Err(Unposted::Failed(Error::MailboxFull)),
    }
}
