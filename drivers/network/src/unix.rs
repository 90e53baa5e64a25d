//! Unix stream sockets.

use std::path::PathBuf;

use jmp_driver::{ByteStream, Driver, Interface, OpenContext, Result};
use jmp_interfaces::network::{Network, network_interface};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::UnixStream;

use crate::connect::connect;

/// Where a unix socket is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct UnixConfig {
    /// Path of the socket on the exporter's machine.
    pub path: PathBuf,
}

/// Each stream is a connection to a unix socket; half-close works both ways.
#[derive(Debug)]
pub struct UnixNetwork {
    config: UnixConfig,
}

// === impl UnixNetwork ===

impl Network for UnixNetwork {
    async fn connect(&self) -> Result<ByteStream> {
        let path = &self.config.path;
        let address = format!("unix:{}", path.display());
        let stream = connect(&address, UnixStream::connect(path)).await?;
        let (reader, writer) = stream.into_split();
        Ok(ByteStream::from_halves(reader, writer))
    }
}

impl Driver for UnixNetwork {
    const TYPES: &'static [&'static str] = &["jumpstarter_driver_network.driver.UnixNetwork"];
    const SUMMARY: &'static str = "Connections to a unix socket";
    type Config = UnixConfig;

    async fn open(config: UnixConfig, _: OpenContext) -> Result<Self> {
        Ok(Self { config })
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![network_interface()]
    }
}
