//! The clock source that timestamps come from.
//!
//! Above: `inspect`. Below: `tree`. Absent: no judgement on the source, no timing.

use serde::Serialize;

use crate::fact::Fact;
use crate::tree::Tree;

const PLACE: &str = "/sys/devices/system/clocksource/clocksource0";

/// The clock source in use and those that could be.
#[derive(Debug, Serialize)]
pub(crate) struct Clock {
    pub(crate) source: Fact<String>,
    pub(crate) available: Fact<Vec<String>>,
}

/// Reads the clock sources.
pub(super) fn read(tree: &Tree) -> Clock {
    let available = tree.text(&format!("{PLACE}/available_clocksource"));
    Clock {
        source: tree.text(&format!("{PLACE}/current_clocksource")),
        available: available.map(|text| text.split_whitespace().map(str::to_owned).collect()),
    }
}
