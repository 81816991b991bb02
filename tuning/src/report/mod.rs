//! Runs `tuning inspect` as typed and prints what it found.
//!
//! Above: `main`. Below: `inspect`, `capture`, and one file here for each output format.
//! Absent: no facts of its own.

mod json;
mod table;
#[cfg(test)]
mod tests;
mod text;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;

use crate::arguments::Inspect;
use crate::capture::capture;
use crate::inspect::inspect;
use crate::tree::Tree;

/// Does what `arguments` ask and prints the result on standard output.
pub(crate) fn run(arguments: &Inspect) -> anyhow::Result<()> {
    if let Some(target) = &arguments.capture {
        let (_, files) = capture(Tree::live(), target)?;
        let target = target.display();
        return print(&format!(
            "captured {files} files in {target}; look at them with:\n  \
             tuning inspect --root {target}\n"
        ));
    }
    let tree = match &arguments.root {
        Some(root) => Tree::recorded(root)?,
        None => Tree::live(),
    };
    let inspection = inspect(&tree);
    match arguments.json {
        true => print(&json::render(&inspection)?),
        false => print(&text::render(&inspection, tree.is_live())),
    }
}

/// Says on standard error what went wrong, in one line.
pub(crate) fn fail(error: &anyhow::Error) -> ExitCode {
    // Standard error may be closed; then the exit code alone must do.
    let _ = writeln!(io::stderr(), "tuning: {}", one_line(error));
    ExitCode::FAILURE
}

/// The error with its causes; many errors already say their cause, and once is enough.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !line.contains(&cause) {
            line += if line.is_empty() { "" } else { ": " };
            line += &cause;
        }
    }
    line
}

/// A reader that stopped reading (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}
