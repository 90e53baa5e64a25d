//! Networks: TCP, UDP, Unix, echo, WebSocket, vsock and D-Bus (facts: drivers 1.2).
//!
//! The interfaces and the client-side adapters are in [`jmp_interfaces::network`]; this crate
//! holds the drivers, one file each, and the commands of `j`. Each stream is a connection of its
//! own, made when the stream is opened, so a service that is down fails the stream and not the
//! exporter. No connection attempt takes longer than [`CONNECT_TIMEOUT`].

mod address;
pub mod commands;
mod connect;
mod dbus;
mod echo;
mod tcp;
mod udp;
mod unix;
#[cfg(target_os = "linux")]
mod vsock;
mod websocket;

pub use connect::CONNECT_TIMEOUT;
pub use dbus::{BusAddress, DbusConfig, DbusNetwork};
pub use echo::{EchoConfig, EchoNetwork};
pub use tcp::{HostConfig, TcpNetwork};
pub use udp::UdpNetwork;
pub use unix::{UnixConfig, UnixNetwork};
#[cfg(target_os = "linux")]
pub use vsock::{VsockConfig, VsockNetwork};
pub use websocket::{WebsocketConfig, WebsocketNetwork};

use jmp_driver::Registry;
use jmp_driver::command::ClientRegistry;

/// Adds the drivers of this crate.
pub fn register(registry: &mut Registry) {
    registry
        .add::<TcpNetwork>()
        .add::<UdpNetwork>()
        .add::<UnixNetwork>()
        .add::<EchoNetwork>()
        .add::<WebsocketNetwork>()
        .add::<DbusNetwork>();
    #[cfg(target_os = "linux")]
    registry.add::<VsockNetwork>();
}

/// Adds the client types of this crate.
pub fn register_clients(registry: &mut ClientRegistry) {
    registry.add(commands::NETWORK).add(commands::DBUS);
}
