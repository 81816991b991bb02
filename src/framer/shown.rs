//! Shown: text that a peer may have chosen, as it stands in logs and errors.
//!
//! Above: `FrameError` shows itself through it. Absent: what the text is about.
//! Bound: `SHOWN_CHARS_MAX`.

use std::fmt::{self, Display, Formatter, Write};

/// No more of a text is shown; a log is no place for a peer's whole message.
const SHOWN_CHARS_MAX: usize = 300;

/// Shows a text on one line, without characters that steer a terminal, and not at any length.
pub(super) struct Shown<'a>(pub(super) &'a str);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut characters = self.0.chars();
        for character in characters.by_ref().take(SHOWN_CHARS_MAX) {
            match character {
                '"' | '\'' | '\\' => f.write_char(character)?,
                other => other.escape_debug().fmt(f)?,
            }
        }
        match characters.as_str().len() {
            0 => Ok(()),
            more => write!(f, "… ({more} bytes more)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::FrameError;

    fn shown(text: &str) -> String {
        FrameError::Malformed(text.into()).to_string()
    }

    #[test]
    fn a_peer_writes_no_lines_of_its_own_into_a_log() {
        let forged = "unknown field `x\n2026-11-22 ERROR all is lost \u{1b}[31m\u{202e}`";
        let wanted = r"unknown field `x\n2026-11-22 ERROR all is lost \u{1b}[31m\u{202e}`";
        assert_eq!(shown(forged), wanted);
        assert_eq!(shown(r#"it's "fine" \ größer"#), r#"it's "fine" \ größer"#);
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let text = "é".repeat(500_000);
        let shown = shown(&text);
        assert_eq!(shown, format!("{}… (999400 bytes more)", "é".repeat(300)));
        let whole = "x".repeat(300);
        assert_eq!(super::Shown(&whole).to_string(), whole);
    }
}
