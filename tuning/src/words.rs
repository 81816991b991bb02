//! Small pieces of text that reasons and paths are made of.
//!
//! Above: `tree` and whoever words a reason. Below: nothing.
//! Absent: no layout (that is `report::table`).

use std::fmt::Display;
use std::io;

/// The system's error in words, without the number that Rust appends.
pub(crate) fn error_words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// The beginning of unexpected text, quoted, for a reason.
pub(crate) fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// `base` and `name` joined by one slash.
pub(crate) fn join(base: &str, name: impl Display) -> String {
    format!("{}/{name}", base.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_lose_their_number_and_excerpts_stay_short() {
        assert_eq!(error_words(&io::Error::from_raw_os_error(22)), "Invalid argument");
        assert_eq!(error_words(&io::Error::other("own words")), "own words");
        assert_eq!(excerpt("short"), "\"short\"");
        assert_eq!(excerpt(&"ä".repeat(41)), format!("\"{}\"...", "ä".repeat(40)));
    }
}
