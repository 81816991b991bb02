//! Columns of text that fit a terminal, and the numbered reasons of unknown cells.
//!
//! Above: `text` fills them. Below: nothing.
//! Absent: no colour; no knowledge of what the cells mean.
//! Bounds: lines of at most `WIDTH` characters as long as every column can be `COLUMN_MIN` wide.
//! Control characters, which a recorded tree may hold, are shown as `?`.

use std::fmt::Display;

use crate::fact::Fact;

/// Characters in a line.
pub(super) const WIDTH: usize = 100;

/// No column is narrowed below this many characters.
const COLUMN_MIN: usize = 6;

const GAP: &str = "  ";

/// The reasons why facts are unknown, numbered from 1 in the order of their first use.
#[derive(Debug, Default)]
pub(super) struct Reasons(Vec<String>);

impl Reasons {
    /// The fact's value, or `unknown [N]`.
    pub(super) fn cell<T: Display>(&mut self, fact: &Fact<T>) -> String {
        match fact {
            Fact::Known(value) => value.to_string(),
            Fact::Unknown { unknown } => format!("unknown [{}]", self.number(unknown)),
        }
    }

    /// The number of `reason`; places that differ only in a CPU or queue number share one.
    fn number(&mut self, reason: &str) -> usize {
        let reason = generalized(reason);
        let known = self.0.iter().position(|known| *known == reason);
        known.map_or_else(
            || {
                self.0.push(reason);
                self.0.len()
            },
            |index| index + 1,
        )
    }

    /// `[N] reason` lines, wrapped.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        for (index, reason) in self.0.iter().enumerate() {
            text += &indented(&format!("  [{}] ", index + 1), reason);
        }
        text
    }
}

/// Replaces the numbers of CPUs, nodes, queues and interrupts in a path by `*`.
fn generalized(reason: &str) -> String {
    let parts = reason.split('/').map(|part| {
        let stem = part.trim_end_matches(|last: char| last.is_ascii_digit());
        let counted = ["", "cpu", "node", "rx-", "tx-"].contains(&stem);
        if counted && stem.len() < part.len() { format!("{stem}*") } else { part.to_owned() }
    });
    parts.collect::<Vec<_>>().join("/")
}

/// `text` after `label`, wrapped to `WIDTH` and indented by the label's length.
pub(super) fn indented(label: &str, text: &str) -> String {
    let indent = label.chars().count();
    let mut lines = wrapped(text, WIDTH.saturating_sub(indent)).into_iter();
    let mut out = format!("{label}{}", lines.next().unwrap_or_default());
    out.truncate(out.trim_end().len());
    out.push('\n');
    for line in lines {
        out += &format!("{:indent$}{line}\n", "");
    }
    out
}

/// Rows under headings.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub(super) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    /// Adds a row; a missing cell is empty.
    pub(super) fn row<const CELLS: usize>(&mut self, cells: [String; CELLS]) {
        debug_assert_eq!(CELLS, self.rows[0].len(), "a row has as many cells as headings");
        self.rows.push(cells.to_vec());
    }

    /// The table's lines; cells of columns that had to be narrowed are wrapped.
    pub(super) fn render(&self) -> String {
        let widths = self.widths();
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<Vec<String>> =
                row.iter().zip(&widths).map(|(cell, width)| wrapped(cell, *width)).collect();
            let height = cells.iter().map(Vec::len).max().unwrap_or(0);
            for line in 0..height {
                let mut out = String::new();
                for (cell, width) in cells.iter().zip(&widths) {
                    let part = cell.get(line).map_or("", String::as_str);
                    out += &format!("{GAP}{part:width$}");
                }
                text += out.trim_end();
                text.push('\n');
            }
        }
        text
    }

    /// The widths of the columns; the widest gives way until a line fits.
    fn widths(&self) -> Vec<usize> {
        let mut widths = vec![0; self.rows[0].len()];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        while widths.iter().map(|width| width + GAP.len()).sum::<usize>() > WIDTH {
            match widths.iter_mut().max() {
                Some(widest) if *widest > COLUMN_MIN => *widest -= 1,
                _ => break,
            }
        }
        widths
    }
}

/// Lines of at most `width` characters, broken after a space, comma or slash where possible.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let clean = text.chars().map(|letter| if letter.is_control() { '?' } else { letter });
    let letters: Vec<char> = clean.collect();
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut rest = letters.as_slice();
    while rest.len() > width {
        let end = (1..=width)
            .rev()
            .find(|end| matches!(rest[end - 1], ',' | '/') || rest[*end] == ' ')
            .unwrap_or(width);
        lines.push(rest[..end].iter().collect());
        rest = &rest[end..];
        while let [' ', after @ ..] = rest {
            rest = after;
        }
    }
    lines.push(rest.iter().collect());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reasons_that_differ_in_a_number_share_a_footnote() {
        let mut reasons = Reasons::default();
        let mut cell = |reason: &str| reasons.cell(&Fact::<u32>::unknown(reason));
        assert_eq!(cell("/sys/devices/system/cpu/cpu0/cpufreq: gone"), "unknown [1]");
        assert_eq!(cell("/sys/class/net/eth0/speed: gone"), "unknown [2]");
        assert_eq!(cell("/sys/devices/system/cpu/cpu17/cpufreq: gone"), "unknown [1]");
        assert_eq!(cell("/sys/class/net/eth1/speed: gone"), "unknown [3]");
        assert!(reasons.render().contains("[1] /sys/devices/system/cpu/cpu*/cpufreq: gone\n"));
    }

    #[test]
    fn a_wide_column_gives_way() {
        let mut table = Table::new(&["irq", "affinity"]);
        let list: Vec<String> = (0..90).map(|cpu| (cpu * 2).to_string()).collect();
        table.row(["7".into(), list.join(",")]);
        let text = table.render();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        let digits: String = text.split_whitespace().skip(3).collect();
        assert_eq!(digits, list.join(","));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(wrapped("a\x1b[2Jb", 80), ["a?[2Jb"]);
    }

    proptest! {
        #[test]
        fn wrapping_keeps_the_width_and_every_letter(text: String, width in 1_usize..40) {
            let lines = wrapped(&text, width);
            prop_assert!(lines.iter().all(|line| line.chars().count() <= width));
            let solid = |text: &str| text.replace(' ', "").replace(char::is_control, "?");
            prop_assert_eq!(solid(&lines.concat()), solid(&text));
        }
    }
}
