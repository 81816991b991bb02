//! The workload file: TOML with the same keys and values as the flags.
//!
//! Above: `mod`. Below: the crate toml for the syntax, `class` for the values. Absent: reading the
//! file. Every fault is one line that names the line of the file and the key.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Read;
use super::class::Draft;

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct File {
    /// `rate`, as typed after `--rate`.
    pub(super) rate: Option<String>,
    /// `arrival`, as typed after `--arrival`.
    pub(super) arrival: Option<String>,
    /// Each `[[class]]`, in order.
    pub(super) classes: Vec<Draft>,
}

/// Parses a file's text.
pub(super) fn parse(text: &str, read: Read<'_>) -> Result<File, String> {
    let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let what = error.message().lines().collect::<Vec<_>>().join(", ");
        format!("line {}: {what}", line(at))
    })?;
    let mut file = File::default();
    for (key, value) in table.get_ref().iter() {
        let key: &Spanned<_> = key;
        let (name, at) = (key.get_ref().as_ref(), line(key.span().start));
        match (name, value.get_ref()) {
            ("rate", value) => file.rate = Some(word(value, at, name)?),
            ("arrival", value) => file.arrival = Some(word(value, at, name)?),
            ("class", DeValue::Array(classes)) => {
                for class in classes.iter() {
                    let DeValue::Table(class) = class.get_ref() else {
                        return Err(format!("line {at}: class: write it as [[class]]"));
                    };
                    file.classes.push(draft(class, &line, read)?);
                }
            }
            ("class", _) => return Err(format!("line {at}: class: write it as [[class]]")),
            _ => {
                return Err(format!(
                    "line {at}: {name}: there is no such key; there are rate, arrival, [[class]]"
                ));
            }
        }
    }
    Ok(file)
}

fn draft(
    class: &DeTable<'_>,
    line: &impl Fn(usize) -> usize,
    read: Read<'_>,
) -> Result<Draft, String> {
    let mut draft = Draft::default();
    for (key, value) in class.iter() {
        let (name, at) = (key.get_ref().as_ref(), line(key.span().start));
        let value = word(value.get_ref(), at, name)?;
        draft.set(name, &value, read).map_err(|why| format!("line {at}: {name}: {why}"))?;
    }
    Ok(draft)
}

/// A value as it would be typed on the command line.
fn word(value: &DeValue<'_>, at: usize, key: &str) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.as_str().replace('_', "")),
        DeValue::Float(number) => Ok(number.as_str().replace('_', "")),
        DeValue::Boolean(flag) => Ok(flag.to_string()),
        _ => Err(format!("line {at}: {key}: write a text, a number, true or false")),
    }
}
