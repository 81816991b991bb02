//! Target: what the kernel says beside a datagram. Property: no bytes make it panic or read beyond
//! them; it finds what a plain walk over the messages finds; what we say can be read again.
//!
//! Above: `TARGETS`. Below: `postring::bench::{read_control, read_peer_error, Sayings, name_of}`,
//! Linux only.

use std::net::{IpAddr, SocketAddr};

use postring::bench::{Sayings, name_of, read_control, read_peer_error};

const WORD: usize = size_of::<usize>();
/// Length, level, kind.
const HEADER: usize = WORD + 8;
const MSG_TRUNC: i32 = 0x20;
/// Level and kind of what tells the length of a train's datagrams.
const UDP_GRO: (i32, i32) = (17, 104);
/// Level and kind of what tells how many were dropped.
const RXQ_OVFL: (i32, i32) = (1, 40);

/// Level and kind of what tells that a datagram came to grief, of IPv4 and of IPv6.
const ERRORS: [(i32, i32); 2] = [(0, 11), (41, 25)];
/// Bytes of such an error before the address of who complains.
const ERROR_BYTES: usize = 16;
const TOO_LONG: i32 = 90;

/// Byte 0: bytes of the name (bits 0-4), truncated (bit 5). The name and the messages follow.
///
/// # Panics
/// If the property does not hold.
pub fn control(input: &[u8]) {
    let Some((&options, rest)) = input.split_first() else { return };
    let flags = i32::from(options) & MSG_TRUNC;
    let (name, messages) = rest.split_at(usize::from(options & 0x1f).min(rest.len()));
    let beside = read_control(name, messages, flags);
    assert_eq!(beside.truncated, flags != 0);
    assert!(beside.local.is_none() || beside.from.is_some(), "an answer needs somebody");
    let from_a_group = beside.local.is_some_and(|ip| ip.is_multicast() || ip.is_unspecified());
    assert!(!from_a_group, "nobody can answer from {:?}", beside.local);
    if let Some(from) = beside.from {
        let again = read_control(&name_of(from), messages, flags);
        assert_eq!(again, beside, "a name that is written anew says the same");
    }
    let (found, whole) = walk(messages);
    let last = |wanted| found.iter().rfind(|(kind, _)| *kind == wanted);
    let segment = last(UDP_GRO).and_then(|(_, data)| number(data));
    assert_eq!(beside.segment, segment.and_then(|len| u16::try_from(len).ok()));
    let dropped = last(RXQ_OVFL).map_or(0, |(_, data)| number(data).unwrap_or_default());
    assert_eq!(beside.dropped, dropped);
    let told = found.iter().find(|(kind, _)| ERRORS.contains(kind));
    let error = read_peer_error(name, messages);
    assert!(error.is_none() || told.is_some_and(|(_, data)| data.len() >= ERROR_BYTES - 4));
    let is_whole = told.is_some_and(|(_, data)| data.len() >= ERROR_BYTES);
    assert!(!is_whole || beside.from.is_none() || error.is_some(), "an error was overlooked");
    if let Some((remote, errno, bytes_max)) = error {
        assert_eq!(Some(remote), beside.from);
        assert!(bytes_max.is_none_or(|bytes| errno == TOO_LONG && bytes <= 65_507));
    }
    if let Some(from) = beside.from {
        is_read_again(from, beside.local, &messages[..whole]);
    }
}

/// What is said of an answer stands behind foreign messages, and is read as it was said.
fn is_read_again(from: SocketAddr, local: Option<IpAddr>, foreign: &[u8]) {
    let local = local.unwrap_or([192, 0, 2, 1].into());
    for (remote_is_v6, segment) in [(false, None), (true, Some(1200))] {
        // An IPv6 address has no way into a message of IPv4.
        if local.is_ipv6() && !remote_is_v6 {
            continue;
        }
        let mut sayings = Sayings::default();
        let said = sayings.say(Some(local), remote_is_v6, segment);
        let messages = [foreign, said].concat();
        assert_eq!(read_control(&name_of(from), &messages, 0).local, Some(local));
    }
}

fn number(data: &[u8]) -> Option<u32> {
    data.first_chunk().map(|number| u32::from_ne_bytes(*number))
}

/// Level and kind of a message, and its data.
type Found<'a> = ((i32, i32), &'a [u8]);

/// All whole messages, and how many bytes they are with their padding.
fn walk(messages: &[u8]) -> (Vec<Found<'_>>, usize) {
    let mut found = Vec::new();
    let mut at = 0;
    while at + HEADER <= messages.len() {
        let word = |from: usize| messages[from..from + 4].first_chunk().copied();
        let len = messages[at..].first_chunk().map_or(0, |len| usize::from_ne_bytes(*len));
        if len < HEADER || len > messages.len() - at {
            break;
        }
        let level = word(at + WORD).map_or(0, i32::from_ne_bytes);
        let kind = word(at + WORD + 4).map_or(0, i32::from_ne_bytes);
        found.push(((level, kind), &messages[at + HEADER..at + len]));
        let next = at + len.next_multiple_of(WORD);
        if next > messages.len() {
            // Its padding is missing: nothing can stand behind it.
            return (found, at);
        }
        at = next;
    }
    (found, at)
}
