//! The latencies as an HdrHistogram log (version 1.3, V2 compressed): whole histograms, to be
//! merged and cut anew by other tools.
//!
//! Above: `report` writes it. Below: the crate hdrhistogram. Values are nanoseconds, the maximum of
//! a line is in milliseconds, as is the custom. One line for each class and kind of time, tagged
//! `class`, `class.service`, `class.wait`. Absent: the ledger.

use std::time::Duration;

use anyhow::{Result, anyhow};
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::measurement::Measurement;

/// Nanoseconds of a millisecond: the unit of a line's maximum.
const MAX_DIVISOR: f64 = 1e6;

/// The whole file.
///
/// # Errors
/// Only if a histogram cannot be written.
pub(crate) fn document(measurement: &Measurement) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let environment = &measurement.environment;
    let mut builder = IntervalLogWriterBuilder::new();
    builder
        .add_comment(&format!("[postring loadgen {}; times in ns]", environment.version))
        .with_start_time(environment.started)
        .with_base_time(environment.started)
        .with_max_value_divisor(MAX_DIVISOR);
    let mut log = builder.begin_log_with(&mut out, &mut serializer)?;
    let start = measurement.plan.warmup;
    let length = Duration::from_nanos(measurement.measured_ns);
    for (class, books) in measurement.classes() {
        for row in measurement.rows_of(books) {
            let name = class.name.replace(' ', "_");
            let tag = if row.key == "response" { name } else { format!("{name}.{}", row.key) };
            let tag = Tag::new(&tag).ok_or_else(|| anyhow!("{tag:?} is no tag of a log"))?;
            log.write_histogram(row.latencies.histogram(), start, length, Some(tag))
                .map_err(|why| anyhow!("cannot write a histogram: {why:?}"))?;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::V2DeflateSerializer;
    use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

    use crate::histogram::Latencies;

    /// Counts of a log's line read by a second implementation: base64, then the cookie and the
    /// length of a V2 compressed histogram.
    #[test]
    fn a_line_is_a_compressed_histogram_of_version_2() {
        let mut latencies = Latencies::new();
        [1_000, 2_000, 3_000].into_iter().for_each(|time_ns| latencies.record(time_ns));
        let mut out = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        let mut log = IntervalLogWriterBuilder::new()
            .begin_log_with(&mut out, &mut serializer)
            .expect("a vector takes everything");
        let second = std::time::Duration::from_secs(1);
        log.write_histogram(latencies.histogram(), second, second, None).expect("room");
        let text = String::from_utf8(out).expect("a log is text");
        let line = text.lines().last().expect("one line");
        // The cookie 0x1c849314 in base64 begins so.
        assert!(line.starts_with("1.0") && line.contains(",HISTFAAA"), "{line}");
    }
}
