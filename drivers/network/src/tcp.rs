//! TCP connections.

use jmp_driver::{ByteStream, Driver, Interface, OpenContext, Result};
use jmp_interfaces::network::forward::{bare_host, host_and_port};
use jmp_interfaces::network::{
    Network, NetworkAddress, network_address_interface, network_interface,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::TcpStream;

use crate::address;
use crate::connect::connect;

/// Where a TCP or UDP service is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct HostConfig {
    /// Name or address of the host, as the exporter sees it.
    pub host: String,
    /// Port of the service.
    pub port: u16,
    /// Whether clients may be told the address, for connections that go around the exporter.
    #[serde(default = "enabled")]
    pub enable_address: bool,
}

pub(crate) fn enabled() -> bool {
    true
}

/// Each stream is a TCP connection; half-close works both ways.
#[derive(Debug)]
pub struct TcpNetwork {
    config: HostConfig,
}

// === impl TcpNetwork ===

impl Network for TcpNetwork {
    async fn connect(&self) -> Result<ByteStream> {
        let HostConfig { host, port, .. } = &self.config;
        let address = format!("tcp://{}", host_and_port(host, *port));
        let stream = connect(&address, async {
            let stream = TcpStream::connect((bare_host(host), *port)).await?;
            // Consoles and protocols with small messages wait for each other otherwise.
            stream.set_nodelay(true)?;
            Ok(stream)
        })
        .await?;
        let (reader, writer) = stream.into_split();
        Ok(ByteStream::from_halves(reader, writer))
    }
}

impl NetworkAddress for TcpNetwork {
    async fn address(&self) -> Result<String> {
        address::check_enabled(self.config.enable_address)?;
        Ok(address::resolved("tcp", &self.config.host, self.config.port).await)
    }
}

impl Driver for TcpNetwork {
    const TYPES: &'static [&'static str] = &["jumpstarter_driver_network.driver.TcpNetwork"];
    const SUMMARY: &'static str = "Connections to a TCP port";
    type Config = HostConfig;

    async fn open(config: HostConfig, _: OpenContext) -> Result<Self> {
        Ok(Self { config })
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![network_interface(), network_address_interface()]
    }
}
