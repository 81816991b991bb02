//! Reads the tree's Rust files and tells code from comments, strings and test modules.
//!
//! Above: `rules` and `imports` look for words in `Source::code` and `Source::shipped`, whose
//! lines and columns are those of the file. Absent: any rule; a full parser (a small lexer is
//! enough to know what is code).

use std::fs;
use std::path::{Path, PathBuf};

/// One Rust file.
pub(crate) struct Source {
    /// Path from the root of the repository, with `/`.
    pub(crate) path: String,
    /// The file as it is.
    pub(crate) text: String,
    /// The file with the insides of comments, strings and characters blanked.
    pub(crate) code: String,
    /// `code` with everything under `#[cfg(test)]` blanked as well; empty for a test file.
    pub(crate) shipped: String,
}

/// Where the tree's Rust files are; folders named `target` are built, not written.
const FOLDERS: [&str; 7] = ["src", "loadgen", "tuning", "tests", "benches", "examples", "fuzz"];

impl Source {
    /// A file of this content; tests make some up.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = code_of(text);
        let shipped = without_tests(&code);
        Self { path: path.to_owned(), text: text.to_owned(), code, shipped }
    }

    /// True if the file lies in `folder` (given with its closing `/`).
    pub(crate) fn is_in(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }

    /// True if the file is the root of a crate.
    pub(crate) fn is_root(&self) -> bool {
        ["src/main.rs", "src/lib.rs"].iter().any(|root| self.path.ends_with(root))
    }
}

/// The repository this test was built from.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the tree, in the order of their paths.
pub(crate) fn tree() -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in FOLDERS {
        collect(&root().join(folder), &mut paths);
    }
    paths.sort();
    let mut sources: Vec<Source> = paths.iter().map(|path| read(path)).collect();
    let tests: Vec<String> = sources.iter().flat_map(test_modules).collect();
    for source in &mut sources {
        if tests.iter().any(|test| source.path.starts_with(test.as_str())) {
            source.shipped.clear();
        }
    }
    assert!(sources.len() > 10, "found only {} Rust files", sources.len());
    sources
}

fn read(path: &Path) -> Source {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let relative = path.strip_prefix(root()).expect("the walk began at the root");
    Source::new(&relative.to_string_lossy().replace('\\', "/"), &text)
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let entry = entry.expect("a folder that opens can be read");
        let path = entry.path();
        // Links are not followed: recorded trees of a host lead anywhere.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !path.ends_with("target") {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The line, counted from 1, of a place in the text.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count()
}

/// Where `word` stands in `code` as a whole word.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let starts = word.starts_with(is_word) && before.is_some_and(is_word);
        let ends = word.ends_with(is_word) && after.is_some_and(is_word);
        !starts && !ends
    })
}

/// True for what a Rust name is made of.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `text` with the insides of comments, strings and characters replaced by spaces.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let len = blank_len(rest, code.chars().next_back().is_some_and(is_word));
        if len == 0 {
            let c = rest.chars().next().expect("`at` is inside the text");
            code.push(c);
            at += c.len_utf8();
        } else {
            blank(&rest[..len], &mut code);
            at += len;
        }
    }
    code
}

/// Appends spaces for `text`; lines stay lines and no byte moves.
fn blank(text: &str, into: &mut String) {
    into.extend(text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
}

/// How many bytes at the start of `rest` are a comment, string or character; 0 if it is code.
fn blank_len(rest: &str, inside_word: bool) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment_len(rest);
    }
    let prefix = ["br", "cr", "b", "c", "r"].into_iter().find(|prefix| {
        let after = rest.strip_prefix(prefix).unwrap_or_default();
        !inside_word && after.trim_start_matches('#').starts_with('"')
    });
    let string = &rest[prefix.map_or(0, str::len)..];
    if prefix.is_some_and(|prefix| prefix.ends_with('r')) {
        let fence = format!("\"{}", "#".repeat(string.find('"').unwrap_or_default()));
        let body = string.find('"').map_or(string.len(), |open| open + 1);
        let len = string[body..].find(&fence).map_or(string.len(), |at| body + at + fence.len());
        return rest.len() - string.len() + len;
    }
    if string.starts_with('"') {
        return rest.len() - string.len() + quoted_len(string, '"');
    }
    char_len(rest)
}

fn block_comment_len(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        match &rest.as_bytes()[at..(at + 2).min(rest.len())] {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// The length of the quoted text at the start of `rest`, quotes and escapes included.
fn quoted_len(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of the character at the start of `rest`; 0 for a lifetime or anything else.
fn char_len(rest: &str) -> usize {
    let mut chars = rest.chars();
    if chars.next() != Some('\'') {
        return 0;
    }
    let first = chars.next();
    if first == Some('\\') || (first.is_some() && chars.next() == Some('\'')) {
        quoted_len(rest, '\'')
    } else {
        0
    }
}

/// `code` without the items that only tests have.
fn without_tests(code: &str) -> String {
    let mut shipped = String::with_capacity(code.len());
    let mut at = 0;
    for (start, _) in code.match_indices("#[cfg(test)]") {
        if start >= at {
            let end = start + item_len(&code[start..]);
            shipped.push_str(&code[at..start]);
            blank(&code[start..end], &mut shipped);
            at = end;
        }
    }
    shipped + &code[at..]
}

/// The length of the item at the start of `code`: to its `;` or its closing brace.
fn item_len(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            ';' if depth == 0 => return at + 1,
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// The files and folders that `source` declares as test modules, as beginnings of their paths.
fn test_modules(source: &Source) -> Vec<String> {
    let file = source.path.trim_end_matches(".rs");
    let folder = &file[..file.rfind('/').unwrap_or_default()];
    let own_folder = ["/mod", "/lib", "/main"].iter().any(|end| file.ends_with(end));
    let children = if own_folder { folder } else { file };
    let attributes = source.code.match_indices("#[cfg(test)]");
    let declared = attributes.filter_map(|(at, attribute)| {
        let item = &source.code[at + attribute.len()..];
        let (before, rest) = item.split_once("mod ")?;
        let name = rest.split_once(';')?.0;
        if !name.chars().all(is_word) || before.contains([';', '}']) {
            return None;
        }
        // `#[path = ".."]` counts from the file's own folder; its string is blank in `code`.
        let written = &source.text[at + attribute.len()..][..before.len()];
        let path = written.split_once("#[path = \"").and_then(|(_, path)| path.split_once('"'));
        Some(match path {
            Some((path, _)) => [format!("{folder}/{path}"), format!("{folder}/{path}/")],
            None => [format!("{children}/{name}.rs"), format!("{children}/{name}/")],
        })
    });
    declared.flatten().collect()
}

#[test]
fn comments_strings_and_characters_are_not_code() {
    let text =
        "a // unsafe\nb /* c /* unsafe */ */ d \"un\\\"safe\" 'x' '\\'' r#\"un\"safe\"# 'life";
    let code = code_of(text);
    assert_eq!(code.len(), text.len());
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "b", "d", "'life"]);
}

#[test]
fn test_items_are_not_shipped() {
    let text =
        "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nuse d;\n";
    let shipped = without_tests(text);
    assert_eq!(shipped.split_whitespace().collect::<String>(), "fna(){}fnc(){}");
    let source = Source::new("src/engine/mod.rs", "#[cfg(test)]\nmod conformance;\nmod other;\n");
    assert_eq!(
        test_modules(&source),
        ["src/engine/conformance.rs", "src/engine/conformance/"].map(str::to_owned)
    );
    let text = "#[cfg(test)]\n#[path = \"tests/turn.rs\"]\nmod tests;\n";
    let source = Source::new("src/shard/turn.rs", text);
    assert_eq!(test_modules(&source)[0], "src/shard/tests/turn.rs");
}

#[test]
fn words_are_whole() {
    assert_eq!(words("unsafe_code unsafe{ not_unsafe", "unsafe").collect::<Vec<_>>(), [12]);
    assert_eq!(words("my_todo!() todo!()", "todo!").collect::<Vec<_>>(), [11]);
}
