//! The epoll driver on loopback sockets, asked through the seam alone.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use bytes::Bytes;

use super::*;
use crate::address::SocketAddress;
use crate::engine::errno::Errno;
use crate::engine::operation::Manner;
use crate::engine::socket::ListenOptions;
use crate::framer::Output;

const PATIENCE: Duration = Duration::from_secs(5);
const A: Token = Token { slot: 0, generation: 1 };
const B: Token = Token { slot: 1, generation: 7 };

fn driver() -> EpollDriver {
    let (buffer_len, posted, credit) = (4096, 64, 65_536);
    let (pool_bytes_max, datagram_pool_bytes) = (1 << 20, 4 << 20);
    let plan = BufferPlan { buffer_len, posted, pool_bytes_max, datagram_pool_bytes, credit };
    EpollDriver::new(&plan, Arc::default()).unwrap()
}

/// What a test wants to know of a completion, with the bytes read out.
#[derive(Debug)]
enum Seen {
    Bytes(Token, Vec<u8>),
    Other(Completion),
}

/// Turns until there is a completion; panics after `PATIENCE`.
fn next(driver: &mut EpollDriver) -> Seen {
    let begin = Instant::now();
    loop {
        if let Some(completion) = driver.next() {
            return match completion {
                Completion::Received { token, data } => {
                    assert!(!data.leasable);
                    let bytes = driver.bytes(&data).to_vec();
                    driver.release(data);
                    Seen::Bytes(token, bytes)
                }
                other => Seen::Other(other),
            };
        }
        assert!(begin.elapsed() < PATIENCE, "no completion");
        driver.turn(Patience::Sleep(PATIENCE)).unwrap();
    }
}

fn is_quiet(driver: &mut EpollDriver) -> bool {
    driver.turn(Patience::None).unwrap();
    driver.next().is_none()
}

macro_rules! expect {
    ($driver:expr, $pattern:pat $(if $guard:expr)? => $value:expr) => {
        match next($driver) {
            $pattern $(if $guard)? => $value,
            other => panic!("unexpected: {other:?}"),
        }
    };
    ($driver:expr, $pattern:pat $(if $guard:expr)?) => {
        expect!($driver, $pattern $(if $guard)? => ())
    };
}

/// A socket attached as `token`, and its peer.
fn attached(driver: &mut EpollDriver, token: Token) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.set_write_timeout(Some(PATIENCE)).unwrap();
    let accepted = listener.accept().unwrap().0;
    accepted.set_nonblocking(true).unwrap();
    let socket = Socket::from(OwnedFd::from(accepted));
    driver.submit(Operation::Attach { token, socket });
    peer
}

/// On a loopback address of this file alone: the port is nobody else's once it is given back.
fn listening(driver: &mut EpollDriver, token: Token) -> SocketAddr {
    let any = SocketAddress::Tcp((Ipv4Addr::new(127, 0, 0, 3), 0).into());
    let socket = Socket::listen(&any, &ListenOptions::default()).unwrap();
    let SocketAddress::Tcp(address) = socket.local_address().unwrap() else { panic!("not IP") };
    driver.submit(Operation::Attach { token, socket });
    driver.submit(Operation::Accept { token });
    address
}

fn output(pieces: &[&[u8]]) -> Box<Output> {
    let mut output = Output::default();
    for piece in pieces {
        output.put_bytes(Bytes::copy_from_slice(piece));
    }
    Box::new(output)
}

fn ended(seen: Seen) -> ReceiveEnd {
    match seen {
        Seen::Other(Completion::ReceiveEnded { token: A, end }) => end,
        other => panic!("unexpected: {other:?}"),
    }
}

#[test]
fn an_idle_socket_costs_at_most_64_bytes() {
    assert!(size_of::<Entry>() <= 64, "{}", size_of::<Entry>());
}

#[test]
fn an_echo_needs_no_change_of_interest_while_credit_is_renewed() {
    let mut driver = driver();
    let mut peer = attached(&mut driver, A);
    driver.submit(Operation::Receive { token: A, credit: 5 });
    for round in 0..3 {
        peer.write_all(b"hello").unwrap();
        let bytes = expect!(&mut driver, Seen::Bytes(A, bytes) => bytes);
        assert_eq!(bytes, b"hello");
        assert_eq!(ended(next(&mut driver)), ReceiveEnd::Credit);
        driver.submit(Operation::Receive { token: A, credit: 5 });
        driver.submit(Operation::Send {
            token: A,
            output: output(&[&bytes]),
            sent: 1,
            manner: Manner::Plain,
        });
        expect!(&mut driver, Seen::Other(Completion::Sent { token: A, result: Ok(4), .. }));
        let mut echo = [0; 4];
        peer.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"ello", "round {round}");
        let kept = driver.entries[0].registered;
        assert!(kept.input && !kept.output);
    }
}

#[test]
fn nothing_is_read_without_credit() {
    let mut driver = driver();
    let mut peer = attached(&mut driver, A);
    peer.write_all(&[7; 10_000]).unwrap();
    assert!(is_quiet(&mut driver));
    driver.submit(Operation::Receive { token: A, credit: 1 });
    let bytes = expect!(&mut driver, Seen::Bytes(A, bytes) => bytes);
    assert_eq!(bytes.len(), 4096, "one buffer at most beyond the credit");
    assert_eq!(ended(next(&mut driver)), ReceiveEnd::Credit);
    assert!(is_quiet(&mut driver));
    assert_eq!(driver.entries[0].registered, Interest::NONE);
    driver.submit(Operation::Receive { token: A, credit: 0 });
    assert_eq!(ended(next(&mut driver)), ReceiveEnd::Credit);
}

#[test]
fn a_receive_ends_with_the_peers_end_its_reset_or_a_stop() {
    let mut driver = driver();
    let peer = attached(&mut driver, A);
    driver.submit(Operation::Receive { token: A, credit: 9 });
    driver.submit(Operation::StopReceive { token: A });
    driver.submit(Operation::StopReceive { token: A });
    assert_eq!(ended(next(&mut driver)), ReceiveEnd::Stopped);
    driver.submit(Operation::Receive { token: A, credit: 9 });
    drop(peer);
    assert_eq!(ended(next(&mut driver)), ReceiveEnd::EndOfInput);
    assert!(is_quiet(&mut driver));
    driver.submit(Operation::Close { token: A, reset: false });
    expect!(&mut driver, Seen::Other(Completion::Closed { token: A }));

    let peer = Socket::from(OwnedFd::from(attached(&mut driver, A)));
    driver.submit(Operation::Receive { token: A, credit: 9 });
    peer.send_reset_on_close().unwrap();
    drop(peer);
    let reset = Errno(SystemErrno::CONNRESET.raw_os_error());
    assert_eq!(ended(next(&mut driver)), ReceiveEnd::Failed(reset));
}

#[test]
fn a_broken_socket_that_nobody_asks_about_does_not_wake_the_core() {
    let mut driver = driver();
    let peer = Socket::from(OwnedFd::from(attached(&mut driver, A)));
    driver.submit(Operation::Receive { token: A, credit: 9 });
    assert!(is_quiet(&mut driver));
    driver.submit(Operation::StopReceive { token: A });
    assert_eq!(ended(next(&mut driver)), ReceiveEnd::Stopped);
    peer.send_reset_on_close().unwrap();
    drop(peer);
    driver.turn(Patience::Sleep(Duration::from_millis(30))).unwrap();
    assert!(driver.events.is_empty());
    assert!(driver.next().is_none());
}

#[test]
fn an_exact_receive_fills_the_buffer_it_was_given() {
    let mut driver = driver();
    let mut peer = attached(&mut driver, A);
    let exact = |whole, len| {
        let mut buffer = Vec::with_capacity(len);
        buffer.push(b'>');
        Operation::ReceiveExact { token: A, buffer, whole }
    };
    driver.submit(exact(true, 1001));
    assert!(is_quiet(&mut driver));
    for part in [1, 499, 500] {
        assert!(is_quiet(&mut driver));
        peer.write_all(&vec![3; part]).unwrap();
    }
    let buffer = expect!(&mut driver, Seen::Other(Completion::ReceivedExact {
        buffer, result: Ok(1000), ..
    }) => buffer);
    assert_eq!((buffer.len(), buffer[0], buffer[1000]), (1001, b'>', 3));

    driver.submit(exact(false, 100));
    peer.write_all(b"some").unwrap();
    expect!(&mut driver, Seen::Other(Completion::ReceivedExact { result: Ok(4), .. }));
    driver.submit(exact(true, 1));
    expect!(&mut driver, Seen::Other(Completion::ReceivedExact { result: Ok(0), .. }));
    driver.submit(exact(true, 100));
    driver.submit(Operation::StopReceive { token: A });
    expect!(&mut driver, Seen::Other(Completion::ReceivedExact { result: Err(_), .. }));
    driver.submit(exact(true, 100));
    peer.write_all(b"part").unwrap();
    driver.turn(Patience::Sleep(PATIENCE)).unwrap();
    assert!(driver.next().is_none());
    driver.submit(Operation::StopReceive { token: A });
    expect!(&mut driver, Seen::Other(Completion::ReceivedExact { result: Ok(4), .. }));
    driver.submit(exact(true, 100));
    peer.write_all(b"last").unwrap();
    drop(peer);
    expect!(&mut driver, Seen::Other(Completion::ReceivedExact { result: Ok(4), .. }));
    driver.submit(exact(true, 100));
    expect!(&mut driver, Seen::Other(Completion::ReceivedExact { result: Ok(0), .. }));
}

#[test]
fn a_large_output_of_many_pieces_leaves_whole_and_the_end_follows_it() {
    let mut driver = driver();
    let mut peer = attached(&mut driver, A);
    // More pieces than one call takes, and more bytes than the sockets hold.
    let pieces: Vec<Vec<u8>> = (0..200_u8).map(|n| vec![n; 100_000 + usize::from(n)]).collect();
    let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    let expected = pieces.concat();
    driver.submit(Operation::Send {
        token: A,
        output: output(&slices),
        sent: 3,
        manner: Manner::Plain,
    });
    // Much has left: the driver says so, the rest is asked for again.
    let (rest, first) = expect!(&mut driver,
        Seen::Other(Completion::Sent { output, result: Ok(len), .. }) => (output, len));
    assert!(first >= crate::engine::operation::SEND_BYTES_MAX);
    let sent = 3 + first;
    driver.submit(Operation::Send { token: A, output: rest, sent, manner: Manner::Plain });
    driver.submit(Operation::ShutdownWrite { token: A });
    assert!(is_quiet(&mut driver), "the sockets are full");
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).map(|_| all)
    });
    let len = expect!(&mut driver, Seen::Other(Completion::Sent { result: Ok(len), .. }) => len);
    assert_eq!(first + len, expected.len() - 3);
    assert!(reader.join().unwrap().unwrap() == expected[3..]);
    assert!(is_quiet(&mut driver));
    assert_eq!(driver.entries[0].registered, Interest::NONE);
}

#[test]
fn a_close_answers_everything_under_way_and_says_closed_last() {
    let mut driver = driver();
    let mut peer = attached(&mut driver, A);
    let large = vec![1; 20_000_000];
    driver.submit(Operation::Receive { token: A, credit: 100 });
    driver.submit(Operation::Send {
        token: A,
        output: output(&[&large]),
        sent: 0,
        manner: Manner::Plain,
    });
    let (rest, sent) = expect!(&mut driver,
        Seen::Other(Completion::Sent { output, result: Ok(len), .. }) => (output, len));
    driver.submit(Operation::Send { token: A, output: rest, sent, manner: Manner::Plain });
    driver.submit(Operation::Close { token: A, reset: true });
    // The shard has not heard of the close yet.
    driver.submit(Operation::Receive { token: A, credit: 100 });
    let mut seen = [(); 4].map(|()| next(&mut driver)).into_iter();
    assert_eq!(ended(seen.next().unwrap()), ReceiveEnd::Stopped);
    let canceled = Errno(SystemErrno::CANCELED.raw_os_error());
    assert!(matches!(seen.next(), Some(Seen::Other(Completion::Sent { result: Err(error), .. }))
        if error == canceled));
    assert_eq!(ended(seen.next().unwrap()), ReceiveEnd::Failed(canceled));
    assert!(matches!(seen.next(), Some(Seen::Other(Completion::Closed { token: A }))));
    let error = peer.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(is_quiet(&mut driver));
}

#[test]
fn an_old_generation_is_answered_but_never_acts() {
    let mut driver = driver();
    drop(attached(&mut driver, A));
    driver.submit(Operation::Close { token: A, reset: false });
    expect!(&mut driver, Seen::Other(Completion::Closed { token: A }));
    let newer = Token { generation: 2, ..A };
    let mut peer = attached(&mut driver, newer);
    driver.submit(Operation::Receive { token: newer, credit: 100 });
    driver.submit(Operation::StopReceive { token: A });
    driver.submit(Operation::ShutdownWrite { token: A });
    driver.submit(Operation::Close { token: A, reset: true });
    driver.submit(Operation::Send {
        token: A,
        output: output(&[b"old"]),
        sent: 0,
        manner: Manner::Plain,
    });
    expect!(&mut driver, Seen::Other(Completion::Sent { token: A, result: Err(_), .. }));
    driver.submit(Operation::Receive { token: A, credit: 1 });
    assert!(matches!(ended(next(&mut driver)), ReceiveEnd::Failed(_)));
    driver.submit(Operation::Send {
        token: newer,
        output: output(&[b"new"]),
        sent: 0,
        manner: Manner::Plain,
    });
    expect!(&mut driver, Seen::Other(Completion::Sent { result: Ok(3), .. }));
    let mut got = [0; 3];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"new");
}

#[test]
fn the_table_grows_by_steps_not_by_slots() {
    let mut driver = driver();
    let mut growths = 0;
    for slot in 0..1000 {
        let before = driver.entries.capacity();
        let token = Token { slot, generation: 1 };
        let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
        let socket = Socket::from(OwnedFd::from(near));
        driver.submit(Operation::Attach { token, socket });
        growths += u32::from(driver.entries.capacity() != before);
        driver.submit(Operation::Close { token, reset: false });
    }
    assert!((5..30).contains(&growths), "{growths} for {}", driver.entries.capacity());
}

#[test]
fn a_listener_accepts_and_stops_only_after_its_queue() {
    let mut driver = driver();
    let address = listening(&mut driver, A);
    let first = TcpStream::connect(address).unwrap();
    let socket = expect!(
        &mut driver, Seen::Other(Completion::Accepted { token: A, socket }) => socket);
    assert_eq!(socket.peer_address().unwrap(), SocketAddress::Tcp(first.local_addr().unwrap()));
    let waiting: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    driver.submit(Operation::StopAccept { token: A });
    for _ in &waiting {
        expect!(&mut driver, Seen::Other(Completion::Accepted { .. }));
    }
    expect!(&mut driver, Seen::Other(Completion::AcceptEnded { token: A, error: None }));
    let _late = TcpStream::connect(address).unwrap();
    assert!(is_quiet(&mut driver));
    driver.submit(Operation::Close { token: A, reset: false });
    expect!(&mut driver, Seen::Other(Completion::Closed { token: A }));
    // A test beside this one that starts a process lends it the descriptors for a moment.
    let begin = Instant::now();
    while TcpStream::connect(address).is_ok() {
        assert!(begin.elapsed() < PATIENCE, "it still listens");
    }
}

#[test]
fn accepts_of_one_turn_are_bounded_and_a_shut_listener_ends() {
    let mut driver = driver();
    let address = listening(&mut driver, A);
    let copy = find(&mut driver.entries, A).unwrap().socket.as_ref().unwrap().try_clone().unwrap();
    let waiting: Vec<_> =
        (0..ACCEPTS_MAX + 1).map(|_| TcpStream::connect(address).unwrap()).collect();
    driver.turn(Patience::Sleep(PATIENCE)).unwrap();
    assert_eq!(std::iter::from_fn(|| driver.next()).count(), ACCEPTS_MAX);
    expect!(&mut driver, Seen::Other(Completion::Accepted { .. }));
    assert!(is_quiet(&mut driver));
    drop(waiting);
    copy.shutdown_both().unwrap();
    expect!(&mut driver, Seen::Other(Completion::AcceptEnded { token: A, error: Some(_) }));
    assert!(is_quiet(&mut driver));
}

/// Runs in a process of its own, because the limit on descriptors is the process's.
#[test]
fn a_listener_without_descriptors_rests_and_goes_on() {
    const CHILD: &str = "POSTRING_TEST_WITHOUT_DESCRIPTORS";
    if std::env::var_os(CHILD).is_none() {
        let name = "engine::epoll::tests::a_listener_without_descriptors_rests_and_goes_on";
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--test-threads", "1"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        return;
    }
    let mut driver = driver();
    let address = listening(&mut driver, A);
    let _waiting = TcpStream::connect(address).unwrap();
    let free = std::fs::File::open("/dev/null").unwrap();
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let whole = limit;
    // Descriptors are given out lowest first: none is free below this one.
    limit.current = Some(u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&free)).unwrap() + 1);
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let begin = Instant::now();
    assert!(is_quiet(&mut driver));
    assert_eq!(driver.metrics.accept_errors.get(), 1);
    assert!(is_quiet(&mut driver), "it does not try again at once");
    assert_eq!(driver.metrics.accept_errors.get(), 1);
    rustix::process::setrlimit(rustix::process::Resource::Nofile, whole).unwrap();
    expect!(&mut driver, Seen::Other(Completion::Accepted { token: A, .. }));
    assert!(begin.elapsed() >= Duration::from_millis(100));
    driver.submit(Operation::StopAccept { token: A });
    expect!(&mut driver, Seen::Other(Completion::AcceptEnded { error: None, .. }));
}

#[test]
fn connecting_succeeds_or_says_why_not() {
    let mut driver = driver();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connect = |driver: &mut EpollDriver, token, address: SocketAddress| {
        let socket = Socket::connecting(&address).unwrap();
        driver.submit(Operation::Attach { token, socket });
        driver.submit(Operation::Connect { token, address });
    };
    connect(&mut driver, A, SocketAddress::Tcp(address));
    driver.submit(Operation::Send {
        token: A,
        output: output(&[b"early"]),
        sent: 0,
        manner: Manner::Plain,
    });
    expect!(&mut driver, Seen::Other(Completion::Connected { token: A, result: Ok(()) }));
    expect!(&mut driver, Seen::Other(Completion::Sent { result: Ok(5), .. }));
    let mut early = [0; 5];
    listener.accept().unwrap().0.read_exact(&mut early).unwrap();
    drop(listener);
    let refused = SystemErrno::CONNREFUSED.raw_os_error();
    connect(&mut driver, B, SocketAddress::Tcp(address));
    expect!(&mut driver, Seen::Other(Completion::Connected { token: B, result: Err(error) })
        if error.0 == refused);
    let nowhere = SocketAddress::Unix("\0postring-nobody-listens-here".into());
    connect(&mut driver, Token { slot: 2, generation: 0 }, nowhere);
    expect!(&mut driver, Seen::Other(Completion::Connected { result: Err(error), .. })
        if error.0 == refused);
    assert!(is_quiet(&mut driver));
}

#[test]
fn one_busy_peer_gets_one_receive_a_turn() {
    let mut driver = driver();
    let mut busy = attached(&mut driver, A);
    let mut polite = attached(&mut driver, B);
    busy.write_all(&[1; 100_000]).unwrap();
    polite.write_all(b"hi").unwrap();
    driver.submit(Operation::Receive { token: A, credit: 5_000 });
    driver.submit(Operation::Receive { token: B, credit: 5_000 });
    driver.turn(Patience::Sleep(PATIENCE)).unwrap();
    let mut receives = [0; 2];
    while let Some(completion) = driver.next() {
        match completion {
            Completion::Received { token, .. } => receives[token.slot as usize] += 1,
            Completion::ReceiveEnded { token, .. } => {
                driver.submit(Operation::Receive { token, credit: 5_000 });
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
    assert_eq!(receives, [1, 1]);
}

#[test]
fn a_bell_ends_a_sleep_and_waiting_keeps_its_time() {
    let mut driver = driver();
    let bell = driver.bell();
    let begin = Instant::now();
    let ringer = std::thread::spawn(move || bell.ring());
    driver.turn(Patience::Sleep(PATIENCE)).unwrap();
    assert!(driver.next().is_none());
    ringer.join().unwrap();
    assert!(begin.elapsed() < PATIENCE, "woken");
    let wait = Duration::from_millis(5);
    for patience in [Patience::Sleep(wait), Patience::Spin(wait)] {
        let begin = Instant::now();
        driver.turn(patience).unwrap();
        assert!(begin.elapsed() >= wait, "{patience:?}");
        assert!(driver.next().is_none(), "the bell was answered");
    }
    assert!(driver.metrics.spins.get() > 0);
}
