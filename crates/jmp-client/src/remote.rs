//! A driver instance behind a connection.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use http::{HeaderMap, HeaderValue};
use jmp_driver::handle::Target;
use jmp_driver::{ByteStream, Error, ErrorKind, ResourceHandle, Result, ValueStream};
use jmp_proto::v1;
use jmp_proto::v1::exporter_service_client::ExporterServiceClient;
use jmp_wire::connection::Connection;
use jmp_wire::resource::{REQUEST_KEY, RESOURCE_KEY, StreamRequest};
use jmp_wire::rpc;
use prost_types::Value;
use uuid::Uuid;

/// Largest answer that is accepted, as with every gRPC peer.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Calls go to one uuid over one connection.
pub(crate) struct RemoteTarget {
    connection: Connection,
    uuid: Uuid,
    /// The uuid as the exporter spelled it.
    text: Arc<str>,
}

/// A generated client over a connection.
pub(crate) fn service(connection: &Connection) -> ExporterServiceClient<Connection> {
    ExporterServiceClient::with_origin(connection.clone(), connection.origin())
        .max_decoding_message_size(MAX_ANSWER)
}

// === impl RemoteTarget ===

impl RemoteTarget {
    pub fn new(connection: Connection, uuid: Uuid, text: &str) -> Self {
        Self {
            connection,
            uuid,
            text: text.into(),
        }
    }

    async fn open(&self, request: &StreamRequest) -> Result<rpc::OpenedStream> {
        let json = serde_json::to_string(request)
            .map_err(|error| Error::other(format!("stream request: {error}")))?;
        let mut metadata = HeaderMap::new();
        let value = HeaderValue::try_from(json)
            .map_err(|_| Error::invalid_argument("method names are visible ASCII"))?;
        metadata.insert(REQUEST_KEY, value);
        Ok(rpc::open_stream(&self.connection, metadata).await?)
    }
}

#[async_trait]
impl Target for RemoteTarget {
    async fn call(&self, method: &str, args: Vec<Value>) -> Result<Value> {
        let request = v1::DriverCallRequest {
            uuid: self.text.to_string(),
            method: method.to_owned(),
            args,
        };
        let response = service(&self.connection)
            .driver_call(request)
            .await
            .map_err(|status| Error::from(status).in_call("DriverCall", method))?;
        Ok(response.into_inner().result.unwrap_or_default())
    }

    async fn streaming_call(&self, method: &str, args: Vec<Value>) -> Result<ValueStream> {
        let request = v1::StreamingDriverCallRequest {
            uuid: self.text.to_string(),
            method: method.to_owned(),
            args,
        };
        let owned = method.to_owned();
        let failed = move |status| Error::from(status).in_call("StreamingDriverCall", &owned);
        let response = service(&self.connection)
            .streaming_driver_call(request)
            .await
            .map_err(&failed)?;
        let items = response.into_inner().map(move |item| {
            item.map(|item| item.result.unwrap_or_default())
                .map_err(&failed)
        });
        Ok(items.boxed())
    }

    async fn open_stream(&self, method: &str) -> Result<ByteStream> {
        let request = StreamRequest::Driver {
            uuid: self.uuid,
            method: method.to_owned(),
        };
        let opened = self.open(&request).await;
        Ok(opened
            .map_err(|error| error.in_call("Stream", method))?
            .stream)
    }

    async fn open_resource(&self, encoding: Option<&str>) -> Result<(ResourceHandle, ByteStream)> {
        let request = StreamRequest::Resource {
            uuid: self.uuid,
            x_jmp_content_encoding: encoding.map(str::to_owned),
        };
        let opened = self.open(&request).await?;
        let handle = opened
            .metadata
            .get(RESOURCE_KEY)
            .and_then(|value| serde_json::from_slice(value.as_bytes()).ok())
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Other,
                    "the exporter accepted a resource but named no handle for it",
                )
            })?;
        Ok((handle, opened.stream))
    }
}
