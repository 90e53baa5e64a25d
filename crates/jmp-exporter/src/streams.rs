//! Byte streams and resources of a session.

use std::io;

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderValue};
use hyper::body::Incoming;
use jmp_driver::{ByteStream, CallContext};
use jmp_wire::compression::Encoding;
use jmp_wire::resource::{ACCEPT_ENCODING_KEY, REQUEST_KEY, RESOURCE_KEY, StreamRequest};
use jmp_wire::rpc::{StreamAnswer, read_frames, status_of};
use jmp_wire::stream::{ByteReader, channel, guarded, pump};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use uuid::Uuid;

use crate::service::Api;

/// Chunks that a driver may be ahead of its client.
const WRITE_AHEAD: usize = 4;

/// Opens what the request metadata asks for.
pub(crate) async fn open(
    api: &Api,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<StreamAnswer, Status> {
    let request = headers.get(REQUEST_KEY).ok_or_else(|| {
        Status::invalid_argument(format!("a stream needs the metadata entry `{REQUEST_KEY}`"))
    })?;
    let request: StreamRequest = serde_json::from_slice(request.as_bytes()).map_err(|error| {
        Status::invalid_argument(format!("metadata entry `{REQUEST_KEY}`: {error}"))
    })?;
    let context = api.context(headers);
    api.gate()?;
    match request {
        StreamRequest::Driver { uuid, method } => {
            open_driver(api, context, uuid, &method, body).await
        }
        StreamRequest::Resource {
            uuid,
            x_jmp_content_encoding,
        } => open_resource(api, context, uuid, x_jmp_content_encoding, body).await,
    }
}

/// The call stays open until both directions have ended: a peer may go on sending after it saw
/// the end of what it receives, and loses that data if the call ends early (observed on 0.9.0).
async fn open_driver(
    api: &Api,
    context: CallContext,
    uuid: Uuid,
    method: &str,
    body: Incoming,
) -> Result<StreamAnswer, Status> {
    let node = api.node_of(uuid)?;
    let ending = context.cancelled().clone();
    let stream = node.open_stream(context, method).await?;
    let inbound = until(&ending, read_frames(body));
    let pumping = api.session.tasks.spawn(pump(inbound, stream.writer));
    // Dropped with the answer when the client cancels.
    let pumping = AbortOnDropHandle::new(pumping);
    Ok(StreamAnswer {
        metadata: HeaderMap::new(),
        outbound: until(&ending, stream.reader),
        ending: Box::pin(async move {
            match pumping.await {
                Ok(_) if ending.is_cancelled() => Status::unavailable("the session ended"),
                Ok(Ok(_)) => Status::ok(""),
                Ok(Err(error)) => status_of(error),
                Err(_) => Status::cancelled("the session was closed"),
            }
        }),
    })
}

/// Ends a direction when the session or the turn of its client does.
fn until(ending: &CancellationToken, reader: ByteReader) -> ByteReader {
    Box::pin(reader.take_until(ending.clone().cancelled_owned()))
}

/// Breaks a direction when the context ends: data that was cut must not pass for whole data.
fn unless(ending: &CancellationToken, reader: ByteReader) -> ByteReader {
    let ended = ending.clone();
    let cut = futures::stream::once(async move {
        let cut = io::Error::new(io::ErrorKind::ConnectionAborted, "the session was closed");
        ended.is_cancelled().then_some(Err(cut))
    });
    Box::pin(until(ending, reader).chain(cut.filter_map(futures::future::ready)))
}

async fn open_resource(
    api: &Api,
    context: CallContext,
    uuid: Uuid,
    encoding: Option<String>,
    body: Incoming,
) -> Result<StreamAnswer, Status> {
    let node = api.node_of(uuid)?;
    let supported = encoding
        .as_deref()
        .is_none_or(|name| name.parse::<Encoding>().is_ok() && !compression_disabled());
    let encoding = encoding.filter(|_| supported);
    let accepted = encoding.clone();
    let ending = context.cancelled().clone();
    let (writer, outbound) = channel(WRITE_AHEAD);
    let (done, finished) = oneshot::channel::<()>();
    let stream = ByteStream {
        reader: guarded(unless(&ending, read_frames(body)), done),
        writer,
    };
    let opened = node.open_resource(context, encoding, stream).await?;
    let mut metadata = HeaderMap::new();
    let handle = serde_json::to_string(&opened.handle)
        .map_err(|error| Status::internal(format!("resource handle: {error}")))?;
    metadata.insert(RESOURCE_KEY, header(handle)?);
    // Without this key clients compress and decompress themselves, which is right exactly when
    // we cannot do it.
    if supported {
        metadata.insert(ACCEPT_ENCODING_KEY, header(accepted.unwrap_or_default())?);
    }
    Ok(StreamAnswer {
        metadata,
        outbound: until(&ending, outbound),
        ending: Box::pin(async move {
            // The driver is done with its end, or nobody ever used the resource.
            tokio::select! {
                _ = finished => {}
                () = ending.cancelled() => {}
            }
            drop(opened.guard);
            Status::ok("")
        }),
    })
}

fn compression_disabled() -> bool {
    std::env::var_os("JMP_DISABLE_COMPRESSION").is_some_and(|value| value == "1")
}

fn header(text: String) -> Result<HeaderValue, Status> {
    HeaderValue::from_maybe_shared(Bytes::from(text))
        .map_err(|error| Status::internal(format!("metadata: {error}")))
}
