//! The only reader of /proc and /sys, below a root that is `/` or a recorded tree.
//!
//! Above: every part of `inspect` asks here by absolute path; `capture` takes the recording.
//! Below: the file system, `recorded` for what is not a file, `netlink` and `ring` when live.
//! Absent: no meaning: contents are text, numbers and names. Nothing is ever written.
//! Bounds: `FILE_BYTES_MAX` per file, `ENTRIES_MAX` per directory; only regular files are read
//! (a FIFO would hang), and a link that leads out of the tree is not followed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};

use crate::cpus::CpuSet;
use crate::fact::Fact;
use crate::recorded::{self, Recorded};
use crate::words::{error_words, excerpt};
use crate::{netlink, ring};

/// Bytes read from one file: /proc/interrupts of a host with 1 024 CPUs and 1 000 IRQs fits.
pub(crate) const FILE_BYTES_MAX: u64 = 16 << 20;

/// Entries read from one directory.
pub(crate) const ENTRIES_MAX: usize = 65_536;

/// Every place of the machine that was read, ready to be written as a tree. Paths are relative
/// to the root. Links below /sys are kept, because a device's place is a fact; others are not.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
    pub(crate) links: BTreeMap<PathBuf, PathBuf>,
    pub(crate) directories: BTreeSet<PathBuf>,
    /// Absolute path in the tree to the error in words.
    pub(crate) unreadable: BTreeMap<String, String>,
}

/// A machine's /proc and /sys, live or recorded.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Canonical.
    root: PathBuf,
    live: bool,
    recorded: Recorded,
    recording: Option<RefCell<Recording>>,
}

impl Tree {
    /// The machine this process runs on. Asks netlink and tries io_uring once.
    pub(crate) fn live() -> Self {
        let mut recorded = Recorded::unknown("not asked");
        recorded.netlink = netlink::ask();
        recorded.io_uring_attempt = ring::attempt();
        Self { root: PathBuf::from("/"), live: true, recorded, recording: None }
    }

    /// A tree made by `tuning inspect --capture` or by hand. An error if `root` is no directory
    /// or has neither `sys` nor `proc`.
    pub(crate) fn recorded(root: &Path) -> anyhow::Result<Self> {
        let canonical = fs::canonicalize(root)
            .with_context(|| format!("cannot open the recorded tree {}", root.display()))?;
        if !canonical.join("sys").is_dir() && !canonical.join("proc").is_dir() {
            bail!(
                "{} is not a recorded tree: it has no directory sys or proc; \
                 make one with: tuning inspect --capture DIR",
                root.display()
            );
        }
        let bare = Recorded::unknown("no such file");
        let mut tree = Self { root: canonical, live: false, recorded: bare, recording: None };
        tree.recorded = match tree.text(&format!("/{}", recorded::FILE_NAME)) {
            Fact::Known(text) => Recorded::from_json(&text),
            Fact::Unknown { unknown } => Recorded::unknown(&unknown),
        };
        Ok(tree)
    }

    /// The same tree, remembering everything it reads from now on.
    pub(crate) fn recording(mut self) -> Self {
        self.recording = Some(RefCell::default());
        self
    }

    /// What was read since `recording`, and what the tree holds beside files.
    pub(crate) fn into_recording(self) -> (Recording, Recorded) {
        (self.recording.map(RefCell::into_inner).unwrap_or_default(), self.recorded)
    }

    /// True for the machine this process runs on.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// What netlink said.
    pub(crate) fn netlink(&self) -> &Fact<netlink::Answers> {
        &self.recorded.netlink
    }

    /// What came of creating an io_uring.
    pub(crate) fn io_uring_attempt(&self) -> &Fact<ring::Attempt> {
        &self.recorded.io_uring_attempt
    }

    /// A file's text without the white space at its end.
    pub(crate) fn text(&self, path: &str) -> Fact<String> {
        let bytes = match self.recorded.unreadable.get(path) {
            Some(error) => Err(error.clone()),
            None => self.read(path).map_err(|error| error_words(&error)),
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => return Fact::unknown(format!("{path}: {error}")),
        };
        match String::from_utf8(bytes) {
            Ok(text) => Fact::Known(text.trim_end().to_owned()),
            Err(error) => {
                let place = error.utf8_error().valid_up_to();
                Fact::unknown(format!("{path}: not text (byte {place} is not UTF-8)"))
            }
        }
    }

    /// A file's text as one number (or whatever else `T` parses).
    pub(crate) fn number<T: FromStr>(&self, path: &str) -> Fact<T> {
        self.parsed(path, |text| {
            text.trim().parse().map_err(|_| format!("{} is not a number in range", excerpt(text)))
        })
    }

    /// A file in list notation, `0-3,8`.
    pub(crate) fn cpu_list(&self, path: &str) -> Fact<CpuSet> {
        self.parsed(path, CpuSet::from_list)
    }

    /// A file in mask notation, `ff,00000003`.
    pub(crate) fn cpu_mask(&self, path: &str) -> Fact<CpuSet> {
        self.parsed(path, CpuSet::from_mask)
    }

    /// A file's text put through `parse`; its error becomes the reason, after the path.
    pub(crate) fn parsed<T>(
        &self,
        path: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Fact<T> {
        self.text(path).and_then(|text| match parse(&text) {
            Ok(value) => Fact::Known(value),
            Err(error) => Fact::unknown(format!("{path}: {error}")),
        })
    }

    /// The names in a directory that `wanted` accepts, in natural order (`rx-2` before `rx-10`).
    /// Regular files are left out unless `files` is set.
    pub(crate) fn names(
        &self,
        path: &str,
        files: bool,
        wanted: impl Fn(&str) -> bool,
    ) -> Fact<Vec<String>> {
        match self.list(path, files, wanted) {
            Ok(names) => Fact::Known(names),
            Err(error) => Fact::unknown(format!("{path}: {}", error_words(&error))),
        }
    }

    /// The absolute path inside the tree to which `path` leads when every link is followed.
    pub(crate) fn place(&self, path: &str) -> Fact<String> {
        match self.locate(path) {
            Ok(place) => {
                self.note(path, |recording| {
                    recording.directories.insert(self.relative(path, &place));
                });
                Fact::Known(format!("/{}", self.relative("", &place).display()))
            }
            Err(error) => Fact::unknown(format!("{path}: {}", error_words(&error))),
        }
    }

    /// The last name of a link's target, which need not exist in the tree.
    pub(crate) fn link_name(&self, path: &str) -> Fact<String> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let target = self.locate(parent).and_then(|parent| fs::read_link(parent.join(name)));
        match target {
            Ok(target) => {
                self.note(path, |_| ());
                Fact::from_option(
                    target.file_name().map(|name| name.to_string_lossy().into_owned()),
                    || format!("{path}: its target has no name"),
                )
            }
            Err(error) => Fact::unknown(format!("{path}: {}", error_words(&error))),
        }
    }

    /// The canonical path on this machine of a path in the tree.
    fn locate(&self, path: &str) -> io::Result<PathBuf> {
        let place = fs::canonicalize(self.root.join(path.trim_start_matches('/')))?;
        if place.starts_with(&self.root) {
            Ok(place)
        } else {
            Err(io::Error::other("leads out of the tree"))
        }
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let read = self.locate(path).and_then(|place| {
            let bytes = read_regular(&place)?;
            Ok((place, bytes))
        });
        match read {
            Ok((place, bytes)) => {
                self.note(path, |recording| {
                    recording.files.insert(self.relative(path, &place), bytes.clone());
                });
                Ok(bytes)
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    self.note(path, |recording| {
                        recording.unreadable.insert(path.to_owned(), error_words(&error));
                    });
                }
                Err(error)
            }
        }
    }

    fn list(
        &self,
        path: &str,
        files: bool,
        wanted: impl Fn(&str) -> bool,
    ) -> io::Result<Vec<String>> {
        let place = self.locate(path)?;
        let mut names = Vec::new();
        for (count, entry) in fs::read_dir(&place)?.enumerate() {
            if count >= ENTRIES_MAX {
                return Err(io::Error::other(format!("over {ENTRIES_MAX} entries")));
            }
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let file = entry.file_type()?.is_file();
            if wanted(&name) && (files || !file) {
                self.note(&format!("{path}/{name}"), |recording| {
                    let entry = self.relative(&format!("{path}/{name}"), &place.join(&name));
                    match file {
                        true => drop(recording.files.entry(entry).or_default()),
                        false => drop(recording.directories.insert(entry)),
                    }
                });
                names.push(name);
            }
        }
        names.sort_by(|one, other| natural_key(one).cmp(&natural_key(other)));
        Ok(names)
    }

    /// Where a recording keeps what was found at `place` when `path` was asked for.
    fn relative(&self, path: &str, place: &Path) -> PathBuf {
        if path.starts_with("/proc/") {
            // /proc/self is a link to a number that means nothing later.
            return PathBuf::from(path.trim_start_matches('/'));
        }
        place.strip_prefix(&self.root).unwrap_or(place).to_owned()
    }

    /// While recording: keeps the links on the way to `path`, then lets `change` add the rest.
    fn note(&self, path: &str, change: impl FnOnce(&mut Recording)) {
        let Some(recording) = &self.recording else { return };
        let mut recording = recording.borrow_mut();
        change(&mut recording);
        if !path.starts_with("/sys/") {
            return;
        }
        let mut place = self.root.clone();
        for component in Path::new(path).components() {
            match component {
                Component::Normal(name) => place.push(name),
                _ => continue,
            }
            if let Ok(target) = fs::read_link(&place) {
                let link = place.strip_prefix(&self.root).unwrap_or(&place).to_owned();
                recording.directories.remove(&link);
                recording.links.insert(link, target);
                let Ok(next) = fs::canonicalize(&place) else { return };
                place = next;
            }
        }
    }
}

fn read_regular(place: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(place)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(place)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("over {} MiB", FILE_BYTES_MAX >> 20)));
    }
    Ok(bytes)
}

/// Digits at the end count as a number, so that names sort as people count.
fn natural_key(name: &str) -> (&str, u64, &str) {
    let stem = name.trim_end_matches(|last: char| last.is_ascii_digit());
    (stem, name[stem.len()..].parse().unwrap_or(0), name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;
    use std::os::unix::fs::symlink;

    #[test]
    fn reasons_name_the_path_and_the_trouble() {
        let directory = TestDirectory::new("tree-reasons");
        directory.file("sys/number", b"12 monkeys\n");
        directory.file("sys/binary", b"ok\xff");
        directory.file("sys/list", b"0-x");
        let tree = Tree::recorded(directory.path()).unwrap();
        let reason = |fact: Fact<u32>| match fact {
            Fact::Unknown { unknown } => unknown,
            Fact::Known(value) => panic!("known: {value}"),
        };
        let number = reason(tree.number("/sys/number"));
        assert_eq!(number, "/sys/number: \"12 monkeys\" is not a number in range");
        let binary = reason(tree.number("/sys/binary"));
        assert_eq!(binary, "/sys/binary: not text (byte 2 is not UTF-8)");
        let gone = reason(tree.number("/sys/gone"));
        assert_eq!(gone, "/sys/gone: No such file or directory");
        let list = reason(tree.cpu_list("/sys/list").map(|_| 0));
        assert_eq!(list, "/sys/list: \"0-x\" is not a CPU or a range of CPUs");
        assert_eq!(reason(tree.number("/sys")), "/sys: not a regular file");
    }

    #[test]
    fn a_link_out_of_the_tree_is_not_followed() {
        let directory = TestDirectory::new("tree-link");
        directory.file("sys/inside", b"1");
        symlink("/etc/hostname", directory.path().join("sys/absolute")).unwrap();
        symlink("../../../../../../../../etc/hostname", directory.path().join("sys/up")).unwrap();
        symlink("inside", directory.path().join("sys/good")).unwrap();
        let tree = Tree::recorded(directory.path()).unwrap();
        assert_eq!(tree.text("/sys/good"), Fact::Known("1".into()));
        for path in ["/sys/absolute", "/sys/up", "/sys/../../../../../../../../etc/hostname"] {
            assert!(tree.text(path).known().is_none(), "{path} was followed");
        }
    }

    #[test]
    fn a_fifo_in_the_tree_does_not_hang_the_reader() {
        let directory = TestDirectory::new("tree-fifo");
        directory.file("sys/file", b"");
        let fifo = directory.path().join("sys/fifo");
        match std::process::Command::new("mkfifo").arg(&fifo).status() {
            Ok(status) if status.success() => {}
            other => return println!("SKIP: no FIFO can be made here: {other:?}"),
        }
        let tree = Tree::recorded(directory.path()).unwrap();
        assert_eq!(tree.text("/sys/fifo"), Fact::unknown("/sys/fifo: not a regular file"));
    }

    #[test]
    fn what_is_no_tree_is_refused_in_one_line() {
        let directory = TestDirectory::new("tree-none");
        let error = Tree::recorded(directory.path()).unwrap_err().to_string();
        assert!(error.contains("is not a recorded tree") && !error.contains('\n'), "{error}");
        let error = Tree::recorded(&directory.path().join("gone")).unwrap_err().to_string();
        assert!(error.contains("cannot open the recorded tree"), "{error}");
    }

    #[test]
    fn names_are_in_natural_order_without_files() {
        let directory = TestDirectory::new("tree-names");
        for name in ["rx-10", "rx-2", "tx-0", "other"] {
            directory.file(&format!("sys/queues/{name}/file"), b"");
        }
        directory.file("sys/queues/rx-file", b"");
        let tree = Tree::recorded(directory.path()).unwrap();
        let names = tree.names("/sys/queues", false, |name| name.starts_with("rx-"));
        assert_eq!(names, Fact::Known(vec!["rx-2".into(), "rx-10".into()]));
    }
}
