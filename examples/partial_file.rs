//! A file that never lies in memory as a whole: sent in parts, received in parts.
//!
//! `cargo run --example partial_file [FILE]`
//! Needs nothing else: sender and receiver run in this process. Without FILE it sends itself.

use std::fs::File;
use std::io::Read;

use postring::{LengthPrefixed, Properties};

/// What the receiver takes at a time: at least this many bytes, unless the file ends before ...
const PART_BYTES_MIN: usize = 4 << 10;
/// ... and at most this many.
const PART_BYTES_MAX: usize = 64 << 10;

/// Files of up to 1 TiB: only the parts are kept in memory.
fn frames() -> LengthPrefixed {
    LengthPrefixed::default().width(postring::Width::Eight).len_max(1 << 40)
}

/// One handle stands for the whole Message, however many parts it has.
#[allow(clippy::print_stdout, reason = "printing is this example's purpose")]
fn send_file(remote: &str, file: File) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
    let len = file.metadata()?.len();
    // What is appended meanwhile is not sent.
    let mut file = file.take(len);
    let carrier = postring::initiate_with(remote, frames());
    // From now on the receiver hears of it if this function fails: its connection ends.
    carrier.activate().wait()?;
    let mut message = carrier.begin(Properties::new().total_len(len));
    let mut part = vec![0; 16 << 10];
    loop {
        let read = file.read(&mut part)?;
        // Waits while the receiver has enough.
        let whole = message.send(&part[..read], read == 0).wait()?;
        if read == 0 {
            println!("the last part was queued; then: {:?}", whole.acked().wait()?);
            carrier.close().wait()?;
            return Ok(len);
        }
    }
}

#[allow(clippy::print_stdout, reason = "printing is this example's purpose")]
fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let path = std::env::args().nth(1);
    let path = path.unwrap_or_else(|| std::env::args().next().unwrap_or_default());
    // Before anybody waits for it: what has no length cannot be sent, for that stands first.
    let file = File::open(&path).map_err(|error| format!("{path}: {error}"))?;
    if !file.metadata()?.is_file() {
        return Err(format!("{path} is no regular file").into());
    }
    let listener = postring::listen_with("tcp://127.0.0.1:0", frames())?;
    let remote = listener.local_addresses().concat();
    let sender = std::thread::spawn(move || send_file(&remote, file));

    let carrier = listener.accept().wait()?;
    let (mut received, mut parts) = (0, 0_u64);
    loop {
        let part = carrier.receive_partial(PART_BYTES_MIN, PART_BYTES_MAX).wait()?;
        received += part.len() as u64;
        parts += 1;
        if part.is_complete() {
            println!("message {}: {received} bytes in {parts} parts", part.handle());
            break;
        }
    }
    drop(carrier);
    let sent = sender.join().map_err(|_| "the sender panicked")??;
    if sent == received { Ok(()) } else { Err(format!("{sent} bytes were sent").into()) }
}
