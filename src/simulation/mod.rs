//! The simulated world: sockets without a kernel, faults on purpose, everything from a seed.
//!
//! Above: tests of shards, the conformance suite of drivers, and `testing` for users.
//! Below: nothing but memory.
//! Absent: I/O, clocks, threads, entropy; a run is repeated by its seed alone.

pub(crate) mod faults;
mod link;
pub(crate) mod network;
mod place;
pub(crate) mod post;
pub(crate) mod random;
pub(crate) mod script;
mod slots;
#[cfg(test)]
mod tests;
mod trains;
pub(crate) mod world;
