//! WebSocket connections as byte streams, for either end.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use jmp_driver::ByteStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

/// How long the peer may take to finish the closing handshake.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A WebSocket as a byte stream. Chunks go out as binary messages; binary and text messages
/// come in as chunks, text as UTF-8. Pings are answered as long as the reader is read.
///
/// WebSockets have no half-close: closing the writer starts the closing handshake, after which
/// the peer normally sends no more.
pub fn byte_stream<S>(socket: WebSocketStream<S>) -> ByteStream
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sink, mut messages) = socket.split();
    let writer = sink
        .with(|chunk: Bytes| futures::future::ready(Ok(Message::Binary(chunk))))
        .sink_map_err(io_error);
    let reader = async_stream::stream! {
        while let Some(message) = messages.next().await {
            match message {
                Ok(Message::Binary(payload)) => yield Ok(payload),
                Ok(Message::Text(text)) => yield Ok(Bytes::from(text)),
                Ok(Message::Close(_)) => {
                    // One more look sends our answer; a peer that keeps the connection open
                    // must not keep the stream open.
                    let _ = tokio::time::timeout(CLOSE_TIMEOUT, messages.next()).await;
                    return;
                }
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => return,
                Err(error) => {
                    yield Err(io_error(error));
                    return;
                }
            }
        }
    };
    ByteStream::new(reader, writer)
}

/// An error of the WebSocket library as one of a byte stream.
pub fn io_error(error: Error) -> io::Error {
    let kind = match error {
        Error::Io(error) => return error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe,
        Error::Protocol(_) => io::ErrorKind::ConnectionReset,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, format!("WebSocket: {error}"))
}
