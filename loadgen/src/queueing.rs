//! Queueing theory: how long messages wait for one link that takes each the same time.
//!
//! Above: `scenario::theory` holds a lab against it, tests hold the schedules against it. Below:
//! nothing. Absent: measuring. A wait ends when the message begins to leave, so a message on an
//! idle link has none. Times are nanoseconds.

use std::collections::VecDeque;

/// A link that takes each message the same time, and never stops one that has begun.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Link {
    /// What it takes for a message.
    pub(crate) service_ns: f64,
    /// How much of that it has ready when it was idle: a token bucket with more than a message.
    pub(crate) credit_ns: f64,
    /// Messages that have their place in the order while they wait: nothing overtakes them.
    pub(crate) committed: usize,
}

/// What messages of one class waited.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Waits {
    sum_ns: f64,
    /// How many there were.
    pub(crate) count: u64,
    /// How many of them left at once.
    pub(crate) at_once: u64,
}

impl Waits {
    /// The mean; 0 of none.
    pub(crate) fn mean_ns(&self) -> f64 {
        self.sum_ns / self.count.max(1) as f64
    }
}

/// Mean wait of Poisson arrivals at `load` (below 1) in the order of their arrival, M/D/1: after
/// Pollaczek and Khinchine, the load times the service time over twice what is left.
pub(crate) fn one_class_ns(load: f64, service_ns: f64) -> f64 {
    load * service_ns / 2.0 / (1.0 - load)
}

/// The same of two classes of equal shares, the first always before the second: after Cobham, what
/// is left of the message that has begun, over what is left by those that go first.
pub(crate) fn two_classes_ns(load: f64, service_ns: f64) -> [f64; 2] {
    let (rest, first) = (load * service_ns / 2.0, 1.0 - load / 2.0);
    [rest / first, rest / first / (1.0 - load)]
}

/// What these arrivals wait for the link, by class, the smaller number first: times and classes,
/// rising. Those before `from_ns` are not counted.
pub(crate) fn replay(
    link: &Link,
    classes: usize,
    from_ns: u64,
    arrivals: impl Iterator<Item = (u64, u8)>,
) -> Vec<Waits> {
    let mut queue = Queue::new(link, classes);
    for (at_ns, class) in arrivals {
        queue.run_until(at_ns as f64, from_ns);
        queue.classes[usize::from(class)].push_back(at_ns);
        queue.commit(at_ns as f64);
    }
    queue.run_until(f64::INFINITY, from_ns);
    queue.waits
}

/// A link at work.
struct Queue<'l> {
    link: &'l Link,
    /// Those that wait, each with its time of arrival.
    classes: Vec<VecDeque<u64>>,
    /// Those of them that have their place, with their class.
    committed: VecDeque<(u64, usize)>,
    /// When all that has left has been paid for.
    paid_ns: f64,
    now_ns: f64,
    waits: Vec<Waits>,
}

impl<'l> Queue<'l> {
    fn new(link: &'l Link, classes: usize) -> Self {
        Self {
            link,
            classes: vec![VecDeque::new(); classes],
            committed: VecDeque::new(),
            paid_ns: 0.0,
            now_ns: 0.0,
            waits: vec![Waits::default(); classes],
        }
    }

    /// Lets all leave that may before `until_ns`.
    fn run_until(&mut self, until_ns: f64, from_ns: u64) {
        loop {
            let leaves_ns = self.now_ns.max(self.paid_ns - self.link.credit_ns);
            if leaves_ns >= until_ns {
                return;
            }
            let Some((at_ns, class)) = self.committed.pop_front().or_else(|| self.first()) else {
                return;
            };
            self.now_ns = leaves_ns;
            self.paid_ns = self.paid_ns.max(leaves_ns) + self.link.service_ns;
            if at_ns >= from_ns {
                let (waits, wait_ns) = (&mut self.waits[class], leaves_ns - at_ns as f64);
                waits.sum_ns += wait_ns;
                waits.count += 1;
                waits.at_once += u64::from(wait_ns <= 0.0);
            }
            self.commit(leaves_ns);
        }
    }

    /// The first of the most urgent class.
    fn first(&mut self) -> Option<(u64, usize)> {
        let mut classes = self.classes.iter_mut().enumerate();
        classes.find_map(|(class, waiting)| Some((waiting.pop_front()?, class)))
    }

    /// Gives those who are next their places.
    fn commit(&mut self, now_ns: f64) {
        self.now_ns = self.now_ns.max(now_ns);
        while self.committed.len() < self.link.committed {
            let Some(first) = self.first() else { return };
            self.committed.push_back(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(credit_ns: f64, committed: usize) -> Link {
        Link { service_ns: 100.0, credit_ns, committed }
    }

    fn means(link: &Link, classes: usize, arrivals: &[(u64, u8)]) -> Vec<f64> {
        let waits = replay(link, classes, 0, arrivals.iter().copied());
        waits.iter().map(Waits::mean_ns).collect()
    }

    #[test]
    fn messages_leave_one_by_one() {
        assert_eq!(means(&link(0.0, 0), 1, &[(0, 0), (0, 0), (50, 0), (1_000, 0)]), [62.5]);
        let none_of_the_first = replay(&link(0.0, 0), 1, 10, [(0, 0), (50, 0)].into_iter());
        assert_eq!((none_of_the_first[0].mean_ns(), none_of_the_first[0].count), (50.0, 1));
    }

    #[test]
    fn those_that_find_it_idle_leave_at_once() {
        let arrivals = [(0, 0), (100, 0), (150, 0), (230, 0), (400, 0)];
        let at_once =
            |credit_ns: f64| replay(&link(credit_ns, 0), 1, 0, arrivals.into_iter())[0].at_once;
        assert_eq!((at_once(0.0), at_once(60.0)), (3, 4));
    }

    #[test]
    fn an_idle_link_lends_its_credit_once() {
        // Of four at once the second leaves 40 ns early, and so do all after it.
        assert_eq!(means(&link(40.0, 0), 1, &[(0, 0); 4]), [(60.0 + 160.0 + 260.0) / 4.0]);
        assert_eq!(means(&link(40.0, 0), 1, &[(0, 0), (70, 0)]), [0.0]);
    }

    #[test]
    fn urgent_messages_overtake_all_but_the_committed() {
        let arrivals = [(0, 1), (1, 1), (2, 1), (3, 0)];
        assert_eq!(means(&link(0.0, 0), 2, &arrivals), [97.0, (199.0 + 298.0) / 3.0]);
        assert_eq!(means(&link(0.0, 1), 2, &arrivals), [197.0, (99.0 + 298.0) / 3.0]);
        assert_eq!(means(&link(0.0, 2), 2, &arrivals), [297.0, (99.0 + 198.0) / 3.0]);
    }

    #[test]
    fn the_means_are_those_of_the_books() {
        let near = |found: f64, want: f64| assert!((found / want - 1.0).abs() < 1e-9, "{found}");
        near(one_class_ns(0.8, 120.0), 240.0);
        let [urgent, other] = two_classes_ns(0.8, 120.0);
        near(urgent, 80.0);
        near(other, 400.0);
    }
}
