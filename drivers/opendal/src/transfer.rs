//! Local OpenDAL services as ends of a transfer: what shipped clients call an operator.

use std::time::Duration;

use futures::SinkExt;
use jmp_driver::{ByteStream, Result};
use jmp_interfaces::resource::{Source, Target};
use opendal::Operator;

use crate::service::{failed, presigned};

/// How long a presigned request stays good, as on 0.9.0.
const EXPIRE: Duration = Duration::from_secs(60);

/// A file of a service as a source: the exporter reads it itself where the service can presign.
///
/// # Errors
///
/// If it cannot be opened.
pub async fn source(operator: &Operator, path: &str) -> Result<Source> {
    if operator.info().capability().presign_read {
        let request = operator.presign_read(path, EXPIRE).await.map_err(failed)?;
        return Ok(Source::Http(presigned(&request)?.into()));
    }
    let size = operator.stat(path).await.map_err(failed)?.content_length();
    let reader = operator.reader(path).await.map_err(failed)?;
    let chunks = reader.into_bytes_stream(..).await.map_err(failed)?;
    Ok(Source::Stream(Box::pin(chunks), Some(size)))
}

/// A file of a service as a target: the exporter writes it itself where the service can presign.
///
/// # Errors
///
/// If it cannot be opened.
pub async fn target(operator: &Operator, path: &str) -> Result<Target> {
    if operator.info().capability().presign_write {
        let request = operator.presign_write(path, EXPIRE).await.map_err(failed)?;
        return Ok(Target::Http(presigned(&request)?.into()));
    }
    let writer = operator.writer(path).await.map_err(failed)?;
    let writer = writer.into_bytes_sink().sink_map_err(std::io::Error::other);
    let stream = ByteStream::new(futures::stream::empty(), writer);
    Ok(Target::Stream(stream.writer))
}
