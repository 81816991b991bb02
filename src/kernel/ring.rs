//! One io_uring: set-up with flags that degrade one by one, the enter call, entries, and the
//! provided-buffer ring.
//!
//! Above: `uring`. Below: the `io-uring` crate for set-up and queues, our own enter call where the
//! crate falls short (its `submit` never runs deferred completions, its registered descriptor does
//! not outlive one `Submitter`). Absent: what an entry is for.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::{IoUring, cqueue, squeue, types};

use super::memory::{Pool, Region};

/// How a ring is set up.
#[derive(Debug, Clone)]
pub(crate) struct RingOptions {
    /// Entries of the submission queue.
    pub(crate) submissions: u32,
    /// Entries of the completion queue.
    pub(crate) completions: u32,
    /// Whether the core spins, and needs the flag that says "completions wait for an enter".
    pub(crate) spins: bool,
}

const REGISTER_RING_FDS: libc::c_uint = 20;
const UNREGISTER_RING_FDS: libc::c_uint = 21;
const ENTER_GETEVENTS: u32 = 1;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;

pub(super) struct Ring {
    ring: IoUring,
    /// Index of the registered descriptor, or the descriptor itself.
    enter_fd: i32,
    enter_flags: u32,
    queued: u32,
    taskrun_flag: bool,
}

impl Ring {
    pub(super) fn new(options: &RingOptions) -> io::Result<Self> {
        let (ring, without) = build(options)?;
        if !without.is_empty() {
            tracing::info!(without = ?without, "io_uring set up without some flags");
        }
        let mut new = Self {
            enter_fd: ring.as_raw_fd(),
            enter_flags: 0,
            queued: 0,
            taskrun_flag: options.spins && !without.contains(&"TASKRUN_FLAG"),
            ring,
        };
        if let Some(index) = new.register_own_descriptor() {
            new.enter_fd = index;
            new.enter_flags = ENTER_REGISTERED_RING;
        }
        Ok(new)
    }

    /// Registers the ring's descriptor with this thread, which saves a look-up per enter.
    fn register_own_descriptor(&self) -> Option<i32> {
        let fd = self.ring.as_raw_fd();
        let mut update = Update { offset: u32::MAX, resv: 0, data: fd as u64 };
        let registered = self.change_descriptors(REGISTER_RING_FDS, &mut update);
        registered.then_some(update.offset as i32)
    }

    fn change_descriptors(&self, what: libc::c_uint, update: &mut Update) -> bool {
        let fd = self.ring.as_raw_fd();
        let update = std::ptr::from_mut(update);
        // SAFETY: [K5] the argument is one valid update structure, read and written by the call.
        unsafe { libc::syscall(libc::SYS_io_uring_register, fd, what, update, 1) == 1 }
    }

    /// A second descriptor of the same ring, for siblings that ring its bell.
    pub(super) fn duplicate(&self) -> io::Result<OwnedFd> {
        // SAFETY: [K4] the ring is open for as long as `self` lives.
        let fd = unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) };
        fd.try_clone_to_owned()
    }

    /// Queues one entry; submits first when the queue is full.
    ///
    /// The memory that the entry points at is the caller's to keep (K1); `uring` is the only one.
    pub(super) fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: [K1] the caller keeps what the entry points at until it is reaped.
            let pushed = unsafe { self.ring.submission().push(entry) };
            if pushed.is_ok() {
                self.queued += 1;
                return Ok(());
            }
            self.enter(0, None)?;
        }
    }

    /// Submits what is queued, runs completions, and waits for `want` of them, at most `timeout`.
    pub(super) fn enter(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        let timespec = timeout
            .map(|d| types::Timespec::new().sec(d.as_secs()).nsec(d.subsec_nanos()))
            .unwrap_or_default();
        let arguments = types::SubmitArgs::new().timespec(&timespec);
        let (argument, len, extended) = match timeout {
            Some(_) => {
                let len = size_of::<types::SubmitArgs<'_, '_>>();
                ((&raw const arguments).cast::<libc::c_void>(), len, ENTER_EXT_ARG)
            }
            None => (std::ptr::null(), 0, 0),
        };
        let flags = ENTER_GETEVENTS | extended | self.enter_flags;
        // SAFETY: [K5] the descriptor is this thread's ring; the argument, if any, lives here.
        let entered = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.enter_fd,
                self.queued,
                want,
                flags,
                argument,
                len,
            )
        };
        if entered >= 0 {
            self.queued -= (entered as u32).min(self.queued);
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // A full completion queue (EBUSY), a signal, a passed deadline: reap and come again.
            Some(libc::EBUSY | libc::EINTR | libc::ETIME | libc::EAGAIN) => {
                let left = self.ring.submission().len();
                self.queued = left as u32;
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// How many entries wait for the next enter.
    pub(super) fn queued(&self) -> u32 {
        self.queued
    }

    /// True if the kernel has completions that need an enter to be seen, or cannot say.
    pub(super) fn has_work(&mut self) -> bool {
        !self.taskrun_flag || self.ring.submission().taskrun()
    }

    /// True if completions overflowed the queue and wait in the kernel.
    pub(super) fn overflown(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }

    /// Moves up to `max` completions into `into`; true if more are waiting.
    pub(super) fn reap(&mut self, into: &mut Vec<(u64, i32, u32)>, max: usize) -> bool {
        let mut completions = self.ring.completion();
        let taken = completions.by_ref().take(max);
        into.extend(taken.map(|entry| (entry.user_data(), entry.result(), entry.flags())));
        !completions.is_empty()
    }

    /// Cancels everything and waits for it in the kernel.
    pub(super) fn cancel_all(&mut self) {
        let patience = types::Timespec::new().sec(1);
        let all = types::CancelBuilder::any();
        let cancelled = self.ring.submitter().register_sync_cancel(Some(patience), all);
        if let Err(error) = cancelled {
            tracing::debug!(%error, "cancelling everything");
        }
    }

    pub(super) fn register_buffers(&mut self, buffers: &BufferRing) -> io::Result<()> {
        self.register_group(buffers, GROUP)
    }

    /// The same for the buffers of datagrams.
    pub(super) fn register_datagram_buffers(&mut self, buffers: &BufferRing) -> io::Result<()> {
        self.register_group(buffers, DATAGRAM_GROUP)
    }

    fn register_group(&mut self, buffers: &BufferRing, group: u16) -> io::Result<()> {
        let base = buffers.region.at(0).as_ptr().addr() as u64;
        let submitter = self.ring.submitter();
        // SAFETY: [K7] the entries are mapped, page-aligned, and live until after the ring (K4).
        unsafe { submitter.register_buf_ring_with_flags(base, buffers.entries, group, 0) }
    }
}

impl Drop for Ring {
    /// A registered descriptor would keep the ring alive, and one of the thread's sixteen places
    /// taken, until the thread ends.
    fn drop(&mut self) {
        if self.enter_flags & ENTER_REGISTERED_RING != 0 {
            let mut update = Update { offset: self.enter_fd as u32, resv: 0, data: 0 };
            let forgotten = self.change_descriptors(UNREGISTER_RING_FDS, &mut update);
            debug_assert!(forgotten, "a registered descriptor can be unregistered");
        }
    }
}

/// What the kernel reads to register a ring's descriptor.
#[repr(C)]
struct Update {
    offset: u32,
    resv: u32,
    data: u64,
}

/// The group of buffers for streams.
pub(super) const GROUP: u16 = 0;
/// The group of buffers for datagrams.
pub(super) const DATAGRAM_GROUP: u16 = 1;

/// Sets a ring up, giving up optional flags one by one; says which were given up.
fn build(options: &RingOptions) -> io::Result<(IoUring, Vec<&'static str>)> {
    let mut optional = vec!["NO_SQARRAY", "TASKRUN_FLAG", "DEFER_TASKRUN", "SINGLE_ISSUER"];
    if !options.spins {
        optional.retain(|flag| *flag != "TASKRUN_FLAG");
    }
    let mut without = Vec::new();
    let mut completions = options.completions;
    loop {
        let mut builder = IoUring::builder();
        builder.setup_clamp().setup_submit_all().setup_cqsize(completions).dontfork();
        for flag in &optional {
            match *flag {
                "NO_SQARRAY" => builder.setup_no_sqarray(),
                "TASKRUN_FLAG" => builder.setup_taskrun_flag(),
                "DEFER_TASKRUN" => builder.setup_defer_taskrun(),
                _ => builder.setup_single_issuer(),
            };
        }
        if !optional.contains(&"DEFER_TASKRUN") {
            builder.setup_coop_taskrun();
        }
        match builder.build(options.submissions) {
            Ok(ring) => return Ok((ring, without)),
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && completions > 2048 => {
                completions /= 2;
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && !optional.is_empty() => {
                without.push(optional.remove(0));
            }
            Err(error) => return Err(error),
        }
    }
}

/// A multishot receive into the buffer group that ends after about `total` bytes, where the
/// kernel can do that (`optlen`, since 6.17).
pub(super) fn receive_entry(fd: types::Fd, total: Option<u32>) -> squeue::Entry {
    let entry = io_uring::opcode::RecvMulti::new(fd, GROUP).build();
    let Some(total) = total else { return entry };
    // SAFETY: [K6] both are 64 plain bytes.
    let mut bytes: [u32; 16] = unsafe { std::mem::transmute(entry) };
    bytes[OPTLEN_WORD] = total;
    // SAFETY: [K6] both are 64 plain bytes.
    unsafe { std::mem::transmute(bytes) }
}

/// A send that waits until its socket is writable, instead of trying first.
pub(super) fn poll_first(entry: squeue::Entry) -> squeue::Entry {
    // SAFETY: [K6] both are 64 plain bytes.
    let mut bytes: [u16; 32] = unsafe { std::mem::transmute(entry) };
    bytes[IOPRIO_HALF_WORD] |= RECVSEND_POLL_FIRST;
    // SAFETY: [K6] both are 64 plain bytes.
    unsafe { std::mem::transmute(bytes) }
}

/// `ioprio` is bytes 2 and 3 of the entry; sends read flags of their own there.
const IOPRIO_HALF_WORD: usize = 1;
const RECVSEND_POLL_FIRST: u16 = 1;

/// `optlen` shares the place of `file_index`: byte 44 of the entry.
const OPTLEN_WORD: usize = 11;
const _: () = assert!(size_of::<squeue::Entry>() == 64);
/// What `enter` hands over as the kernel's extended argument.
const _: () = assert!(size_of::<types::SubmitArgs<'_, '_>>() == 24);

/// The ring of posted buffers. Short on purpose: it is visited in order, so its size is the hot
/// set (`manual::decisions`, D2).
pub(super) struct BufferRing {
    region: Region,
    entries: u16,
    tail: u16,
    posted: u16,
}

impl BufferRing {
    pub(super) fn new(entries: u16) -> io::Result<Self> {
        assert!(entries.is_power_of_two(), "the kernel wants a power of two");
        let region = Region::map(usize::from(entries) * ENTRY_LEN)?;
        Ok(Self { region, entries, tail: 0, posted: 0 })
    }

    /// How many buffers are with the kernel.
    pub(super) fn posted(&self) -> u16 {
        self.posted
    }

    /// The kernel has used one.
    pub(super) fn used_one(&mut self) {
        self.posted = self.posted.saturating_sub(1);
    }

    /// Posts spares until `target` are posted; true if that many are.
    pub(super) fn fill(&mut self, pool: &Pool, target: u16) -> bool {
        let target = target.min(self.entries);
        let before = self.tail;
        while self.posted < target {
            let Some(index) = pool.take() else { break };
            self.put(pool, index);
        }
        if self.tail != before {
            let tail = self.region.at(TAIL_OFFSET).as_ptr().cast::<u16>();
            // SAFETY: [K7] the tail lies in the first entry's unused bytes, aligned, mapped.
            let tail = unsafe { AtomicU16::from_ptr(tail) };
            tail.store(self.tail, Ordering::Release);
        }
        self.posted >= target
    }

    fn put(&mut self, pool: &Pool, index: u16) {
        let at = usize::from(self.tail & (self.entries - 1)) * ENTRY_LEN;
        let entry = self.region.at(at).as_ptr();
        let address = pool.address(index).as_ptr().addr() as u64;
        // SAFETY: [K7] the entry is ours to write until the tail passes it; 16 bytes, aligned.
        unsafe { entry.cast::<u64>().write(address) };
        let len_and_index = self.region.at(at + 8).as_ptr();
        // SAFETY: [K7] as above: bytes 8 to 12 of the entry are the length.
        unsafe { len_and_index.cast::<u32>().write(pool.buffer_len() as u32) };
        let index_place = self.region.at(at + 12).as_ptr();
        // SAFETY: [K7] as above: bytes 12 to 14 of the entry are the buffer's index.
        unsafe { index_place.cast::<u16>().write(index) };
        self.tail = self.tail.wrapping_add(1);
        self.posted += 1;
    }
}

const ENTRY_LEN: usize = 16;
const TAIL_OFFSET: usize = 14;

/// The buffer that a completion names, if it used one.
pub(super) fn buffer_of(flags: u32) -> Option<u16> {
    cqueue::buffer_select(flags)
}

/// True if more completions of the same entry follow.
pub(super) fn more(flags: u32) -> bool {
    cqueue::more(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_gives_its_registered_descriptor_back() {
        let options = RingOptions { submissions: 2, completions: 4, spins: false };
        let begun: io::Result<Vec<bool>> = (0..40)
            .map(|_| Ring::new(&options).map(|ring| ring.enter_flags == ENTER_REGISTERED_RING))
            .collect();
        match begun {
            Ok(registered) => assert!(registered.windows(2).all(|two| two[0] == two[1])),
            Err(reason) => println!("SKIP: {reason}"),
        }
    }
}
