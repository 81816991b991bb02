//! How code is written here, and how to bring a change in.
//!
//! If two aims conflict: safe first, then fast, then convenient. A rule may be broken where a
//! comment says why; those that a tool holds need the tool's own exception, with its reason.
//!
//! # Files
//!
//! - The first line says the file's job in one sentence. Then: the neighbours above and below, what
//!   is absent (what the file refuses to know), and its bounds.
//! - Read from the top: the public type, its `impl`, its helpers, tests last.
//! - At most 500 lines, better under 300; at most 100 columns; functions at most 70 lines. A file
//!   that outgrows this becomes a folder with the same verbs on top.
//!
//! # Direction
//!
//! - `kernel` <- `engine` <- `shard` <- `carrier`. The kernel knows of the engine only the values
//!   it carries out.
//! - Pure layers (`message`, `lending`, `framer`, `scheduler`, `address`, `error`) reach none of
//!   these. They do no I/O and read no clock: `now` and randomness are arguments, so every case
//!   can be tested without waiting and repeated from a seed.
//! - Closed enums inside; traits only where users plug in.
//! - Tools use what users can use: the public API.
//!
//! # Names
//!
//! - The nouns of the Post Sockets draft, whole words, the same word in code, documentation,
//!   metrics and command line. No `get_`. Where a later RFC has another name, `#[doc(alias)]`
//!   carries it.
//! - The unit ends the name of a bare number (`rtt_us`, `len_max` in bytes); `Duration` in the API.
//!
//! # Errors and limits
//!
//! - An error says what was attempted, whose doing it was, and what to do. Binaries use `anyhow`,
//!   the library enums.
//! - No `unwrap`; `expect` has the invariant that holds as its text. Bad input never panics.
//! - Every queue, table, buffer and wait has a limit that stands in [`limits`](super::limits).
//!
//! # Comments and tests
//!
//! - Comments say why. Public items say units, ranges and errors.
//! - A test's name is the promise it holds. It can fail, needs no luck with time, and ends. What
//!   a machine cannot do is skipped loudly: a line `SKIP: ` with the reason, counted at the end
//!   of CI.
//! - Parsers of foreign bytes have a property test and a fuzz target (`fuzz/src/lib.rs` says how
//!   to add one; `cargo +nightly fuzz run NAME` looks for more).
//!
//! # Bringing a change in
//!
//! 1. One thing per commit; the message says what and why, in plain words. A change for speed has
//!    its figures before and after.
//! 2. `bash .ci/run` passes; `bash .ci/run fmt clippy test` is the short way while working.
//! 3. A change that users see has a line in CHANGELOG.md; a changed default or limit also its
//!    line in [`limits`](super::limits), and a reason belongs in [`decisions`](super::decisions).
//! 4. A dependency enters with its version in the root `Cargo.toml`, its features trimmed, and a
//!    reason in the commit.
//!
//! # What holds it
//!
//! Layout: rustfmt. Naming, docs, function length, `unwrap`: rustc and clippy, with warnings denied
//! in CI. Heads, lengths, directions, clocks, the fence and the top level: `tests/tidy`, which
//! names file, line and rule. Licences and sources of dependencies: `deny.toml`.
