//! Streams: the traits of the `futures` crates on Sources, Sinks and fork requests (feature
//! `futures`).
//!
//! Above: combinators such as `forward` and `for_each`. Below: the futures of the same verbs; this
//! only keeps the one that is under way. Absent: buffers; a Source holds at most one Message that
//! its Carrier has not taken.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::halves::{Sink, Source};
use crate::error::{CloseReason, Error, Result};
use crate::framer::Framer;

/// Received Messages until the peer has ended in order; another end is one last error.
impl<F: Framer> futures_core::Stream for Sink<F> {
    type Item = Result<F::Got>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.intake.over {
            return Poll::Ready(None);
        }
        let mut receiving = match self.intake.receiving.take() {
            Some(receiving) => receiving,
            None => self.receive(),
        };
        let Poll::Ready(received) = Pin::new(&mut receiving).poll(context) else {
            self.intake.receiving = Some(receiving);
            return Poll::Pending;
        };
        self.intake.over = received.is_err();
        match received {
            Err(Error::Closed(CloseReason::Finished)) => Poll::Ready(None),
            received => Poll::Ready(Some(received)),
        }
    }
}

/// Sends Messages: each is flushed when it stands in the Carrier's bounded queue. `close` ends
/// this side's Messages and is over when both sides have ended.
impl<F: Framer> futures_sink::Sink<F::Out<'static>> for Source<F> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_flush(context)
    }

    fn start_send(mut self: Pin<&mut Self>, message: F::Out<'static>) -> Result<()> {
        if self.outlet.sending.is_some() {
            return Err(Error::Message("start_send before poll_ready was ready".into()));
        }
        let sending = self.send(message);
        self.outlet.sending = Some(sending);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        if let Some(sending) = &mut self.outlet.sending {
            let sent = ready!(Pin::new(sending).poll(context));
            self.outlet.sending = None;
            return Poll::Ready(sent.map(drop));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.as_mut().poll_flush(context))?;
        let mut closing = match self.outlet.closing.take() {
            Some(closing) => closing,
            None => self.close(),
        };
        let closed = Pin::new(&mut closing).poll(context);
        if closed.is_pending() {
            self.outlet.closing = Some(closing);
        }
        closed
    }
}
