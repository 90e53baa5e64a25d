//! Devices that take images (facts: drivers 1.3.2).

use std::collections::BTreeMap;

use jmp_driver::{Resource, Result, interface};

use crate::resource::{Source, Target, TransferOptions, download, upload};

#[cfg(feature = "behaviour")]
pub mod behaviour;

/// Something that images can be written to and read from.
#[interface(client = "jumpstarter_driver_opendal.client.FlasherClient")]
pub trait Flasher: Send + Sync + 'static {
    /// Write an image, to one partition if the device has several.
    async fn flash(&self, source: Resource, partition: Option<String>) -> Result<()>;

    /// Read an image, from one partition if the device has several.
    async fn dump(&self, target: Resource, partition: Option<String>) -> Result<()>;
}

// === impl FlasherClient ===

impl FlasherClient {
    /// Writes an image from a local file or an HTTP address.
    ///
    /// # Errors
    ///
    /// If either side breaks.
    pub async fn flash_from(
        &self,
        source: impl Into<Source>,
        partition: Option<&str>,
        options: &TransferOptions,
    ) -> Result<()> {
        upload(self.handle(), source, options, |resource| {
            self.flash(resource, partition.map(str::to_owned))
        })
        .await
    }

    /// Writes several images, each to its partition, in the order of their names.
    ///
    /// # Errors
    ///
    /// The first one that fails; the message names its partition.
    pub async fn flash_all(
        &self,
        images: BTreeMap<String, Source>,
        options: &TransferOptions,
    ) -> Result<()> {
        for (partition, source) in images {
            self.flash_from(source, Some(&partition), options)
                .await
                .map_err(|error| error.context(format_args!("partition `{partition}`")))?;
        }
        Ok(())
    }

    /// Reads an image into a local file, or lets the exporter send it to an HTTP address.
    ///
    /// # Errors
    ///
    /// If either side breaks.
    pub async fn dump_into(
        &self,
        target: impl Into<Target>,
        partition: Option<&str>,
        options: &TransferOptions,
    ) -> Result<()> {
        download(self.handle(), target, options, |resource| {
            self.dump(resource, partition.map(str::to_owned))
        })
        .await
    }
}
