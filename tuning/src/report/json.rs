//! An inspection as JSON: the fields of `Inspection` by name, unknown facts with their reason.
//!
//! Above: `report`. Below: serde_json. Absent: no formatting of values.

use anyhow::Context;

use crate::inspect::Inspection;

/// Indented JSON with a line end.
pub(super) fn render(inspection: &Inspection) -> anyhow::Result<String> {
    let mut json = serde_json::to_string_pretty(inspection).context("cannot form JSON")?;
    json.push('\n');
    Ok(json)
}
