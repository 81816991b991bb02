//! Trains: what a script driver does for sockets of datagrams, one step at a time.
//!
//! Above: `slots`, for Tokens of this kind. Below: `post` has the datagrams. Absent: how long they
//! take. Bounds: `TRAINS_MAX` trains with the shard at once, each as a kernel would gather it.

use std::net::SocketAddr;

use super::faults::Fault;
use super::post::Letter;
use super::script::ScriptDriver;
use super::slots::{Send, Slot};
use super::world::errno;
use crate::address::{Route, SocketAddress};
use crate::engine::operation::{Arrival, Completion, Data, PeerError, ReceiveEnd};
use crate::framer::Train;

/// Trains that wait to be read.
const TRAINS_MAX: usize = 16;
/// Bytes of one.
const TRAIN_BYTES_MAX: usize = 64 << 10;
/// Marks the index of a train among those of buffers.
pub(super) const TRAIN: u32 = 1 << 31;

/// Trains that the shard has not given back.
#[derive(Debug, Default)]
pub(super) struct Trains(Vec<Option<Vec<u8>>>);

impl Trains {
    fn keep(&mut self, bytes: Vec<u8>) -> u32 {
        let free = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        if free == self.0.len() {
            self.0.push(None);
        }
        self.0[free] = Some(bytes);
        TRAIN | free as u32
    }

    fn has_room(&self) -> bool {
        self.0.iter().flatten().count() < TRAINS_MAX
    }

    /// What lies in the train with this number.
    pub(super) fn bytes(&self, number: u32) -> &[u8] {
        let kept = self.0.get((number & !TRAIN) as usize).and_then(Option::as_deref);
        kept.expect("a train is read before it is given back")
    }

    pub(super) fn give_back(&mut self, number: u32) {
        let before = self.0[(number & !TRAIN) as usize].take();
        debug_assert!(before.is_some(), "a train is given back once");
    }
}

impl ScriptDriver {
    /// One step of everything under way. True if the Token is closed and gone.
    pub(super) fn advance_datagrams(&mut self, slot: &mut Slot) -> bool {
        if let Some(address) = slot.connect.take() {
            let result = match address {
                SocketAddress::Udp(remote) => self.world.connect_datagrams(slot.endpoint, remote),
                _ => Err(errno::EOPNOTSUPP),
            };
            self.late.push_back(Completion::Connected { token: slot.token, result });
        }
        self.step_trains(slot);
        self.step_datagrams(slot);
        let is_idle = slot.receive.is_none() && slot.send.is_none();
        if slot.closing.is_none() || !is_idle || self.random.chance(self.faults.late_stop) {
            return false;
        }
        self.world.close_datagrams(slot.endpoint);
        self.late.push_back(Completion::Closed { token: slot.token });
        true
    }

    fn step_trains(&mut self, slot: &mut Slot) {
        let Some(send) = &mut slot.send else { return };
        let fault = self.strikes(|fault| matches!(fault, Fault::FailSend(_)));
        let cancelled = slot.closing.is_some() && !self.random.chance(self.faults.late_stop);
        match fault {
            Some(Fault::FailSend(errno)) => send.failed = Some(errno),
            _ if cancelled => {
                let left = datagrams_of(send).count();
                send.failed = send.failed.or_else(|| (left > 0).then_some(errno::ECANCELED));
            }
            _ => self.send_datagrams(slot.endpoint, send),
        }
        let is_over = fault.is_some() || cancelled || datagrams_of(send).next().is_none();
        if let Some(send) = slot.send.take_if(|_| is_over) {
            let (token, output) = (slot.token, send.output);
            let result = send.failed.map_or(Ok(output.len()), Err);
            self.late.push_back(Completion::Sent { token, output, result });
        }
    }

    /// Sends some datagrams, or all; the error of the first that could not leave is the send's.
    fn send_datagrams(&mut self, endpoint: usize, send: &mut Send) {
        let left: Vec<Train> = datagrams_of(send).collect();
        let short = self.random.chance(self.faults.short_send);
        let count = if short { 1 + self.random.below(left.len()) } else { left.len() };
        for datagram in left.into_iter().take(count) {
            let bytes = send.output.pieces(datagram.range()).flatten().copied().collect();
            let to = datagram.to().map(|route| route.remote);
            let sent = self.world.send_datagram(endpoint, to, bytes);
            send.gone += 1;
            send.failed = send.failed.or_else(|| sent.err());
        }
    }

    fn step_datagrams(&mut self, slot: &mut Slot) {
        let token = slot.token;
        let Some(receive) = &slot.receive else { return };
        let stops = receive.stopped && !self.random.chance(self.faults.late_stop);
        let end = match self.strikes(|fault| matches!(fault, Fault::FailReceive(_))) {
            Some(Fault::FailReceive(errno)) => Some(ReceiveEnd::Failed(errno)),
            _ if stops => Some(ReceiveEnd::Stopped),
            _ => self.receive_trains(slot),
        };
        if let Some(end) = end {
            slot.receive = None;
            self.late.push_back(Completion::ReceiveEnded { token, end });
        }
    }

    /// Why the receive ended, if it did in this step.
    fn receive_trains(&mut self, slot: &Slot) -> Option<ReceiveEnd> {
        let (token, endpoint) = (slot.token, slot.endpoint);
        while let Some(remote) = self.world.take_refusal(endpoint) {
            if self.world.is_connected(endpoint) {
                return Some(ReceiveEnd::Failed(errno::ECONNREFUSED));
            }
            let error = PeerError { remote, errno: errno::ECONNREFUSED, bytes_max: None };
            self.late.push_back(Completion::PeerFailed { token, error });
        }
        loop {
            if !self.trains.has_room() || self.random.chance(self.faults.no_buffer) {
                self.starvations += 1;
                return None;
            }
            let (letter, dropped) = self.world.take_datagram(endpoint)?;
            let Letter { from, bytes, arrived } = letter;
            let (bytes, segment) = self.gather(endpoint, from, bytes);
            let len = bytes.len();
            let data = Data { buffer: self.trains.keep(bytes), start: 0, len, leasable: false };
            let local = self.world.datagram_address(endpoint).map(|local| local.ip());
            let from = Some(Route { remote: from, local });
            let arrived_ns = arrived.and_then(|arrived| arrived.as_nanos().try_into().ok());
            let arrival = Arrival { from, segment, arrived_ns, dropped, ..Arrival::default() };
            self.late.push_back(Completion::Datagrams { token, data, arrival });
            if self.random.chance(self.faults.stall) {
                return None;
            }
        }
    }

    /// What follows a datagram and can be handed over with it, as a kernel gathers it: by chance.
    fn gather(
        &mut self,
        endpoint: usize,
        from: SocketAddr,
        first: Vec<u8>,
    ) -> (Vec<u8>, Option<u16>) {
        let segment = first.len();
        let mut bytes = first;
        let mut is_whole = segment > 0;
        while is_whole
            && self.world.goes_on(endpoint, from, segment)
            && bytes.len() + segment <= TRAIN_BYTES_MAX
            && self.random.chance(50)
        {
            let Some((next, _)) = self.world.take_datagram(endpoint) else { break };
            is_whole = next.bytes.len() == segment;
            bytes.extend(next.bytes);
        }
        let is_train = bytes.len() > segment;
        (bytes, is_train.then_some(segment as u16))
    }
}

/// Those datagrams of a send that have not left.
fn datagrams_of(send: &Send) -> impl Iterator<Item = Train> {
    send.output.trains().iter().flat_map(Train::split).skip(send.gone)
}
