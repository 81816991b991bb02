//! The house rules as tests: a broken rule names the file, the line and what to do.
//!
//! Below: `rules`, `imports` and `readme` hold the rules, `source` reads the tree. Absent: what
//! rustfmt, rustc and clippy check; `src/manual/style.rs` is the page that says all of it in prose.

mod imports;
mod readme;
mod rules;
mod source;

use std::sync::LazyLock;

use rules::Finding;
use source::Source;

static TREE: LazyLock<Vec<Source>> = LazyLock::new(source::tree);

fn assert_none(findings: &[Finding]) {
    let list: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "\n{}\n", list.join("\n"));
}

fn holds(rule: impl Fn(&[Source]) -> Vec<Finding>) {
    assert_none(&rule(&TREE));
}

#[test]
fn every_file_opens_with_its_job() {
    holds(rules::heads);
}

#[test]
fn files_have_at_most_500_lines() {
    holds(rules::file_lengths);
}

#[test]
fn lines_have_at_most_100_columns() {
    holds(rules::line_widths);
}

#[test]
fn unsafe_stands_in_the_kernel_only() {
    holds(rules::unsafe_inside_the_fence);
}

#[test]
fn the_fence_has_one_gate() {
    holds(rules::one_gate);
}

#[test]
fn safety_comments_cite_an_invariant() {
    holds(rules::safety_comments_cite);
}

#[test]
fn imports_go_one_way() {
    holds(imports::direction);
}

#[test]
fn tools_use_the_public_api_and_forbid_unsafe() {
    holds(rules::tools_stand_outside);
}

#[test]
fn time_is_an_argument_outside_the_engine() {
    holds(rules::clocks);
}

#[test]
fn linux_is_spelled_one_way() {
    holds(rules::one_spelling_of_linux);
}

#[test]
fn nothing_is_half_done() {
    holds(rules::leftovers);
}

#[test]
fn the_readme_shows_what_there_is() {
    let read = |path| std::fs::read_to_string(source::root().join(path));
    let readme = read("README.md").expect("a tree has a README");
    let hello = read("examples/hello.rs").expect("README's server is an example");
    assert_none(&readme::shows_hello(&readme, &hello));
    assert_none(&readme::links_lead_somewhere(&readme));
}

#[test]
fn the_manual_names_every_limit() {
    holds(rules::manual_names_every_limit);
}

#[test]
fn the_manual_names_every_ci_job() {
    let read = |path| std::fs::read_to_string(source::root().join(path));
    let script = read(".ci/run").expect("the one door exists");
    let page = read("src/manual/ci.rs").expect("the door has its page");
    assert_none(&rules::manual_names_every_job(&script, &page));
}

#[test]
fn the_top_level_holds_only_known_rooms() {
    assert_none(&rules::top_level());
}
