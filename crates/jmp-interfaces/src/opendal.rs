//! Files of an exporter, through OpenDAL (facts: drivers 1.3.1).

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::Stream;
use jmp_driver::{Resource, ResourceHandle, Result, interface};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::resource::{Source, Target, TransferOptions, download, upload};

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OpenMode {
    /// To read; it must exist.
    #[serde(rename = "rb")]
    Read,
    /// To write, from its start; what was there is gone.
    #[serde(rename = "wb")]
    Write,
}

/// How the content of a file is condensed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HashAlgorithm {
    /// SHA-256.
    #[default]
    Sha256,
    /// MD5, for comparison with old lists only.
    Md5,
}

/// What kind of entry a path leads to. Both are false for a device, a socket and the like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EntryMode {
    /// A file.
    pub entry_is_file: bool,
    /// A directory.
    pub entry_is_dir: bool,
}

/// What is known about an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Metadata {
    /// `Content-Disposition`, from services that keep one.
    pub content_disposition: Option<String>,
    /// Size in bytes.
    pub content_length: u64,
    /// `Content-MD5`, from services that keep one.
    pub content_md5: Option<String>,
    /// `Content-Type`, from services that keep one.
    pub content_type: Option<String>,
    /// `ETag`, from services that keep one.
    pub etag: Option<String>,
    /// What kind of entry it is.
    pub mode: EntryMode,
}

/// An HTTP request that needs no further credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PresignedRequest {
    /// Absolute address.
    pub url: String,
    /// `GET`, `PUT` or `HEAD`.
    pub method: String,
    /// Headers to send with it.
    pub headers: BTreeMap<String, String>,
}

/// What a service can do. Shipped clients expect exactly these keys (observed on 0.9.0).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the names are those of OpenDAL, which explains them"
)]
pub struct Capability {
    pub stat: bool,
    pub stat_with_if_match: bool,
    pub stat_with_if_none_match: bool,
    pub read: bool,
    pub read_with_if_match: bool,
    pub read_with_if_none_match: bool,
    pub read_with_override_cache_control: bool,
    pub read_with_override_content_disposition: bool,
    pub read_with_override_content_type: bool,
    pub write: bool,
    pub write_can_multi: bool,
    pub write_can_empty: bool,
    pub write_can_append: bool,
    pub write_with_content_type: bool,
    pub write_with_content_disposition: bool,
    pub write_with_cache_control: bool,
    pub write_multi_max_size: Option<u64>,
    pub write_multi_min_size: Option<u64>,
    pub write_total_max_size: Option<u64>,
    pub create_dir: bool,
    pub delete: bool,
    pub copy: bool,
    pub rename: bool,
    pub list: bool,
    pub list_with_limit: bool,
    pub list_with_start_after: bool,
    pub list_with_recursive: bool,
    pub presign: bool,
    pub presign_read: bool,
    pub presign_stat: bool,
    pub presign_write: bool,
    pub shared: bool,
    pub blocking: bool,
}

/// Files of an exporter. Paths are relative to the root of the service; directories end in `/`.
#[interface(client = "jumpstarter_driver_opendal.client.OpendalClient")]
pub trait Opendal: Send + Sync + 'static {
    /// Open a file; the answer identifies it in the calls that begin with `file`.
    async fn open(&self, path: String, mode: OpenMode) -> Result<Uuid>;

    /// Send a file to a resource, from the current position to the end.
    async fn file_read(&self, fd: Uuid, target: Resource) -> Result<()>;

    /// Append the data of a resource to a file.
    async fn file_write(&self, fd: Uuid, source: Resource) -> Result<()>;

    /// Move the position of a file that is read, counted from the start (0), the current
    /// position (1) or the end (2). The answer is the new position.
    async fn file_seek(&self, fd: Uuid, position: i64, #[default(0)] whence: u8) -> Result<u64>;

    /// Tell the position of a file.
    async fn file_tell(&self, fd: Uuid) -> Result<u64>;

    /// Close a file; what was written is complete then.
    async fn file_close(&self, fd: Uuid) -> Result<()>;

    /// Tell whether a file is closed.
    async fn file_closed(&self, fd: Uuid) -> Result<bool>;

    /// Tell whether a file can be read.
    async fn file_readable(&self, fd: Uuid) -> Result<bool>;

    /// Tell whether the position of a file can be moved.
    async fn file_seekable(&self, fd: Uuid) -> Result<bool>;

    /// Tell whether a file can be written.
    async fn file_writable(&self, fd: Uuid) -> Result<bool>;

    /// Tell what is known about an entry.
    async fn stat(&self, path: String) -> Result<Metadata>;

    /// Condense the content of a file, in hexadecimal digits.
    async fn hash(
        &self,
        path: String,
        #[default(HashAlgorithm::Sha256)] algo: HashAlgorithm,
    ) -> Result<String>;

    /// Copy a file.
    async fn copy(&self, source: String, target: String) -> Result<()>;

    /// Rename a file.
    async fn rename(&self, source: String, target: String) -> Result<()>;

    /// Remove an entry and everything below it.
    async fn remove_all(&self, path: String) -> Result<()>;

    /// Create a directory and those above it; the path ends in `/`.
    async fn create_dir(&self, path: String) -> Result<()>;

    /// Remove a file or an empty directory; nothing happens if there is none.
    async fn delete(&self, path: String) -> Result<()>;

    /// Tell whether there is such an entry.
    async fn exists(&self, path: String) -> Result<bool>;

    /// List a directory: itself and what is in it.
    fn list(&self, path: String) -> impl Stream<Item = Result<String>> + Send;

    /// List a directory with everything below it.
    fn scan(&self, path: String) -> impl Stream<Item = Result<String>> + Send;

    /// Make an HTTP request that asks about an entry, good for this many seconds.
    async fn presign_stat(&self, path: String, expire_second: u64) -> Result<PresignedRequest>;

    /// Make an HTTP request that reads a file, good for this many seconds.
    async fn presign_read(&self, path: String, expire_second: u64) -> Result<PresignedRequest>;

    /// Make an HTTP request that writes a file, good for this many seconds.
    async fn presign_write(&self, path: String, expire_second: u64) -> Result<PresignedRequest>;

    /// Tell what the service can do.
    async fn capability(&self) -> Result<Capability>;

    /// Tell which paths were made through this driver and not removed again.
    async fn get_created_resources(&self) -> Result<Vec<String>>;

    /// Count a path as made through this driver.
    async fn register_path(&self, path: String) -> Result<()>;
}

// === impl PresignedRequest ===

impl From<PresignedRequest> for ResourceHandle {
    fn from(request: PresignedRequest) -> Self {
        Self::PresignedRequest {
            headers: request.headers,
            url: request.url,
            method: request.method,
        }
    }
}

// === impl OpendalClient ===

impl OpendalClient {
    /// Opens a file; close it when done.
    ///
    /// # Errors
    ///
    /// If there is no such file to read, or it cannot be created.
    pub async fn open_file(&self, path: &str, mode: OpenMode) -> Result<OpendalFile> {
        let descriptor = self.open(path.to_owned(), mode).await?;
        Ok(OpendalFile {
            client: OpendalClient::new(self.handle().clone()),
            descriptor,
        })
    }

    /// Replaces the content of a file by data in memory.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub async fn write_bytes(&self, path: &str, data: impl Into<Bytes>) -> Result<()> {
        let source = Source::Bytes(data.into());
        self.write_from_path(path, source, &TransferOptions::default())
            .await
    }

    /// Reads a file into memory.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub async fn read_bytes(&self, path: &str) -> Result<Vec<u8>> {
        let file = self.open_file(path, OpenMode::Read).await?;
        let read = file.read_bytes().await;
        file.finish(read).await
    }

    /// Replaces the content of a file by a local file, or what an HTTP address has. A file that
    /// cannot be written to its end is removed.
    ///
    /// # Errors
    ///
    /// If either side breaks.
    pub async fn write_from_path(
        &self,
        destination: &str,
        source: impl Into<Source>,
        options: &TransferOptions,
    ) -> Result<()> {
        let file = self.open_file(destination, OpenMode::Write).await?;
        let written = file.write_from(source, options).await;
        let written = file.finish(written).await;
        if written.is_err() {
            self.remove_torn(destination).await;
        }
        written
    }

    /// Removes what a failed transfer left, unless it is a device. Best effort: the transfer has
    /// an error of its own.
    async fn remove_torn(&self, path: &str) {
        let metadata = self.stat(path.to_owned()).await;
        if metadata.is_ok_and(|metadata| metadata.mode.entry_is_file) {
            let _ = self.delete(path.to_owned()).await;
        }
    }

    /// Copies a file into a local file, or to an HTTP address.
    ///
    /// # Errors
    ///
    /// If either side breaks.
    pub async fn read_into_path(
        &self,
        source: &str,
        destination: impl Into<Target>,
        options: &TransferOptions,
    ) -> Result<()> {
        let file = self.open_file(source, OpenMode::Read).await?;
        let read = file.read_into(destination, options).await;
        file.finish(read).await
    }
}

/// An open file of an exporter, made by [`OpendalClient::open_file`].
#[derive(Debug)]
pub struct OpendalFile {
    client: OpendalClient,
    descriptor: Uuid,
}

// === impl OpendalFile ===

impl OpendalFile {
    /// Closes after a transfer; the transfer's error comes first.
    async fn finish<R>(self, result: Result<R>) -> Result<R> {
        let closed = self.close().await;
        let result = result?;
        closed.map(|()| result)
    }

    /// Identifies the file in calls.
    pub fn descriptor(&self) -> Uuid {
        self.descriptor
    }

    /// Appends data.
    ///
    /// # Errors
    ///
    /// If either side breaks; the file cannot be used any further then.
    pub async fn write_from(
        &self,
        source: impl Into<Source>,
        options: &TransferOptions,
    ) -> Result<()> {
        upload(self.client.handle(), source, options, |resource| {
            self.client.file_write(self.descriptor, resource)
        })
        .await
    }

    /// Reads from the current position to the end.
    ///
    /// # Errors
    ///
    /// If either side breaks.
    pub async fn read_into(
        &self,
        target: impl Into<Target>,
        options: &TransferOptions,
    ) -> Result<()> {
        download(self.client.handle(), target, options, |resource| {
            self.client.file_read(self.descriptor, resource)
        })
        .await
    }

    /// Appends data in memory.
    ///
    /// # Errors
    ///
    /// As for [`Self::write_from`].
    pub async fn write_bytes(&self, data: impl Into<Bytes>) -> Result<()> {
        self.write_from(Source::Bytes(data.into()), &TransferOptions::default())
            .await
    }

    /// Reads from the current position to the end, into memory.
    ///
    /// # Errors
    ///
    /// As for [`Self::read_into`].
    pub async fn read_bytes(&self) -> Result<Vec<u8>> {
        let (target, data) = Target::memory();
        let options = TransferOptions::default();
        let (read, data) = futures::join!(self.read_into(target, &options), data);
        read.map(|()| data)
    }

    /// Moves the position; see [`Opendal::file_seek`].
    ///
    /// # Errors
    ///
    /// If the file is written, or the position would lie before its start.
    pub async fn seek(&self, position: std::io::SeekFrom) -> Result<u64> {
        let (position, whence) = match position {
            std::io::SeekFrom::Start(position) => (i64::try_from(position).unwrap_or(i64::MAX), 0),
            std::io::SeekFrom::Current(offset) => (offset, 1),
            std::io::SeekFrom::End(offset) => (offset, 2),
        };
        self.client
            .file_seek(self.descriptor, position, whence)
            .await
    }

    /// The position.
    ///
    /// # Errors
    ///
    /// If the file is closed.
    pub async fn tell(&self) -> Result<u64> {
        self.client.file_tell(self.descriptor).await
    }

    /// Closes the file; what was written is complete then.
    ///
    /// # Errors
    ///
    /// If the data cannot be completed.
    pub async fn close(&self) -> Result<()> {
        self.client.file_close(self.descriptor).await
    }

    /// Whether the file is closed.
    ///
    /// # Errors
    ///
    /// If the exporter cannot be reached.
    pub async fn is_closed(&self) -> Result<bool> {
        self.client.file_closed(self.descriptor).await
    }

    /// Whether the file can be read.
    ///
    /// # Errors
    ///
    /// If the exporter cannot be reached.
    pub async fn is_readable(&self) -> Result<bool> {
        self.client.file_readable(self.descriptor).await
    }

    /// Whether the position can be moved.
    ///
    /// # Errors
    ///
    /// If the exporter cannot be reached.
    pub async fn is_seekable(&self) -> Result<bool> {
        self.client.file_seekable(self.descriptor).await
    }

    /// Whether the file can be written.
    ///
    /// # Errors
    ///
    /// If the exporter cannot be reached.
    pub async fn is_writable(&self) -> Result<bool> {
        self.client.file_writable(self.descriptor).await
    }
}
