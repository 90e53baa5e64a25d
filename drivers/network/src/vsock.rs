//! Sockets between a virtual machine and its host.

use jmp_driver::{ByteStream, Driver, Interface, OpenContext, Result};
use jmp_interfaces::network::{Network, network_interface};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_vsock::{VsockAddr, VsockStream};

use crate::connect::connect;

/// Where a vsock service is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct VsockConfig {
    /// Context id of the machine: 1 is the exporter's own, 2 the host of a virtual machine,
    /// from 3 on the virtual machines of a host.
    pub cid: u32,
    /// Port of the service.
    pub port: u32,
}

/// Each stream is a vsock connection; half-close works both ways.
#[derive(Debug)]
pub struct VsockNetwork {
    config: VsockConfig,
}

// === impl VsockNetwork ===

impl Network for VsockNetwork {
    async fn connect(&self) -> Result<ByteStream> {
        let VsockConfig { cid, port } = self.config;
        let connecting = VsockStream::connect(VsockAddr::new(cid, port));
        let stream = connect(&format!("vsock:{cid}:{port}"), connecting).await?;
        Ok(ByteStream::from_io(stream))
    }
}

impl Driver for VsockNetwork {
    const TYPES: &'static [&'static str] = &["jumpstarter_driver_network.driver.VsockNetwork"];
    const SUMMARY: &'static str = "Connections to a port of a virtual machine or its host";
    type Config = VsockConfig;

    async fn open(config: VsockConfig, _: OpenContext) -> Result<Self> {
        Ok(Self { config })
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![network_interface()]
    }
}
