//! What Postring does not do, so that you need not look for it.
//!
//! - **Linux without io_uring at full speed**: epoll costs a system call per socket and event. It
//!   works: the epoll driver is chosen at the start, with the reason in the log and the metrics.
//! - **Other systems**: the engine is made of Linux interfaces. The crate compiles elsewhere, but
//!   an engine cannot start there.
//! - **Work stealing**: a connection's state would need locks ([D1](super::decisions)). Accept
//!   spreads connections; put long work on a pool (`offload`) or on other threads.
//! - **A general async runtime**: timers, files and processes are well served elsewhere. Futures
//!   of Postring run on any runtime; the feature `tokio` lets tokio-based crates run in handlers.
//! - **Framing by default on byte streams**: it would be silent ([D9](super::decisions)). Name a
//!   [`Framer`](crate::Framer): [`LengthPrefixed`](crate::LengthPrefixed) or your own.
//! - **Unbounded queues**: memory would be the limit, found at night. Every bound is in
//!   [`limits`](super::limits); at a bound the sender waits or is told.
//! - **Automatic tuning of the host**: a tool that changes settings breaks what it does not know.
//!   `tuning` reads and explains; the operator decides.
//! - **Printing, or a log format**: a library does not own the terminal. Events go to `tracing`;
//!   counters are read as a snapshot.
//! - **Cancelling what was accepted**: a Message is in the queue or it is not. `send` that is
//!   dropped before it resolved never sent; afterwards the Message goes its way.
//!
//! # Not yet
//!
//! Planned, and an error that says so until then: stacks other than `tcp://`, `udp://` and
//! `unix://`.
//!
//! # What datagrams cannot do
//!
//! - **Say that a train was cut short**: of a train that a full device drops in part, Linux says
//!   nothing. Datagrams that leave one by one are all counted.
//! - **Tell a forged answer from a true one**: whoever knows both ends of a path can end a Carrier
//!   by a forged refusal (ICMP), and ask in another's name. What claims to come from the very
//!   socket that gets it is dropped; but two services, or one at two addresses of its host, can be
//!   made to answer each other for ever by whoever can forge addresses. That is for DTLS or QUIC.
//! - **Be handed over with their Carriers**: while a process that hands its Listener over still has
//!   Carriers, it reads the same socket as its successor, and drops newcomers that it meets there.
//! - **Multicast in the simulated world** of `testing`.
