//! Asks the kernel whether this process may create an io_uring, by creating one.
//!
//! Above: `tree` asks once for the live machine. Below: the `io-uring` crate.
//! Absent: no verdict in words (that is `inspect::uring`) and no use of the ring.
//! Bound: one ring of one entry, closed at once. A seccomp filter that kills instead of refusing
//! would end the process here.

use serde::{Deserialize, Serialize};

use crate::fact::Fact;

/// What came of creating a ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub(crate) enum Attempt {
    /// A ring was created and closed again.
    Created,
    /// The kernel refused.
    Refused {
        /// The error number, as in errno(3).
        errno: i32,
        /// The same in words.
        error: String,
    },
}

/// Creates and closes one ring.
#[cfg(target_os = "linux")]
pub(crate) fn attempt() -> Fact<Attempt> {
    match io_uring::IoUring::new(1) {
        Ok(_closed_on_drop) => Fact::Known(Attempt::Created),
        Err(error) => match error.raw_os_error() {
            Some(errno) => {
                Fact::Known(Attempt::Refused { errno, error: crate::words::error_words(&error) })
            }
            None => Fact::unknown(format!("io_uring_setup: {error}")),
        },
    }
}

/// There is no io_uring off Linux.
#[cfg(not(target_os = "linux"))]
pub(crate) fn attempt() -> Fact<Attempt> {
    Fact::unknown("io_uring_setup: this is not Linux")
}
