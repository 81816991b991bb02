//! SocketFile: the files that listening unix sockets of this process made, gone with the engine.
//!
//! Above: the start makes them known; the engine and its core threads share them, the last one to
//! end removes them. Below: the file system. Absent: sockets; files that another process made or
//! made anew in the same place.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Files to be removed when the last owner ends.
#[derive(Debug, Default)]
pub(crate) struct SocketFiles {
    files: Vec<SocketFile>,
    /// Somebody else listens on them from now on.
    handed_on: AtomicBool,
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode: another file in the same place is not ours.
    identity: (u64, u64),
}

impl SocketFiles {
    /// The file at `path` was just made by a bind of this process.
    pub(crate) fn made(&mut self, path: &Path) {
        // A name without a file leaves nothing to remove.
        let Some(identity) = identity(path) else { return };
        // The process may change its directory before the end.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        self.files.push(SocketFile { path, identity });
    }

    /// A successor has inherited the sockets: the files are left to it.
    pub(crate) fn hand_on(&self) {
        self.handed_on.store(true, Ordering::SeqCst);
    }
}

impl Drop for SocketFiles {
    fn drop(&mut self) {
        if self.handed_on.load(Ordering::SeqCst) {
            return;
        }
        for file in &self.files {
            if identity(&file.path) == Some(file.identity)
                && let Err(error) = std::fs::remove_file(&file.path)
            {
                let path = file.path.display();
                tracing::debug!(%path, %error, "a socket file stays behind");
            }
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = std::fs::symlink_metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files_of(path: &Path) -> SocketFiles {
        let mut files = SocketFiles::default();
        files.made(path);
        files
    }

    #[test]
    fn only_the_file_that_was_made_is_removed() {
        let directory = std::env::temp_dir().join(format!("postring-files-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("socket");
        let other = directory.join("other");
        std::fs::write(&path, "").unwrap();
        drop(files_of(&path));
        assert!(!path.exists(), "removed");

        std::fs::write(&path, "").unwrap();
        let files = files_of(&path);
        // While the old file exists its inode is not used again.
        std::fs::rename(&path, &other).unwrap();
        std::fs::write(&path, "made anew by another process").unwrap();
        drop(files);
        assert!(path.exists(), "not ours");

        let files = files_of(&path);
        files.hand_on();
        drop(files);
        assert!(path.exists(), "a successor listens on it");
        drop(files_of(Path::new("/nowhere/at/all")));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
