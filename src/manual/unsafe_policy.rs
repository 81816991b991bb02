//! `unsafe`: one folder, numbered invariants, and what a new block has to show.
//!
//! # The policy
//!
//! - The workspace denies the lint `unsafe_code`. One file switches that off, `src/kernel/mod.rs`,
//!   for its folder. The tools and the fuzz targets *forbid* it.
//! - What leaves the folder is safe whatever its caller does: no `unsafe fn`, no `unsafe trait`, no
//!   raw pointer, no descriptor without an owner.
//! - The soundness argument is written down once, as invariants K1, K2, … in the head of
//!   `src/kernel/mod.rs`. A `SAFETY` comment cites the one it rests on and says how it holds here:
//!
//! ```text
//! // SAFETY: [K2] the buffer is held by this thread, the kernel writes posted ones only.
//! ```
//!
//! - One unsafe operation per block, so that one comment answers for one thing.
//! - The kernel may write to memory at any time while an operation is in flight; so operations own
//!   their buffers and give them back with the completion, and what the kernel echoes is a slot and
//!   a generation, never an address.
//!
//! # How to add a block
//!
//! 1. Look for a safe way first: `std`, `rustix` and `io-uring` have most system calls behind safe
//!    functions. A copy that no benchmark can see is a safe way too.
//! 2. Write it in `src/kernel/`, in a function that is safe to call and as small as can be.
//! 3. Find the invariant it rests on. If there is none, a new one goes into the head of
//!    `src/kernel/mod.rs`: what always holds, who keeps it, and when it ends.
//! 4. Cite it. State what would break it, if that is not plain.
//! 5. Add a test that would notice: the conformance suite for operations, a unit test for memory.
//!
//! # What holds it
//!
//! | rule | held by |
//! |---|---|
//! | nothing unsafe outside the folder | rustc (`unsafe_code`), `tests/tidy`, the CI job `fence` |
//! | one gate, in one line, not stale | `tests/tidy`, the CI job `fence` |
//! | every block has a comment | clippy (`undocumented_unsafe_blocks`) |
//! | every comment cites an invariant; none is stale | `tests/tidy` |
//! | one operation per block | clippy (`multiple_unsafe_ops_per_block`) |
//! | unsafe functions do not hide unsafe blocks | rustc (`unsafe_op_in_unsafe_fn`) |
