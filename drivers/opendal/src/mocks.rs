//! Storage and flashers that only keep files.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::PathBuf;

use jmp_driver::{Driver, Error, Interface, OpenContext, Resource, Result};
use jmp_interfaces::flasher::{Flasher, flasher_interface};
use jmp_interfaces::storage_mux::{
    StorageMux, StorageMuxFlasher, storage_mux_flasher_interface, storage_mux_interface,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::sync::Mutex;

/// Partition of an image that names none.
const DEFAULT_PARTITION: &str = "default";

/// Nothing to configure.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct MockConfig {}

/// Keeps each partition in a file of a private directory, which goes with the session.
#[derive(Debug)]
pub struct MockFlasher {
    directory: TempDir,
    /// Held while an image is moved: a partition has one user at a time.
    in_use: Mutex<()>,
}

// === impl MockFlasher ===

impl MockFlasher {
    fn path(&self, partition: Option<&str>) -> Result<PathBuf> {
        let name = partition.unwrap_or(DEFAULT_PARTITION);
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
            return Err(Error::invalid_argument(format!(
                "`{name}` is no name of a partition"
            )));
        }
        Ok(self.directory.path().join(name))
    }
}

impl Flasher for MockFlasher {
    async fn flash(&self, source: Resource, partition: Option<String>) -> Result<()> {
        let path = self.path(partition.as_deref())?;
        let _in_use = self.in_use.lock().await;
        let image = tempfile::NamedTempFile::new_in(self.directory.path())?;
        source.save(image.as_file().try_clone()?).await?;
        image
            .persist(path)
            .map_err(|error| Error::from(error.error))?;
        Ok(())
    }

    async fn dump(&self, target: Resource, partition: Option<String>) -> Result<()> {
        let path = self.path(partition.as_deref())?;
        let _in_use = self.in_use.lock().await;
        let file = File::open(&path).map_err(|error| {
            let name = partition.as_deref().unwrap_or(DEFAULT_PARTITION);
            Error::other(format!("partition `{name}` was never flashed: {error}"))
        })?;
        target.send(file).await.map(drop)
    }
}

impl Driver for MockFlasher {
    const TYPES: &'static [&'static str] = &["jumpstarter_driver_opendal.driver.MockFlasher"];
    const SUMMARY: &'static str = "Flasher that keeps images in files";
    type Config = MockConfig;

    async fn open(_: MockConfig, _: OpenContext) -> Result<Self> {
        Ok(Self {
            directory: tempfile::Builder::new().prefix("jmp-flasher-").tempdir()?,
            in_use: Mutex::default(),
        })
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![flasher_interface()]
    }
}

/// Keeps the storage in one file, which goes with the session. Its position is not looked at.
#[derive(Debug)]
pub struct MockStorageMux {
    card: Mutex<File>,
}

/// [`MockStorageMux`] whose client switches by itself.
#[derive(Debug)]
pub struct MockStorageMuxFlasher(MockStorageMux);

// === impl MockStorageMux ===

impl MockStorageMux {
    fn new() -> Result<Self> {
        Ok(Self {
            card: tempfile::tempfile()?.into(),
        })
    }
}

impl StorageMux for MockStorageMux {
    async fn host(&self) -> Result<()> {
        Ok(())
    }

    async fn dut(&self) -> Result<()> {
        Ok(())
    }

    async fn off(&self) -> Result<()> {
        Ok(())
    }

    async fn write(&self, source: Resource) -> Result<()> {
        let card = self.card.lock().await;
        let start = at_start(&card, true).await?;
        source.save(start).await.map(drop)
    }

    async fn read(&self, target: Resource) -> Result<()> {
        let card = self.card.lock().await;
        let start = at_start(&card, false).await?;
        target.send(start).await.map(drop)
    }
}

/// The card from its start, emptied first if it is to be written. Emptying a large file takes
/// long enough to be done elsewhere.
async fn at_start(card: &File, empty: bool) -> Result<File> {
    let mut card = card.try_clone()?;
    let prepared = tokio::task::spawn_blocking(move || {
        if empty {
            card.set_len(0)?;
        }
        card.seek(SeekFrom::Start(0))?;
        Ok::<_, std::io::Error>(card)
    });
    let card = prepared
        .await
        .map_err(|error| Error::other(error.to_string()))?;
    Ok(card?)
}

impl Driver for MockStorageMux {
    const TYPES: &'static [&'static str] = &["jumpstarter_driver_opendal.driver.MockStorageMux"];
    const SUMMARY: &'static str = "Storage multiplexer that keeps the storage in a file";
    type Config = MockConfig;

    async fn open(_: MockConfig, _: OpenContext) -> Result<Self> {
        Self::new()
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![storage_mux_interface()]
    }
}

// === impl MockStorageMuxFlasher ===

impl StorageMuxFlasher for MockStorageMuxFlasher {}

impl StorageMux for MockStorageMuxFlasher {
    async fn host(&self) -> Result<()> {
        self.0.host().await
    }

    async fn dut(&self) -> Result<()> {
        self.0.dut().await
    }

    async fn off(&self) -> Result<()> {
        self.0.off().await
    }

    async fn write(&self, source: Resource) -> Result<()> {
        self.0.write(source).await
    }

    async fn read(&self, target: Resource) -> Result<()> {
        self.0.read(target).await
    }
}

impl Driver for MockStorageMuxFlasher {
    const TYPES: &'static [&'static str] =
        &["jumpstarter_driver_opendal.driver.MockStorageMuxFlasher"];
    const SUMMARY: &'static str = "MockStorageMux as a flasher";
    type Config = MockConfig;

    async fn open(_: MockConfig, _: OpenContext) -> Result<Self> {
        MockStorageMux::new().map(Self)
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![storage_mux_flasher_interface(), storage_mux_interface()]
    }
}
