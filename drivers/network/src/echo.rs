//! An echo, to try things without any network.

use jmp_driver::{ByteStream, Driver, Interface, OpenContext, Result, UnknownKeys};
use jmp_interfaces::network::{Network, network_interface};
use schemars::JsonSchema;
use serde::Deserialize;

/// Messages that an echo holds before the sender has to wait.
const CAPACITY: usize = 32;

/// Nothing to configure.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct EchoConfig {}

/// Sends back what it gets, message by message, and ends when the client does.
#[derive(Debug)]
pub struct EchoNetwork;

// === impl EchoNetwork ===

impl Network for EchoNetwork {
    async fn connect(&self) -> Result<ByteStream> {
        Ok(ByteStream::echo(CAPACITY))
    }
}

impl Driver for EchoNetwork {
    const TYPES: &'static [&'static str] = &["jumpstarter_driver_network.driver.EchoNetwork"];
    const SUMMARY: &'static str = "Sends back what it gets";
    const UNKNOWN_KEYS: UnknownKeys = UnknownKeys::Warn;
    type Config = EchoConfig;

    async fn open(_: EchoConfig, _: OpenContext) -> Result<Self> {
        Ok(Self)
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![network_interface()]
    }
}
