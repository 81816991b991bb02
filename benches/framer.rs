//! Framers: what a Message costs on its way in and out, beside the codecs of `tokio_util`, by the
//! public API.
//!
//! `cargo bench --bench framer --features codec,json,postcard`
//! Below: the framers. Absent: sockets; leases (a payload that is lent here is copied). Both sides
//! start from received bytes in a slice: a codec's copy into its own buffer counts, as it does
//! where a driver fills the buffers. Outputs and buffers are new for every batch, so their growth
//! counts.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use postring::{Framer, LengthPrefixed, Lines, Message, Output};
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec, LinesCodec};

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// Length of a payload and how many of them are one batch, as a turn would find them.
const BATCHES: [(usize, usize); 3] = [(64, 64), (4096, 8), (65_536, 1)];

/// Measures decoding all of `wire` by a framer.
fn framer_decodes<F: Framer>(group: &mut Group<'_>, name: &str, framer: &F, wire: &[u8]) {
    group.bench_function(name, |bencher| {
        let mut framer = framer.clone();
        bencher.iter(|| {
            let (mut taken, mut count) = (0, 0);
            while let Some((len, message)) =
                framer.decode(black_box(&wire[taken..])).expect("good bytes")
            {
                black_box(&message);
                taken += len;
                count += 1;
            }
            assert_eq!(taken, wire.len());
            count
        });
    });
}

/// Measures the same by a codec as `Framed` would use it.
fn codec_decodes<C>(group: &mut Group<'_>, name: &str, codec: &C, wire: &[u8])
where
    C: Decoder<Error: std::fmt::Debug> + Clone,
{
    group.bench_function(name, |bencher| {
        let mut codec = codec.clone();
        let mut buffer = BytesMut::new();
        bencher.iter(|| {
            let mut count = 0;
            buffer.extend_from_slice(black_box(wire));
            while let Some(item) = codec.decode(&mut buffer).expect("good bytes") {
                black_box(&item);
                count += 1;
            }
            assert!(buffer.is_empty());
            count
        });
    });
}

fn framer_encodes<F: Framer>(
    group: &mut Group<'_>,
    name: &str,
    framer: &F,
    count: usize,
    message: impl Fn() -> F::Out<'static>,
) {
    group.bench_function(name, |bencher| {
        let mut framer = framer.clone();
        bencher.iter(|| {
            let mut output = Output::default();
            for _ in 0..count {
                framer.encode(black_box(message()), &mut output).expect("within the limit");
            }
            output
        });
    });
}

fn codec_encodes<C, T>(
    group: &mut Group<'_>,
    name: &str,
    codec: &C,
    count: usize,
    item: impl Fn() -> T,
) where
    C: Encoder<T, Error: std::fmt::Debug> + Clone,
{
    group.bench_function(name, |bencher| {
        let mut codec = codec.clone();
        bencher.iter(|| {
            let mut buffer = BytesMut::new();
            for _ in 0..count {
                codec.encode(black_box(item()), &mut buffer).expect("within the limit");
            }
            buffer
        });
    });
}

fn length_prefixed(criterion: &mut Criterion) {
    let framer = LengthPrefixed::default();
    for (len, count) in BATCHES {
        let payload = Bytes::from(vec![b'x'; len]);
        let codec = LengthDelimitedCodec::new();
        let mut frame = u32::try_from(len).expect("a short payload").to_be_bytes().to_vec();
        frame.resize(4 + len, b'x');
        let wire = frame.repeat(count);
        let mut group = criterion.benchmark_group(format!("decode {count} frames of {len} B"));
        group.throughput(Throughput::Elements(count as u64));
        framer_decodes(&mut group, "LengthPrefixed", &framer, &wire);
        codec_decodes(&mut group, "tokio_util LengthDelimitedCodec", &codec, &wire);
        #[cfg(feature = "codec")]
        framer_decodes(
            &mut group,
            "Codec(LengthDelimitedCodec)",
            &postring::Codec::<_, Bytes>::new(codec.clone()),
            &wire,
        );
        group.finish();
        let mut group = criterion.benchmark_group(format!("encode {count} frames of {len} B"));
        group.throughput(Throughput::Elements(count as u64));
        framer_encodes(&mut group, "LengthPrefixed", &framer, count, || {
            Message::from(payload.clone())
        });
        codec_encodes(&mut group, "tokio_util LengthDelimitedCodec", &codec, count, || {
            payload.clone()
        });
        group.finish();
    }
}

fn lines(criterion: &mut Criterion) {
    for (len, count) in [(64, 64), (4096, 8)] {
        let text = "x".repeat(len);
        let wire = format!("{text}\n").repeat(count);
        let mut group = criterion.benchmark_group(format!("decode {count} lines of {len} B"));
        group.throughput(Throughput::Elements(count as u64));
        framer_decodes(&mut group, "Lines", &Lines::default(), wire.as_bytes());
        codec_decodes(&mut group, "tokio_util LinesCodec", &LinesCodec::new(), wire.as_bytes());
        group.finish();
        let mut group = criterion.benchmark_group(format!("encode {count} lines of {len} B"));
        group.throughput(Throughput::Elements(count as u64));
        let bytes = Bytes::from(text.clone());
        framer_encodes(&mut group, "Lines", &Lines::default(), count, || {
            Message::from(bytes.clone())
        });
        codec_encodes(&mut group, "tokio_util LinesCodec", &LinesCodec::new(), count, || &text);
        group.finish();
    }
}

/// A line that arrives in small pieces: what is searched again shows here.
fn trickle(criterion: &mut Criterion) {
    const LEN: usize = 64 << 10;
    let wire = [vec![b'x'; LEN - 1], vec![b'\n']].concat();
    let mut group = criterion.benchmark_group("a line of 64 KiB in pieces of 64 B");
    group.throughput(Throughput::Bytes(LEN as u64));
    group.bench_function("Lines", |bencher| {
        let mut lines = Lines::default();
        bencher.iter(|| {
            for arrived in (64..LEN).step_by(64) {
                let found = lines.decode(black_box(&wire[..arrived])).expect("within the limit");
                assert!(found.is_none());
            }
            lines.decode(black_box(&wire)).expect("a line").expect("a whole one").0
        });
    });
    group.bench_function("tokio_util LinesCodec", |bencher| {
        let mut codec = LinesCodec::new();
        let mut buffer = BytesMut::new();
        bencher.iter(|| {
            let mut found = None;
            for piece in wire.chunks(64) {
                buffer.extend_from_slice(black_box(piece));
                found = codec.decode(&mut buffer).expect("within the limit");
            }
            found.expect("a whole line").len()
        });
    });
    group.finish();
}

/// A typed value of some fields, by each framer that takes one.
#[cfg(all(feature = "json", feature = "postcard"))]
fn values(criterion: &mut Criterion) {
    use postring::{Json, Postcard, Value};

    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Reading {
        sensor: u32,
        name: String,
        values: Vec<f32>,
    }

    fn wire_of<F: Framer>(
        framer: &F,
        count: usize,
        value: impl Fn() -> F::Out<'static>,
    ) -> Vec<u8> {
        let (mut framer, mut output) = (framer.clone(), Output::default());
        for _ in 0..count {
            framer.encode(value(), &mut output).expect("within the limit");
        }
        output.to_vec()
    }

    const COUNT: usize = 64;
    let (json, postcard) = (Json::<Reading>::default(), Postcard::<Reading>::default());
    let reading = Reading { sensor: 7, name: "boiler".into(), values: vec![21.5; 8] };
    let value = || Value(reading.clone());
    let mut group = criterion.benchmark_group(format!("decode {COUNT} values"));
    group.throughput(Throughput::Elements(COUNT as u64));
    framer_decodes(&mut group, "Json", &json, &wire_of(&json, COUNT, value));
    framer_decodes(&mut group, "Postcard", &postcard, &wire_of(&postcard, COUNT, value));
    group.finish();
    let mut group = criterion.benchmark_group(format!("encode {COUNT} values"));
    group.throughput(Throughput::Elements(COUNT as u64));
    framer_encodes(&mut group, "Json", &json, COUNT, value);
    framer_encodes(&mut group, "Postcard", &postcard, COUNT, value);
    group.finish();
}

#[cfg(not(all(feature = "json", feature = "postcard")))]
fn values(_: &mut Criterion) {}

criterion_group!(framers, length_prefixed, lines, trickle, values);
criterion_main!(framers);
