//! The datagram half's parts: control messages read and said, trains made and split.
//!
//! `cargo bench --bench datagrams --features __bench`
//! Below: `postring::bench`, which is private. Absent: sockets; `benches/rivals` has those (suite
//! `udp`). All of it happens once a train, or (making and splitting) once a datagram.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use postring::bench::Datagrams;

/// Reading what lies beside one received train: its peer's name, then no message, the length of
/// its datagrams, or all that a socket may ask for. Paid once per receive, on top of the kernel's.
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
fn control_read(criterion: &mut Criterion) {
    use postring::bench::{name_of, read_control};

    let message = |level: i32, kind: i32, data: &[u8]| {
        let mut bytes = (16 + data.len()).to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    // Levels and kinds as Linux numbers them: UDP_GRO; IP_PKTINFO, IP_TOS and SO_RXQ_OVFL.
    let segment = message(17, 104, &1200_i32.to_ne_bytes());
    let local = message(0, 8, &[0, 0, 0, 0, 192, 0, 2, 1, 192, 0, 2, 1]);
    let (class, drops) = (message(0, 1, &[3]), message(1, 40, &7_u32.to_ne_bytes()));
    let all = [&local[..], &segment, &class, &drops].concat();
    let name = name_of(([198, 51, 100, 7], 53).into());
    let mut group = criterion.benchmark_group("control read");
    for (what, messages) in [("name only", &[][..]), ("segment", &segment), ("all four", &all)] {
        group.bench_function(what, |bencher| {
            bencher.iter(|| read_control(black_box(&name), black_box(messages), 0));
        });
    }
    group.finish();
}

/// Saying what goes beside one train that leaves: its segments' length, and where it goes from.
/// Paid once per send of more than one datagram, or from a chosen address.
#[cfg(all(target_os = "linux", not(postring_no_kernel)))]
fn control_said(criterion: &mut Criterion) {
    use std::net::IpAddr;

    let mut sayings = postring::bench::Sayings::default();
    let (v4, v6) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]));
    let mut group = criterion.benchmark_group("control said");
    for (what, local) in
        [("segment", None), ("IPv4, segment", Some(v4)), ("IPv6, segment", Some(v6))]
    {
        group.bench_function(what, |bencher| {
            bencher.iter(|| {
                let is_v6 = local.is_some_and(|local| local.is_ipv6());
                sayings.say(black_box(local), is_v6, black_box(Some(1200))).len()
            });
        });
    }
    group.finish();
}

#[cfg(not(all(target_os = "linux", not(postring_no_kernel))))]
fn control_read(_criterion: &mut Criterion) {}

#[cfg(not(all(target_os = "linux", not(postring_no_kernel))))]
fn control_said(_criterion: &mut Criterion) {}

/// Answers of one turn put into an output, where they become trains, and the trains split again as
/// a driver does where the kernel segments nothing. `alike`: to one peer, so it is one train;
/// `apart`: to peers in turn, so no two leave together. The copy of the bytes is part of it.
fn trains(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("trains made and split");
    for (what, peers) in [("alike", 1), ("apart", 4)] {
        for len in [64, 1200] {
            let datagram = vec![7; len];
            let mut datagrams = Datagrams::default();
            group.throughput(Throughput::Elements(16));
            group.bench_function(BenchmarkId::new(format!("16 {what}"), len), |bencher| {
                bencher.iter(|| {
                    for at in 0..16 {
                        datagrams.put(black_box(&datagram), 7000 + at % peers);
                    }
                    datagrams.split()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(datagrams, control_read, control_said, trains);
criterion_main!(datagrams);
