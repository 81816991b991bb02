//! The engine's parts: send path, buffer pool, mailbox, and whole turns on the script driver.
//!
//! `cargo bench --bench engine --features __bench`
//! Below: `postring::bench`, which is private. Absent: the kernel; `benches/rivals` has sockets.
//! The script driver and its peers are a simulation that costs more than the shard itself, so
//! `turn` shows changes, not what a turn costs in a server.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use postring::bench::{Mailbox, Outbox, Turns};
use postring::{Framer, LengthPrefixed, Message};

/// Replies of one turn to one peer: framed into its outbox, then one send.
fn send_path(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("send_path");
    for (replies, len) in [(1, 64), (16, 64), (16, 4096)] {
        let payload = vec![b'x'; len];
        let mut framer = LengthPrefixed::default();
        let mut outbox = Outbox::default();
        group.throughput(Throughput::Elements(replies));
        group.bench_function(BenchmarkId::new(format!("{replies} x"), len), |bencher| {
            bencher.iter(|| {
                for _ in 0..replies {
                    let message = Message::lent(black_box(&payload));
                    let encoded = framer.encode(message, outbox.output());
                    assert!(encoded.is_ok(), "the payload is shorter than the limit");
                }
                outbox.send()
            });
        });
    }
    group.finish();
}

fn mailbox(criterion: &mut Criterion) {
    let mut mailbox = Mailbox::new(4096);
    let mut group = criterion.benchmark_group("mailbox");
    group.bench_function("post and pop", |bencher| {
        bencher.iter(|| {
            assert!(mailbox.post(black_box(7)), "it is empty");
            mailbox.pop()
        });
    });
    group.bench_function("pop from empty", |bencher| bencher.iter(|| mailbox.pop()));
    group.finish();
}

#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
fn pool(criterion: &mut Criterion) {
    let pool = postring::bench::Pool::new(4352).expect("a descriptor is free");
    let mut group = criterion.benchmark_group("pool");
    group.bench_function("take and give", |bencher| {
        bencher.iter(|| {
            let index = pool.take().expect("nobody else takes");
            pool.give(black_box(index));
        });
    });
    group.bench_function("take, lease, drop and collect", |bencher| {
        bencher.iter(|| {
            let index = pool.take().expect("nobody else takes");
            drop(black_box(pool.lease(index, 4096)));
            pool.collect();
        });
    });
    group.bench_function("64 leases out at once", |bencher| {
        let lease = || pool.take().and_then(|index| pool.lease(index, 4096));
        let leases = || (0..64).map(|_| lease()).collect::<Vec<_>>();
        bencher.iter_batched(leases, drop, BatchSize::SmallInput);
    });
    group.finish();
}

#[cfg(not(all(target_os = "linux", not(postring_no_kernel))))]
fn pool(_criterion: &mut Criterion) {}

fn turn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turn");
    for (peers, len) in [(1, 64), (64, 64), (64, 4096)] {
        let mut turns = Turns::new(peers, len);
        group.throughput(Throughput::Elements(peers as u64));
        group.bench_function(BenchmarkId::new(format!("{peers} peers"), len), |bencher| {
            bencher.iter(|| turns.round_trip());
        });
    }
    group.finish();
}

criterion_group!(engine, send_path, mailbox, pool, turn);
criterion_main!(engine);
