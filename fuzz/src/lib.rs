//! Fuzz targets: one function per parser of foreign bytes, each a property that must hold for
//! every input whatever.
//!
//! Above: `fuzz_targets/NAME.rs` feeds the function from libFuzzer (`cargo +nightly fuzz run
//! NAME`) or from one file (`cargo run --bin NAME -- FILE`, any toolchain); `tests/corpus.rs` runs
//! every file of `corpus/NAME/` through it in CI. Below: the public API of `postring`,
//! and by the private feature `__bench` what comes from the kernel (Linux only).
//! Absent: sockets, threads, clocks: a target is a pure function of its input.
//!
//! A new target is a module with a `pub fn`, a line in [`TARGETS`], a file in `fuzz_targets/`, a
//! `[[bin]]` in `Cargo.toml` and a small corpus of inputs that reach different branches.

#![forbid(unsafe_code)]

mod address;
mod codec;
mod control;
mod cuts;
mod length_prefixed;
mod lines;
mod parts;
mod trains;
mod typed;

pub use address::address;
pub use codec::codec;
pub use control::control;
pub use length_prefixed::length_prefixed;
pub use lines::lines;
pub use parts::parts;
pub use trains::trains;
pub use typed::{json, postcard};

/// What a target is: it returns, or panics because its property does not hold.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its corpus folder and of its program.
pub const TARGETS: [(&str, Target); 9] = [
    ("address", address),
    ("codec", codec),
    ("control", control),
    ("json", json),
    ("length_prefixed", length_prefixed),
    ("lines", lines),
    ("parts", parts),
    ("postcard", postcard),
    ("trains", trains),
];

/// The body of a target's program outside `cargo fuzz`: runs the files named on the command line.
///
/// # Panics
/// If the property does not hold for one of them, or a file cannot be read.
pub fn run_files(target: Target) {
    for path in std::env::args_os().skip(1) {
        let input = std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        target(&input);
    }
}
