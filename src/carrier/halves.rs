//! Source and Sink: Carriers that only send or only receive, by type (draft §2.1).
//!
//! Above: unidirectional applications, and both halves of a Carrier that was split. Below: the
//! Carrier that they share. Absent: the verbs of the other direction, forks and fork requests:
//! what cannot be done does not compile. Bounds: those of the Carrier.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::here::{activate_here, close_here};
use super::responder::Answer as HandlerAnswer;
use super::{
    Asked, Association, Callback, Carrier, CarrierRef, CarrierState, Events, Receiving, Sending,
    Supports, Transient,
};
use crate::error::{CloseReason, Result, TrySendError};
use crate::framer::{Framer, Unframed};
use crate::message::{MessageId, Properties};
use crate::shard::core::{Core, Id};

/// A Carrier over which Messages can only be sent (draft §2.1; Figure 5: `NewSource`). Made by
/// [`initiate_source`](crate::initiate_source), [`Carrier::into_source`] and [`Carrier::split`].
///
/// Dropping it ends this side's Messages, as [`CarrierRef::close`] does; where it was split off,
/// its Sink goes on receiving.
///
/// ```compile_fail
/// # fn example(source: postring::Source) {
/// source.receive(); // a Source has no receive
/// # }
/// ```
#[doc(alias = "NewSource")]
pub struct Source<F: Framer = Unframed> {
    whole: Arc<Carrier<F>>,
    #[cfg(feature = "futures")]
    pub(super) outlet: super::under_way::Outlet<F>,
}

/// A Carrier over which Messages can only be received (draft §2.1; Figure 5: `NewSink`). Made by
/// [`initiate_sink`](crate::initiate_sink), [`Carrier::into_sink`] and [`Carrier::split`].
///
/// Over a byte stream of the kernel it is a connection that never sends; the first receive
/// connects. It receives until the peer ends, also after this side's Messages have ended. Over
/// `udp://` it receives from the one peer of its address, or what anybody sends to the group that
/// its address names ([`Address`](crate::Address)). Dropping it closes the connection, unless a
/// Source shares it.
///
/// ```compile_fail
/// # fn example(sink: postring::Sink) {
/// sink.send("Hello!"); // a Sink has no send
/// # }
/// ```
#[doc(alias = "NewSink")]
pub struct Sink<F: Framer = Unframed> {
    whole: Arc<Carrier<F>>,
    /// It was told to connect: nothing will be sent that could begin it.
    told: AtomicBool,
    #[cfg(feature = "futures")]
    pub(super) intake: super::under_way::Intake<F>,
}

impl<F: Framer> Carrier<F> {
    /// The Carrier in two halves, each of which can live in a task or thread of its own.
    pub fn split(self) -> (Source<F>, Sink<F>) {
        let whole = Arc::new(self);
        (Source::of(Arc::clone(&whole)), Sink::of(whole))
    }

    /// The Carrier as a Source: what the peer sends stays unread.
    pub fn into_source(self) -> Source<F> {
        Source::of(Arc::new(self))
    }

    /// The Carrier as a Sink: nothing is sent any more.
    pub fn into_sink(self) -> Sink<F> {
        Sink::of(Arc::new(self))
    }
}

/// The verbs that every kind of Carrier has.
macro_rules! common_verbs {
    ($Half:ident) => {
        impl<F: Framer> $Half<F> {
            pub(super) fn carrier(&self) -> CarrierRef<F> {
                **self.whole
            }

            /// See [`CarrierRef::activate`].
            pub fn activate(&self) -> Asked<()> {
                self.carrier().activate()
            }

            /// See [`CarrierRef::close`]. It ends the whole Carrier's sending side, on a Sink as
            /// on a Source.
            pub fn close(&self) -> Asked<()> {
                self.carrier().close()
            }

            /// See [`CarrierRef::abort`].
            pub fn abort(&self) {
                self.carrier().abort();
            }

            /// See [`CarrierRef::on_closed`].
            ///
            /// # Errors
            /// As there.
            pub fn on_closed<H>(&self, handler: H) -> Result<()>
            where
                H: FnOnce(CloseReason) + Send + 'static,
            {
                self.carrier().on_closed(handler)
            }

            /// See [`CarrierRef::state`].
            pub fn state(&self) -> Asked<CarrierState> {
                self.carrier().state()
            }

            /// See [`CarrierRef::supports`].
            pub fn supports(&self) -> Asked<Supports> {
                self.carrier().supports()
            }

            /// See [`CarrierRef::peer_address`].
            pub fn peer_address(&self) -> Asked<Option<SocketAddr>> {
                self.carrier().peer_address()
            }

            /// See [`CarrierRef::association`].
            pub fn association(&self) -> Asked<Association<F>> {
                self.carrier().association()
            }

            /// See [`CarrierRef::transients`].
            pub fn transients(&self) -> Asked<Vec<Transient>> {
                self.carrier().transients()
            }
        }

        impl<F: Framer> std::fmt::Debug for $Half<F> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($Half)).field(&self.whole).finish()
            }
        }
    };
}

common_verbs!(Source);
common_verbs!(Sink);

impl<F: Framer> Source<F> {
    fn of(whole: Arc<Carrier<F>>) -> Self {
        whole.insist(|core, id| {
            // Gone: then nothing is sent either.
            let _ = core.change(id, |connection| connection.rare().only_sends = true);
        });
        Self {
            whole,
            #[cfg(feature = "futures")]
            outlet: super::under_way::Outlet::default(),
        }
    }

    /// See [`CarrierRef::try_send`].
    ///
    /// # Errors
    /// As there.
    pub fn try_send<'m>(
        &self,
        message: impl Into<F::Out<'m>>,
    ) -> Result<(), TrySendError<F::Out<'static>>> {
        self.carrier().try_send(message)
    }

    /// See [`CarrierRef::send`].
    pub fn send<'m>(&self, message: impl Into<F::Out<'m>>) -> Sending<'m, F> {
        self.carrier().send(message)
    }

    /// See [`CarrierRef::send_with`].
    pub fn send_with<'m>(
        &self,
        properties: Properties,
        message: impl Into<F::Out<'m>>,
    ) -> Sending<'m, F> {
        self.carrier().send_with(properties, message)
    }

    /// See [`CarrierRef::send_msg`].
    ///
    /// # Errors
    /// As there.
    pub fn send_msg<'m>(
        &self,
        message: impl Into<F::Out<'m>>,
        on_sent: Option<Callback>,
        on_acked: Option<Callback>,
        on_expired: Option<Callback>,
    ) -> Result<(), TrySendError<F::Out<'static>>> {
        self.carrier().send_msg(message, on_sent, on_acked, on_expired)
    }

    /// See [`CarrierRef::on_sent`].
    ///
    /// # Errors
    /// As there.
    pub fn on_sent<H: FnMut(MessageId) + Send + 'static>(&self, handler: H) -> Result<()> {
        self.carrier().on_sent(handler)
    }

    /// See [`CarrierRef::on_acked`].
    ///
    /// # Errors
    /// As there.
    pub fn on_acked<H: FnMut(MessageId) + Send + 'static>(&self, handler: H) -> Result<()> {
        self.carrier().on_acked(handler)
    }

    /// See [`CarrierRef::on_expired`].
    ///
    /// # Errors
    /// As there.
    pub fn on_expired<H: FnMut(MessageId) + Send + 'static>(&self, handler: H) -> Result<()> {
        self.carrier().on_expired(handler)
    }

    /// See [`CarrierRef::events`].
    ///
    /// # Errors
    /// As there.
    pub fn events(&self) -> Result<Events> {
        self.carrier().events()
    }

    /// See [`CarrierRef::queued`].
    pub fn queued(&self) -> Asked<usize> {
        self.carrier().queued()
    }
}

impl<F: Framer> Drop for Source<F> {
    fn drop(&mut self) {
        // Where nobody shares it, its Carrier closes itself.
        if Arc::strong_count(&self.whole) > 1 {
            let carrier = self.carrier();
            carrier.insist(|core, id| close_here::<F>(core, id, None));
        }
    }
}

impl<F: Framer> Sink<F> {
    fn of(whole: Arc<Carrier<F>>) -> Self {
        whole.insist(|core, id| hold(core, id, true));
        Self {
            whole,
            told: AtomicBool::new(false),
            #[cfg(feature = "futures")]
            intake: super::under_way::Intake::default(),
        }
    }

    fn connect(&self) {
        if !self.told.swap(true, Ordering::Relaxed) {
            self.carrier().insist(|core, id| activate_here::<F>(core, id, None));
        }
    }

    /// See [`CarrierRef::receive`]. On an inactive Carrier it also begins to connect: nothing
    /// will be sent that could.
    pub fn receive(&self) -> Receiving<F> {
        self.connect();
        self.carrier().receive()
    }

    /// See [`CarrierRef::ready`]; connects as [`Sink::receive`] does.
    ///
    /// # Errors
    /// As there.
    pub fn ready<H, R>(&self, handler: H) -> Result<()>
    where
        R: HandlerAnswer,
        H: FnMut(F::In<'_>) -> R + Send + 'static,
    {
        self.connect();
        self.carrier().ready(handler)
    }
}

impl<F: Framer> Drop for Sink<F> {
    fn drop(&mut self) {
        // Where nobody shares it, its Carrier closes right behind this.
        self.whole.insist(|core, id| hold(core, id, false));
    }
}

/// While a Sink holds a connection, what comes is not thrown away after this side has ended.
fn hold(core: &Rc<Core>, id: Id, holds: bool) {
    // Gone: then nothing comes any more.
    let _ = core.change(id, |connection| connection.flags.sink = holds);
    if !holds {
        core.check_soon(id);
    }
}
