//! Framers: what a frame costs on its way in and out, by the public API.
//!
//! `cargo bench --bench framer`
//! Below: `LengthPrefixed`. Absent: sockets; leases (a payload that is lent here is copied). An
//! encode goes into a fresh `Output` each time, so its allocation counts; `engine` keeps one.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use postring::{Framer, LengthPrefixed, Message, Output};

const PAYLOADS: [usize; 3] = [64, 4096, 65_536];

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for len in PAYLOADS {
        let payload = vec![b'x'; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_with_input(BenchmarkId::from_parameter(len), &payload, |bencher, payload| {
            let mut framer = LengthPrefixed::default();
            bencher.iter(|| {
                let mut output = Output::default();
                let encoded = framer.encode(Message::lent(black_box(payload)), &mut output);
                assert!(encoded.is_ok(), "the payload is shorter than the limit");
                output
            });
        });
    }
    group.finish();
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for len in PAYLOADS {
        let mut frame = (len as u32).to_be_bytes().to_vec();
        frame.resize(4 + len, b'x');
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_with_input(BenchmarkId::from_parameter(len), &frame, |bencher, frame| {
            let mut framer = LengthPrefixed::default();
            bencher.iter(|| {
                let found = framer.decode(black_box(frame));
                let (used, message) = found.expect("a good header").expect("a whole frame");
                black_box(message.bytes());
                used
            });
        });
    }
    group.finish();
}

criterion_group!(framers, encode, decode);
criterion_main!(framers);
