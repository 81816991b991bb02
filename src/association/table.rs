//! Table: the Associations of one core, made when they are asked for and forgotten in the end.
//!
//! Above: the core enters and leaves with its Carriers. Below: a map and the order of those
//! without Carriers. Absent: the Carriers themselves. Bound: `Limits::associations`; when there
//! are more, those without Carriers go, the one unused for longest first. Those with Carriers
//! stay: their number is bounded by that of Carriers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::path::Paths;
use super::{Key, Measurement, Path};

/// The Associations of one core.
#[derive(Debug, Default)]
pub(crate) struct Table {
    associations_max: usize,
    records: HashMap<Arc<Key>, Record>,
    /// Those without Carriers, by the time of their last use.
    idle: BTreeMap<u64, Arc<Key>>,
    /// Uses so far: the clock of `idle`.
    uses: u64,
    /// Those of accepted Carriers.
    accepted: usize,
}

#[derive(Debug, Default)]
struct Record {
    carriers: usize,
    /// Its place in `idle`, while it has no Carriers.
    used: u64,
    paths: Paths,
}

impl Table {
    pub(crate) fn new(associations_max: usize) -> Self {
        Self { associations_max, ..Self::default() }
    }

    /// One more Carrier belongs to it; it is made if it is not there.
    pub(crate) fn enter(&mut self, key: Arc<Key>) -> Arc<Key> {
        let known = self.records.get_key_value(&key).map(|(known, _)| Arc::clone(known));
        let key = known.unwrap_or(key);
        let record = self.records.entry(Arc::clone(&key)).or_default();
        if record.carriers == 0 && self.idle.remove(&record.used).is_none() {
            self.accepted += usize::from(key.is_accepted());
        }
        record.carriers += 1;
        self.trim();
        key
    }

    /// One Carrier less belongs to it.
    pub(crate) fn leave(&mut self, key: &Arc<Key>) {
        let Some(record) = self.records.get_mut(key) else { return };
        record.carriers -= 1;
        if record.carriers == 0 {
            self.uses += 1;
            record.used = self.uses;
            self.idle.insert(self.uses, Arc::clone(key));
            self.trim();
        }
    }

    fn trim(&mut self) {
        while self.records.len() > self.associations_max {
            let Some((_, key)) = self.idle.pop_first() else { return };
            self.records.remove(&key);
            self.accepted -= usize::from(key.is_accepted());
        }
    }

    /// True if it has any of accepted Carriers.
    pub(crate) const fn has_accepted(&self) -> bool {
        self.accepted > 0
    }

    /// Takes note of a Path of one that is there.
    pub(crate) fn note(&mut self, key: &Key, measured: Measurement, now_ms: u64) {
        if let Some(record) = self.records.get_mut(key) {
            record.paths.note(measured, now_ms);
        }
    }

    /// The Paths that it remembers, the latest first; none if it was forgotten.
    pub(crate) fn paths(&self, key: &Key, now_ms: u64) -> Vec<Path> {
        self.records.get(key).map_or_else(Vec::new, |record| record.paths.list(now_ms))
    }
}

#[cfg(test)]
mod tests {
    use std::any::TypeId;

    use super::*;

    fn to(port: u16) -> Arc<Key> {
        let key =
            Key::initiated(format!("tcp://[::1]:{port}").parse().unwrap(), TypeId::of::<u8>());
        key.into()
    }

    fn from(host: u8) -> Arc<Key> {
        Key::accepted([10, 0, 0, host].into(), None, TypeId::of::<u8>()).into()
    }

    fn knows(table: &Table, key: &Key) -> bool {
        assert!(table.idle.len() <= table.records.len());
        table.records.contains_key(key)
    }

    #[test]
    fn the_one_without_carriers_that_was_unused_for_longest_goes() {
        let mut table = Table::new(3);
        let [one, two, three] = [1, 2, 3].map(|port| table.enter(to(port)));
        table.leave(&two);
        table.leave(&one);
        table.leave(&three);
        // Used again, so younger than the third.
        let again = table.enter(to(2));
        table.leave(&again);
        table.enter(to(4));
        assert!(!knows(&table, &one));
        assert!(knows(&table, &two) && knows(&table, &three));
        table.enter(to(5));
        assert!(!knows(&table, &three));
        assert_eq!(table.records.len(), 3);
    }

    #[test]
    fn carriers_keep_theirs_beyond_the_bound() {
        let mut table = Table::new(1);
        let keys: Vec<_> = (1..=5).map(|port| table.enter(to(port))).collect();
        let first_again = table.enter(to(1));
        assert_eq!(table.records.len(), 5);
        keys.iter().for_each(|key| table.leave(key));
        assert_eq!(table.records.len(), 1, "{table:?}");
        assert!(knows(&table, &first_again), "it has a Carrier left");
        table.leave(&first_again);
        assert!(knows(&table, &first_again), "there is room for it");
    }

    #[test]
    fn paths_stay_when_the_carriers_have_left_and_go_with_the_association() {
        let mut table = Table::new(1);
        let key = table.enter(to(1));
        table.note(&key, Measurement { round_trip_us: Some(5), ..Measurement::default() }, 10);
        table.leave(&key);
        assert_eq!(table.paths(&key, 15).len(), 1);
        table.enter(to(2));
        assert!(table.paths(&key, 15).is_empty());
        table.note(&key, Measurement::default(), 20);
        assert!(table.paths(&key, 20).is_empty(), "a note makes none");
    }

    #[test]
    fn it_knows_whether_it_has_any_of_accepted_carriers() {
        let mut table = Table::new(1);
        table.enter(to(1));
        assert!(!table.has_accepted());
        let (host, again) = (table.enter(from(1)), table.enter(from(1)));
        assert!(table.has_accepted());
        table.leave(&host);
        table.leave(&again);
        assert!(!table.has_accepted(), "forgotten: the bound is reached");
    }
}
