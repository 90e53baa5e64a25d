//! Storage that is connected either to the exporter or to the device (facts: drivers 1.3.3).

use std::path::Path;

use jmp_driver::{Resource, Result, interface};

use crate::resource::{Source, Target, TransferOptions, download, upload};

#[cfg(feature = "behaviour")]
pub mod behaviour;

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

/// Marks a storage multiplexer whose client switches it to the device by itself after writing.
/// A driver lists this interface first and [`StorageMux`] second: the methods are the same.
#[interface(client = "jumpstarter_driver_opendal.client.StorageMuxFlasherClient")]
pub trait StorageMuxFlasher: Send + Sync + 'static {}

// === impl StorageMuxClient ===

impl StorageMuxClient {
    /// Writes a source to the storage, which must be connected to the exporter.
    ///
    /// # Errors
    ///
    /// If either side breaks, or the storage is elsewhere.
    pub async fn write_from(
        &self,
        source: impl Into<Source>,
        options: &TransferOptions,
    ) -> Result<()> {
        upload(self.handle(), source, options, |resource| {
            self.write(resource)
        })
        .await
    }

    /// Reads the whole storage, which must be connected to the exporter.
    ///
    /// # Errors
    ///
    /// If either side breaks, or the storage is elsewhere.
    pub async fn read_into(
        &self,
        target: impl Into<Target>,
        options: &TransferOptions,
    ) -> Result<()> {
        download(self.handle(), target, options, |resource| {
            self.read(resource)
        })
        .await
    }

    /// Writes a local file to the storage.
    ///
    /// # Errors
    ///
    /// As for [`Self::write_from`].
    pub async fn write_local_file(&self, path: impl AsRef<Path>) -> Result<()> {
        self.write_from(path.as_ref(), &TransferOptions::default())
            .await
    }

    /// Reads the whole storage into a local file.
    ///
    /// # Errors
    ///
    /// As for [`Self::read_into`].
    pub async fn read_local_file(&self, path: impl AsRef<Path>) -> Result<()> {
        self.read_into(path.as_ref(), &TransferOptions::default())
            .await
    }
}

// === impl StorageMuxFlasherClient ===

impl StorageMuxFlasherClient {
    /// The same storage without the steps of a flasher.
    pub fn storage_mux(&self) -> StorageMuxClient {
        StorageMuxClient::new(self.handle().clone())
    }

    /// Connects the storage to the exporter, writes the image, and connects the storage to the
    /// device, also after a failure.
    ///
    /// # Errors
    ///
    /// The first step that fails.
    pub async fn flash_from(
        &self,
        source: impl Into<Source>,
        options: &TransferOptions,
    ) -> Result<()> {
        let storage = self.storage_mux();
        storage.host().await?;
        let written = storage.write_from(source, options).await;
        let switched = storage.dut().await;
        written.and(switched)
    }

    /// Connects the storage to the exporter, reads it, and connects it to the device, also after
    /// a failure.
    ///
    /// # Errors
    ///
    /// The first step that fails.
    pub async fn dump_into(
        &self,
        target: impl Into<Target>,
        options: &TransferOptions,
    ) -> Result<()> {
        let storage = self.storage_mux();
        storage.host().await?;
        let read = storage.read_into(target, options).await;
        let switched = storage.dut().await;
        read.and(switched)
    }
}
