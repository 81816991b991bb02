//! Whether this process may use io_uring, and the settings that decide it.
//!
//! Above: `inspect`. Below: `tree`; `ring` made the attempt.
//! Absent: no probing of single operations. Without an attempt (a recorded tree may lack it) the
//! verdict is drawn from the settings, and is unknown where they leave it open.

use serde::Serialize;

use super::field;
use crate::fact::Fact;
use crate::ring::Attempt;
use crate::tree::Tree;

/// The verdict and its grounds.
#[derive(Debug, Serialize)]
pub(crate) struct Uring {
    /// Whether this process may create a ring.
    pub(crate) allowed: Fact<bool>,
    /// The same as a sentence, with the reason.
    pub(crate) sentence: String,
    /// What came of creating a ring.
    pub(crate) attempt: Fact<Attempt>,
    /// kernel.io_uring_disabled: 0 for all, 1 for the privileged and the group, 2 for nobody.
    pub(crate) disabled: Fact<u32>,
    /// kernel.io_uring_group: the group id that 1 admits, -1 for none.
    pub(crate) group: Fact<i64>,
    /// Seccomp mode of this process: 0 none, 1 strict, 2 filter.
    pub(crate) seccomp: Fact<u32>,
}

/// Reads the settings and the attempt; `kernel` is the kernel's release, for the sentence.
pub(super) fn read(tree: &Tree, kernel: &Fact<String>) -> Uring {
    let attempt = tree.io_uring_attempt().clone();
    let disabled = tree.number("/proc/sys/kernel/io_uring_disabled");
    let seccomp = tree.parsed("/proc/self/status", |status| {
        let mode = field(status, "Seccomp").ok_or("no line Seccomp")?;
        mode.parse().map_err(|_| "the line Seccomp holds no number".to_owned())
    });
    let (allowed, sentence) = match &attempt {
        Fact::Known(Attempt::Created) => (
            Fact::Known(true),
            "io_uring is allowed for this process: a ring was created and closed.".to_owned(),
        ),
        Fact::Known(Attempt::Refused { error, .. }) => (
            Fact::Known(false),
            format!(
                "io_uring is refused for this process: creating a ring failed ({error}); {}.",
                grounds(&disabled, &seccomp, kernel)
            ),
        ),
        Fact::Unknown { unknown } => by_settings(&disabled, &seccomp, unknown),
    };
    let group = tree.number("/proc/sys/kernel/io_uring_group");
    Uring { allowed, sentence, attempt, disabled, group, seccomp }
}

/// What is known to stand in the way.
fn grounds(disabled: &Fact<u32>, seccomp: &Fact<u32>, kernel: &Fact<String>) -> String {
    let kernel = kernel.known().map_or("unknown", String::as_str);
    match (disabled.known(), seccomp.known()) {
        (Some(2), _) => "kernel.io_uring_disabled is 2, off for every process".into(),
        (Some(1), _) => {
            "kernel.io_uring_disabled is 1, on only with CAP_SYS_ADMIN or in kernel.io_uring_group"
                .into()
        }
        (_, Some(2)) => "a seccomp filter is active, as containers set one".into(),
        _ => format!("no sysctl and no seccomp filter is known to forbid it, kernel {kernel}"),
    }
}

fn by_settings(
    disabled: &Fact<u32>,
    seccomp: &Fact<u32>,
    no_attempt: &str,
) -> (Fact<bool>, String) {
    let open = |why: &str| {
        let reason = format!("{why} (no attempt was made: {no_attempt})");
        (
            Fact::unknown(reason.clone()),
            format!("Whether io_uring is allowed for this process is unknown: {reason}."),
        )
    };
    match (disabled, seccomp) {
        (Fact::Known(2), _) => (
            Fact::Known(false),
            "io_uring is refused for this process: kernel.io_uring_disabled is 2, \
             off for every process."
                .into(),
        ),
        (Fact::Known(1), _) => open(
            "kernel.io_uring_disabled is 1, on only with CAP_SYS_ADMIN or in \
             kernel.io_uring_group",
        ),
        (Fact::Known(0), Fact::Known(0)) => {
            open("kernel.io_uring_disabled is 0 and no seccomp filter is active")
        }
        (Fact::Known(0), Fact::Known(mode)) => {
            open(&format!("kernel.io_uring_disabled is 0, but seccomp is in mode {mode}"))
        }
        (Fact::Known(0), Fact::Unknown { unknown }) => open(unknown),
        (Fact::Known(other), _) => open(&format!("kernel.io_uring_disabled is {other}")),
        (Fact::Unknown { unknown }, _) => open(unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;

    /// The verdict on a tree with this setting, seccomp mode and attempt (as JSON).
    fn verdict(disabled: &str, seccomp: &str, attempt: &str) -> Uring {
        let directory = TestDirectory::new("uring");
        directory.file("proc/sys/kernel/io_uring_disabled", disabled.as_bytes());
        directory.file("proc/self/status", format!("Seccomp:\t{seccomp}\n").as_bytes());
        let recorded = format!(
            r#"{{"schema": 1, "netlink": {{"unknown": "none"}}, "unreadable": {{}},
                "io_uring_attempt": {attempt}}}"#
        );
        directory.file("recorded.json", recorded.as_bytes());
        read(&Tree::recorded(directory.path()).unwrap(), &Fact::Known("6.1".into()))
    }

    const REFUSED: &str =
        r#"{"outcome": "refused", "errno": 1, "error": "Operation not permitted"}"#;
    const NONE: &str = r#"{"unknown": "not asked"}"#;

    #[test]
    fn an_attempt_decides() {
        let uring = verdict("0", "2", r#"{"outcome": "created"}"#);
        assert_eq!(uring.allowed, Fact::Known(true));
        let uring = verdict("0", "2", REFUSED);
        assert_eq!(uring.allowed, Fact::Known(false));
        assert!(uring.sentence.contains("(Operation not permitted)"), "{}", uring.sentence);
        assert!(uring.sentence.contains("seccomp filter"), "{}", uring.sentence);
        let uring = verdict("2", "0", REFUSED);
        assert!(uring.sentence.contains("io_uring_disabled is 2"), "{}", uring.sentence);
        let uring = verdict("0", "0", REFUSED);
        assert!(uring.sentence.contains("kernel 6.1"), "{}", uring.sentence);
    }

    #[test]
    fn settings_decide_only_when_they_forbid() {
        assert_eq!(verdict("2", "0", NONE).allowed, Fact::Known(false));
        for (disabled, seccomp) in [("0", "0"), ("0", "2"), ("1", "0"), ("9", "0"), ("x", "0")] {
            let uring = verdict(disabled, seccomp, NONE);
            assert!(uring.allowed.known().is_none(), "{disabled} {seccomp}: {}", uring.sentence);
            assert!(uring.sentence.contains("unknown"), "{}", uring.sentence);
        }
        assert!(verdict("0", "y", NONE).allowed.known().is_none());
    }
}
