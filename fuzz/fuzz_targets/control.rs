//! `control` as a program: libFuzzer's under `cargo fuzz`, else for the files it is given.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| postring_fuzz::control(input));

#[cfg(not(fuzzing))]
fn main() {
    postring_fuzz::run_files(postring_fuzz::control);
}
