//! A fact about the machine that is either known or unknown for a stated reason.
//!
//! Above: every part of `inspect` is made of these; `report` prints them. Below: nothing.
//! Absent: no default value. What could not be read never turns into a zero or an empty list.
//! In JSON a known fact is its bare value, an unknown one is `{"unknown": "the reason"}`.

use serde::{Deserialize, Serialize};

/// A value of type `T`, or the reason why it is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Fact<T> {
    /// Not known; the text says which source failed and how.
    Unknown {
        /// The source that was asked, a colon, and what went wrong.
        unknown: String,
    },
    /// What the machine says.
    Known(T),
}

impl<T> Fact<T> {
    /// A fact that is not known because of `reason`.
    pub(crate) fn unknown(reason: impl Into<String>) -> Self {
        Self::Unknown { unknown: reason.into() }
    }

    /// The value of an optional answer; `reason` says who left it out.
    pub(crate) fn from_option(value: Option<T>, reason: impl FnOnce() -> String) -> Self {
        value.map_or_else(|| Self::unknown(reason()), Self::Known)
    }

    /// The known value, if there is one.
    pub(crate) fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown { .. } => None,
        }
    }

    /// The same fact by reference.
    pub(crate) fn as_ref(&self) -> Fact<&T> {
        match self {
            Self::Known(value) => Fact::Known(value),
            Self::Unknown { unknown } => Fact::unknown(unknown.clone()),
        }
    }

    /// The fact with its value changed; an unknown one keeps its reason.
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Fact<U> {
        self.and_then(|value| Fact::Known(change(value)))
    }

    /// What follows from a known value; an unknown one keeps its reason.
    pub(crate) fn and_then<U>(self, next: impl FnOnce(T) -> Fact<U>) -> Fact<U> {
        match self {
            Self::Known(value) => next(value),
            Self::Unknown { unknown } => Fact::Unknown { unknown },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_fact_keeps_its_reason_through_every_step() {
        let fact: Fact<u32> = Fact::unknown("/sys/x: gone");
        let later = fact.map(|value| value + 1).and_then(|value| Fact::Known(value * 2));
        assert_eq!(later, Fact::unknown("/sys/x: gone"));
        assert_eq!(later.known(), None);
    }

    #[test]
    fn json_shows_the_bare_value_or_the_reason() {
        let json = serde_json::to_string(&[Fact::Known(7), Fact::unknown("why")]).unwrap();
        assert_eq!(json, r#"[7,{"unknown":"why"}]"#);
        let back: Vec<Fact<i32>> = serde_json::from_str(&json).unwrap();
        assert_eq!(back, [Fact::Known(7), Fact::unknown("why")]);
    }
}
