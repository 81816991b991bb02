//! The ledger: what was asked of a driver and what it still owes; checks every completion.
//!
//! Above: `bench` shows it each Operation and each Completion. Below: nothing.
//! Absent: what the bytes are; laws about time and order between Tokens (there is none).

use std::collections::BTreeMap;

use crate::engine::operation::{Completion, Operation, ReceiveEnd, Token};

#[derive(Default)]
struct Account {
    accept: bool,
    /// A stop was asked since the accept was.
    accept_stopped: bool,
    connect: bool,
    receive: Option<Receive>,
    exact: Option<Exact>,
    send: Option<Send>,
    /// A stop was asked since the receive was.
    stopped: bool,
    closing: bool,
    closed: bool,
}

struct Receive {
    credit: usize,
    received: usize,
}

struct Exact {
    address: usize,
    len: usize,
    capacity: usize,
}

struct Send {
    address: usize,
    left: usize,
}

/// Panics with the law that a driver broke.
pub(super) struct Ledger {
    accounts: BTreeMap<(u32, u32), Account>,
    buffer_len: usize,
}

impl Ledger {
    pub(super) fn new(buffer_len: usize) -> Self {
        Self { accounts: BTreeMap::new(), buffer_len }
    }

    /// Notes an operation. Panics when the test itself breaks the seam's rules.
    pub(super) fn asked(&mut self, operation: &Operation) {
        if let Operation::Attach { token, .. } = operation {
            let before = self.accounts.insert(key(*token), Account::default());
            assert!(before.is_none(), "test: {token:?} is attached twice");
            return;
        }
        let account = self.accounts.get_mut(&key(operation.token()));
        let account = account.unwrap_or_else(|| panic!("test: {operation:?} before Attach"));
        match operation {
            Operation::Accept { .. } => {
                assert!(!std::mem::replace(&mut account.accept, true), "test: one accept");
                account.accept_stopped = account.closing;
            }
            Operation::StopAccept { .. } => account.accept_stopped = true,
            Operation::Connect { .. } => assert!(!std::mem::replace(&mut account.connect, true)),
            Operation::Receive { credit, .. } => {
                assert!(account.receive.is_none() && account.exact.is_none(), "test: one receive");
                account.receive = Some(Receive { credit: *credit, received: 0 });
                account.stopped = account.closing;
            }
            Operation::ReceiveDatagrams { .. } => {
                assert!(account.receive.is_none() && account.exact.is_none(), "test: one receive");
                account.receive = Some(Receive { credit: usize::MAX, received: 0 });
                account.stopped = account.closing;
            }
            Operation::ReceiveExact { buffer, .. } => {
                assert!(account.receive.is_none() && account.exact.is_none(), "test: one receive");
                account.exact = Some(Exact {
                    address: buffer.as_ptr().addr(),
                    len: buffer.len(),
                    capacity: buffer.capacity(),
                });
                account.stopped = account.closing;
            }
            Operation::Send { output, sent, .. } => {
                assert!(account.send.is_none(), "test: one send");
                let address = std::ptr::from_ref(&**output).addr();
                account.send = Some(Send { address, left: output.len() - sent });
            }
            Operation::StopReceive { .. } => account.stopped = true,
            Operation::Close { .. } => {
                account.stopped = true;
                account.accept_stopped = true;
                account.closing = true;
            }
            Operation::Attach { .. } | Operation::ShutdownWrite { .. } | Operation::Tune { .. } => {
            }
        }
    }

    /// Notes a completion. Panics when the driver breaks a law of the seam.
    pub(super) fn answered(&mut self, completion: &Completion) {
        let token = answered_token(completion);
        let account = self.accounts.get_mut(&key(token));
        let account = account.unwrap_or_else(|| panic!("{completion:?} for a stranger"));
        assert!(!account.closed, "{completion:?} after Closed");
        match completion {
            Completion::Accepted { .. } => assert!(account.accept, "{completion:?} unasked"),
            Completion::AcceptEnded { error, .. } => {
                assert!(std::mem::take(&mut account.accept), "{completion:?} unasked");
                // Without an error it means "drained": a shutdown relies on that.
                let may_end = account.accept_stopped || error.is_some();
                assert!(may_end, "{completion:?} although nobody stopped it");
            }
            Completion::Connected { .. } => {
                assert!(std::mem::take(&mut account.connect), "{completion:?} unasked");
            }
            Completion::Received { data, .. } => {
                let receive = account.receive.as_mut();
                let receive = receive.unwrap_or_else(|| panic!("{completion:?} unasked"));
                assert!(data.len > 0, "{completion:?} is empty");
                receive.received += data.len;
                assert!(
                    receive.received < receive.credit.saturating_add(self.buffer_len),
                    "{} bytes for a credit of {}: more than one buffer too many",
                    receive.received,
                    receive.credit
                );
            }
            Completion::Datagrams { .. } => {
                assert!(account.receive.is_some(), "{completion:?} unasked");
            }
            Completion::PeerFailed { .. } => {}
            Completion::ReceiveEnded { end, .. } => {
                assert!(account.receive.take().is_some(), "{completion:?} unasked");
                let may_stop = account.stopped || *end != ReceiveEnd::Stopped;
                assert!(may_stop, "{completion:?} although nobody stopped it");
            }
            Completion::ReceivedExact { buffer, result, .. } => {
                let exact = account.exact.take();
                let exact = exact.unwrap_or_else(|| panic!("{completion:?} unasked"));
                assert_eq!(buffer.as_ptr().addr(), exact.address, "{token:?}: the same buffer");
                assert_eq!(buffer.capacity(), exact.capacity, "{token:?}: the same buffer");
                let got = result.unwrap_or(0);
                assert_eq!(buffer.len(), exact.len + got, "{token:?}: {got} bytes are appended");
            }
            Completion::Sent { output, result, .. } => {
                let send = account.send.take();
                let send = send.unwrap_or_else(|| panic!("{completion:?} unasked"));
                let address = std::ptr::from_ref(&**output).addr();
                assert_eq!(address, send.address, "{token:?}: Sent gives the same Output back");
                if let Ok(len) = result
                    && (send.left > 0 || output.trains().is_empty())
                {
                    assert!((1..=send.left).contains(len), "{completion:?} of {}", send.left);
                }
            }
            Completion::Closed { .. } => {
                assert!(account.closing, "{completion:?} unasked");
                let owed = account.owed();
                assert!(owed.is_empty(), "{completion:?} before the answers to {owed:?}");
                account.closed = true;
            }
        }
    }

    /// Tokens that were not asked to close.
    pub(super) fn open(&self) -> Vec<Token> {
        let open = self.accounts.iter().filter(|(_, account)| !account.closing);
        open.map(|(&(slot, generation), _)| Token { slot, generation }).collect()
    }

    /// What was asked and not answered, for all Tokens.
    pub(super) fn owed(&self) -> Vec<String> {
        let accounts = self.accounts.iter();
        accounts
            .flat_map(|(key, account)| {
                let closed = (account.closing && !account.closed).then_some("Close");
                let owed = account.owed().into_iter().chain(closed);
                owed.map(move |owed| format!("{owed} of {key:?}"))
            })
            .collect()
    }

    pub(super) fn receives(&self, token: Token) -> bool {
        let account = self.accounts.get(&key(token));
        account.is_some_and(|account| account.receive.is_some() || account.exact.is_some())
    }

    pub(super) fn sends(&self, token: Token) -> bool {
        self.accounts.get(&key(token)).is_some_and(|account| account.send.is_some())
    }

    pub(super) fn is_closing(&self, token: Token) -> bool {
        self.accounts.get(&key(token)).is_some_and(|account| account.closing)
    }
}

impl Account {
    fn owed(&self) -> Vec<&'static str> {
        let owed = [
            (self.accept, "Accept"),
            (self.connect, "Connect"),
            (self.receive.is_some(), "Receive"),
            (self.exact.is_some(), "ReceiveExact"),
            (self.send.is_some(), "Send"),
        ];
        owed.into_iter().filter_map(|(owed, name)| owed.then_some(name)).collect()
    }
}

fn key(token: Token) -> (u32, u32) {
    (token.slot, token.generation)
}

pub(super) fn answered_token(completion: &Completion) -> Token {
    match completion {
        Completion::Accepted { token, .. }
        | Completion::AcceptEnded { token, .. }
        | Completion::Connected { token, .. }
        | Completion::Received { token, .. }
        | Completion::Datagrams { token, .. }
        | Completion::PeerFailed { token, .. }
        | Completion::ReceiveEnded { token, .. }
        | Completion::ReceivedExact { token, .. }
        | Completion::Sent { token, .. }
        | Completion::Closed { token } => *token,
    }
}
