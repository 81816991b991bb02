//! Tells the binary which commit it was built from, if that can be known.

use std::io::Write;
use std::process::Command;

fn main() -> std::io::Result<()> {
    let described = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let commit = match described {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).ok(),
        _ => None,
    };
    let mut out = std::io::stdout();
    if let Some(commit) = commit {
        writeln!(out, "cargo::rustc-env=LOADGEN_COMMIT={}", commit.trim())?;
        writeln!(out, "cargo::rerun-if-changed=../.git/logs/HEAD")?;
    }
    writeln!(out, "cargo::rerun-if-changed=build.rs")
}
