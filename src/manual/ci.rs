//! What each job of `.ci/run` is for. The same script runs by hand and on every change.
//!
//! `bash .ci/run` runs all of them in this order and stops at the first failure; `bash .ci/run
//! NAME...` runs some. Outputs are in `target/ci/`. What the tree does not have yet is reported
//! as absent and counted as skipped, never as passed.
//!
//! - `tools`: A fresh machine: installs what is missing, also the foreign programs that tests talk
//!   with (python3, socat, nc, iperf3) or make networks with (ip, ethtool, nft, tcpdump), and says
//!   which versions judge.
//! - `fmt`: Diffs show changes, not layout; also in `fuzz/` and `benches/rivals/`.
//! - `fence`: `unsafe` is allowed by one file only, found by a plain search that reads no Rust.
//! - `deny`: Cargo.lock fits Cargo.toml; licences are permissive; crates come from the registry;
//!   only the fence drives a ring.
//! - `clippy`: The lints of the workspace, as errors, in everything that is built by default.
//! - `clippy-each-feature`: Every feature compiles alone: none leans on another by accident.
//! - `clippy-all-features`: Features only add: all of them together compile too.
//! - `doc`: No broken link, also in private documentation; this manual builds.
//! - `no-kernel`: The crate compiles without `src/kernel/` and its crates, as it must off Linux,
//!   and simulated worlds work there.
//! - `test`: README's own test command, word for word.
//! - `test-all-features`: All tests with all features; the tests that a machine cannot run are
//!   counted and named at the end.
//! - `fuzz-corpus`: Inputs that once broke a parser, or nearly, run again without nightly.
//! - `benches`: Benchmarks still run: each once, on little work. Their figures are nobody's here.
//! - `examples`: Every example starts; servers answer a message and end politely, clients get
//!   their answer. A new example needs a line in the script's table.
//! - `loadgen`: README's first command for two seconds: a table and a verdict.
//! - `rivals`: The comparison with other engines still builds and runs, briefly.
//!
//! # Why there is no more
//!
//! - Figures are not judged in CI: a shared machine differs from itself by more than what there is
//!   to see ([decision D10](super::decisions)).
//! - Advisories need a database from outside ([decision D11](super::decisions)).
//! - Other systems and other architectures need their standard libraries, which are not at hand;
//!   `no-kernel` is the stand-in.
