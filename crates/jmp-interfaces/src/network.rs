//! Connections to something behind the exporter (facts: drivers 1.2), and what a client can
//! make of them.
//!
//! The adapters work with any driver that offers a byte stream, not only with networks:
//! [`forward`] makes it a local TCP port or unix socket, [`novnc`] a local WebSocket, [`dbus`]
//! and [`ssh`] serve programs that know how to use such a port.

#[cfg(feature = "behaviour")]
pub mod behaviour;
pub mod dbus;
pub mod forward;
pub mod novnc;
pub mod ssh;
pub mod websocket;

use jmp_driver::{ByteStream, Result, interface};

/// Dotted client class of every network but D-Bus.
pub const NETWORK_CLASS: &str = "jumpstarter_driver_network.client.NetworkClient";

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
