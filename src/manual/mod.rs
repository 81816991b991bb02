//! The manual: what no single item's documentation can say.
//!
//! It is read with `cargo doc --open` (with `--document-private-items` the links into the engine
//! work too) and compiled for nothing else. Read in this order, or jump:
//!
//! | page | answers |
//! |---|---|
//! | [`data_path`] | Where is a byte between the wire and my handler, and who owns it there? |
//! | [`limits`] | What bounds each queue, table, buffer and wait, and what happens at the bound? |
//! | [`decisions`] | Why is it like this? Numbered, with the figures that decided. |
//! | [`non_features`] | What does Postring not do, and what should I take instead? |
//! | [`unsafe_policy`] | Where is `unsafe`, and how do I add a block? |
//! | [`style`] | How is code here written, and which of it is held by a test? |
//! | [`ci`] | What does each job of `.ci/run` protect? |
//!
//! Absent: tutorials (README and `examples/` have them) and what an item's own documentation says.

pub mod ci;
pub mod data_path;
pub mod decisions;
pub mod limits;
pub mod non_features;
pub mod style;
pub mod unsafe_policy;
