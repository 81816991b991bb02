//! The result as CSV: one figure a line, for spreadsheets and data frames.
//!
//! Above: `report` writes it. Below: `measurement`. Absent: the run's manifest (JSON has it).
//! Columns: class, measure, unit, percentile, value, low_95, high_95, samples_above. A figure that
//! is not known is an empty field.

use std::fmt::Write;

use crate::class_books::ClassBooks;
use crate::ledger::Ledger;
use crate::measurement::{Measurement, Row};
use crate::tcp_counters::TcpCounters;

/// The name of what is counted over all classes.
const ALL: &str = "(all)";

/// The whole file.
pub(crate) fn document(measurement: &Measurement) -> String {
    let mut out =
        String::from("class,measure,unit,percentile,value,low_95,high_95,samples_above\n");
    for (number, (class, books)) in measurement.classes().enumerate() {
        let name = &class.name;
        of_class(&mut out, measurement, name, books);
        if let Some(oldest_ns) = measurement.books.timeline.longest_wait_ns(number) {
            let _ = writeln!(out, "{name},oldest_waiting,ns,,{oldest_ns},,,");
            let _ = writeln!(out, "{name},inversions,messages,,{},,,", books.inversions);
        }
    }
    if let Some(tcp) = &measurement.tcp {
        let TcpCounters { segments_sent, segments_retransmitted } = tcp.total;
        let _ = writeln!(out, "{ALL},tcp_sent,segments,,{segments_sent},,,");
        let _ = writeln!(out, "{ALL},tcp_retransmitted,segments,,{segments_retransmitted},,,");
    }
    if measurement.books.classes.len() > 1 {
        of_class(&mut out, measurement, ALL, &measurement.overall);
    }
    for row in measurement.rows().iter().filter(|row| row.key == "lag") {
        latency(&mut out, ALL, row);
    }
    out
}

fn of_class(out: &mut String, measurement: &Measurement, name: &str, books: &ClassBooks) {
    for row in measurement.rows_of(books) {
        latency(out, name, &row);
    }
    ledger(out, name, "messages", &books.account.messages);
    ledger(out, name, "bytes", &books.account.bytes);
}

fn latency(out: &mut String, class: &str, row: &Row<'_>) {
    let shown = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    let key = row.key;
    for percentile in &row.percentiles {
        let (low, high) = percentile.interval_ns.unzip();
        let _ = writeln!(
            out,
            "{class},{key},ns,{},{},{},{},{}",
            percentile.share * 100.0,
            shown(percentile.value_ns),
            shown(low),
            shown(high),
            percentile.above
        );
    }
    let _ = writeln!(out, "{class},{key},ns,100,{},,,0", shown(row.max_ns));
}

fn ledger(out: &mut String, class: &str, unit: &str, ledger: &Ledger) {
    let places = [
        ("scheduled", ledger.scheduled),
        ("skipped", ledger.skipped.total()),
        ("submitted", ledger.submitted),
        ("refused", ledger.refused),
        ("expired", ledger.expired),
        ("unsent", ledger.unsent),
        ("sent", ledger.sent),
        ("on_time", ledger.on_time),
        ("late", ledger.late),
        ("lost", ledger.lost),
        ("in_flight", ledger.in_flight),
    ];
    for (place, count) in places {
        let _ = writeln!(out, "{class},{place},{unit},,{count},,,");
    }
}
