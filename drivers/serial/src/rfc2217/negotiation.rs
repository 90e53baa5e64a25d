//! Which telnet options both sides agreed on (the rules of RFC 1143, without its queue).

use super::protocol::{
    OPTION_BINARY, OPTION_COM_PORT, OPTION_ECHO, OPTION_SUPPRESS_GO_AHEAD, Verb,
};

/// What is known of one option in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Agreement {
    /// Not in use and not asked for.
    #[default]
    Off,
    /// Asked for; the peer has not answered.
    Asked,
    /// In use.
    On,
    /// Asked for, and the peer declined.
    Refused,
}

/// The options of one connection.
#[derive(Debug, Default)]
pub(super) struct Negotiation {
    /// What we do ourselves: settled by WILL and WONT from here, DO and DONT from the peer.
    local: [Agreement; SUPPORTED.len()],
    /// What the peer does.
    remote: [Agreement; SUPPORTED.len()],
}

/// Options this client understands. A peer may use all of them; ECHO from here would send the port its own output and is
/// declined.
const SUPPORTED: [u8; 4] = [
    OPTION_COM_PORT,
    OPTION_BINARY,
    OPTION_SUPPRESS_GO_AHEAD,
    OPTION_ECHO,
];

/// Where in the tables an option is kept.
fn slot(option: u8) -> Option<usize> {
    SUPPORTED.iter().position(|&supported| supported == option)
}

impl Negotiation {
    /// Marks what the client asks for at the start and returns it as messages to send.
    pub(super) fn start(&mut self) -> Vec<(Verb, u8)> {
        let mut messages = Vec::new();
        for option in [OPTION_COM_PORT, OPTION_BINARY, OPTION_SUPPRESS_GO_AHEAD] {
            if let Some(slot) = slot(option) {
                self.local[slot] = Agreement::Asked;
                messages.push((Verb::Will, option));
                // RFC 2217 has the client offer COM-PORT; asking the server to offer it too confuses some servers.
                if option != OPTION_COM_PORT {
                    self.remote[slot] = Agreement::Asked;
                    messages.push((Verb::Do, option));
                }
            }
        }
        messages
    }

    /// Takes one message of the peer and returns the answer it needs, if any.
    ///
    /// A message that changes nothing gets no answer, so two correct sides cannot answer each other for ever.
    pub(super) fn receive(&mut self, verb: Verb, option: u8) -> Option<Verb> {
        let known = slot(option);
        match verb {
            Verb::Will => match known {
                None => Some(Verb::Dont),
                Some(slot) => turn_on(&mut self.remote[slot]).then_some(Verb::Do),
            },
            Verb::Wont => turn_off(&mut self.remote[known?]).then_some(Verb::Dont),
            Verb::Do => match known {
                Some(slot) if option != OPTION_ECHO => {
                    turn_on(&mut self.local[slot]).then_some(Verb::Will)
                }
                _ => Some(Verb::Wont),
            },
            Verb::Dont => turn_off(&mut self.local[known?]).then_some(Verb::Wont),
        }
    }

    /// Whether the serial port can be controlled: some servers confirm with DO, some offer it themselves with WILL.
    pub(super) fn com_port(&self) -> Agreement {
        let Some(slot) = slot(OPTION_COM_PORT) else {
            return Agreement::Refused;
        };
        match (self.local[slot], self.remote[slot]) {
            (Agreement::On, _) | (_, Agreement::On) => Agreement::On,
            (local, _) => local,
        }
    }
}

/// Returns whether the peer has to be told.
fn turn_on(agreement: &mut Agreement) -> bool {
    let answer = matches!(agreement, Agreement::Off | Agreement::Refused);
    *agreement = Agreement::On;
    answer
}

/// Returns whether the peer has to be told.
fn turn_off(agreement: &mut Agreement) -> bool {
    let answer = *agreement == Agreement::On;
    *agreement = match agreement {
        Agreement::Asked | Agreement::Refused => Agreement::Refused,
        Agreement::On | Agreement::Off => Agreement::Off,
    };
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confirmation_is_not_answered() {
        let mut negotiation = Negotiation::default();
        assert!(negotiation.start().contains(&(Verb::Will, OPTION_COM_PORT)));
        assert_eq!(negotiation.com_port(), Agreement::Asked);
        assert_eq!(negotiation.receive(Verb::Do, OPTION_COM_PORT), None);
        assert_eq!(negotiation.com_port(), Agreement::On);
        assert_eq!(negotiation.receive(Verb::Do, OPTION_COM_PORT), None);
    }

    #[test]
    fn a_refusal_is_remembered() {
        let mut negotiation = Negotiation::default();
        negotiation.start();
        assert_eq!(negotiation.receive(Verb::Dont, OPTION_COM_PORT), None);
        assert_eq!(negotiation.com_port(), Agreement::Refused);
    }

    #[test]
    fn an_offer_is_taken_once() {
        let mut negotiation = Negotiation::default();
        assert_eq!(
            negotiation.receive(Verb::Will, OPTION_COM_PORT),
            Some(Verb::Do)
        );
        assert_eq!(negotiation.receive(Verb::Will, OPTION_COM_PORT), None);
        assert_eq!(negotiation.com_port(), Agreement::On);
    }

    #[test]
    fn unknown_options_are_declined() {
        let mut negotiation = Negotiation::default();
        assert_eq!(negotiation.receive(Verb::Will, 99), Some(Verb::Dont));
        assert_eq!(negotiation.receive(Verb::Do, 99), Some(Verb::Wont));
        assert_eq!(negotiation.receive(Verb::Wont, 99), None);
        assert_eq!(negotiation.receive(Verb::Dont, 99), None);
        assert_eq!(negotiation.receive(Verb::Do, OPTION_ECHO), Some(Verb::Wont));
    }
}
