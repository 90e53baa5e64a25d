//! Numbers of RFC 854 (telnet), RFC 856/857/858 (its options) and RFC 2217 (serial port control).

use std::fmt;

/// "Interpret as command": starts every telnet command; doubled, it is the data byte 255.
pub const IAC: u8 = 255;
/// Start of a subnegotiation.
pub const SUBNEGOTIATION_BEGIN: u8 = 250;
/// End of a subnegotiation.
pub const SUBNEGOTIATION_END: u8 = 240;

/// Telnet option: eight-bit data in this direction (RFC 856).
pub const OPTION_BINARY: u8 = 0;
/// Telnet option: the sender echoes what it receives (RFC 857).
pub const OPTION_ECHO: u8 = 1;
/// Telnet option: no "go ahead" after each turn (RFC 858).
pub const OPTION_SUPPRESS_GO_AHEAD: u8 = 3;
/// Telnet option: control of a serial port (RFC 2217).
pub const OPTION_COM_PORT: u8 = 44;

/// Added to a command's code in the access server's answers and notifications.
pub const SERVER_OFFSET: u8 = 100;

/// The four verbs of telnet option negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Verb {
    /// The sender wants to use the option, or confirms that it does.
    Will = 251,
    /// The sender does not use the option.
    Wont = 252,
    /// The sender asks the receiver to use the option, or agrees that it does.
    Do = 253,
    /// The sender asks the receiver not to use the option.
    Dont = 254,
}

impl Verb {
    /// The verb with this telnet code, if it is one.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            251 => Some(Self::Will),
            252 => Some(Self::Wont),
            253 => Some(Self::Do),
            254 => Some(Self::Dont),
            _ => None,
        }
    }
}

/// Commands of the COM-PORT option, with the code a client sends.
///
/// The server answers with the code plus [`SERVER_OFFSET`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Command {
    /// Free text about the peer.
    Signature = 0,
    /// Bits per second, four bytes, big endian.
    SetBaudRate = 1,
    /// Data bits per character: 5 to 8.
    SetDataSize = 2,
    /// 1 none, 2 odd, 3 even, 4 mark, 5 space.
    SetParity = 3,
    /// 1 one, 2 two, 3 one and a half.
    SetStopSize = 4,
    /// Flow control, break, DTR and RTS: see [`ControlValue`].
    SetControl = 5,
    /// The server's line state changed.
    NotifyLineState = 6,
    /// The server's modem lines changed: see [`ModemState`].
    NotifyModemState = 7,
    /// The sender can take no more data for now.
    FlowControlSuspend = 8,
    /// The sender can take data again.
    FlowControlResume = 9,
    /// Which line state changes the server shall notify.
    SetLineStateMask = 10,
    /// Which modem line changes the server shall notify.
    SetModemStateMask = 11,
    /// Discard buffered data: 1 received, 2 to be sent, 3 both.
    PurgeData = 12,
}

impl Command {
    /// The command a server's answer or notification is about, from its code (100 to 112).
    pub fn from_server_code(code: u8) -> Option<Self> {
        Some(match code.checked_sub(SERVER_OFFSET)? {
            0 => Self::Signature,
            1 => Self::SetBaudRate,
            2 => Self::SetDataSize,
            3 => Self::SetParity,
            4 => Self::SetStopSize,
            5 => Self::SetControl,
            6 => Self::NotifyLineState,
            7 => Self::NotifyModemState,
            8 => Self::FlowControlSuspend,
            9 => Self::FlowControlResume,
            10 => Self::SetLineStateMask,
            11 => Self::SetModemStateMask,
            12 => Self::PurgeData,
            _ => return None,
        })
    }

    /// The server's code for an answer to this command.
    pub fn server_code(self) -> u8 {
        self as u8 + SERVER_OFFSET
    }
}

impl fmt::Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Signature => "SIGNATURE",
            Self::SetBaudRate => "SET-BAUDRATE",
            Self::SetDataSize => "SET-DATASIZE",
            Self::SetParity => "SET-PARITY",
            Self::SetStopSize => "SET-STOPSIZE",
            Self::SetControl => "SET-CONTROL",
            Self::NotifyLineState => "NOTIFY-LINESTATE",
            Self::NotifyModemState => "NOTIFY-MODEMSTATE",
            Self::FlowControlSuspend => "FLOWCONTROL-SUSPEND",
            Self::FlowControlResume => "FLOWCONTROL-RESUME",
            Self::SetLineStateMask => "SET-LINESTATE-MASK",
            Self::SetModemStateMask => "SET-MODEMSTATE-MASK",
            Self::PurgeData => "PURGE-DATA",
        })
    }
}

/// Values of SET-CONTROL that this client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ControlValue {
    /// No flow control in either direction.
    FlowControlNone = 1,
    /// Hold the data line in its break state.
    BreakOn = 5,
    /// Return the data line from its break state.
    BreakOff = 6,
    /// Assert Data Terminal Ready.
    DtrOn = 8,
    /// Release Data Terminal Ready.
    DtrOff = 9,
    /// Assert Request To Send.
    RtsOn = 11,
    /// Release Request To Send.
    RtsOff = 12,
}

/// Whether two SET-CONTROL values are about the same thing, so that one may be the answer to the other.
pub(crate) fn same_control_group(left: u8, right: u8) -> bool {
    fn group(value: u8) -> u8 {
        match value {
            0..=3 | 17 | 19 => 0,
            4..=6 => 1,
            7..=9 => 2,
            10..=12 => 3,
            13..=16 | 18 => 4,
            _ => 5,
        }
    }
    group(left) == group(right)
}

/// Modem lines as the server last reported them (NOTIFY-MODEMSTATE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModemState(pub u8);

impl ModemState {
    /// Data Carrier Detect.
    pub fn carrier_detect(self) -> bool {
        self.0 & 0x80 != 0
    }

    /// Ring Indicator.
    pub fn ring_indicator(self) -> bool {
        self.0 & 0x40 != 0
    }

    /// Data Set Ready.
    pub fn data_set_ready(self) -> bool {
        self.0 & 0x20 != 0
    }

    /// Clear To Send.
    pub fn clear_to_send(self) -> bool {
        self.0 & 0x10 != 0
    }
}
