//! Datagrams: a closed loop over UDP, each message alone in its call's datagrams or in bursts that
//! leave and may come back as trains (GSO, GRO).
//!
//! Above: `main`. Below: `common::datagrams`.
//! Absent: no resending: what does not come within [`PATIENCE_NS`] of the last echo is lost, and
//! counted. Bounds: `window` messages of each socket under way.

use crate::TargetOptions;
use crate::clock::{Clock, Window};
use crate::meter::Meter;
use crate::process::CpuMarks;
use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use common::datagrams::{self, DATAGRAM_MAX, MANY, Many};
use serde_json::{Value, json};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Silence after which everything under way on a socket is lost.
const PATIENCE_NS: u64 = 20_000_000;
/// Bytes that name a message: when it was sent, the socket, and what was lost before.
const LABEL: usize = 16;
/// Room for echoes, so that what is lost was lost by the server.
const ROOM: i32 = 4 << 20;
/// How long a check waits for one echo.
const CHECK_PATIENCE: Duration = Duration::from_secs(2);

/// What a closed loop over UDP is.
#[derive(Debug, Clone, Args)]
pub(crate) struct DatagramOptions {
    #[command(flatten)]
    pub(crate) target: TargetOptions,
    /// Sockets in all
    #[arg(long, default_value_t = 1)]
    sockets: usize,
    /// Bytes of a message, 16 to 60000
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Messages that leave as one train; 1: each alone, no train either way
    #[arg(long, default_value_t = 1)]
    burst: usize,
    /// Messages under way on each socket, a multiple of the burst
    #[arg(long, default_value_t = 64)]
    window: usize,
    /// Seconds before the window
    #[arg(long, default_value = "0.3")]
    warmup: crate::Seconds,
    /// Seconds that are measured
    #[arg(long, default_value = "1")]
    seconds: crate::Seconds,
}

struct Peer {
    socket: UdpSocket,
    number: u32,
    under_way: usize,
    /// How often everything under way was lost; what comes of before then is late.
    losses: u32,
    heard: u64,
}

/// What the sockets have in common.
struct Loop {
    options: DatagramOptions,
    clock: Clock,
    window: Window,
    meter: Meter,
    out: Many,
    into: Many,
    train: Vec<u8>,
    lost: u64,
    late: u64,
    wrong: u64,
    first_error: Option<String>,
}

/// Runs the closed loop.
///
/// # Errors
/// The options make no sense, or a socket cannot be had.
pub(crate) fn run(options: &DatagramOptions) -> Result<Value> {
    let DatagramOptions { sockets, size, burst, window: depth, .. } = *options;
    ensure!(sockets > 0, "--sockets must be at least 1");
    ensure!((LABEL..=60_000).contains(&size), "--size must be from {LABEL} to 60000");
    ensure!((1..=MANY).contains(&burst), "--burst must be from 1 to {MANY}");
    ensure!(burst == 1 || burst * size <= 65_000, "a burst must be within 65000 bytes");
    ensure!(depth > 0 && depth.is_multiple_of(burst), "--window must be a multiple of --burst");
    let mut peers = (0..sockets)
        .map(|number| Peer::new(options, u32::try_from(number)?))
        .collect::<Result<Vec<_>>>()?;
    let clock = Clock::start();
    let window = Window::after(clock, options.warmup.into(), options.seconds.into());
    let mut marks = CpuMarks::new(options.target.server_pid, window);
    let mut all = Loop {
        options: options.clone(),
        clock,
        window,
        meter: Meter::new(window)?,
        out: Many::new(size, false),
        into: Many::new(size + 1, false),
        train: vec![b'd'; DATAGRAM_MAX],
        lost: 0,
        late: 0,
        wrong: 0,
        first_error: None,
    };
    loop {
        let now = clock.now();
        marks.turn(now, clock)?;
        if now >= window.to {
            break;
        }
        for peer in &mut peers {
            all.send(peer)?;
            all.receive(peer)?;
        }
    }
    let (server_cpu, client_cpu) = marks.shares();
    let mut line = json!({
        "mode": "datagrams",
        "sockets": sockets,
        "size": size,
        "burst": burst,
        "window": depth,
        "messages_per_second": all.meter.per_second(),
        "lost": all.lost,
        "late": all.late,
        "server_cpu": server_cpu,
        "client_cpu": client_cpu,
        "errors": all.wrong,
        "first_error": all.first_error,
    });
    crate::load::merge(&mut line, json!(all.meter.latency()));
    Ok(line)
}

impl Peer {
    fn new(options: &DatagramOptions, number: u32) -> Result<Self> {
        let socket = connected(options.target.address)?;
        datagrams::ask_for_room(&socket, ROOM)?;
        if options.burst > 1 {
            datagrams::receive_in_trains(&socket)?;
        }
        Ok(Self { socket, number, under_way: 0, losses: 0, heard: 0 })
    }

    fn label(&self, now: u64, message: &mut [u8]) {
        message[..8].copy_from_slice(&now.to_be_bytes());
        message[8..12].copy_from_slice(&self.number.to_be_bytes());
        message[12..LABEL].copy_from_slice(&self.losses.to_be_bytes());
    }
}

impl Loop {
    /// Sends what the window allows.
    fn send(&mut self, peer: &mut Peer) -> Result<()> {
        let DatagramOptions { size, burst, window, .. } = self.options;
        while window - peer.under_way >= burst {
            let now = self.clock.now();
            let count = if burst == 1 { (window - peer.under_way).min(MANY) } else { burst };
            let result = if burst == 1 {
                (0..count).for_each(|at| peer.label(now, self.out.place(at, size)));
                self.out.send(&peer.socket, 0..count, libc::MSG_DONTWAIT)
            } else {
                let train = &mut self.train[..count * size];
                train.chunks_exact_mut(size).for_each(|message| peer.label(now, message));
                let segment = Some(u16::try_from(size)?);
                datagrams::send_train(&peer.socket, train, segment, None, libc::MSG_DONTWAIT)
                    .map(|()| count)
            };
            match self.passes(result)? {
                Some(sent) => peer.under_way += sent,
                None => break,
            }
        }
        Ok(())
    }

    /// Takes what has come; gives up what will not.
    fn receive(&mut self, peer: &mut Peer) -> Result<()> {
        let size = self.options.size;
        let before = peer.under_way;
        let now;
        if self.options.burst == 1 {
            let result = self.into.receive(&peer.socket, libc::MSG_DONTWAIT);
            let count = self.passes(result)?.unwrap_or(0);
            now = self.clock.now();
            for at in 0..count {
                // One message is copied, so that the loop can note what it is.
                let label = label_of(self.into.datagram(at), size);
                self.note(peer, label, now);
            }
            self.into.clear(count);
        } else {
            let mut buffer = std::mem::take(&mut self.train);
            let result = datagrams::receive_train(&peer.socket, &mut buffer, libc::MSG_DONTWAIT);
            now = self.clock.now();
            if let Some(train) = self.passes(result)? {
                let segment = train.segment.map_or(train.len, usize::from).max(1);
                for message in buffer[..train.len].chunks(segment) {
                    self.note(peer, label_of(message, size), now);
                }
            }
            self.train = buffer;
        }
        if peer.under_way != before || peer.heard == 0 {
            peer.heard = now;
        } else if peer.under_way > 0 && now - peer.heard > PATIENCE_NS {
            self.lost += if self.window.contains(now) { peer.under_way as u64 } else { 0 };
            peer.under_way = 0;
            peer.losses += 1;
            peer.heard = now;
        }
        Ok(())
    }

    fn note(&mut self, peer: &mut Peer, label: Option<(u64, u32, u32)>, now: u64) {
        match label {
            Some((sent, number, losses)) if number == peer.number && losses == peer.losses => {
                match peer.under_way.checked_sub(1) {
                    Some(left) => {
                        peer.under_way = left;
                        self.meter.record(sent, now);
                    }
                    None => self.fail("more echoes than messages"),
                }
            }
            Some((_, number, losses)) if number == peer.number && losses < peer.losses => {
                self.late += 1;
            }
            _ => self.fail("an echo that is none"),
        }
    }

    fn fail(&mut self, what: &str) {
        self.wrong += 1;
        self.first_error.get_or_insert_with(|| what.to_owned());
    }

    /// `None`: not now.
    fn passes<T>(&mut self, result: io::Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(None),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                self.fail("nobody listens there");
                Ok(None)
            }
            Err(error) => Err(error).context("a socket failed"),
        }
    }
}

fn label_of(message: &[u8], size: usize) -> Option<(u64, u32, u32)> {
    let number = |at: usize| Some(u32::from_be_bytes(*message.get(at..)?.first_chunk()?));
    let sent = u64::from_be_bytes(*message.first_chunk()?);
    Some((sent, number(8)?, number(12)?)).filter(|_| message.len() == size)
}

fn connected(address: SocketAddr) -> Result<UdpSocket> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address).with_context(|| format!("cannot connect to udp {address}"))?;
    Ok(socket)
}

/// Is it an echo server of datagrams at all? Lengths from none to much, trains, two peers.
///
/// # Errors
/// The first check that failed, by name.
pub(crate) fn check(target: &TargetOptions) -> Result<Value> {
    let (one, other) = (connected(target.address)?, connected(target.address)?);
    for socket in [&one, &other] {
        socket.set_read_timeout(Some(CHECK_PATIENCE))?;
        datagrams::ask_for_room(socket, ROOM)?;
    }
    for len in [64, 1, 0, 1200, 9000, 60_000] {
        let sent = pattern(len);
        one.send(&sent)?;
        comes(&one, &sent).with_context(|| format!("check `one of {len} bytes`"))?;
    }
    for (name, len, segment) in [
        ("train of 16", 16 * 1200, 1200),
        ("train with a short end", 10_100, 1000),
        ("train of 64", 64 * 64, 64),
    ] {
        let sent = pattern(len);
        datagrams::send_train(&one, &sent, Some(segment), None, 0)?;
        for part in sent.chunks(segment.into()) {
            comes(&one, part).with_context(|| format!("check `{name}`"))?;
        }
    }
    let messages: Vec<_> = (0..40).map(|at| pattern(100 + at)).collect();
    for sent in &messages {
        one.send(sent)?;
        other.send(&sent[1..])?;
    }
    for sent in &messages {
        comes(&one, sent).context("check `two peers`")?;
        comes(&other, &sent[1..]).context("check `two peers`, the other")?;
    }
    Ok(json!({"mode": "check-datagrams", "checks": 10, "errors": 0}))
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + len) as u8).collect()
}

fn comes(socket: &UdpSocket, sent: &[u8]) -> Result<()> {
    let mut buffer = vec![0; DATAGRAM_MAX];
    let len = socket.recv(&mut buffer).context("the echo does not come")?;
    if buffer[..len] != *sent {
        bail!("{len} bytes came back that are not the {} sent", sent.len());
    }
    Ok(())
}
