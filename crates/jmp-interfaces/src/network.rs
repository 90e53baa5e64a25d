//! Connections to something behind the exporter (facts: drivers 1.2).

use jmp_driver::{ByteStream, Result, interface};

/// A way to a network service: each stream is a new connection.
#[interface(client = "jumpstarter_driver_network.client.NetworkClient")]
pub trait Network: Send + Sync + 'static {
    /// Connect.
    #[stream]
    async fn connect(&self) -> Result<ByteStream>;
}

/// A network service whose address a client may be told.
#[interface(client = "jumpstarter_driver_network.client.NetworkClient")]
pub trait NetworkAddress: Send + Sync + 'static {
    /// Where the service is, for example `tcp://192.0.2.1:22`.
    async fn address(&self) -> Result<String>;
}
