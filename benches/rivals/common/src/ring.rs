//! Ring: one thread's io_uring and the way entries get into it.
//!
//! Above: raw_uring and the client's io_uring engine. Below: the io-uring crate.
//! Absent: no meaning of completions; the caller reads the completion queue.
//! Bounds: [`ENTRIES`] submissions and [`COMPLETIONS`] completions between two enters.

use anyhow::{Context as _, Result};
use io_uring::squeue::Entry;
use io_uring::{IoUring, SubmissionQueue, Submitter};
use std::io;

/// Submissions that fit before they must be handed to the kernel.
pub const ENTRIES: u32 = 4096;
/// Completions that fit before the kernel keeps them back.
pub const COMPLETIONS: u32 = 32 * 1024;

const EAGAIN: i32 = 11;
const EBUSY: i32 = 16;
const EINTR: i32 = 4;
const ENTER_GETEVENTS: u32 = 1;

/// A ring for this thread alone, whose completions are made inside the enter that waits for them.
///
/// # Errors
/// io_uring is refused, or the kernel is older than 6.1.
pub fn build() -> Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(COMPLETIONS)
        .build(ENTRIES)
        .context("cannot set up io_uring with SINGLE_ISSUER and DEFER_TASKRUN (Linux 6.1)")
}

/// The submission side of a ring.
pub struct Submissions<'ring> {
    submitter: Submitter<'ring>,
    queue: SubmissionQueue<'ring>,
}

impl<'ring> Submissions<'ring> {
    /// Takes the two halves from `IoUring::split` and registers the ring's descriptor.
    #[must_use]
    pub fn new(mut submitter: Submitter<'ring>, queue: SubmissionQueue<'ring>) -> Self {
        // The index lives in this Submitter; without it each enter looks the descriptor up.
        let _optional = submitter.register_ring_fd();
        Self { submitter, queue }
    }

    /// For registrations.
    #[must_use]
    pub fn submitter(&self) -> &Submitter<'ring> {
        &self.submitter
    }

    /// Puts an entry in the queue; a full queue is handed to the kernel first.
    ///
    /// # Safety
    /// The memory that the entry names stays valid and untouched until its last completion.
    ///
    /// # Errors
    /// The kernel takes nothing.
    #[inline]
    pub unsafe fn push(&mut self, entry: &Entry) -> Result<()> {
        if self.queue.is_full() {
            self.queue.sync();
            self.submitter.submit().context("cannot submit to io_uring")?;
            self.queue.sync();
        }
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { self.queue.push(entry) }.context("the submission queue stays full")
    }

    /// Submits what was pushed and runs what completed; `sleep` waits for one completion.
    ///
    /// # Errors
    /// Those of io_uring_enter that do not pass by themselves.
    #[inline]
    pub fn enter(&mut self, sleep: bool) -> Result<()> {
        self.queue.sync();
        let count = u32::try_from(self.queue.len()).context("submission queue longer than u32")?;
        // SAFETY: no argument is passed; the flags are those of a plain wait.
        let entered =
            unsafe { self.submitter.enter::<()>(count, u32::from(sleep), ENTER_GETEVENTS, None) };
        self.queue.sync();
        match entered {
            Ok(_) => Ok(()),
            Err(error) if passes(&error) => Ok(()),
            Err(error) => Err(error).context("io_uring_enter failed"),
        }
    }
}

fn passes(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EAGAIN | EBUSY | EINTR))
}
