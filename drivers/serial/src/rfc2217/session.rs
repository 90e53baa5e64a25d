//! The protocol's state machine: bytes in, bytes out, no socket and no clock.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

use super::codec::{Codec, Event};
use super::negotiation::{Agreement, Negotiation};
use super::protocol::{Command, ModemState, OPTION_COM_PORT, same_control_group};

/// Serial bytes kept for a reader, in bytes; above it the socket is not read, so that TCP holds the peer back.
pub(super) const RECEIVE_LIMIT: usize = 64 * 1024;
/// Serial bytes taken from a writer at a time, in bytes. As small as the write buffer of upstream's serial transport,
/// so that a writer notices how slow the line is.
const SEND_CHUNK: usize = 4096;
/// Telnet bytes waiting to be sent, in bytes. Only a peer that negotiates without reading the answers gets there.
const SEND_LIMIT: usize = 64 * 1024;
/// Commands remembered for answers that nobody waits for; some servers never send them.
const UNCLAIMED_LIMIT: usize = 16;

/// An answer that somebody waits for.
#[derive(Debug)]
struct Awaited {
    command: Command,
    sent: Vec<u8>,
    answer: Option<Vec<u8>>,
}

/// One side's view of an RFC 2217 connection.
#[derive(Debug, Default)]
pub(super) struct Session {
    codec: Codec,
    negotiation: Negotiation,
    /// Scratch space of [`Session::receive`], empty between calls.
    events: Vec<Event>,
    /// Serial bytes from the peer that nobody has read yet.
    received: BytesMut,
    /// Telnet bytes to send.
    outgoing: BytesMut,
    /// The peer asked to send no data for now.
    suspended: bool,
    awaited: Option<Awaited>,
    /// Commands whose answers nobody waits for (any more), oldest first, so that these are not taken for others.
    unclaimed: VecDeque<(Command, Vec<u8>)>,
    modem_state: Option<ModemState>,
    /// How many modem state notifications have arrived.
    modem_notifications: u64,
}

impl Session {
    /// A session that has queued its opening offers.
    pub(super) fn start() -> Self {
        let mut session = Self::default();
        for (verb, option) in session.negotiation.start() {
            session.queue(&Event::Negotiate { verb, option });
        }
        session
    }

    /// Takes bytes from the peer. An error is a violation that ends the connection.
    pub(super) fn receive(&mut self, input: &[u8]) -> Result<(), String> {
        let mut events = std::mem::take(&mut self.events);
        self.codec.decode(input, &mut events);
        for event in events.drain(..) {
            self.handle(event);
        }
        self.events = events;
        if self.outgoing.len() > SEND_LIMIT {
            return Err(format!(
                "the peer negotiates without reading the answers ({} bytes are waiting)",
                self.outgoing.len()
            ));
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Data(data) => self.received.extend_from_slice(&data),
            Event::Command(_) => {}
            Event::Negotiate { verb, option } => {
                if let Some(verb) = self.negotiation.receive(verb, option) {
                    self.queue(&Event::Negotiate { verb, option });
                }
            }
            Event::Subnegotiation {
                option: OPTION_COM_PORT,
                payload,
            } => {
                if let Some((&code, value)) = payload.split_first() {
                    self.com_port(code, value);
                }
            }
            Event::Subnegotiation { .. } => {}
        }
    }

    fn com_port(&mut self, code: u8, value: &[u8]) {
        let Some(command) = Command::from_server_code(code) else {
            return;
        };
        match command {
            Command::FlowControlSuspend => self.suspended = true,
            Command::FlowControlResume => self.suspended = false,
            Command::NotifyModemState => {
                if let Some(&state) = value.first() {
                    self.modem_state = Some(ModemState(state));
                    self.modem_notifications = self.modem_notifications.wrapping_add(1);
                }
            }
            _ => {}
        }
        self.answer(command, value);
    }

    /// Gives a server's message to the request it answers, if any.
    fn answer(&mut self, command: Command, value: &[u8]) {
        if let Some(awaited) = &mut self.awaited
            && awaited.command == command
            && awaited.sent == value
        {
            awaited.answer = Some(value.to_vec());
            return;
        }
        let late = |(other, sent): &(Command, Vec<u8>)| *other == command && sent == value;
        if let Some(index) = self.unclaimed.iter().position(late) {
            self.unclaimed.remove(index);
        } else if let Some(awaited) = &mut self.awaited
            && awaited.command == command
            && answers(command, &awaited.sent, value)
        {
            awaited.answer = Some(value.to_vec());
        }
    }

    fn queue(&mut self, event: &Event) {
        let mut bytes = Vec::new();
        Codec::encode(event, &mut bytes);
        self.outgoing.extend_from_slice(&bytes);
    }

    /// Queues a COM-PORT command without waiting for its answer.
    pub(super) fn queue_command(&mut self, command: Command, value: &[u8]) {
        self.queue_com_port(command, value);
        self.unclaim(command, value.to_vec());
    }

    fn queue_com_port(&mut self, command: Command, value: &[u8]) {
        let mut payload = vec![command as u8];
        payload.extend_from_slice(value);
        self.queue(&Event::Subnegotiation {
            option: OPTION_COM_PORT,
            payload,
        });
    }

    /// Queues a COM-PORT command and forgets any earlier one that was waited for.
    pub(super) fn queue_request(&mut self, command: Command, value: &[u8]) {
        if let Some(abandoned) = self.awaited.take() {
            self.unclaim(abandoned.command, abandoned.sent);
        }
        self.queue_com_port(command, value);
        self.awaited = Some(Awaited {
            command,
            sent: value.to_vec(),
            answer: None,
        });
    }

    fn unclaim(&mut self, command: Command, sent: Vec<u8>) {
        if self.unclaimed.len() == UNCLAIMED_LIMIT {
            self.unclaimed.pop_front();
        }
        self.unclaimed.push_back((command, sent));
    }

    /// The answer to the last request, once.
    pub(super) fn take_answer(&mut self) -> Option<Vec<u8>> {
        let answer = self.awaited.as_mut()?.answer.take()?;
        self.awaited = None;
        Some(answer)
    }

    /// Queues serial bytes and returns how many were taken: none while the peer asks for a pause or is slow to read.
    pub(super) fn queue_data(&mut self, data: &[u8]) -> usize {
        if self.suspended || self.outgoing.len() >= SEND_CHUNK {
            return 0;
        }
        let taken = data.len().min(SEND_CHUNK);
        let mut bytes = Vec::with_capacity(taken);
        Codec::encode_data(&data[..taken], &mut bytes);
        self.outgoing.extend_from_slice(&bytes);
        taken
    }

    /// Moves received serial bytes to a reader.
    pub(super) fn read_into(&mut self, buffer: &mut ReadBuf<'_>) {
        let length = self.received.len().min(buffer.remaining());
        buffer.put_slice(&self.received[..length]);
        self.received.advance(length);
    }

    /// Forgets received serial bytes.
    pub(super) fn discard_received(&mut self) {
        self.received.clear();
    }

    /// Number of serial bytes nobody has read yet.
    pub(super) fn unread(&self) -> usize {
        self.received.len()
    }

    /// Whether the socket may be read.
    pub(super) fn wants_input(&self) -> bool {
        self.received.len() < RECEIVE_LIMIT
    }

    /// Telnet bytes to send.
    pub(super) fn outgoing(&self) -> &[u8] {
        &self.outgoing
    }

    /// Notes that the first `length` bytes of [`Session::outgoing`] were sent.
    pub(super) fn sent(&mut self, length: usize) {
        self.outgoing.advance(length);
    }

    /// Whether control of the serial port is agreed on.
    pub(super) fn com_port_agreement(&self) -> Agreement {
        self.negotiation.com_port()
    }

    /// The modem lines as last notified, and how many notifications have arrived.
    pub(super) fn modem_state(&self) -> (Option<ModemState>, u64) {
        (self.modem_state, self.modem_notifications)
    }
}

/// Whether a server's message is about the request that was sent: one SET-CONTROL command serves several lines.
fn answers(command: Command, sent: &[u8], received: &[u8]) -> bool {
    match (command, sent.first(), received.first()) {
        (Command::SetControl, Some(&sent), Some(&received)) => same_control_group(sent, received),
        _ => true,
    }
}

/// Body of the fuzz target: any bytes from a peer, cut anywhere, while everything this side can do goes on.
///
/// # Panics
/// When a buffer grows over its bound.
#[doc(hidden)]
pub fn fuzz_rfc2217(data: &[u8]) {
    let mut session = Session::start();
    let (size, input) = data
        .split_first()
        .map_or((1, data), |(&size, rest)| (usize::from(size) + 1, rest));
    for (index, piece) in input.chunks(size).enumerate() {
        if index % 3 == 0 {
            session.queue_request(Command::SetControl, &[piece[0]]);
        }
        if session.receive(piece).is_err() {
            return;
        }
        session.queue_data(piece);
        drop(session.take_answer());
        assert!(session.unclaimed.len() <= UNCLAIMED_LIMIT);
        assert!(session.outgoing.len() <= SEND_LIMIT + 3 * SEND_CHUNK);
        if index % 2 == 0 {
            session.sent(session.outgoing().len().min(usize::from(piece[0])));
        }
        if !session.wants_input() {
            assert!(session.unread() <= RECEIVE_LIMIT + piece.len());
            session.discard_received();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn notification(code: u8, value: &[u8]) -> Vec<u8> {
        let mut payload = vec![code];
        payload.extend_from_slice(value);
        let mut bytes = Vec::new();
        Codec::encode(
            &Event::Subnegotiation {
                option: OPTION_COM_PORT,
                payload,
            },
            &mut bytes,
        );
        bytes
    }

    #[test]
    fn a_suspended_session_takes_no_data() {
        let mut session = Session::start();
        session.receive(&notification(108, &[])).unwrap();
        assert_eq!(session.queue_data(b"x"), 0);
        session.receive(&notification(109, &[])).unwrap();
        assert_eq!(session.queue_data(b"x"), 1);
    }

    #[test]
    fn a_writer_is_held_back_until_the_peer_reads() {
        let mut session = Session::start();
        session.sent(session.outgoing().len());
        assert_eq!(session.queue_data(&[255; 10_000]), SEND_CHUNK);
        assert_eq!(session.outgoing().len(), 2 * SEND_CHUNK);
        assert_eq!(session.queue_data(b"x"), 0);
        session.sent(2 * SEND_CHUNK);
        assert_eq!(session.queue_data(b"x"), 1);
    }

    #[test]
    fn an_answer_about_another_line_is_not_taken() {
        let mut session = Session::start();
        session.queue_request(Command::SetControl, &[8]);
        session.receive(&notification(105, &[11])).unwrap();
        assert_eq!(session.take_answer(), None);
        session.receive(&notification(105, &[9])).unwrap();
        assert_eq!(session.take_answer(), Some(vec![9]));
        assert_eq!(session.take_answer(), None);
    }

    #[test]
    fn a_late_answer_is_not_taken_for_the_next() {
        let mut session = Session::start();
        session.queue_request(Command::SetControl, &[8]);
        session.queue_command(Command::SetControl, &[6]);
        session.queue_request(Command::SetControl, &[9]);
        session.receive(&notification(105, &[8])).unwrap();
        session.receive(&notification(105, &[6])).unwrap();
        assert_eq!(session.take_answer(), None);
        session.receive(&notification(105, &[8])).unwrap();
        assert_eq!(session.take_answer(), Some(vec![8]));
    }

    #[test]
    fn modem_lines_are_remembered() {
        let mut session = Session::start();
        session.receive(&notification(107, &[0xb0])).unwrap();
        let (state, count) = session.modem_state();
        assert_eq!(count, 1);
        let state = state.unwrap();
        assert!(state.carrier_detect() && state.data_set_ready() && state.clear_to_send());
        assert!(!state.ring_indicator());
    }

    #[test]
    fn a_peer_that_only_negotiates_is_cut_off() {
        let mut session = Session::start();
        let flood = [255, 251, 99].repeat(10_000);
        let failed = (0..10).any(|_| session.receive(&flood).is_err());
        assert!(failed);
    }

    /// Bytes of which many are telnet's and RFC 2217's.
    fn telnet_bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = any::<(u8, u8)>().prop_map(|(kind, byte)| match kind % 8 {
            0 | 1 => 255,
            2 | 3 => 240 | byte & 15,
            4 => 44,
            5 => 100 + byte % 13,
            _ => byte,
        });
        prop::collection::vec(byte, 0..300)
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(piece in telnet_bytes(), times in 1..40_usize) {
            fuzz_rfc2217(&piece.repeat(times));
        }
    }
}
