//! Postring: the Post Sockets API on a thread-per-core io_uring engine.
//!
//! A Responder answers Messages by one function, called inline on the core that received them:
//!
//! ```no_run
//! # fn main() -> postring::Result<()> {
//! let frames = postring::LengthPrefixed::default();
//! postring::respond_with("tcp://[::]:7000", frames, |message, reply| reply.send(message))
//! # }
//! ```
//!
//! A Carrier sends and receives Messages with one peer, from its core or from any other thread:
//!
//! ```no_run
//! # async fn example() -> postring::Result<()> {
//! let frames = postring::LengthPrefixed::default();
//! let carrier = postring::initiate_with("tcp://localhost:7000", frames);
//! carrier.send("Hello!").await?;                        // the first Message connects
//! println!("{:?}", carrier.receive().await?.text());
//! carrier.close().await
//! # }
//! ```
//!
//! The verbs are [`respond`], [`listen`] and [`initiate`] and their kin; [`Engine::builder`] takes
//! every choice. `manual` (in the built documentation) has the data path, the limits and the
//! decisions with their figures. The folders of `src` follow a byte on its way:
//!
//! ```text
//! IN   kernel -> engine -> shard -> framer -> carrier -> application
//! OUT  application -> carrier -> framer -> scheduler -> shard -> engine -> kernel
//! ```
//!
//! - `kernel`: the fence, the only place with `unsafe`: the ring and the buffers it shares
//! - `engine`: operations and completions as values, three drivers behind them, timers, mailboxes
//! - `shard`: one core's whole world and the turn that joins it
//! - `scheduler`: which Message goes next: niceness, lifetime, antecedents; pure
//! - `framer`: bytes to Messages and back; users plug in here
//! - `association`: what stays when Carriers come and go: the Remote and the Paths to it
//! - `carrier`: Carriers, Responders and their futures
//! - `launch`: threads, from a builder to the end of an engine
//! - `simulation`: the world without a kernel in which drivers and shards are tested
//! - `testing` (feature of that name): the same world for your handlers

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
mod association;
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
mod scheduler;
mod shard;
#[cfg(any(test, feature = "testing"))]
#[cfg_attr(
    not(test),
    allow(dead_code, reason = "drivers are tested with more of it than users are")
)]
mod simulation;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use address::Address;
pub use association::Path;
pub use carrier::accept::AcceptingCarrier;
pub use carrier::responder::{Answer, Flow, Reply, spawn};
pub use carrier::task::{Sleeping, Yielding, sleep, yield_now};
pub use carrier::{
    Acceptor, Asked, Association, Callback, Carrier, CarrierRef, CarrierState, Events, Forking,
    NextEvent, Part, PartialMessage, Receipt, Receiving, ReceivingPart, Reporter, Sending,
    Settling, Sink, Source, Supports, Transient,
};
pub use engine::driver::DriverChoice;
pub use engine::metrics::{CoreSnapshot, Metrics};
pub use engine::offload::{Offload, offload};
pub use error::{CloseReason, Error, Result, TrySendError};
#[cfg(feature = "codec")]
pub use framer::Codec;
#[cfg(feature = "json")]
pub use framer::Json;
#[cfg(feature = "postcard")]
pub use framer::Postcard;
#[cfg(any(feature = "codec", feature = "json", feature = "postcard"))]
pub use framer::{Decoded, Value};
pub use framer::{
    Endianness, FrameError, Framer, LengthPrefixed, Line, Lines, Output, Unframed, Width,
};
pub use launch::{
    Engine, EngineBuilder, Listener, associate, associate_with, initiate, initiate_sink,
    initiate_sink_with, initiate_source, initiate_source_with, initiate_with, listen, listen_with,
    respond, respond_async, respond_per_core, respond_with,
};
pub use limits::{Limits, Timeouts};
pub use message::{
    ANTECEDENTS_MAX, Detach, Ecn, Event, Expiry, Marking, Message, MessageId, Outcome, Properties,
    SPECIFICS_MAX,
};
pub use shard::Wait;
