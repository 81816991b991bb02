//! TCP segments sent and sent again, counted by the kernel for a whole network namespace.
//!
//! Above: `conduct` looks a few times a second, reports show the difference. Below: /proc, by way
//! of a generator's thread, whose namespace it is. Absent: single connections: the library tells a
//! share for each, but no counts. Bytes that the kernel has and no packet carried yet are not told
//! at all. Bound: one count for each stretch of the timeline.

use std::fs;

use serde::Serialize;

use crate::histogram::Timeline;

/// What the kernel has counted since the namespace was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct TcpCounters {
    /// Segments sent, those sent again not among them.
    pub(crate) segments_sent: u64,
    /// Segments sent again.
    pub(crate) segments_retransmitted: u64,
}

impl TcpCounters {
    /// Of the namespace of this process's thread `thread`; `None` where it is not told.
    fn read(thread: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/self/task/{thread}/net/snmp")).ok()?)
    }

    /// Two lines that begin with `Tcp:`: names, then values.
    fn parse(snmp: &str) -> Option<Self> {
        let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp:"));
        let (names, values) = (lines.next()?, lines.next()?);
        let value = |wanted: &str| {
            let mut pairs = names.split_ascii_whitespace().zip(values.split_ascii_whitespace());
            pairs.find(|(name, _)| *name == wanted)?.1.parse().ok()
        };
        Some(Self {
            segments_sent: value("OutSegs")?,
            segments_retransmitted: value("RetransSegs")?,
        })
    }

    fn since(self, before: Self) -> Self {
        Self {
            segments_sent: self.segments_sent.saturating_sub(before.segments_sent),
            segments_retransmitted: self
                .segments_retransmitted
                .saturating_sub(before.segments_retransmitted),
        }
    }
}

/// What was counted in the measured part of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct TcpSpan {
    /// All of it.
    pub(crate) total: TcpCounters,
    /// Segments sent again, by the stretch of the timeline in which that was seen.
    pub(crate) retransmitted: Vec<u64>,
}

/// Looks at the counters while a run goes on.
#[derive(Debug)]
pub(crate) struct TcpWatch {
    interval_ns: u64,
    last: Option<TcpCounters>,
    span: TcpSpan,
}

impl TcpWatch {
    /// Has seen nothing yet; the measured part takes `duration_ns`.
    pub(crate) fn new(duration_ns: u64) -> Self {
        let (interval_ns, count) = Timeline::stretches(duration_ns);
        let span = TcpSpan { retransmitted: vec![0; count], ..TcpSpan::default() };
        Self { interval_ns, last: None, span }
    }

    /// Looks, `at_ns` after the measured part began; `thread` is a generator's.
    pub(crate) fn look(&mut self, at_ns: u64, thread: u32) {
        if let Some(now) = TcpCounters::read(thread) {
            self.note(at_ns, now);
        }
    }

    fn note(&mut self, at_ns: u64, now: TcpCounters) {
        if let Some(before) = self.last.replace(now) {
            let new = now.since(before);
            let last = self.span.retransmitted.len() - 1;
            let stretch = ((at_ns / self.interval_ns) as usize).min(last);
            self.span.retransmitted[stretch] += new.segments_retransmitted;
            self.span.total.segments_sent += new.segments_sent;
            self.span.total.segments_retransmitted += new.segments_retransmitted;
        }
    }

    /// What was seen; `None` if that was nothing.
    pub(crate) fn span(self) -> Option<TcpSpan> {
        self.last.map(|_| self.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNMP: &str = "Ip: A B\nIp: 1 2\nTcp: RtoMin MaxConn InSegs OutSegs RetransSegs InErrs\n\
                        Tcp: 200 -1 90 100 7 0\nUdp: OutSegs\nUdp: 5\n";

    fn counters(sent: u64, again: u64) -> TcpCounters {
        TcpCounters { segments_sent: sent, segments_retransmitted: again }
    }

    #[test]
    fn values_stand_below_their_names() {
        assert_eq!(TcpCounters::parse(SNMP), Some(counters(100, 7)));
        assert_eq!(TcpCounters::parse("Tcp: OutSegs\n"), None);
        assert_eq!(TcpCounters::parse("Tcp: OutSegs RetransSegs\nTcp: 5 x\n"), None);
        assert_eq!(TcpCounters::parse(""), None);
    }

    #[test]
    fn what_is_new_falls_into_the_stretch_where_it_was_seen() {
        let mut watch = TcpWatch::new(1_000_000_000);
        watch.note(0, counters(1_000, 5));
        watch.note(60_000_000, counters(1_010, 5));
        watch.note(120_000_000, counters(1_020, 8));
        watch.note(5_000_000_000, counters(1_021, 9));
        let span = watch.span().expect("it has looked");
        assert_eq!(span.total, counters(21, 4));
        assert_eq!((span.retransmitted[2], span.retransmitted[19]), (3, 1));
        assert_eq!(span.retransmitted.iter().sum::<u64>(), 4);
        assert!(TcpWatch::new(1).span().is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_thread_is_in_a_namespace() {
        let thread = crate::environment::thread_number().expect("Linux numbers threads");
        assert!(TcpCounters::read(thread).is_some());
        assert!(TcpCounters::read(u32::MAX).is_none());
    }
}
