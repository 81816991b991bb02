//! The scheduler alone: one Message submitted, one taken and finished, at several queue lengths.
//!
//! `cargo bench --bench scheduler --features __bench`
//! Below: `postring::bench`, which is private. Absent: framing and sending; what niceness does for
//! latency on a real path.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use postring::bench::{Messages, Mixture};

fn turns(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scheduler");
    group.throughput(Throughput::Elements(1));
    for (name, mixture) in
        [("alike", Mixture::Alike), ("mixed", Mixture::Mixed), ("chained", Mixture::Chained)]
    {
        for queued in [10, 1_000, 100_000] {
            let mut messages = Messages::new(queued, mixture);
            group.bench_function(BenchmarkId::new(name, queued), |bencher| {
                bencher.iter(|| messages.turn());
            });
        }
    }
    group.finish();
}

criterion_group!(scheduler, turns);
criterion_main!(scheduler);
