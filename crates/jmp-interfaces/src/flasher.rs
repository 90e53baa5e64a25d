//! Devices that take images (facts: drivers 1.3.2).

use jmp_driver::{Resource, Result, interface};

/// Something that images can be written to and read from.
#[interface(client = "jumpstarter_driver_opendal.client.FlasherClient")]
pub trait Flasher: Send + Sync + 'static {
    /// Write an image, to one partition if the device has several.
    async fn flash(&self, source: Resource, partition: Option<String>) -> Result<()>;

    /// Read an image, from one partition if the device has several.
    async fn dump(&self, target: Resource, partition: Option<String>) -> Result<()>;
}
