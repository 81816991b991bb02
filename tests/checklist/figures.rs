//! Items 81 to 86: the default interface, and the draft's Figures 2 to 4 as written there (§3.1).

use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Wake, Waker};

use postring::{Carrier, CarrierState, Error, LengthPrefixed, Message, Unframed};
use rustix::process::{Pid, Signal, kill_process};

use crate::pairs::*;
use crate::support::*;
use crate::{echo_postring, echo_sockets};

/// A process of its own that serves a unix socket by `echo_postring`, the engine's signals
/// included; ended by SIGTERM.
struct Server {
    child: Child,
    path: PathBuf,
}

impl Server {
    /// The server, or `None` in the process that was it.
    fn start(test: &str) -> Option<Self> {
        if let Some(path) = child_part(test) {
            echo_postring::serve(&format!("unix://{path}")).unwrap();
            return None;
        }
        let name = format!("postring-{}-{}", test.replace(':', "-"), std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut command = child(test, path.to_str().unwrap());
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        until("it listens", || path.exists());
        Some(Self { child, path })
    }

    fn address(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// It ends in order when it is told to.
    fn end(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        until("it has ended", || self.child.try_wait().unwrap().is_some());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ended already, but for a test that failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Lines that are code: no comments, and no lines of braces alone.
fn code_lines(file: &str) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let is_code = |line: &&str| {
        !line.starts_with("//") && line.chars().any(|letter| letter.is_alphanumeric())
    };
    text.lines().map(str::trim).filter(is_code).count()
}

#[test]
fn item_081_the_default_interface_is_no_longer_than_that_of_sockets() {
    let test = "figures::item_081_the_default_interface_is_no_longer_than_that_of_sockets";
    let Some(server) = Server::start(test) else { return };
    within(60, move || {
        // Each asks the other's server: both pairs do the same work on the wire.
        let stream = connect_unix(server.path.to_str().unwrap());
        assert_eq!(echo_sockets::ask(stream, "sockets").unwrap(), b"sockets");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = address_of(&listener);
        std::thread::spawn(move || echo_sockets::serve(&listener));
        assert_eq!(echo_postring::ask(&address, "postring").unwrap(), b"postring");
        assert_eq!(echo_postring::ask(&server.address(), "both").unwrap(), b"both");
        server.end();
    });
    let sockets = code_lines("tests/checklist/echo_sockets.rs");
    let postring = code_lines("tests/checklist/echo_postring.rs");
    println!("{postring} lines, {sockets} with sockets");
    assert!(postring <= sockets, "{postring} lines, {sockets} with sockets");
    // What a reader of the examples sees is no other interface.
    let hello = code_lines("examples/hello.rs") + code_lines("examples/say_hello.rs");
    assert!(hello <= sockets, "{hello} lines of examples, {sockets} with sockets");
}

#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn item_082_reception_is_asynchronous_as_futures_are() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign(driver);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut receiving = carrier.receive();
        assert!(Pin::new(&mut receiving).poll(&mut Context::from_waker(&waker)).is_pending());
        // The core does not wait with it.
        carrier.send("meanwhile").wait().unwrap();
        assert_eq!(read_frame(&mut peer).unwrap(), b"meanwhile");
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        peer.write_all(&frame(b"now")).unwrap();
        until("it is woken", || woken.0.load(Ordering::SeqCst) > 0);
        assert_eq!(text(&receiving.wait().unwrap()), "now");
        // On a core it is awaited.
        let (told, heard) = mpsc::channel();
        let carrier = carrier.keep();
        let echo =
            move || async move { told.send(carrier.receive().await.unwrap().len()).unwrap() };
        engine.spawn_on(0, echo).unwrap();
        peer.write_all(&frame(b"later")).unwrap();
        assert_eq!(heard.recv_timeout(SOON), Ok(5));
        end(engine);
    });
}

#[test]
fn item_083_vanilla_tcp_sees_the_content_and_nothing_else() {
    on_both(60, |driver| {
        let (engine, carrier, mut peer) = foreign_of(one(driver), Unframed);
        carrier.send("what I say").wait().unwrap();
        carrier.close().wait().unwrap();
        let mut all = String::new();
        peer.read_to_string(&mut all).unwrap();
        assert_eq!(all, "what I say");
        end(engine);
    });
}

#[test]
fn item_084_figure_2_a_client_sends_and_prints_the_answer_after_its_close() {
    on_both(60, |driver| {
        let engine = one(driver).start().unwrap();
        let (carrier, listener) = to_foreign(&engine);
        assert_eq!(carrier.state().wait().unwrap(), CarrierState::Inactive);
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "initiate connects nothing");
        carrier.send("Hello!").wait().unwrap();
        let (print, printed) = mpsc::channel();
        carrier
            .ready(move |message: Message<'_>| {
                print.send(text(&message)).unwrap();
                false
            })
            .unwrap();
        let closing = carrier.close();
        let mut peer = accept(&listener);
        assert_eq!(read_frame(&mut peer).unwrap(), b"Hello!");
        assert!(is_ended(&mut peer), "the close is the end of the client's Messages");
        peer.write_all(&frame(b"Hello to you")).unwrap();
        assert_eq!(printed.recv_timeout(SOON).as_deref(), Ok("Hello to you"));
        drop(peer);
        closing.wait().unwrap();
        end(engine);
    });
}

/// The draft's `RunMyServerOn`.
fn run_my_server_on(carrier: Carrier<LengthPrefixed>) -> postring::Result<()> {
    let echo = carrier.keep();
    echo.ready(move |message: Message<'_>| echo.try_send(message).is_ok())
}

#[test]
fn item_085_figure_3_a_server_accepts_as_long_as_its_handler_says_true() {
    on_both(60, |driver| {
        let (listener, address) = listen(driver);
        let mut left = 3;
        let server = std::thread::spawn(move || {
            let ended = listener.accept_each(|carrier| {
                left -= 1;
                run_my_server_on(carrier).is_ok() && left > 0
            });
            (listener, ended)
        });
        let place = address.strip_prefix("tcp://").unwrap();
        let mut peers: Vec<_> = (0..3).map(|_| connect_to(place)).collect();
        // All of them at the same time, each its own.
        for round in 0..3_u8 {
            for (at, peer) in peers.iter_mut().enumerate() {
                peer.write_all(&frame(&[round, at as u8])).unwrap();
            }
            for (at, peer) in peers.iter_mut().enumerate() {
                assert_eq!(read_frame(peer).unwrap(), [round, at as u8]);
            }
        }
        let (listener, ended) = server.join().unwrap();
        assert!(ended.is_ok(), "{ended:?}");
        let mut fourth = connect_to(place);
        fourth.write_all(&frame(b"x")).unwrap();
        let fourth = listener.accept().wait().unwrap();
        assert_eq!(text(&fourth.receive().wait().unwrap()), "x", "nobody else took it");
        assert!(!matches!(fourth.send("y").wait(), Err(Error::EngineEnded)));
    });
}

#[test]
fn item_086_figure_4_a_responder_is_one_function_and_one_call() {
    let test = "figures::item_086_figure_4_a_responder_is_one_function_and_one_call";
    let Some(server) = Server::start(test) else { return };
    within(60, move || {
        let mut peers: Vec<_> =
            (0..5).map(|_| connect_unix(server.path.to_str().unwrap())).collect();
        peers.iter_mut().rev().for_each(|peer| wants_back(peer, b"echo"));
        peers.iter_mut().for_each(|peer| wants_back(peer, &pattern(100_000)));
        drop(peers);
        server.end();
    });
}
