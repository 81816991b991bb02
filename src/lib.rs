//! Postring: the Post Sockets API on a thread-per-core io_uring engine.
//!
//! ```text
//! IN   kernel -> engine -> shard -> framer -> carrier -> application
//! OUT  application -> carrier -> framer -> shard -> engine -> kernel
//! ```

mod address;
mod engine;
mod error;
mod framer;
mod lending;
#[cfg(doc)]
pub mod manual;
mod message;

pub use address::Address;
pub use engine::metrics::{CoreSnapshot, Metrics};
pub use engine::offload::{Offload, offload};
pub use error::{CloseReason, Error, Result, TrySendError};
pub use framer::{Endianness, FrameError, Framer, LengthPrefixed, Output, Unframed, Width};
pub use message::{Detach, Message};
