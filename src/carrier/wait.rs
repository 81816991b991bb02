//! Wait: synchronous callers of futures.
//!
//! Above: the `wait` methods of every future. Below: thread parking. Absent: any runtime.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use crate::error::{Error, Result};
use crate::shard::core::Core;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks this thread until `future` is ready; an error on a core thread, which would wait for
/// itself.
pub(crate) fn wait<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    if Core::current().is_some() {
        return Err(Error::WaitOnCore);
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(result) => return result,
            Poll::Pending => std::thread::park(),
        }
    }
}

impl<T> crate::engine::offload::Offload<T> {
    /// Waits on this thread.
    ///
    /// # Errors
    /// Those of the future; [`Error::WaitOnCore`] on a core thread.
    pub fn wait(self) -> Result<T> {
        wait(self)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn offloaded_work_can_be_waited_for() {
        assert_eq!(crate::offload(|| 6 * 7).wait().unwrap(), 42);
    }
}
