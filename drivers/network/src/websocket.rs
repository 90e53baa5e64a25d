//! WebSocket connections.

use std::io;

use jmp_driver::{ByteStream, Driver, Error, Interface, OpenContext, Result};
use jmp_interfaces::network::forward::bare_host;
use jmp_interfaces::network::websocket::{byte_stream, io_error};
use jmp_interfaces::network::{
    Network, NetworkAddress, network_address_interface, network_interface,
};
use jmp_wire::tls::{self, TlsConnector, Trust};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_tungstenite::client_async;
use url::Url;

use crate::address;
use crate::connect::connect;
use crate::tcp::enabled;

/// Where a WebSocket service is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct WebsocketConfig {
    /// Address that starts with `ws://` or `wss://`.
    pub url: String,
    /// Whether clients may be told the address, for connections that go around the exporter.
    #[serde(default = "enabled")]
    pub enable_address: bool,
}

/// Each stream is a WebSocket connection: chunks go out as binary messages; binary and text
/// messages come in as chunks. When the client ends its direction the WebSocket is closed,
/// because WebSockets have no half-close.
pub struct WebsocketNetwork {
    config: WebsocketConfig,
    host: String,
    port: u16,
    encrypted: bool,
    /// Reading the certificates of the system takes a while; once is enough.
    connector: OnceCell<TlsConnector>,
}

// === impl WebsocketNetwork ===

impl WebsocketNetwork {
    async fn establish(&self) -> io::Result<ByteStream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let request = self.config.url.as_str();
        if !self.encrypted {
            let (socket, _) = client_async(request, stream).await.map_err(io_error)?;
            return Ok(byte_stream(socket));
        }
        let connector = self.connector.get_or_try_init(connector).await?;
        let name = tls::server_name(&self.host)?;
        let stream = connector.connect(name, stream).await?;
        let (socket, _) = client_async(request, stream).await.map_err(io_error)?;
        Ok(byte_stream(socket))
    }
}

async fn connector() -> io::Result<TlsConnector> {
    tokio::task::spawn_blocking(|| tls::client_for(&Trust::System, Vec::new()))
        .await
        .map_err(io::Error::other)?
}

impl Network for WebsocketNetwork {
    async fn connect(&self) -> Result<ByteStream> {
        connect(&self.config.url, self.establish()).await
    }
}

impl NetworkAddress for WebsocketNetwork {
    async fn address(&self) -> Result<String> {
        address::check_enabled(self.config.enable_address)?;
        Ok(self.config.url.clone())
    }
}

impl Driver for WebsocketNetwork {
    const TYPES: &'static [&'static str] = &["jumpstarter_driver_network.driver.WebsocketNetwork"];
    const SUMMARY: &'static str = "Connections to a WebSocket server";
    type Config = WebsocketConfig;

    async fn open(config: WebsocketConfig, _: OpenContext) -> Result<Self> {
        let refused = |why: &str| {
            Error::configuration(format!(
                "`url`: `{}` {why}; write for example ws://192.0.2.1:8080/path",
                config.url
            ))
        };
        let url =
            Url::parse(&config.url).map_err(|error| refused(&format!("is no URL: {error}")))?;
        let encrypted = match url.scheme() {
            "ws" => false,
            "wss" => true,
            _ => return Err(refused("starts with neither ws:// nor wss://")),
        };
        let host = url.host_str().unwrap_or_default();
        let (Some(port), false) = (url.port_or_known_default(), host.is_empty()) else {
            return Err(refused("names no host"));
        };
        Ok(Self {
            host: bare_host(host).to_owned(),
            port,
            encrypted,
            config,
            connector: OnceCell::new(),
        })
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![network_interface(), network_address_interface()]
    }
}
