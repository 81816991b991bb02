//! Postring: the Post Sockets API on a thread-per-core io_uring engine.
//!
//! ```text
//! IN   kernel -> engine -> shard -> framer -> carrier -> application
//! OUT  application -> carrier -> framer -> shard -> engine -> kernel
//! ```

#![cfg_attr(
    not(all(target_os = "linux", not(postring_no_kernel))),
    allow(
        dead_code,
        unused_imports,
        unused_variables,
        reason = "without a driver nobody starts a shard; it only has to compile"
    )
)]

mod address;
#[cfg(any(test, feature = "__bench"))]
#[doc(hidden)]
pub mod bench;
mod carrier;
mod engine;
mod error;
mod framer;
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
mod kernel;
mod launch;
mod lending;
mod limits;
#[cfg(doc)]
pub mod manual;
mod message;
mod shard;
#[cfg(any(test, feature = "__bench"))]
#[cfg_attr(not(test), allow(dead_code, reason = "benchmarks use a part of it"))]
mod simulation;

pub use address::Address;
pub use carrier::listener::{AcceptingCarrier, Listener};
pub use carrier::responder::{Answer, Flow, Reply, spawn};
pub use carrier::task::{Sleeping, Yielding, sleep, yield_now};
pub use carrier::{Asked, Carrier, CarrierRef, CarrierState, Receiving, Sending};
pub use engine::driver::DriverChoice;
pub use engine::metrics::{CoreSnapshot, Metrics};
pub use engine::offload::{Offload, offload};
pub use error::{CloseReason, Error, Result, TrySendError};
pub use framer::{Endianness, FrameError, Framer, LengthPrefixed, Output, Unframed, Width};
pub use launch::{
    Engine, EngineBuilder, initiate, initiate_with, listen, listen_with, respond, respond_async,
    respond_per_core, respond_with,
};
pub use limits::{Limits, Timeouts};
pub use message::{Detach, Message};
pub use shard::Wait;
