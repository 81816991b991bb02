//! Common ground of the rivals: what is equal for all, so that only the engines differ.
//!
//! Above: the servers and the client. Below: rustix, libc, clap.
//! Absent: no I/O loop and no echo; those are what is compared.
//! Bounds: frames of [`frames::PAYLOAD_MAX`] bytes, a backlog of [`listening::BACKLOG`].

#[cfg(feature = "udp")]
pub mod datagrams;
pub mod frames;
pub mod listening;
pub mod options;
#[cfg(feature = "uring")]
pub mod receive_buffers;
#[cfg(feature = "uring")]
pub mod ring;

/// Size of a connection's first receive buffer, in bytes, where the library wants one.
pub const FIRST_BUFFER: usize = 8 * 1024;
