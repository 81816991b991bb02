//! Accepting: how the epoll driver takes connections from a listener, and rests when it cannot.
//!
//! Above: `epoll` calls it for a ready listener and once a turn. Below: `accept4`. Absent: limits
//! on connections (the shard closes what it does not want).
//! Bounds: 64 accepts per listener a turn, 65 536 when it stops; ten warnings a second.

use std::time::{Duration, Instant};

use rustix::io::Errno as SystemErrno;
use rustix::net::{SocketFlags, accept_with};

use super::entry::Accepting;
use super::{EpollDriver, find};
use crate::engine::errno::Errno;
use crate::engine::operation::{Completion, Token};
use crate::engine::socket::Socket;

/// Accepts of one listener in one turn.
pub(super) const ACCEPTS_MAX: usize = 64;
/// More than any backlog holds: an accept that is stopped ends even under a storm.
const LAST_ACCEPTS_MAX: usize = 65_536;
/// How long a listener rests when descriptors or memory are used up. The peers wait in the
/// backlog meanwhile.
const REST: Duration = Duration::from_millis(100);
impl EpollDriver {
    /// Accepts what is queued, at most `count_max` connections. Without a descriptor to spare
    /// it rests: a reserve descriptor, the other known trick, would accept and drop connections
    /// that can be served a moment later.
    pub(super) fn accept(&mut self, token: Token, count_max: usize) {
        let Some(entry) = find(&mut self.entries, token) else { return };
        let Some(listener) = &entry.socket else { return };
        if entry.accepting != Accepting::Active {
            return;
        }
        for _ in 0..count_max {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let error = match accept_with(listener.as_fd(), flags) {
                Ok(descriptor) => {
                    let socket = Socket::from(descriptor);
                    self.done.push_back(Completion::Accepted { token, socket });
                    continue;
                }
                Err(SystemErrno::AGAIN) => return,
                Err(SystemErrno::INTR) => continue,
                Err(error) => error,
            };
            self.metrics.accept_errors.add(1);
            if is_peers_fault(error) {
                continue;
            }
            if is_shortage(error) {
                let remedy = "raise the limit (ulimit -n)";
                tracing::warn!(%error, rest = ?REST, remedy, "accepting rests");
                entry.accepting = Accepting::Resting;
                self.resting.push((Instant::now() + REST, token));
            } else {
                entry.accepting = Accepting::Ended;
                let error = Some(error.into());
                self.done.push_back(Completion::AcceptEnded { token, error });
            }
            return;
        }
    }

    pub(super) fn stop_accept(&mut self, token: Token) {
        if let Some(entry) = find(&mut self.entries, token)
            && entry.accepting == Accepting::Resting
        {
            entry.accepting = Accepting::Active;
        }
        self.accept(token, LAST_ACCEPTS_MAX);
        let Some(entry) = find(&mut self.entries, token) else { return };
        let error = match entry.accepting {
            Accepting::Active => None,
            // Some could not be accepted.
            Accepting::Resting => Some(Errno(SystemErrno::MFILE.raw_os_error())),
            Accepting::Never | Accepting::Ended => return,
        };
        entry.accepting = Accepting::Ended;
        self.done.push_back(Completion::AcceptEnded { token, error });
    }

    pub(super) fn wake_rested(&mut self) {
        if self.resting.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(index) = self.resting.iter().position(|(until, _)| *until <= now) {
            let (_, token) = self.resting.swap_remove(index);
            if let Some(entry) = find(&mut self.entries, token)
                && entry.accepting == Accepting::Resting
            {
                entry.accepting = Accepting::Active;
                self.note_change(token);
            }
        }
    }

    /// `longest`, or less if a listener has rested before that.
    pub(super) fn until_rested(&self, longest: Duration) -> Duration {
        let Some((until, _)) = self.resting.iter().min_by_key(|(until, _)| *until) else {
            return longest;
        };
        longest.min(until.saturating_duration_since(Instant::now()))
    }
}

/// The connection was lost before it was accepted; the next one may be well.
fn is_peers_fault(error: SystemErrno) -> bool {
    use SystemErrno as E;
    matches!(
        error,
        E::CONNABORTED
            | E::PROTO
            | E::PERM
            | E::TIMEDOUT
            | E::NETDOWN
            | E::NETUNREACH
            | E::HOSTDOWN
            | E::HOSTUNREACH
            | E::NOPROTOOPT
            | E::NONET
    )
}

fn is_shortage(error: SystemErrno) -> bool {
    use SystemErrno as E;
    matches!(error, E::MFILE | E::NFILE | E::NOBUFS | E::NOMEM)
}
