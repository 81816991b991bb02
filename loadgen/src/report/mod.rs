//! The reports of a run: a table, JSON, CSV, a log of histograms, one HTML page.
//!
//! Above: `command`. Below: one file per form, all from the same `Measurement`.
//! Absent: measuring and judging.

mod again;
mod comparison_html;
mod csv;
mod exhibit;
mod hlog;
mod html;
mod json;
mod saved;
mod search_html;
mod series;
mod svg;
mod text;

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub(crate) use self::again::again;
pub(crate) use self::comparison_html::page as comparison_page;
pub(crate) use self::exhibit::{Curves, Exhibit, Panel};
pub(crate) use self::json::{Document, of};
pub(crate) use self::search_html::{Found, page as search_page};
pub(crate) use self::series::{Cell, Series};
use crate::arguments::{Reports, RunArguments, ScenarioArguments};
use crate::measurement::Measurement;
use crate::verdict::Level;

/// Fails before the run if a report could not be written after it.
///
/// # Errors
/// If a file cannot be opened for writing.
pub(crate) fn check_writable(arguments: &Reports) -> Result<()> {
    let more = [arguments.csv.as_deref(), arguments.hlog.as_deref()];
    check([json_file(&arguments.json), html_file(arguments)].into_iter().chain(more))
}

/// As `check_writable`, for a scenario.
///
/// # Errors
/// If a file cannot be opened for writing.
pub(crate) fn check_scenario_writable(arguments: &ScenarioArguments) -> Result<()> {
    let html = (!arguments.no_html).then_some(arguments.html.as_path());
    check([json_file(&arguments.json), html].into_iter())
}

/// As `check_writable`, for a comparison or a search.
///
/// # Errors
/// If a file cannot be opened for writing.
pub(crate) fn check_pages(json: &Option<PathBuf>, html: &Option<PathBuf>) -> Result<()> {
    check([json_file(json), html.as_deref()].into_iter())
}

fn check<'p>(paths: impl Iterator<Item = Option<&'p Path>>) -> Result<()> {
    for path in paths.flatten() {
        let existed = path.exists();
        let opened = OpenOptions::new().append(true).create(true).open(path);
        opened.with_context(|| format!("cannot write {}", path.display()))?;
        if !existed {
            // Only a trial; the run may still fail and should leave nothing behind.
            let _ = std::fs::remove_file(path);
        }
    }
    Ok(())
}

/// Writes all reports that were asked for.
///
/// # Errors
/// If a file cannot be written.
pub(crate) fn publish(measurement: &Measurement, run: &RunArguments) -> Result<()> {
    let arguments = &run.reports;
    let mut html = None;
    if let Some(path) = html_file(arguments) {
        write_file(path, html::page(measurement).as_bytes())?;
        html = Some(path);
    }
    if let Some(path) = json_file(&arguments.json) {
        write_file(path, json::document(measurement)?.as_bytes())?;
    }
    if let Some(path) = &arguments.csv {
        write_file(path, csv::document(measurement).as_bytes())?;
    }
    if let Some(path) = &arguments.hlog {
        write_file(path, &hlog::document(measurement)?)?;
    }
    let json_on_stdout = arguments.json.as_deref() == Some(Path::new("-"));
    if json_on_stdout {
        print(stdout(), &json::document(measurement)?)?;
    }
    let invalid = measurement.verdict.level == Level::Invalid;
    if run.traffic.quiet {
        return if invalid { print(stderr(), &text::reasons(measurement)) } else { Ok(()) };
    }
    if json_on_stdout {
        return print(stderr(), &text::table(measurement, html, colours(&stderr())));
    }
    print(stdout(), &text::table(measurement, html, colours(&stdout())))
}

/// Writes all reports of a scenario that were asked for.
///
/// # Errors
/// If a file cannot be written.
pub(crate) fn publish_scenario(results: &Series, arguments: &ScenarioArguments) -> Result<()> {
    let page = || series::page::page(results);
    let document = || series::forms::document(results, true);
    publish_forms(arguments, series::forms::table(results), page, &document)
}

/// As `publish_scenario`, for one with figures of its own.
///
/// # Errors
/// If a file cannot be written.
pub(crate) fn publish_exhibit(shown: &Exhibit<'_>, arguments: &ScenarioArguments) -> Result<()> {
    let page = || exhibit::forms::page(shown);
    let document = || exhibit::forms::document(shown, true);
    publish_forms(arguments, exhibit::forms::table(shown), page, &document)
}

fn publish_forms(
    arguments: &ScenarioArguments,
    mut table: String,
    page: impl FnOnce() -> String,
    document: &dyn Fn() -> Result<String>,
) -> Result<()> {
    if !arguments.no_html {
        write_file(&arguments.html, page().as_bytes())?;
    }
    if let Some(path) = json_file(&arguments.json) {
        write_file(path, document()?.as_bytes())?;
    }
    let json_on_stdout = arguments.json.as_deref() == Some(Path::new("-"));
    if json_on_stdout {
        print(stdout(), &document()?)?;
    }
    if arguments.quiet {
        return Ok(());
    }
    if !arguments.no_html {
        table += &format!("report   {}\n", arguments.html.display());
    }
    if json_on_stdout { print(stderr(), &table) } else { print(stdout(), &table) }
}

/// Writes all reports of a comparison or a search that were asked for; `page` is the HTML one.
///
/// # Errors
/// If a file or standard output cannot be written.
pub(crate) fn publish_text(
    text: &str,
    document: &str,
    json: &Option<PathBuf>,
    html: Option<(&Path, String)>,
) -> Result<()> {
    if let Some((path, page)) = &html {
        write_file(path, page.as_bytes())?;
    }
    if let Some(path) = json_file(json) {
        write_file(path, document.as_bytes())?;
    }
    if json.as_deref() == Some(Path::new("-")) {
        print(stdout(), document)?;
        return print(stderr(), text);
    }
    print(stdout(), text)
}

fn json_file(asked: &Option<PathBuf>) -> Option<&Path> {
    asked.as_deref().filter(|path| *path != Path::new("-"))
}

fn html_file(arguments: &Reports) -> Option<&Path> {
    (!arguments.no_html).then_some(arguments.html.as_path())
}

fn write_file(path: &Path, content: &[u8]) -> Result<()> {
    let written = File::create(path).and_then(|mut file| file.write_all(content));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// A reader that has seen enough is no error.
fn print(mut to: impl Write, text: &str) -> Result<()> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the table")
        }
        _ => Ok(()),
    }
}

/// Colours only on a terminal whose user did not say no (the NO_COLOR convention).
fn colours(to: &impl IsTerminal) -> bool {
    to.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
