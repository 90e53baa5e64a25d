//! Connections to a D-Bus message bus.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jmp_driver::{ByteStream, Driver, Error, Interface, OpenContext, Result};
use jmp_interfaces::network::dbus::{BusKind, KIND_LABEL, dbus_network_interface};
use jmp_interfaces::network::forward::{bare_host, host_and_port};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::{TcpStream, UnixStream};

use crate::connect::connect;

/// Which message bus.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct DbusConfig {
    /// `system` or `session`. Where that bus is says the exporter's environment,
    /// `DBUS_SYSTEM_BUS_ADDRESS` or `DBUS_SESSION_BUS_ADDRESS`, or else the usual place.
    #[serde(deserialize_with = "bus_kind")]
    #[schemars(extend("enum" = ["system", "session"]))]
    #[schemars(with = "String")]
    pub kind: BusKind,
}

fn bus_kind<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BusKind, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// Address of a message bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusAddress {
    /// `unix:path=…`
    Unix(PathBuf),
    /// `tcp:host=…,port=…`
    Tcp {
        /// Name or address of the host.
        host: String,
        /// Port.
        port: u16,
    },
}

/// Each stream is a connection to a message bus of the exporter's machine. The bus sees the
/// exporter's user, so that is who clients are.
#[derive(Debug)]
pub struct DbusNetwork {
    kind: BusKind,
    address: BusAddress,
}

// === impl BusAddress ===

impl BusAddress {
    /// Where the bus is, as the environment or the conventions have it.
    ///
    /// # Errors
    ///
    /// If the environment has something that is no single `unix:path=` or `tcp:` address.
    pub fn find(kind: BusKind, environment: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let text = environment(kind.variable()).unwrap_or_else(|| match kind {
            BusKind::System => "unix:path=/run/dbus/system_bus_socket".to_owned(),
            BusKind::Session => {
                let user = rustix::process::getuid().as_raw();
                format!("unix:path=/run/user/{user}/bus")
            }
        });
        Self::parse(&text).map_err(|error| error.context(kind.variable()))
    }

    /// Reads `scheme:key=value,key=value`.
    ///
    /// # Errors
    ///
    /// If it is something else, or lacks a key.
    pub fn parse(text: &str) -> Result<Self> {
        // These beginnings are the texts of shipped exporters (facts: drivers 1.2).
        let invalid = |why: &str| Error::configuration(format!("invalid bus addr: {text}{why}"));
        let (scheme, rest) = text
            .split_once(':')
            .ok_or_else(|| invalid("; expected `scheme:key=value,…`"))?;
        if rest.contains(';') {
            return Err(invalid("; a list of addresses is not supported, name one"));
        }
        let mut keys = BTreeMap::new();
        for pair in rest.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| invalid("; expected `key=value` after the scheme"))?;
            let value = unescape(value).ok_or_else(|| invalid("; a % needs two digits"))?;
            keys.insert(key, value);
        }
        let mut take = |key: &str| {
            keys.remove(key)
                .ok_or_else(|| invalid(&format!("; `{key}=…` is missing")))
        };
        match scheme {
            "unix" => Ok(Self::Unix(take("path")?.into())),
            "tcp" => {
                let (host, port) = (take("host")?, take("port")?);
                let port = port
                    .parse()
                    .map_err(|_| invalid("; the port is no number from 0 to 65535"))?;
                Ok(Self::Tcp { host, port })
            }
            other => Err(Error::configuration(format!(
                "invalid bus scheme: {other}; expected `unix` or `tcp`"
            ))),
        }
    }
}

/// `%2f` and the like, as the D-Bus specification has it.
fn unescape(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%' {
            let (digits, tail) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

// === impl DbusNetwork ===

impl jmp_interfaces::network::dbus::DbusNetwork for DbusNetwork {
    async fn connect(&self) -> Result<ByteStream> {
        match &self.address {
            BusAddress::Unix(path) => {
                let what = format!("the {} bus at unix:path={}", self.kind, path.display());
                let stream = connect(&what, UnixStream::connect(path)).await?;
                let (reader, writer) = stream.into_split();
                Ok(ByteStream::from_halves(reader, writer))
            }
            BusAddress::Tcp { host, port } => {
                let what = format!("the {} bus at {}", self.kind, host_and_port(host, *port));
                let stream = connect(&what, async {
                    let stream = TcpStream::connect((bare_host(host), *port)).await?;
                    stream.set_nodelay(true)?;
                    Ok(stream)
                })
                .await?;
                let (reader, writer) = stream.into_split();
                Ok(ByteStream::from_halves(reader, writer))
            }
        }
    }
}

impl Driver for DbusNetwork {
    const TYPES: &'static [&'static str] = &["jumpstarter_driver_network.driver.DbusNetwork"];
    const SUMMARY: &'static str = "Connections to a D-Bus message bus of the exporter's machine";
    type Config = DbusConfig;

    async fn open(config: DbusConfig, _: OpenContext) -> Result<Self> {
        let environment = |name: &str| std::env::var(name).ok();
        Ok(Self {
            kind: config.kind,
            address: BusAddress::find(config.kind, environment)?,
        })
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![dbus_network_interface()]
    }

    fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(KIND_LABEL.to_owned(), self.kind.to_string())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<BusAddress, String> {
        BusAddress::parse(text).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses() {
        let tcp = |host: &str, port| BusAddress::Tcp {
            host: host.into(),
            port,
        };
        for (text, expected) in [
            ("unix:path=/run/a", BusAddress::Unix("/run/a".into())),
            (
                "unix:path=/run/a%20b,guid=00",
                BusAddress::Unix("/run/a b".into()),
            ),
            ("tcp:host=localhost,port=12", tcp("localhost", 12)),
            ("tcp:port=12,family=ipv6,host=::1", tcp("::1", 12)),
        ] {
            assert_eq!(parsed(text).unwrap(), expected);
        }
    }

    #[test]
    fn addresses_that_are_none() {
        for (text, expected) in [
            ("", "invalid bus addr: ; expected `scheme:key=value,…`"),
            (
                "unix",
                "invalid bus addr: unix; expected `scheme:key=value,…`",
            ),
            ("unix:", "invalid bus addr: unix:; `path=…` is missing"),
            (
                "unix:path",
                "invalid bus addr: unix:path; expected `key=value` after the scheme",
            ),
            (
                "unix:abstract=x",
                "invalid bus addr: unix:abstract=x; `path=…` is missing",
            ),
            (
                "unix:path=%4",
                "invalid bus addr: unix:path=%4; a % needs two digits",
            ),
            (
                "tcp:host=a",
                "invalid bus addr: tcp:host=a; `port=…` is missing",
            ),
            (
                "tcp:host=a,port=b",
                "invalid bus addr: tcp:host=a,port=b; the port is no number from 0 to 65535",
            ),
            (
                "unix:path=/a;unix:path=/b",
                "invalid bus addr: unix:path=/a;unix:path=/b; a list of addresses is not \
                 supported, name one",
            ),
            (
                "launchd:env=X",
                "invalid bus scheme: launchd; expected `unix` or `tcp`",
            ),
        ] {
            assert_eq!(parsed(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn the_environment_comes_before_the_usual_place() {
        let unset = |_: &str| None;
        let system = BusAddress::find(BusKind::System, unset).unwrap();
        assert_eq!(
            system,
            BusAddress::Unix("/run/dbus/system_bus_socket".into())
        );
        let set = |name: &str| {
            (name == "DBUS_SESSION_BUS_ADDRESS").then(|| "tcp:host=h,port=1".to_owned())
        };
        let session = BusAddress::find(BusKind::Session, set).unwrap();
        assert!(matches!(session, BusAddress::Tcp { .. }));
    }
}
