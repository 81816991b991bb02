//! THE FENCE: the only place of this crate where `unsafe` is allowed.
//!
//! Above: `engine::driver` uses the safe types of this module; no `unsafe fn` leaves it. Below:
//! the `io-uring` crate, `libc` and `rustix`. Absent: what a connection, a framer or a message is.
//!
//! Every `unsafe` block cites the numbered invariant that makes it sound:
//!
//! - **K1, in flight means owned here.** Memory whose address stands in a queued or submitted
//!   entry is owned by the driver's table (`uring::InFlight`) until the entry's last completion
//!   was reaped. Owners may move, their heap blocks do not; nobody touches them meanwhile.
//! - **K2, one state per pool buffer.** A pool buffer is spare, posted, held or leased. Posted:
//!   only the kernel writes, no reference exists. Held: only the driver's thread reads. Leased:
//!   read-only, by the one `Lease`. Transitions happen on the driver's thread; a lease dropped
//!   elsewhere is only queued for it.
//! - **K3, regions outlive their users.** A mapped region is unmapped when the pool and every
//!   lease into it are gone, and not before the kernel has let go of it (K4).
//! - **K4, a ring ends empty.** A ring is dropped only after everything in flight was cancelled
//!   and reaped; if the kernel does not give it back, the memory is leaked on purpose.
//! - **K5, one thread.** A ring and its pool stay on the thread that made them (they are `!Send`).
//! - **K6, entries are 64 plain bytes.** A submission entry of the `io-uring` crate is a `repr(C)`
//!   wrapper of the kernel's 64-byte structure, valid for every bit pattern.
//! - **K7, the buffer ring has one producer.** Its entries are page-aligned, mapped while
//!   registered, written only by the driver's thread, and published by a release store of the tail.
//! - **K8, options are plain numbers.** A socket option or ioctl reads or writes one number or one
//!   structure of numbers, whose size is handed over with it.
//! - **K9, a header outlives its call.** All that a message header points at is borrowed for the
//!   whole of a plain system call; that of an entry is owned by the driver's table (K1).
#![allow(unsafe_code, reason = "the fence: rings and buffers shared with the kernel need it")]

#[cfg(any(test, feature = "__bench"))]
pub(crate) mod bench;
mod control;
mod datagram;
mod memory;
mod multicast;
mod ring;
mod tcp;
mod uring;

#[cfg(test)]
pub(crate) use datagram::send_without_checksums;
pub(crate) use datagram::{
    datagram_bytes_max, keep_peer_errors, receive_datagrams, report_peer_errors, say_arrival_times,
    say_what_matters, send_train,
};
pub(crate) use multicast::join_group;
pub(crate) use ring::RingOptions;
pub(crate) use tcp::{limit_unsent, path_sample};
pub(crate) use uring::UringDriver;
