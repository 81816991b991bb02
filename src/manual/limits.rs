//! Every limit and timeout: its default, what it counts, and what happens at the bound.
//!
//! Nothing grows without one of these. A value that cannot be kept together with the others is
//! refused when the engine starts, with the name of the limit and its range. A test holds this
//! page to the fields of `Limits` and `Timeouts`: none may be missing here.
//!
//! # Limits of one core
//!
//! | `Limits` | default | what it counts | at the bound |
//! |---|---|---|---|
//! | `connections` | 65 536 | connections, both directions | refused |
//! | `connections_per_prefix` | 32 768 | the same from one IPv4 address or IPv6 /64 | refused |
//! | `backlog` | 4 096 | connections the kernel holds for a Listener | the kernel's |
//! | `accept_queue` | 4 096 | connections that wait for `accept`, per Listener | refused |
//! | `send_queue_bytes` | 256 KiB | bytes queued on one Carrier | sender waits |
//! | `scheduled_messages` | 16 384 | messages of one Carrier that wait for their turn | `Full` |
//! | `paced_unsent_bytes` | 4 KiB | unsent bytes of a paced Carrier in the kernel | waits |
//! | `resend_bytes` | 1 MiB | idempotent bytes the peer may not have | not sent again |
//! | `events` | 1 024 | events that wait for one `Events` stream | counted as missed |
//! | `receive_queue_messages` | 16 | Messages received ahead, per Carrier | peer waits |
//! | `async_handlers_per_connection` | 64 | Messages not answered yet | peer waits |
//! | `receive_buffer_bytes` | 4 352 | bytes of a buffer: 4 KiB and a header | next buffer |
//! | `receive_buffers_posted` | 128 | buffers with the kernel at once | starved |
//! | `receive_pool_bytes` | 64 MiB | bytes of receive buffers in all | copied |
//! | `datagram_pool_bytes` | 16 MiB | bytes of buffers for datagrams | copied, then dropped |
//! | `receive_credit_bytes` | 16 KiB | bytes one connection delivers in a row | its turn ends |
//! | `exact_receive_bytes` | 16 KiB | length of a Message | a buffer of its own |
//! | `unmeasured_message_bytes` | 16 MiB | bytes of a Message of unknown length | ends |
//! | `zero_copy_bytes` | 16 KiB | bytes of one send to another host | sent from where they lie |
//! | `associations` | 1 024 | Associations, those with Carriers included | forgotten |
//! | `mailbox` | 4 096 | requests of other threads | sender waits |
//! | `tasks` | 65 536 | tasks on the core | an error |
//!
//! What the last column means:
//!
//! - **refused**: the new connection is closed at once and counted; the others notice nothing.
//! - **not sent again**: if the connection is lost, such a Message settles as `MayHaveArrived`.
//! - **the kernel's**: the system lets further connections wait or fail, as it is configured.
//! - **sender waits**: `try_send` gives the Message back, `send` waits for room, a Responder's
//!   handler is not called. One Message may overshoot the mark.
//! - **counted as missed**: the stream says how many in their place, `Event::Missed`.
//! - **peer waits**: receiving stops until the application has taken one; the kernel's window then
//!   stops the peer.
//! - **forgotten**: the Association without Carriers that was unused for longest loses its Paths;
//!   those with Carriers stay, as many as there are. Handles to it stay good.
//! - **starved**: receives without a buffer are armed again as buffers come back.
//! - **copied**: Messages are copied instead of leased, and counted.
//! - **copied, then dropped**: what comes while no buffer is left waits with the kernel, which
//!   drops what its socket has no room for and counts that.
//! - **its turn ends**: the others go first. It may overshoot by one buffer.
//! - **next buffer**, **a buffer of its own**, **sent from where they lie**: no bound is hit,
//!   only the way changes.
//!
//! # Over datagrams
//!
//! Nobody can be made to wait there. A connected Carrier stops receiving, as above: what follows
//! waits with the kernel until its socket is full. Where one socket serves many, what finds no
//! place is dropped, each datagram counted as `dropped_datagrams`: beyond `receive_queue_messages`
//! of a Listener's Carrier (a train of datagrams is taken whole, so up to 63 more), beyond
//! `async_handlers_per_connection` of one remote, and while `send_queue_bytes` of a Responder's
//! answers wait behind a send. At `connections` a new remote takes the place of the one heard of
//! least recently, counted as `evicted_remotes`; at `accept_queue` it finds none. One that made
//! way keeps its slot until the application drops its Carrier: if that takes longer than 1 s,
//! another one makes way, until a quarter of `connections` is held like this; then new remotes are
//! refused, counted as `refused_limit`. An answer that cannot leave is counted as
//! `unsent_datagrams` and ends nobody's service.
//!
//! # Timeouts
//!
//! `Duration::MAX` switches one off.
//!
//! | `Timeouts` | default | from, to | at the bound |
//! |---|---|---|---|
//! | `handshake` | 30 s | connection to first whole Message | ends: `HandshakeTimeout` |
//! | `message` | 30 s | first byte of a Message to its last | ends: `MessageTimeout` |
//! | `idle` | 10 min | the last byte either way | ends: `IdleTimeout` |
//! | `unread_send` | 30 s | a send to the peer's reading it | ends: `SendTimeout` |
//! | `connect` | 10 s | asking for a connection to having it | fails: `Error::Connect` |
//! | `linger` | 5 s | our end to the peer's | reset |
//! | `dormant` | 60 s | first try to connect again to the last | ends with the loss |
//! | `drain` | 10 s | shutdown to the last connection's end | reset |
//!
//! "Ends" closes the Carrier with that [`CloseReason`](crate::CloseReason). A socket of datagrams
//! that serves anybody has no timeouts; the Carriers of a Listener do.
//!
//! # Limits that belong to one use
//!
//! | what | default | at the bound |
//! |---|---|---|
//! | [`LengthPrefixed::len_max`] | 16 MiB | refused at the header, both ways: [`TooLong`] |
//! | the field of [`LengthPrefixed`] | 4 bytes: 4 GiB less one | the same |
//! | [`Lines::len_max`](crate::Lines::len_max) | 64 KiB | refused as soon as clear, both ways |
//! | `Json::len_max` | 1 MiB | refused as soon as clear, both ways |
//! | levels of a value: `Json`, `Postcard` | 128 | refused; deeper ones could use up the stack |
//! | `Postcard::framed_by` | 1 MiB, 4 bytes | as `LengthPrefixed` |
//! | what a `Codec` leaves unfinished | `unmeasured_message_bytes` | the Carrier ends |
//! | a lease instead of a copy | from 2 KiB | the way changes ([D3](super::decisions)) |
//! | sent from where it lies | from 8 KiB | the way changes ([D4](super::decisions)) |
//! | `testing::Network`: both socket buffers | 256 KiB, at most 1 GiB | sender waits |
//! | `testing::WorldBuilder::patience` | 1 h of simulated time | `run_until` panics |
//!
//! # Bounds that cannot be set
//!
//! | what | bound | at the bound |
//! |---|---|---|
//! | completions of one turn | 256 | the next turn has the rest |
//! | requests of other threads read per turn | 256 | the next turn has the rest |
//! | requests between two cores | 1 024 | a connection stays on the core that accepted it |
//! | sends to a Carrier from inside a call into it | 4 096 | `try_send` says Full |
//! | failed Messages remembered for later antecedents, in runs | 4 096 | older ones: an error |
//! | shares of Carriers and classes with nothing queued | 4 096 | they start anew |
//! | streams of events of one Carrier | 16 | a further one begins with `Closed(Limit)` and ends |
//! | Paths that one Association remembers | 16 | that seen longest ago is forgotten |
//! | segments of one send; its bytes | 64; 1 MiB | the next send has the rest |
//! | datagrams of one train; its bytes | 64; 65 000 | the next train has the rest |
//! | trains with the kernel to be filled, per core | 64 | the next ones wait in sockets |
//! | limits of paths to peers, per core | 1 024, each for 10 s | asked for again |
//! | errors of peers and paths read at once | 64 | the next look has the rest |
//! | Carriers looked at for the one that makes way | 8 | none does this time |
//! | bytes thrown away after an end was decided | 4 MiB | a reset ([D14](super::decisions)) |
//! | outputs kept for the next sends, per core | 1 024 of 16 KiB at most | freed |
//! | `offload`: threads; waiting jobs | 4 per CPU; 1 024 | [`Error::Offload`](crate::Error) |
//! | a call with received bytes (all messages in them) | 10 ms | counted as a stall, and named |
//! | log lines that peers can provoke, per core | 5 a second | dropped |
//! | `testing::World`: cores; age | 64; 100 years | an error; time stands still |
//! | `testing::World`: turns without rest | 50 000; from 5 000 on each takes 1 ms | a panic |
//!
//! # What they add up to
//!
//! The most user memory of one core, all bounds reached at once:
//!
//! ```text
//!   receive_pool_bytes                                          64 MiB
//! + datagram_pool_bytes, where a socket of datagrams is open          16 MiB
//! + connections  x  (one slot  +  one exact buffer of the framer's limit at most
//!                    +  send_queue_bytes  +  one Message of overshoot)
//! + connections  x  receive_queue_messages  x  one Message, copied or leased from the pool
//! + associations x  (one address  +  16 paths of 136 bytes)
//! + mailbox      x  one request
//! + tasks        x  one task
//! + spare outputs                                             16 MiB
//! ```
//!
//! A server that must stay small lowers `connections`, `send_queue_bytes` and the framer's limit
//! first: their product is the largest term.
//!
//! [`LengthPrefixed::len_max`]: crate::LengthPrefixed::len_max
//! [`LengthPrefixed`]: crate::LengthPrefixed
//! [`TooLong`]: crate::FrameError::TooLong
