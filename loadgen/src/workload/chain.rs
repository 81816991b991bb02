//! Chains: Messages of which each follows the one before it.
//!
//! Above: `worker` asks what a Message follows. Below: nothing. Absent: what the engine does with
//! it: it keeps the order whatever the niceness, and discards what follows a discarded Message.
//! A chain is one connection's; all classes with a chain share it.

/// Longest chain, in Messages.
const LENGTH_MAX: u32 = 1_000_000;

/// How long a chain is, as typed.
pub(super) fn length(text: &str) -> Result<u32, String> {
    let length = text.parse().ok().filter(|length| (2..=LENGTH_MAX).contains(length));
    length.ok_or_else(|| format!("{text:?} is no whole number from 2 to {LENGTH_MAX}"))
}

/// The chains of one generator; `M` is what the engine calls a Message.
#[derive(Debug)]
pub(crate) struct Chains<M> {
    length: u32,
    /// Of each connection: the last Message of its chain, and how many there are in it.
    last: Vec<Option<(M, u32)>>,
}

impl<M: Copy> Chains<M> {
    /// Chains of `length` Messages on so many connections.
    pub(crate) fn new(length: u32, connections: u32) -> Self {
        Self { length, last: vec![None; connections as usize] }
    }

    /// What the next Message of a connection follows; `None`: it begins a chain.
    pub(crate) fn antecedent(&self, connection: u32) -> Option<M> {
        let last = self.last.get(connection as usize).copied().flatten();
        last.filter(|(_, count)| *count < self.length).map(|(message, _)| message)
    }

    /// The engine took the next Message of a connection.
    pub(crate) fn taken(&mut self, connection: u32, message: M) {
        let count = match self.last.get(connection as usize) {
            Some(Some((_, count))) if *count < self.length => count + 1,
            _ => 1,
        };
        if let Some(last) = self.last.get_mut(connection as usize) {
            *last = Some((message, count));
        }
    }

    /// The chain of a connection goes no further: a Message was not taken, or its Carrier is
    /// another one.
    pub(crate) fn broken(&mut self, connection: u32) {
        if let Some(last) = self.last.get_mut(connection as usize) {
            *last = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_follows_the_one_before_up_to_the_length() {
        let mut chains = Chains::new(3, 2);
        let mut antecedents = Vec::new();
        for message in 0..7 {
            antecedents.push(chains.antecedent(0));
            chains.taken(0, message);
        }
        assert_eq!(antecedents, [None, Some(0), Some(1), None, Some(3), Some(4), None]);
        assert_eq!(chains.antecedent(1), None, "another connection, another chain");
        chains.broken(0);
        assert_eq!(chains.antecedent(0), None);
    }

    #[test]
    fn a_length_is_a_whole_number_from_2() {
        assert_eq!(length("8"), Ok(8));
        for wrong in ["1", "0", "-3", "x", "", "1000001"] {
            assert!(length(wrong).is_err_and(|why| why.contains("from 2")), "{wrong}");
        }
    }
}
