//! The same echo pair on the sockets of the standard library; item 81 counts its lines.
//!
//! Absent: opening a socket for an address, which the test does for it.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::thread;

pub(crate) fn serve(listener: &TcpListener) -> io::Result<()> {
    for stream in listener.incoming() {
        let mut stream = stream?;
        thread::spawn(move || {
            while let Ok(message) = receive(&mut stream) {
                send(&mut stream, &message)?;
            }
            io::Result::Ok(())
        });
    }
    Ok(())
}

pub(crate) fn ask(mut stream: impl Read + Write, question: &str) -> io::Result<Vec<u8>> {
    send(&mut stream, question.as_bytes())?;
    receive(&mut stream)
}

fn send(stream: &mut impl Write, message: &[u8]) -> io::Result<()> {
    stream.write_all(&(message.len() as u32).to_be_bytes())?;
    stream.write_all(message)
}

fn receive(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let mut message = vec![0; u32::from_be_bytes(len) as usize];
    stream.read_exact(&mut message)?;
    Ok(message)
}
