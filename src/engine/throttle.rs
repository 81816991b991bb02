//! Throttle: how often a log line that a peer can provoke may appear.
//!
//! Pure: `now` is an argument. Absent: the log.

/// Allows a few lines a second, whatever is done to provoke them.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    second: u32,
    used: u32,
}

const LINES_PER_SECOND: u32 = 5;

impl Throttle {
    /// True if a line may be written now.
    pub(crate) fn allows(&mut self, now_ms: u32) -> bool {
        let second = now_ms / 1000;
        if second != self.second {
            self.second = second;
            self.used = 0;
        }
        self.used += 1;
        self.used <= LINES_PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_five_lines_a_second() {
        let mut throttle = Throttle::default();
        let lines = (0..3000).filter(|now_ms| throttle.allows(*now_ms)).count();
        assert_eq!(lines, 15);
    }
}
