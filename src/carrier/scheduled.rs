//! Scheduled: a Message with wishes on its way into the ordered queue of its connection.
//!
//! Above: `send` and replies. Below: the framer makes bytes of it, the connection's `Outgoing`
//! keeps them until their turn. Absent: when that is; a Message without wishes, on a connection
//! that has never seen any, does not come by here.

use std::sync::Arc;
use std::time::Duration;

use super::parts::PartTag;
use super::receipt::{Receipt, message_id};
use super::way::Way;
use crate::error::{Error, Result};
use crate::framer::{Framer, Output};
use crate::message::{ANTECEDENTS_MAX, MessageId, Properties, SPECIFICS_MAX};
use crate::scheduler::Refusal;
use crate::shard::core::{Id, TICKET_SLOT};
use crate::shard::outgoing::{Outgoing, Parcel};
use crate::shard::protocol::{Call, Packing};
use crate::shard::record::{Callbacks, Record};

/// What is asked for a Message beside its own properties.
#[derive(Default)]
pub(super) struct Wishes {
    /// For typed Messages, which carry no properties of their own.
    pub(super) properties: Option<Box<Properties>>,
    pub(super) callbacks: Option<Box<Callbacks>>,
    /// It is a part of a longer Message.
    pub(super) part: Option<PartTag>,
}

impl Wishes {
    pub(super) const fn are_some(&self) -> bool {
        self.properties.is_some() || self.callbacks.is_some()
    }
}

/// A lifetime beyond this is none: 100 years.
const LIFETIME_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Frames a Message and queues it for its turn.
pub(super) fn submit<F: Framer>(
    way: &Way<F>,
    call: &Call<'_>,
    message: F::Out<'_>,
    wishes: Wishes,
) -> Result<Receipt> {
    let own = F::properties(&message).cloned();
    let properties = wishes.properties.map(|boxed| *boxed).or(own).unwrap_or_default();
    check(&properties, call.id)?;
    let antecedents: Vec<_> = properties.antecedents().iter().map(|named| named.number).collect();
    let mut output = Output::default();
    let mark = output.mark();
    way.framer.borrow_mut().encode(message, &mut output)?;
    super::way::pack(call, properties.niceness, &mut output, mark)?;
    // Where order is all the framing there is, a Message keeps its place.
    let stands_alone = F::STANDS_ALONE || call.packing != Packing::Stream;
    let niceness = if stands_alone { properties.niceness } else { 0 };
    let lifetime = properties.lifetime.filter(|lifetime| stands_alone && *lifetime < LIFETIME_MAX);
    let now_us = call.core.now_us();
    let deadline_us = lifetime.map(|lifetime| {
        now_us.saturating_add(u64::try_from(lifetime.as_micros()).unwrap_or(u64::MAX))
    });
    let record = Record::new(wishes.callbacks);
    let parcel = Parcel {
        output,
        record: Some(Arc::clone(&record)),
        niceness,
        immediate: properties.flags.immediate,
        idempotent: properties.flags.idempotent,
        deadline_us,
        relies_on: Box::default(),
    };
    let mut outgoing = call.outgoing.borrow_mut();
    let outgoing = outgoing.get_or_insert_with(|| {
        let messages_max = call.core.limits.scheduled_messages;
        Box::new(Outgoing::new(way.submitted.get(), messages_max))
    });
    match outgoing.submit(now_us, deadline_us, &antecedents, parcel) {
        Ok(number) => {
            if let Some(lifetime) = lifetime {
                call.core.check_lifetime(call.id, lifetime);
            }
            Ok(Receipt::tracked(message_id(call.id, number), record))
        }
        Err((refusal, parcel)) => {
            // User memory is dropped after the borrow.
            call.core.defer(move |_| drop(parcel));
            Err(error_of(refusal))
        }
    }
}

fn error_of(refusal: Refusal) -> Error {
    Error::Message(match refusal {
        Refusal::Full => "Limits::scheduled_messages wait already".into(),
        Refusal::TooManyAntecedents => format!("more than {ANTECEDENTS_MAX} antecedents"),
        other => format!("an antecedent that cannot be waited for: {other:?}"),
    })
}

/// Refuses properties that the Carrier can never honour: from any thread, by its identity alone.
pub(super) fn check(properties: &Properties, id: Id) -> Result<()> {
    let named = properties.antecedents();
    if named.len() > ANTECEDENTS_MAX {
        return Err(Error::Message(format!("more than {ANTECEDENTS_MAX} antecedents")));
    }
    // Whoever holds a ticket only does not know the slot behind it.
    let is_own = |message: &MessageId| match id.slot {
        TICKET_SLOT => message.unit == id.unit,
        _ => message.is_of(id.unit, id.slot, id.generation),
    };
    if !named.iter().all(is_own) {
        let why = "an antecedent of another Carrier: this stack orders Messages of one only";
        return Err(Error::Message(why.into()));
    }
    if properties.specifics().count() > SPECIFICS_MAX {
        let why = format!("more than {SPECIFICS_MAX} protocol-specific properties");
        return Err(Error::Message(why));
    }
    Ok(())
}
