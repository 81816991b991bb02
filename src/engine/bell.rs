//! EventBell: wakes a driver that sleeps, from any thread.
//!
//! Above: mailboxes ring it after they have put something in. Below: an eventfd, which the driver
//! that sleeps has among what it waits for. Absent: what was put in; who sleeps (whoever rings
//! asks first, because a ring is a system call).
//! Bounds: any number of rings before an answer are one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use super::mailbox::Bell;

/// A handle of the bell; clones ring the same one.
#[derive(Debug, Clone)]
pub(crate) struct EventBell(Arc<OwnedFd>);

impl EventBell {
    /// A bell that has not been rung.
    ///
    /// # Errors
    /// What the system says: above all that no descriptor is free.
    pub(crate) fn new() -> io::Result<Self> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(descriptor)))
    }

    /// Wakes the driver, or keeps it from its next sleep.
    pub(crate) fn ring(&self) {
        // Fails only when 2^64 - 2 rings are unanswered: then it is ringing.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }

    /// Ends the ringing; true if it rang.
    pub(crate) fn answer(&self) -> bool {
        rustix::io::read(&*self.0, &mut [0; 8]).is_ok()
    }
}

impl Bell for EventBell {
    fn ring(&self) {
        Self::ring(self);
    }
}

impl AsFd for EventBell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rings_are_one_and_an_answer_ends_them() {
        let bell = EventBell::new().unwrap();
        assert!(!bell.answer());
        let other = bell.clone();
        std::thread::spawn(move || (0..3).for_each(|_| other.ring())).join().unwrap();
        assert!(bell.answer());
        assert!(!bell.answer());
    }
}
