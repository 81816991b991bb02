//! x
use crate::measurement::Measurement;
pub(crate) fn page(_m: &Measurement) -> String { String::new() }
