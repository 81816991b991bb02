//! A Responder with state: a cache and a counter per core, and a total of all cores.
//!
//! `cargo run --release --example stateful_responder -- tcp://127.0.0.1:7000`
//! Messages are length-prefixed text. `steps N` says after how many Collatz steps N reaches 1,
//! `count` how many commands this core and all cores have answered, `quit` ends the Carrier.
//!
//! Each core makes its own handler with its own state, so nothing is locked. What all cores share
//! is a number they only add to.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use postring::{Flow, LengthPrefixed, Message, Reply};

/// Most answers one core remembers: state that peers can make grow has a limit.
const CACHED_MAX: usize = 10_000;
const HELP: &str = "commands: steps N (1 to 4294967295), count, quit";

/// What one core knows.
struct PerCore {
    cache: HashMap<u32, u32>,
    count: u64,
    total: Arc<AtomicU64>,
}

impl PerCore {
    fn new(total: Arc<AtomicU64>) -> Self {
        Self { cache: HashMap::new(), count: 0, total }
    }

    fn answer(&mut self, command: &str) -> String {
        self.count += 1;
        let total = self.total.fetch_add(1, Ordering::Relaxed) + 1;
        match command.split_whitespace().collect::<Vec<_>>()[..] {
            ["steps", number] => match number.parse() {
                Ok(number) if number > 0 => self.steps(number).to_string(),
                _ => HELP.to_owned(),
            },
            ["count"] => format!("{} on this core, {total} on all", self.count),
            _ => HELP.to_owned(),
        }
    }

    fn steps(&mut self, number: u32) -> u32 {
        if let Some(&steps) = self.cache.get(&number) {
            return steps;
        }
        let next = |n: &u64| (*n != 1).then(|| if n.is_multiple_of(2) { n / 2 } else { 3 * n + 1 });
        let walk = std::iter::successors(Some(u64::from(number)), next);
        let steps = walk.skip(1).fold(0, |steps, _| steps + 1);
        if self.cache.len() < CACHED_MAX {
            self.cache.insert(number, steps);
        }
        steps
    }
}

fn main() -> postring::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "tcp://[::]:7000".into());
    let total = Arc::new(AtomicU64::new(0));
    postring::respond_per_core(&address, LengthPrefixed::default(), move || {
        let mut core = PerCore::new(Arc::clone(&total));
        move |message: Message<'_>, reply: Reply<'_, LengthPrefixed>| match message.text() {
            Ok("quit") => reply.send("bye").map(|()| Flow::Stop),
            Ok(command) => reply.send(core.answer(command)).map(|()| Flow::Continue),
            Err(_) => reply.send(HELP).map(|()| Flow::Continue),
        }
    })
}
