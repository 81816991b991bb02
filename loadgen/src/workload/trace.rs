//! Traces: a list of Messages with their times, from a file.
//!
//! Above: `pace` plays it. Below: nothing. Absent: reading the file (its text is an argument).
//! Bound: `LINES_MAX` Messages.

use super::{SIZE_MAX, Workload};
use crate::quantity;

/// Most Messages of one trace.
const LINES_MAX: usize = 4 << 20;

/// One Message of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    /// When it is meant to leave, in nanoseconds since the start of the trace.
    pub(crate) at_ns: u64,
    /// Its payload.
    pub(crate) bytes: u32,
    /// Its class, by number.
    pub(crate) class: u8,
    /// Its deadline after the intended send, if the line has one, in nanoseconds.
    pub(crate) deadline_ns: Option<u64>,
}

/// Parses lines of `seconds,size[,class[,lifetime]]`, rising in time; `#` begins a comment.
pub(crate) fn parse(text: &str, workload: &Workload) -> Result<Vec<Line>, String> {
    let mut lines: Vec<Line> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let parsed = one(line, workload).map_err(|why| format!("line {}: {why}", at + 1))?;
        if lines.last().is_some_and(|before| before.at_ns > parsed.at_ns) {
            return Err(format!("line {}: its time is before that of the line above", at + 1));
        }
        if lines.len() == LINES_MAX {
            return Err(format!("line {}: a trace has at most {LINES_MAX} messages", at + 1));
        }
        lines.push(parsed);
    }
    if lines.is_empty() { Err("no messages in it".to_owned()) } else { Ok(lines) }
}

fn one(line: &str, workload: &Workload) -> Result<Line, String> {
    let words: Vec<&str> = line.split(',').map(str::trim).collect();
    let (Some(seconds), Some(size), true) = (words.first(), words.get(1), words.len() <= 4) else {
        return Err("write seconds,size[,class[,lifetime]], as in 0.25,1400,bulk,20ms".to_owned());
    };
    let at_s = seconds.parse::<f64>().ok().filter(|at_s| (0.0..=86_400.0).contains(at_s));
    let at_s = at_s.ok_or_else(|| format!("{seconds:?} is no time in seconds within a day"))?;
    let bytes = size.parse::<u32>().ok().filter(|bytes| *bytes <= SIZE_MAX);
    let bytes = bytes.ok_or_else(|| format!("{size:?} is no size in bytes up to 16 MiB"))?;
    let class = match words.get(2) {
        None => 0,
        Some(name) => {
            let mut classes = workload.classes.iter();
            let found = classes.position(|class| class.name == *name);
            found.ok_or_else(|| format!("there is no class {name:?}; --class makes one"))? as u8
        }
    };
    let lifetime = words.get(3).map(|text| quantity::span(text)).transpose()?;
    let deadline = lifetime.or_else(|| workload.classes[usize::from(class)].deadline);
    Ok(Line {
        at_ns: (at_s * 1e9).round() as u64,
        bytes: bytes.max(workload.least_bytes()),
        class,
        deadline_ns: deadline.map(|deadline| deadline.as_nanos() as u64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Workload {
        let none = |_: &str| Err("no files".to_owned());
        let classes = ["name=urgent", "name=bulk,lifetime=1s"].map(ToOwned::to_owned);
        Workload::of_flags(&classes, &none).expect("two classes")
    }

    #[test]
    fn a_trace_gives_time_size_class_and_deadline() {
        let text = "# sockperf\n0.0,64\n0.5,1400,bulk\n\n0.5,99,urgent,20ms # later\n";
        let lines = parse(text, &two()).expect("a trace");
        assert_eq!(
            lines.iter().map(|l| l.at_ns).collect::<Vec<_>>(),
            [0, 500_000_000, 500_000_000]
        );
        assert_eq!(lines.iter().map(|l| l.class).collect::<Vec<_>>(), [0, 1, 0]);
        let deadlines = lines.iter().map(|l| l.deadline_ns).collect::<Vec<_>>();
        assert_eq!(deadlines, [None, Some(1_000_000_000), Some(20_000_000)]);
    }

    #[test]
    fn a_malformed_trace_is_said_with_its_line() {
        let faults = [
            ("", "no messages"),
            ("0,64\n5\n", "line 2: write seconds,size"),
            ("x,64\n", "line 1: \"x\" is no time"),
            ("0,64\n1,-5\n", "line 2: \"-5\" is no size"),
            ("1,64\n0,64\n", "line 2: its time is before"),
            ("1,64,voice\n", "line 1: there is no class \"voice\""),
            ("1,64,bulk,5\n", "line 1: not a time"),
        ];
        for (text, hint) in faults {
            let fault = parse(text, &two()).expect_err(text);
            assert!(fault.contains(hint) && !fault.contains('\n'), "{text:?}: {fault}");
        }
    }
}
