//! Pool buffers: memory that the kernel receives into and that messages may lease.
//!
//! Above: `uring` posts buffers and hands them out. Below: anonymous mappings. Absent: rings and
//! system calls other than mapping. Bound: `buffers_max`, from the byte budget.

use std::cell::{Cell, RefCell};
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use crossbeam::queue::ArrayQueue;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::engine::bell::EventBell;
use crate::engine::metrics::CoreMetrics;
use crate::lending::Lender;

/// Buffers per mapped region: the pool grows by this many.
const REGION_BUFFERS: usize = 64;

/// A private anonymous mapping.
pub(super) struct Region {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: [K2] a region is plain memory; who may touch which part is decided per buffer.
unsafe impl Send for Region {}
// SAFETY: [K2] as above: shared access is to leased, read-only parts.
unsafe impl Sync for Region {}

impl Region {
    pub(super) fn map(len: usize) -> io::Result<Self> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: [K3] a fresh mapping at an address the kernel chooses overlaps nothing.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), len, protection, flags) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, len })
    }

    pub(super) fn at(&self, offset: usize) -> NonNull<u8> {
        assert!(offset < self.len, "an offset inside the region");
        // SAFETY: [K3] the offset lies inside the mapping, as just checked.
        unsafe { self.base.add(offset) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: [K3] the last owner is gone, so nothing points into the mapping.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "a mapping of ours can be unmapped");
    }
}

/// What leases send back, and how they wake a core that waits for buffers.
struct Returns {
    queue: ArrayQueue<u16>,
    starved: AtomicBool,
    bell: EventBell,
}

/// One buffer, owned by messages.
struct Lease {
    region: Arc<Region>,
    offset: usize,
    len: usize,
    index: u16,
    returns: Arc<Returns>,
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        let start = self.region.at(self.offset).as_ptr();
        // SAFETY: [K2] leased: initialised up to `len` by the kernel, nobody writes until the drop.
        unsafe { std::slice::from_raw_parts(start, self.len) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let returned = self.returns.queue.push(self.index);
        debug_assert!(returned.is_ok(), "the queue has room for every buffer of the pool");
        if self.returns.starved.load(Ordering::SeqCst) {
            self.returns.bell.ring();
        }
    }
}

/// The buffers of one driver. Spares are a stack: the last one used is the next one posted.
pub(super) struct Pool {
    buffer_len: usize,
    buffers_max: Cell<usize>,
    /// Below this many spare or growable buffers a lease becomes a copy.
    reserve: usize,
    regions: RefCell<Vec<Arc<Region>>>,
    spare: RefCell<Vec<u16>>,
    leased: RefCell<Vec<bool>>,
    leased_count: Cell<usize>,
    returns: Arc<Returns>,
    metrics: Arc<CoreMetrics>,
}

impl Pool {
    pub(super) fn new(
        buffer_len: usize,
        bytes_max: usize,
        reserve: usize,
        bell: EventBell,
        metrics: Arc<CoreMetrics>,
    ) -> Rc<Self> {
        let buffers_max = (bytes_max / buffer_len).clamp(2 * reserve, usize::from(u16::MAX));
        let returns =
            Returns { queue: ArrayQueue::new(buffers_max), starved: AtomicBool::new(false), bell };
        Rc::new(Self {
            buffer_len,
            buffers_max: Cell::new(buffers_max),
            reserve,
            regions: RefCell::default(),
            spare: RefCell::default(),
            leased: RefCell::default(),
            leased_count: Cell::new(0),
            returns: Arc::new(returns),
            metrics,
        })
    }

    pub(super) fn buffer_len(&self) -> usize {
        self.buffer_len
    }

    /// Where what happens to its buffers is counted.
    pub(super) fn metrics(&self) -> Arc<CoreMetrics> {
        Arc::clone(&self.metrics)
    }

    /// Where buffer `index` begins.
    #[inline]
    pub(super) fn address(&self, index: u16) -> NonNull<u8> {
        let index = usize::from(index);
        self.regions.borrow()[index / REGION_BUFFERS].at(index % REGION_BUFFERS * self.buffer_len)
    }

    /// The bytes of a held buffer.
    #[inline]
    pub(super) fn bytes(&self, index: u16, len: usize) -> &[u8] {
        assert!(len <= self.buffer_len, "the kernel fills at most one buffer");
        let start = self.address(index).as_ptr();
        // SAFETY: [K2] held: the kernel wrote `len` bytes and is done; posting it again needs
        // `give`, which the driver calls only with the buffer it gets back.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// A spare buffer to post: the hottest one, or a new one within the budget.
    pub(super) fn take(&self) -> Option<u16> {
        if let Some(index) = self.spare.borrow_mut().pop() {
            return Some(index);
        }
        self.collect();
        let collected = self.spare.borrow_mut().pop();
        collected.or_else(|| if self.grow() { self.spare.borrow_mut().pop() } else { None })
    }

    /// A held buffer becomes spare, unless it was leased meanwhile: then it comes back by itself.
    #[inline]
    pub(super) fn give(&self, index: u16) {
        if self.leased_count.get() == 0 || !self.leased.borrow()[usize::from(index)] {
            self.spare.borrow_mut().push(index);
        }
    }

    /// Takes back what leases have returned.
    pub(super) fn collect(&self) {
        if self.leased_count.get() == 0 {
            return;
        }
        while let Some(index) = self.returns.queue.pop() {
            self.leased.borrow_mut()[usize::from(index)] = false;
            self.leased_count.set(self.leased_count.get() - 1);
            self.spare.borrow_mut().push(index);
        }
    }

    /// Says whether a core waits for buffers, so that the next returned lease rings its bell. One
    /// that was returned just before rang none: look at `has_returns` afterwards.
    pub(super) fn set_starved(&self, starved: bool) {
        // Only this thread stores, so what it reads is what it stored; a store costs a fence.
        if self.returns.starved.load(Ordering::Relaxed) != starved {
            self.returns.starved.store(starved, Ordering::SeqCst);
        }
    }

    /// True if leases came back that were not collected yet.
    pub(super) fn has_returns(&self) -> bool {
        !self.returns.queue.is_empty()
    }

    fn buffers(&self) -> usize {
        (self.regions.borrow().len() * REGION_BUFFERS).min(self.buffers_max.get())
    }

    fn grow(&self) -> bool {
        let before = self.buffers();
        let after = (before + REGION_BUFFERS).min(self.buffers_max.get());
        if after == before {
            return false;
        }
        match Region::map(REGION_BUFFERS * self.buffer_len) {
            Ok(region) => self.regions.borrow_mut().push(Arc::new(region)),
            Err(error) => {
                tracing::warn!(%error, "no memory for more receive buffers");
                // What cannot be had must not be counted on.
                self.buffers_max.set(before);
                return false;
            }
        }
        self.leased.borrow_mut().resize(after, false);
        let added = (before..after).rev();
        self.spare.borrow_mut().extend(added.map(|index| index as u16));
        // Streams and datagrams have pools of their own, all of one core.
        let others = self.metrics.buffers_total.get();
        self.metrics.buffers_total.set(others + (after - before) as u64);
        true
    }
}

impl Lender for Pool {
    fn lease(&self, index: u32, len: usize) -> Option<Bytes> {
        let growable = self.buffers_max.get() - self.buffers();
        if self.spare.borrow().len() + growable < self.reserve {
            self.metrics.forced_copies.add(1);
            return None;
        }
        assert!(len <= self.buffer_len, "a lease is at most one buffer");
        let slot = index as usize;
        // A second lease would give the buffer back twice, and the kernel would get it while the
        // other is still read.
        if self.leased.borrow()[slot] {
            self.metrics.forced_copies.add(1);
            return None;
        }
        let region = Arc::clone(&self.regions.borrow()[slot / REGION_BUFFERS]);
        self.leased.borrow_mut()[slot] = true;
        self.leased_count.set(self.leased_count.get() + 1);
        self.metrics.leases.add(1);
        Some(Bytes::from_owner(Lease {
            region,
            offset: slot % REGION_BUFFERS * self.buffer_len,
            len,
            index: index as u16,
            returns: Arc::clone(&self.returns),
        }))
    }
}

/// The pools of one driver, for those who lease by a buffer's number: the mark of a pool in it, and
/// the pool.
#[derive(Default)]
pub(super) struct Lenders(RefCell<Vec<(u32, Rc<Pool>)>>);

impl Lenders {
    /// A pool whose numbers have `mark`; the one without a mark last.
    pub(super) fn add(&self, mark: u32, pool: Rc<Pool>) {
        self.0.borrow_mut().insert(0, (mark, pool));
    }
}

impl Lender for Lenders {
    fn lease(&self, index: u32, len: usize) -> Option<Bytes> {
        let pools = self.0.borrow();
        let (mark, pool) = pools.iter().find(|(mark, _)| index & mark == *mark)?;
        pool.lease(index & !mark, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffers_of_all_pools_of_a_core_are_counted() {
        let metrics = Arc::<CoreMetrics>::default();
        let pools = [64, 128].map(|buffers| {
            let bell = EventBell::new().unwrap();
            Pool::new(512, buffers * 512, 4, bell, Arc::clone(&metrics))
        });
        for pool in pools {
            while pool.take().is_some() {}
        }
        assert_eq!(metrics.buffers_total.get(), 64 + 128);
    }

    #[test]
    fn a_buffer_is_leased_once_and_comes_back_once() {
        let bell = EventBell::new().unwrap();
        let pool = Pool::new(512, 64 * 512, 4, bell.clone(), Arc::default());
        let index = pool.take().unwrap();
        let lease = pool.lease(index.into(), 10).expect("buffers are plenty");
        assert!(pool.lease(index.into(), 10).is_none(), "it is leased already");
        pool.give(index);
        pool.set_starved(true);
        assert!(!pool.has_returns());
        drop(lease);
        assert!(pool.has_returns());
        assert!(bell.answer(), "a starved core hears of it");
        let mut taken = Vec::new();
        while let Some(index) = pool.take() {
            taken.push(index);
        }
        taken.sort_unstable();
        assert_eq!(taken, (0..64).collect::<Vec<_>>(), "each buffer once");
    }
}
