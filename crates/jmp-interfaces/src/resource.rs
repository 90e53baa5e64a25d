//! Lending data to a driver call, from the client's side.
//!
//! [`upload`] and [`download`] open a resource on a driver, make a call with its handle and move
//! the data meanwhile. Three rules hold for both:
//!
//! * The call decides. Its error is reported, not the broken stream that follows from it, and its
//!   success ends the transfer.
//! * Trouble on this side cancels the call *before* it ends the stream, so that a driver never
//!   takes a torn image for a complete one.
//! * The stream is cancelled when all is done: shipped exporters never end it by themselves.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use jmp_driver::resource::{read_file, write_file};
use jmp_driver::{
    ByteReader, ByteStream, ByteWriter, DriverHandle, Encoding, Error, ErrorKind, ResourceHandle,
    Result, compression,
};

/// How long the last data may take to arrive once a call has ended.
const DRAIN_TIME: Duration = Duration::from_secs(60);

/// How far a transfer is, in bytes of this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Moved so far.
    pub done: u64,
    /// What there is to move, if that is known.
    pub total: Option<u64>,
}

/// Is told after each chunk how far a transfer is. Must return at once.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// What a transfer may be asked besides where from and where to.
#[derive(Clone, Default)]
pub struct TransferOptions {
    /// How the data on this side is compressed: the driver sees it decompressed. Has no meaning
    /// for HTTP addresses, whose answers say so themselves.
    pub compression: Option<Encoding>,
    /// Is told how far it is.
    pub progress: Option<ProgressSink>,
}

/// Data that a driver may read.
pub enum Source {
    /// A file of this machine.
    File(PathBuf),
    /// Data in memory.
    Bytes(Bytes),
    /// A stream, and how long it is if that is known.
    Stream(ByteReader, Option<u64>),
    /// An HTTP request that the exporter performs.
    Http(ResourceHandle),
}

/// A place that a driver may write to.
pub enum Target {
    /// A file of this machine; it is created, or emptied first. A new file is removed again if
    /// the transfer fails.
    File(PathBuf),
    /// A stream; it is closed at the end.
    Stream(ByteWriter),
    /// An HTTP request that the exporter performs.
    Http(ResourceHandle),
}

fn request(url: &str, method: &str) -> Option<ResourceHandle> {
    // The address goes out as it is: it may be signed.
    let http = url.starts_with("http://") || url.starts_with("https://");
    http.then(|| ResourceHandle::PresignedRequest {
        headers: Default::default(),
        url: url.to_owned(),
        method: method.to_owned(),
    })
}

// === impl Source ===

impl Source {
    /// An HTTP address, which the exporter reads itself, or else a file of this machine.
    pub fn parse(text: &str) -> Self {
        request(text, "GET").map_or_else(|| Self::File(text.into()), Self::Http)
    }

    /// Opens the data: a reader, and its length if that is known.
    async fn open(self) -> Result<Opened> {
        Ok(match self {
            Self::Http(handle) => Opened::Http(handle),
            Self::Stream(reader, size) => Opened::Data(reader, size),
            Self::Bytes(bytes) => {
                let size = Some(bytes.len() as u64);
                Opened::Data(Box::pin(futures::stream::iter([Ok(bytes)])), size)
            }
            Self::File(path) => {
                let file = tokio::fs::File::open(&path)
                    .await
                    .map_err(|error| local("opening", &path, error))?;
                let metadata = file
                    .metadata()
                    .await
                    .map_err(|error| local("opening", &path, error))?;
                if metadata.is_dir() {
                    return Err(Error::invalid_argument(format!(
                        "{} is a directory; name a file",
                        path.display()
                    )));
                }
                let size = metadata.is_file().then_some(metadata.len());
                Opened::Data(read_file(file.into_std().await), size)
            }
        })
    }
}

enum Opened {
    Data(ByteReader, Option<u64>),
    Http(ResourceHandle),
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<Bytes> for Source {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

// === impl Target ===

impl Target {
    /// An HTTP address, which the exporter writes to itself, or else a file of this machine.
    pub fn parse(text: &str) -> Self {
        request(text, "PUT").map_or_else(|| Self::File(text.into()), Self::Http)
    }

    /// A target in memory, and a future of what it gets. Run the future beside the transfer:
    /// only little fits in between.
    pub fn memory() -> (Self, impl Future<Output = Vec<u8>> + Send) {
        let (near, far) = ByteStream::pair(4);
        let mut reader = far.reader;
        let collect = async move {
            let mut all = Vec::new();
            // A stream in memory does not fail.
            while let Some(Ok(chunk)) = reader.next().await {
                all.extend_from_slice(&chunk);
            }
            all
        };
        (Self::Stream(near.writer), collect)
    }
}

impl From<PathBuf> for Target {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&Path> for Target {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

/// Lends `source` to a call on `driver` that reads it.
///
/// `call` gets the handle to pass on. What it returns is returned here; a driver that is content
/// with a part of the data is not an error.
///
/// # Errors
///
/// Those of the call, and of reading the source.
pub async fn upload<F, R>(
    driver: &DriverHandle,
    source: impl Into<Source>,
    options: &TransferOptions,
    call: impl FnOnce(ResourceHandle) -> F,
) -> Result<R>
where
    F: Future<Output = Result<R>>,
{
    let (reader, size) = match source.into().open().await? {
        Opened::Data(reader, size) => (reader, size),
        Opened::Http(handle) => return call(without_compression(handle, options)?).await,
    };
    let (resource, stream, transcode) = open(driver, options).await?;
    let reader = observed(reader, size, options);
    let reader = match transcode {
        Some(encoding) => compression::decode(encoding, reader),
        None => reader,
    };
    let ByteStream {
        reader: answers,
        mut writer,
    } = stream;
    let result = {
        let mut call = pin!(call(resource));
        tokio::select! {
            biased;
            result = &mut call => result,
            sent = send(reader, &mut writer) => match sent {
                Ok(()) => call.await,
                // Leaving this block cancels the call, before the stream is dropped.
                Err(error) => Err(error.context("reading the local data")),
            },
        }
    };
    // Cancels the stream.
    drop((answers, writer));
    result
}

/// Sends everything. A stream that the exporter does not want any more is no error here: the
/// call will tell.
async fn send(mut reader: ByteReader, writer: &mut ByteWriter) -> Result<()> {
    while let Some(chunk) = reader.next().await {
        if writer.send(chunk?).await.is_err() {
            return Ok(());
        }
    }
    let _ = writer.close().await;
    Ok(())
}

/// Lends `target` to a call on `driver` that writes it.
///
/// `call` gets the handle to pass on. Returns once the call and the data have both ended.
///
/// # Errors
///
/// Those of the call, and of writing the target.
pub async fn download<F, R>(
    driver: &DriverHandle,
    target: impl Into<Target>,
    options: &TransferOptions,
    call: impl FnOnce(ResourceHandle) -> F,
) -> Result<R>
where
    F: Future<Output = Result<R>>,
{
    let target = match target.into() {
        Target::Http(handle) => return call(without_compression(handle, options)?).await,
        target => target,
    };
    let (resource, stream, transcode) = open(driver, options).await?;
    let ByteStream { reader, mut writer } = stream;
    let _ = writer.close().await;
    let broken = Arc::new(AtomicBool::new(false));
    let reader = watched(reader, Arc::clone(&broken));
    let reader = match transcode {
        Some(encoding) => compression::encode(encoding, reader),
        None => reader,
    };
    let reader = observed(reader, None, options);
    let (sink, guard) = Sink::open(target).await?;
    let result = receive(call(resource), sink.fill(reader), &broken).await;
    if result.is_ok() {
        guard.keep();
    }
    result
}

/// Waits for a call and its data; see the rules of the module.
async fn receive<R>(
    call: impl Future<Output = Result<R>>,
    filling: impl Future<Output = Result<()>>,
    broken: &AtomicBool,
) -> Result<R> {
    let mut call = pin!(call);
    let mut filling = pin!(filling);
    tokio::select! {
        result = &mut call => {
            let result = result?;
            match tokio::time::timeout(DRAIN_TIME, filling).await {
                Ok(filled) => filled.map(|()| result),
                Err(_) => Err(Error::timeout(format!(
                    "the driver finished, but its data did not end within {} s",
                    DRAIN_TIME.as_secs()
                ))),
            }
        }
        filled = &mut filling => match filled {
            Ok(()) => call.await,
            Err(error) if broken.load(Ordering::Relaxed) => {
                // The call knows better why.
                call.await?;
                Err(error)
            }
            Err(error) => Err(error.context("writing the local data")),
        },
    }
}

fn watched(reader: ByteReader, broken: Arc<AtomicBool>) -> ByteReader {
    Box::pin(reader.inspect(move |item| {
        if item.is_err() {
            broken.store(true, Ordering::Relaxed);
        }
    }))
}

enum Sink {
    File(std::fs::File),
    Stream(ByteWriter),
}

/// Removes a new file unless it is told to keep it.
struct NewFile(Option<PathBuf>);

impl NewFile {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // Nothing can be done about it, and the transfer has an error of its own.
            let _ = std::fs::remove_file(path);
        }
    }
}

// === impl Sink ===

impl Sink {
    async fn open(target: Target) -> Result<(Self, NewFile)> {
        let path = match target {
            Target::Stream(writer) => return Ok((Self::Stream(writer), NewFile(None))),
            Target::File(path) => path,
            Target::Http(_) => {
                return Err(Error::invalid_argument(
                    "an HTTP address is written by the exporter",
                ));
            }
        };
        let mut options = tokio::fs::File::options();
        options.write(true);
        let created = options.clone().create_new(true).open(&path).await;
        let (file, new) = match created {
            Ok(file) => (Ok(file), Some(path.clone())),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                (options.create(true).truncate(true).open(&path).await, None)
            }
            Err(error) => (Err(error), None),
        };
        let file = file.map_err(|error| local("creating", &path, error))?;
        Ok((Self::File(file.into_std().await), NewFile(new)))
    }

    async fn fill(self, mut reader: ByteReader) -> Result<()> {
        match self {
            Self::File(file) => {
                write_file(file, reader).await?;
            }
            Self::Stream(mut writer) => {
                while let Some(chunk) = reader.next().await {
                    writer.send(chunk?).await?;
                }
                writer.close().await?;
            }
        }
        Ok(())
    }
}

// === helpers ===

/// Opens a resource; the encoding is one that this side must apply because the exporter cannot
/// (facts: protocol 4.3: such an exporter leaves it out of the handle).
async fn open(
    driver: &DriverHandle,
    options: &TransferOptions,
) -> Result<(ResourceHandle, ByteStream, Option<Encoding>)> {
    let name = options.compression.map(Encoding::name);
    let (handle, stream) = driver.open_resource(name).await?;
    let remote = match &handle {
        ResourceHandle::ClientStream {
            x_jmp_content_encoding,
            ..
        } => x_jmp_content_encoding.is_some(),
        ResourceHandle::PresignedRequest { .. } => {
            return Err(Error::new(
                ErrorKind::Other,
                "the exporter answered a resource with an HTTP request",
            ));
        }
    };
    let transcode = options.compression.filter(|_| !remote);
    Ok((handle, stream, transcode))
}

fn without_compression(
    handle: ResourceHandle,
    options: &TransferOptions,
) -> Result<ResourceHandle> {
    match options.compression {
        None => Ok(handle),
        Some(encoding) => Err(Error::invalid_argument(format!(
            "compression {encoding} cannot be combined with an HTTP address: the exporter reads \
             and writes it as it is; copy the file here first"
        ))),
    }
}

fn observed(reader: ByteReader, total: Option<u64>, options: &TransferOptions) -> ByteReader {
    let Some(progress) = options.progress.clone() else {
        return reader;
    };
    let mut done = 0;
    Box::pin(reader.inspect(move |item| {
        if let Ok(chunk) = item {
            done += chunk.len() as u64;
            progress(Progress { done, total });
        }
    }))
}

fn local(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::from(error).context(format_args!("{what} {}", path.display()))
}
