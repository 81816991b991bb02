//! README against the tree: what it shows is what there is.
//!
//! Above: `main` runs both rules. Below: `rules` has the findings. Absent: its prose; links to
//! other hosts. CI's jobs `test` and `loadgen` run the two commands it promises.

use crate::rules::Finding;
use crate::source::root;

const README: &str = "README.md";
const BEGIN: &str = "<!-- hello:begin -->\n```rust\n";
const END: &str = "```\n<!-- hello:end -->";

/// The server on the first screen is `examples/hello.rs`, word for word.
pub(crate) fn shows_hello(readme: &str, hello: &str) -> Vec<Finding> {
    let shown = readme.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
    match shown {
        Some((shown, _)) if shown == hello => Vec::new(),
        Some(_) => vec![Finding::of_file(README, "its server is not examples/hello.rs; copy it")],
        None => vec![Finding::of_file(README, "no server between hello:begin and hello:end")],
    }
}

/// Every link into the tree leads to something.
pub(crate) fn links_lead_somewhere(readme: &str) -> Vec<Finding> {
    let targets = readme.match_indices("](").filter_map(|(at, opened)| {
        let target = readme[at + opened.len()..].split_once(')')?.0;
        (!target.contains("://") && !target.starts_with('#')).then_some(target)
    });
    let lost = targets.filter(|target| !root().join(target).exists());
    lost.map(|target| Finding::of_file(README, format!("its link to {target} is dead"))).collect()
}

#[test]
fn a_wrong_server_and_a_dead_link_are_found() {
    let readme = format!("{BEGIN}fn main() {{}}\n{END} [a](src/lib.rs) [b](gone.rs) [c](x://y)");
    assert!(shows_hello(&readme, "fn main() {}\n").is_empty());
    assert_eq!(shows_hello(&readme, "fn other() {}\n").len(), 1);
    assert_eq!(shows_hello("", "fn main() {}\n").len(), 1);
    assert_eq!(links_lead_somewhere(&readme).len(), 1);
}
