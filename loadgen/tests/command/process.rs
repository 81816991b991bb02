//! Starts the binary and waits for it, in bounded time.

use std::io::Read;
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than any run here can take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn start(line: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(line.split_whitespace());
    spawn(command)
}

/// As `start`, for a binary that another one starts.
pub(crate) fn spawn(mut command: Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts")
}

pub(crate) fn finish(mut child: Child) -> Output {
    let until = Instant::now() + PATIENCE;
    let mut stdout = child.stdout.take().expect("piped");
    // Read aside: a full pipe would stop the child.
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        stdout.read_to_end(&mut text).map(|_| text)
    });
    while child.try_wait().expect("a child can be asked").is_none() {
        if Instant::now() > until {
            child.kill().expect("our own child");
            panic!("loadgen did not end within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut output = child.wait_with_output().expect("it has ended");
    output.stdout = reader.join().expect("the reader ends").expect("a pipe can be read");
    output
}

pub(crate) fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn signal(child: &Child, name: &str) {
    let done = Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(done.expect("kill is there").success());
}

/// A running `loadgen serve` and its address.
pub(crate) fn serve() -> (Child, String) {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("loopback");
    let server = start(&format!("serve tcp://{port}"));
    let until = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(port).is_err() {
        assert!(Instant::now() < until, "the server does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    (server, format!("tcp://{port}"))
}
