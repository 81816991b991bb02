//! Steps: what a slot needs next, decided from its state alone.
//!
//! Above: `settle` does it and asks again. Below: the slot, which is only looked at. The one place
//! that says when receives, sends and ends begin, so their order can be read here.
//! Absent: the driver; how a slot came to its state.

use super::connection::{Connection, Peer, Phase};
use super::core::Core;

/// What a slot needs now; one step at a time, until nothing.
pub(super) enum Step {
    Nothing,
    /// Without a connection, Messages have their lifetimes all the same.
    Wait {
        until_us: u64,
    },
    /// A dormant Carrier has something to do again.
    Revive,
    /// The protocol can go on with what was kept.
    Resume,
    /// The protocol does not know yet that the peer ended.
    TellEnd,
    /// Messages wait for their turn, and there is room for the next.
    Schedule,
    /// Word of Messages is to be delivered.
    Report,
    Send,
    EndOutput,
    Close,
    Discard,
    Receive,
    StopReceive,
    Accept,
    StopAccept,
}

/// What `connection` needs next.
pub(super) fn next_step(connection: &Connection, core: &Core) -> Step {
    match connection.phase {
        Phase::Closed if has_reports(connection) => Step::Report,
        Phase::Free | Phase::Closing | Phase::Closed => Step::Nothing,
        Phase::Listening => listening(connection),
        Phase::Inactive | Phase::Resolving | Phase::Connecting | Phase::Dormant => {
            unconnected(connection)
        }
        Phase::Open if connection.peer == Peer::Anybody => shared(connection),
        Phase::Open => open(connection, core),
    }
}

fn has_reports(connection: &Connection) -> bool {
    connection.outgoing.as_ref().is_some_and(|outgoing| outgoing.has_reports())
}

fn listening(connection: &Connection) -> Step {
    let flags = &connection.flags;
    if flags.end_wanted {
        return match (flags.accepting, flags.stopping) {
            (true, false) => Step::StopAccept,
            (true, true) => Step::Nothing,
            (false, _) => Step::Close,
        };
    }
    if !flags.accepting && !flags.backing_off { Step::Accept } else { Step::Nothing }
}

fn unconnected(connection: &Connection) -> Step {
    let flags = &connection.flags;
    let dormant = connection.phase == Phase::Dormant;
    if flags.end_wanted && (flags.output_ended || (dormant && connection.is_done_dormant())) {
        return Step::Close;
    }
    if has_reports(connection) {
        return Step::Report;
    }
    if dormant && connection.wants_revival() {
        return Step::Revive;
    }
    match connection.outgoing.as_ref().and_then(|outgoing| outgoing.next_timeout_us()) {
        Some(until_us) => Step::Wait { until_us },
        None => Step::Nothing,
    }
}

/// A socket of datagrams that anybody may send to. It ends after the last Carrier that uses it.
fn shared(connection: &Connection) -> Step {
    let flags = &connection.flags;
    let over = flags.end_wanted && !connection.has_remotes();
    match (flags.sending, connection.has_queued()) {
        _ if flags.reset || (flags.output_ended && flags.end_wanted) => Step::Close,
        _ if has_reports(connection) => Step::Report,
        (false, true) => Step::Send,
        (false, false) if connection.has_scheduled() => Step::Schedule,
        (false, false) if over => Step::Close,
        _ if flags.receiving || flags.backing_off || over => Step::Nothing,
        _ => Step::Receive,
    }
}

fn open(connection: &Connection, core: &Core) -> Step {
    let low_water = core.limits.send_queue_bytes / 2;
    let flags = &connection.flags;
    let Some(protocol) = &connection.protocol else { return Step::Nothing };
    if flags.reset {
        return Step::Close;
    }
    let has_room = connection.backlog() < low_water || !protocol.answers_by_handler();
    let resumable = flags.paused && has_room && protocol.wants_input(core);
    if resumable && !flags.discarding {
        return Step::Resume;
    }
    if flags.input_ended && !flags.input_end_told && !flags.discarding && !flags.paused {
        return Step::TellEnd;
    }
    if has_reports(connection) {
        return Step::Report;
    }
    if !flags.sending && connection.has_queued() && !flags.output_ended {
        return Step::Send;
    }
    if !flags.sending && connection.has_scheduled() && !flags.output_ended {
        return Step::Schedule;
    }
    let flushed = !flags.sending && (connection.waiting() == 0 || flags.output_ended);
    if flags.end_wanted && flushed && !flags.output_ended && !protocol.is_busy() {
        return Step::EndOutput;
    }
    // Nothing tells that no datagram will follow: what is not waited for is over, and so is what an
    // engine would wait for that ends.
    let ends = flags.datagrams && core.draining.get();
    let awaits = (protocol.awaits_input() || flags.sink) && !ends;
    if flags.datagrams && flags.output_ended && (!awaits || flags.input_ended) {
        return Step::Close;
    }
    // A Sink has still to take what came before the peer's end.
    let taken = !flags.sink || flags.input_end_told || flags.discarding;
    if flags.output_ended && flags.input_ended && taken {
        return Step::Close;
    }
    // This side has ended and waits for no message: what still comes is read and thrown away, so
    // that the peer sees an end and no reset.
    if flags.output_ended && !flags.discarding && !awaits {
        return Step::Discard;
    }
    // A Responder that is to end answers what it has begun and begins nothing more.
    let begins = !(flags.end_wanted && protocol.ends_with_input());
    let wants = flags.discarding || (begins && protocol.wants_input(core));
    let wants = wants && !flags.input_ended && !flags.paused && !flags.gathering;
    if wants && !flags.receiving {
        return Step::Receive;
    }
    // What nobody takes waits in the kernel's queue of the socket, which has a limit.
    let own = flags.datagrams && connection.attached;
    if own && flags.receiving && !flags.stopping && !wants {
        return Step::StopReceive;
    }
    // A large message has a buffer of its own: the pool's receive makes way for it.
    if flags.receiving && !flags.stopping && connection.gather.is_some() && !flags.discarding {
        return Step::StopReceive;
    }
    Step::Nothing
}
