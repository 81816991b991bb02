//! Which receive buffer user code is looking at right now, so that a borrowed payload can become
//! an owned one without a copy.
//!
//! Above: `message` and `framer::output` ask `own` for an owned payload. Below: the shard says
//! `lend_*` before it calls a framer or a handler and `take_back` after it. The buffer is found
//! by address, so framers and handlers need no handle: they pass plain slices on.
//! Absent: no I/O, no pool of its own; who leases a pool buffer is behind the trait `Lender`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;

/// Payloads below this many bytes are copied, larger ones leased (`manual::decisions`, D3).
pub(crate) const LEASE_BYTES_MIN: usize = 2048;

/// A pool that can lend one of its buffers to owned messages.
pub(crate) trait Lender {
    /// An owned view of the first `len` bytes of buffer `index`, or `None` when buffers are so
    /// scarce that a copy is the better answer. The buffer comes back when the view is dropped,
    /// on whatever thread that happens.
    fn lease(&self, index: u32, len: usize) -> Option<Bytes>;
}

#[derive(Clone, Copy)]
struct Lent {
    address: usize,
    len: usize,
    /// Index in the lender's pool; `None` when `SHARED` holds the owner from the start.
    index: Option<u32>,
    /// Whether `SHARED` holds the owner.
    shared: bool,
}

const NOTHING: Lent = Lent { address: 0, len: 0, index: None, shared: false };

thread_local! {
    static LENDER: RefCell<Option<Rc<dyn Lender>>> = const { RefCell::new(None) };
    static LENT: Cell<Lent> = const { Cell::new(NOTHING) };
    static SHARED: RefCell<Option<Bytes>> = const { RefCell::new(None) };
}

/// Names the pool of this thread; `None` when the core ends.
pub(crate) fn use_lender(lender: Option<Rc<dyn Lender>>) {
    LENDER.set(lender);
}

/// From now on `bytes` is pool buffer `index` (or not leasable at all: `None`).
#[inline]
pub(crate) fn lend_buffer(bytes: &[u8], index: Option<u32>) {
    let len = if index.is_some() { bytes.len() } else { 0 };
    LENT.set(Lent { address: bytes.as_ptr().addr(), len, index, shared: false });
}

/// From now on `bytes` is an owned block: payloads inside it are shared by reference count.
pub(crate) fn lend_shared(bytes: &Bytes) {
    if bytes.is_empty() {
        // `take_back` would not see it, and the next buffer lent would be taken for it.
        return;
    }
    let (address, len) = (bytes.as_ptr().addr(), bytes.len());
    LENT.set(Lent { address, len, index: None, shared: true });
    SHARED.set(Some(bytes.clone()));
}

/// The call is over: nothing is lent any more. True if the pool buffer was leased and therefore
/// comes back by itself.
#[inline]
pub(crate) fn take_back() -> bool {
    let lent = LENT.replace(NOTHING);
    if lent.shared {
        // The view is dropped outside the borrow: its owner's Drop may be anything.
        drop(SHARED.take());
    }
    lent.shared && lent.index.is_some()
}

/// An owned payload equal to `bytes`: shared if it is large and lies in the lent buffer, copied
/// otherwise.
pub(crate) fn own(bytes: &[u8]) -> Bytes {
    share(bytes, LEASE_BYTES_MIN).unwrap_or_else(|| Bytes::copy_from_slice(bytes))
}

/// `bytes` by reference count, if it has at least `len_min` bytes and lies in the lent buffer.
pub(crate) fn share(bytes: &[u8], len_min: usize) -> Option<Bytes> {
    if bytes.len() < len_min.max(1) {
        return None;
    }
    let lent = LENT.get();
    let start = bytes.as_ptr().addr();
    let inside = start >= lent.address && start + bytes.len() <= lent.address + lent.len;
    if !inside {
        return None;
    }
    SHARED.with_borrow_mut(|shared| {
        if shared.is_none() {
            let lender = LENDER.with_borrow(Option::clone)?;
            *shared = Some(lender.lease(lent.index?, lent.len)?);
            LENT.set(Lent { shared: true, ..lent });
        }
        let offset = start - lent.address;
        shared.as_ref().map(|whole| whole.slice(offset..offset + bytes.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Bytes, Cell<u32>);
    impl Lender for Fixed {
        fn lease(&self, index: u32, len: usize) -> Option<Bytes> {
            self.1.set(self.1.get() + 1);
            (index == 7).then(|| self.0.slice(..len))
        }
    }

    #[test]
    fn a_large_payload_in_the_lent_buffer_is_leased_once_and_shared() {
        let block = Bytes::from(vec![5; 10_000]);
        let pool = Rc::new(Fixed(block.clone(), Cell::new(0)));
        use_lender(Some(pool.clone()));
        lend_buffer(&block, Some(7));
        let first = own(&block[10..5000]);
        let second = own(&block[5000..9000]);
        assert_eq!(first.as_ptr(), block[10..].as_ptr());
        assert_eq!(second.as_ptr(), block[5000..].as_ptr());
        assert_eq!(pool.1.get(), 1);
        assert!(take_back());
        use_lender(None);
    }

    #[test]
    fn small_foreign_and_unleasable_payloads_are_copied() {
        let block = Bytes::from(vec![5; 10_000]);
        use_lender(Some(Rc::new(Fixed(block.clone(), Cell::new(0)))));
        lend_buffer(&block, Some(3));
        assert_ne!(own(&block[..8000]).as_ptr(), block.as_ptr(), "the pool refused");
        lend_buffer(&block, Some(7));
        assert_ne!(own(&block[..100]).as_ptr(), block.as_ptr(), "small");
        let foreign = vec![1u8; 8000];
        assert_ne!(own(&foreign).as_ptr(), foreign.as_ptr(), "another allocation");
        assert!(!take_back());
        use_lender(None);
    }

    #[test]
    fn an_empty_block_leaves_nothing_behind() {
        let block = Bytes::from(vec![5; 10_000]);
        use_lender(Some(Rc::new(Fixed(block.clone(), Cell::new(0)))));
        lend_shared(&Bytes::new());
        assert!(!take_back());
        lend_buffer(&block, Some(7));
        assert_eq!(own(&block[..8000]).as_ptr(), block.as_ptr());
        assert!(take_back());
        use_lender(None);
    }

    #[test]
    fn nothing_is_shared_after_take_back() {
        let block = Bytes::from(vec![5; 10_000]);
        lend_shared(&block);
        assert_eq!(own(&block[..]).as_ptr(), block.as_ptr());
        assert!(!take_back(), "an owned block never goes back to a pool");
        assert_ne!(own(&block[..]).as_ptr(), block.as_ptr());
    }
}
