//! Parts of a schedule put together are the schedule, byte for byte.

use proptest::prelude::*;

use super::*;
use crate::workload::Workload;

fn all(gaps: &Gaps, share: Share, workload: &Arc<Workload>) -> Vec<Due> {
    let sampler = Sampler::new(workload.clone(), seed_of(&share));
    let mut schedule = Schedule::new(gaps.clone(), share, sampler);
    std::iter::from_fn(|| schedule.take_due(u64::MAX)).collect()
}

fn gaps() -> impl Strategy<Value = Gaps> {
    let line = |n: u64| Line { at_ns: n * 700_000, bytes: n as u32, class: 0, deadline_ns: None };
    let lines: Arc<[Line]> = (0..900).map(line).collect();
    prop_oneof![
        Just(Gaps::Exponential),
        Just(Gaps::Equal),
        (1..200_u32).prop_map(Gaps::Burst),
        Just(Gaps::Ramp { from_per_s: 500.0, to_per_s: 4_000.0, warmup_ns: 100_000_000 }),
        Just(Gaps::Trace(lines, 50_000_000)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the arrivals, the workers and the parts: what N processes send is what one sends.
    #[test]
    fn parts_together_are_the_whole(
        gaps in gaps(),
        seed: u64,
        workers in 1..4_u32,
        of in 1..9_u32,
        more in 0..40_u32,
        rate_per_s in 1.0..5_000.0_f64,
    ) {
        let flags = ["share=30%,size=uniform:64:4KiB", "size=pareto:64:1.5,lifetime=5ms"];
        let workload = Workload::of_flags(&flags.map(ToOwned::to_owned), &|_| Err(String::new()));
        let workload = Arc::new(workload.expect("two classes"));
        for worker in 0..workers {
            let (connections, end_ns) = (of + more, 700_000_000);
            let part = Part::WHOLE;
            let share = Share { worker, workers, rate_per_s, connections, part, end_ns, seed };
            let whole = all(&gaps, share, &workload);
            let mut together = Vec::new();
            let mut counted = 0;
            for number in 0..of {
                let part = Part { number, of };
                counted += part.connections(connections);
                for due in all(&gaps, Share { part, ..share }, &workload) {
                    prop_assert!(due.connection < part.connections(connections));
                    together.push(Due { connection: due.connection * of + number, ..due });
                }
            }
            prop_assert_eq!(counted, connections);
            let key = |due: &Due| {
                (due.intended_ns, due.connection, due.kind.class, due.kind.bytes)
            };
            let mut whole = whole;
            whole.sort_by_key(key);
            together.sort_by_key(key);
            prop_assert_eq!(whole, together);
        }
    }
}

#[test]
fn a_part_keeps_the_order_and_estimates_its_own_rest() {
    let workload = Arc::new(Workload::plain(crate::workload::Sizes::fixed(64)));
    let part = Part { number: 2, of: 3 };
    let share = Share {
        worker: 0,
        workers: 1,
        rate_per_s: 3_000.0,
        connections: 9,
        part,
        end_ns: 2_000_000_000,
        seed: 5,
    };
    let dues = all(&Gaps::Exponential, share, &workload);
    assert!(dues.is_sorted_by_key(|due| due.intended_ns));
    let mut fresh =
        Schedule::new(Gaps::Exponential, share, Sampler::new(workload.clone(), seed_of(&share)));
    let expected = fresh.expected_until(u64::MAX);
    assert!(expected.abs_diff(dues.len() as u64) < 220, "{expected} for {}", dues.len());
}
