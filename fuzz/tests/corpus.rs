//! Every committed input through its target: what was found once is not found again.
//!
//! Below: `postring_fuzz::TARGETS`, `corpus/NAME/`. Absent: looking for new inputs; that is
//! `cargo +nightly fuzz run NAME`.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<_> =
        entries.map(|entry| entry.expect("a folder that opens can be read").path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_input_keeps_its_property() {
    let mut failed = Vec::new();
    for (name, target) in postring_fuzz::TARGETS {
        let inputs = files(&corpus().join(name));
        assert!(!inputs.is_empty(), "corpus/{name} is empty");
        for path in &inputs {
            let input = fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            // Every beginning of an input is an input: parsers meet cut data all the time.
            for len in 0..=input.len().min(256) {
                if catch_unwind(|| target(&input[..len])).is_err() {
                    failed.push(format!("{}: the first {len} bytes", path.display()));
                }
            }
            if catch_unwind(|| target(&input)).is_err() {
                failed.push(path.display().to_string());
            }
        }
        println!("{name}: {} inputs", inputs.len());
    }
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

#[test]
fn every_folder_has_a_target() {
    let known = postring_fuzz::TARGETS.map(|(name, _)| name);
    for folder in files(&corpus()) {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        assert!(known.contains(&name), "corpus/{name} belongs to no target");
    }
}
