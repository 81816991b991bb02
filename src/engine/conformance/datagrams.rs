//! Laws of datagrams: trains come whole with their lengths, each end and each error is said once,
//! one datagram's fate is not its neighbour's.
//!
//! Above: `cargo test`. Below: `Bench`; sockets of UDP on loopback, or those of a simulated world.
//! Two laws are the kernel's alone: it refuses trains, and peers of port 0; a world does neither.
//! Absent: what paths do to datagrams (`tests/testing`); datagrams longer than a buffer, which UDP
//! over loopback cannot carry.
//! Bounds: a law sends at most a few hundred datagrams, fewer than a socket holds.

use std::net::{Ipv4Addr, SocketAddr};

use super::Subject;
use super::bench::{Bench, pattern};
use crate::address::Route;
use crate::engine::errno::Errno;
use crate::engine::operation::{Arrival, Operation, PeerError, ReceiveEnd, Token};
use crate::engine::plan::Patience;
use crate::engine::socket::Socket;
use crate::engine::socket_option::SocketOption;
use crate::framer::Output;

const CONNECTION_REFUSED: Errno = Errno(rustix::io::Errno::CONNREFUSED.raw_os_error());
const TOO_LONG: Errno = Errno(rustix::io::Errno::MSGSIZE.raw_os_error());

/// What these laws need of a subject: sockets for its driver, and others by hand.
pub(super) trait Posting: Subject {
    type Far: Far;

    /// A socket by hand, and its address.
    fn foreign(&mut self) -> (Self::Far, SocketAddr);
    /// A driver's socket that is connected to `to`, and its address.
    fn connected_to(&mut self, to: SocketAddr) -> (Socket, SocketAddr);
    /// A driver's socket that receives from anybody, and its address.
    fn open_to_all(&mut self) -> (Socket, SocketAddr);
}

/// A socket of datagrams by hand. It does not wait, and always has room for what a law sends.
pub(super) trait Far {
    fn connect(&self, to: SocketAddr);
    /// To whom it is connected.
    fn send(&self, datagram: &[u8]);
    fn send_to(&self, datagram: &[u8], to: SocketAddr);
    /// The next one that came, if it is there.
    fn receive(&self) -> Option<Vec<u8>>;
}

/// A driver's socket and a foreign one, each connected to the other.
fn pair<S: Posting>(bench: &mut Bench<S>) -> (Token, S::Far) {
    let (far, to) = bench.subject.foreign();
    let (near, from) = bench.subject.connected_to(to);
    far.connect(from);
    (bench.attach(near), far)
}

/// A driver's socket that receives from anybody, and its address.
fn open_to_all<S: Posting>(bench: &mut Bench<S>) -> (Token, SocketAddr) {
    let (socket, address) = bench.subject.open_to_all();
    (bench.attach(socket), address)
}

fn output_of(datagrams: &[Vec<u8>], to: Option<Route>) -> Box<Output> {
    let mut output = Box::new(Output::default());
    for datagram in datagrams {
        output.put(datagram);
        output.end_datagram(to, None);
    }
    output
}

/// Datagrams of these lengths, none like the other.
fn datagrams_of(lens: &[usize]) -> Vec<Vec<u8>> {
    lens.iter().enumerate().map(|(seed, len)| pattern(seed as u64, *len)).collect()
}

/// What came, cut where its segments end.
fn received<S: Posting>(bench: &mut Bench<S>, token: Token) -> Vec<Vec<u8>> {
    let trains = &bench.seen(token).trains;
    trains.iter().flat_map(|(bytes, arrival)| cut(bytes, arrival)).collect()
}

fn cut(bytes: &[u8], arrival: &Arrival) -> Vec<Vec<u8>> {
    assert!(!arrival.truncated, "{arrival:?}");
    match arrival.segment {
        Some(segment) => bytes.chunks(segment.into()).map(<[u8]>::to_vec).collect(),
        None => vec![bytes.to_vec()],
    }
}

fn receive<S: Posting>(bench: &mut Bench<S>, token: Token) {
    bench.submit(Operation::ReceiveDatagrams { token });
}

/// Turns until `count` datagrams came to the driver.
fn await_datagrams<S: Posting>(bench: &mut Bench<S>, token: Token, count: usize) {
    bench.until("datagrams", |bench| received(bench, token).len() >= count);
}

/// Turns until `count` datagrams came to the foreign socket.
fn read_at<S: Posting>(bench: &mut Bench<S>, far: &S::Far, count: usize) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    bench.until("datagrams at the peer", |_| {
        all.extend(std::iter::from_fn(|| far.receive()));
        all.len() >= count
    });
    all
}

pub(super) fn a_train_comes_whole_in_order_and_with_its_segment<S: Posting>(bench: &mut Bench<S>) {
    let (far, to) = open_to_all(bench);
    let (near, from) = bench.subject.connected_to(to);
    let near = bench.attach(near);
    receive(bench, far);
    let mut lens = vec![1000; 20];
    lens.push(300);
    let sent = datagrams_of(&lens);
    bench.send(near, output_of(&sent, None));
    await_datagrams(bench, far, sent.len());
    assert!(received(bench, far) == sent);
    bench.until("the answer", |bench| !bench.sends(near));
    assert_eq!(bench.seen(near).whole_sends, 1);
    for (bytes, arrival) in &bench.seen(far).trains {
        assert_eq!(arrival.from.map(|route| route.remote), Some(from));
        assert!(bytes.len() <= 1000 || arrival.segment == Some(1000), "{arrival:?}");
    }
}

pub(super) fn datagrams_of_any_lengths_stay_apart<S: Posting>(bench: &mut Bench<S>) {
    let (token, far) = pair(bench);
    let mut lens = vec![0, 1, 1, 0, 0, 500, 500, 499, 500, 65_507, 2];
    lens.extend((0..20).map(|_| bench.random.below(1500)));
    let sent = datagrams_of(&lens);
    bench.send(token, output_of(&sent, None));
    assert!(read_at(bench, &far, sent.len()) == sent, "to the peer: {lens:?}");
    bench.until("the answer", |bench| bench.seen(token).whole_sends == 1);
    receive(bench, token);
    for datagram in &sent {
        far.send(datagram);
        let count = received(bench, token).len();
        await_datagrams(bench, token, count + 1);
    }
    assert!(received(bench, token) == sent, "from the peer: {lens:?}");
}

pub(super) fn a_datagram_of_no_bytes_is_one<S: Posting>(bench: &mut Bench<S>) {
    let (token, far) = pair(bench);
    bench.send(token, output_of(&[Vec::new()], None));
    assert_eq!(read_at(bench, &far, 1), [b""]);
    bench.until("the answer", |bench| bench.seen(token).whole_sends == 1);
    receive(bench, token);
    far.send(b"");
    await_datagrams(bench, token, 1);
    assert_eq!(received(bench, token), [b""]);
    assert!(bench.receives(token), "it is no end of input");
}

pub(super) fn an_answer_goes_to_whom_it_names<S: Posting>(bench: &mut Bench<S>) {
    let (token, place) = open_to_all(bench);
    receive(bench, token);
    let peers: Vec<_> = (0..5).map(|_| bench.subject.foreign()).collect();
    for (at, (peer, _)) in peers.iter().enumerate() {
        peer.send_to(&[at as u8; 9], place);
    }
    await_datagrams(bench, token, peers.len());
    let mut output = Box::new(Output::default());
    for (bytes, arrival) in &bench.seen(token).trains {
        output.put(bytes);
        output.end_datagram(arrival.from, None);
    }
    bench.send(token, output);
    for (at, (peer, _)) in peers.iter().enumerate() {
        assert_eq!(read_at(bench, peer, 1), [[at as u8; 9]]);
    }
    bench.until("the answer", |bench| !bench.sends(token));
}

pub(super) fn a_stop_ends_once_and_loses_no_datagram<S: Posting>(bench: &mut Bench<S>) {
    let (token, far) = pair(bench);
    let sent: Vec<_> = datagrams_of(&[20; 60]);
    for (round, three) in sent.chunks(3).enumerate() {
        receive(bench, token);
        far.send(&three[0]);
        if round % 2 == 0 {
            await_datagrams(bench, token, round * 3 + 1);
        }
        far.send(&three[1]);
        bench.submit(Operation::StopReceive { token });
        bench.submit(Operation::StopReceive { token });
        far.send(&three[2]);
        bench.until("the end", |bench| !bench.receives(token));
        for _ in 0..3 {
            bench.turn(Patience::None);
        }
        assert_eq!(bench.seen(token).receive_ends, vec![ReceiveEnd::Stopped; round + 1]);
        receive(bench, token);
        await_datagrams(bench, token, round * 3 + 3);
        bench.submit(Operation::StopReceive { token });
        bench.until("the end", |bench| !bench.receives(token));
        bench.seen(token).receive_ends.pop();
    }
    assert!(received(bench, token) == sent);
}

pub(super) fn closing_amid_trains_answers_everything<S: Posting>(bench: &mut Bench<S>) {
    let mut all = Vec::new();
    for at in 0..30 {
        let (token, far) = pair(bench);
        receive(bench, token);
        far.send(b"something");
        // Lengths that grow make each datagram a train of its own.
        let lens: Vec<usize> = (1..20).map(|len| len * (1 + at % 3)).collect();
        if at % 2 == 0 {
            bench.send(token, output_of(&datagrams_of(&lens), None));
        } else {
            bench.send_paced(token, output_of(&datagrams_of(&lens), None));
        }
        if at % 5 == 0 {
            bench.turn(Patience::None);
        }
        bench.close(token, at % 7 == 0);
        all.push((token, far));
    }
    bench.until("the last words", |bench| all.iter().all(|(token, _)| bench.seen(*token).closed));
}

pub(super) fn a_close_amid_trains_claims_no_more_than_has_left<S: Posting>(bench: &mut Bench<S>) {
    for at in 0..40 {
        let (token, far) = pair(bench);
        let lens: Vec<usize> = (1..20).collect();
        bench.send_paced(token, output_of(&datagrams_of(&lens), None));
        for _ in 0..at % 8 {
            bench.turn(Patience::None);
        }
        bench.close(token, false);
        bench.until("the last word", |bench| bench.seen(token).closed);
        let came = std::iter::from_fn(|| far.receive()).count();
        let seen = bench.seen(token);
        assert!(seen.whole_sends == 0 || came == lens.len(), "{came} of {} have left", lens.len());
    }
}

pub(super) fn a_closed_port_is_said_once<S: Posting>(bench: &mut Bench<S>) {
    // Connected elsewhere, so it takes nothing from us, yet its port stays its own.
    let ((holder, to), (_elsewhere, other)) = (bench.subject.foreign(), bench.subject.foreign());
    holder.connect(other);
    let token = {
        let (socket, _) = bench.subject.connected_to(to);
        bench.attach(socket)
    };
    receive(bench, token);
    bench.turn(Patience::None);
    bench.send(token, output_of(&[b"anybody?".to_vec()], None));
    let errors = |bench: &mut Bench<S>| {
        let seen = bench.seen(token);
        let failed = ReceiveEnd::Failed(CONNECTION_REFUSED);
        let ended = seen.receive_ends.iter().filter(|end| **end == failed).count();
        ended + usize::from(seen.send_failure == Some(CONNECTION_REFUSED))
    };
    bench.until("the error", |bench| errors(bench) > 0);
    bench.until("the answer", |bench| !bench.sends(token));
    if !bench.receives(token) {
        receive(bench, token);
    }
    for _ in 0..10 {
        bench.turn(Patience::None);
    }
    assert_eq!(errors(bench), 1);
    assert!(bench.receives(token), "the error is over with");
}

pub(super) fn what_one_of_many_peers_says_ends_nothing<S: Posting>(bench: &mut Bench<S>) {
    let (token, own) = open_to_all(bench);
    bench.submit(Operation::Tune { token, option: SocketOption::PeerErrors });
    receive(bench, token);
    let ((deaf, nobody), (_elsewhere, other)) = (bench.subject.foreign(), bench.subject.foreign());
    deaf.connect(other);
    let (alive, somebody) = bench.subject.foreign();
    let to = |remote| Some(Route { remote, local: None });
    for round in 1..=5 {
        let before = bench.seen(token).whole_sends;
        let mut output = Output::default();
        for at in 0..6_u8 {
            output.put(&[at; 100]);
            output.end_datagram(to(if at % 2 == 0 { nobody } else { somebody }), None);
        }
        bench.send(token, Box::new(output));
        let came = read_at(bench, &alive, 3);
        assert_eq!(came, [1, 3, 5].map(|at| vec![at; 100]), "none is lost to another's error");
        bench.until("the answer", |bench| bench.seen(token).whole_sends > before);
        assert_eq!(bench.seen(token).send_failure, None);
        bench.until("the error", |bench| !bench.seen(token).peer_errors.is_empty());
        alive.send_to(b"still there?", own);
        await_datagrams(bench, token, round);
        assert!(bench.receives(token), "its receive goes on");
        let refused = PeerError { remote: nobody, errno: CONNECTION_REFUSED, bytes_max: None };
        let said = std::mem::take(&mut bench.seen(token).peer_errors);
        assert!(said.iter().all(|error| *error == refused), "{said:?}");
    }
}

/// Linux says the error of such a datagram again to the next send of a socket that probes its path
/// (`IP_PMTUDISC_PROBE`); that one must not be lost for it.
pub(super) fn one_that_is_too_long_fails_alone<S: Posting>(bench: &mut Bench<S>) {
    let (token, far) = pair(bench);
    receive(bench, token);
    let mut all = datagrams_of(&[400, 65_508, 500, 500]);
    bench.send(token, output_of(&all, None));
    bench.until("the answer", |bench| !bench.sends(token));
    assert_eq!(bench.seen(token).send_failure.take(), Some(TOO_LONG));
    all.remove(1);
    assert!(read_at(bench, &far, 3) == all, "those around it have left");
    let before = bench.seen(token).whole_sends;
    bench.send(token, output_of(&all, None));
    assert!(read_at(bench, &far, 3) == all, "and those of later outputs");
    bench.until("the answer", |bench| bench.seen(token).whole_sends == before + 1);
    assert!(bench.receives(token), "what is received is no part of it");
}

pub(super) fn a_refused_train_leaves_in_single_datagrams<S: Posting>(bench: &mut Bench<S>) {
    let (far, to) = bench.subject.foreign();
    let (near, from) = bench.subject.connected_to(to);
    far.connect(from);
    // The kernel cuts no trains for a socket that sends no checksums.
    crate::kernel::send_without_checksums(near.as_fd()).expect("a socket takes this");
    let token = bench.attach(near);
    for round in 1..4 {
        // Two trains are under way when the first is refused.
        let sent = datagrams_of(&[[700; 8], [900; 8], [40; 8]].concat());
        bench.send(token, output_of(&sent, None));
        let mut came = read_at(bench, &far, sent.len());
        came.sort_unstable();
        let mut wanted = sent.clone();
        wanted.sort_unstable();
        assert!(came == wanted, "each of them once");
        bench.until("the answer", |bench| !bench.sends(token));
        assert_eq!(bench.seen(token).whole_sends, round);
        assert_eq!(bench.seen(token).send_failure, None);
    }
}

/// Whoever sends from port 0 cannot be answered: the kernel refuses that with the same word as a
/// train that it does not cut.
pub(super) fn a_peer_that_cannot_be_sent_to_leaves_trains_to_others<S: Posting>(
    bench: &mut Bench<S>,
) {
    let ((near, _), (far, place)) = (open_to_all(bench), open_to_all(bench));
    receive(bench, far);
    let to = |remote| Some(Route { remote, local: None });
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let invalid = Errno(rustix::io::Errno::INVAL.raw_os_error());
    for _ in 0..3 {
        bench.send(near, output_of(&datagrams_of(&[500; 8]), to(nobody)));
        bench.until("the answer", |bench| !bench.sends(near));
        assert_eq!(bench.seen(near).send_failure.take(), Some(invalid));
        let sent = datagrams_of(&[1000; 8]);
        bench.send(near, output_of(&sent, to(place)));
        await_datagrams(bench, far, sent.len());
        assert!(received(bench, far) == sent);
        assert_eq!(bench.seen(far).trains.len(), 1, "as one train");
        bench.seen(far).trains.clear();
        bench.until("the answer", |bench| !bench.sends(near));
    }
}

pub(super) fn more_datagrams_than_buffers_are_all_received<S: Posting>(bench: &mut Bench<S>) {
    let (token, far) = pair(bench);
    for round in 0..5 {
        // More than any driver has posted, and less than a socket holds.
        let sent = datagrams_of(&[30; 150]);
        for datagram in &sent {
            far.send(datagram);
        }
        if round == 0 {
            receive(bench, token);
        }
        await_datagrams(bench, token, sent.len());
        assert!(received(bench, token) == sent, "round {round}");
        bench.seen(token).trains.clear();
    }
    assert!(bench.receives(token), "it went on by itself");
}
