//! Limits and timeouts: every bound of an engine in one place, with its default and its sum.
//!
//! Above: `launch` takes them, `shard` and `carrier` keep to them. Absent: how a bound is kept.

use std::time::Duration;

use crate::error::Error;

/// The bounds of one core. Every queue, table and buffer of an engine has its limit here.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// Most connections of one core, accepted and initiated; more are refused. Default 65 536.
    pub connections: usize,
    /// Most connections of one core from one peer prefix (IPv4 /32, IPv6 /64); default 32 768.
    pub connections_per_prefix: usize,
    /// Bytes that may wait in one Carrier's send queue: at this mark handlers pause, `try_send`
    /// says Full and `send` waits; `receive` goes on. One message may overshoot it. Default
    /// 256 KiB.
    pub send_queue_bytes: usize,
    /// Messages with niceness, lifetime, antecedents or a watched outcome that may wait in one
    /// Carrier's send queue. Default 16 384.
    pub scheduled_messages: usize,
    /// Once a Carrier uses niceness or lifetime, the kernel is to hold fewer bytes of it unsent
    /// than this, so that what is urgent does not queue behind them. Default 4 KiB.
    pub paced_unsent_bytes: u32,
    /// Bytes of idempotent Messages kept on one Carrier until the peer has them, for the case that
    /// the connection is lost and made again. Those beyond are not sent again. Default 1 MiB.
    pub resend_bytes: usize,
    /// Events that wait for each [`Events`](crate::Events) stream; further ones are lost and
    /// counted ([`Event::Missed`](crate::Event::Missed)). At least 2. Default 1 024.
    pub events: usize,
    /// Messages received ahead of the application's `receive` on one Carrier. Default 16.
    pub receive_queue_messages: usize,
    /// Messages of one connection whose async handler has not answered yet. Default 64.
    pub async_handlers_per_connection: usize,
    /// Bytes of one receive buffer. Default 4 352: a 4 KiB payload and its frame header.
    pub receive_buffer_bytes: usize,
    /// Receive buffers with the kernel at once, per core: the hot set. Default 128.
    pub receive_buffers_posted: u16,
    /// Most bytes of receive buffers, per core; beyond it messages are copied. Default 64 MiB.
    pub receive_pool_bytes: usize,
    /// Most bytes of receive buffers for datagrams, per core that has a socket of them; a buffer
    /// has 68 KiB: a train as the kernel gathers them. 128 are always allowed. Default 16 MiB.
    pub datagram_pool_bytes: usize,
    /// Bytes one connection may deliver before it lets the others go first. Default 16 KiB.
    pub receive_credit_bytes: usize,
    /// From this length a message is received into a buffer of exactly its size. Default 16 KiB.
    pub exact_receive_bytes: usize,
    /// Most bytes kept of a message whose framer does not say how long it will be
    /// ([`Framer::needs`](crate::Framer::needs)); more end the Carrier. Default 16 MiB.
    pub unmeasured_message_bytes: usize,
    /// From this many bytes in one send to another host the network card reads them where they
    /// lie; `usize::MAX` switches it off. The kernel says when it had to copy after all, and the
    /// connection then sends plainly. Default 16 KiB.
    pub zero_copy_bytes: usize,
    /// Associations without Carriers that one core remembers: beyond it, counting those with
    /// Carriers, the one unused for longest is forgotten with its Paths. Default 1 024.
    pub associations: usize,
    /// Requests from other threads that may wait for one core. Default 4 096.
    pub mailbox: usize,
    /// Connections that wait for `accept`, per Listener; more are refused. Default 4 096.
    pub accept_queue: usize,
    /// The kernel's queue of connections that wait to be accepted. Default 4 096.
    pub backlog: u32,
    /// Tasks running on one core. Default 65 536.
    pub tasks: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 65_536,
            connections_per_prefix: 32_768,
            send_queue_bytes: 256 << 10,
            scheduled_messages: 16_384,
            paced_unsent_bytes: 4 << 10,
            resend_bytes: 1 << 20,
            events: 1024,
            receive_queue_messages: 16,
            async_handlers_per_connection: 64,
            receive_buffer_bytes: 4096 + 256,
            receive_buffers_posted: 128,
            receive_pool_bytes: 64 << 20,
            datagram_pool_bytes: 16 << 20,
            receive_credit_bytes: 16 << 10,
            exact_receive_bytes: 16 << 10,
            unmeasured_message_bytes: 16 << 20,
            zero_copy_bytes: 16 << 10,
            associations: 1024,
            mailbox: 4096,
            accept_queue: 4096,
            backlog: 4096,
            tasks: 65_536,
        }
    }
}

impl Limits {
    /// Checks that the limits can be kept together.
    ///
    /// # Errors
    /// [`Error::Configuration`] that names the limit and its range.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let rules = [
            (self.connections >= 1, "connections must be at least 1"),
            (self.send_queue_bytes >= 1024, "send_queue_bytes must be at least 1024"),
            (self.events >= 2, "events must be at least 2"),
            (self.receive_queue_messages >= 1, "receive_queue_messages must be at least 1"),
            (self.async_handlers_per_connection >= 1, "async handlers must be at least 1"),
            (
                (512..=1 << 20).contains(&self.receive_buffer_bytes),
                "receive_buffer_bytes must be 512 bytes to 1 MiB",
            ),
            (
                self.receive_buffers_posted.is_power_of_two()
                    && (16..=16_384).contains(&self.receive_buffers_posted),
                "receive_buffers_posted must be a power of two from 16 to 16384",
            ),
            (
                self.receive_pool_bytes
                    >= 2 * usize::from(self.receive_buffers_posted) * self.receive_buffer_bytes,
                "receive_pool_bytes must hold at least twice the posted buffers",
            ),
            (
                self.receive_credit_bytes >= self.receive_buffer_bytes,
                "receive_credit_bytes must be at least one receive buffer",
            ),
            (self.exact_receive_bytes >= 1, "exact_receive_bytes must be at least 1"),
            (self.unmeasured_message_bytes >= 1, "unmeasured_message_bytes must be at least 1"),
            (self.associations >= 1, "associations must be at least 1"),
            (self.mailbox >= 16, "mailbox must be at least 16"),
            (self.accept_queue >= 1, "accept_queue must be at least 1"),
            (self.tasks >= 1, "tasks must be at least 1"),
        ];
        match rules.iter().find(|(kept, _)| !kept) {
            Some((_, rule)) => Err(Error::Configuration((*rule).to_owned())),
            None => Ok(()),
        }
    }
}

/// When an engine gives up waiting. `Duration::MAX` switches one off, as do 24 days and more.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Timeouts {
    /// From the connection to its first complete message. Default 30 s.
    pub handshake: Duration,
    /// From the first byte of a message to its last. Default 30 s.
    pub message: Duration,
    /// Without any byte either way. Default 10 min.
    pub idle: Duration,
    /// For the peer to read what was sent to it. Default 30 s.
    pub unread_send: Duration,
    /// For a connection to come about. Default 10 s.
    pub connect: Duration,
    /// For the peer to end its side after this side was closed. Default 5 s.
    pub linger: Duration,
    /// For a Carrier whose connection was lost to connect again, from its first try to its last;
    /// zero: a lost connection ends its Carrier. Default 60 s.
    pub dormant: Duration,
    /// For connections to finish when the engine shuts down. Default 10 s.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            handshake: seconds(30),
            message: seconds(30),
            idle: seconds(600),
            unread_send: seconds(30),
            connect: seconds(10),
            linger: seconds(5),
            dormant: seconds(60),
            drain: seconds(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_be_kept_and_a_broken_limit_is_named() {
        Limits::default().check().unwrap();
        let limits = Limits { receive_buffers_posted: 100, ..Limits::default() };
        let error = limits.check().unwrap_err().to_string();
        assert!(error.contains("receive_buffers_posted"), "{error}");
    }
}
