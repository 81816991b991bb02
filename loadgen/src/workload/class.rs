//! Classes: kinds of Messages of one workload, and how one is typed.
//!
//! Above: `mod` puts them together; `file` gives the same keys and values from a file. Below:
//! `size`, `quantity`. Absent: files. Bound: `NICENESS_MAX`, `NAME_MAX`.

use std::time::Duration;

use super::size::Sizes;
use super::{Read, chain};
use crate::quantity;

/// Largest niceness: more classes than anybody has.
const NICENESS_MAX: u32 = 255;
/// Longest name, in characters: it heads a row of a table.
const NAME_MAX: usize = 15;
/// The keys there are.
const KEYS: &str = "name, share, size, niceness, lifetime, deadline, immediate, idempotent, \
                    chain";

/// One kind of Messages.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Class {
    /// What it is called in reports.
    pub(crate) name: String,
    /// Share of all Messages, by count; over all classes 1.
    pub(crate) share: f64,
    /// How long they are.
    pub(crate) sizes: Sizes,
    /// How urgent, 0 being the most.
    pub(crate) niceness: u32,
    /// Whether the library is told so.
    pub(crate) tells_niceness: bool,
    /// Until when the message is of use, from the intended send to its arrival at the server or,
    /// where that has another clock, to its answer; for the ledger.
    pub(crate) deadline: Option<Duration>,
    /// Whether the library is told so, as a lifetime, and may discard what would be late.
    pub(crate) tells_lifetime: bool,
    /// Not held back to share a packet.
    pub(crate) immediate: bool,
    /// May arrive twice.
    pub(crate) idempotent: bool,
    /// Follows the one before it on its connection, in chains of so many of all classes that have
    /// this.
    pub(crate) chain: Option<u32>,
}

/// A class as far as it is typed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Draft {
    pub(super) name: Option<String>,
    pub(super) share: Option<f64>,
    sizes: Option<Sizes>,
    niceness: u32,
    lifetime: Option<Duration>,
    deadline: Option<Duration>,
    immediate: bool,
    idempotent: bool,
    chain: Option<u32>,
}

impl Draft {
    /// Parses `name=ctl,share=5%,size=fixed:64,immediate`.
    pub(crate) fn parse(text: &str, read: Read<'_>) -> Result<Self, String> {
        let mut draft = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        for part in text.split(',') {
            let (key, value) = part.split_once('=').unwrap_or((part, "true"));
            let key = key.trim();
            if seen.contains(&key) {
                return Err(format!("{key} is there twice"));
            }
            seen.push(key);
            draft.set(key, value.trim(), read).map_err(|why| format!("{key}: {why}"))?;
        }
        Ok(draft)
    }

    /// Sets one key.
    pub(super) fn set(&mut self, key: &str, value: &str, read: Read<'_>) -> Result<(), String> {
        match key {
            "name" => self.name = Some(name(value)?),
            "share" => self.share = Some(quantity::share(value)?),
            "size" => self.sizes = Some(Sizes::parse(value, read)?),
            "niceness" => {
                let niceness = value.parse().ok().filter(|niceness| *niceness <= NICENESS_MAX);
                self.niceness = niceness
                    .ok_or_else(|| format!("{value:?} is no whole number from 0 to 255"))?;
            }
            "lifetime" => self.lifetime = Some(quantity::span(value)?),
            "deadline" => self.deadline = Some(quantity::span(value)?),
            "immediate" => self.immediate = yes_or_no(value)?,
            "idempotent" => self.idempotent = yes_or_no(value)?,
            "chain" => self.chain = Some(chain::length(value)?),
            _ => return Err(format!("there is no such key; there are {KEYS}")),
        }
        if self.lifetime.is_some() && self.deadline.is_some() {
            return Err("lifetime is a deadline that the library is told; give one of them".into());
        }
        Ok(())
    }

    /// The class, number `at` of its workload.
    pub(super) fn finish(self, at: usize, share: f64) -> Class {
        Class {
            name: self.name.unwrap_or_else(|| format!("class {at}")),
            share,
            sizes: self.sizes.unwrap_or_else(|| Sizes::fixed(64)),
            niceness: self.niceness,
            tells_niceness: true,
            deadline: self.lifetime.or(self.deadline),
            tells_lifetime: self.lifetime.is_some(),
            immediate: self.immediate,
            idempotent: self.idempotent,
            chain: self.chain,
        }
    }
}

fn name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_alphanumeric() || "-_. ".contains(c);
    if text.is_empty() || text.chars().count() > NAME_MAX || !text.chars().all(plain) {
        return Err(format!("{text:?}: a name has 1 to 15 letters, digits, - _ ."));
    }
    Ok(text.to_owned())
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("{text:?} is neither true nor false"))
}
