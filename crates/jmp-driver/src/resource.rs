//! Resource arguments: readable or writable data of the caller.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use jmp_wire::compression::{self, Encoding};
use jmp_wire::resource::ResourceHandle;
use jmp_wire::stream::{ByteReader, ByteStream, pump};
use prost_types::Value;
use uuid::Uuid;

use crate::context::CallContext;
use crate::error::{Error, ErrorKind, Result};
use crate::interface::FromArgument;

mod file;
mod presigned;

pub use file::{read_file, write_file};

/// Resources that may wait to be used in one session.
const LIMIT: usize = 1024;

/// The resources that clients opened and no call has used yet, keyed by driver and resource id.
#[derive(Clone, Default)]
pub struct ResourceTable(Arc<Mutex<HashMap<(Uuid, Uuid), ByteStream>>>);

impl fmt::Debug for ResourceTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ResourceTable")
            .finish_non_exhaustive()
    }
}

/// Forgets an unused resource when the client's stream is gone.
#[derive(Debug)]
pub struct ResourceGuard {
    table: ResourceTable,
    key: (Uuid, Uuid),
}

impl Drop for ResourceGuard {
    fn drop(&mut self) {
        self.table.lock().remove(&self.key);
    }
}

// === impl ResourceTable ===

impl ResourceTable {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(Uuid, Uuid), ByteStream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a stream for the next call to `driver` that names the returned id. The guard must
    /// live as long as the client's side of the stream.
    ///
    /// # Errors
    ///
    /// If too many resources wait already.
    pub fn insert(&self, driver: Uuid, stream: ByteStream) -> Result<(Uuid, ResourceGuard)> {
        let mut table = self.lock();
        if table.len() >= LIMIT {
            return Err(Error::other(format!(
                "{LIMIT} resources of this session are open and unused; use or close some first"
            )));
        }
        let key = (driver, Uuid::new_v4());
        table.insert(key, stream);
        drop(table);
        Ok((
            key.1,
            ResourceGuard {
                table: self.clone(),
                key,
            },
        ))
    }

    /// Takes a resource out; a second call does not find it.
    pub fn take(&self, driver: Uuid, id: Uuid) -> Option<ByteStream> {
        self.lock().remove(&(driver, id))
    }

    /// How many resources wait to be used.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// True if no resource waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

enum Source {
    Client(ByteStream),
    Http {
        method: http::Method,
        url: String,
        headers: std::collections::BTreeMap<String, String>,
    },
}

/// Data of the caller, as an argument of a driver method: read it or write it, once.
///
/// Compression that the handle names is taken care of. Dropping a resource tells the caller
/// that the driver is done with it.
pub struct Resource {
    source: Source,
    encoding: Option<Encoding>,
}

impl fmt::Debug for Resource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Resource").finish_non_exhaustive()
    }
}

// === impl Resource ===

impl Resource {
    /// A resource over a byte stream, for tests and for drivers that call their children.
    pub fn from_stream(stream: ByteStream, encoding: Option<Encoding>) -> Self {
        Self {
            source: Source::Client(stream),
            encoding,
        }
    }

    /// The data, decompressed.
    ///
    /// # Errors
    ///
    /// If it is not readable or the HTTP request fails.
    pub async fn into_reader(self) -> Result<ByteReader> {
        let raw = match self.source {
            Source::Client(stream) => stream.reader,
            Source::Http {
                method,
                url,
                headers,
            } if method == http::Method::GET => presigned::get(&url, &headers).await?,
            Source::Http { method, .. } => {
                return Err(Error::invalid_argument(format!(
                    "a presigned {method} request cannot be read from; pass a GET request"
                )));
            }
        };
        Ok(match self.encoding {
            Some(encoding) => compression::decode(encoding, raw),
            None => raw,
        })
    }

    /// Writes all data of `reader`, compressed if the caller wants that, and finishes the
    /// resource. Returns the bytes that left, after compression.
    ///
    /// # Errors
    ///
    /// If it is not writable, if either side breaks or the HTTP request fails.
    pub async fn write_from(self, reader: ByteReader) -> Result<u64> {
        let encoded = match self.encoding {
            Some(encoding) => compression::encode(encoding, reader),
            None => reader,
        };
        match self.source {
            Source::Client(stream) => Ok(pump(encoded, stream.writer).await?),
            Source::Http {
                method,
                url,
                headers,
            } if method == http::Method::PUT => presigned::put(&url, &headers, encoded).await,
            Source::Http { method, .. } => Err(Error::invalid_argument(format!(
                "a presigned {method} request cannot be written to; pass a PUT request"
            ))),
        }
    }
}

impl Resource {
    /// Writes the data, decompressed, to `file` from its present position. Returns the file and
    /// the bytes written.
    ///
    /// # Errors
    ///
    /// If the resource is not readable, or either side breaks.
    pub async fn save(self, file: std::fs::File) -> Result<(std::fs::File, u64)> {
        let reader = self.into_reader().await?;
        Ok(write_file(file, reader).await?)
    }

    /// Sends the rest of `file` and finishes the resource. Returns the bytes that left.
    ///
    /// # Errors
    ///
    /// Those of [`Resource::write_from`].
    pub async fn send(self, file: std::fs::File) -> Result<u64> {
        self.write_from(read_file(file)).await
    }
}

impl FromArgument for Resource {
    fn from_argument(value: Value, context: &CallContext) -> Result<Self> {
        let handle: ResourceHandle = jmp_wire::value::from_value(value)
            .map_err(|error| Error::invalid_argument(format!("not a resource handle: {error}")))?;
        match handle {
            ResourceHandle::ClientStream {
                uuid,
                x_jmp_content_encoding,
            } => {
                let encoding = x_jmp_content_encoding
                    .map(|name| {
                        name.parse::<Encoding>()
                            .map_err(|error| Error::invalid_argument(error.to_string()))
                    })
                    .transpose()?;
                let stream = context
                    .resources()
                    .take(context.driver(), uuid)
                    .ok_or_else(|| {
                        Error::new(
                            ErrorKind::Other,
                            format!("resource {uuid} is unknown, was used already or its stream is closed"),
                        )
                    })?;
                Ok(Self::from_stream(stream, encoding))
            }
            ResourceHandle::PresignedRequest {
                headers,
                url,
                method,
            } => {
                let method = match method.as_str() {
                    "GET" => http::Method::GET,
                    "PUT" => http::Method::PUT,
                    other => {
                        return Err(Error::invalid_argument(format!(
                            "presigned request with method `{other}`; GET and PUT can be used"
                        )));
                    }
                };
                Ok(Self {
                    source: Source::Http {
                        method,
                        url,
                        headers,
                    },
                    encoding: None,
                })
            }
        }
    }
}
