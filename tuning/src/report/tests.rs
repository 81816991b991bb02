//! Hostile contents in every file of a tree: nothing panics, the report keeps its form.
//!
//! Above: `cargo test`. Below: the whole tool but for the live sources.
//! Bounds: `CASES` trees, each with at most `DAMAGED_MAX` damaged files.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::{json, text};
use crate::capture::capture;
use crate::inspect::inspect;
use crate::test_directory::TestDirectory;
use crate::tree::Tree;

const CASES: u32 = 24;
const DAMAGED_MAX: usize = 40;

fn recorded_tree(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trees").join(name)
}

/// Every file below `root`, with links kept as links.
fn copy(from: &Path, to: &Path, files: &mut Vec<PathBuf>) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&entry.path(), &target, files);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else {
            fs::copy(entry.path(), &target).unwrap();
            files.push(target);
        }
    }
}

/// Directories below `root` that hold nothing, apart from the two that every tree has.
fn empty_directories(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut rest = vec![root.to_owned()];
    while let Some(directory) = rest.pop() {
        let entries: Vec<_> = fs::read_dir(&directory).unwrap().map(Result::unwrap).collect();
        if entries.is_empty() && directory.parent() != Some(root) {
            found.push(directory);
        }
        let below = entries.iter().filter(|entry| entry.file_type().unwrap().is_dir());
        rest.extend(below.map(|entry| entry.path()));
    }
    found
}

fn contents() -> impl Strategy<Value = Vec<u8>> {
    let hostile = proptest::sample::select(vec![
        "",
        "\n",
        "-1",
        "0",
        "1",
        "2",
        "18446744073709551615",
        "99999999999999999999",
        "0-8191",
        "0-4294967295",
        "4294967295",
        "f,ffffffff",
        "max 0",
        "max",
        "1 0",
        "NaN NaN",
        "-",
        ",",
        "0::/",
        "0::/../..",
        "1:cpu:",
        ":::",
        "unlimited",
        "Max open files",
        "Seccomp: 2",
        "Cpus_allowed_list:",
        "Node 0 MemTotal: kB",
        "{\"schema\": 1}",
        "\u{1b}[2J",
        "../..",
    ]);
    prop_oneof![
        hostile.prop_map(|text| text.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..300),
        any::<String>().prop_map(String::into_bytes),
    ]
}

/// Which file, what to write into it, and whether to remove it instead or make it a directory.
fn damage() -> impl Strategy<Value = (proptest::sample::Index, Vec<u8>, u32)> {
    (any::<proptest::sample::Index>(), contents(), 0_u32..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn any_contents_give_a_report(
        name in proptest::sample::select(vec!["virtio-vm", "two-nodes"]),
        damage in proptest::collection::vec(damage(), 1..DAMAGED_MAX),
    ) {
        let directory = TestDirectory::new("fuzz");
        let mut files = Vec::new();
        copy(&recorded_tree(name), directory.path(), &mut files);
        files.sort();
        for (index, bytes, kind) in damage {
            let file = index.get(&files);
            match kind {
                0 => drop(fs::remove_file(file)),
                1 => {
                    let _ = fs::remove_file(file);
                    let _ = fs::create_dir(file);
                }
                _ => drop(fs::write(file, bytes)),
            }
        }
        let tree = Tree::recorded(directory.path()).unwrap();
        let inspection = inspect(&tree);
        let json = json::render(&inspection).unwrap();
        prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
        for line in text::render(&inspection, false).lines() {
            prop_assert!(line.chars().count() <= 100, "too wide: {}", line);
            prop_assert!(!line.contains(char::is_control), "control character: {:?}", line);
        }
    }
}

#[test]
fn a_captured_tree_gives_the_same_report() {
    for name in ["virtio-vm", "two-nodes", "broken"] {
        let directory = TestDirectory::new("capture");
        let target = directory.path().join("tree");
        let tree = Tree::recorded(&recorded_tree(name)).unwrap();
        let (original, _) = capture(tree, &target).unwrap();
        assert_eq!(empty_directories(&target), Vec::<PathBuf>::new(), "{name}: git loses them");
        let again = inspect(&Tree::recorded(&target).unwrap());
        let (original, again) = (json::render(&original).unwrap(), json::render(&again).unwrap());
        if name == "broken" {
            // Its recorded.json cannot be read, so the reasons that quote it differ; no more.
            assert!(again.contains("\"schema\": 1"));
        } else {
            for (original, again) in original.lines().zip(again.lines()) {
                assert_eq!(original, again, "{name}");
            }
            assert_eq!(original.len(), again.len(), "{name}");
        }
        let error = capture(Tree::recorded(&recorded_tree(name)).unwrap(), &target).unwrap_err();
        assert!(error.to_string().contains("is not empty"), "{error}");
    }
}
