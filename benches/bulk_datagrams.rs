//! Bulk datagrams: how much one Carrier carries to a Responder of another host, in trains that are
//! cut and gathered by the kernel (GSO, GRO), and the same one by one.
//!
//! `cargo bench --bench bulk_datagrams` (root; `-- --seconds 2 --rounds 5`)
//! Below: the public API alone; two network namespaces joined by a veth pair with an MTU of 1500.
//! Postring has no switch for trains. Datagrams leave one by one where each is longer than the one
//! before it, for a train is of one length: so both contestants are the same code with the same
//! number of bytes a datagram on average. A veth device hands trains on uncut; without segmentation
//! (`ethtool`) the kernel cuts them before it, and the far one's GRO gathers them again, as on real
//! devices. Plain sockets (one call a datagram) stand beside all of them.
//! Nobody paces the sender: told is what the receiver got, and what share of the sent was lost.
//! The contestants take turns, another one first in each round; told are medians.
//! Without root, `ip` or `ethtool` it says `SKIP: reason` and ends well.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "its table is what it is for")]

#[path = "../tests/api/hosts.rs"]
mod hosts;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use postring::{Engine, Message, Reply, Unframed};

use self::hosts::{CABLE, FAR, Host, Hosts};

/// Bytes of a datagram, on average.
const LEN: usize = 1400;
/// How much shorter than `LEN` the first of a climb of lengths is, and how much longer its last.
const SPREAD: usize = 35;
static PAYLOAD: [u8; LEN + SPREAD] = [7; LEN + SPREAD];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contestant {
    Trains,
    /// The near device takes packets only; the far one gathers them again.
    Packets,
    OneByOne,
    PlainSockets,
}

const CONTESTANTS: [(Contestant, &str); 4] = [
    (Contestant::Trains, "Postring, in trains"),
    (Contestant::Packets, "the same, as packets on the wire"),
    (Contestant::OneByOne, "Postring, one by one"),
    (Contestant::PlainSockets, "plain sockets"),
];

/// What one run showed.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
struct Run {
    sent_gbit_per_s: f64,
    received_gbit_per_s: f64,
    lost_share: f64,
}

/// What both ends have counted, in datagrams and bytes.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
    received_bytes: AtomicU64,
    over: AtomicBool,
}

impl Counts {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn note(&self, len: usize) {
        if self.is_over() {
            return;
        }
        self.received.fetch_add(1, Ordering::Relaxed);
        self.received_bytes.fetch_add(len as u64, Ordering::Relaxed);
    }
}

/// The length of the datagram with this number.
fn len_of(contestant: Contestant, number: u64) -> usize {
    match contestant {
        Contestant::OneByOne => LEN - SPREAD + (number % (2 * SPREAD as u64 + 1)) as usize,
        _ => LEN,
    }
}

fn postring(
    hosts: &Hosts,
    contestant: Contestant,
    counts: &Arc<Counts>,
    duration: Duration,
) -> anyhow::Result<Duration> {
    let receiver = hosts.at(Host::Far, || {
        let notes = Arc::clone(counts);
        let count = move |message: Message<'_>, _: Reply<'_, Unframed>| notes.note(message.len());
        let place = format!("udp://{FAR}:0");
        Engine::builder().cores([1]).respond_with(&place, Unframed, count).start()
    })??;
    let sender = hosts.at(Host::Near, || Engine::builder().cores([0]).start())??;
    let carrier = sender.initiate_with(&receiver.local_addresses()[0], Unframed);
    carrier.activate().wait()?;
    let (carrier, sends) = (carrier.keep(), Arc::clone(counts));
    let begun = Instant::now();
    sender.spawn_on(0, move || async move {
        let mut number = 0;
        while !sends.is_over() {
            let message = Message::new(&PAYLOAD[..len_of(contestant, number)]);
            if carrier.send(message).await.is_err() {
                break;
            }
            number += 1;
            sends.sent.store(number, Ordering::Relaxed);
        }
    })?;
    std::thread::sleep(duration);
    let lasted = stop(counts, begun);
    for engine in [sender, receiver] {
        engine.shutdown();
        engine.wait()?;
    }
    Ok(lasted)
}

fn plain(hosts: &Hosts, counts: &Arc<Counts>, duration: Duration) -> anyhow::Result<Duration> {
    let receiver = hosts.at(Host::Far, || UdpSocket::bind((FAR, 0)))??;
    receiver.set_read_timeout(Some(Duration::from_millis(50)))?;
    let to: SocketAddr = receiver.local_addr()?;
    let sender = hosts.at(Host::Near, || UdpSocket::bind(("0.0.0.0", 0)))??;
    sender.connect(to)?;
    let (notes, sends) = (Arc::clone(counts), Arc::clone(counts));
    let receives = std::thread::spawn(move || {
        let mut bytes = [0; 2048];
        while !notes.is_over() {
            if let Ok(len) = receiver.recv(&mut bytes) {
                notes.note(len);
            }
        }
    });
    let begun = Instant::now();
    let sending = std::thread::spawn(move || -> std::io::Result<()> {
        while !sends.is_over() {
            sender.send(&PAYLOAD[..LEN])?;
            sends.sent.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    });
    std::thread::sleep(duration);
    let lasted = stop(counts, begun);
    sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    receives.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))?;
    Ok(lasted)
}

/// Ends the run: what comes later is not counted. How long it lasted.
fn stop(counts: &Counts, begun: Instant) -> Duration {
    counts.over.store(true, Ordering::Relaxed);
    begun.elapsed()
}

fn run(hosts: &Hosts, contestant: Contestant, duration: Duration) -> anyhow::Result<Run> {
    let counts = Arc::new(Counts::default());
    let on_wire = contestant == Contestant::Packets;
    let (cuts, gathers) = if on_wire { ("off", "on") } else { ("on", "off") };
    hosts.run(Host::Near, &format!("ethtool -K {CABLE} tx-udp-segmentation {cuts}"))?;
    hosts.run(Host::Far, &format!("ethtool -K {CABLE} gro {gathers}"))?;
    let lasted = match contestant {
        Contestant::PlainSockets => plain(hosts, &counts, duration)?,
        _ => postring(hosts, contestant, &counts, duration)?,
    };
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
    let (sent, received) = (read(&counts.sent), read(&counts.received));
    anyhow::ensure!(received > 0.0, "{contestant:?}: nothing came");
    let gbit_per_s = |bytes: f64| bytes * 8.0 / lasted.as_secs_f64() / 1e9;
    Ok(Run {
        sent_gbit_per_s: gbit_per_s(sent * LEN as f64),
        received_gbit_per_s: gbit_per_s(read(&counts.received_bytes)),
        lost_share: (1.0 - received / sent).max(0.0),
    })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Options {
    seconds: f64,
    rounds: usize,
}

fn options() -> anyhow::Result<Options> {
    let mut options = Options { seconds: 2.0, rounds: 5 };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--seconds" => options.seconds = value()?.parse().context("--seconds")?,
            "--rounds" => options.rounds = value()?.parse().context("--rounds")?,
            // What `cargo bench` and its smoke run add.
            "--test" => options = Options { seconds: 0.2, rounds: 1 },
            "--bench" => {}
            other => anyhow::bail!("{other}: only --seconds N, --rounds N"),
        }
    }
    anyhow::ensure!((0.1..=60.0).contains(&options.seconds), "--seconds must be 0.1 to 60");
    anyhow::ensure!((1..=100).contains(&options.rounds), "--rounds must be 1 to 100");
    Ok(options)
}

fn main() -> anyhow::Result<()> {
    let options = options()?;
    let probe = format!("ethtool -K {CABLE} gro off");
    let hosts = match Hosts::new().and_then(|hosts| hosts.run(Host::Far, &probe).map(|()| hosts)) {
        Ok(hosts) => hosts,
        Err(reason) => {
            println!("SKIP: {reason:#}");
            return Ok(());
        }
    };
    let mut runs = [const { Vec::new() }; CONTESTANTS.len()];
    for round in 0..options.rounds {
        for turn in 0..CONTESTANTS.len() {
            let at = (turn + round) % CONTESTANTS.len();
            let duration = Duration::from_secs_f64(options.seconds);
            runs[at].push(run(&hosts, CONTESTANTS[at].0, duration)?);
        }
    }
    println!("{LEN} B a datagram, MTU 1500, {} rounds of {} s", options.rounds, options.seconds);
    println!(
        "{:34} {:>11} {:>15} {:>14} {:>7}",
        "", "Gbit/s sent", "received", "min to max", "lost"
    );
    let received = |runs: &[Run]| median(runs.iter().map(|run| run.received_gbit_per_s));
    for ((_, name), runs) in CONTESTANTS.iter().zip(&runs) {
        let all = || runs.iter().map(|run| run.received_gbit_per_s);
        let (least, most) = (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max));
        println!(
            "{name:34} {:11.2} {:15.2} {:>14} {:5.1} %",
            median(runs.iter().map(|run| run.sent_gbit_per_s)),
            received(runs),
            format!("{least:.2}-{most:.2}"),
            median(runs.iter().map(|run| run.lost_share)) * 100.0
        );
    }
    let ratio = |to: usize| received(&runs[0]) / received(&runs[to]);
    println!("trains: {:.2} of one by one, {:.2} of plain sockets", ratio(2), ratio(3));
    Ok(())
}
