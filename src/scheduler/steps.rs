//! Steps: random sequences of what an owner does with a scheduler, for the tests.
//!
//! Above: `model` and `tests` play them. Below: nothing. Absent: what should come of it.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Bounds, Number, Path};

/// Small enough for the random sequences to reach it.
pub(super) const BOUNDS: Bounds = Bounds { messages: 24, bytes: 30_000 };

/// One call, with numbers relative to what there is.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Submit {
        carrier: u32,
        niceness: u32,
        lifetime_us: Option<u64>,
        /// How many Messages back; 0 is one that does not exist yet.
        back: Vec<u64>,
        bytes: usize,
    },
    Take {
        path: Path,
        quantum: usize,
    },
    /// Finishes one that is wholly handed over.
    Finish(usize),
    /// Finishes one that may be anywhere.
    FinishAny(u64),
    Withdraw(u64),
    Advance(u64),
    Expire,
    Poll,
    Drain,
}

/// The antecedents that `back` means for a Message that would be number `next`.
pub(super) fn antecedents(next: Number, back: &[u64]) -> Vec<Number> {
    back.iter().filter(|&&back| back < next).map(|back| next - back).collect()
}

fn submit() -> impl Strategy<Value = Step> {
    let lifetime_us = prop::option::of(prop_oneof![1 => Just(0), 1 => Just(500), 8 => 0..4000u64]);
    let bytes = prop_oneof![1 => Just(0), 4 => Just(100), 4 => 1..3000usize];
    let back = prop_oneof![3 => vec(1..4u64, 0..1), 3 => vec(1..12u64, 1..4),
        1 => vec(0..40u64, 0..20)];
    (0..3u32, 0..4u32, lifetime_us, back, bytes).prop_map(
        |(carrier, niceness, lifetime_us, back, bytes)| Step::Submit {
            carrier,
            niceness,
            lifetime_us,
            back,
            bytes,
        },
    )
}

fn take() -> impl Strategy<Value = Step> {
    let rate =
        prop_oneof![2 => Just(None), 1 => Just(Some(0)), 4 => (1..4_000_000u64).prop_map(Some)];
    let quantum = prop_oneof![4 => Just(usize::MAX), 4 => 1..1500usize, 1 => Just(0)];
    let path =
        (rate, 0..800u64, 0..3000u64).prop_map(|(rate_bytes_per_s, delay_us, unsent_bytes)| Path {
            rate_bytes_per_s,
            delay_us,
            unsent_bytes,
        });
    (path, quantum).prop_map(|(path, quantum)| Step::Take { path, quantum })
}

/// Sequences in which all kinds of steps meet.
pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        60 => submit(),
        50 => take(),
        30 => any::<usize>().prop_map(Step::Finish),
        3 => (0..20u64).prop_map(Step::FinishAny),
        4 => (1..20u64).prop_map(Step::Withdraw),
        25 => (0..700u64).prop_map(Step::Advance),
        4 => Just(Step::Expire),
        40 => Just(Step::Poll),
        1 => Just(Step::Drain),
    ];
    vec(step, 0..300)
}
