//! Who may import whom: the house's one-way street, `kernel` <- `engine` <- `shard` <- `carrier`,
//! and the pure layers that reach neither.
//!
//! Below: `source` gives the code without comments and tests. Absent: inline modules (`super`
//! inside one would be read as the file's own); macros that build paths.

use crate::rules::Finding;
use crate::source::{Source, is_word, line_of};

/// A layer, as the beginning of module paths, and what it may not or may only import.
struct Layer {
    name: &'static str,
    imports: Imports,
}

enum Imports {
    /// Anything of ours but these.
    AllBut(&'static [&'static str]),
    /// Nothing of ours but these (and itself).
    Only(&'static [&'static str]),
}

const PURE: Imports = Imports::AllBut(&["engine", "kernel", "shard", "carrier", "transient"]);

/// The rules. The kernel implements the engine's seam, so it knows the seam's values, no more.
const LAYERS: [Layer; 12] = [
    Layer {
        name: "kernel",
        imports: Imports::Only(&[
            "address::Route",
            "address::SocketAddress",
            "engine::bell",
            "engine::completion",
            "engine::errno",
            "engine::metrics::CoreMetrics",
            "engine::operation",
            "engine::plan",
            "engine::socket",
            "framer::Output",
            "framer::TRAIN_DATAGRAMS_MAX",
            "framer::Train",
            "lending",
        ]),
    },
    Layer { name: "engine", imports: Imports::AllBut(&["shard", "carrier", "transient"]) },
    Layer { name: "address", imports: PURE },
    Layer { name: "association", imports: PURE },
    Layer { name: "error", imports: PURE },
    Layer { name: "establishment", imports: PURE },
    Layer { name: "framer", imports: PURE },
    Layer { name: "lending", imports: PURE },
    Layer { name: "message", imports: PURE },
    Layer { name: "multistream", imports: PURE },
    Layer { name: "scheduler", imports: PURE },
    Layer { name: "stack", imports: PURE },
];

/// Every import of a layer under `src/` that its rule does not allow.
pub(crate) fn direction(sources: &[Source]) -> Vec<Finding> {
    let ours = sources.iter().filter(|source| source.is_in("src/"));
    ours.flat_map(|source| {
        let module = module_of(&source.path);
        let layer = LAYERS.iter().find(|layer| is_within(&module, layer.name));
        layer.map(|layer| check(source, &module, layer)).unwrap_or_default()
    })
    .collect()
}

fn check(source: &Source, module: &str, layer: &Layer) -> Vec<Finding> {
    let allowed = |path: &str| match layer.imports {
        Imports::AllBut(refused) => !refused.iter().any(|refused| is_within(path, refused)),
        Imports::Only(only) => {
            is_within(path, layer.name) || only.iter().any(|allowed| is_within(path, allowed))
        }
    };
    let finding = |(at, path): (usize, String)| {
        let line = line_of(&source.shipped, at);
        if path.starts_with(char::is_uppercase) {
            let advice = "name the module it lives in, so that the direction can be seen";
            return Some(Finding::new(source, line, format!("`crate::{path}`: {advice}")));
        }
        let wrong = format!("`{}` must not import `{path}`", layer.name);
        (!allowed(&path)).then(|| Finding::new(source, line, wrong))
    };
    paths(&source.shipped, module).into_iter().filter_map(finding).collect()
}

/// `src/engine/driver.rs` is `engine::driver`, `src/engine/mod.rs` is `engine`.
fn module_of(path: &str) -> String {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    path.trim_end_matches("/mod").replace('/', "::")
}

fn is_within(path: &str, prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Every path that starts with `crate`, `self` or `super`, from the crate's root, with its place.
fn paths(code: &str, module: &str) -> Vec<(usize, String)> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    for (index, &(at, token)) in tokens.iter().enumerate() {
        let is_start = matches!(token, "crate" | "self" | "super");
        let goes_on = tokens.get(index + 1).is_some_and(|next| next.1 == "::");
        let continues = index > 0 && tokens[index - 1].1 == "::";
        if is_start && goes_on && !continues {
            let mut from = Vec::new();
            if token != "crate" {
                from = module.split("::").filter(|name| !name.is_empty()).collect();
            }
            if token == "super" {
                from.pop();
            }
            tree(&tokens, index + 2, at, from, &mut found);
        }
    }
    found
}

/// Reads one path or `{..}` group from `index` on; gives back where it ended.
fn tree<'a>(
    tokens: &[(usize, &'a str)],
    mut index: usize,
    at: usize,
    mut path: Vec<&'a str>,
    found: &mut Vec<(usize, String)>,
) -> usize {
    while let Some(&(_, token)) = tokens.get(index) {
        match token {
            "super" => _ = path.pop(),
            "self" | "*" => {}
            "{" => return group(tokens, index + 1, &path, found),
            _ if token.starts_with(is_word) => path.push(token),
            _ => break,
        }
        index += 1;
        if tokens.get(index).is_none_or(|next| next.1 != "::") {
            break;
        }
        index += 1;
    }
    found.push((at, path.join("::")));
    index
}

fn group<'a>(
    tokens: &[(usize, &'a str)],
    mut index: usize,
    path: &[&'a str],
    found: &mut Vec<(usize, String)>,
) -> usize {
    while let Some(&(at, token)) = tokens.get(index) {
        match token {
            "}" => return index + 1,
            "," => index += 1,
            "as" => index += 2,
            _ if token.starts_with(is_word) || token == "*" => {
                index = tree(tokens, index, at, path.to_vec(), found);
            }
            _ => index += 1,
        }
    }
    index
}

/// Names, `::` and single other characters, with their places.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = code[at..].chars().next() {
        let rest = &code[at..];
        let len = match c {
            _ if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            ':' if rest.starts_with("::") => 2,
            _ => c.len_utf8(),
        };
        if !c.is_whitespace() {
            tokens.push((at, &rest[..len]));
        }
        at += len;
    }
    tokens
}

#[test]
fn groups_globs_and_relative_paths_are_read() {
    let code = "use crate::{a::B, c::{self, D as E}, f};\nuse super::g::*;\nself::h();\n";
    let found: Vec<String> = paths(code, "x::y").into_iter().map(|(_, path)| path).collect();
    assert_eq!(found, ["a::B", "c", "c::D", "f", "x::g", "x::y::h"]);
}

#[test]
fn a_wrong_direction_is_found_where_it_stands() {
    let wrong = |path: &str, text: &str| {
        let findings = direction(&[Source::new(path, text)]);
        findings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let found = wrong("src/framer/lines.rs", "//! Head.\n\nuse crate::{error, engine::driver};\n");
    assert_eq!(found, ["src/framer/lines.rs:3: `framer` must not import `engine::driver`"]);
    assert_eq!(wrong("src/engine/driver.rs", "use super::super::shard;\n").len(), 1);
    assert_eq!(wrong("src/kernel/ring.rs", "use crate::engine::mailbox::Bell;\n").len(), 1);
    assert_eq!(wrong("src/kernel/ring.rs", "use crate::Carrier;\n").len(), 1);
    let right = "use super::memory::Pool;\nuse crate::engine::operation::{Data, Token};\n";
    assert!(wrong("src/kernel/ring.rs", right).is_empty());
    let in_test = "#[cfg(test)]\nmod tests {\n    use crate::shard::Shard;\n}\n";
    assert!(wrong("src/engine/driver.rs", in_test).is_empty());
}
