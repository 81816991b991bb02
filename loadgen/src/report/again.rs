//! Saved results side by side: what `loadgen report` does.
//!
//! Above: `command`. Below: `saved` reads them, `words` says what is known of one, `text` and
//! `page` show all. Absent: any figure that was not saved: nothing is averaged or judged anew.

mod page;
mod text;
mod words;

use std::fmt::Write;
use std::io::stdout;

use anyhow::Result;

use super::saved::read;
use super::{check, print, write_file};
use crate::arguments::ReportArguments;

/// `loadgen report`: reads, prints, writes the page.
///
/// # Errors
/// If a file cannot be read, is no result, or cannot be written.
pub(crate) fn again(arguments: &ReportArguments) -> Result<()> {
    check(std::iter::once(arguments.html.as_deref()))?;
    let runs = read(&arguments.results)?;
    let mut text = text::table(&runs);
    if let Some(path) = &arguments.html {
        write_file(path, page::page(&runs).as_bytes())?;
        let _ = writeln!(text, "\nreport   {}", path.display());
    }
    print(stdout(), &text)
}
