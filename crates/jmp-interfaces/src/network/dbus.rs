//! A message bus behind the exporter for programs on this machine.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use jmp_driver::{ByteStream, DriverHandle, Error, Result, interface};

use super::forward::{Forward, TcpPortForward};

/// Label of a D-Bus driver that says which bus it is: `system` or `session`.
pub const KIND_LABEL: &str = "jumpstarter.dev/dbusnetwork/kind";

/// A way to a message bus.
#[interface(client = "jumpstarter_driver_network.client.DbusNetworkClient")]
pub trait DbusNetwork: Send + Sync + 'static {
    /// Connect to the bus.
    #[stream]
    async fn connect(&self) -> Result<ByteStream>;
}

/// Which of the two message buses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusKind {
    /// The one of the machine.
    System,
    /// The one of a user's session.
    Session,
}

/// A message bus that is reachable on a local port. Dropping it closes the port.
#[derive(Debug)]
pub struct Dbus {
    kind: BusKind,
    forward: TcpPortForward,
}

// === impl BusKind ===

impl BusKind {
    /// The word in configurations and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Session => "session",
        }
    }

    /// The environment variable that tells programs where the bus is.
    pub fn variable(self) -> &'static str {
        match self {
            Self::System => "DBUS_SYSTEM_BUS_ADDRESS",
            Self::Session => "DBUS_SESSION_BUS_ADDRESS",
        }
    }
}

impl fmt::Display for BusKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for BusKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "system" => Ok(Self::System),
            "session" => Ok(Self::Session),
            // The beginning is the text of shipped exporters (facts: drivers 1.2).
            other => Err(Error::configuration(format!(
                "invalid bus type: {other}; expected `system` or `session`"
            ))),
        }
    }
}

// === impl Dbus ===

impl Dbus {
    /// Makes the bus reachable on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// If no port can be opened.
    pub async fn open(device: DriverHandle, kind: BusKind) -> Result<Self> {
        let forward = Forward::new(device).listen_tcp("127.0.0.1", 0).await?;
        Ok(Self { kind, forward })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.forward.local_addr()
    }

    /// The address of the bus as D-Bus programs want it.
    pub fn address(&self) -> String {
        let local = self.forward.local_addr();
        format!("tcp:host={},port={}", local.ip(), local.port())
    }

    /// The environment variable that leads programs to this bus, and its value. The process
    /// that starts a program gives it to that program.
    pub fn environment(&self) -> (&'static str, String) {
        (self.kind.variable(), self.address())
    }
}
