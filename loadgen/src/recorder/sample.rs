//! Looks at the books while they are written: how long messages have waited, what the view shows.
//!
//! Above: `worker` asks a few times a second. Below: the books' own lists. Absent: any search: a
//! look takes the same time however many messages are open.

use super::Recorder;
use crate::live::Live;

impl Recorder {
    /// Notes in the timeline how long the oldest message of each class has waited for the kernel,
    /// and publishes what the view shows.
    pub(crate) fn sample(&mut self, now_ns: u64, live: &Live) {
        let at_ns = now_ns.checked_sub(self.bounds.warmup_ns);
        for (class, waiting) in self.waiting.iter().enumerate() {
            let age_ns = waiting.oldest_ns().map_or(0, |since_ns| now_ns.saturating_sub(since_ns));
            if let Some(at_ns) = at_ns.filter(|_| now_ns < self.bounds.end_ns) {
                self.timeline.waited(at_ns, class, age_ns);
            }
        }
        for (number, (class, counts)) in live.classes.iter().zip(&self.views).enumerate() {
            class.publish(counts, self.waiting.get(number).map_or(0, |waiting| waiting.count()));
        }
    }
}
