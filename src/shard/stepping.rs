//! Stepping: a shard that a simulated world takes by the hand, turn by turn.
//!
//! Above: `testing`, which owns the time. Below: the script driver. Absent: in a real engine all
//! of this; there the loop is `Shard::run`.

use super::core::{Core, Id};
use super::{DRAIN_STEP, Shard};
use crate::engine::driver::Driver;
use crate::simulation::script::ScriptDriver;

impl Shard {
    fn script(&self) -> Option<&ScriptDriver> {
        match &self.driver {
            Driver::Script(driver) => Some(driver),
            #[allow(unreachable_patterns, reason = "the only one on some systems")]
            _ => None,
        }
    }

    /// True if the last turn was in vain and nothing is to be done before a byte, a letter or the
    /// time comes.
    pub(crate) fn rests(&self) -> bool {
        let core = &self.core;
        self.script().is_none_or(ScriptDriver::waited_in_vain)
            && self.mailbox.is_empty()
            && !core.executor.has_runnable()
            && core.state.borrow().attention.is_empty()
            && core.deferred.borrow().is_empty()
    }

    /// The tick at which the time alone brings something to do.
    pub(crate) fn next_tick(&self) -> Option<u64> {
        let core: &Core = &self.core;
        let timer = core.state.borrow().wheel.next_tick();
        let in_steps = self.drain_until.is_some() || core.has_letters();
        let step = in_steps.then(|| core.now_tick() + DRAIN_STEP.as_millis() as u64);
        timer.into_iter().chain(step).min()
    }

    /// The simulated end of a connection, if it has one.
    pub(crate) fn endpoint(&self, id: Id) -> Option<usize> {
        let id = self.core.resolve(id);
        self.script()?.stream(self.token(id))
    }
}
