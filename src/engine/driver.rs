//! Driver: one thread's door to the kernel. A closed enum over the io_uring driver (the real one),
//! the epoll driver (where io_uring is refused) and the script driver (tests).
//!
//! Above: a shard submits Operations, turns, and pulls Completions one at a time. Below: `kernel`
//! for io_uring, plain system calls for epoll. Absent: what a connection means; framers; handlers.

use std::io;
use std::time::Duration;

use super::metrics::CoreMetrics;
use super::operation::{Completion, Data, Operation};

/// How a driver's buffers are sized; `Limits` says what the defaults are.
#[derive(Debug, Clone)]
pub(crate) struct BufferPlan {
    /// Bytes of one pool buffer.
    pub(crate) buffer_len: usize,
    /// How many buffers are posted to the kernel at once (the hot set).
    pub(crate) posted: u16,
    /// Most bytes the pool may grow to.
    pub(crate) pool_bytes_max: usize,
    /// The usual credit of a receive, for the bound on posted buffers.
    pub(crate) credit: usize,
}

/// How long a turn may wait for the first completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Not at all.
    None,
    /// Until something happens, at most this long.
    Sleep(Duration),
    /// The same, but spinning instead of sleeping.
    Spin(Duration),
}

/// Which driver a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DriverChoice {
    /// io_uring, or epoll where io_uring is refused. The environment variable `POSTRING_DRIVER`
    /// (`uring` or `epoll`) takes precedence over this choice.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// epoll.
    Epoll,
}

/// One thread's door to the kernel.
pub(crate) enum Driver {
    #[cfg(kernel)]
    Uring(Box<crate::kernel::UringDriver>),
    #[cfg(kernel)]
    Epoll(Box<super::epoll::EpollDriver>),
    #[cfg(test)]
    Script(Box<crate::simulation::script::ScriptDriver>),
}
