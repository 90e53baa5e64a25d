//! Storage that is connected either to the exporter or to the device (facts: drivers 1.3.3).

use jmp_driver::{Resource, Result, interface};

/// A storage multiplexer.
#[interface(client = "jumpstarter_driver_opendal.client.StorageMuxClient")]
pub trait StorageMux: Send + Sync + 'static {
    /// Connect the storage to the exporter.
    async fn host(&self) -> Result<()>;

    /// Connect the storage to the device.
    async fn dut(&self) -> Result<()>;

    /// Disconnect the storage from both.
    async fn off(&self) -> Result<()>;

    /// Write the data of a resource to the storage, from its start.
    async fn write(&self, source: Resource) -> Result<()>;

    /// Write the whole storage to a resource.
    async fn read(&self, target: Resource) -> Result<()>;
}
