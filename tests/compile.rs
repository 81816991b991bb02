//! What must not compile does not: each file of tests/compile is one misuse of the API, and beside
//! it stands what the compiler says.
//!
//! Below: `trybuild`, which builds the files offline against this crate. Absent: anything that
//! runs. `TRYBUILD=overwrite cargo test --test compile` writes the answers of a new compiler.

#[test]
fn what_must_not_compile_does_not() {
    trybuild::TestCases::new().compile_fail("tests/compile/*.rs");
}
