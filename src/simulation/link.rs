//! Link: one direction of a simulated byte stream, from the sender's socket to the receiver's.
//!
//! Above: `world` writes at one end, reads at the other and moves the time. Below: `network` says
//! what the way is like. Pure: now is an argument, chance follows from a seed.
//! Absent: lost or reordered bytes: as in TCP both show as time.
//! Bounds: the two buffers of the `Network`; one entry per packet under way.

use std::collections::VecDeque;
use std::time::Duration;

use super::network::Network;
use super::random::Random;

/// A lost packet is sent again no sooner than this.
const RESEND_MIN: Duration = Duration::from_millis(1);
/// The most losses of one packet in a row.
const LOSSES_MAX: u32 = 12;

/// What travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parcel {
    /// So many bytes.
    Bytes(usize),
    /// The sender sends no more.
    End,
    /// The connection is no more.
    Reset,
    /// What became of a connect; both directions of that are in the one delay.
    Answer,
}

#[derive(Debug)]
struct Packet {
    arrives_at: Duration,
    parcel: Parcel,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) network: Network,
    random: Random,
    /// First what has arrived, then what is in flight, then what is unsent.
    bytes: VecDeque<u8>,
    arrived_len: usize,
    flying_len: usize,
    packets: VecDeque<Packet>,
    /// When the sender will hear that so many bytes have arrived.
    acks: VecDeque<(Duration, usize)>,
    /// Bytes that went to an end which was closed.
    lost_len: usize,
    /// The line is busy until then.
    free_at: Duration,
    /// When the sender or the reader last did something.
    ready_at: Duration,
    last_arrival: Duration,
    /// What goes out after the last byte.
    ending: Option<Parcel>,
    unsent_limit: Option<usize>,
    /// Since when nothing moves on it.
    frozen_at: Option<Duration>,
    /// Whether `End`, `Reset` or `Answer` have arrived.
    pub(super) ended: bool,
    pub(super) reset: bool,
    pub(super) answered: bool,
    /// Its sender has said that no more comes.
    pub(super) is_ending: bool,
}

impl Link {
    pub(super) fn new(network: Network, seed: u64) -> Self {
        Self {
            network,
            random: Random::new(seed),
            bytes: VecDeque::new(),
            arrived_len: 0,
            flying_len: 0,
            packets: VecDeque::new(),
            acks: VecDeque::new(),
            lost_len: 0,
            free_at: Duration::ZERO,
            ready_at: Duration::ZERO,
            last_arrival: Duration::ZERO,
            ending: None,
            unsent_limit: None,
            frozen_at: None,
            ended: false,
            reset: false,
            answered: false,
            is_ending: false,
        }
    }

    /// Takes what fits of `bytes`, and says how much that was.
    pub(super) fn write(&mut self, now: Duration, bytes: &[u8]) -> usize {
        self.advance(now);
        let limit = self.unsent_limit.unwrap_or(usize::MAX);
        let room = self.room().min(limit.saturating_sub(self.unsent_len()));
        let len = bytes.len().min(room);
        self.bytes.extend(&bytes[..len]);
        self.go_on(now);
        len
    }

    /// Moves arrived bytes to `into`, and says how many.
    pub(super) fn read(&mut self, now: Duration, into: &mut [u8]) -> usize {
        self.advance(now);
        let len = into.len().min(self.arrived_len);
        for (place, byte) in into.iter_mut().zip(self.bytes.drain(..len)) {
            *place = byte;
        }
        self.arrived_len -= len;
        // The window is open again.
        self.go_on(now);
        len
    }

    /// Sends the end behind the last byte.
    pub(super) fn end(&mut self, now: Duration) {
        self.advance(now);
        if !std::mem::replace(&mut self.is_ending, true) {
            self.ending = Some(Parcel::End);
        }
        self.go_on(now);
    }

    /// Sends a reset; what is unsent never leaves.
    pub(super) fn reset(&mut self, now: Duration) {
        self.advance(now);
        self.lose(self.unsent_len());
        self.bytes.truncate(self.arrived_len + self.flying_len);
        self.is_ending = true;
        self.ending = Some(Parcel::Reset);
        self.free_at = self.free_at.min(now);
        self.go_on(now);
    }

    /// Sends for the answer to a connect.
    pub(super) fn ask(&mut self, now: Duration) {
        let arrives_at = self.arrival(now + self.network.delay);
        self.packets.push_back(Packet { arrives_at, parcel: Parcel::Answer });
        self.go_on(now);
    }

    /// Nobody will read what comes: what has not arrived is never acknowledged.
    pub(super) fn abandon(&mut self, now: Duration) {
        self.lose(self.bytes.len() - self.arrived_len);
        self.bytes = VecDeque::new();
        self.packets = VecDeque::new();
        let delay = self.network.delay;
        self.acks.retain(|(at, _)| at.saturating_sub(delay) <= now);
        self.ending = None;
        (self.arrived_len, self.flying_len) = (0, 0);
    }

    /// So many more bytes go nowhere.
    pub(super) fn lose(&mut self, len: usize) {
        self.lost_len = self.lost_len.saturating_add(len);
    }

    pub(super) fn limit_unsent(&mut self, bytes: usize) {
        self.unsent_limit = Some(bytes.max(1));
    }

    /// True if a sender that waits for room should go on: less than half of the unsent limit is
    /// used, as in Linux, or without a limit there is any room.
    pub(super) fn is_writable(&self) -> bool {
        let unsent = self.unsent_len();
        self.room() > 0 && self.unsent_limit.is_none_or(|limit| unsent.saturating_mul(2) < limit)
    }

    /// Bytes that have arrived and were not read.
    pub(super) fn arrived_len(&self) -> usize {
        self.arrived_len
    }

    /// Bytes that have not left the sender's socket.
    pub(super) fn unsent_len(&self) -> usize {
        self.bytes.len() - self.arrived_len - self.flying_len
    }

    /// Bytes of which the sender does not know yet that they have arrived.
    pub(super) fn unacknowledged_len(&self) -> usize {
        let arriving = self.acks.iter().map(|(_, len)| len).sum::<usize>();
        self.unsent_len().saturating_add(arriving).saturating_add(self.lost_len)
    }

    /// Stops or goes on; what was under way goes on where it was.
    pub(super) fn freeze(&mut self, now: Duration, is_frozen: bool) {
        match (self.frozen_at, is_frozen) {
            (None, true) => {
                self.advance(now);
                self.frozen_at = Some(now);
            }
            (Some(since), false) => {
                let lost = now.saturating_sub(since);
                self.frozen_at = None;
                if self.free_at > since {
                    self.free_at += lost;
                }
                if self.ready_at >= since {
                    self.ready_at = now;
                }
                self.last_arrival = self.last_arrival.saturating_add(lost);
                self.packets.iter_mut().for_each(|packet| packet.arrives_at += lost);
                self.acks.iter_mut().for_each(|ack| ack.0 += lost);
                self.advance(now);
            }
            _ => {}
        }
    }

    /// When something happens next by itself.
    pub(super) fn next_event(&self) -> Option<Duration> {
        if self.frozen_at.is_some() {
            return None;
        }
        let arrival = self.packets.front().map(|packet| packet.arrives_at);
        let departure = self.can_depart().then(|| self.departs_at());
        arrival.into_iter().chain(departure).min()
    }

    /// True if nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.packets.is_empty() && self.acks.is_empty() && !self.can_depart()
    }

    /// Something has changed at its ends just now.
    fn go_on(&mut self, now: Duration) {
        self.ready_at = now;
        self.advance(now);
    }

    fn departs_at(&self) -> Duration {
        self.free_at.max(self.ready_at)
    }

    /// Brings everything up to `now`, each at its own time.
    pub(super) fn advance(&mut self, now: Duration) {
        if self.frozen_at.is_some() {
            return;
        }
        self.arrive(now);
        self.depart(now);
        self.arrive(now);
    }

    fn arrive(&mut self, now: Duration) {
        while self.packets.front().is_some_and(|packet| packet.arrives_at <= now) {
            let Some(packet) = self.packets.pop_front() else { return };
            match packet.parcel {
                Parcel::Bytes(len) => {
                    self.flying_len -= len;
                    self.arrived_len += len;
                }
                Parcel::End => self.ended = true,
                Parcel::Reset => self.reset = true,
                Parcel::Answer => self.answered = true,
            }
        }
        while self.acks.front().is_some_and(|(at, _)| *at <= now) {
            self.acks.pop_front();
        }
    }

    fn depart(&mut self, now: Duration) {
        while self.departs_at() <= now && self.can_depart() {
            let at = self.departs_at();
            let len = self.unsent_len().min(self.window()).min(self.network.packet_bytes());
            if len == 0 {
                // Only the end is left: it needs no window.
                let Some(parcel) = self.ending.take() else { return };
                let arrives_at = self.arrival(at);
                self.packets.push_back(Packet { arrives_at, parcel });
                continue;
            }
            let left_at = at.saturating_add(self.network.busy_for(len));
            self.free_at = left_at;
            self.flying_len += len;
            let arrives_at = self.arrival(left_at);
            self.packets.push_back(Packet { arrives_at, parcel: Parcel::Bytes(len) });
            let heard_at = arrives_at.saturating_add(self.network.delay);
            self.acks.push_back((heard_at, len));
        }
    }

    fn can_depart(&self) -> bool {
        if self.unsent_len() == 0 { self.ending.is_some() } else { self.window() > 0 }
    }

    fn window(&self) -> usize {
        let used = self.arrived_len + self.flying_len;
        self.network.receive_buffer_bytes.saturating_sub(used)
    }

    fn room(&self) -> usize {
        let both = self.network.send_buffer_bytes + self.network.receive_buffer_bytes;
        both.saturating_sub(self.bytes.len())
    }

    /// When a packet that leaves now arrives: not before those that left before it.
    fn arrival(&mut self, left_at: Duration) -> Duration {
        let Network { delay, jitter, loss, .. } = self.network;
        let mut on_its_way = delay;
        if !jitter.is_zero() {
            on_its_way += jitter.mul_f64(self.random.share());
        }
        let mut resend = self.network.round_trip().max(RESEND_MIN);
        for _ in 0..LOSSES_MAX {
            if loss == 0.0 || self.random.share() >= loss {
                break;
            }
            on_its_way = on_its_way.saturating_add(resend);
            resend = resend.saturating_mul(2);
        }
        self.last_arrival = left_at.saturating_add(on_its_way).max(self.last_arrival);
        self.last_arrival
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Reads everything that comes until nothing more is under way: the bytes and their times.
    fn drained(link: &mut Link, from: Duration) -> Vec<(Duration, usize)> {
        let (mut now, mut came) = (from, Vec::new());
        let mut into = vec![0; 1 << 20];
        loop {
            let len = link.read(now, &mut into);
            if len > 0 {
                came.push((now, len));
            }
            match link.next_event() {
                Some(at) => now = now.max(at),
                None => return came,
            }
        }
    }

    #[test]
    fn a_packet_takes_its_time_on_the_line_and_on_the_way() {
        let network =
            Network { delay: ms(5), rate_bytes_per_s: Some(1_448_000), ..Network::default() };
        let mut link = Link::new(network, 1);
        assert_eq!(link.write(Duration::ZERO, &[7; 3 * 1448]), 3 * 1448);
        assert_eq!(link.unsent_len(), 2 * 1448, "one packet is on the line");
        let came = drained(&mut link, Duration::ZERO);
        assert_eq!(came, [(ms(6), 1448), (ms(7), 1448), (ms(8), 1448)]);
    }

    #[test]
    fn the_window_holds_the_sender_back_until_the_reader_reads() {
        let network =
            Network { send_buffer_bytes: 50, receive_buffer_bytes: 100, ..Network::default() };
        let mut link = Link::new(network, 1);
        assert_eq!(link.write(Duration::ZERO, &[7; 1000]), 150);
        assert_eq!((link.arrived_len(), link.unsent_len()), (100, 50));
        assert!(!link.is_writable());
        assert_eq!(link.next_event(), None, "only a reader helps");
        assert_eq!(link.read(Duration::ZERO, &mut [0; 60]), 60);
        assert_eq!((link.arrived_len(), link.unsent_len()), (90, 0));
        assert!(link.is_writable());
    }

    #[test]
    fn an_unsent_limit_keeps_the_backlog_short() {
        let network = Network { rate_bytes_per_s: Some(1_448_000), ..Network::default() };
        let mut link = Link::new(network, 1);
        link.limit_unsent(10_000);
        assert_eq!(link.write(Duration::ZERO, &[7; 100_000]), 10_000);
        assert!(!link.is_writable(), "{} bytes are unsent", link.unsent_len());
        assert_eq!(link.write(Duration::ZERO, &[7; 100_000]), 1448, "one packet has left");
        let mut now = Duration::ZERO;
        while !link.is_writable() {
            now = link.next_event().unwrap();
            link.advance(now);
        }
        assert_eq!(now, ms(4));
        assert!(link.unsent_len() < 5000, "half of the limit: {}", link.unsent_len());
    }

    #[test]
    fn the_sender_learns_of_arrivals_a_way_later() {
        let mut link = Link::new(Network { delay: ms(10), ..Network::default() }, 1);
        link.write(Duration::ZERO, &[7; 100]);
        assert_eq!((link.unsent_len(), link.unacknowledged_len()), (0, 100));
        link.advance(ms(19));
        assert_eq!((link.arrived_len(), link.unacknowledged_len()), (100, 100));
        link.advance(ms(20));
        assert_eq!(link.unacknowledged_len(), 0);
        assert!(link.is_idle());
        link.write(ms(20), &[7; 50]);
        link.advance(ms(30));
        link.write(ms(31), &[7; 30]);
        link.abandon(ms(32));
        assert_eq!(link.unacknowledged_len(), 80);
        link.advance(ms(100));
        assert_eq!(link.unacknowledged_len(), 30, "what did not arrive is never acknowledged");
    }

    #[test]
    fn losses_and_jitter_show_as_time_and_keep_the_order() {
        let network = Network { delay: ms(10), jitter: ms(5), loss: 0.3, ..Network::default() };
        let story = |seed| {
            let mut link = Link::new(network, seed);
            let bytes: Vec<u8> = (0..100_000_u32).map(|at| at as u8).collect();
            assert_eq!(link.write(Duration::ZERO, &bytes), bytes.len());
            link.end(Duration::ZERO);
            let came = drained(&mut link, Duration::ZERO);
            assert_eq!(came.iter().map(|(_, len)| len).sum::<usize>(), bytes.len());
            assert!(link.ended, "the end comes last, and comes");
            came
        };
        assert_eq!(story(1), story(1));
        assert_ne!(story(1), story(2));
        assert!(story(1).last().unwrap().0 >= ms(30), "70 packets at 30 %: some were lost");
    }

    #[test]
    fn what_is_frozen_goes_on_where_it_was() {
        let network =
            Network { delay: ms(5), rate_bytes_per_s: Some(1_448_000), ..Network::default() };
        let mut link = Link::new(network, 1);
        link.write(Duration::ZERO, &[7; 2 * 1448]);
        link.freeze(ms(3), true);
        assert_eq!(link.next_event(), None);
        link.advance(ms(500));
        assert_eq!(link.arrived_len(), 0);
        link.write(ms(500), b"more");
        link.freeze(ms(1003), false);
        let came = drained(&mut link, ms(1003));
        assert_eq!(came[..2], [(ms(1006), 1448), (ms(1007), 1448)]);
        assert_eq!(came.len(), 3);
    }

    #[test]
    fn a_reset_overtakes_what_is_unsent_and_nothing_else() {
        let network =
            Network { delay: ms(5), rate_bytes_per_s: Some(1_448_000), ..Network::default() };
        let mut link = Link::new(network, 1);
        link.write(Duration::ZERO, &[7; 5 * 1448]);
        link.reset(Duration::ZERO);
        let came = drained(&mut link, Duration::ZERO);
        assert_eq!(came, [(ms(6), 1448)]);
        assert!(link.reset && !link.ended);
    }
}
