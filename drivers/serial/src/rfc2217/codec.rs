//! The telnet byte codec: pure, incremental, total over all inputs.

use super::protocol::{IAC, SUBNEGOTIATION_BEGIN, SUBNEGOTIATION_END, Verb};

/// Longest subnegotiation payload kept, in bytes. Only SIGNATURE has no length of its own; everything else is five bytes at most.
pub const SUBNEGOTIATION_LIMIT: usize = 1024;

/// What a stretch of telnet bytes says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes of the serial port, unescaped. Never empty.
    Data(Vec<u8>),
    /// A command without argument, such as 241 (no operation) or 249 (go ahead).
    Command(u8),
    /// One step of option negotiation.
    Negotiate {
        /// What is asked or answered.
        verb: Verb,
        /// The option it is about.
        option: u8,
    },
    /// A complete subnegotiation.
    Subnegotiation {
        /// The option it belongs to.
        option: u8,
        /// Its bytes, unescaped, cut at [`SUBNEGOTIATION_LIMIT`].
        payload: Vec<u8>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Data,
    Command,
    Negotiate(Verb),
    SubnegotiationOption,
    Subnegotiation(u8),
    SubnegotiationCommand(u8),
}

/// Incremental telnet decoder, and the encoders that need no state.
#[derive(Debug, Default)]
pub struct Codec {
    state: State,
    /// Payload of the subnegotiation being read, at most [`SUBNEGOTIATION_LIMIT`] bytes.
    payload: Vec<u8>,
}

impl Codec {
    /// A decoder at the start of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes `input`, which may end anywhere, and appends what it says to `out`.
    ///
    /// Neighbouring data bytes of one call form one [`Event::Data`]. The events hold no more bytes than `input` plus
    /// one subnegotiation; nothing else is kept between calls.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<Event>) {
        let mut rest = input;
        while let Some(&byte) = rest.first() {
            if self.state == State::Data {
                let length = rest
                    .iter()
                    .position(|&byte| byte == IAC)
                    .unwrap_or(rest.len());
                push_data(out, &rest[..length]);
                rest = &rest[length..];
                if !rest.is_empty() {
                    self.state = State::Command;
                    rest = &rest[1..];
                }
            } else {
                self.step(byte, out);
                rest = &rest[1..];
            }
        }
    }

    /// Takes one byte in any state but [`State::Data`].
    fn step(&mut self, byte: u8, out: &mut Vec<Event>) {
        match self.state {
            State::Data | State::Command => self.command(byte, out),
            State::Negotiate(verb) => {
                out.push(Event::Negotiate { verb, option: byte });
                self.state = State::Data;
            }
            State::SubnegotiationOption => {
                self.payload.clear();
                self.state = State::Subnegotiation(byte);
            }
            State::Subnegotiation(option) if byte == IAC => {
                self.state = State::SubnegotiationCommand(option);
            }
            State::Subnegotiation(_) => self.push_payload(byte),
            State::SubnegotiationCommand(option) => match byte {
                IAC => {
                    self.push_payload(IAC);
                    self.state = State::Subnegotiation(option);
                }
                SUBNEGOTIATION_END => {
                    let payload = std::mem::take(&mut self.payload);
                    out.push(Event::Subnegotiation { option, payload });
                    self.state = State::Data;
                }
                // A command inside a subnegotiation means that its end was lost: what was read of it is worthless.
                other => self.command(other, out),
            },
        }
    }

    /// Takes the byte after an IAC.
    fn command(&mut self, byte: u8, out: &mut Vec<Event>) {
        self.state = match byte {
            IAC => {
                push_data(out, &[IAC]);
                State::Data
            }
            SUBNEGOTIATION_BEGIN => State::SubnegotiationOption,
            code => match Verb::from_code(code) {
                Some(verb) => State::Negotiate(verb),
                None => {
                    out.push(Event::Command(code));
                    State::Data
                }
            },
        };
    }

    fn push_payload(&mut self, byte: u8) {
        if self.payload.len() < SUBNEGOTIATION_LIMIT {
            self.payload.push(byte);
        }
    }

    /// Appends serial port bytes to `out` as telnet data.
    pub fn encode_data(data: &[u8], out: &mut Vec<u8>) {
        for &byte in data {
            out.push(byte);
            if byte == IAC {
                out.push(IAC);
            }
        }
    }

    /// Appends any event to `out` as the telnet bytes that decode to it.
    pub fn encode(event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::Data(data) => Self::encode_data(data, out),
            Event::Command(code) => out.extend([IAC, *code]),
            Event::Negotiate { verb, option } => out.extend([IAC, *verb as u8, *option]),
            Event::Subnegotiation { option, payload } => {
                out.extend([IAC, SUBNEGOTIATION_BEGIN, *option]);
                Self::encode_data(payload, out);
                out.extend([IAC, SUBNEGOTIATION_END]);
            }
        }
    }
}

fn push_data(out: &mut Vec<Event>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    match out.last_mut() {
        Some(Event::Data(last)) => last.extend_from_slice(data),
        _ => out.push(Event::Data(data.to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
        let mut codec = Codec::new();
        let mut events = Vec::new();
        for piece in pieces {
            codec.decode(piece, &mut events);
        }
        events
    }

    #[test]
    fn telnet_bytes_become_events() {
        let bytes = [
            b'a', 255, 255, b'b', 255, 253, 44, 255, 241, 255, 250, 44, 101, 0, 255, 255, 0, 255,
            240, b'c',
        ];
        assert_eq!(
            decode_pieces([&bytes[..]]),
            [
                Event::Data(vec![b'a', 255, b'b']),
                Event::Negotiate {
                    verb: Verb::Do,
                    option: 44
                },
                Event::Command(241),
                Event::Subnegotiation {
                    option: 44,
                    payload: vec![101, 0, 255, 0]
                },
                Event::Data(vec![b'c']),
            ]
        );
    }

    #[test]
    fn a_command_inside_a_subnegotiation_discards_it() {
        let bytes = [255, 250, 44, 1, 2, 255, 251, 3, b'x'];
        assert_eq!(
            decode_pieces([&bytes[..]]),
            [
                Event::Negotiate {
                    verb: Verb::Will,
                    option: 3
                },
                Event::Data(vec![b'x'])
            ]
        );
    }

    #[test]
    fn an_endless_subnegotiation_is_cut() {
        let mut bytes = vec![255, 250, 44];
        bytes.resize(100_000, 7);
        bytes.extend([255, 240]);
        let events = decode_pieces([&bytes[..]]);
        assert_eq!(
            events,
            [Event::Subnegotiation {
                option: 44,
                payload: vec![7; SUBNEGOTIATION_LIMIT]
            }]
        );
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 1..40).prop_map(Event::Data),
            (241..250_u8).prop_map(Event::Command),
            (251..255_u8, any::<u8>()).prop_filter_map("a verb", |(code, option)| {
                Some(Event::Negotiate {
                    verb: Verb::from_code(code)?,
                    option,
                })
            }),
            (any::<u8>(), prop::collection::vec(any::<u8>(), 0..40))
                .prop_map(|(option, payload)| Event::Subnegotiation { option, payload }),
        ]
    }

    proptest! {
        #[test]
        fn where_the_input_is_cut_does_not_matter(
            bytes in prop::collection::vec(prop_oneof![Just(255_u8), 240..=255_u8, any::<u8>()], 0..300),
            size in 1..9_usize,
        ) {
            prop_assert_eq!(decode_pieces([&bytes[..]]), decode_pieces(bytes.chunks(size)));
        }

        #[test]
        fn what_is_encoded_is_decoded(events in prop::collection::vec(any_event(), 0..20)) {
            let mut bytes = Vec::new();
            for event in &events {
                Codec::encode(event, &mut bytes);
            }
            let mut expected: Vec<Event> = Vec::new();
            for event in events {
                match (expected.last_mut(), event) {
                    (Some(Event::Data(last)), Event::Data(data)) => last.extend(data),
                    (_, event) => expected.push(event),
                }
            }
            prop_assert_eq!(decode_pieces([&bytes[..]]), expected);
        }
    }
}
