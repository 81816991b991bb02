//! Recorded trees and the exact output they give, as text and as JSON.
//!
//! Above: `cargo test`. Below: the built `tuning` and `tests/trees`.
//! `UPDATE_GOLDEN=1 cargo test -p postring-tuning --test golden` writes the outputs anew.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn tuning(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tuning")).args(arguments).output().unwrap()
}

fn tree(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trees").join(name)
}

fn check(name: &str, extension: &str, options: &[&str]) {
    let root = tree(name);
    let mut arguments = vec!["inspect", "--root", root.to_str().unwrap()];
    arguments.extend(options);
    let output = tuning(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let version = concat!("tuning ", env!("CARGO_PKG_VERSION"));
    let text = String::from_utf8(output.stdout).unwrap().replace(version, "tuning VERSION");
    let golden = tree(&format!("{name}.{extension}"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &text).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap();
    for (number, (expected, found)) in expected.lines().zip(text.lines()).enumerate() {
        assert_eq!(found, expected, "{}:{}", golden.display(), number + 1);
    }
    assert_eq!(text.lines().count(), expected.lines().count(), "{}", golden.display());
}

#[test]
fn a_virtio_machine() {
    check("virtio-vm", "txt", &[]);
    check("virtio-vm", "json", &["--json"]);
}

#[test]
fn two_nics_on_two_nodes() {
    check("two-nodes", "txt", &[]);
    check("two-nodes", "json", &["--json"]);
}

#[test]
fn a_broken_tree_is_full_of_reasons() {
    check("broken", "txt", &[]);
    check("broken", "json", &["--json"]);
}

#[test]
fn every_line_fits_a_hundred_columns() {
    for name in ["virtio-vm", "two-nodes", "broken"] {
        let root = tree(name);
        let output = tuning(&["inspect", "--root", root.to_str().unwrap()]);
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            assert!(line.chars().count() <= 100, "{name}: {line}");
        }
    }
}

#[test]
fn what_is_no_tree_ends_in_one_line_and_exit_code_1() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for root in [source.as_path(), Path::new("/nowhere/at/all"), Path::new("/proc/version")] {
        let output = tuning(&["inspect", "--root", root.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{}", root.display());
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.starts_with("tuning: ") && error.contains(root.to_str().unwrap()), "{error}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn wrong_usage_ends_in_exit_code_2_and_help_says_so() {
    for arguments in [
        &["inspect", "--jsno"][..],
        &["inspect", "--json", "--capture", "x"],
        &["inspect", "--root", "x", "--capture", "y"],
        &["inspect", "--root"],
        &["inspct"],
        &[],
    ] {
        assert_eq!(tuning(arguments).status.code(), Some(2), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["inspect", "-h"], &["inspect", "--help"]] {
        let help = String::from_utf8(tuning(arguments).stdout).unwrap();
        assert!(help.contains("Exit codes: 0 done, 1 error, 2 wrong usage"), "{help}");
    }
}
