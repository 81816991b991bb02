//! What all tests of the API need: engines on both drivers, foreign peers, children, patience.
//!
//! Absent: anything of the crate's inside.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use postring::{
    Carrier, DriverChoice, Engine, EngineBuilder, Framer, LengthPrefixed, Limits, Message,
    Timeouts, TrySendError,
};

/// The longest that anything may take that is to happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// Which test of this binary a child is to run, and in which part.
const CHILD: &str = "POSTRING_TEST_CHILD";

/// Runs `body` on each driver of this machine, each time for at most `seconds`.
pub(crate) fn on_both(seconds: u64, body: impl Fn(DriverChoice) + Copy + Send + 'static) {
    for driver in [DriverChoice::Uring, DriverChoice::Epoll] {
        if let Err(error) = Engine::builder().driver(driver).unpinned(1).start() {
            println!("SKIP: {error}");
            continue;
        }
        let started = Instant::now();
        within(seconds, move || body(driver));
        println!("{driver:?}: {:?}", started.elapsed());
    }
}

/// Runs `body` on a thread of its own; fails after `seconds`.
pub(crate) fn within(seconds: u64, body: impl FnOnce() + Send + 'static) {
    let (over, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        body();
        // Nobody listens any more after the time is over.
        let _ = over.send(());
    });
    match ended.recv_timeout(Duration::from_secs(seconds)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("not over after {seconds} s"),
        _ => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}

/// Waits until `is_so`; fails if it does not become so soon.
pub(crate) fn until(what: &str, is_so: impl FnMut() -> bool) {
    assert!(becomes(SOON, is_so), "{what}: not after {SOON:?}");
}

/// Waits at most `longest` until `is_so`.
pub(crate) fn becomes(longest: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while !is_so() {
        if started.elapsed() > longest {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

pub(crate) fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// Default timeouts but for peers that stay after the end: tests do not wait for them.
pub(crate) fn timeouts(change: impl FnOnce(&mut Timeouts)) -> Timeouts {
    let mut timeouts = Timeouts::default();
    timeouts.linger = Duration::from_millis(300);
    change(&mut timeouts);
    timeouts
}

/// One thread on `driver`.
pub(crate) fn one(driver: DriverChoice) -> EngineBuilder {
    threads(driver, 1)
}

pub(crate) fn threads(driver: DriverChoice, threads: usize) -> EngineBuilder {
    Engine::builder().driver(driver).unpinned(threads).timeouts(timeouts(|_| ()))
}

/// Frames of up to 32 MiB.
pub(crate) fn frames() -> LengthPrefixed {
    LengthPrefixed::default().len_max(32 << 20)
}

/// An echo server of one thread.
pub(crate) fn echo(driver: DriverChoice) -> Engine {
    echo_of(one(driver))
}

/// An echo server of what `builder` describes.
pub(crate) fn echo_of(builder: EngineBuilder) -> Engine {
    let place = "tcp://127.0.0.1:0";
    builder.respond_with(place, frames(), |message, reply| reply.send(message)).start().unwrap()
}

/// Ends the engine in order.
pub(crate) fn end(engine: Engine) {
    engine.shutdown();
    engine.wait().unwrap();
}

/// `HOST:PORT` of the engine's first address.
pub(crate) fn place(engine: &Engine) -> String {
    let address = engine.local_addresses().remove(0);
    address.strip_prefix("tcp://").unwrap().to_owned()
}

/// A foreign peer of the engine's first address.
pub(crate) fn connect(engine: &Engine) -> TcpStream {
    connect_to(&place(engine))
}

pub(crate) fn connect_to(place: &str) -> TcpStream {
    let stream = TcpStream::connect(place).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

pub(crate) fn connect_unix(path: &str) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream
}

/// A Carrier to a foreign listener, not yet connected.
pub(crate) fn to_foreign(engine: &Engine) -> (Carrier<LengthPrefixed>, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (engine.initiate_with(&address_of(&listener), frames()), listener)
}

pub(crate) fn address_of(listener: &TcpListener) -> String {
    format!("tcp://{}", listener.local_addr().unwrap())
}

/// The next connection, which must come soon.
pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let mut accepted = None;
    until("it connects", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (stream, _) = accepted.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A Carrier that is connected to a foreign peer, which reads only when it is told to.
pub(crate) fn foreign(driver: DriverChoice) -> (Engine, Carrier<LengthPrefixed>, TcpStream) {
    foreign_of(one(driver), frames())
}

pub(crate) fn foreign_of<F: Framer>(
    builder: EngineBuilder,
    framer: F,
) -> (Engine, Carrier<F>, TcpStream) {
    let engine = builder.start().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let carrier = engine.initiate_with(&address_of(&listener), framer);
    carrier.activate().wait().unwrap();
    (engine, carrier, accept(&listener))
}

/// Breaks the connection off without an orderly end.
pub(crate) fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// An address that refuses connections as long as the socket, which holds its port, is kept.
pub(crate) fn nobody() -> (OwnedFd, String) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let holder = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&holder, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let address = SocketAddr::try_from(getsockname(&holder).unwrap()).unwrap();
    (holder, format!("tcp://{address}"))
}

/// The class and the first byte of the Messages of [`fill`]: no text begins with it, and no test
/// that fills sends anything less urgent.
pub(crate) const BULK: u8 = 255;

/// Sends bulk until the kernel and the queue hold it up; how many were taken.
pub(crate) fn fill(carrier: &Carrier<LengthPrefixed>) -> usize {
    let mut taken = 0;
    let mut quiet = Instant::now();
    while quiet.elapsed() < Duration::from_millis(200) {
        match carrier.try_send(Message::new(vec![BULK; 20_000]).niceness(BULK.into())) {
            Ok(()) => {
                taken += 1;
                quiet = Instant::now();
            }
            Err(TrySendError::Full(_)) => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => panic!("{error}"),
        }
    }
    taken
}

/// A frame with a length of four bytes, big-endian.
pub(crate) fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(payload);
    frame
}

pub(crate) fn read_frame(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut header = [0; 4];
    stream.read_exact(&mut header)?;
    let mut payload = vec![0; u32::from_be_bytes(header) as usize];
    stream.read_exact(&mut payload)?;
    Ok(payload)
}

/// Sends `payload` as a frame and wants the same back.
pub(crate) fn wants_back(stream: &mut (impl Read + Write), payload: &[u8]) {
    stream.write_all(&frame(payload)).unwrap();
    let answer = read_frame(stream).unwrap();
    assert!(answer == payload, "{} bytes, not the {} sent", answer.len(), payload.len());
}

/// True if the peer ends or resets the connection soon, without another byte.
pub(crate) fn is_ended(stream: &mut impl Read) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(read) => read == 0,
        Err(error) => is_broken(&error),
    }
}

/// True if the other side has broken the connection.
pub(crate) fn is_broken(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// Bytes that show when they are out of order.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    let mut period: Vec<u8> = (0..len.min(8191)).map(|at| ((at * 31) >> 3) as u8).collect();
    while period.len() < len {
        let more = period.len().min(len - period.len());
        period.extend_from_within(..more);
    }
    period
}

/// The part that this process plays, if it is a child of `test`.
pub(crate) fn child_part(test: &str) -> Option<String> {
    let mine = std::env::var(CHILD).ok()?;
    mine.strip_prefix(test)?.strip_prefix(' ').map(str::to_owned)
}

/// `test` again, in a process of its own that plays `part`.
pub(crate) fn child(test: &str, part: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, format!("{test} {part}")).env_remove("POSTRING_DRIVER");
    command
}

/// Runs `test` in a process of its own that plays `part`; fails with its output if it fails.
pub(crate) fn run_child(test: &str, part: &str) {
    let output = child(test, part).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    said.lines().filter(|line| line.contains("SKIP: ")).for_each(|line| println!("{line}"));
    assert!(output.status.success(), "{test} {part}: {}\n{said}\n{complained}", output.status);
}

/// Runs `body` on each driver, in a network namespace of its own with a loopback and what the shell
/// makes of `set_up`: `test` is what it is called by.
pub(crate) fn in_namespace(test: &str, set_up: &str, body: fn(DriverChoice)) {
    if child_part(test).is_some() {
        return on_both(60, body);
    }
    let plain = child(test, "in a namespace");
    let script = format!("ip link set lo up && {set_up} && exec \"$0\" \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", &script]).arg(plain.get_program()).args(plain.get_args());
    for (key, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    match command.output() {
        Ok(output) if rustix::process::geteuid().is_root() => {
            let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said));
            said[0].lines().filter(|line| line.contains("SKIP: ")).for_each(|l| println!("{l}"));
            assert!(output.status.success(), "{}\n{}", said[0], said[1]);
        }
        Ok(_) => println!("SKIP: a network namespace needs root"),
        Err(error) => println!("SKIP: unshare: {error}"),
    }
}

/// The first line that a foreign program prints, and whatever it prints after that.
pub(crate) fn first_line(child: &mut Child) -> (String, BufReader<ChildStdout>) {
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    (line.trim().to_owned(), said)
}

/// Longest that a foreign program may take.
const PROGRAM_SECONDS_MAX: &str = "20";

/// The program `name` with `arguments`, ended by force after `PROGRAM_SECONDS_MAX`; `None` if this
/// machine has none.
pub(crate) fn foreign_program(name: &str, arguments: &[&str]) -> Option<Child> {
    let version = Command::new("sh").args(["-c", &format!("command -v {name}")]).output();
    if !version.is_ok_and(|output| output.status.success()) {
        println!("SKIP: this machine has no {name}");
        return None;
    }
    let mut command = Command::new("timeout");
    command.arg(PROGRAM_SECONDS_MAX).arg(name).args(arguments);
    Some(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
}
