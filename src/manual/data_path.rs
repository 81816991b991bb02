//! The data path: where the bytes are, who owns them, and what a turn of a core does.
//!
//! ```text
//! IN   kernel -> engine -> shard -> framer -> carrier -> application
//! OUT  application -> carrier -> framer -> shard -> engine -> kernel
//! ```
//!
//! # In
//!
//! - **kernel**: The system fills one of the few receive buffers that are posted to it. Nothing
//!   is allocated for a connection that is silent. *Owner of the bytes: the kernel.*
//! - **engine**: The driver reaps a completion and hands it over as a value that names a buffer
//!   by its index, with a slot and a generation for the connection. An old generation is nobody's
//!   and is dropped. *Owner of the bytes: the driver's pool.*
//! - **shard**: Finds the connection, puts unfinished bytes of the last time before the new ones
//!   if there are any, and lends the block for the call that follows. *Owner of the bytes: the
//!   pool; user code only looks.*
//! - **framer**: [`Framer::decode`](crate::Framer::decode) finds a Message in the slice and
//!   borrows from it. Called again until it says that bytes are missing. *Owner of the bytes: as
//!   before.*
//! - **carrier**: A Responder's handler runs at once with the borrowed
//!   [`Message`](crate::Message). For `receive` the Message is made owned and queued. *Owner of
//!   the bytes: the Message once it is owned.*
//!
//! A Message that leaves the call has to own its content: [`Detach::detach`](crate::Detach::detach)
//! copies a small one and leases the buffer of a large one ([D3](super::decisions)). A leased
//! buffer goes back to its pool when the last Message that uses it is dropped, on whatever thread.
//!
//! A frame that is larger than a buffer is not gathered piece by piece: as soon as
//! [`Framer::needs`](crate::Framer::needs) knows its length, the connection gets one buffer of
//! exactly that size and the rest is received straight into it.
//!
//! # Out
//!
//! - **application**: A reply, or `send` on a Carrier. On the Carrier's core this is a plain
//!   call; from any other thread the owned Message travels by the core's mailbox. *Owner of the
//!   bytes: the caller.*
//! - **framer**: [`Framer::encode`](crate::Framer::encode) writes header and payload into the
//!   connection's [`Output`](crate::Output). Small payloads are copied there, large owned ones go
//!   by reference ([decision D4](super::decisions)). *Owner of the bytes: the Output.*
//! - **shard**: Everything that one turn wrote on one connection becomes one send. While a send
//!   is under way, new bytes gather for the next one. *Owner of the bytes: the Output.*
//! - **engine**: The Output moves into the operation and stays with the driver until its
//!   completion, whatever the application does meanwhile. *Owner of the bytes: the driver.*
//! - **kernel**: Takes what it can; a short send goes on from where it stopped. What goes to
//!   another host and is at least `zero_copy_bytes` long, the network card reads from where it
//!   lies. *Owner of the bytes: the driver until the completion.*
//!
//! # A turn
//!
//! 1. One system call submits what was prepared and, if nothing else is to do, waits.
//! 2. Completions are taken one at a time; each runs its handler at once. Their number per turn is
//!    bounded, so one busy connection cannot keep the others out.
//! 3. Requests from other threads, due timers and woken tasks have their turn.
//! 4. Connections that have something to send get one send each; starved receives are armed again.
//!
//! Handlers, framers, payload drops and wakers are user code. The core holds no borrow of its own
//! state while any of them runs, so every verb may be called from every such place
//! ([decision D7](super::decisions)).
//!
//! # Back-pressure
//!
//! Demand goes against the stream. An application that does not receive, or an outbox above its
//! mark, stops the framer, then the re-arming of the receive; the kernel's own window then stops
//! the peer. Memory stays at the [limits](super::limits) meanwhile.
