//! Errors of the public API: each names the operation and whose doing it was.
//!
//! Above: every verb returns them. Below: `framer` has its own small error, wrapped here.
//! Absent: error numbers without a sentence; panics.

use std::io;

use crate::framer::FrameError;

/// What the verbs of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a verb failed. The first word of the message is what was attempted; `Debug` says the same
/// as `Display`, for a `main` that returns it shows that. What the system said is in the message
/// and in a field; [`std::error::Error::source`] does not say it a second time.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Local: the address cannot be understood.
    #[error("address {address:?}: {why}")]
    Address {
        /// The address as given.
        address: String,
        /// What is wrong with it and what would be right.
        why: String,
    },
    /// Local: what was asked for does not exist in this version or on this stack.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// Local: the engine could not be started with these settings.
    #[error("configuration: {0}")]
    Configuration(String),
    /// Local: listening failed.
    #[error("listen on {address}: {source}{hint}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        r#source: io::Error,
        /// What to do about it, or nothing.
        hint: &'static str,
    },
    /// Local: the engine could not set up its threads or its driver.
    #[error("engine: {what}: {source}")]
    Engine {
        /// What was being set up.
        what: String,
        /// What the system said.
        r#source: io::Error,
    },
    /// Remote or Path: no connection came about.
    #[error("connect to {address}: {source}{hint}")]
    Connect {
        /// The address.
        address: String,
        /// What the system said.
        r#source: io::Error,
        /// What to do about it, or nothing.
        hint: &'static str,
    },
    /// Remote, Path or Local: the Carrier has ended.
    #[error("carrier closed: {0}")]
    Closed(CloseReason),
    /// Remote or Local: bytes are no Message, or a Message is no bytes.
    #[error("framing: {0}")]
    Frame(FrameError),
    /// Local: a Message's properties cannot be honoured.
    #[error("message: {0}")]
    Message(String),
    /// Local: a queue between threads is full; try again later.
    #[error("the core's mailbox is full; try again later")]
    MailboxFull,
    /// Local: a synchronous wait on a core thread would stop the core it waits for.
    #[error("wait() on a core thread would block the core; await instead")]
    WaitOnCore,
    /// Local: the engine is shutting down or gone.
    #[error("the engine has ended")]
    EngineEnded,
    /// Local: the function given to `offload` panicked, or the pool is full.
    #[error("offload: {0}")]
    Offload(&'static str),
}

/// Why a Carrier ended (draft §2.1, §3.2: the close event).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// It ended in order, and this side was not the first to end it: the peer has sent its last.
    /// A peer whose process was killed ends so, too, for its system says no more than that.
    #[error("the peer ended in order")]
    Finished,
    /// This side ended it.
    #[error("ended by this side")]
    Local,
    /// This side aborted it.
    #[error("aborted by this side")]
    Aborted,
    /// The peer reset the connection.
    #[error("reset by the peer")]
    Reset,
    /// The connection failed on the way: the error number of the system.
    #[error("connection lost: {}", io::Error::from_raw_os_error(*.0))]
    Lost(i32),
    /// The peer broke the framer's rules.
    #[error("the peer broke the framing")]
    Framing,
    /// The framer broke the contract of [`Framer`](crate::Framer): it said that it had taken no
    /// bytes, or more than there were. The log has its type and the numbers.
    #[error("its framer took no bytes, or more than there were")]
    FramerBroken,
    /// The handler, framer or factory panicked; the log has the text.
    #[error("user code panicked")]
    Panicked,
    /// A handler said stop.
    #[error("stopped by its handler")]
    Stopped,
    /// Nothing happened for the idle timeout.
    #[error("idle for too long")]
    IdleTimeout,
    /// No first Message within the handshake timeout.
    #[error("no message within the handshake timeout")]
    HandshakeTimeout,
    /// A Message was begun but not completed in time.
    #[error("a message was not completed in time")]
    MessageTimeout,
    /// The peer did not read what was sent to it in time.
    #[error("the peer did not read in time")]
    SendTimeout,
    /// A limit on connections was reached.
    #[error("a limit on connections was reached")]
    Limit,
    /// The engine was shut down.
    #[error("the engine was shut down")]
    Shutdown,
    /// No connection could be made; the log and the first error have the reason.
    #[error("no connection could be made: {}", io::Error::from_raw_os_error(*.0))]
    NotConnected(i32),
    /// No connection could be made, for the name has no address; the log has the resolver's words,
    /// so has the [`Error::Connect`] of who waited for the connection.
    #[error("no connection could be made: the host's name could not be resolved")]
    NotResolved,
}

impl CloseReason {
    /// True if there never was a connection.
    pub(crate) const fn is_unconnected(self) -> bool {
        matches!(self, Self::NotConnected(_) | Self::NotResolved)
    }
}

/// Why [`try_send`](crate::CarrierRef::try_send) did not take a Message.
#[derive(Debug, thiserror::Error)]
pub enum TrySendError<T> {
    /// The bounded queue is full; here is the Message again.
    #[error("the send queue is full")]
    Full(T),
    /// It can never be sent.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// The same again, for one more who asks why no engine could begin.
    pub(crate) fn retold(&self) -> Self {
        match self {
            Self::Unsupported(what) => Self::Unsupported(what.clone()),
            Self::Configuration(what) => Self::Configuration(what.clone()),
            Self::Engine { what, source } => {
                let source = io::Error::new(source.kind(), source.to_string());
                Self::Engine { what: what.clone(), source }
            }
            // No start of an engine ends so.
            _ => Self::EngineEnded,
        }
    }
}

impl From<FrameError> for Error {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl From<CloseReason> for Error {
    fn from(reason: CloseReason) -> Self {
        Self::Closed(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_errors_says_its_cause_once() {
        let source = || io::Error::from_raw_os_error(13);
        let said = source().to_string();
        let address = "unix:///run/x".to_owned();
        let errors = [
            Error::Listen { address: address.clone(), source: source(), hint: "" },
            Error::Engine { what: "a core ended".into(), source: source() },
            Error::Connect { address, source: source(), hint: "" },
            Error::Frame(FrameError::Malformed(said.clone())),
        ];
        for error in errors {
            let text = format!("{:#}", anyhow::Error::from(error));
            assert_eq!(text.matches(&said).count(), 1, "{text}");
        }
    }
}
