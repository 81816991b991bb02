//! The house rules that one look at a file can check; each gives the places that break it.
//!
//! Above: `main` runs every rule over the tree. Below: `source`. Absent: what other tools check
//! already: function length, missing docs and unwrap are clippy's, layout is rustfmt's.

use std::fmt;

use crate::source::{Source, line_of, root, words};

const LINES_MAX: usize = 500;
const COLUMNS_MAX: usize = 100;

/// Files longer than `LINES_MAX`: path, lines at most, and why. An entry may only shrink: the
/// number is the file's length today, and a file that got shorter must take its number along.
const LONG_FILES: [(&str, usize, &str); 0] = [];

/// The one folder where `unsafe` may stand. The rivals of the benchmarks are no part of the
/// library: they are written as their users would write them.
const FENCE: &str = "src/kernel/";
const FENCE_FILE: &str = "src/kernel/mod.rs";
const RIVALS: &str = "benches/rivals/";

/// Where the clock may be read; everywhere else `now` is an argument.
const CLOCKS: [&str; 8] = [
    "src/engine/",
    "src/kernel/",
    "src/simulation/",
    "loadgen/",
    "benches/",
    "examples/",
    "tests/",
    "fuzz/",
];

/// A place that breaks a rule.
pub(crate) struct Finding {
    place: String,
    wrong: String,
}

impl Finding {
    pub(crate) fn new(source: &Source, line: usize, wrong: impl Into<String>) -> Self {
        Self { place: format!("{}:{line}", source.path), wrong: wrong.into() }
    }

    pub(crate) fn of_file(path: &str, wrong: impl Into<String>) -> Self {
        Self { place: format!("{path}:1"), wrong: wrong.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.wrong)
    }
}

/// Every file opens with what it is for.
pub(crate) fn heads(sources: &[Source]) -> Vec<Finding> {
    let headless = sources.iter().filter(|source| !source.text.starts_with("//! "));
    let wrong = "the first line must be `//! ` and the file's job in one sentence";
    headless.map(|source| Finding::new(source, 1, wrong)).collect()
}

/// No file is longer than a reader's patience.
pub(crate) fn file_lengths(sources: &[Source]) -> Vec<Finding> {
    file_lengths_but(sources, &LONG_FILES)
}

fn file_lengths_but(sources: &[Source], long: &[(&str, usize, &str)]) -> Vec<Finding> {
    let lines = |source: &Source| source.text.lines().count();
    let mut findings = Vec::new();
    for source in sources {
        let known = long.iter().find(|entry| entry.0 == source.path);
        let max = known.map_or(LINES_MAX, |entry| entry.1);
        if lines(source) > max {
            let wrong = format!("{} lines, at most {max}: split it", lines(source));
            findings.push(Finding::new(source, max + 1, wrong));
        }
    }
    for (path, max, _why) in long {
        let now = sources.iter().find(|source| source.path == *path).map_or(0, lines);
        if now < *max {
            let wrong = format!("LONG_FILES says {max} lines, it has {now}: shrink the entry");
            findings.push(Finding::of_file(path, wrong));
        }
    }
    findings
}

/// No line is wider than the page.
pub(crate) fn line_widths(sources: &[Source]) -> Vec<Finding> {
    let too_wide = |source: &Source| {
        let lines = source.text.lines().enumerate();
        let wide = lines.filter(|(_, line)| line.chars().count() > COLUMNS_MAX);
        let finding = |(index, line): (usize, &str)| {
            let wrong = format!("{} columns, at most {COLUMNS_MAX}", line.chars().count());
            Finding::new(source, index + 1, wrong)
        };
        wide.map(finding).collect::<Vec<_>>()
    };
    sources.iter().flat_map(too_wide).collect()
}

/// `unsafe` stands inside the fence only.
pub(crate) fn unsafe_inside_the_fence(sources: &[Source]) -> Vec<Finding> {
    let outside = sources.iter().filter(|source| !source.is_in(FENCE) && !source.is_in(RIVALS));
    let wrong = "`unsafe` is for src/kernel/ alone; see src/manual/unsafe_policy.rs";
    outside.flat_map(|source| found(source, &source.code, &["unsafe"], wrong)).collect()
}

/// The fence has one gate, in one line so that a search finds it, and something to guard.
pub(crate) fn one_gate(sources: &[Source]) -> Vec<Finding> {
    let gate = |line: &str| {
        let lint = line.find("unsafe_code").unwrap_or_default();
        ["allow(", "expect("].iter().any(|word| line[..lint].contains(word))
    };
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.path != FENCE_FILE) {
        for (index, _) in source.code.lines().enumerate().filter(|(_, line)| gate(line)) {
            let wrong = format!("only {FENCE_FILE} may switch the ban on unsafe off");
            findings.push(Finding::new(source, index + 1, wrong));
        }
    }
    if let Some(fence) = sources.iter().find(|source| source.path == FENCE_FILE) {
        if !fence.code.lines().any(gate) {
            let wrong = "the gate `allow` of the unsafe lint must stand in one line";
            findings.push(Finding::new(fence, 1, wrong));
        }
        let mut inside = sources.iter().filter(|source| source.is_in(FENCE));
        if !inside.any(|source| words(&source.code, "unsafe").next().is_some()) {
            findings.push(Finding::new(fence, 1, "a stale gate: nothing under it is unsafe"));
        }
    }
    findings
}

/// Every SAFETY comment cites an invariant that the head of the fence defines, and every one
/// defined there is cited.
pub(crate) fn safety_comments_cite(sources: &[Source]) -> Vec<Finding> {
    let Some(fence) = sources.iter().find(|source| source.path == FENCE_FILE) else {
        return Vec::new();
    };
    let head = fence.text.lines().filter_map(|line| line.split_once("**K"));
    let defined: Vec<String> = head.map(|(_, rest)| number(rest)).collect();
    let mut cited = Vec::new();
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.is_in(FENCE)) {
        for (index, line) in source.text.lines().enumerate() {
            let Some((_, comment)) = line.split_once("// SAFETY:") else { continue };
            let invariant = comment.trim_start().strip_prefix("[K").map(number);
            if invariant.as_ref().is_some_and(|invariant| defined.contains(invariant)) {
                cited.extend(invariant);
            } else {
                let wrong = "a SAFETY comment begins with an invariant of kernel/mod.rs: [K1]";
                findings.push(Finding::new(source, index + 1, wrong));
            }
        }
    }
    let stale = defined.iter().filter(|number| !cited.contains(number));
    findings.extend(stale.map(|number| {
        let wrong = format!("K{number} is cited by no SAFETY comment: a stale invariant");
        Finding::new(fence, 1, wrong)
    }));
    findings
}

fn number(text: &str) -> String {
    text.chars().take_while(char::is_ascii_digit).collect()
}

/// The tools stand outside: they forbid `unsafe` and reach the library as its users do.
pub(crate) fn tools_stand_outside(sources: &[Source]) -> Vec<Finding> {
    let tools = sources.iter().filter(|source| source.is_in("loadgen/") || source.is_in("tuning/"));
    let mut findings = Vec::new();
    for source in tools {
        let is_stub = source.code.trim() == "fn main() {}";
        let forbids = source.code.contains("#![forbid(unsafe_code)]");
        if source.is_root() && !is_stub && !forbids {
            findings.push(Finding::new(source, 1, "a tool says `#![forbid(unsafe_code)]`"));
        }
        let lines = source.code.lines().zip(source.text.lines()).enumerate();
        // As many steps up as the file lies deep below the tool's folder still stay inside.
        let deep = source.path.matches('/').count() - 1;
        let leaves = |code: &str, text: &str| {
            let reaches = ["#[path", "include!"].iter().any(|word| code.contains(word));
            reaches && text.matches("../").count() > deep
        };
        let leaving = lines.filter(|(_, (code, text))| leaves(code, text));
        let wrong = "a tool uses the library through `postring::` only";
        findings.extend(leaving.map(|(index, _)| Finding::new(source, index + 1, wrong)));
    }
    findings
}

/// Time is an argument outside the engine.
pub(crate) fn clocks(sources: &[Source]) -> Vec<Finding> {
    let timeless = sources.iter().filter(|source| !CLOCKS.iter().any(|clock| source.is_in(clock)));
    let readings = ["Instant::now", "SystemTime::now", ".elapsed("];
    let wrong = "the clock is read in the engine only: take `now` as an argument";
    timeless.flat_map(|source| found(source, &source.shipped, &readings, wrong)).collect()
}

/// "Linux" means "with the kernel" and is spelled one way, or CI's stand-in for other systems
/// would compile what they do not have.
pub(crate) fn one_spelling_of_linux(sources: &[Source]) -> Vec<Finding> {
    let ours = sources.iter().filter(|source| source.is_in("src/"));
    let bare = |source: &Source| {
        let lines = source.shipped.lines().enumerate();
        let bare = lines
            .filter(|(_, line)| line.contains("target_os") && !line.contains("postring_no_kernel"));
        let wrong = "write cfg(all(target_os = \"linux\", not(postring_no_kernel)))";
        bare.map(|(index, _)| Finding::new(source, index + 1, wrong)).collect::<Vec<_>>()
    };
    ours.flat_map(bare).collect()
}

/// Nothing half done and nothing left over from a hunt.
pub(crate) fn leftovers(sources: &[Source]) -> Vec<Finding> {
    let leftovers = ["todo!", "unimplemented!", "dbg!"];
    let wrong = "unfinished or left over";
    sources.iter().flat_map(|source| found(source, &source.code, &leftovers, wrong)).collect()
}

/// The manual's page names every limit and timeout that can be set.
pub(crate) fn manual_names_every_limit(sources: &[Source]) -> Vec<Finding> {
    let file = |path: &str| sources.iter().find(|source| source.path == path);
    let (Some(limits), Some(page)) = (file("src/limits.rs"), file("src/manual/limits.rs")) else {
        return Vec::new();
    };
    let fields = limits.code.lines().enumerate().filter_map(|(index, line)| {
        let name = line.strip_prefix("    pub ")?.split_once(':')?.0;
        Some((index + 1, name))
    });
    let unnamed = fields.filter(|(_, name)| !page.text.contains(&format!("`{name}`")));
    let wrong = |name| format!("`{name}` is missing in src/manual/limits.rs");
    unnamed.map(|(line, name)| Finding::new(limits, line, wrong(name))).collect()
}

/// The manual's page says of every CI job what it is for, and of no other.
pub(crate) fn manual_names_every_job(script: &str, page: &str) -> Vec<Finding> {
    let list = script.split_once("JOBS=(").and_then(|(_, rest)| rest.split_once(')'));
    let jobs: Vec<&str> = list.map_or("", |(list, _)| list).split_whitespace().collect();
    let items = page.lines().filter_map(|line| line.strip_prefix("//! - `")?.split_once("`: "));
    let named: Vec<&str> = items.map(|(name, _)| name).collect();
    let unnamed = jobs.iter().filter(|job| !named.contains(job));
    let stale = named.iter().filter(|name| !jobs.contains(name));
    let finding = |name: &&str| {
        let wrong = format!("`{name}` stands in one of .ci/run and this page, not in both");
        Finding::of_file("src/manual/ci.rs", wrong)
    };
    unnamed.chain(stale).map(finding).collect()
}

/// What stands at the top of the tree says how the parts are found: nothing else may appear.
pub(crate) fn top_level() -> Vec<Finding> {
    const KNOWN: [&str; 16] = [
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "benches",
        "clippy.toml",
        "deny.toml",
        "examples",
        "fuzz",
        "loadgen",
        "rustfmt.toml",
        "src",
        "tests",
        "tuning",
    ];
    let entries = std::fs::read_dir(root()).expect("the root of the tree can be read");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    // What commands leave behind, such as README's first one, is no part of the tree.
    let ignored = std::fs::read_to_string(root().join(".gitignore")).unwrap_or_default();
    let is_ignored = |name: &str| ignored.lines().any(|line| line.trim_matches('/') == name);
    let is_known = |name: &str| KNOWN.contains(&name) || name.starts_with('.') || is_ignored(name);
    let unknown = names.filter(|name| !is_known(name));
    let wrong = "a new name at the top level: find it a room, or add it to the rule with a reason";
    unknown.map(|name| Finding::of_file(&name, wrong)).collect()
}

fn found(source: &Source, code: &str, wanted: &[&str], wrong: &str) -> Vec<Finding> {
    let places = wanted.iter().flat_map(|word| words(code, word).map(move |at| (at, word)));
    let finding = |(at, word): (usize, &&str)| {
        Finding::new(source, line_of(code, at), format!("`{word}`: {wrong}"))
    };
    places.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.place.as_str()).collect()
    }

    #[test]
    fn a_long_file_and_a_stale_entry_are_found() {
        let source = |count| [Source::new("src/a.rs", &"//! a\n".repeat(count))];
        assert!(file_lengths_but(&source(500), &[]).is_empty());
        assert_eq!(lines(&file_lengths_but(&source(501), &[])), ["src/a.rs:501"]);
        let entry = [("src/a.rs", 600, "a table")];
        assert!(file_lengths_but(&source(600), &entry).is_empty());
        assert_eq!(lines(&file_lengths_but(&source(601), &entry)), ["src/a.rs:601"]);
        assert_eq!(lines(&file_lengths_but(&source(599), &entry)), ["src/a.rs:1"]);
        assert_eq!(lines(&file_lengths_but(&[], &entry)), ["src/a.rs:1"]);
    }

    #[test]
    fn heads_widths_clocks_and_leftovers_are_found_where_they_stand() {
        let text =
            format!("fn a() {{}}\n// {}\nfn b() {{ Instant::now(); todo!() }}\n", "é".repeat(98));
        let sources = [Source::new("src/shard/turn.rs", &text)];
        assert_eq!(lines(&heads(&sources)), ["src/shard/turn.rs:1"]);
        assert_eq!(lines(&line_widths(&sources)), ["src/shard/turn.rs:2"]);
        assert_eq!(lines(&clocks(&sources)), ["src/shard/turn.rs:3"]);
        assert_eq!(lines(&leftovers(&sources)), ["src/shard/turn.rs:3"]);
        let in_test = "#[cfg(test)]\nmod tests { fn a() { Instant::now(); } }\n";
        assert!(clocks(&[Source::new("src/shard/turn.rs", in_test)]).is_empty());
        let cfg = "#[cfg(all(target_os = \"linux\", not(postring_no_kernel)))]\n";
        let text = format!("{cfg}fn a() {{}}\n#[cfg(target_os = \"linux\")]\nfn b() {{}}\n");
        assert_eq!(
            lines(&one_spelling_of_linux(&[Source::new("src/a.rs", &text)])),
            ["src/a.rs:3"]
        );
    }

    #[test]
    fn the_fence_has_one_gate_and_cites_its_invariants() {
        let gate = format!("#![{}(unsafe_code)]\n", "allow");
        let head = "//! - **K1, owned.**\n//! - **K2, one state.**\n";
        let ring = "// SAFETY: [K1] owned.\nunsafe {}\n// SAFETY: [K9] no.\n// SAFETY: no.\n";
        let good = [
            Source::new(FENCE_FILE, &format!("{head}{gate}")),
            Source::new("src/kernel/ring.rs", ring),
        ];
        assert!(one_gate(&good).is_empty());
        assert!(unsafe_inside_the_fence(&good).is_empty());
        let uncited = safety_comments_cite(&good);
        let expected = ["src/kernel/ring.rs:3", "src/kernel/ring.rs:4", "src/kernel/mod.rs:1"];
        assert_eq!(lines(&uncited), expected);
        let bad = [
            Source::new(FENCE_FILE, &gate.replace('(', "(\n")),
            Source::new("src/shard/mod.rs", &format!("{gate}unsafe {{}}\n")),
        ];
        let places = ["src/shard/mod.rs:1", "src/kernel/mod.rs:1", "src/kernel/mod.rs:1"];
        assert_eq!(lines(&one_gate(&bad)), places);
        assert_eq!(lines(&unsafe_inside_the_fence(&bad)), ["src/shard/mod.rs:2"]);
    }

    #[test]
    fn jobs_and_their_page_are_compared_both_ways() {
        let page = "//! - `fmt`: Layout.\n//! - `gone`: Stale.\n";
        let findings = manual_names_every_job("JOBS=(fmt\n      new)\n", page);
        let named: Vec<_> = findings.iter().map(|finding| &finding.wrong[..6]).collect();
        assert_eq!(named, ["`new` ", "`gone`"]);
    }

    #[test]
    fn tools_and_the_page_of_limits_are_held_to_their_rules() {
        let tool =
            Source::new("loadgen/src/main.rs", "//! a\n#[path = \"../../src/x.rs\"]\nmod a;\n");
        assert_eq!(tools_stand_outside(&[tool]).len(), 2);
        let inside = "//! a\n#[path = \"../tests/x.rs\"]\nmod a;\n";
        assert!(tools_stand_outside(&[Source::new("loadgen/src/a/mod.rs", inside)]).is_empty());
        let limits =
            "//! a\npub struct Limits {\n    pub mailbox: usize,\n    pub tasks: usize,\n}\n";
        let sources = [
            Source::new("src/limits.rs", limits),
            Source::new("src/manual/limits.rs", "//! | `tasks` |\n"),
        ];
        assert_eq!(lines(&manual_names_every_limit(&sources)), ["src/limits.rs:3"]);
    }
}
