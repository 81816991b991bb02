//! Task: time for async code on a core.
//!
//! Above: async handlers and spawned tasks. Below: the shard's wheel and turn. Absent: I/O.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::shard::core::Core;

/// Lets the core take one turn: what was queued is sent, completions are taken. On any other
/// thread it only yields to that thread's executor.
///
/// Cancel safety: nothing is lost.
pub fn yield_now() -> Yielding {
    Yielding { yielded: false }
}

/// The future of [`yield_now`].
#[must_use = "it yields when it is awaited"]
#[derive(Debug)]
pub struct Yielding {
    yielded: bool,
}

impl Future for Yielding {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Waits at least `duration`, in steps of 1 ms. Only on a core; a runtime has its own.
///
/// # Panics
/// When it is first polled on a thread that is no core.
///
/// Cancel safety: nothing is lost.
pub fn sleep(duration: Duration) -> Sleeping {
    Sleeping { duration, begun: None }
}

/// The future of [`sleep`].
#[must_use = "it sleeps when it is awaited"]
pub struct Sleeping {
    duration: Duration,
    begun: Option<(Rc<Core>, u64)>,
}

impl std::fmt::Debug for Sleeping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sleeping").field("duration", &self.duration).finish_non_exhaustive()
    }
}

impl Future for Sleeping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some((core, key)) = &self.begun {
            if core.resleep(*key, context.waker()) {
                return Poll::Pending;
            }
            self.begun = None;
            return Poll::Ready(());
        }
        if self.duration.is_zero() {
            return Poll::Ready(());
        }
        let core = Core::current().expect("sleep() is polled on a core thread");
        let key = core.sleep(self.duration, context.waker().clone());
        self.begun = Some((core, key));
        Poll::Pending
    }
}

impl Drop for Sleeping {
    fn drop(&mut self) {
        if let Some((core, key)) = &self.begun {
            core.forget_sleep(*key);
        }
    }
}
