//! What a recorded tree holds beside its files: answers that were never files.
//!
//! Above: `tree` loads it, `capture` writes it. Below: `netlink` and `ring` define the answers.
//! Absent: no asking; this is only the form of `recorded.json` in a tree's root.
//! Bound: at most `tree::FILE_BYTES_MAX` bytes are read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fact::Fact;
use crate::netlink::Answers;
use crate::ring::Attempt;

/// The name of the file in a tree's root.
pub(crate) const FILE_NAME: &str = "recorded.json";

/// The version of the file's form that this tool writes and reads.
pub(crate) const SCHEMA: u32 = 1;

/// Netlink's answers, the io_uring attempt and the reads that failed on the recorded machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Recorded {
    /// Always `SCHEMA`.
    pub(crate) schema: u32,
    /// What netlink said.
    pub(crate) netlink: Fact<Answers>,
    /// What came of creating an io_uring.
    pub(crate) io_uring_attempt: Fact<Attempt>,
    /// Path in the tree to the error its read gave; such a file is not in the tree.
    pub(crate) unreadable: BTreeMap<String, String>,
}

impl Recorded {
    /// Everything unknown, for the same `reason`.
    pub(crate) fn unknown(reason: &str) -> Self {
        Self {
            schema: SCHEMA,
            netlink: Fact::unknown(reason),
            io_uring_attempt: Fact::unknown(reason),
            unreadable: BTreeMap::new(),
        }
    }

    /// Reads the file's contents; what cannot be read makes everything unknown and says why.
    pub(crate) fn from_json(text: &str) -> Self {
        /// The one field that every version of the file has.
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        match serde_json::from_str::<Version>(text) {
            Ok(Version { schema: SCHEMA }) => serde_json::from_str(text)
                .unwrap_or_else(|error| Self::unknown(&format!("{FILE_NAME}: {error}"))),
            Ok(Version { schema }) => Self::unknown(&format!(
                "{FILE_NAME}: its schema is {schema}, this tool reads only {SCHEMA}"
            )),
            Err(error) => Self::unknown(&format!("{FILE_NAME}: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_schema_is_refused_by_number() {
        let recorded = Recorded::from_json(r#"{"schema": 2, "netlink": []}"#);
        let reason = "recorded.json: its schema is 2, this tool reads only 1";
        assert_eq!(recorded.netlink, Fact::unknown(reason));
        assert_eq!(recorded.io_uring_attempt, Fact::unknown(reason));
    }

    #[test]
    fn broken_json_names_the_place() {
        let recorded = Recorded::from_json("{\"schema\": 1,\n nonsense");
        let Fact::Unknown { unknown } = recorded.netlink else { panic!("known") };
        assert!(unknown.starts_with("recorded.json: ") && unknown.contains("line 2"), "{unknown}");
    }
}
