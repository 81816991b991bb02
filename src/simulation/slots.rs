//! What is under way for one Token of the script driver, and one step of it.
//!
//! Above: `script` asks every Token to advance once a round. Below: `world` moves the bytes.
//! Absent: queues of operations: there is one of a kind at a time.

use super::faults::Fault;
use super::script::ScriptDriver;
use super::world::{Read, endpoint_of, errno, number_of};
use crate::address::SocketAddress;
use crate::engine::errno::Errno;
use crate::engine::operation::{Completion, Data, Manner, ReceiveEnd, Token};
use crate::engine::socket::Socket;
use crate::framer::Output;

/// Most connections one step accepts.
const ACCEPTS_PER_STEP: usize = 4;

/// A Token's socket and what was asked of it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) token: Token,
    pub(super) endpoint: usize,
    /// Its socket is one of datagrams.
    pub(super) is_datagrams: bool,
    /// An accept; true once it is to end.
    pub(super) accept: Option<bool>,
    pub(super) connect: Option<SocketAddress>,
    pub(super) receive: Option<Receive>,
    pub(super) exact: Option<Exact>,
    pub(super) send: Option<Send>,
    /// The end of the stream goes out as soon as no send is under way.
    pub(super) ending: bool,
    /// It is to be closed; true with a reset.
    pub(super) closing: Option<bool>,
}

#[derive(Debug)]
pub(super) struct Receive {
    pub(super) credit_left: usize,
    pub(super) stopped: bool,
}

#[derive(Debug)]
pub(super) struct Exact {
    pub(super) buffer: Vec<u8>,
    pub(super) whole: bool,
    pub(super) got: usize,
    pub(super) stopped: bool,
}

#[derive(Debug)]
pub(super) struct Send {
    pub(super) output: Box<Output>,
    pub(super) sent: usize,
    /// Bytes that left with this operation; of datagrams, how many have left or could not.
    pub(super) gone: usize,
    /// Why a datagram could not leave.
    pub(super) failed: Option<Errno>,
    /// Bytes that leave with this operation at most.
    len_max: usize,
    /// It begins only when the socket is writable.
    waits: bool,
    /// What has left is said as soon as the socket takes no more.
    paced: bool,
}

impl Send {
    pub(super) fn new(output: Box<Output>, sent: usize, manner: Manner) -> Self {
        let len = output.len() - sent;
        let (len_max, waits) = match manner {
            Manner::WhenWritable(len_max) => (len.min(len_max as usize), true),
            Manner::Plain | Manner::ZeroCopy => (len, false),
        };
        Self { output, sent, gone: 0, failed: None, len_max, waits, paced: waits }
    }
}

impl Slot {
    pub(super) fn new(token: Token, socket: &Socket) -> Self {
        Self {
            token,
            endpoint: endpoint_of(socket),
            is_datagrams: matches!(socket, Socket::ScriptDatagrams(_)),
            accept: None,
            connect: None,
            receive: None,
            exact: None,
            send: None,
            ending: false,
            closing: None,
        }
    }

    pub(super) fn stop_receive(&mut self) {
        if let Some(receive) = &mut self.receive {
            receive.stopped = true;
        }
        if let Some(exact) = &mut self.exact {
            exact.stopped = true;
        }
    }

    fn is_idle(&self) -> bool {
        self.accept.is_none()
            && self.connect.is_none()
            && self.receive.is_none()
            && self.exact.is_none()
            && self.send.is_none()
    }
}

impl ScriptDriver {
    /// One step of everything under way. True if the Token is closed and gone.
    pub(super) fn advance(&mut self, slot: &mut Slot) -> bool {
        if self.random.chance(self.faults.stall) {
            return false;
        }
        if slot.is_datagrams {
            return self.advance_datagrams(slot);
        }
        self.step_connect(slot);
        self.step_accept(slot);
        self.step_send(slot);
        if slot.ending && slot.send.is_none() {
            slot.ending = false;
            self.world.end(slot.endpoint);
        }
        self.step_receive(slot);
        self.step_exact(slot);
        let Some(reset) = slot.closing else { return false };
        if !slot.is_idle() || self.random.chance(self.faults.late_stop) {
            return false;
        }
        self.world.close(slot.endpoint, reset);
        self.late.push_back(Completion::Closed { token: slot.token });
        true
    }

    /// Whether a stop or a close that was asked takes effect in this step.
    fn stop_lands(&mut self, asked: bool) -> bool {
        asked && !self.random.chance(self.faults.late_stop)
    }

    fn step_bytes(&mut self, max: usize) -> usize {
        let max = max.min(self.faults.step_bytes_max);
        // Without a limit on steps, take all there is: the usual case of a real kernel.
        if self.faults.step_bytes_max == usize::MAX { max } else { 1 + self.random.below(max) }
    }

    fn step_connect(&mut self, slot: &mut Slot) {
        let Some(address) = &slot.connect else { return };
        let fault = self.strikes(|fault| matches!(fault, Fault::FailConnect(_)));
        let result = match fault {
            Some(Fault::FailConnect(errno)) => Some(Err(errno)),
            _ if slot.closing.is_some() => Some(Err(errno::ECANCELED)),
            _ => self.world.connect_endpoint(slot.endpoint, address),
        };
        let Some(result) = result else { return };
        slot.connect = None;
        self.late.push_back(Completion::Connected { token: slot.token, result });
    }

    fn step_accept(&mut self, slot: &mut Slot) {
        let Some(stopping) = slot.accept else { return };
        let token = slot.token;
        if let Some(Fault::EndAccept(errno)) =
            self.strikes(|fault| matches!(fault, Fault::EndAccept(_)))
        {
            slot.accept = None;
            self.late.push_back(Completion::AcceptEnded { token, error: Some(errno) });
            return;
        }
        let mut drained = false;
        if slot.closing.is_none() {
            for _ in 0..ACCEPTS_PER_STEP {
                let Some(endpoint) = self.world.accept_endpoint(slot.endpoint) else {
                    drained = true;
                    break;
                };
                let socket = Socket::Script(number_of(endpoint));
                self.late.push_back(Completion::Accepted { token, socket });
            }
        }
        if (stopping && drained) || self.stop_lands(slot.closing.is_some()) {
            slot.accept = None;
            self.late.push_back(Completion::AcceptEnded { token, error: None });
        }
    }

    fn step_send(&mut self, slot: &mut Slot) {
        let Some(send) = &mut slot.send else { return };
        let cancelled = slot.closing.is_some();
        if let Some(result) = self.send_some(slot.endpoint, send, cancelled) {
            let send = slot.send.take().expect("it was there a line ago");
            let (token, output) = (slot.token, send.output);
            self.late.push_back(Completion::Sent { token, output, result });
        }
    }

    /// The answer, if this step is the last of the send.
    fn send_some(
        &mut self,
        endpoint: usize,
        send: &mut Send,
        cancelled: bool,
    ) -> Option<Result<usize, Errno>> {
        let fault = self.strikes(|fault| matches!(fault, Fault::ShortSend(_) | Fault::FailSend(_)));
        if let Some(Fault::FailSend(errno)) = fault {
            return Some(gone_or(send.gone, errno));
        }
        if self.stop_lands(cancelled) {
            return Some(gone_or(send.gone, errno::ECANCELED));
        }
        if send.waits && !self.world.is_writable(endpoint) {
            return None;
        }
        send.waits = false;
        let mut left = match fault {
            Some(Fault::ShortSend(len)) => len.max(1),
            _ => self.step_bytes(send.len_max - send.gone),
        };
        for piece in send.output.segments(send.sent + send.gone) {
            let piece = &piece[..piece.len().min(left)];
            match self.world.write(endpoint, piece) {
                Ok(len) => {
                    send.gone += len;
                    left -= len;
                    if len < piece.len() || left == 0 {
                        break;
                    }
                }
                Err(errno) => return Some(gone_or(send.gone, errno)),
            }
        }
        let full = send.paced && !self.world.is_writable(endpoint);
        let done = send.gone >= send.len_max || full;
        let short =
            send.gone > 0 && (fault.is_some() || self.random.chance(self.faults.short_send));
        (done || short).then_some(Ok(send.gone))
    }

    fn step_receive(&mut self, slot: &mut Slot) {
        let Some(receive) = &mut slot.receive else { return };
        if let Some(end) = self.receive_some(slot.token, slot.endpoint, receive) {
            slot.receive = None;
            self.late.push_back(Completion::ReceiveEnded { token: slot.token, end });
        }
    }

    /// Why the receive ended, if it did in this step.
    fn receive_some(
        &mut self,
        token: Token,
        endpoint: usize,
        receive: &mut Receive,
    ) -> Option<ReceiveEnd> {
        if self.stop_lands(receive.stopped) {
            return Some(ReceiveEnd::Stopped);
        }
        // The end of a used-up credit may come apart from the last bytes.
        if receive.credit_left == 0 || self.random.chance(self.faults.early_end) {
            return Some(ReceiveEnd::Credit);
        }
        match self.strikes(|fault| matches!(fault, Fault::EndReceive | Fault::FailReceive(_))) {
            Some(Fault::FailReceive(errno)) => return Some(ReceiveEnd::Failed(errno)),
            Some(_) => return Some(ReceiveEnd::Credit),
            None => {}
        }
        while receive.credit_left > 0 {
            let refused = self.random.chance(self.faults.no_buffer);
            let Some(buffer) = (!refused).then(|| self.spare.pop()).flatten() else {
                self.starvations += 1;
                return None;
            };
            // A whole buffer, whatever credit is left: that is the overshoot the seam allows.
            let len = self.step_bytes(self.buffers[buffer as usize].len());
            let into = &mut self.buffers[buffer as usize][..len];
            let read = self.world.read(endpoint, into);
            let Read::Bytes(len) = read else {
                self.spare.push(buffer);
                return match read {
                    Read::End => Some(ReceiveEnd::EndOfInput),
                    Read::Failed(errno) => Some(ReceiveEnd::Failed(errno)),
                    Read::Nothing | Read::Bytes(_) => None,
                };
            };
            receive.credit_left = receive.credit_left.saturating_sub(len);
            let data = Data { buffer, start: 0, len, leasable: false };
            self.late.push_back(Completion::Received { token, data });
            if self.random.chance(self.faults.stall) {
                return None;
            }
        }
        (!self.random.chance(self.faults.late_stop)).then_some(ReceiveEnd::Credit)
    }

    fn step_exact(&mut self, slot: &mut Slot) {
        let Some(exact) = &mut slot.exact else { return };
        if let Some(result) = self.exact_some(slot.endpoint, exact) {
            let exact = slot.exact.take().expect("it was there a line ago");
            let (token, buffer) = (slot.token, exact.buffer);
            self.late.push_back(Completion::ReceivedExact { token, buffer, result });
        }
    }

    fn exact_some(&mut self, endpoint: usize, exact: &mut Exact) -> Option<Result<usize, Errno>> {
        if self.stop_lands(exact.stopped) {
            return Some(gone_or(exact.got, errno::ECANCELED));
        }
        let spare = exact.buffer.capacity() - exact.buffer.len();
        let mut bytes = vec![0; self.step_bytes(spare)];
        match self.world.read(endpoint, &mut bytes) {
            Read::Bytes(len) => {
                exact.buffer.extend_from_slice(&bytes[..len]);
                exact.got += len;
                (!exact.whole || len == spare).then_some(Ok(exact.got))
            }
            Read::Nothing => None,
            Read::End => Some(Ok(exact.got)),
            Read::Failed(errno) => Some(gone_or(exact.got, errno)),
        }
    }
}

/// Bytes that moved before a failure are reported first; the failure stays with the socket.
fn gone_or(gone: usize, errno: Errno) -> Result<usize, Errno> {
    if gone > 0 { Ok(gone) } else { Err(errno) }
}
