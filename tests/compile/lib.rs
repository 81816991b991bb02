//! What must not compile does not: each file of `cases` is one misuse of the API, and beside it
//! stands what the compiler says.
//!
//! Below: `trybuild`, which checks the files against this tree. Absent: anything that runs.
//! `TRYBUILD=overwrite cargo test -p postring-compile-tests` writes the answers of a new compiler.

#[cfg(test)]
mod tests {
    #[test]
    fn what_must_not_compile_does_not() {
        trybuild::TestCases::new().compile_fail("cases/*.rs");
    }
}
