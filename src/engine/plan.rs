//! Plan: what every driver is told: how its buffers are sized, and how long a turn may wait.
//!
//! Above: drivers are made and turned by it. Absent: what they do.

use std::time::Duration;

/// How a driver's buffers are sized; `Limits` says what the defaults are.
#[derive(Debug, Clone)]
pub(crate) struct BufferPlan {
    /// Bytes of one pool buffer.
    pub(crate) buffer_len: usize,
    /// How many buffers are posted to the kernel at once (the hot set).
    pub(crate) posted: u16,
    /// Most bytes the pool may grow to.
    pub(crate) pool_bytes_max: usize,
    /// Most bytes the pool of datagrams may grow to.
    pub(crate) datagram_pool_bytes: usize,
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
