//! Under way: what a Source or a Sink has begun and not finished when it is used as a stream
//! (feature `futures`).
//!
//! Above: `halves` keep it, `streams` move it on. Below: the futures of the verbs. Absent: polling.

use super::{Asked, Receiving, Sending};
use crate::framer::Framer;

/// What a Source has under way.
pub(super) struct Outlet<F: Framer> {
    pub(super) sending: Option<Sending<'static, F>>,
    pub(super) closing: Option<Asked<()>>,
}

impl<F: Framer> Default for Outlet<F> {
    fn default() -> Self {
        Self { sending: None, closing: None }
    }
}

/// What a Sink has under way.
pub(super) struct Intake<F: Framer> {
    pub(super) receiving: Option<Receiving<F>>,
    pub(super) over: bool,
}

impl<F: Framer> Default for Intake<F> {
    fn default() -> Self {
        Self { receiving: None, over: false }
    }
}
