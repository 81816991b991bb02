//! The desk: one generator's books, where its task and the handlers of its connections meet.
//!
//! Above: `worker`, whose task and handlers run on one thread, so the books are a thread-local;
//! they are never borrowed across a call into postring. Below: `recorder`. Absent: sending.
//! Bound: as many Messages of chains as may be open.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Instant;

use postring::{CloseReason, Message, MessageId};

use crate::mark;
use crate::recorder::Recorder;

/// What lies on it.
pub(crate) struct Desk {
    /// The books.
    pub(crate) books: Recorder,
    /// The moment all times count from; `None` before the run.
    pub(crate) start: Option<Instant>,
    /// How often each connection was made anew.
    generations: Vec<u32>,
    /// Something was sent or received since the last beat.
    pub(crate) worked: bool,
    /// Messages of chains that the engine has not spoken of: their connections and numbers.
    chained: HashMap<MessageId, (u32, u64)>,
    /// What it said of one before it was known here.
    early: HashMap<MessageId, Word>,
}

/// What the engine says of a watched message.
#[derive(Debug, Clone, Copy)]
enum Word {
    Sent,
    Expired,
}

thread_local! {
    static DESK: RefCell<Option<Desk>> = const { RefCell::new(None) };
}

/// Opens the books of this thread.
pub(crate) fn open(books: Recorder, connections: u32) {
    let generations = vec![0; connections as usize];
    let (chained, early) = (HashMap::new(), HashMap::new());
    DESK.set(Some(Desk { books, start: None, generations, worked: false, chained, early }));
}

/// Closes them: the books, unless that was done before.
pub(crate) fn close() -> Option<Recorder> {
    DESK.take().map(|desk| desk.books)
}

/// Works on this thread's books; does nothing after the run.
pub(crate) fn at_desk<T>(work: impl FnOnce(&mut Desk) -> T) -> Option<T> {
    DESK.with_borrow_mut(|desk| desk.as_mut().map(work))
}

impl Desk {
    fn now_ns(&self) -> u64 {
        self.start.map_or(0, |start| start.elapsed().as_nanos() as u64)
    }

    /// A connection was made anew: its end is that of this one from now on. False if it has ended
    /// before.
    pub(crate) fn renew(&mut self, connection: u32, generation: u32) -> bool {
        let connected = self.books.is_connected(connection);
        if let Some(known) = self.generations.get_mut(connection as usize) {
            *known = generation;
        }
        connected
    }

    fn hear(&mut self, connection: u32, number: u64, word: Word) {
        let now_ns = self.now_ns();
        match word {
            Word::Sent => self.books.sent(connection, number, now_ns),
            Word::Expired => self.books.expired(connection, number),
        }
        self.worked = true;
    }

    fn hear_chained(&mut self, message: MessageId, word: Word) {
        match self.chained.remove(&message) {
            Some((connection, number)) => self.hear(connection, number, word),
            None => drop(self.early.insert(message, word)),
        }
    }
}

/// A reply came.
pub(crate) fn replied(connection: u32, message: &Message<'_>) {
    at_desk(|desk| {
        let now_ns = desk.now_ns();
        // Told by a server that marks what it got, of classes with deadlines.
        let arrived_ns = mark::arrived_ns(message.bytes()).zip(desk.start).map(|(at_ns, start)| {
            let since_epoch = start.saturating_duration_since(mark::epoch());
            at_ns.saturating_sub(since_epoch.as_nanos() as u64)
        });
        desk.books.replied(connection, message.bytes(), now_ns, arrived_ns);
        desk.worked = true;
    });
}

/// A connection ended. One that was not made anew yet, or was replaced, is expected to.
pub(crate) fn closed(connection: u32, generation: u32, reason: CloseReason) {
    at_desk(|desk| {
        if desk.generations.get(connection as usize) != Some(&generation) {
            return;
        }
        let now_ns = desk.now_ns();
        desk.books.disconnected(connection, now_ns, reason.to_string());
    });
}

/// The engine handed a watched message to the kernel.
pub(crate) fn sent(connection: u32, number: u64) {
    at_desk(|desk| desk.hear(connection, number, Word::Sent));
}

/// The engine discarded a watched message.
pub(crate) fn expired(connection: u32, number: u64) {
    at_desk(|desk| desk.hear(connection, number, Word::Expired));
}

/// The engine took a message of a chain: what it says of it is about this number.
pub(crate) fn chained(message: MessageId, connection: u32, number: u64) {
    at_desk(|desk| match desk.early.remove(&message) {
        Some(word) => desk.hear(connection, number, word),
        None => drop(desk.chained.insert(message, (connection, number))),
    });
}

/// As `sent`, of a message of a chain.
pub(crate) fn chained_sent(message: MessageId) {
    at_desk(|desk| desk.hear_chained(message, Word::Sent));
}

/// As `expired`, of a message of a chain.
pub(crate) fn chained_expired(message: MessageId) {
    at_desk(|desk| desk.hear_chained(message, Word::Expired));
}
