//! The books of one class: where its messages went and how long they took.
//!
//! Above: `recorder` writes them, `measurement` reads them. Below: `ledger`, `histogram`.
//! Absent: single messages; the warm-up.

use serde::{Deserialize, Serialize};

use crate::histogram::Latencies;
use crate::ledger::Account;

/// What was counted of the measured messages of one class.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ClassBooks {
    /// Where each went.
    pub(crate) account: Account,
    /// Reply minus intended send.
    pub(crate) response: Latencies,
    /// Reply minus actual send: to the kernel if it is watched, else to the engine.
    pub(crate) service: Latencies,
    /// From the engine to the kernel, if it is watched: the time spent behind others.
    pub(crate) wait: Latencies,
    /// Messages handed to the kernel while one of a more urgent class waited on their connection.
    pub(crate) inversions: u64,
}

impl ClassBooks {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            account: Account::default(),
            response: Latencies::new(),
            service: Latencies::new(),
            wait: Latencies::new(),
            inversions: 0,
        }
    }

    /// Adds what another worker counted of the same class.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.account.merge(&other.account);
        self.response.merge(&other.response);
        self.service.merge(&other.service);
        self.wait.merge(&other.wait);
        self.inversions += other.inversions;
    }
}
