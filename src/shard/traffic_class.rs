//! Traffic class: which DSCP code point the packets of a connection carry (draft §2.2, Niceness:
//! "may be translated to a priority signal for exposure to path elements").
//!
//! Above: the builder takes a table from niceness to code point. Below: the shard tells the socket
//! before the first bytes of a more urgent class leave. A connection carries the code point of the
//! most urgent class it has ever used: packets of one connection with several code points may
//! overtake each other, which its transport takes for loss. Datagrams follow in no order anyway:
//! each carries the code point of its own class.
//! Absent: what a path does with it. Bound: `ENTRIES_MAX` entries.

use super::Shard;
use super::core::{Core, Id};
use crate::engine::operation::Operation;
use crate::engine::socket_option::SocketOption;
use crate::error::{Error, Result};

/// The most entries of a table.
const ENTRIES_MAX: usize = 64;
/// The largest DSCP code point.
const CODE_POINT_MAX: u8 = 63;

/// A table from niceness to code point.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrafficClasses(Vec<(u32, u8)>);

impl TrafficClasses {
    /// # Errors
    /// [`Error::Configuration`] for a code point above 63, two for one niceness, or too many.
    pub(crate) fn new(mut entries: Vec<(u32, u8)>) -> Result<Self> {
        let wrong = |why: String| Err(Error::Configuration(format!("traffic_classes: {why}")));
        if entries.len() > ENTRIES_MAX {
            return wrong(format!("{} entries, at most {ENTRIES_MAX}", entries.len()));
        }
        if let Some((niceness, point)) = entries.iter().find(|(_, point)| *point > CODE_POINT_MAX) {
            return wrong(format!(
                "code point {point} for niceness {niceness}; DSCP has 0 to {CODE_POINT_MAX} \
                 (a TOS byte is four times the code point)"
            ));
        }
        entries.sort_unstable();
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let (niceness, one, other) = (pair[0].0, pair[0].1, pair[1].1);
            return wrong(format!("niceness {niceness} has two code points, {one} and {other}"));
        }
        Ok(Self(entries))
    }

    /// The code point of a class: that of the nearest entry at or above it in urgency.
    fn of(&self, niceness: u32) -> u8 {
        let behind = self.0.partition_point(|(from, _)| *from <= niceness);
        self.0[..behind].last().map_or(0, |(_, point)| *point)
    }
}

impl Core {
    /// The code point of a datagram of class `niceness`, if packets are marked.
    #[inline]
    pub(crate) fn traffic_class(&self, niceness: u32) -> Option<u8> {
        self.traffic_classes.get().map(|classes| classes.of(niceness))
    }
}

impl Shard {
    /// Tells the socket which code point its packets carry from now on, if that changes.
    pub(super) fn mark(&mut self, id: Id) {
        let Some(classes) = self.core.traffic_classes.get() else { return };
        let token = self.token(id);
        let point = {
            let mut state = self.core.state.borrow_mut();
            let connection = &mut state.slots[id.slot as usize];
            if connection.flags.datagrams {
                return;
            }
            let outgoing = connection.outgoing.as_ref();
            let niceness = outgoing.and_then(|outgoing| outgoing.best_niceness()).unwrap_or(0);
            let marked = &mut connection.rare().marked_niceness;
            let before = marked.map_or(0, |before| classes.of(before));
            let most_urgent = marked.map_or(niceness, |before| before.min(niceness));
            *marked = Some(most_urgent);
            let point = classes.of(most_urgent);
            (point != before).then_some(point)
        };
        if let Some(point) = point {
            let option = SocketOption::TrafficClass(point);
            self.driver.submit(Operation::Tune { token, option });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_has_the_code_point_of_the_nearest_entry_before_it() {
        let classes = TrafficClasses::new(vec![(3, 8), (0, 46), (1, 34)]).unwrap();
        let found = [0, 1, 2, 3, u32::MAX].map(|niceness| classes.of(niceness));
        assert_eq!(found, [46, 34, 34, 8, 8]);
        assert_eq!(TrafficClasses::new(vec![(2, 8)]).unwrap().of(1), 0);
        assert_eq!(TrafficClasses::default().of(7), 0);
    }

    #[test]
    fn a_table_that_cannot_be_is_refused_with_the_culprit() {
        let why = |entries| TrafficClasses::new(entries).unwrap_err().to_string();
        assert!(why(vec![(0, 184)]).contains("code point 184"), "{}", why(vec![(0, 184)]));
        assert!(why(vec![(1, 8), (1, 10)]).contains("niceness 1 has two"));
        assert!(why((0..65).map(|niceness| (niceness, 0)).collect()).contains("65 entries"));
    }
}
