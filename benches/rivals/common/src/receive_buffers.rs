//! Receive buffers: one ring of provided buffers, shared by all connections of a thread.
//!
//! Above: raw_uring and the client's io_uring engine. Below: io_uring's buffer-ring ABI.
//! Absent: no policy: who takes a buffer gives it back.
//! Bound: `count` buffers of `size` bytes, allocated once and kept until the process ends.

use anyhow::{Context as _, Result, ensure};
use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use std::ptr;
use std::sync::atomic::{AtomicU16, Ordering};

/// The number under which the ring is registered; receives name it.
pub const GROUP: u16 = 0;

/// Provided buffers and the ring through which the kernel takes them.
#[derive(Debug)]
pub struct ReceiveBuffers {
    entries: *mut BufRingEntry,
    bytes: *mut u8,
    count: u16,
    size: u32,
    tail: u16,
}

impl ReceiveBuffers {
    /// Maps and registers `count` (a power of two) buffers of `size` bytes, all of them free.
    ///
    /// # Errors
    /// No memory, or a kernel before 5.19.
    pub fn register(submitter: &Submitter<'_>, count: u16, size: u32) -> Result<Self> {
        ensure!(count.is_power_of_two(), "{count} buffers: must be a power of two");
        let entries = map(usize::from(count) * size_of::<BufRingEntry>())?.cast();
        let bytes = map(usize::from(count) * size as usize)?;
        let mut buffers = Self { entries, bytes, count, size, tail: 0 };
        // SAFETY: the mapping holds `count` entries, is page-aligned and is never unmapped.
        unsafe { submitter.register_buf_ring_with_flags(entries as u64, count, GROUP, 0) }
            .context("cannot register provided buffers")?;
        for id in 0..count {
            buffers.give_back(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Puts buffer `id` at the ring's tail; the kernel sees it after [`Self::publish`].
    #[inline]
    pub fn give_back(&mut self, id: u16) {
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: `slot` is below `count`, the number of entries in the mapping.
        let entry = unsafe { self.entries.add(slot) };
        // SAFETY: the kernel does not read behind the published tail, so this entry is ours;
        // zeroed memory is a valid entry. The shared tail lies in a field that is not written.
        let entry = unsafe { &mut *entry };
        entry.set_addr(self.pointer(id) as u64);
        entry.set_len(self.size);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel what was given back.
    #[inline]
    pub fn publish(&mut self) {
        // SAFETY: `entries` is the address of the first entry, where the kernel keeps the tail.
        let tail = unsafe { BufRingEntry::tail(self.entries) };
        // SAFETY: the tail is two aligned bytes, shared with the kernel, which only reads them.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// The first `length` bytes of buffer `id`, which a completion has just named.
    #[inline]
    #[must_use]
    pub fn received(&self, id: u16, length: usize) -> &[u8] {
        debug_assert!(id < self.count && length <= self.size as usize);
        // SAFETY: the buffer is inside the mapping; between its completion and `give_back`,
        // which needs `&mut self`, the kernel does not write to it.
        unsafe { std::slice::from_raw_parts(self.pointer(id), length) }
    }

    /// The address of buffer `id`, for sends out of it.
    #[inline]
    #[must_use]
    pub fn pointer(&self, id: u16) -> *const u8 {
        debug_assert!(id < self.count);
        // SAFETY: ids are below `count`, so the offset stays inside the mapping.
        unsafe { self.bytes.add(usize::from(id) * self.size as usize) }
    }
}

fn map(length: usize) -> Result<*mut u8> {
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing else.
    let address = unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            length,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    };
    Ok(address.context("cannot map memory for the receive buffers")?.cast())
}
