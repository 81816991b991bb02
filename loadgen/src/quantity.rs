//! Numbers with units, as people type them and as people read them.
//!
//! Above: `arguments` parses flags with these, the reports print with them.
//! Absent: clap; anything but text and numbers. Bound: every parser states its range.

use std::time::Duration;

/// The highest rate that can be asked for, in messages per second.
const RATE_MAX: f64 = 1e9;

/// Parses messages per second: `800`, `50k`, `1.5M`.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let (number, factor) = match text.trim_end_matches("/s") {
        t if t.ends_with(['k', 'K']) => (&t[..t.len() - 1], 1e3),
        t if t.ends_with(['m', 'M']) => (&t[..t.len() - 1], 1e6),
        t => (t, 1.0),
    };
    let value = number.parse::<f64>().map_err(|_| {
        "not a rate; write messages per second, for example 800, 50k or 1.5M".to_owned()
    })? * factor;
    if value.is_finite() && (1.0..=RATE_MAX).contains(&value) {
        Ok(value)
    } else {
        Err("a rate lies between 1 and 1000M messages per second".to_owned())
    }
}

/// Parses a time: `10s`, `250ms`, `50us`, `2m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit_s = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        _ => return Err("not a time; write it with a unit, for example 10s, 250ms or 2m".into()),
    };
    let number = number.parse::<f64>().map_err(|_| format!("{number:?} is not a number"))?;
    if !number.is_finite() || number < 0.0 || number * unit_s > 86_400.0 {
        return Err("a time lies between 0 and one day".to_owned());
    }
    Ok(Duration::from_secs_f64(number * unit_s))
}

/// Parses a time as `duration` does, but for 0.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("in no time nothing is measured; write for example 10s".to_owned()),
        span => Ok(span),
    }
}

/// Parses a payload length in bytes: `64`, `4KiB`, `1MiB`.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let (number, factor) = match text {
        t if t.ends_with("KiB") => (&t[..t.len() - 3], 1 << 10),
        t if t.ends_with("MiB") => (&t[..t.len() - 3], 1 << 20),
        t => (t.trim_end_matches('B'), 1),
    };
    let value = number
        .parse::<usize>()
        .map_err(|_| "not a size; write bytes, for example 64, 4KiB or 1MiB".to_owned())?;
    value
        .checked_mul(factor)
        .filter(|bytes| *bytes <= 16 << 20)
        .ok_or_else(|| "a message has at most 16MiB".to_owned())
}

/// Parses a share: `5%`, `0.05`.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let (number, whole) = match text.strip_suffix('%') {
        Some(number) => (number.trim_end(), 100.0),
        None => (text, 1.0),
    };
    let share = number.parse::<f64>().ok().map(|number| number / whole);
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("{text:?} is no share; write 0 % to 100 %, for example 5% or 0.05"))
}

/// Parses a part of a capacity: `80%`, `1.2`.
pub(crate) fn load(text: &str) -> Result<f64, String> {
    let (number, whole) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let load = number.parse::<f64>().ok().map(|number| number / whole);
    load.filter(|load| (0.01..=4.0).contains(load))
        .ok_or_else(|| "write 1% to 400%, for example 80% or 120%".to_owned())
}

/// Parses what a link carries, in bits per second: `100M`, `1G`; in bytes per second.
pub(crate) fn link(text: &str) -> Result<f64, String> {
    let (number, factor) = match text {
        t if t.ends_with('G') => (&t[..t.len() - 1], 1e9),
        t if t.ends_with('M') => (&t[..t.len() - 1], 1e6),
        t => (t, 1.0),
    };
    let bits = number.parse::<f64>().ok().map(|number| number * factor);
    bits.filter(|bits| (1e6..=10e9).contains(bits))
        .map(|bits| bits / 8.0)
        .ok_or_else(|| "a link carries 1M to 10G bits per second, for example 100M".to_owned())
}

/// Parses the name of a congestion control: letters, digits, `_` and `-`.
pub(crate) fn congestion(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if (1..=15).contains(&text.len()) && text.chars().all(good) {
        return Ok(text.to_owned());
    }
    Err("a congestion control has a name of up to 15 letters, for example cubic".to_owned())
}

/// Parses a number of Carriers of a connection: 1 to 64.
pub(crate) fn carriers(text: &str) -> Result<u32, String> {
    whole_number(text, 64)
}

/// Parses a number of connections: 1 to 100000.
pub(crate) fn connections(text: &str) -> Result<u32, String> {
    whole_number(text, 100_000)
}

/// Parses a number of open messages per connection: 1 to 1048576.
pub(crate) fn depth(text: &str) -> Result<u32, String> {
    whole_number(text, 1 << 20)
}

fn whole_number(text: &str, max: u32) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| format!("not a whole number from 1 to {max}"))
}

/// Parses a list of CPUs: `1`, `0-3`, `0,2-5`. Sorted, each once.
pub(crate) fn cores(text: &str) -> Result<Vec<usize>, String> {
    let wrong = || format!("{text:?} is not a list of CPUs; write for example 1, 0-3 or 0,2-5");
    let number = |part: &str| match part.trim().parse::<usize>() {
        Ok(cpu) if cpu < 4096 => Ok(cpu),
        _ => Err(wrong()),
    };
    let mut cores = Vec::new();
    for part in text.trim().split(',') {
        match part.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return Err(wrong());
                }
                cores.extend(first..=last);
            }
            None => cores.push(number(part)?),
        }
    }
    cores.sort_unstable();
    cores.dedup();
    Ok(cores)
}

/// A list of CPUs as people write it: `0-3,6`.
pub(crate) fn cores_shown(cores: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &core in cores {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => ranges.push((core, core)),
        }
    }
    let shown = ranges.iter().map(|(first, last)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    });
    shown.collect::<Vec<_>>().join(",")
}

/// Nanoseconds with three digits and the unit that fits: `87.2 µs`.
pub(crate) fn time_shown(time_ns: u64) -> String {
    let value = time_ns as f64;
    match time_ns {
        0..1_000 => format!("{time_ns} ns"),
        1_000..999_500 => format!("{} µs", three_digits(value / 1e3)),
        999_500..999_500_000 => format!("{} ms", three_digits(value / 1e6)),
        _ => format!("{} s", three_digits(value / 1e9)),
    }
}

/// A count with thin groups of three: `1 234 567`.
pub(crate) fn count_shown(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(' ');
        }
        shown.push(digit);
    }
    shown
}

/// Messages per second with groups of three, without a fraction above 100.
pub(crate) fn rate_shown(rate_per_s: f64) -> String {
    if rate_per_s < 100.0 {
        format!("{rate_per_s:.1}/s")
    } else {
        format!("{}/s", count_shown(rate_per_s.round() as u64))
    }
}

/// A length in bytes: `64 B`, `4 KiB`.
pub(crate) fn size_shown(bytes: usize) -> String {
    match bytes {
        b if b >= 1 << 20 && b.is_multiple_of(1 << 20) => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 && b.is_multiple_of(1 << 10) => format!("{} KiB", b >> 10),
        b => format!("{b} B"),
    }
}

/// Many bytes with three digits and a decimal unit: `12.5 MB`.
pub(crate) fn bytes_shown(bytes: f64) -> String {
    match bytes {
        b if b < 999.5 => format!("{b:.0} B"),
        b if b < 999.5e3 => format!("{} kB", three_digits(b / 1e3)),
        b if b < 999.5e6 => format!("{} MB", three_digits(b / 1e6)),
        b => format!("{} GB", three_digits(b / 1e9)),
    }
}

fn three_digits(value: f64) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

/// A text from elsewhere, fit for a terminal: one line of at most 400 characters.
pub(crate) fn line_shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).take(400).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_from_elsewhere_cannot_steer_a_terminal() {
        assert_eq!(line_shown("a\n\x1b[31mb"), "a  [31mb");
        assert_eq!(line_shown(&"x".repeat(9_000)).len(), 400);
    }

    #[test]
    fn rates_have_suffixes_and_a_range() {
        assert_eq!(rate("800"), Ok(800.0));
        assert_eq!(rate("50k"), Ok(50e3));
        assert_eq!(rate("1.5M"), Ok(1.5e6));
        assert_eq!(rate("100M/s"), Ok(1e8));
        for wrong in ["", "k", "-5", "0", "fast", "1e99", "nan", "inf", "50 k", "2G", "1001M"] {
            assert!(rate(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("0.5s"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("50us"), Ok(Duration::from_micros(50)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["10", "", "s", "ten s", "-1s", "2d", "99999999s", "1.5.2s"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_span_is_a_time_that_passes() {
        assert_eq!(span("1us"), Ok(Duration::from_micros(1)));
        for wrong in ["0s", "0ms", "0.0m", "10", "-1s"] {
            assert!(span(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn sizes_are_bytes() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("64"), Ok(64));
        assert_eq!(size("64B"), Ok(64));
        assert_eq!(size("4KiB"), Ok(4096));
        assert_eq!(size("16MiB"), Ok(16 << 20));
        for wrong in ["", "-1", "4k", "17MiB", "99999999999999999999", "1.5KiB"] {
            assert!(size(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn shares_are_fractions_or_per_cent() {
        assert_eq!((share("5%"), share("0.05"), share("1")), (Ok(0.05), Ok(0.05), Ok(1.0)));
        for wrong in ["", "%", "5", "101%", "-1%", "nan", "x"] {
            assert!(share(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn loads_and_links_have_a_range() {
        assert_eq!((load("80%"), load("1.2"), load("400%")), (Ok(0.8), Ok(1.2), Ok(4.0)));
        assert_eq!((link("100M"), link("1G")), (Ok(12.5e6), Ok(125e6)));
        for wrong in ["", "80", "0%", "401%", "x", "-5%"] {
            assert!(load(wrong).is_err(), "{wrong:?}");
        }
        for wrong in ["", "M", "100", "20G", "100K", "nan"] {
            assert!(link(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn whole_numbers_have_a_range() {
        assert_eq!((connections("1"), connections("100000")), (Ok(1), Ok(100_000)));
        assert_eq!(depth("1048576"), Ok(1_048_576));
        for wrong in ["0", "-1", "", "x", "1.5", "100001", "99999999999"] {
            assert!(connections(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn lists_of_cpus_are_sorted_and_shown_as_ranges() {
        assert_eq!(cores("1"), Ok(vec![1]));
        assert_eq!(cores("6,0-3,2"), Ok(vec![0, 1, 2, 3, 6]));
        assert_eq!(cores_shown(&[0, 1, 2, 3, 6]), "0-3,6");
        for wrong in ["", "a", "3-1", "1,", "-", "0-99999"] {
            assert!(cores(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_shown_has_three_digits_and_a_unit() {
        let shown = [(0, "0 ns"), (999, "999 ns"), (1_000, "1.00 µs"), (87_249, "87.2 µs")];
        let longer = [(999_400, "999 µs"), (999_600, "1.00 ms"), (1_500_000_000, "1.50 s")];
        for (time_ns, text) in shown.into_iter().chain(longer) {
            assert_eq!(time_shown(time_ns), text);
        }
        assert_eq!(count_shown(0), "0");
        assert_eq!(count_shown(1_234_567), "1 234 567");
        assert_eq!(rate_shown(49_999.7), "50 000/s");
        assert_eq!(rate_shown(12.34), "12.3/s");
        assert_eq!(bytes_shown(12_500_000.0), "12.5 MB");
        assert_eq!(size_shown(4096), "4 KiB");
        assert_eq!(size_shown(100), "100 B");
    }
}
