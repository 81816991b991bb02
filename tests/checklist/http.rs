//! Item 113: HTTP as a user's Framer, against a foreign server: typed requests, and responses with
//! status, header fields and body (draft §4.2).
//!
//! Absent: chunked bodies, which that server does not send. A machine without Python skips it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use postring::{Detach, FrameError, Framer, Output};

use crate::support::*;

struct Request {
    method: &'static str,
    path: String,
}

#[derive(Debug, PartialEq)]
struct Response {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Response {
    fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let (_, value) = fields.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(value)
    }
}

impl Detach for Request {
    type Owned = Self;
    fn detach(self) -> Self {
        self
    }
}

impl Detach for Response {
    type Owned = Self;
    fn detach(self) -> Self {
        self
    }
}

#[derive(Clone)]
struct Http;

fn malformed(what: &str) -> FrameError {
    FrameError::Malformed(what.into())
}

/// The status line and the fields.
fn head_of(head: &str) -> Result<Response, FrameError> {
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let status = status.ok_or_else(|| malformed("no status line"))?;
    let fields = lines.map(|line| {
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("no field"))?;
        Ok((name.to_owned(), value.trim().to_owned()))
    });
    Ok(Response { status, fields: fields.collect::<Result<_, FrameError>>()?, body: Vec::new() })
}

impl Framer for Http {
    type Got = Response;
    type In<'a> = Response;
    type Out<'a> = Request;

    fn decode(&mut self, input: &[u8]) -> Result<Option<(usize, Response)>, FrameError> {
        let Some(head_len) = input.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = std::str::from_utf8(&input[..head_len]).map_err(|_| malformed("no text"))?;
        let mut response = head_of(head)?;
        let len = response.field("Content-Length").and_then(|len| len.parse::<usize>().ok());
        let len = len.ok_or_else(|| malformed("no Content-Length"))?;
        let body = input.get(head_len + 4..).and_then(|rest| rest.get(..len));
        Ok(body.map(|body| {
            response.body = body.to_vec();
            (head_len + 4 + len, response)
        }))
    }

    fn lend(response: Response) -> Response {
        response
    }

    fn encode(&mut self, request: Request, into: &mut Output) -> Result<(), FrameError> {
        let Request { method, path } = request;
        into.put(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        Ok(())
    }
}

/// Python's own server on a folder of its own; both are gone with it.
struct Server {
    child: Child,
    address: String,
    folder: PathBuf,
}

impl Server {
    fn start(files: &[(&str, &[u8])]) -> Option<Self> {
        let name = format!("postring-http-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        files.iter().for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes).unwrap());
        let mut command = Command::new("python3");
        command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]);
        command.arg(&folder).stdout(Stdio::piped()).stderr(Stdio::null());
        let Ok(mut child) = command.spawn() else {
            println!("SKIP: this machine has no python3");
            std::fs::remove_dir_all(&folder).unwrap();
            return None;
        };
        let said = BufReader::new(child.stdout.take().unwrap()).lines().next();
        let mut server = Self { child, address: String::new(), folder };
        // "Serving HTTP on 127.0.0.1 port 8000 (...) ..."
        let said = said.expect("it says where it serves").unwrap();
        let port = said.split(' ').skip_while(|word| *word != "port").nth(1).expect("a port");
        server.address = format!("tcp://127.0.0.1:{port}");
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that failed says so elsewhere.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn item_113_an_http_carrier_receives_status_fields_and_body() {
    within(60, || {
        let page = pattern(200_000);
        let files = [("page.bin", &page[..]), ("words.txt", b"few words")];
        let Some(server) = Server::start(&files) else { return };
        on_both(25, {
            let address: &'static str = server.address.clone().leak();
            move |driver| {
                let engine = one(driver).start().unwrap();
                let ask = |path: &str| {
                    // That server speaks HTTP/1.0: a connection has one response.
                    let carrier = engine.initiate_with(address, Http);
                    let request = Request { method: "GET", path: path.into() };
                    carrier.send(request).wait().unwrap();
                    carrier.receive().wait().unwrap()
                };
                let page = ask("/page.bin");
                assert_eq!((page.status, page.field("content-length")), (200, Some("200000")));
                assert!(page.body == pattern(200_000));
                let words = ask("/words.txt");
                assert_eq!((words.status, &words.body[..]), (200, &b"few words"[..]));
                assert_eq!(words.field("Content-Type"), Some("text/plain"));
                let nothing = ask("/nothing");
                assert_eq!(nothing.status, 404);
                assert!(!nothing.body.is_empty());
                end(engine);
            }
        });
    });
}
