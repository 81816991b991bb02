//! A set of CPU numbers, read from the two notations of the kernel: list and mask.
//!
//! Above: `tree` hands such sets to `inspect`. Below: nothing.
//! Absent: no knowledge of which CPUs exist.
//! Bound: CPU numbers are below `CPU_COUNT_MAX`; text that names a higher one is refused, so a
//! line such as `0-4294967295` costs nothing.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

/// One more than the highest CPU number accepted: the kernel's own largest build has 8192.
pub(crate) const CPU_COUNT_MAX: u32 = 8192;

/// CPU numbers in ascending order; in JSON an array of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct CpuSet(BTreeSet<u32>);

impl CpuSet {
    /// Reads list notation, `0-3,8`; empty text is the empty set. The error names the bad part.
    pub(crate) fn from_list(text: &str) -> Result<Self, String> {
        let mut cpus = BTreeSet::new();
        if text.trim().is_empty() {
            return Ok(Self(cpus));
        }
        for part in text.split(',').map(str::trim) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else {
                return Err(format!("{part:?} is not a CPU or a range of CPUs"));
            };
            if first > last || last >= CPU_COUNT_MAX {
                return Err(format!("{part:?} is not a range within 0-{}", CPU_COUNT_MAX - 1));
            }
            cpus.extend(first..=last);
        }
        Ok(Self(cpus))
    }

    /// Reads mask notation, `ff,00000003`: 32-bit words in hex, highest first.
    pub(crate) fn from_mask(text: &str) -> Result<Self, String> {
        let mut cpus = BTreeSet::new();
        let words: Vec<&str> = text.trim().split(',').collect();
        if words.len() > (CPU_COUNT_MAX / 32) as usize {
            return Err(format!("a mask of {} words is too long", words.len()));
        }
        for (base, word) in (0_u32..).step_by(32).zip(words.iter().rev()) {
            let bits = u32::from_str_radix(word, 16)
                .map_err(|_| format!("{word:?} is not a 32-bit word in hex"))?;
            cpus.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| base + bit));
        }
        Ok(Self(cpus))
    }

    /// True if `cpu` is in the set.
    pub(crate) fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }
}

/// List notation with ranges; the empty set is `none`.
impl fmt::Display for CpuSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().copied().peekable();
        if rest.peek().is_none() {
            return formatter.pad("none");
        }
        let mut text = String::new();
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if_eq(&(last + 1)) {
                last = next;
            }
            let comma = if text.is_empty() { "" } else { "," };
            text += &match last - first {
                0 => format!("{comma}{first}"),
                _ => format!("{comma}{first}-{last}"),
            };
        }
        formatter.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_and_masks_of_the_kernel_are_read() {
        assert_eq!(CpuSet::from_list("0-3,8,10-11").unwrap().to_string(), "0-3,8,10-11");
        assert_eq!(CpuSet::from_list("").unwrap().to_string(), "none");
        assert_eq!(CpuSet::from_mask("f").unwrap().to_string(), "0-3");
        assert_eq!(CpuSet::from_mask("80000001,00000000").unwrap().to_string(), "32,63");
        assert_eq!(CpuSet::from_mask("00000000,00000000").unwrap(), CpuSet::default());
    }

    #[test]
    fn nonsense_is_refused_with_the_bad_part() {
        for text in ["0-4294967295", "3-1", "x", "-1", "8192", "1--2", "1,,2", ","] {
            let error = CpuSet::from_list(text).unwrap_err();
            let part = text.trim_start_matches("1,,2").trim_matches(',');
            assert!(error.contains(part), "{error}");
        }
        assert!(CpuSet::from_mask("").is_err());
        assert!(CpuSet::from_mask("xyz").is_err());
        assert!(CpuSet::from_mask(&"0,".repeat(300)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(cpus: BTreeSet<u16>) {
            let set = CpuSet(cpus.iter().map(|cpu| u32::from(*cpu) % CPU_COUNT_MAX).collect());
            prop_assume!(!set.0.is_empty());
            prop_assert_eq!(CpuSet::from_list(&set.to_string()), Ok(set));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = (CpuSet::from_list(&text), CpuSet::from_mask(&text));
        }
    }
}
