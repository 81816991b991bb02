//! tuning.
fn main() {}
