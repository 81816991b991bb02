//! Looks at the books while they are written: how long messages have waited, what the view shows.
//!
//! Above: `worker` asks a few times a second. Below: the books' own lists. Absent: any search: a
//! look takes the same time however many messages are open.

use super::Recorder;
use crate::live::Live;

impl Recorder {
    /// Notes in the timeline how long the oldest message of each class has waited for the kernel,
    /// publishes what the view shows, and gives up datagrams that are lost.
    pub(crate) fn sample(&mut self, now_ns: u64, live: &Live) {
        self.give_up(now_ns);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::live::ClassView;
    use crate::pace::Due;
    use crate::recorder::Bounds;
    use crate::workload::{Kind, NEVER_NS, Workload};

    const END_NS: u64 = 1_000_000_000;

    fn books() -> Recorder {
        let classes = ["name=urgent,share=50%,lifetime=1s", "name=bulk,niceness=2"];
        let none = |_: &str| Err(String::new());
        let workload = Workload::of_flags(&classes.map(ToOwned::to_owned), &none);
        let workload = Arc::new(workload.expect("two classes"));
        let (warmup_ns, end_ns) = (0, END_NS);
        let (connections, depth, closed_loop, patience_ns, scale) = (2, 4, false, None, None);
        Recorder::new(Bounds {
            connections,
            depth,
            workload,
            warmup_ns,
            end_ns,
            closed_loop,
            patience_ns,
            scale,
        })
    }

    fn send(books: &mut Recorder, class: u8, connection: u32, now_ns: u64) -> (Vec<u8>, u64) {
        let kind = Kind { class, bytes: 64, deadline_ns: NEVER_NS };
        let mut payload = vec![0; 64];
        let due = Due { intended_ns: now_ns, connection, kind };
        let number = books.admit(&due, now_ns, &mut payload).expect("room");
        (payload, number)
    }

    /// The longest wait of both classes in the stretch of each look.
    fn look(books: &mut Recorder, live: &Live, now_ns: u64) -> Vec<u64> {
        books.sample(now_ns, live);
        let at = (now_ns / books.timeline.interval_ns()) as usize;
        books.timeline.intervals()[at].waited_ns.clone()
    }

    /// Whether a message was sent, expired, answered or lost: it waits no more, whoever is next.
    #[test]
    fn the_oldest_waits_until_something_becomes_of_it() {
        let (mut books, live) = (books(), Live::new(2));
        let (_, sent) = send(&mut books, 1, 0, 1_000_000);
        let (_, expires) = send(&mut books, 1, 0, 2_000_000);
        let (answered, _) = send(&mut books, 1, 0, 3_000_000);
        send(&mut books, 1, 1, 4_000_000);
        assert_eq!(look(&mut books, &live, 10_000_000), [0, 9_000_000]);
        assert_eq!(ClassView::of(&[live], 1).waiting, 4);
        let live = Live::new(2);
        books.sent(0, sent, 60_000_000);
        assert_eq!(look(&mut books, &live, 60_000_000), [0, 58_000_000]);
        books.expired(0, expires);
        assert_eq!(look(&mut books, &live, 110_000_000), [0, 107_000_000]);
        books.replied(0, &answered, 120_000_000, None);
        assert_eq!(look(&mut books, &live, 160_000_000), [0, 156_000_000]);
        books.disconnected(1, 170_000_000, String::new());
        assert_eq!(look(&mut books, &live, 210_000_000), [0, 0]);
        let view = ClassView::of(&[live], 1);
        assert_eq!((view.waiting, view.received), (0, 1));
        assert_eq!(books.timeline.longest_wait_ns(1), Some(156_000_000));
    }

    #[test]
    fn what_is_after_the_end_is_not_in_the_timeline() {
        let (mut books, live) = (books(), Live::new(2));
        send(&mut books, 0, 0, 1_000_000);
        books.sample(END_NS, &live);
        assert_eq!(books.timeline.longest_wait_ns(0), None);
    }
}
