//! The books of several workers of one run as one.
//!
//! Above: `measurement`. Below: what each part of the books adds up to. Absent: what only the one
//! worker knows: open messages, connections.

use super::{Disconnection, Recorder};
use crate::class_books::ClassBooks;

impl Recorder {
    /// Adds what another worker of the same run counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.warmup.merge(&other.warmup);
        for (own, other) in self.classes.iter_mut().zip(&other.classes) {
            own.merge(other);
        }
        self.submitted_in_time += other.submitted_in_time;
        self.lag.merge(&other.lag);
        self.timeline.merge(&other.timeline);
        if let (Some(own), Some(other)) = (&mut self.slowdowns, &other.slowdowns) {
            own.merge(other);
        }
        self.strays.merge(&other.strays);
        self.disconnections += other.disconnections;
        let first = |d: &Disconnection| d.at_ns;
        let both = [self.first_disconnection.take(), other.first_disconnection.clone()];
        self.first_disconnection = both.into_iter().flatten().min_by_key(first);
    }

    /// The measured part, over all classes.
    pub(crate) fn all_classes(&self) -> ClassBooks {
        let mut all = ClassBooks::new();
        self.classes.iter().for_each(|class| all.merge(class));
        all
    }
}
