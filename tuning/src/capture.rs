//! Writes what an inspection read as a tree that can be inspected again.
//!
//! Above: `report::run`. Below: `tree`, whose recording is the list of files, so that this list
//! and the inspection can never differ.
//! Absent: nothing is copied that `inspect` does not read.
//! Bound: the target directory must be new or empty.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, bail};

use crate::inspect::{Inspection, inspect};
use crate::recorded::{self, Recorded};
use crate::tree::{Recording, Tree};

/// Inspects `tree` and writes all that was read to `target`. Gives back the inspection and the
/// number of files written.
pub(crate) fn capture(tree: Tree, target: &Path) -> anyhow::Result<(Inspection, usize)> {
    prepare(target)?;
    let tree = tree.recording();
    let inspection = inspect(&tree);
    let (recording, recorded) = tree.into_recording();
    write(&recording, recorded, target)
        .with_context(|| format!("the capture in {} is not complete", target.display()))?;
    Ok((inspection, recording.files.len()))
}

fn prepare(target: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(target).with_context(|| format!("cannot make {}", target.display()))?;
    let mut entries =
        fs::read_dir(target).with_context(|| format!("cannot look into {}", target.display()))?;
    if entries.next().is_some() {
        bail!("{} is not empty: name a new directory for the capture", target.display());
    }
    Ok(())
}

fn write(recording: &Recording, mut recorded: Recorded, target: &Path) -> anyhow::Result<()> {
    for directory in ["proc", "sys"].iter().map(Path::new) {
        make_directory(&target.join(directory))?;
    }
    for directory in &recording.directories {
        make_directory(&target.join(directory))?;
        let places = || recording.files.keys().chain(recording.links.keys());
        if !places().any(|place| place.starts_with(directory)) {
            // Version control forgets empty directories; a queue without readable files is one.
            let path = target.join(directory).join(".keep");
            fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    for (path, contents) in &recording.files {
        let path = target.join(path);
        make_directory(path.parent().unwrap_or(target))?;
        fs::write(&path, contents).with_context(|| format!("cannot write {}", path.display()))?;
    }
    for (path, to) in &recording.links {
        let path = target.join(path);
        make_directory(path.parent().unwrap_or(target))?;
        symlink(to, &path).with_context(|| format!("cannot link {}", path.display()))?;
    }
    // A tree that is captured again keeps the failures it was told of.
    recorded.unreadable.extend(recording.unreadable.clone());
    let mut json = serde_json::to_string_pretty(&recorded).context("cannot form JSON")?;
    json.push('\n');
    let path = target.join(recorded::FILE_NAME);
    fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))
}

fn make_directory(path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))
}
