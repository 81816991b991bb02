//! Private: the buffer pool as benchmarks reach it (feature `__bench`).
//!
//! Above: `crate::bench`. Below: `memory`. Absent: rings; nothing here is posted to a kernel.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::memory;
use crate::engine::bell::EventBell;
use crate::lending::Lender;

/// A pool of receive buffers without a ring.
pub struct Pool(Rc<memory::Pool>);

impl Pool {
    /// Buffers of this many bytes, up to 64 MiB of them.
    ///
    /// # Errors
    /// If no descriptor is free.
    pub fn new(buffer_len: usize) -> io::Result<Self> {
        let bell = EventBell::new()?;
        Ok(Self(memory::Pool::new(buffer_len, 64 << 20, 16, bell, Arc::default())))
    }

    /// A spare buffer.
    #[must_use]
    pub fn take(&self) -> Option<u16> {
        self.0.take()
    }

    /// Gives a held buffer back.
    pub fn give(&self, index: u16) {
        self.0.give(index);
    }

    /// Owned bytes in a held buffer, which is given back by its owner.
    #[must_use]
    pub fn lease(&self, index: u16, len: usize) -> Option<Bytes> {
        self.0.lease(u32::from(index), len)
    }

    /// Takes back what was leased.
    pub fn collect(&self) {
        self.0.collect();
    }
}
