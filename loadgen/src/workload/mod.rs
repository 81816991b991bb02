//! The workload: which Messages there are, how many of each kind, and when.
//!
//! Above: `arguments` and `plan`. Below: `class`, `size`, `table` (what they are), `levels`
//! (classes by size), `chain` (what follows what), `file` (a TOML form of the same), `arrival`,
//! `trace` (when), `sampler` (one after the other).
//! Absent: I/O, but for `read` at the door. Bound: `CLASSES_MAX` classes, `FILE_MAX` bytes.

mod arrival;
mod chain;
mod class;
mod file;
mod levels;
mod sampler;
mod size;
mod table;
pub(crate) mod trace;

use serde::{Deserialize, Serialize};

pub(crate) use self::arrival::Arrival;
pub(crate) use self::chain::Chains;
pub(crate) use self::class::Class;
use self::class::Draft;
pub(crate) use self::sampler::{Kind, NEVER_NS, Sampler};
pub(crate) use self::size::Sizes;
use crate::mark::STAMP_BYTES;

/// Most classes of one workload.
const CLASSES_MAX: usize = 16;
/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 256 << 20;
/// Longest Message, in bytes: what length-prefixed frames carry.
const SIZE_MAX: u32 = 16 << 20;
/// What a Message carries if its class is told apart: its number, its time, its niceness, a mark.
pub(crate) const MARKED_BYTES: u32 = 24;

/// Gives the text of a file that a workload names.
pub(crate) type Read<'r> = &'r dyn Fn(&str) -> Result<String, String>;

/// The door: reads a text file.
///
/// # Errors
/// One line that names the file.
pub(crate) fn read(path: &str) -> Result<String, String> {
    let fault = |why: &dyn std::fmt::Display| format!("cannot read {path}: {why}");
    let size = std::fs::metadata(path).map_err(|error| fault(&error))?.len();
    if size > FILE_MAX {
        return Err(fault(&"it is larger than 256 MiB"));
    }
    std::fs::read_to_string(path).map_err(|error| fault(&error))
}

/// All kinds of Messages of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Workload {
    /// At least one, at most `CLASSES_MAX`.
    pub(crate) classes: Vec<Class>,
    /// Each Message carries its number, for answers may be lost or come out of turn.
    pub(crate) numbered: bool,
}

/// A workload file, understood.
#[derive(Debug)]
pub(crate) struct Described {
    /// Its classes.
    pub(crate) workload: Workload,
    /// Its rate, if it has one.
    pub(crate) rate: Option<String>,
    /// Its arrivals, if it has any.
    pub(crate) arrival: Option<String>,
}

/// What of the Messages' properties the library is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Variant {
    /// Their niceness.
    pub(crate) niceness: bool,
    /// Their deadlines, as lifetimes.
    pub(crate) lifetime: bool,
}

impl Workload {
    const fn of_classes(classes: Vec<Class>) -> Self {
        Self { classes, numbered: false }
    }

    /// One class of one size: what there is without `--class`.
    pub(crate) fn plain(sizes: Sizes) -> Self {
        let mut class = Draft::default().finish(0, 1.0);
        class.sizes = sizes;
        class.name = "all".to_owned();
        Self::of_classes(vec![class])
    }

    /// Whether one `--class` flag can be understood.
    ///
    /// # Errors
    /// One line that names the key.
    pub(crate) fn check_flag(flag: &str, read: Read<'_>) -> Result<(), String> {
        Draft::parse(flag, read).map(|_| ())
    }

    /// The classes of repeated `--class` flags.
    ///
    /// # Errors
    /// One line.
    pub(crate) fn of_flags(flags: &[String], read: Read<'_>) -> Result<Self, String> {
        let draft = |flag: &String| {
            Draft::parse(flag, read).map_err(|why| format!("--class {flag}: {why}"))
        };
        Self::of(flags.iter().map(draft).collect::<Result<_, _>>()?)
    }

    /// What the text of a workload file says.
    ///
    /// # Errors
    /// One line with the line of the file and the key.
    pub(crate) fn of_file(text: &str, read: Read<'_>) -> Result<Described, String> {
        let file::File { rate, arrival, classes } = file::parse(text, read)?;
        Ok(Described { workload: Self::of(classes)?, rate, arrival })
    }

    fn of(drafts: Vec<Draft>) -> Result<Self, String> {
        if drafts.is_empty() || drafts.len() > CLASSES_MAX {
            return Err(format!("a workload has 1 to {CLASSES_MAX} classes"));
        }
        let given: f64 = drafts.iter().filter_map(|draft| draft.share).sum();
        let open = drafts.iter().filter(|draft| draft.share.is_none()).count();
        if given > 1.0 + 1e-6 || (open == 0 && given < 1.0 - 1e-6) {
            let percent = given * 100.0;
            return Err(format!(
                "the shares of the classes are {percent:.2} % together, not 100 %"
            ));
        }
        let rest = ((1.0 - given) / open.max(1) as f64).max(0.0);
        let finish = |(at, draft): (usize, Draft)| {
            let share = draft.share.unwrap_or(rest);
            draft.finish(at, share)
        };
        let classes: Vec<Class> = drafts.into_iter().enumerate().map(finish).collect();
        for (at, class) in classes.iter().enumerate() {
            if classes[..at].iter().any(|before| before.name == class.name) {
                return Err(format!("two classes have the name {:?}", class.name));
            }
        }
        let mut lengths = classes.iter().filter_map(|class| class.chain);
        let first = lengths.next();
        if lengths.any(|length| Some(length) != first) {
            return Err(
                "chain: the classes that have it share their chains: give one length".into()
            );
        }
        Ok(Self::of_classes(classes))
    }

    /// Whether a workload that came from elsewhere is one that could have been typed.
    ///
    /// # Errors
    /// One line.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(1..=CLASSES_MAX).contains(&self.classes.len()) {
            return Err(format!("a workload has 1 to {CLASSES_MAX} classes"));
        }
        self.classes.iter().try_for_each(Class::check)
    }

    /// How long chains are; `None` without any.
    pub(crate) fn chain(&self) -> Option<u32> {
        self.classes.iter().find_map(|class| class.chain)
    }

    /// True if what becomes of single Messages is watched: there are several classes, or one that
    /// asks for more than to be sent in turn.
    pub(crate) fn is_watched(&self) -> bool {
        let asks = |class: &Class| {
            let ordered = class.niceness > 0 || class.chain.is_some();
            ordered || class.deadline.is_some() || class.tells_lifetime
        };
        self.classes.len() > 1 || self.classes.iter().any(asks)
    }

    /// No Message is shorter: what is watched carries a mark, what may be lost its number.
    pub(crate) fn least_bytes(&self) -> u32 {
        match (self.is_watched(), self.numbered) {
            (true, _) => MARKED_BYTES,
            (false, true) => STAMP_BYTES as u32,
            (false, false) => 0,
        }
    }

    /// Has the library told of the lifetimes that lines of a trace have and their classes have not.
    pub(crate) fn take_lifetimes(&mut self, lines: &mut [trace::Line]) {
        for line in lines.iter().filter(|line| line.deadline_ns.is_some()) {
            let class = &mut self.classes[usize::from(line.class)];
            class.tells_lifetime |= class.deadline.is_none();
        }
        let least = self.least_bytes();
        lines.iter_mut().for_each(|line| line.bytes = line.bytes.max(least));
    }

    /// The mean size of a Message, in bytes.
    pub(crate) fn mean_bytes(&self) -> f64 {
        let least = self.least_bytes();
        self.classes.iter().map(|class| class.share * class.sizes.mean_bytes(least)).sum()
    }

    /// The longest Message, in bytes.
    pub(crate) fn longest_bytes(&self) -> u32 {
        self.classes.iter().map(|class| class.sizes.at(1.0)).max().unwrap_or(0)
    }

    /// The same Messages, each with its number if that is needed.
    pub(crate) fn numbered_if(self, numbered: bool) -> Self {
        Self { numbered, ..self }
    }

    /// The same Messages, of which the library is told less.
    pub(crate) fn told(mut self, variant: Variant) -> Self {
        for class in &mut self.classes {
            class.tells_niceness &= variant.niceness;
            class.tells_lifetime &= variant.lifetime;
        }
        self
    }
}

#[cfg(test)]
#[path = "../tests/workload.rs"]
mod tests;
